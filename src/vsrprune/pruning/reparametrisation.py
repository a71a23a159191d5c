"""Weights that are computed from other parameters while they train: filters of unit norm, weights that stay zero."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from vsrprune.channels.layout import ChannelLayout, ConvLayer
from vsrprune.pruning.gates import PrunableNetwork, folded


class _UnitNorm(nn.Module):
    """Filters (or the r*r filters before a pixel shuffle, together) divided by their Euclidean norm."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self._units = units

    def forward(self, weight: Tensor) -> Tensor:
        rows = weight.reshape(self._units, -1)
        norm = rows.norm(dim=1, keepdim=True)
        # A filter of zeros has no direction: it stays zeros, and its gradient stays finite.
        unit: Tensor = rows / norm.masked_fill(norm == 0, 1.0)
        return unit.reshape(weight.shape)


class _Mask(nn.Module):
    """Weights times a mask: where it is 0 they stay 0, and get no gradient."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask


@torch.no_grad()
def normalise_filters(network: PrunableNetwork, layout: ChannelLayout) -> None:
    """Weight normalisation w_i = s_i W_i / |W_i| (ASSL): the gate of every unit becomes s_i; the function stays.

    Norms are of the folded weights, so a gate holds all of a filter's scale. Input gates fold into the weights and
    become 1. Where a filter is all zeros, its gate holds the scale of its bias: the function stays there too.
    """
    for conv in layout.convs:
        module = network.get_submodule(conv.name)
        gate, input_gate = getattr(module, "gate", None), getattr(module, "input_gate", None)
        if gate is None:
            continue
        assert isinstance(module, nn.Conv2d)
        weight, bias = (value.clone() for value in folded(module))
        norm = weight.reshape(gate.numel(), -1).norm(dim=1)
        scale = torch.where(norm > 0, norm, bias.reshape(gate.numel(), -1).norm(dim=1))
        per_filter = scale.masked_fill(scale == 0, 1.0).repeat_interleave(conv.filters_per_unit)
        gate.copy_(scale)
        if input_gate is not None:
            input_gate.fill_(1.0)
        module.weight.copy_(weight / per_filter.view(-1, 1, 1, 1))
        assert module.bias is not None
        # The gate multiplies the bias too, which therefore shrinks by the same norm.
        module.bias.copy_(bias / per_filter)
        parametrize.register_parametrization(module, "weight", _UnitNorm(gate.numel()))


def hold_zeros(network: PrunableNetwork, layout: ChannelLayout) -> None:
    """Keep the weights that are exactly zero at zero, whatever training does."""
    for module in convolutions(network, layout.convs):
        parametrize.register_parametrization(module, "weight", _Mask((module.weight != 0).to(module.weight.dtype)))


def convolutions(network: PrunableNetwork, convs: tuple[ConvLayer, ...]) -> list[nn.Conv2d]:
    """The modules of the layout's convolutions, in its order."""
    modules = [network.get_submodule(conv.name) for conv in convs]
    return [module for module in modules if isinstance(module, nn.Conv2d)]


def bake(network: nn.Module) -> None:
    """Replace every reparametrised weight by a plain parameter of its present value, in place.

    Saved networks hold plain weights, so that no other stage needs to know how they were trained.
    """
    for module in list(network.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
