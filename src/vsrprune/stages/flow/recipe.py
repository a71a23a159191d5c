"""Before stage 0: the flow net by itself, so that pretraining starts from flows that follow motion."""

from __future__ import annotations

from dataclasses import dataclass

from vsrprune.stages.recipe import TRAINING, Planned, Question, Recipe, StagePlan, newest
from vsrprune.stages.saved import Trained


@dataclass(frozen=True)
class Inputs:
    """Nothing comes before."""


def trains_flow(question: Question) -> bool:
    """Whether a job trains its flow net by itself first.

    It does where new weights are trained, unless the flow net comes from a file that is good as it is. Clips of one
    frame show no motion.
    """
    config, facts = question.config, question.facts
    schedule = config.schedule.flow
    if config.schedule.frames == 1:
        return False
    new_weights = not facts.pretrained or question.method.start == "scratch"
    untrained = not facts.flow or schedule.tune_file
    return bool(config.model.arguments.trains_flow_alone and schedule.steps and new_weights and untrained)


def flow_parent(question: Question, planned: Planned) -> dict[str, StagePlan]:
    """The stage as a parent of those that make new weights; nothing where a job does not have it."""
    return {"flow": newest(planned, "flow")} if trains_flow(question) else {}


def untrained_flow(question: Question) -> bool:
    """Whether the flow net starts from scratch: what the schedule says of a trained one is idle then."""
    return not question.facts.flow and not trains_flow(question)


RECIPE = Recipe(
    name="flow",
    version=1,
    work="vsrprune.stages.flow.work:make",
    inputs=Inputs,
    artifact=Trained,
    parents=lambda question, planned: {},
    depends_on=(
        "facts.model",
        *TRAINING,
        "schedule.flow.steps",
        "schedule.flow.lr",
        "schedule.flow.shape",
        "facts.flow",
        "pretrain_seed",
    ),
    runs=trains_flow,
    steps=("schedule.flow.steps",),
)
