"""The growing L2 penalty that drives to zero what will be cut: the gates of the units, or their filters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vsrprune.channels.plan import PrunePlan
from vsrprune.pruning.gates import PrunableNetwork, cut_gates, cut_magnitudes


@dataclass(frozen=True)
class Growth:
    """The penalty's weight lambda over a training: `growth` more every `interval` steps, at most `maximum`.

    Published values: 1e-4 every 5 steps up to 0.1, which takes 5,000 steps (arXiv 2206.07687, released code).
    """

    growth: float
    interval: int
    maximum: float

    def at(self, step: int) -> float:
        """Lambda at a training step, counted from 0."""
        return min(self.maximum, self.growth * (step // self.interval))


def gate_penalty(network: PrunableNetwork, plan: PrunePlan, weight: float) -> Tensor:
    """Weight / 2 * sum of gamma^2 over every gate of every cut unit: each gate's gradient is weight * gamma.

    As in SSL (arXiv 2206.07687), where lambda is the weight.
    """
    terms = [gate[cut].square().sum() for _, gate, cut in cut_gates(network, plan)]
    if not terms:  # a zero on the right device, so that a plan that cuts nothing trains like any other
        gate = network.get_parameter(network.channel_layout(plan.rule).groups[0].gates[0].parameter)
        return gate.new_zeros(())
    # A term of the loss and not an addition to gradients, so that mixed precision scales it with the rest. Input gates
    # have gradients of their own: the released code gives them those of output gates, and they drift away from zero.
    return 0.5 * weight * torch.stack(terms).sum()


def filter_penalty(network: PrunableNetwork, plan: PrunePlan, weight: float) -> Tensor:
    """Weight / 2 * sum of w^2 + b^2 over every filter of every cut unit (SRP): each one's gradient is weight * w."""
    terms = [
        values[cut].square().sum()
        for _, conv, cut in _cut_filters(network, plan)
        for values in (conv.weight, conv.bias)
        if values is not None
    ]
    if not terms:
        return gate_penalty(network, plan, 0.0)
    return 0.5 * weight * torch.stack(terms).sum()


def cut_filter_norms(network: PrunableNetwork, plan: PrunePlan) -> dict[str, Tensor]:
    """Norms of the filters that will be cut over the mean norm of those that stay, by convolution."""
    norms = {}
    for name, conv, cut in _cut_filters(network, plan):
        lengths = conv.weight.detach().flatten(1).norm(dim=1)
        stays = torch.ones_like(lengths, dtype=torch.bool)
        stays[cut] = False
        norms[name] = lengths[cut] / lengths[stays].mean()
    return norms


def _cut_filters(network: PrunableNetwork, plan: PrunePlan) -> Iterator[tuple[str, nn.Conv2d, Tensor]]:
    """(name, convolution, indices of its filters that will be cut) wherever there are any."""
    for group in network.channel_layout(plan.rule).groups:
        cut = torch.tensor(plan.cut(group.name), dtype=torch.long)
        for gate in group.gates if len(cut) else ():
            conv = network.get_submodule(gate.conv)
            if gate.side == "output" and isinstance(conv, nn.Conv2d):
                each = conv.out_channels // group.size  # r*r filters of a unit before a pixel shuffle, else one
                yield gate.conv, conv, ((cut * each)[:, None] + torch.arange(each)).flatten().to(conv.weight.device)


@dataclass(frozen=True)
class Target:
    """What a growing penalty drives to zero: `penalty` is the loss, `magnitudes` how far from zero all still are."""

    penalty: Callable[[PrunableNetwork, PrunePlan, float], Tensor]
    magnitudes: Callable[[PrunableNetwork, PrunePlan], dict[str, Tensor]]


TARGETS = {
    "gates": Target(gate_penalty, cut_magnitudes),
    "filters": Target(filter_penalty, cut_filter_norms),
}
