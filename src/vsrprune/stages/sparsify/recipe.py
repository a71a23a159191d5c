"""Stage 3: train on while a growing penalty drives to zero what will be cut."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from vsrprune.results.result import Gates
from vsrprune.stages.recipe import TRAINING, Recipe, newest
from vsrprune.stages.saved import SavedNetwork, WithNetwork
from vsrprune.stages.select.recipe import Selection
from vsrprune.store.atomic import write_json

FILE = "gates.json"


@dataclass(frozen=True)
class Inputs:
    """trained: the network as the last stage left it. selection: the units that will be cut."""

    trained: WithNetwork
    selection: Selection


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
        return cls(SavedNetwork(folder), Gates(**json.loads((folder / FILE).read_text())))


RECIPE = Recipe(
    name="sparsify",
    version=5,
    work="vsrprune.stages.sparsify.work:make",
    inputs=Inputs,
    artifact=Sparsified,
    parents=lambda question, planned: {
        "trained": newest(planned, "sparsify", "align", "pretrain"),
        "selection": newest(planned, "select"),
    },
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
    ),
    # Only gates that are driven to zero have that rate.
    idle={"schedule.sparsify.gate_lr": lambda question: question.config.method.penalty != "gates"},
    runs=lambda question: question.config.method.sparsify,
    in_rounds=True,
    steps=("schedule.sparsify.steps",),
)
