"""The growing L2 penalty that drives the gates of the cut units to zero before they are cut."""

from __future__ import annotations

import torch
from torch import Tensor

from vsrprune.channels import PrunePlan
from vsrprune.pruning.gates import PrunableNetwork, cut_gates


def penalty_weight(step: int, growth: float, interval: int, maximum: float) -> float:
    """Lambda at a training step: `growth` more every `interval` steps, at most `maximum`.

    Published values: 1e-4 every 5 steps up to 0.1, which takes 5,000 steps (arXiv 2206.07687, released code).
    """
    return min(maximum, growth * (step // interval))


def gate_penalty(network: PrunableNetwork, plan: PrunePlan, weight: float) -> Tensor:
    """Weight / 2 * sum of gamma^2 over every gate of every cut unit: each gate's gradient is weight * gamma."""
    terms = [gate[cut].square().sum() for _, gate, cut in cut_gates(network, plan)]
    if not terms:
        gate = network.get_parameter(network.channel_layout(plan.rule).groups[0].gates[0].parameter)
        return gate.new_zeros(())
    return 0.5 * weight * torch.stack(terms).sum()
