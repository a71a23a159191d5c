"""Stage 0: train the dense network with its gates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from vsrprune.data.sampling import Batch
from vsrprune.networks.network import Network
from vsrprune.pruning.losses import charbonnier
from vsrprune.stages.training.module import TrainingStage


@dataclass(frozen=True)
class TrainedFlow:
    """How a flow net that was trained before trains on: frozen for `frozen_steps`, then at `lr_share` of the rate."""

    frozen_steps: int
    lr_share: float


class Pretrain(TrainingStage):
    """Reconstruction alone (Charbonnier)."""

    stage = "pretrain"

    def __init__(
        self, network: Network, steps: int, lr: float, shape: str, trained_flow: TrainedFlow | None = None
    ) -> None:
        super().__init__(network, steps, lr, shape)
        self._trained_flow = trained_flow

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """L_rec."""
        return {"reconstruction": charbonnier(self.network(batch.low_NTCHW).frames_NTCHW, batch.high_NTCHW)}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """A group of its own for the flow net, if it was trained before."""
        if self._trained_flow is None:
            return super().parameter_groups()
        flow = self._flow()
        known = {id(parameter) for parameter in flow}
        rest = [parameter for parameter in self.network.parameters() if id(parameter) not in known]
        return [{"params": rest}, {"params": flow, "lr": self._lr * self._trained_flow.lr_share}]

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Drop the flow net's gradients while it is frozen; Adam passes over what has none.

        Not requires_grad: it would have to change under way, which data-parallel training does not follow.
        """
        if self._trained_flow is not None and self.global_step < self._trained_flow.frozen_steps:
            for parameter in self._flow():
                parameter.grad = None

    def _flow(self) -> list[nn.Parameter]:
        """The flow net's parameters; its gates too, where it has some."""
        assert self.network.flow_net is not None, "there was one to train"
        return list(self.network.flow_net.parameters())
