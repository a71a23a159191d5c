"""Stage 7: int8 graphs of the fine-tuned network, and what integers cost in quality and over time."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from vsrprune.config.quantise import INT8
from vsrprune.results.result import Int8
from vsrprune.stages.recipe import Question, Recipe, dense_for_comparison, newest
from vsrprune.stages.reference.recipe import Reference
from vsrprune.stages.saved import Trained
from vsrprune.store.atomic import read_json, write_json

FILE = "quantised.json"
FLOAT32 = "float32"  # the folder of the graphs in 32 bits; that of the others is called INT8


@dataclass(frozen=True)
class Inputs:
    """finetuned: the network that is quantised. reference: how its outputs are compared with the truth.

    dense: what they are compared with where no clip has a truth.
    """

    finetuned: Trained
    reference: Reference
    dense: Trained | None = None


@dataclass(frozen=True)
class Quantised:
    """The graphs of the network's steps, in `int8` and in `float32` of the folder, and what was found of them."""

    folder: Path
    found: Int8

    def save(self, folder: Path) -> None:
        """Write quantised.json; the graphs were written by the work."""
        write_json(folder / FILE, asdict(self.found))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What `save` wrote, and the graphs of this folder."""
        return cls(folder, Int8.from_json(read_json(folder / FILE)))


def is_quantised(question: Question) -> bool:
    """Whether the job makes an int8 network."""
    return question.config.quantise.name == INT8


RECIPE = Recipe(
    name="quantise",
    version=1,
    work="vsrprune.stages.quantise.work:make",
    inputs=Inputs,
    artifact=Quantised,
    parents=lambda question, planned: {
        "finetuned": newest(planned, "finetune"),
        "reference": newest(planned, "reference"),
        **dense_for_comparison(question, planned),
    },
    depends_on=(
        "facts.train",
        "pruning_seed",
        "quantise.calibration",
        "quantise.clips",
        "quantise.frames",
        "quantise.largest_loss",
    ),
    runs=is_quantised,
)
