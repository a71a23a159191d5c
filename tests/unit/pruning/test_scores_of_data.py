"""Scores of gradients and activations: by hand on a linear network, against finite differences, and what all share."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from networks_made import split_otherwise
from torch import Tensor, nn

from vsrprune.channels.layout import RULES, ChannelGroup, ChannelLayout, ConvLayer, Gate, Slot
from vsrprune.networks.network import VSROutput
from vsrprune.networks.parts.layers import GatedConv2d
from vsrprune.pruning.losses import charbonnier
from vsrprune.pruning.scores.table import SCORES, score_units
from vsrprune.selection.scores import OF_BATCHES


def two_channels(name: str, *gates: Gate) -> ChannelLayout:
    """The layout of `Linear` below, whose two middle channels are units of these gates."""
    slot = Slot(2, name)
    convs = ConvLayer("first", 1, (Slot(1),), slot), ConvLayer("last", 1, (slot,), Slot(1))
    return ChannelLayout((ChannelGroup(name, "trunk", name, 2, gates),), convs)


MIDDLE = two_channels("middle", Gate("first", "output"))
BOTH = two_channels("both", Gate("first", "output"), Gate("last", "input"))  # two gates of a channel, cut together


class Linear(nn.Module):
    """One channel in, two in the middle, one out, pixel by pixel: last . first."""

    def __init__(self, first: list[float], last: list[float], gates: list[float]) -> None:
        super().__init__()
        self.first, self.last = GatedConv2d(1, 2, 1), GatedConv2d(2, 1, 1, gated_inputs=True)
        self.double()
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor(first).view(2, 1, 1, 1))
            self.first.gate.copy_(torch.tensor(gates))
            self.last.weight.copy_(torch.tensor(last).view(1, 2, 1, 1))
            self.first.bias.zero_()
            self.last.bias.zero_()

    def forward(self, frames_NTCHW: Tensor) -> VSROutput:
        return VSROutput(self.last(self.first(frames_NTCHW.flatten(0, 1))).view_as(frames_NTCHW), {})


def frame(*pixels: float) -> Tensor:
    return torch.tensor(pixels, dtype=torch.float64).view(1, 1, 1, 1, -1)


# The output is (3 * 2 * 0.5 + 5 * 1 * 1) x = 8x, the target 10x: below it everywhere, so that L = mean of 2x.
NETWORK = Linear(first=[2.0, 5.0], last=[3.0, 1.0], gates=[0.5, 1.0])
X = frame(0.1, 0.3)  # mean 0.2


def test_taylor_is_the_loss_difference_of_a_linear_network() -> None:
    """L = mean(10x - y) is linear in the gates as long as y < 10x: first order is exact."""
    batches = [(X, 10 * X)]
    scores = score_units(NETWORK, MIDDLE, "taylor", batches=batches)
    assert scores["middle"] == pytest.approx([3 * 0.2, 5 * 0.2], rel=1e-6)
    whole = charbonnier(NETWORK(X).frames_NTCHW, 10 * X).item()
    for unit in range(2):
        gates = [0.5, 1.0]
        gates[unit] = 0.0
        without = Linear([2.0, 5.0], [3.0, 1.0], gates)
        rise = charbonnier(without(X).frames_NTCHW, 10 * X).item() - whole
        assert scores["middle"][unit] == pytest.approx(rise, rel=1e-6)


def test_taylor_takes_the_magnitude_of_a_batch_s_sum_and_the_mean_of_batches() -> None:
    """Within a batch the clips' changes cancel: the loss of a batch is their mean. Between batches they do not."""
    above, below = (X, 10 * X), (X, 6 * X)  # the output must rise, and fall: opposite gradients
    both = (torch.cat((X, X)), torch.cat((10 * X, 6 * X)))
    assert score_units(NETWORK, MIDDLE, "taylor", batches=[above, below])["middle"] == pytest.approx([0.6, 1.0])
    assert score_units(NETWORK, MIDDLE, "taylor", batches=[both])["middle"] == pytest.approx([0, 0], abs=1e-9)
    twice = (2 * X, 20 * X)
    assert score_units(NETWORK, MIDDLE, "taylor", batches=[above, twice])["middle"] == pytest.approx([0.9, 1.5])


def test_taylor_adds_up_the_gates_of_a_unit_before_the_magnitude() -> None:
    scores = score_units(NETWORK, BOTH, "taylor", batches=[(X, 10 * X)])
    assert scores["both"] == pytest.approx([2 * 0.6, 2 * 1.0], rel=1e-6)  # both gates carry the same signal


def test_fisher_by_hand() -> None:
    """Half the mean over clips of the squares: clips of a batch do not cancel."""
    both = (torch.cat((X, 2 * X)), torch.cat((10 * X, 12 * X)))
    expected = [(0.6**2 + 1.2**2) / 4, (1.0**2 + 2.0**2) / 4]
    assert score_units(NETWORK, MIDDLE, "fisher", batches=[both])["middle"] == pytest.approx(expected, rel=1e-6)
    apart = [(X, 10 * X), (2 * X, 12 * X)]
    assert score_units(NETWORK, MIDDLE, "fisher", batches=apart)["middle"] == pytest.approx(expected, rel=1e-6)


def test_activation_by_hand() -> None:
    batches = [(X, X), (frame(-0.4, 0.0), X)]  # magnitudes of mean 0.2 each
    assert score_units(NETWORK, MIDDLE, "activation", batches=batches)["middle"] == pytest.approx([0.2, 1.0])
    with torch.no_grad():
        NETWORK.last.input_gate.copy_(torch.tensor([3.0, -1.0]))
    try:
        scores = score_units(NETWORK, BOTH, "activation", batches=batches)
    finally:
        with torch.no_grad():
            NETWORK.last.input_gate.fill_(1.0)
    assert scores["both"] == pytest.approx([(0.2 + 0.6) / 2, (1.0 + 1.0) / 2])


@pytest.mark.parametrize("score", OF_BATCHES)
def test_a_score_of_batches_refuses_to_go_without(score: str) -> None:
    with pytest.raises(ValueError, match="there is no batch"):
        score_units(NETWORK, MIDDLE, score)


def batches_of(clip: Tensor, scale: int, count: int = 2) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(3)
    shape = (*clip.shape[:3], *(side * scale for side in clip.shape[3:]))
    return [(clip + n / 10, torch.rand(shape, generator=generator, dtype=clip.dtype)) for n in range(count)]


@pytest.mark.parametrize("rule", RULES)
def test_taylor_equals_finite_differences(rule: str, random_network, random_clip) -> None:
    """Of one batch: the loss at gates a little smaller, and a little larger, for some units of every group."""
    network = random_network(blocks=1)
    layout = network.channel_layout(rule)
    (low, high), step = batches_of(random_clip(2), 4, 1)[0], 1e-5
    scores = score_units(network, layout, "taylor", batches=[(low, high)])

    def loss(group: ChannelGroup, unit: int, factor: float) -> float:
        gates = [network.get_parameter(gate.parameter) for gate in group.gates]
        before = [gate[unit].item() for gate in gates]
        with torch.no_grad():
            for gate, value in zip(gates, before, strict=True):
                gate[unit] = value * factor
            found = charbonnier(network(low).frames_NTCHW, high).item()
            for gate, value in zip(gates, before, strict=True):
                gate[unit] = value
        return found

    for group in layout.groups:
        difference = (loss(group, 0, 1 + step) - loss(group, 0, 1 - step)) / (2 * step)
        # Charbonnier and ReLUs have bends: a step across one of thousands costs a little.
        assert scores[group.name][0] == pytest.approx(abs(difference), rel=2e-3, abs=1e-8), group.name


@pytest.mark.parametrize("score", ["taylor", "fisher"])
@pytest.mark.parametrize("rule", RULES)
def test_scores_of_gradients_do_not_see_how_a_layer_splits_its_scale(
    rule: str, score: str, random_network, random_clip
) -> None:
    network = random_network()
    layout, batches = network.channel_layout(rule), batches_of(random_clip(2), 4)
    before = score_units(network, layout, score, batches=batches)
    split_otherwise(network)
    after = score_units(network, layout, score, batches=batches)
    for name, values in before.items():
        assert after[name] == pytest.approx(values, rel=1e-7, abs=1e-15), name


@pytest.mark.parametrize("score", OF_BATCHES)
def test_frames_that_are_computed_again_score_the_same(score: str, random_network, random_clip) -> None:
    network = random_network()
    layout, batches = network.channel_layout("rsc"), batches_of(random_clip(3), 4)
    kept = score_units(network, layout, score, batches=batches)
    network.checkpoint_frames = True
    again = score_units(network, layout, score, batches=batches)
    for name, values in kept.items():
        assert again[name] == pytest.approx(values, rel=1e-9), name


def test_a_unit_whose_gates_are_zero_scores_nothing(random_network, random_clip) -> None:
    """So that what a round cut stays cut."""
    network = random_network()
    layout, batches = network.channel_layout("aligned"), batches_of(random_clip(2), 4)
    group = layout.groups[0]
    with torch.no_grad():
        for gate in group.gates:
            network.get_parameter(gate.parameter)[1] = 0.0
    for score in ("l1", "l2", "lamp", "taylor", "fisher", "activation"):
        values = score_units(network, layout, score, batches=batches)[group.name]
        assert values[1] == 0, score
        assert (np.delete(values, 1) > 0).all(), score


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", SCORES)
def test_every_score_gives_one_number_per_unit(name: str, rule: str, random_network, random_clip) -> None:
    network = random_network()
    layout, batches = network.channel_layout(rule), batches_of(random_clip(2), 4)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    scores = score_units(network, layout, name, seed=7, batches=batches)
    assert list(scores) == [group.name for group in layout.groups]
    for group in layout.groups:
        values = scores[group.name]
        assert values.shape == (group.size,)
        assert values.dtype == np.float64
        assert np.isfinite(values).all()
        assert (values >= 0).all()
        assert len(set(values)) == group.size
    again = score_units(network, layout, name, seed=7, batches=batches)
    assert all(np.array_equal(scores[key], again[key]) for key in scores)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
