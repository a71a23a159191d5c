"""Scores of weights and gates alone, each the mean over the unit's gates of a number that belongs to the gate.

Weights are folded: all gates are multiplied in, so that the split of a layer's scale between gates and weights does not
count. Means over weights, not sums, so that fan-in does not count. Kinds of layer still differ by their initialisation:
none of these says, across kinds of layer, what a unit is worth to the loss.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vsrprune.channels.layout import ChannelLayout, Gate
from vsrprune.errors import UserError
from vsrprune.pruning.gates import PrunableNetwork, folded, group_gates
from vsrprune.selection.ranking import lamp
from vsrprune.selection.scores import Scores


def l1_scores(network: PrunableNetwork, layout: ChannelLayout) -> Scores:
    """Mean |gamma * w| over a filter's, a shuffle group's or an input slice's weights (arXiv 2206.07687, 3.2)."""
    return _means(network, layout, lambda rows_UW: rows_UW.abs().mean(dim=1))


def l1_first_scores(network: PrunableNetwork, layout: ChannelLayout) -> Scores:
    """As l1, but where several layers share a unit, the first alone decides, and the others lose the same (SRP)."""
    return {
        group.name: _rows(network, group.gates[0]).abs().mean(dim=1).numpy().astype(np.float64)
        for group in layout.groups
    }


def l2_scores(network: PrunableNetwork, layout: ChannelLayout) -> Scores:
    """Root of the mean (gamma * w)^2."""
    return _means(network, layout, lambda rows_UW: rows_UW.square().mean(dim=1).sqrt())


def fpgm_scores(network: PrunableNetwork, layout: ChannelLayout) -> Scores:
    """Distance to the other units of the layer (He et al., CVPR 2019): what lies in their middle can be replaced.

    The mean of the distances, each the root of the mean squared difference of two units' weights.
    """

    def to_the_others(rows_UW: Tensor) -> Tensor:
        # Differences, and not |a|^2 - 2ab + |b|^2: equal filters must be exactly 0 apart.
        distances = torch.stack([(rows_UW - row_W).square().mean(dim=1).sqrt().sum() for row_W in rows_UW])
        return distances / max(len(rows_UW) - 1, 1)

    return _means(network, layout, to_the_others)


def lamp_scores(network: PrunableNetwork, layout: ChannelLayout) -> Scores:
    """Mean (gamma * w)^2 over the sum of those of its layer that are not smaller (Lee et al., ICLR 2021)."""
    squares = _means(network, layout, lambda rows_UW: rows_UW.square().mean(dim=1))
    return {name: lamp(values) for name, values in squares.items()}


def gate_scores(network: PrunableNetwork, layout: ChannelLayout) -> Scores:
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


def random_scores(layout: ChannelLayout, seed: int) -> Scores:
    """A control: uniform in [0, 1), the same for the same seed."""
    generator = np.random.default_rng(seed)
    return {group.name: generator.random(group.size) for group in layout.groups}


def _means(network: PrunableNetwork, layout: ChannelLayout, score: Callable[[Tensor], Tensor]) -> Scores:
    """The mean over a unit's gates of a score of the weights (units, weights of each) that belong to a gate."""
    return {group.name: _mean([score(_rows(network, gate)) for gate in group.gates]) for group in layout.groups}


def _mean(values: list[Tensor]) -> NDArray[np.float64]:
    mean: NDArray[np.float64] = np.mean([each.numpy() for each in values], axis=0)
    return mean


@torch.no_grad()
def _rows(network: PrunableNetwork, gate: Gate) -> Tensor:
    """Folded weights (units, weights of each) of a gate: filters, shuffle groups or input slices; float64."""
    # float64 on the CPU: a ranking must not depend on the device's order of summation.
    weight = folded(network.get_submodule(gate.conv))[0].detach().cpu().double()
    if gate.side == "input":
        return weight.transpose(0, 1).flatten(1)
    return weight.reshape(network.get_parameter(gate.parameter).numel(), -1)
