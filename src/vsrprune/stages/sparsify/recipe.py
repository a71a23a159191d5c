"""Stage 3: train on while a growing penalty drives to zero what will be cut."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from vsrprune.results.result import Gates
from vsrprune.stages.recipe import (
    TRAINING,
    UNLABELLED,
    UNLABELLED_IDLE,
    Planned,
    Question,
    Recipe,
    StagePlan,
    newest,
    teaches_without_truth,
)
from vsrprune.stages.saved import SavedNetwork, Trained, WithNetwork
from vsrprune.stages.select.recipe import Selection
from vsrprune.store.atomic import read_json, write_json

FILE = "gates.json"


@dataclass(frozen=True)
class Inputs:
    """trained: the network as the last stage left it. selection: the units that will be cut.

    teacher: the dense network, if its hidden states are to be followed, or its outputs where there is no truth.
    """

    trained: WithNetwork
    selection: Selection
    teacher: Trained | None = None


@dataclass(frozen=True)
class Sparsified:
    """The network, and how far from zero the penalty left what will be cut."""

    network: SavedNetwork
    gates: Gates

    def save(self, folder: Path) -> None:
        """Write gates.json; the network was written by the work."""
        write_json(folder / FILE, asdict(self.gates))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What `save` wrote."""
        return cls(SavedNetwork(folder), Gates(**read_json(folder / FILE)))


def _follows_states(question: Question) -> bool:
    return question.config.method.tf_in_sparsify and question.config.tf_weight > 0


def _parents(question: Question, planned: Planned) -> dict[str, StagePlan]:
    taught = _follows_states(question) or teaches_without_truth(question)
    return {
        "trained": newest(planned, "sparsify", "align", "pretrain"),
        "selection": newest(planned, "select"),
        **({"teacher": newest(planned, "pretrain")} if taught else {}),
    }


RECIPE = Recipe(
    name="sparsify",
    version=5,
    work="vsrprune.stages.sparsify.work:make",
    inputs=Inputs,
    artifact=Sparsified,
    parents=_parents,
    depends_on=(
        *TRAINING,
        "schedule.sparsify.steps",
        "schedule.sparsify.growth",
        "schedule.sparsify.growth_interval",
        "schedule.sparsify.maximum",
        "schedule.sparsify.lr",
        "schedule.sparsify.gate_lr",
        "method.penalty",
        "method.normalised",
        "pruning_seed",
        "tf_weight",
        *UNLABELLED,
    ),
    idle={
        # Only gates that are driven to zero have that rate.
        "schedule.sparsify.gate_lr": lambda question: question.config.method.penalty != "gates",
        "tf_weight": lambda question: not _follows_states(question),
        **UNLABELLED_IDLE,
    },
    runs=lambda question: question.config.method.sparsify,
    in_rounds=True,
    steps=("schedule.sparsify.steps",),
)
