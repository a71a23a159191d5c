"""Stage 0: the dense network with its gates, trained, or read from the file that `pretrained` names."""

from __future__ import annotations

from dataclasses import dataclass

from vsrprune.stages.flow.recipe import flow_parent, untrained_flow
from vsrprune.stages.recipe import TRAINING, Planned, Question, Recipe, StagePlan
from vsrprune.stages.saved import Trained

TRAINED = (
    *TRAINING,
    "schedule.pretrain.steps",
    "schedule.pretrain.lr",
    "schedule.pretrain.shape",
    "schedule.pretrain.flow_frozen_steps",
    "schedule.pretrain.flow_lr_share",
    "facts.flow",
    "dense_seed",
)


@dataclass(frozen=True)
class Inputs:
    """flow: a network whose flow net was trained by itself, if a job does that."""

    flow: Trained | None = None


def from_file(question: Question) -> bool:
    """Whether a file takes the place of pretraining."""
    return bool(question.facts.pretrained)


def _parents(question: Question, planned: Planned) -> dict[str, StagePlan]:
    return {} if from_file(question) else flow_parent(question, planned)


RECIPE = Recipe(
    name="pretrain",
    version=3,
    work="vsrprune.stages.pretrain.work:make",
    inputs=Inputs,
    artifact=Trained,
    parents=_parents,
    depends_on=("facts.model", "facts.pretrained", *TRAINED),
    idle={
        **dict.fromkeys(TRAINED, from_file),
        **dict.fromkeys(
            ("schedule.pretrain.flow_frozen_steps", "schedule.pretrain.flow_lr_share"),
            lambda question: from_file(question) or untrained_flow(question),
        ),
    },
    steps=("schedule.pretrain.steps",),
)
