"""Stage 1: how important every unit is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vsrprune.stages.recipe import Planned, Question, Recipe, StagePlan, newest
from vsrprune.stages.saved import WithNetwork
from vsrprune.stages.select.recipe import Selection
from vsrprune.store.atomic import write_json

FILE = "scores.json"


@dataclass(frozen=True)
class Inputs:
    """trained: the network as the last stage left it. selection: in later rounds, what the round before cut."""

    trained: WithNetwork
    selection: Selection | None = None


@dataclass(frozen=True)
class Scores:
    """by_layer: the importance of every unit."""

    by_layer: Mapping[str, NDArray[np.float64]]

    def save(self, folder: Path) -> None:
        """Write scores.json."""
        write_json(folder / FILE, {name: values.tolist() for name, values in self.by_layer.items()})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What `save` wrote."""
        values = json.loads((folder / FILE).read_text())
        return cls({name: np.asarray(scores, dtype=np.float64) for name, scores in values.items()})


def _parents(question: Question, planned: Planned) -> dict[str, StagePlan]:
    parents = {"trained": newest(planned, "sparsify", "align", "pretrain")}
    before = [plan for plan in planned if plan.stage == "select"]
    return parents | ({"selection": before[-1]} if before else {})


RECIPE = Recipe(
    name="score",
    version=2,
    work="vsrprune.stages.score.work:make",
    inputs=Inputs,
    artifact=Scores,
    parents=_parents,
    depends_on=("rule", "score", "seed"),
    idle={"seed": lambda question: question.config.score != "random"},
    runs=lambda question: question.method.plan == "ranked",
    in_rounds=True,
)
