"""What the training stages share: an optimiser, a schedule, and the refusal to go on with a NaN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from torch import Tensor

from vsrprune.data.sampling import Batch
from vsrprune.errors import TrainingDivergedError
from vsrprune.networks.network import Network

BETAS = (0.9, 0.99)  # one-cycle swings the first between 0.85 and 0.95, PyTorch's default
FINAL_LR = 1e-7  # at the end of the cosine, as BasicVSR


@dataclass(frozen=True)
class Rates:
    """Learning rates of a stage that trains gates at a rate of their own.

    Under Adam a gate moves by about the rate per step, so a short schedule needs a larger rate for gates.
    """

    weights: float
    gates: float


class TrainingStage(pl.LightningModule):
    """A stage that trains `network` with Adam for `steps` steps.

    Subclasses return their losses by name. The sum of the losses is minimised; `monitors` are only logged.
    """

    stage: ClassVar[str]
    log_every: int = 1  # `fit` sets it

    def __init__(self, network: Network, steps: int, lr: float, shape: str) -> None:
        super().__init__()
        self.network = network
        self.steps, self._lr, self._shape = steps, lr, shape

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The terms of the loss."""
        raise NotImplementedError

    def monitors(self) -> dict[str, float]:
        """Further values to log, computed only at the steps that are logged."""
        return {}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Adam's parameter groups: here all parameters that require a gradient, at one rate."""
        return [{"params": [parameter for parameter in self.network.parameters() if parameter.requires_grad]}]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Lightning's hook. Raises TrainingDivergedError for a loss that is not finite."""
        losses = self.losses(batch)
        total = torch.stack(list(losses.values())).sum()
        if not self.trainer.strategy.reduce_boolean_decision(bool(torch.isfinite(total))):  # all ranks leave together
            terms = ", ".join(f"{name}={value.item():g}" for name, value in losses.items())
            raise TrainingDivergedError(
                f"{self.stage}: the loss is not finite at step {self.global_step} ({terms}); the last good checkpoint"
                f" is kept; try a lower schedule.{self.stage}.lr"
            )
        if (self.global_step + 1) % self.log_every == 0:
            self.log_dict({f"loss_{name}": value.detach() for name, value in losses.items()}, sync_dist=True)
            self.log_dict(
                {
                    "step": float(self.global_step),
                    "lr": self.trainer.optimizers[0].param_groups[0]["lr"],
                    **self.monitors(),
                }
            )
        return total

    def configure_optimizers(self) -> Any:
        """Lightning's hook."""
        optimizer = torch.optim.Adam(self.parameter_groups(), lr=self._lr, betas=BETAS)
        if self._shape == "constant":
            return optimizer
        scheduler: torch.optim.lr_scheduler.LRScheduler
        if self._shape == "onecycle":
            rates = [group["lr"] for group in optimizer.param_groups]
            scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=self.steps)
        else:
            scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps, FINAL_LR)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
