"""Stage 5: train the compact network, perhaps taught by a whole one; or train it from scratch."""

from __future__ import annotations

from dataclasses import dataclass

from vsrprune.stages.flow.recipe import untrained_flow
from vsrprune.stages.prune.recipe import Pruned, from_scratch
from vsrprune.stages.recipe import (
    TRAINING,
    UNLABELLED,
    UNLABELLED_IDLE,
    Planned,
    Question,
    Recipe,
    StagePlan,
    newest,
    teaches_without_truth,
)
from vsrprune.stages.saved import Trained, WithNetwork

TUNED = (
    "lengths.finetune",
    "schedule.finetune.lr",
    "schedule.finetune.shape",
    "schedule.finetune.train_flow",
    "schedule.finetune.truncate",
    "schedule.finetune_frames",
)
FROM_SCRATCH = ("lengths.scratch", "schedule.pretrain.lr", "schedule.pretrain.shape", "facts.flow")
WITH_FLOW = ("schedule.pretrain.flow_frozen_steps", "schedule.pretrain.flow_lr_share")


@dataclass(frozen=True)
class Inputs:
    """pruned: the compact network. teacher: the network that it follows, if there is one."""

    pruned: Pruned
    teacher: WithNetwork | None = None


def is_taught(question: Question) -> bool:
    """Whether a loss holds the network to a teacher."""
    config = question.config
    return bool(config.tf_weight or config.method.output_weight or teaches_without_truth(question))


def _parents(question: Question, planned: Planned) -> dict[str, StagePlan]:
    followed = "sparsify" if question.config.method.teacher == "sparsified" else "pretrain"
    teacher = {"teacher": newest(planned, followed)} if is_taught(question) else {}
    return {"pruned": newest(planned, "prune"), **teacher}


RECIPE = Recipe(
    name="finetune",
    version=4,
    work="vsrprune.stages.finetune.work:make",
    inputs=Inputs,
    artifact=Trained,
    parents=_parents,
    depends_on=(
        *TRAINING,
        *TUNED,
        *FROM_SCRATCH,
        *WITH_FLOW,
        "tf_weight",
        "method.output_weight",
        "pruning_seed",
        *UNLABELLED,
    ),
    idle={
        **dict.fromkeys(TUNED, from_scratch),
        **dict.fromkeys(FROM_SCRATCH, lambda question: not from_scratch(question)),
        **dict.fromkeys(WITH_FLOW, lambda question: not from_scratch(question) or untrained_flow(question)),
        **UNLABELLED_IDLE,
    },
    steps=("lengths.finetune", "lengths.scratch"),
)
