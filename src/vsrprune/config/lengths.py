"""How many steps the trainings of a job have after pretraining: as scheduled, or filled up to one budget."""

from __future__ import annotations

from dataclasses import dataclass

from vsrprune.config.method import MethodConfig
from vsrprune.config.schedule import ScheduleConfig


@dataclass(frozen=True)
class Lengths:
    """Training steps.

    align, sparsify: of a job that has these stages, 0 for others; of sparsify in all rounds together.
    finetune: of a network that was cut; below 1 if the stages before it leave it nothing of the budget.
    scratch: of a network that is trained from scratch, all in all.
    """

    align: int
    sparsify: int
    finetune: int
    scratch: int

    @property
    def before(self) -> int:
        """Between pretraining and fine-tuning."""
        return self.align + self.sparsify


def lengths(schedule: ScheduleConfig, method: MethodConfig, rounds: int) -> Lengths:
    """The lengths of a job's trainings.

    With schedule.budget every method trains for so many steps after pretraining: fine-tuning has what the stages before
    it leave, and a network from scratch has the steps of pretraining besides.
    """
    align = schedule.align.steps if method.align else 0
    sparsify = schedule.sparsify.steps * rounds if method.sparsify else 0
    if schedule.budget:
        finetune, scratch = schedule.budget - align - sparsify, schedule.pretrain.steps + schedule.budget
    else:
        finetune, scratch = schedule.finetune.steps, schedule.steps_from_scratch
    return Lengths(align, sparsify, finetune, scratch)
