"""Knobs of a search, beside those of a job."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from itertools import pairwise

from vsrprune.config.job import Config
from vsrprune.errors import UserError
from vsrprune.host.secrets import refuse_password
from vsrprune.knobs import Limits, check_knobs, knob
from vsrprune.search.samplers import PRUNERS, SAMPLERS, check_pair
from vsrprune.search.space import GROUPS

STORAGE = re.compile(r"(postgresql(\+\w+)?|sqlite)://")
OBJECTIVES = ("psnr@macs", "front")
COUNT: Limits = {"at_least": 1, "at_most": 10_000}


@dataclass
class SearchConfig:
    """How per-layer ratios are searched."""

    name: str = knob("tpe", "The sampler: cmaes and gp have one objective, nsga2 a front.", choices=tuple(SAMPLERS))
    objective: str = knob(
        "psnr@macs",
        "The highest PSNR at the MACs that ratio keeps, or the front of PSNR against search.cost.",
        choices=OBJECTIVES,
    )
    cost: str = knob(
        "macs",
        "The cost of a front: MACs, or latency by a table of operations timed on this device.",
        choices=("macs", "latency"),
    )
    budgets: list[float] = knob(
        [0.3, 0.9], "The shares of the cost that the plans of a front keep.", form="[low, high], shares kept in (0, 1]"
    )
    group: str = knob("block", "What shares a ratio.", choices=tuple(GROUPS))
    low: float = knob(0.0, "The lowest ratio.", at_least=0, below=1)
    high: float = knob(0.95, "The highest ratio.", above=0, below=1)
    trials: int = knob(24, "Trials that run to their end or are stopped as poor.", at_least=1, at_most=10**6)
    refine: int = knob(0, "Further trials with a ratio per layer, near the best so far.", at_least=0, at_most=10**6)
    radius: float = knob(0.2, "How far their ratios may lie from the best so far.", above=0, at_most=1)
    project: bool = knob(
        True,
        "Bring every trial onto the budget before it is trained; false: the sampler learns the budget as a constraint.",
    )
    rungs: list[int] = knob(
        [0, 15, 45],
        "The steps of fine-tuning after which a trial is scored; 0: the gated network with the cut gates at zero.",
        at_most=10**9,
    )
    pruner: str = knob("median", "Who stops poor trials between rungs.", choices=PRUNERS)
    clips: int = knob(4, "Training clips that trials are scored on, and not trained on.", **COUNT)
    frames: int = knob(5, "Frames of each of them.", at_least=1, at_most=1000)
    final_seeds: list[int] = knob(
        [100],
        "The fresh seeds of the full runs of the winner and its references, on held-out clips.",
        at_least=0,
        at_most=2**63 - 1,
    )
    seed: int = knob(0, "The seed of the sampler and of the choice of scoring clips.", at_least=0, at_most=2**32 - 1)
    workers: int = knob(1, "Processes on this machine.", at_least=1, at_most=256)
    storage: str = knob(
        "",
        "SQLite in the search's folder if empty; or postgresql://USER@HOST/DATABASE, which many machines share. Its"
        " password is taken from the environment variable VSRPRUNE_STORAGE_PASSWORD, or from what the driver reads.",
    )
    study: str = knob("ratios", "The name of the study in the storage.")


@dataclass
class SearchJobConfig(Config):
    """A job's configuration and the search's."""

    search: SearchConfig = field(default_factory=SearchConfig)


def validate_search(config: SearchJobConfig) -> None:
    """Raise UserError for the first value that cannot be used."""
    search = config.search
    check_knobs(search, "search.")
    asked = (
        ("dry_run", config.dry_run, False),
        ("doctor", config.doctor, False),
        ("store.action", config.store.action, ""),
        ("until", config.until, "evaluate"),
    )
    for name, value, idle in asked:
        if value != idle:
            raise UserError(
                f"{name}={str(value).lower()} is for src/run.py: the search would not heed it, and run; leave it out"
            )
    if config.data.truth != "all":
        raise UserError(
            f"data.truth={config.data.truth}: the search scores its trials by their PSNR to the truth of training"
            " clips; use data.truth=all"
        )
    refuse_password("search.storage", search.storage)  # one that an interpolation brought
    if search.storage and not STORAGE.match(search.storage):
        raise UserError(
            "search.storage must be postgresql://USER@HOST/DATABASE, sqlite:///FILE, or empty for a file in the"
            f" search's folder; got {search.storage!r}"
        )
    check_pair(search.name, search.objective, search.project)
    if not 0 <= search.low < search.high < 1:
        raise UserError(f"search.low and search.high must fulfil 0 <= low < high < 1; got {search.low}, {search.high}")
    if not search.rungs or search.rungs[0] < 0 or any(a >= b for a, b in pairwise(search.rungs)):
        raise UserError(f"search.rungs must ascend from 0 or more, such as [0,15,45]; got {search.rungs}")
    if len(search.budgets) != 2 or not 0 < search.budgets[0] < search.budgets[1] <= 1:
        raise UserError(f"search.budgets must be [low, high], shares kept in (0, 1]; got {search.budgets}")
    if not search.final_seeds or len(set(search.final_seeds)) < len(search.final_seeds):
        raise UserError(f"search.final_seeds must be different seeds, at least one; got {search.final_seeds}")
    # The winner was chosen by how well it did under the search's own seed, so that its luck there would count again.
    if config.seed in search.final_seeds:
        raise UserError(
            f"search.final_seeds={search.final_seeds} must be fresh: seed={config.seed} is the search's own"
        )
    if search.objective == "front" and search.refine:
        raise UserError("search.refine goes on from one best plan, and a front has none; use search.refine=0")
    if search.cost == "latency" and search.objective != "front":
        raise UserError("search.cost=latency belongs to search.objective=front; psnr@macs compares at equal MACs")
    if config.scope != "global":
        raise UserError(f"the search chooses every layer's ratio; scope={config.scope} cannot be asked for beside it")
    if config.rounds != 1:
        raise UserError(f"the search chooses once for every trial; use rounds=1 instead of rounds={config.rounds}")
    if config.target != "macs" or not math.isfinite(config.ratio) or config.round_to not in (1, "auto"):
        raise UserError(
            f"the search keeps 1 - ratio of the MACs: it takes target=macs round_to=1; got target={config.target}"
            f" round_to={config.round_to}"
        )
