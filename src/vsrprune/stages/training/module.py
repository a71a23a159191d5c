"""What the training stages share: an optimiser, a schedule, and the refusal to go on with a NaN."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from torch import Tensor

from vsrprune.data.sampling import Batch, Patches
from vsrprune.errors import TrainingDivergedError
from vsrprune.networks.network import Network, VSROutput
from vsrprune.pruning.losses import charbonnier
from vsrprune.stages.training.graphs import BatchTerms, Captured, captured, release
from vsrprune.stages.training.teacher import Teacher
from vsrprune.stages.training.watch import LossWatch, steps_between_reads

BETAS = (0.9, 0.99)  # one-cycle swings the first between 0.85 and 0.95, PyTorch's default
FINAL_LR = 1e-7  # at the end of the cosine, as BasicVSR


@dataclass(frozen=True)
class Rates:
    """Learning rates of a stage that trains gates at a rate of their own.

    Under Adam a gate moves by about the rate per step, so a short schedule needs a larger rate for gates.
    """

    weights: float
    gates: float


@dataclass(frozen=True)
class Logged:
    """What a step logs: the terms of its loss (n,) by their names, still on the device, and other values."""

    step: int
    names: tuple[str, ...]
    losses: Tensor
    others: dict[str, float]


def reconstruction(batch: Batch, output: VSROutput) -> dict[str, Tensor]:
    """L_rec of the clips that have a truth, which are the first of a batch; no term where none has."""
    count = len(batch.high_NTCHW)
    return {"reconstruction": charbonnier(output.frames_NTCHW[:count], batch.high_NTCHW)} if count else {}


class TrainingStage(pl.LightningModule):
    """A stage that trains `network` with Adam for `steps` steps, perhaps after a teacher.

    Subclasses return their losses by name, in two parts: what depends on the batch may be replayed from CUDA graphs,
    what depends on the weights and the step alone is computed at every step. The sum of both is minimised; `monitors`
    are only logged.
    """

    stage: ClassVar[str]
    # `fit` sets them. to_capture: makes a batch of the shapes whose steps are to be replayed.
    log_every: int = 1
    teacher_format: torch.memory_format = torch.preserve_format
    to_capture: Callable[[], Batch] | None = None

    def __init__(self, network: Network, steps: int, lr: float, shape: str, teacher: Teacher | None = None) -> None:
        super().__init__()
        self.network, self.teacher = network, teacher
        self.steps, self._lr, self._shape = steps, lr, shape
        self._watch = LossWatch(torch.device("cpu"))
        self._names: tuple[str, ...] = ()  # of the terms of the loss
        self._logged: Logged | None = None
        self._captured: Captured | None = None

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The terms of the loss that depend on the batch.

        They may depend on nothing that changes from step to step besides it and the weights, and neither read from the
        device nor copy to it: a replay repeats the operations on the device, and runs no Python.
        """
        raise NotImplementedError

    def penalties(self) -> dict[str, Tensor]:
        """The terms of the loss that do not depend on the batch."""
        return {}

    def monitors(self) -> dict[str, float]:
        """Further values to log, computed only at the steps that are logged."""
        return {}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Adam's parameter groups: here all parameters that require a gradient, at one rate."""
        return [{"params": [parameter for parameter in self.network.parameters() if parameter.requires_grad]}]

    def on_after_batch_transfer(self, batch: Patches, dataloader_idx: int) -> Batch:
        """Lightning's hook: patches travel as uint8 and become floats on the device."""
        return batch.floats()

    def on_fit_start(self) -> None:
        """Lightning's hook, between the network's way to its device and the first batch; captures what is to be.

        Later, the thread that pins batches would call CUDA during the capture, which ends both.
        """
        if self.teacher:
            self.teacher.to(self.device, self.teacher_format)
        if self.to_capture is None:
            return
        context = self.trainer.precision_plugin.forward_context
        example = Batch(*(part.to(self.device) for part in self.to_capture()))
        self._captured = captured(BatchTerms(self, self.losses, context), example)

    def release_graphs(self) -> None:
        """Drop what was captured, and give its memory back."""
        if self._captured is not None:
            self._captured = None
            release()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Lightning's hook. Raises TrainingDivergedError for a loss that is not finite, on a card some steps later."""
        # Penalties first: autograd then adds their gradients last, as it does where those of the batch come from a
        # graph in one piece, and the sums agree to the bit.
        penalties, step = self.penalties(), self.global_step
        replay = self._captured if self._captured is not None and self._captured.fits(batch) else self
        losses = replay.losses(batch) | penalties
        self._names, terms = tuple(losses), torch.stack(list(losses.values()))
        self._watch.see(step, terms)
        is_logged = (step + 1) % self.log_every == 0
        if is_logged or (step + 1) % steps_between_reads(self.device) == 0:
            self.refuse_bad_losses()
        if is_logged:
            rate = self.trainer.optimizers[0].param_groups[0]["lr"]
            self._logged = Logged(step, self._names, terms.detach(), {"lr": rate, **self.monitors()})
        return terms.sum()

    def take_logged(self) -> Logged | None:
        """What the step under way logs, once."""
        logged, self._logged = self._logged, None
        return logged

    def refuse_bad_losses(self) -> None:
        """Raise TrainingDivergedError if a loss so far was not finite; all ranks ask together, and leave together."""
        bad = self._watch.first_bad()
        if self.trainer.strategy.reduce_boolean_decision(bad is None):
            return
        if bad is None:
            where = f"by step {self.global_step} in another process of this training"
        else:
            step, values = bad
            terms = ", ".join(f"{name}={value:g}" for name, value in zip(self._names, values, strict=True))
            where = f"at step {step} ({terms})"
        raise TrainingDivergedError(
            f"{self.stage}: the loss is not finite {where}; the last good checkpoint is kept; try a lower"
            f" schedule.{self.stage.partition('_')[0]}.lr"  # of a round: sparsify_1
        )

    def on_train_end(self) -> None:
        """Lightning's hook: what no step has looked at yet."""
        self.refuse_bad_losses()

    def configure_optimizers(self) -> Any:
        """Lightning's hook."""
        self._watch = LossWatch(self.device)
        # Where a bad loss is refused some steps later, Adam is the fused one, which can be held still until then by a
        # number on the device: a network of NaN would reach kernels that take indices from floats. It is one kernel for
        # all parameters, too, which is what a card wants.
        waits = steps_between_reads(self.device) > 1
        optimizer = torch.optim.Adam(self.parameter_groups(), lr=self._lr, betas=BETAS, fused=waits or None)
        if waits:
            optimizer.found_inf = self._watch.found  # type: ignore[attr-defined]  # GradScaler puts its own there
        if self._shape == "constant":
            return optimizer
        scheduler: torch.optim.lr_scheduler.LRScheduler
        if self._shape == "onecycle":
            rates = [group["lr"] for group in optimizer.param_groups]
            scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=self.steps)
        else:
            scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps, FINAL_LR)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
