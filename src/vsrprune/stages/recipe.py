"""What a stage is, without torch: its name, what it reads, what its result depends on, and who does the work."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, Protocol, Self

from vsrprune.config.job import Config
from vsrprune.host.devices import CPU
from vsrprune.methods.method import Method
from vsrprune.selection.scores import RANDOM


class StageArtifact(Protocol):
    """What a stage leaves: a frozen value that knows its files."""

    def save(self, folder: Path) -> None:
        """Write into `folder` what the stage's work has not written there already."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What `save` wrote."""


@dataclass(frozen=True)
class Facts:
    """What results depend on beside knobs.

    `model` tells the network from others. `train`, `val`, `test` and `unlabelled` are hashes of the training, the
    held-out and the test clips and of those of data.unlabelled, the last two empty without such clips. `pretrained` is
    the hash of the file that takes the place of pretraining, `flow` that of the flow net's file, and `score` says which
    code a score of the user's own is. `engines` are those that networks are timed in, with their versions.
    `host` names this machine and `device` what of it computes (a GPU's model, or `cpu`), on which times depend.
    """

    model: Mapping[str, Any]
    train: str
    val: str
    pretrained: str = ""
    flow: str = ""
    test: str = ""
    score: str = ""
    unlabelled: str = ""
    engines: Mapping[str, str] = field(default_factory=dict)
    host: str = field(default_factory=platform.node)
    device: str = CPU


@dataclass(frozen=True)
class Question:
    """What a stage is asked for.

    config: the job's; in a round before the last, with the share of `ratio` that goes in that round.
    """

    config: Config
    method: Method
    facts: Facts

    def value(self, name: str) -> Any:
        """What a name in a recipe's `depends_on` stands for: `facts.train`, `method.start`, or a knob by its path.

        A method's own knobs (method.sparsify, method.output_weight) are the configuration's.
        """
        owner, _, attribute = name.partition(".")
        if owner == "facts" or (owner == "method" and attribute in Method.__dataclass_fields__):
            return getattr(self.facts if owner == "facts" else self.method, attribute)
        return attrgetter(name)(self.config)


@dataclass(frozen=True)
class StagePlan:
    """One stage of a job: its key, the settings that the key is a hash of, and the stages that it reads.

    `parents` holds, by role, the name of a stage of the same job. `cut_round` counts the rounds of a repeated stage
    from 1; it is 0 in the last round, and for stages that are not repeated.
    """

    stage: str
    key: str
    settings: dict[str, Any]
    parents: dict[str, str]
    cut_round: int = 0

    @property
    def name(self) -> str:
        """The stage's name, which says the round too where a later one follows."""
        return f"{self.stage}_{self.cut_round}" if self.cut_round else self.stage


Planned = Sequence[StagePlan]  # the stages of a job that come before


def newest(planned: Planned, *stages: str) -> StagePlan:
    """The last of the stages before that is one of these."""
    return next(plan for plan in reversed(planned) if plan.stage in stages)


Condition = Callable[[Question], bool]


def teaches_without_truth(question: Question) -> bool:
    """Whether the dense network stands in for the truth of some training clips."""
    return question.config.data.truth != "all"


def dense_for_comparison(question: Question, planned: Planned) -> dict[str, StagePlan]:
    """The dense network as a parent of a stage that compares outputs, where no clip has a truth; else nothing."""
    return {"dense": newest(planned, "pretrain")} if question.config.data.truth == "none" else {}


@dataclass(frozen=True)
class Recipe:
    """A stage.

    - `version` is raised when a change in code changes what the stage computes.
    - `work` is `module:function`; the function makes the artifact from a `Bench` and an instance of `inputs`.
    - `inputs` is a dataclass whose fields are the roles of the stages that are read.
    - `artifact` is the class of what the stage leaves.
    - `parents` gives the stages that are read, by role; roles that are left out are None in `inputs`.
    - `depends_on` names what else the result depends on, as `Question.value` reads it: these values and the parents'
      keys make the key.
    - `idle` gives the condition under which a name of `depends_on` changes nothing, and is left out of the key.
    - `runs` says whether a job has the stage at all.
    - `in_rounds` says that the stage is repeated in every round.
    - `alone` says whether the stage takes times, so that it runs by itself on this machine.
    - `steps` lists those of `depends_on` that may say how many steps the stage trains.
    """

    name: str
    version: int
    work: str
    inputs: type[Any]
    artifact: type[StageArtifact]
    parents: Callable[[Question, Planned], Mapping[str, StagePlan]]
    depends_on: tuple[str, ...]
    idle: Mapping[str, Condition] = field(default_factory=dict)
    runs: Condition = lambda question: True
    in_rounds: bool = False
    alone: Callable[[Config], bool] = lambda config: False
    steps: tuple[str, ...] = ()

    def settings(self, question: Question, parents: Mapping[str, StagePlan]) -> dict[str, Any]:
        """What the key is a hash of."""
        read = [name for name in self.depends_on if not (name in self.idle and self.idle[name](question))]
        return {
            "stage": self.name,
            "version": self.version,
            # A parent's key stands for all that the parent depends on, so nothing of it is repeated here.
            "parents": {role: plan.key for role, plan in parents.items()},
            **{name: question.value(name) for name in read},
        }

    def make(self, bench: Any, inputs: Any) -> StageArtifact:
        """Do the work; imports torch."""
        # The work is named by a text and imported here: planning reads every recipe, and must not import torch.
        module, _, function = self.work.partition(":")
        artifact: StageArtifact = getattr(importlib.import_module(module), function)(bench, inputs)
        return artifact


# What several recipes depend on.
TRAINING = ("facts.train", "schedule.batch", "schedule.patch", "schedule.frames", "trainer.precision", "trainer.tf32")
# Of a stage that learns from the dense network on clips without truth; left out of keys where all clips have one. Where
# none has, facts.train says so.
UNLABELLED = ("facts.unlabelled", "data.unlabelled_weight")
UNLABELLED_IDLE: Mapping[str, Condition] = dict.fromkeys(UNLABELLED, lambda question: not question.facts.unlabelled)
COMPARISON = ("facts.val", "comparison.channel", "comparison.crop", "comparison.centre")
# Times depend on the machine: the one part of keys that differs between machines.
PLACE = ("facts.host", "facts.device", "trainer.threads", "evaluate.latency_size", "evaluate.precision")
COUNTED = ("rule", "min_kept", "round_to", "ratios", "target", "target_ms", "ratio", "parts_cut")
SELECTION = (*COUNTED, "scope", "order", "normalise", "rank")


def _ranks_no_layers_together(question: Question) -> bool:
    """Neither changes the order within a layer."""
    return question.config.scope in ("local", "per_layer") or question.method.plan != "ranked"


# What is read and changes nothing is left out of keys: jobs that differ by it alone share the stage. per_layer states
# every layer's share itself, so that no common target is read; target_ms is a budget in place of ratio.
SELECTION_IDLE: Mapping[str, Condition] = {
    "ratios": lambda question: question.config.scope != "per_layer",
    "target": lambda question: question.config.scope == "per_layer",
    "target_ms": lambda question: question.config.scope == "per_layer",
    "ratio": lambda question: question.config.scope == "per_layer" or question.config.target_ms > 0,
    "order": lambda question: question.config.score == RANDOM,  # a random ranking has none
    "normalise": _ranks_no_layers_together,
    "rank": _ranks_no_layers_together,
}
