"""Knobs of a search, beside those of a job."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

from vsrprune.config.job import Config
from vsrprune.errors import UserError, one_of
from vsrprune.search.samplers import PRUNERS, SAMPLERS, check_pair
from vsrprune.search.space import GROUPS

OBJECTIVES = ("psnr@macs", "front")


@dataclass
class SearchConfig:
    """How per-layer ratios are searched.

    objective: the highest PSNR at the MACs that `ratio` keeps, or the `front` of PSNR against `cost` (macs, latency).
    group, low, high: what shares a ratio, and its bounds. refine, radius: so many further trials with a ratio per
    layer, at most `radius` from the best so far. project: bring every trial onto the budget before it is trained; else
    the budget is a constraint that the sampler learns.
    rungs: steps of fine-tuning after which a trial is scored; 0 is the gated network with the cut gates at zero.
    clips, frames: training clips kept for scoring, and how many of their frames. budgets: share of the cost kept, of a
    front. final_seeds: of the full runs of winner and references on the held-out clips.
    """

    name: str = "tpe"
    objective: str = "psnr@macs"
    cost: str = "macs"
    group: str = "block"
    low: float = 0.0
    high: float = 0.95
    trials: int = 24
    refine: int = 0
    radius: float = 0.2
    project: bool = True
    rungs: list[int] = field(default_factory=lambda: [0, 15, 45])
    pruner: str = "median"
    clips: int = 4
    frames: int = 5
    budgets: list[float] = field(default_factory=lambda: [0.3, 0.9])
    final_seeds: list[int] = field(default_factory=lambda: [100])
    seed: int = 0
    workers: int = 1
    storage: str = ""
    study: str = "ratios"


@dataclass
class SearchJobConfig(Config):
    """A job's configuration and the search's."""

    search: SearchConfig = field(default_factory=SearchConfig)


def validate_search(config: SearchJobConfig) -> None:
    """Raise UserError for the first value that cannot be used."""
    search = config.search
    one_of("search", search.name, SAMPLERS)
    one_of("search.objective", search.objective, OBJECTIVES)
    one_of("search.cost", search.cost, ("macs", "latency"))
    one_of("search.group", search.group, GROUPS)
    one_of("search.pruner", search.pruner, PRUNERS)
    check_pair(search.name, search.objective, search.project)
    if not 0 <= search.low < search.high < 1:
        raise UserError(f"search.low and search.high must fulfil 0 <= low < high < 1; got {search.low}, {search.high}")
    for name, least in (("trials", 1), ("clips", 1), ("frames", 1), ("workers", 1), ("refine", 0)):
        if getattr(search, name) < least:
            raise UserError(f"search.{name} must be at least {least}; got {getattr(search, name)}")
    if not 0 < search.radius <= 1:
        raise UserError(f"search.radius must lie in (0, 1]; got {search.radius:g}")
    if not search.rungs or search.rungs[0] < 0 or any(a >= b for a, b in pairwise(search.rungs)):
        raise UserError(f"search.rungs must ascend from 0 or more, such as [0,15,45]; got {search.rungs}")
    if len(search.budgets) != 2 or not 0 < search.budgets[0] < search.budgets[1] <= 1:
        raise UserError(f"search.budgets must be [low, high], shares kept in (0, 1]; got {search.budgets}")
    if not search.final_seeds or len(set(search.final_seeds)) < len(search.final_seeds):
        raise UserError(f"search.final_seeds must be different seeds, at least one; got {search.final_seeds}")
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
