"""Stage 3: train on while a growing penalty drives to zero the units that will be cut."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vsrprune.channels.plan import PrunePlan
from vsrprune.data.sampling import Batch
from vsrprune.networks.network import Network
from vsrprune.pruning.losses import charbonnier
from vsrprune.pruning.penalty import Growth, Target
from vsrprune.stages.training.module import Rates, TrainingStage


class Sparsify(TrainingStage):
    """L_rec and the penalty of `target` on the units that `plan` cuts, at a growing lambda; the flow net is frozen."""

    stage = "sparsify"

    def __init__(
        self,
        network: Network,
        plan: PrunePlan,
        target: Target,
        *,
        steps: int,
        rates: Rates,
        growth: Growth,
    ) -> None:
        super().__init__(network, steps, rates.weights, shape="constant")
        self.network.train_flow(False)
        self._plan, self._target, self._gate_lr, self._growth = plan, target, rates.gates, growth

    @property
    def penalty_weight(self) -> float:
        """Lambda at the current step."""
        return self._growth.at(self.global_step)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Weights and gates, each at their rate."""
        return gates_apart(self.network, self._gate_lr)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """L_rec and the penalty."""
        return {
            "reconstruction": charbonnier(self.network(batch.low_NTCHW).frames_NTCHW, batch.high_NTCHW),
            "penalty": self._target.penalty(self.network, self._plan, self.penalty_weight),
        }

    def monitors(self) -> dict[str, float]:
        """Lambda, the largest and the mean magnitude of the cut units, and the mean by layer."""
        layers = self._target.magnitudes(self.network, self._plan)
        by_layer = {f"gate/{name}": float(values.mean()) for name, values in layers.items()}
        return {"lambda": self.penalty_weight, **cut_summary(self.network, self._plan, self._target), **by_layer}


def gates_apart(network: Network, gate_lr: float) -> list[dict[str, Any]]:
    """Adam's groups: weights that require a gradient at the stage's rate, and gates at `gate_lr`."""
    # By identity: tensors compare elementwise.
    gates = network.gate_parameters()
    known = {id(gate) for gate in gates}
    weights = [p for p in network.parameters() if p.requires_grad and id(p) not in known]
    return [{"params": weights}, {"params": [gate for gate in gates if gate.requires_grad], "lr": gate_lr}]


def cut_summary(network: Network, plan: PrunePlan, target: Target) -> dict[str, float]:
    """Max and mean of what `target` drives to zero, over the cut units; zeros if the plan cuts nothing."""
    values = list(target.magnitudes(network, plan).values())
    if not values:
        return {"max_cut": 0.0, "mean_cut": 0.0}
    cut = torch.cat(values)
    return {"max_cut": float(cut.max()), "mean_cut": float(cut.mean())}
