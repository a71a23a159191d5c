"""Stage 2: which units go, and what the rest costs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from vsrprune.channels.plan import PrunePlan
from vsrprune.config.job import TIMED_TARGETS
from vsrprune.host.devices import CPU
from vsrprune.results.measured import AUTO
from vsrprune.selection.budget import REALTIME, Budget
from vsrprune.stages.recipe import SELECTION, SELECTION_IDLE, Condition, Planned, Question, Recipe, StagePlan, newest
from vsrprune.stages.saved import Trained
from vsrprune.stages.score.scores import Scores
from vsrprune.stages.timing.recipe import Times
from vsrprune.store.atomic import read_json, write_json

FILE = "selection.json"
IN_ENGINES = ("facts.engines", "evaluate.engine", "quantise.name")  # what a time in engines depends on


@dataclass(frozen=True)
class Inputs:
    """scores: for methods that rank units. times: for round_to=auto. dense: for methods that mask single weights."""

    scores: Scores | None = None
    times: Times | None = None
    dense: Trained | None = None


@dataclass(frozen=True)
class Selection:
    """plan: what is kept. budget: what was asked for, and what was reached."""

    plan: PrunePlan
    budget: Budget

    def save(self, folder: Path) -> None:
        """Write selection.json."""
        write_json(folder / FILE, {"plan": self.plan.to_json(), "budget": self.budget.to_json()})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What `save` wrote."""
        values = read_json(folder / FILE)
        return cls(PrunePlan.from_json(values["plan"]), Budget.from_json(values["budget"]))


def _parents(question: Question, planned: Planned) -> dict[str, StagePlan]:
    """The scores, the weights that are masked, or nothing where widths alone are chosen, or all channels stay."""
    if question.method.plan in ("narrow", "whole"):
        return {}
    if question.method.plan == "masked":
        return {"dense": newest(planned, "pretrain")}
    times = {"times": newest(planned, "timing")} if question.config.round_to == "auto" else {}
    return {"scores": newest(planned, "score"), **times}


def _cuts_nothing(question: Question) -> bool:
    return question.method.plan == "whole"


def _draws_no_units(question: Question) -> bool:
    return question.config.units != "random" or question.method.plan != "ranked"


def _or_nothing_is_cut(idle: Condition) -> Condition:
    return lambda question: idle(question) or _cuts_nothing(question)


def _meets_no_time_in_engines(question: Question) -> bool:
    facts, engine = question.facts, question.config.evaluate.engine
    on_a_card = facts.device != CPU and engine == AUTO  # where engines, which run on the CPU, do not count
    return question.config.target != REALTIME or not facts.engines or on_a_card


# A plan that keeps everything depends on the layers alone, which the rule decides.
IDLE = {
    **dict.fromkeys((name for name in SELECTION if name != "rule"), _cuts_nothing),
    **{name: _or_nothing_is_cut(idle) for name, idle in SELECTION_IDLE.items()},
    **dict.fromkeys(("units", "pruning_seed"), _draws_no_units),
    **dict.fromkeys(IN_ENGINES, _or_nothing_is_cut(_meets_no_time_in_engines)),
}
RECIPE = Recipe(
    name="select",
    version=4,
    work="vsrprune.stages.select.work:make",
    inputs=Inputs,
    artifact=Selection,
    parents=_parents,
    # facts.model, because a selection of widths alone has no parent whose key tells networks apart.
    depends_on=("method.plan", "facts.model", *SELECTION, "units", "pruning_seed", *IN_ENGINES),
    idle=IDLE,
    in_rounds=True,
    alone=lambda config: config.target in TIMED_TARGETS,
)
