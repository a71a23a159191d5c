"""Stage 4: the compact network, proven equal to the masked one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from vsrprune.results.result import Equivalence, Quality
from vsrprune.stages.flow.recipe import flow_parent
from vsrprune.stages.recipe import COMPARISON, Planned, Question, Recipe, StagePlan, dense_for_comparison, newest
from vsrprune.stages.saved import SavedNetwork, Trained, WithNetwork
from vsrprune.stages.select.recipe import Selection
from vsrprune.store.atomic import read_json, write_json

FILE = "prune.json"


@dataclass(frozen=True)
class Inputs:
    """selection: what is kept. trained: what is cut or masked; None for a network from scratch.

    flow: a network whose flow net one from scratch takes over. dense: what outputs are compared with where no clip has
    a truth.
    """

    selection: Selection
    trained: WithNetwork | None = None
    flow: Trained | None = None
    dense: Trained | None = None


@dataclass(frozen=True)
class Pruned:
    """The compact network, and the quality just before and after the cut.

    equivalence: how nearly the compact network equals the masked one; None for one from scratch, which equals none.
    """

    network: SavedNetwork
    before_cut: Quality
    after_cut: Quality
    equivalence: Equivalence | None

    def save(self, folder: Path) -> None:
        """Write prune.json; the network was written by the work."""
        proven = None if self.equivalence is None else asdict(self.equivalence)
        quality = {"before_cut": asdict(self.before_cut), "after_cut": asdict(self.after_cut)}
        write_json(folder / FILE, {**quality, "equivalence": proven})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What `save` wrote."""
        values: Mapping[str, Any] = read_json(folder / FILE)
        before, after = (Quality(**values[name]) for name in ("before_cut", "after_cut"))
        proven = values["equivalence"] and Equivalence(**values["equivalence"])
        return cls(SavedNetwork(folder), before, after, proven)


def from_scratch(question: Question) -> bool:
    """Whether the compact network gets new weights."""
    return question.method.start == "scratch"


def _parents(question: Question, planned: Planned) -> dict[str, StagePlan]:
    selection = {"selection": newest(planned, "select")}
    if from_scratch(question):
        return {**selection, **flow_parent(question, planned)}
    trained = newest(planned, "sparsify", "align", "pretrain")
    return {**selection, "trained": trained, **dense_for_comparison(question, planned)}


RECIPE = Recipe(
    name="prune",
    version=2,
    work="vsrprune.stages.prune.work:make",
    inputs=Inputs,
    artifact=Pruned,
    parents=_parents,
    depends_on=("method.start", *COMPARISON, "pruning_seed", "facts.flow"),
    # Only a network from scratch draws new weights, and reads the file of the flow net once more.
    idle=dict.fromkeys(("pruning_seed", "facts.flow"), lambda question: not from_scratch(question)),
)
