"""ASSL's stage before the score: layers that share channels come to agree on which matter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from vsrprune.stages.recipe import COUNTED, SELECTION_IDLE, TRAINING, UNLABELLED, UNLABELLED_IDLE, Recipe, newest
from vsrprune.stages.saved import SavedNetwork, Trained
from vsrprune.store.atomic import read_json, write_json

FILE = "agreement.json"


@dataclass(frozen=True)
class Inputs:
    """dense: the network that pretraining left."""

    dense: Trained


@dataclass(frozen=True)
class Aligned:
    """The network, and the share of kept channels on which the layers of a stream agree."""

    network: SavedNetwork
    agreement: dict[str, float]

    def save(self, folder: Path) -> None:
        """Write agreement.json; the network was written by the work."""
        write_json(folder / FILE, self.agreement)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What `save` wrote."""
        return cls(SavedNetwork(folder), read_json(folder / FILE))


RECIPE = Recipe(
    name="align",
    version=4,
    work="vsrprune.stages.align.work:make",
    inputs=Inputs,
    artifact=Aligned,
    parents=lambda question, planned: {"dense": newest(planned, "pretrain")},
    # The layers agree on as many channels as a selection of the same share of every layer keeps of each, or on those
    # that `ratios` name.
    depends_on=(
        *TRAINING,
        *COUNTED,
        "method.normalised",
        "schedule.align.steps",
        "schedule.align.lr",
        "schedule.align.gate_lr",
        "schedule.align.weight",
        "pruning_seed",
        *UNLABELLED,
    ),
    idle={**{name: SELECTION_IDLE[name] for name in COUNTED if name in SELECTION_IDLE}, **UNLABELLED_IDLE},
    runs=lambda question: question.config.method.align and question.method.plan == "ranked",
    steps=("schedule.align.steps",),
)
