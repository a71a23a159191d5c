"""Scores of weights by hand on a network of two channels."""

import numpy as np
import pytest
import torch
from networks_made import split_otherwise

from vsrprune.channels.layout import RULES
from vsrprune.errors import UserError
from vsrprune.pruning.scores.table import score_units
from vsrprune.selection.ranking import lamp

BLOCK = "forward_trunk.blocks.0"
CONV2 = [3 * ((0.2**2 + 0.4**2) / 2) ** 0.5, 0.1 * ((1 + 5**2) / 2) ** 0.5]  # root mean squares of its filters


def fill(network, name: str, matrix: list[list[float]]) -> None:
    """Set every tap of the kernel from input i to filter o to matrix[o][i]."""
    weight = network.get_parameter(f"{name}.weight")
    values = torch.tensor(matrix, dtype=weight.dtype)
    with torch.no_grad():
        weight.copy_(values[:, :, None, None].expand_as(weight))


def set_gate(network, name: str, values: list[float]) -> None:
    with torch.no_grad():
        network.get_parameter(name).copy_(torch.tensor(values))


@pytest.fixture
def network(random_network):
    """Unidirectional, two channels, one block, with round numbers in the layers that are scored below."""
    network = random_network(bidirectional=False, channels=2, blocks=1, upsampler_channels=2)
    fill(network, "forward_trunk.first", [[0.3, -0.3, 0.3, -0.3, 0.3], [0.0, 1.0, -1.0, 0.5, 0.5]])
    set_gate(network, "forward_trunk.first.gate", [-2.0, 1.0])  # 0.6, 0.6
    fill(network, f"{BLOCK}.conv1", [[1.0, 2.0], [3.0, -4.0]])
    set_gate(network, f"{BLOCK}.conv1.gate", [1.0, -2.0])
    set_gate(network, f"{BLOCK}.conv1.input_gate", [0.5, 3.0])  # folded: 0.5, 6; -3, 24
    fill(network, f"{BLOCK}.conv2", [[0.2, 0.4], [1.0, 5.0]])
    set_gate(network, f"{BLOCK}.conv2.gate", [3.0, -0.1])  # 0.9, 0.3
    fill(network, "upconv1", [[1, 1], [2, -2], [3, 3], [-4, 4], [5, -5], [6, 6], [7, -7], [8, 8]])
    set_gate(network, "upconv1.gate", [2.0, -0.5])  # 2 * 2.5, 0.5 * 6.5
    with torch.no_grad():
        network.conv_hr.weight.copy_(torch.arange(-18, 18).view(2, 2, 3, 3))
    set_gate(network, "conv_hr.gate", [1.0, 10.0])  # (1 + .. + 18) / 18, 10 * (0 + .. + 17) / 18
    return network


def test_l1_by_hand_under_rsc(network) -> None:
    scores = score_units(network, network.channel_layout("rsc"), "l1")
    assert scores[f"{BLOCK}.conv1.input"] == pytest.approx([(0.5 + 3) / 2, (6 + 24) / 2])
    assert scores[f"{BLOCK}.conv1"] == pytest.approx([(0.5 + 6) / 2, (3 + 24) / 2])
    assert scores[f"{BLOCK}.conv2"] == pytest.approx([0.9, 0.3])
    assert scores["upconv1"] == pytest.approx([5.0, 3.25])
    assert scores["conv_hr"] == pytest.approx([9.5, 85.0])


def test_l1_of_an_aligned_unit_is_the_mean_of_its_gates(network) -> None:
    scores = score_units(network, network.channel_layout("aligned"), "l1")
    assert scores["forward_trunk.stream"] == pytest.approx([(0.6 + 1.75 + 0.9) / 3, (0.6 + 15 + 0.3) / 3])
    assert scores[f"{BLOCK}.conv1"] == pytest.approx([3.25, 13.5])


def test_gate_scores_are_magnitudes_and_their_mean(network) -> None:
    rsc = score_units(network, network.channel_layout("rsc"), "gate")
    assert rsc[f"{BLOCK}.conv1.input"] == pytest.approx([0.5, 3.0])
    assert rsc[f"{BLOCK}.conv1"] == pytest.approx([1.0, 2.0])
    assert rsc["upconv1"] == pytest.approx([2.0, 0.5])
    aligned = score_units(network, network.channel_layout("aligned"), "gate")
    assert aligned["forward_trunk.stream"] == pytest.approx([(2 + 0.5 + 3) / 3, (1 + 3 + 0.1) / 3])


@pytest.mark.parametrize("score", ["l1", "l1_first", "l2", "fpgm", "lamp"])
@pytest.mark.parametrize("rule", RULES)
def test_scores_do_not_see_how_a_layer_splits_its_scale(rule: str, score: str, random_network) -> None:
    network = random_network()
    layout = network.channel_layout(rule)
    before = score_units(network, layout, score)
    split_otherwise(network)
    after = score_units(network, layout, score)
    for name, values in before.items():
        assert after[name] == pytest.approx(values, rel=1e-10), name
    moved = score_units(network, layout, "gate")
    assert not np.allclose(moved["conv_hr"], score_units(random_network(), layout, "gate")["conv_hr"])


def test_l2_by_hand(network) -> None:
    """Roots of mean squares, where l1 has means of magnitudes."""
    scores = score_units(network, network.channel_layout("rsc"), "l2")
    assert scores[f"{BLOCK}.conv1.input"] == pytest.approx([((0.5**2 + 3**2) / 2) ** 0.5, ((6**2 + 24**2) / 2) ** 0.5])
    assert scores[f"{BLOCK}.conv2"] == pytest.approx(CONV2)
    squares = [1, 1, 4, 4, 9, 9, 16, 16], [25, 25, 36, 36, 49, 49, 64, 64]
    assert scores["upconv1"] == pytest.approx([2 * np.mean(squares[0]) ** 0.5, 0.5 * np.mean(squares[1]) ** 0.5])


def test_lamp_by_hand(network) -> None:
    """Lee et al., ICLR 2021: a square over the sum of the squares that are not smaller; the largest scores 1."""
    scores = score_units(network, network.channel_layout("rsc"), "lamp")
    small, large = CONV2[1] ** 2, CONV2[0] ** 2
    assert scores[f"{BLOCK}.conv2"] == pytest.approx([1, small / (small + large)])
    assert lamp(np.array([3.0, 1.0, 2.0, 0.0])) == pytest.approx([1, 1 / 6, 2 / 5, 0])
    assert lamp(np.array([2.0, 2.0])) == pytest.approx([1 / 2, 1])  # of equals the first goes first
    assert lamp(np.zeros(3)).tolist() == [0, 0, 0]


def test_fpgm_by_hand(random_network) -> None:
    """He et al., CVPR 2019: of three filters on a line the middle one is nearest to the others, whatever its norm."""
    network = random_network(bidirectional=False, channels=3, blocks=1, upsampler_channels=2)
    fill(network, f"{BLOCK}.conv1", [[7.0] * 3, [2.0] * 3, [3.0] * 3])
    set_gate(network, f"{BLOCK}.conv1.gate", [1.0, 1.0, 1.0])
    set_gate(network, f"{BLOCK}.conv1.input_gate", [1.0, 1.0, 1.0])
    scores = score_units(network, network.channel_layout("rsc"), "fpgm")
    assert scores[f"{BLOCK}.conv1"] == pytest.approx([(5 + 4) / 2, (5 + 1) / 2, (4 + 1) / 2])
    assert scores[f"{BLOCK}.conv1.input"].tolist() == [0, 0, 0]  # equal slices stand for one another
    l1 = score_units(network, network.channel_layout("rsc"), "l1")
    assert l1[f"{BLOCK}.conv1"].argmin() == 1


def test_a_layer_of_one_unit_scores_nothing_under_fpgm(random_network) -> None:
    network = random_network(bidirectional=False, channels=1, blocks=1, upsampler_channels=1)
    scores = score_units(network, network.channel_layout("rsc"), "fpgm")
    assert scores["conv_hr"].tolist() == [0]


def test_l1_does_not_look_at_the_bias(random_network) -> None:
    network = random_network()
    layout = network.channel_layout("rsc")
    before = score_units(network, layout, "l1")
    with torch.no_grad():
        network.conv_hr.bias.fill_(100.0)
    assert np.array_equal(score_units(network, layout, "l1")["conv_hr"], before["conv_hr"])


def test_l1_compares_layers_of_different_fan_in(random_network) -> None:
    """A mean, not a sum: equal weights score equally in the 1x1 fusion and in the 3x3 convolutions."""
    network = random_network()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.fill_(1.0 if name.endswith("gate") else -0.5)
    for rule in RULES:
        scores = score_units(network, network.channel_layout(rule), "l1")
        assert np.concatenate(list(scores.values())) == pytest.approx(0.5)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_equal_gates_are_refused(sign: float, random_network) -> None:
    network = random_network(blocks=1)
    with torch.no_grad():
        for index, gate in enumerate(network.gate_parameters()):
            gate.fill_(sign**index)
    layout = network.channel_layout("rsc")
    with pytest.raises(UserError, match=f"all {layout.units} units score 1; use score=l1") as caught:
        score_units(network, layout, "gate")
    assert "\n" not in str(caught.value)
    with torch.no_grad():
        network.conv_hr.gate[0] = 0.9
    assert score_units(network, layout, "gate")["conv_hr"][0] == pytest.approx(0.9)


def test_random_is_seeded_and_in_the_unit_interval(random_network) -> None:
    network = random_network(channels=8)
    layout = network.channel_layout("rsc")

    def draw(seed: int) -> np.ndarray:
        return np.concatenate(list(score_units(network, layout, "random", seed).values()))

    assert np.array_equal(draw(3), draw(3))
    assert not np.array_equal(draw(3), draw(4))
    assert len(np.unique(draw(3))) == layout.units  # no layer repeats another's numbers
    assert 0 <= draw(3).min() < 0.1
    assert 0.9 < draw(3).max() < 1
    assert abs(draw(3).mean() - 0.5) < 0.1


def test_random_does_not_look_at_the_weights(random_network) -> None:
    first, second = random_network(seed=0), random_network(seed=1)
    layout = first.channel_layout("aligned")
    a, b = score_units(first, layout, "random", 5), score_units(second, layout, "random", 5)
    assert all(np.array_equal(a[name], b[name]) for name in a)


def test_unknown_score_is_refused(random_network) -> None:
    network = random_network()
    with pytest.raises(UserError, match=r"score must be one of l1, l1_first, l2, .*, random; got 'l3'"):
        score_units(network, network.channel_layout("rsc"), "l3")
