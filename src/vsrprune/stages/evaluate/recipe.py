"""Stage 6: quality and cost of the compact network, and how far its hidden states are from the dense network's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from vsrprune.results.result import Cost, HiddenErrors, Quality, hidden_errors
from vsrprune.stages.prune.recipe import Pruned
from vsrprune.stages.recipe import Recipe, newest
from vsrprune.stages.reference.recipe import Reference
from vsrprune.stages.saved import Trained
from vsrprune.store.atomic import read_json, write_json

FILE = "evaluation.json"


@dataclass(frozen=True)
class Inputs:
    """finetuned: the compact network. cut: the same before fine-tuning. dense: what both are compared with.

    reference: how, and where pictures are cut.
    """

    finetuned: Trained
    cut: Pruned
    dense: Trained
    reference: Reference


@dataclass(frozen=True)
class Evaluation:
    """hidden_error: of the compact network before and after fine-tuning.

    It is empty for networks from scratch and for those without hidden states. test: the quality on the test clips; None
    without such clips.
    """

    finetuned: Quality
    hidden_error: HiddenErrors
    cost: Cost
    test: Quality | None

    def save(self, folder: Path) -> None:
        """Write evaluation.json."""
        write_json(folder / FILE, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What `save` wrote."""
        values: Mapping[str, Any] = read_json(folder / FILE)
        test = values["test"] and Quality(**values["test"])
        errors = hidden_errors(values["hidden_error"])
        return cls(Quality(**values["finetuned"]), errors, Cost.from_json(values["cost"]), test)


RECIPE = Recipe(
    name="evaluate",
    version=5,
    work="vsrprune.stages.evaluate.work:make",
    inputs=Inputs,
    artifact=Evaluation,
    parents=lambda question, planned: {
        "finetuned": newest(planned, "finetune"),
        "cut": newest(planned, "prune"),
        "dense": newest(planned, "pretrain"),
        "reference": newest(planned, "reference"),
    },
    # The clips and how they are compared stand in the key of `reference`.
    depends_on=(),
)
