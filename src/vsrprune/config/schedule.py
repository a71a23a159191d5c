"""The group `schedule`: batches, and the length of each training stage."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from vsrprune.knobs import Limits, knob

SHAPES = ("cosine", "onecycle", "constant")
SHAPE_HELP = "How the learning rate goes down."
STEPS: Limits = {"at_least": 1, "at_most": 10**9}
RATE: Limits = {"above": 0}


@dataclass
class FlowSchedule:
    """The stage before the first: the flow net by itself, on how well warped neighbours show a frame."""

    steps: int = knob(400, "Training steps; 0 skips the stage.", at_least=0, at_most=10**9)
    lr: float = knob(3e-3, "The highest learning rate.", **RATE)
    shape: str = knob("onecycle", SHAPE_HELP, choices=SHAPES)
    tune_file: bool = knob(False, "With pretrained_flow=FILE the stage is skipped; true trains that flow net on.")


@dataclass
class PretrainSchedule:
    """The first stage: the dense network with its gates."""

    steps: int = knob(600, "Training steps.", **STEPS)
    lr: float = knob(3e-3, "The highest learning rate.", **RATE)
    shape: str = knob("onecycle", SHAPE_HELP, choices=SHAPES)
    flow_frozen_steps: int = knob(
        10,
        "A flow net that was trained before (by stage flow, or pretrained_flow) stands still for so many steps.",
        at_least=0,
        at_most=10**9,
    )
    flow_lr_share: float = knob(0.03, "The share of the learning rate that it then has.", **RATE)


@dataclass
class AlignSchedule:
    """ASSL's stage before the score: layers that share channels come to agree."""

    steps: int = knob(100, "Training steps.", **STEPS)
    lr: float = knob(5e-4, "The learning rate of the weights.", **RATE)
    gate_lr: float = knob(5e-3, "The learning rate of the gates.", **RATE)
    weight: float = knob(1.0, "The weight of the alignment loss.", **RATE)


@dataclass
class SparsifySchedule:
    """The stage that drives the gates of the units to be cut to zero, by a penalty whose weight is lambda."""

    growth: float = knob(2e-3, "What is added to lambda at a time.", **RATE)
    growth_interval: int = knob(1, "Steps between two additions.", **STEPS)
    maximum: float = knob(0.1, "Where lambda stops growing.", **RATE)
    hold_steps: int = knob(40, "Steps that follow at the highest lambda.", at_least=0, at_most=10**9)
    lr: float = knob(5e-4, "The learning rate of the weights.", **RATE)
    gate_lr: float = knob(
        2e-2,
        "The learning rate of the gates that are driven to zero: under Adam they move by about this much per step. All"
        " others have the rate of the weights.",
        **RATE,
    )

    @property
    def growth_steps(self) -> int:
        """Steps until lambda reaches its maximum."""
        # Rounded first: a quotient such as 3.0000000000000004 would cost a whole interval more.
        return math.ceil(round(self.maximum / self.growth, 6)) * self.growth_interval

    @property
    def steps(self) -> int:
        """Length of the stage."""
        return self.growth_steps + self.hold_steps


@dataclass
class FinetuneSchedule:
    """The stage after the cut."""

    steps: int = knob(100, "Training steps.", **STEPS)
    lr: float = knob(1.5e-3, "The highest learning rate.", **RATE)
    shape: str = knob("onecycle", SHAPE_HELP, choices=SHAPES)
    train_flow: bool = knob(False, "false keeps the flows of student and teacher the same.")
    frames: int = knob(0, "Frames per clip; 0: as schedule.frames.", at_least=0, at_most=1000)
    truncate: int = knob(
        0,
        "Gradients of hidden states end at every so many frames (truncated backpropagation through time), outputs stay"
        " what they are; 0: they go through the whole clip.",
        at_least=0,
        at_most=1000,
    )


@dataclass
class ScheduleConfig:
    """The size of a batch, and the length of each training stage."""

    name: str = knob("demo", "The name of the schedule in conf/schedule, for tables.")
    batch: int = knob(4, "Clips per step, over all devices.", at_least=1, at_most=4096)
    patch: int = knob(20, "The side of the low-resolution patches, in pixels.", at_least=4, at_most=2048)
    frames: int = knob(5, "Frames per clip.", at_least=1, at_most=1000)
    log_every: int = knob(10, "Steps between two logged losses.", **STEPS)
    checkpoint_every: int = knob(100, "Steps between two checkpoints.", **STEPS)
    budget: int = knob(
        0,
        "Training steps of every method after pretraining: fine-tuning has those that align and all rounds of sparsify"
        " leave, in place of finetune.steps, and a network from scratch has pretrain.steps besides; 0: as scheduled.",
        at_least=0,
        at_most=10**9,
    )
    scratch_steps: int = knob(
        0,
        "Steps of a network that is trained from scratch (method=lite, distill), by the rate and shape of pretrain; 0:"
        " as many as a pruned network has in all.",
        at_least=0,
        at_most=10**9,
    )
    flow: FlowSchedule = field(default_factory=FlowSchedule)
    pretrain: PretrainSchedule = field(default_factory=PretrainSchedule)
    align: AlignSchedule = field(default_factory=AlignSchedule)
    sparsify: SparsifySchedule = field(default_factory=SparsifySchedule)
    finetune: FinetuneSchedule = field(default_factory=FinetuneSchedule)

    @property
    def finetune_frames(self) -> int:
        """Frames per clip of the stage after the cut."""
        return self.finetune.frames or self.frames

    @property
    def longest(self) -> int:
        """The most frames that any stage takes of a clip."""
        return max(self.frames, self.finetune_frames)

    @property
    def longest_knob(self) -> str:
        """The knob that asks for them."""
        return "schedule.frames" if self.longest == self.frames else "schedule.finetune.frames"

    @property
    def steps_from_scratch(self) -> int:
        """Length of a training from scratch."""
        return self.scratch_steps or self.pretrain.steps + self.sparsify.steps + self.finetune.steps
