"""Stage 3: train on while a growing penalty drives the gates of the cut units to zero."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vsrprune.channels import PrunePlan
from vsrprune.data.sampling import Batch
from vsrprune.models.basicvsr import BasicVSR
from vsrprune.pruning.gates import cut_magnitudes
from vsrprune.pruning.losses import charbonnier
from vsrprune.pruning.penalty import gate_penalty, penalty_weight
from vsrprune.stages.training import TrainingStage


class Sparsify(TrainingStage):
    """L_rec + lambda/2 * sum of gamma^2 over the gates of the units that `plan` cuts; the flow net is frozen.

    Under Adam a gate moves by about the learning rate per step, so a short schedule needs a larger `gate_lr`.
    """

    stage = "sparsify"

    def __init__(
        self,
        network: BasicVSR,
        plan: PrunePlan,
        *,
        steps: int,
        lr: float,
        gate_lr: float,
        growth: float,
        growth_interval: int,
        maximum: float,
    ) -> None:
        super().__init__(network, steps, lr, shape="constant")
        self.network.flow_net.requires_grad_(False)
        self._plan, self._gate_lr = plan, gate_lr
        self._growth, self._interval, self._maximum = growth, growth_interval, maximum

    @property
    def penalty_weight(self) -> float:
        """Lambda at the current step."""
        return penalty_weight(self.global_step, self._growth, self._interval, self._maximum)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Weights at `lr`, gates at `gate_lr`."""
        gates = self.network.gate_parameters()
        known = {id(gate) for gate in gates}
        weights = [p for p in self.network.parameters() if p.requires_grad and id(p) not in known]
        return [{"params": weights}, {"params": gates, "lr": self._gate_lr}]

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """L_rec and the penalty."""
        return {
            "reconstruction": charbonnier(self.network(batch.low_NTCHW).frames_NTCHW, batch.high_NTCHW),
            "penalty": gate_penalty(self.network, self._plan, self.penalty_weight),
        }

    def monitors(self) -> dict[str, float]:
        """lambda, max and mean |gamma| of the cut set, and its mean by layer."""
        layers = cut_magnitudes(self.network, self._plan)
        by_layer = {f"gate/{name}": float(values.mean()) for name, values in layers.items()}
        return {"lambda": self.penalty_weight, **gate_summary(self.network, self._plan), **by_layer}


def gate_summary(network: BasicVSR, plan: PrunePlan) -> dict[str, float]:
    """Max and mean |gamma| over the gates of the cut units; zeros if the plan cuts nothing."""
    values = list(cut_magnitudes(network, plan).values())
    if not values:
        return {"max_cut": 0.0, "mean_cut": 0.0}
    cut = torch.cat(values)
    return {"max_cut": float(cut.max()), "mean_cut": float(cut.mean())}
