"""Magnitude pruning of single weights (Han et al., NIPS 2015), in one shot and without a speed-up."""

from __future__ import annotations

import torch

from vsrprune.channels.layout import ChannelLayout
from vsrprune.pruning.gates import PrunableNetwork
from vsrprune.pruning.reparametrisation import convolutions
from vsrprune.selection.budget import Budget


@torch.no_grad()
def mask_smallest(network: PrunableNetwork, layout: ChannelLayout, ratio: float, target: str) -> Budget:
    """Set the smallest weights of a compact network to zero, in place: one ranking over all its convolutions.

    ratio: share of the MACs or of the parameters (weights and biases; no bias is cut) that is removed, target=macs or
    params. A weight costs as many MACs per low-resolution pixel as its output has pixels there. What the budget
    reaches is within the cost of one weight.
    """
    modules = convolutions(network, layout.convs)
    magnitudes = torch.cat([module.weight.abs().flatten() for module in modules])
    costs = torch.cat(
        [
            torch.full((module.weight.numel(),), conv.pixels if target == "macs" else 1)
            for module, conv in zip(modules, layout.convs, strict=True)
        ]
    )
    dense = layout.macs_per_pixel() if target == "macs" else layout.parameters()
    order = magnitudes.argsort(stable=True)  # stable, so that equal weights go in the same order on every machine
    removed = costs[order].cumsum(0)
    # Never more than was asked for: the last weight that still fits ends the ranking.
    cut = int((removed <= dense * ratio).sum())
    magnitudes[order[:cut]] = 0.0
    start = 0
    for module in modules:
        part = magnitudes[start : start + module.weight.numel()]
        # A product and not a copy of `part`, which holds magnitudes without signs.
        module.weight.mul_((part != 0).view_as(module.weight))
        start += module.weight.numel()
    return Budget(target, dense, dense * (1 - ratio), dense - (removed[cut - 1].item() if cut else 0))


@torch.no_grad()
def zero_costs(network: PrunableNetwork, layout: ChannelLayout) -> tuple[float, int]:
    """How many MACs per low-resolution pixel are products with zero weights, and how many parameters are zero."""
    zeros = [int((module.weight == 0).sum()) for module in convolutions(network, layout.convs)]
    return sum(conv.pixels * count for conv, count in zip(layout.convs, zeros, strict=True)), sum(zeros)
