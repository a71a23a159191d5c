"""The growing L2 penalty that drives to zero what will be cut: the gates of the units, or their filters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vsrprune.channels.plan import PrunePlan
from vsrprune.pruning.gates import PrunableNetwork


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


class Cut(nn.Module):
    """What a plan cuts of a network, and the penalty on it: the gradient of every number is weight * itself.

    Indices are made once and follow this module to its device: one that is made from a list at every step is a copy to
    the device, and a wait. The network is handed to each call, since it is no part of this module, which saves nothing.
    """

    index: Tensor

    def __init__(self, index: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("index", torch.tensor(index, dtype=torch.long), persistent=False)

    def penalty(self, network: PrunableNetwork, weight: float) -> Tensor:
        """Weight / 2 * the sum of squares of what will be cut."""
        terms = [values.square().sum() for values in self.values(network)]
        if not terms:  # a zero on the right device, so that a plan that cuts nothing trains like any other
            return torch.zeros((), device=self.index.device)
        # A term of the loss and not an addition to gradients, so that mixed precision scales it with the rest.
        return 0.5 * weight * torch.stack(terms).sum()

    def values(self, network: PrunableNetwork) -> list[Tensor]:
        """The numbers that the penalty is on."""
        raise NotImplementedError

    def gates(self, network: PrunableNetwork) -> tuple[nn.Parameter, ...]:
        """The gate vectors of which `index` counts the driven numbers, one vector after the other; none by default."""
        return ()

    def magnitudes(self, network: PrunableNetwork) -> dict[str, Tensor]:
        """How far from zero all that will be cut still is, by layer."""
        raise NotImplementedError


class CutGates(Cut):
    """Every gate of every cut unit, as in SSL (arXiv 2206.07687), where lambda is the weight.

    Input gates have gradients of their own: the released code gives them those of output gates, and they drift away
    from zero.
    """

    def __init__(self, network: PrunableNetwork, plan: PrunePlan) -> None:
        groups = [group for group in network.channel_layout(plan.rule).groups if plan.cut(group.name)]
        self._counts = {group.name: len(group.gates) * len(plan.cut(group.name)) for group in groups}
        self._gates = [gate.parameter for group in groups for gate in group.gates]
        index: list[int] = []
        start = 0
        for group in groups:
            for _ in group.gates:
                index += [start + unit for unit in plan.cut(group.name)]
                start += group.size
        super().__init__(index)

    def values(self, network: PrunableNetwork) -> list[Tensor]:
        """The cut gates, as one tensor: a step of its own for each would be a thousand launches in a large network."""
        gates = self.gates(network)
        return [torch.cat(gates).index_select(0, self.index)] if gates else []

    def gates(self, network: PrunableNetwork) -> tuple[nn.Parameter, ...]:
        """All gate vectors of the layers that lose units."""
        return tuple(network.get_parameter(name) for name in self._gates)

    def magnitudes(self, network: PrunableNetwork) -> dict[str, Tensor]:
        """|gamma| of the cut units, by group; every gate of a unit counts by itself."""
        if not self._gates:
            return {}
        (cut,) = self.values(network)
        return dict(zip(self._counts, cut.detach().abs().split(list(self._counts.values())), strict=True))


class CutFilters(Cut):
    """Every filter of every cut unit with its bias (SRP)."""

    rest: Tensor

    def __init__(self, network: PrunableNetwork, plan: PrunePlan) -> None:
        filters = _cut_filters(network, plan)
        self._counts = {name: len(cut) for name, cut in filters.items()}
        rest = {
            name: sorted(set(range(_conv(network, name).out_channels)).difference(cut)) for name, cut in filters.items()
        }
        self._rests = [len(stays) for stays in rest.values()]
        super().__init__([place for cut in filters.values() for place in cut])
        stays = torch.tensor([place for stays in rest.values() for place in stays], dtype=torch.long)
        self.register_buffer("rest", stays, persistent=False)

    def values(self, network: PrunableNetwork) -> list[Tensor]:
        """Weights and biases of the cut filters of every convolution that has any."""
        return [
            values.index_select(0, cut)
            for name, cut in self._by_conv().items()
            for conv in (_conv(network, name),)
            for values in (conv.weight, conv.bias)
            if values is not None
        ]

    def magnitudes(self, network: PrunableNetwork) -> dict[str, Tensor]:
        """Norms of the filters that will be cut over the mean norm of those that stay, by convolution."""
        norms = {}
        for (name, cut), rest in zip(self._by_conv().items(), self.rest.split(self._rests), strict=True):
            lengths = _conv(network, name).weight.detach().flatten(1).norm(dim=1)
            norms[name] = lengths.index_select(0, cut) / lengths.index_select(0, rest).mean()
        return norms

    def _by_conv(self) -> Mapping[str, Tensor]:
        return dict(zip(self._counts, self.index.split(list(self._counts.values())), strict=True))


def _cut_filters(network: PrunableNetwork, plan: PrunePlan) -> dict[str, list[int]]:
    """By convolution the filters that will be cut, wherever there are any."""
    found = {}
    for group in network.channel_layout(plan.rule).groups:
        cut = plan.cut(group.name)
        for gate in group.gates if cut else ():
            conv = network.get_submodule(gate.conv)
            if gate.side == "output" and isinstance(conv, nn.Conv2d):
                each = conv.out_channels // group.size  # r*r filters of a unit before a pixel shuffle, else one
                found[gate.conv] = [unit * each + place for unit in cut for place in range(each)]
    return found


def _conv(network: PrunableNetwork, name: str) -> nn.Conv2d:
    conv = network.get_submodule(name)
    assert isinstance(conv, nn.Conv2d)
    return conv


# What a growing penalty drives to zero.
TARGETS: Mapping[str, type[CutGates] | type[CutFilters]] = {"gates": CutGates, "filters": CutFilters}
