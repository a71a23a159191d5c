"""Train a narrow network from scratch, alone (lite) or taught by the dense one (distill)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from vsrprune.data.sampling import Batch
from vsrprune.networks.network import Network
from vsrprune.pruning.losses import charbonnier
from vsrprune.stages.pretrain.module import Pretrain, TrainedFlow
from vsrprune.stages.training.teacher import Teacher


class Scratch(Pretrain):
    """The pretraining of a narrow network, with a teacher's losses if there is one; each computes its own flows.

    Hidden states of another width are compared through a 1x1 convolution per branch, which trains along and stays
    behind.
    """

    stage = "finetune"

    def __init__(
        self,
        network: Network,
        teacher: Teacher | None,
        *,
        steps: int,
        lr: float,
        shape: str,
        trained_flow: TrainedFlow | None,
    ) -> None:
        super().__init__(network, steps, lr, shape, trained_flow)
        self.teacher = teacher
        taught = network.arguments.branches if teacher and teacher.tf_weight else ()
        dense = {branch: network.arguments.state_channels(branch) for branch in taught}
        kept = {branch: network.stream_channels(branch) for branch in taught}
        self.adaptors = nn.ModuleDict(
            {_key(branch): nn.Conv2d(len(kept[branch] or range(full)), full, 1) for branch, full in dense.items()}
        )

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The network's, and the adaptors."""
        return [*super().parameter_groups(), *([{"params": list(self.adaptors.parameters())}] if self.adaptors else [])]

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """L_rec and what the teacher adds."""
        output = self.network(batch.low_NTCHW)
        losses = {"reconstruction": charbonnier(output.frames_NTCHW, batch.high_NTCHW)}
        if self.teacher:
            losses |= self.teacher.losses(batch, None, self.network, output, self._adapted)
        return losses

    def _adapted(self, branch: str, state_NCHW: Tensor) -> Tensor:
        adapted: Tensor = self.adaptors[_key(branch)](state_NCHW)
        return adapted


def _key(branch: str) -> str:
    """A branch's name among modules, where a plain `forward` would hide a method."""
    return f"{branch}_adaptor"
