"""Scores where there is no truth: what the output moves by, and why the Taylor score of a distance to it is none."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from test_scores_of_data import BOTH, MIDDLE, NETWORK, Linear, X, frame
from torch import Tensor

from vsrprune.channels.layout import ChannelGroup, ChannelLayout
from vsrprune.pruning.scores.gradients import first_order
from vsrprune.pruning.scores.table import WITHOUT_TRUTH, score_units
from vsrprune.selection.scores import OF_BATCHES, OF_OUTPUTS, Scores


def untrue(*clips: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of inputs, and no truth of any of them."""
    return ((clip, clip.new_empty(0, *clip.shape[1:])) for clip in clips)


def taylor(network: torch.nn.Module, layout: ChannelLayout, *clips: Tensor) -> Scores:
    return score_units(network, layout, "taylor", batches=untrue(*clips), truth=False)


def test_the_gradient_of_a_distance_to_ones_own_output_is_zero() -> None:
    """So a Taylor score of first order ranks nothing at the dense network."""
    with torch.no_grad():
        own = NETWORK(X).frames_NTCHW
    assert first_order(NETWORK, MIDDLE, X, own)["middle"].tolist() == [0.0, 0.0]


def test_it_is_the_rise_of_the_squared_distance_of_a_linear_network() -> None:
    """Of one pixel any sign gives the square itself, and what is linear in its gates has no higher order."""
    pixel = frame(0.4)
    scores = taylor(NETWORK, MIDDLE, pixel)["middle"]
    whole = NETWORK(pixel).frames_NTCHW
    for unit in range(2):
        gates = [0.5, 1.0]
        gates[unit] = 0.0
        without = Linear([2.0, 5.0], [3.0, 1.0], gates)
        assert scores[unit] == pytest.approx((without(pixel).frames_NTCHW - whole).square().mean().item(), rel=1e-12)
    assert scores == pytest.approx([(3 * 0.4) ** 2, (5 * 0.4) ** 2])


def test_gates_of_a_unit_are_added_up_and_clips_are_averaged() -> None:
    pixels = torch.cat((frame(0.4), frame(0.1)))
    one, other = (3 * 0.4) ** 2, (3 * 0.1) ** 2
    assert taylor(NETWORK, MIDDLE, pixels)["middle"][0] == pytest.approx((one + other) / 2)
    assert taylor(NETWORK, MIDDLE, frame(0.4), frame(0.1))["middle"][0] == pytest.approx((one + other) / 2)
    assert taylor(NETWORK, BOTH, frame(0.4))["both"] == pytest.approx([4 * (3 * 0.4) ** 2, 4 * (5 * 0.4) ** 2])


def test_the_mean_over_signs_is_the_mean_square_over_pixels() -> None:
    """Hutchinson: of two pixels, a sign that is the same for both would give 0.08, and a mean of single squares .05."""
    scores = taylor(NETWORK, MIDDLE, X.expand(400, -1, -1, -1, -1))["middle"]
    # The relative error of a square of two such terms is 0.6; of 400 of them 0.03.
    assert scores == pytest.approx([9 * 0.05, 25 * 0.05], rel=0.12)


def test_it_equals_finite_differences_of_what_the_signs_choose(random_network, random_clip) -> None:
    network = random_network(blocks=1)
    layout, low, step = network.channel_layout("rsc"), random_clip(2), 1e-5
    scores = taylor(network, layout, low)
    output = network(low).frames_NTCHW
    drawn = torch.randint(2, output.shape, generator=torch.Generator().manual_seed(0), dtype=torch.int8)
    signs = (2 * drawn - 1).to(output)

    def chosen(group: ChannelGroup, factor: float) -> float:
        gates = [network.get_parameter(gate.parameter) for gate in group.gates]
        before = [gate[0].item() for gate in gates]
        with torch.no_grad():
            for gate in gates:
                gate[0] *= factor
            found = (signs * network(low).frames_NTCHW).sum().item()
            for gate, value in zip(gates, before, strict=True):
                gate[0] = value
        return found

    for group in layout.groups:
        difference = (chosen(group, 1 + step) - chosen(group, 1 - step)) / (2 * step)
        assert scores[group.name][0] == pytest.approx(difference**2 / output.numel(), rel=4e-3, abs=1e-10), group.name


def test_the_scores_that_can_do_without_a_truth_are_named_and_the_same_again(random_network, random_clip) -> None:
    assert set(WITHOUT_TRUTH) == set(OF_OUTPUTS) < set(OF_BATCHES)
    network = random_network()
    layout, low = network.channel_layout("aligned"), random_clip(2)
    with torch.no_grad():
        for gate in layout.groups[0].gates:
            network.get_parameter(gate.parameter)[1] = 0.0
    for name in OF_OUTPUTS:
        one, two = (score_units(network, layout, name, batches=untrue(low), truth=False) for _ in range(2))
        assert all(np.array_equal(one[group], two[group]) for group in one)
        assert one[layout.groups[0].name][1] == 0, name  # its gates are zero
        assert all(np.isfinite(values).all() and (values >= 0).all() for values in one.values())
