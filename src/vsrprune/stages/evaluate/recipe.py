"""Stage 6: quality and cost of the compact network, and how far its hidden states are from the dense network's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from vsrprune.results.result import Cost, Quality
from vsrprune.stages.recipe import Recipe, newest
from vsrprune.stages.reference.recipe import Reference
from vsrprune.stages.saved import Trained
from vsrprune.store.atomic import write_json

FILE = "evaluation.json"


@dataclass(frozen=True)
class Inputs:
    """finetuned: the compact network. dense: what it is compared with. reference: how, and where pictures are cut."""

    finetuned: Trained
    dense: Trained
    reference: Reference


@dataclass(frozen=True)
class Evaluation:
    """hidden_error: by branch and frame index, RMS difference of hidden states over the dense RMS.

    It is empty for networks from scratch and for those without hidden states. test: the quality on the test clips; None
    without such clips.
    """

    finetuned: Quality
    hidden_error: dict[str, list[float]]
    cost: Cost
    test: Quality | None

    def save(self, folder: Path) -> None:
        """Write evaluation.json."""
        write_json(folder / FILE, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What `save` wrote."""
        values: Mapping[str, Any] = json.loads((folder / FILE).read_text())
        test = values["test"] and Quality(**values["test"])
        return cls(Quality(**values["finetuned"]), values["hidden_error"], Cost.from_json(values["cost"]), test)


RECIPE = Recipe(
    name="evaluate",
    version=4,
    work="vsrprune.stages.evaluate.work:make",
    inputs=Inputs,
    artifact=Evaluation,
    parents=lambda question, planned: {
        "finetuned": newest(planned, "finetune"),
        "dense": newest(planned, "pretrain"),
        "reference": newest(planned, "reference"),
    },
    # The clips and how they are compared stand in the key of `reference`.
    depends_on=(),
)
