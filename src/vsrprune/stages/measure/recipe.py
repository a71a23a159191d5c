"""Latency and memory of the dense and the compact network, each in its fastest form, in turns."""

from __future__ import annotations

from dataclasses import dataclass

from vsrprune.results.measured import Measured
from vsrprune.stages.quantise.recipe import Quantised, is_quantised
from vsrprune.stages.recipe import PLACE, Planned, Question, Recipe, StagePlan, dense_for_comparison, newest
from vsrprune.stages.saved import Trained
from vsrprune.stages.select.recipe import Selection


@dataclass(frozen=True)
class Inputs:
    """selection: the compact shape. finetuned: in lower precision, the network whose PSNR that changes.

    dense: what that PSNR is to where no clip has a truth. quantised: the graphs that are timed in their engine.
    """

    selection: Selection
    finetuned: Trained | None = None
    dense: Trained | None = None
    quantised: Quantised | None = None


def _parents(question: Question, planned: Planned) -> dict[str, StagePlan]:
    """Time depends on the shapes alone: jobs that train the same plan differently share it.

    PSNR does not; and which layers stay in 32 bits beside int8 depends on weights.
    """
    read = {"selection": newest(planned, "select")}
    if is_quantised(question):
        read["quantised"] = newest(planned, "quantise")
    if question.config.evaluate.precision == "32":
        return read
    return {**read, "finetuned": newest(planned, "finetune"), **dense_for_comparison(question, planned)}


RECIPE = Recipe(
    name="measure",
    version=9,
    work="vsrprune.stages.measure.work:make",
    inputs=Inputs,
    artifact=Measured,
    parents=_parents,
    depends_on=(
        "facts.model",
        *PLACE,
        "evaluate.compile",
        "evaluate.latency_frames",
        "evaluate.latency_repeats",
        "facts.engines",
    ),
    idle={"facts.engines": lambda question: not question.facts.engines},
    alone=lambda config: True,
)
