"""Latency and memory of the dense and the compact network, each in its fastest form, in turns."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from vsrprune.results.result import MEASURED
from vsrprune.stages.recipe import PLACE, Planned, Question, Recipe, StagePlan, newest
from vsrprune.stages.saved import Trained
from vsrprune.stages.select.recipe import Selection
from vsrprune.store.atomic import write_json


@dataclass(frozen=True)
class Inputs:
    """selection: the compact shape. finetuned: in lower precision, the network whose PSNR that changes."""

    selection: Selection
    finetuned: Trained | None = None


@dataclass(frozen=True)
class Measurement:
    """values: the content of measured.json, without the seconds that the stages took."""

    values: dict[str, Any]

    def save(self, folder: Path) -> None:
        """Write measured.json."""
        write_json(folder / MEASURED, self.values)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What `save` wrote."""
        return cls(json.loads((folder / MEASURED).read_text()))


def _parents(question: Question, planned: Planned) -> dict[str, StagePlan]:
    """Time depends on the shapes alone: jobs that train the same plan differently share it. PSNR does not."""
    changed = {} if question.config.evaluate.precision == "32" else {"finetuned": newest(planned, "finetune")}
    return {"selection": newest(planned, "select"), **changed}


RECIPE = Recipe(
    name="measure",
    version=6,
    work="vsrprune.stages.measure.work:make",
    inputs=Inputs,
    artifact=Measurement,
    parents=_parents,
    depends_on=(
        "facts.model",
        *PLACE,
        "evaluate.compile",
        "evaluate.latency_frames",
        "evaluate.latency_repeats",
    ),
    alone=lambda question: True,
)
