"""ASSL's first stage: train the dense network until the layers that share channels agree which of them matter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vsrprune.channels.layout import ChannelLayout
from vsrprune.data.sampling import Batch
from vsrprune.networks.network import Network
from vsrprune.networks.parts.layers import GatedConv2d
from vsrprune.pruning.alignment import agreement, alignment_loss, shared_gates
from vsrprune.stages.sparsify.module import rates_apart
from vsrprune.stages.training.module import Rates, TrainingStage, reconstruction


class Align(TrainingStage):
    """L_rec, perhaps a teacher's losses, and weight * alignment loss.

    The flow net is frozen, and so are input gates, which ASSL does not have.

    kept: how many channels will stay, by group.
    """

    stage = "align"

    def __init__(
        self,
        network: Network,
        layout: ChannelLayout,
        kept: Mapping[str, int],
        *,
        steps: int,
        rates: Rates,
        weight: float,
    ) -> None:
        super().__init__(network, steps, rates.weights, shape="constant")
        network.train_flow(False)
        for module in network.modules():
            if isinstance(module, GatedConv2d) and module.input_gate is not None:
                module.input_gate.requires_grad_(False)
        self._layout, self._kept, self._gate_lr, self._weight = layout, kept, rates.gates, weight

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Weights and gates, each at their rate."""
        return rates_apart(self.network, self.network.gate_parameters(), self._gate_lr)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """L_rec and what the teacher adds."""
        output = self.network(batch.low_NTCHW)
        losses = reconstruction(batch, output)
        return losses | (self.teacher.losses(batch, None, self.network, output) if self.teacher else {})

    def penalties(self) -> dict[str, Tensor]:
        """The alignment of every residual stream."""
        return {
            f"alignment/{name}": self._weight * alignment_loss(gates_LC, self._kept[name])
            for name, gates_LC in shared_gates(self.network, self._layout)
        }

    def monitors(self) -> dict[str, float]:
        """How far the layers agree already."""
        shared = shared_gates(self.network, self._layout)
        return {"agreement": agreement([gates for _, gates in shared], [self._kept[name] for name, _ in shared])}
