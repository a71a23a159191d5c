"""What jobs on one dense network are compared with: the baseline and the dense network on the held-out clips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from vsrprune.results.result import Cost, Quality
from vsrprune.stages.recipe import COMPARISON, Recipe, newest
from vsrprune.stages.saved import Trained
from vsrprune.store.atomic import read_json, write_json

FILE = "reference.json"


@dataclass(frozen=True)
class CropPlace:
    """Where a picture is cut: frame index and top left corner in high-resolution pixels."""

    clip: str
    frame: int
    y: int
    x: int
    side: int


@dataclass(frozen=True)
class Inputs:
    """dense: the network that pretraining left."""

    dense: Trained


@dataclass(frozen=True)
class Reference:
    """The quality of the baseline (bicubic, or the input itself at scale 1) and of the dense network, and its cost.

    temporal_gain: PSNR (dB) of the dense network minus that of itself on every frame alone, as a clip of one frame;
    None for a network that reads one frame at a time, and where no clip has a truth. flow_photometric: the photometric
    error of its flows, without the shift that all of them share, over that of no motion; None where the flow net is
    none that can be judged so, and where no clip moves.

    test: the quality of `baseline` and `dense` on the test clips; empty without such clips.

    crops: the windows that are shown of clips, whose pictures lie in the folder `crops`. notes: what was done to clips.
    """

    baseline: Quality
    dense: Quality
    cost: Cost
    temporal_gain: float | None
    flow_photometric: float | None
    crops: tuple[CropPlace, ...]
    notes: tuple[str, ...]
    test: dict[str, Quality]

    def save(self, folder: Path) -> None:
        """Write reference.json."""
        write_json(folder / FILE, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What `save` wrote."""
        values: Mapping[str, Any] = read_json(folder / FILE)
        return cls(
            Quality(**values["baseline"]),
            Quality(**values["dense"]),
            Cost.from_json(values["cost"]),
            values["temporal_gain"],
            values["flow_photometric"],
            tuple(CropPlace(**place) for place in values["crops"]),
            tuple(values["notes"]),
            {name: Quality(**quality) for name, quality in values["test"].items()},
        )


RECIPE = Recipe(
    name="reference",
    version=5,
    work="vsrprune.stages.reference.work:make",
    inputs=Inputs,
    artifact=Reference,
    parents=lambda question, planned: {"dense": newest(planned, "pretrain")},
    depends_on=(*COMPARISON, "evaluate.crops", "evaluate.temporal", "evaluate.temporal_pairs", "facts.test"),
    idle={
        "evaluate.temporal_pairs": lambda question: not question.config.evaluate.temporal,
        "facts.test": lambda question: not question.facts.test,
    },
)
