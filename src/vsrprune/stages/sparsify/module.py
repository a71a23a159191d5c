"""Stage 3: train on while a growing penalty drives to zero the units that will be cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vsrprune.data.sampling import Batch
from vsrprune.networks.network import Network
from vsrprune.pruning.penalty import Cut, Growth
from vsrprune.stages.sparsify.rates import share_updates
from vsrprune.stages.training.module import Rates, TrainingStage, reconstruction
from vsrprune.stages.training.teacher import Teacher


class Sparsify(TrainingStage):
    """L_rec, perhaps L_tf, and the penalty on what will be `cut`, at a growing lambda; the flow net is frozen.

    The gates that are driven to zero have the rate of gates; all others train on at that of the weights.
    """

    stage = "sparsify"

    def __init__(
        self,
        network: Network,
        cut: Cut,
        *,
        steps: int,
        rates: Rates,
        growth: Growth,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__(network, steps, rates.weights, shape="constant", teacher=teacher)
        self.network.train_flow(False)
        self._cut, self._gate_lr, self._growth = cut, rates.gates, growth

    @property
    def penalty_weight(self) -> float:
        """Lambda at the current step."""
        return self._growth.at(self.global_step)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """All at the rate of the weights, but for the gates of layers that lose units."""
        return rates_apart(self.network, self._cut.gates(self.network), self._gate_lr)

    def configure_optimizers(self) -> Any:
        """Lightning's hook: the gates that stay, in layers that lose units, get back the rate of the weights."""
        optimizer, gates = super().configure_optimizers(), self._cut.gates(self.network)
        if gates:
            shares = torch.cat(gates).detach().fill_(self._lr / self._gate_lr)
            share_updates(optimizer, gates, shares.index_fill_(0, self._cut.index, 1.0))
        return optimizer

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """L_rec, and L_tf with a teacher; a frozen flow net's flows serve both networks."""
        flows = self.network.flows(batch.low_NTCHW)
        output = self.network(batch.low_NTCHW, flows)
        losses = reconstruction(batch, output)
        # Where the flow net loses channels too, the teacher's flows are its own.
        shared = None if self.network.arguments.prunes_flow else flows
        return losses | (self.teacher.losses(batch, shared, self.network, output) if self.teacher else {})

    def penalties(self) -> dict[str, Tensor]:
        """The penalty, at this step's lambda."""
        return {"penalty": self._cut.penalty(self.network, self.penalty_weight)}

    def monitors(self) -> dict[str, float]:
        """Lambda, the largest and the mean magnitude of the cut units, and the mean by layer."""
        layers = self._cut.magnitudes(self.network)
        return {"lambda": self.penalty_weight, **cut_summary(layers), **_means(layers)}


def rates_apart(network: Network, gates: Sequence[nn.Parameter], gate_lr: float) -> list[dict[str, Any]]:
    """Adam's groups, of what requires a gradient: `gates` at `gate_lr`, and all else at the stage's rate."""
    known = {id(gate) for gate in gates}  # by identity: tensors compare elementwise
    rest = [parameter for parameter in network.parameters() if parameter.requires_grad and id(parameter) not in known]
    return [{"params": rest}, {"params": [gate for gate in gates if gate.requires_grad], "lr": gate_lr}]


def cut_summary(layers: Mapping[str, Tensor]) -> dict[str, float]:
    """Max and mean of what is driven to zero, by layer, over all of it; zeros if the plan cuts nothing."""
    if not layers:
        return {"max_cut": 0.0, "mean_cut": 0.0}
    cut = torch.cat(list(layers.values()))
    largest, mean = torch.stack((cut.max(), cut.mean())).tolist()
    return {"max_cut": largest, "mean_cut": mean}


def _means(layers: Mapping[str, Tensor]) -> dict[str, float]:
    # Read together: on a GPU every number that is read is a wait.
    means = torch.stack([values.mean() for values in layers.values()]).tolist() if layers else []
    return {f"gate/{name}": mean for name, mean in zip(layers, means, strict=True)}
