"""Importance of every unit: the mean of the scores of its gates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vsrprune.channels.layout import ChannelLayout, Gate
from vsrprune.errors import UserError, one_of
from vsrprune.pruning.gates import PrunableNetwork, folded, group_gates

Scores = dict[str, NDArray[np.float64]]  # by group, one number per unit


def l1_scores(network: PrunableNetwork, layout: ChannelLayout, seed: int) -> Scores:
    """Mean |gamma * w| over the weights that belong to the gate: a filter's, a shuffle group's or an input slice's.

    It is a mean, so that fan-in does not count (kinds of layer still differ by their initialisation), over the folded
    weight, so that the split of a layer's scale between gates and weights does not count (the L1 criterion of
    arXiv 2206.07687, section 3.2).
    """
    return {
        group.name: np.mean([_mean_weight(network, gate).numpy() for gate in group.gates], axis=0)
        for group in layout.groups
    }


def l1_first_scores(network: PrunableNetwork, layout: ChannelLayout, seed: int) -> Scores:
    """As l1, but where several layers share a unit, the first alone decides, and the others lose the same (SRP)."""
    return {group.name: _mean_weight(network, group.gates[0]).numpy() for group in layout.groups}


def _mean_weight(network: PrunableNetwork, gate: Gate) -> Tensor:
    """Mean absolute folded weight per channel of one gate, float64."""
    with torch.no_grad():
        # float64 on the CPU: a ranking must not depend on the device's order of summation.
        weight = folded(network.get_submodule(gate.conv))[0].detach().cpu().double().abs()
    if gate.side == "input":
        return weight.mean(dim=(0, 2, 3))
    channels = network.get_parameter(gate.parameter).numel()
    return weight.reshape(channels, -1).mean(dim=1)


def gate_scores(network: PrunableNetwork, layout: ChannelLayout, seed: int) -> Scores:
    """|gamma| of a unit, the mean of its gates: the default of the authors' released code.

    Raises UserError where all gates are equal (official weights carry none): they rank nothing.
    """
    scores = {
        group.name: np.mean(
            [gate.detach().cpu().double().abs().numpy() for gate in group_gates(network, group)], axis=0
        )
        for group in layout.groups
    }
    # Equal gates would still give a ranking, by layer order, and with it a plausible but meaningless plan.
    values = np.concatenate(list(scores.values()))
    if np.all(values == values[0]):
        raise UserError(
            f"score=gate needs trained scaling factors, but all {values.size} units score {values[0]:g};"
            " use score=l1 or pretrain with gates"
        )
    return scores


def random_scores(network: PrunableNetwork, layout: ChannelLayout, seed: int) -> Scores:
    """A control: uniform in [0, 1), the same for the same seed."""
    generator = np.random.default_rng(seed)
    return {group.name: generator.random(group.size) for group in layout.groups}


SCORES: dict[str, Callable[[PrunableNetwork, ChannelLayout, int], Scores]] = {
    "l1": l1_scores,
    "l1_first": l1_first_scores,
    "gate": gate_scores,
    "random": random_scores,
}


def score_units(network: PrunableNetwork, layout: ChannelLayout, score: str, seed: int = 0) -> Scores:
    """Scores of all units by group, higher is more important; `score` names a function of SCORES."""
    one_of("score", score, SCORES)
    return SCORES[score](network, layout, seed)
