"""Stage 0: the dense network with its gates, trained, or read from the file that `pretrained` names."""

from __future__ import annotations

from dataclasses import dataclass

from vsrprune.stages.recipe import TRAINING, Question, Recipe, no_flow_file
from vsrprune.stages.saved import Trained

TRAINED = (
    *TRAINING,
    "schedule.pretrain.steps",
    "schedule.pretrain.lr",
    "schedule.pretrain.shape",
    "schedule.pretrain.flow_frozen_steps",
    "schedule.pretrain.flow_lr_share",
    "facts.flow",
    "pretrain_seed",
)


@dataclass(frozen=True)
class Inputs:
    """Nothing comes before."""


def from_file(question: Question) -> bool:
    """Whether a file takes the place of pretraining."""
    return bool(question.facts.pretrained)


RECIPE = Recipe(
    name="pretrain",
    version=3,
    work="vsrprune.stages.pretrain.work:make",
    inputs=Inputs,
    artifact=Trained,
    parents=lambda question, planned: {},
    depends_on=("facts.model", "facts.pretrained", *TRAINED),
    idle={
        **dict.fromkeys(TRAINED, from_file),
        **dict.fromkeys(
            ("schedule.pretrain.flow_frozen_steps", "schedule.pretrain.flow_lr_share"),
            lambda question: from_file(question) or no_flow_file(question),
        ),
    },
    steps=("schedule.pretrain.steps",),
)
