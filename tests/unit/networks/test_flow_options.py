"""A flow net that skips its finest levels, and one that loses channels as the rest of the network does."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks_made import random_clip, random_network, small_basicvsr, small_basicvsr_pp
from safetensors.torch import save_file
from torch import Tensor, nn

from vsrprune.channels.layout import RULES, ChannelLayout
from vsrprune.channels.plan import PrunePlan
from vsrprune.errors import UserError
from vsrprune.metrics.cost import counted, network_cost
from vsrprune.networks.checkpoints import load_dense, load_flow
from vsrprune.networks.fast.fastest import freeze
from vsrprune.networks.files import load_network, save_network
from vsrprune.networks.parts.flow import SPyNet
from vsrprune.networks.table import build, identity_of
from vsrprune.pruning.gates import zero_cut_gates
from vsrprune.pruning.surgery import compact

SIZE = (16, 24)  # multiples of the pyramid's, at which the layout counts what is computed
THREE_LEVELS = {"flow_levels": 3, "flow_widths": (4, 3)}
FAMILIES = {"basicvsr": small_basicvsr, "basicvsr_pp": small_basicvsr_pp}
every_family = pytest.mark.parametrize("family", FAMILIES)


def random_plan(layout: ChannelLayout, rule: str, seed: int) -> PrunePlan:
    draw = np.random.default_rng(seed)
    cut = {group.name: draw.permutation(group.size)[: draw.integers(0, group.size)] for group in layout.groups}
    return PrunePlan.cutting(rule, layout, {name: channels.tolist() for name, channels in cut.items()})


def assert_close(got: Tensor, expected: Tensor) -> None:
    assert got.shape == expected.shape
    got, expected = got.detach(), expected.detach()
    assert float((got - expected).abs().max()) <= 1e-12 * float(expected.abs().max())


@pytest.mark.parametrize("skipped", [0, 1, 2])
@pytest.mark.parametrize(("height", "width"), [(8, 16), (9, 13)])
def test_a_flow_that_is_the_same_everywhere_is_in_pixels_of_the_frame(skipped: int, height: int, width: int) -> None:
    """The coarsest level says (1, -0.5) of its own pixels, the others add nothing: times four in the frame."""
    net = SPyNet(levels=3, kernel=3, widths=(4,), skipped=skipped).double()
    coarsest = net.levels[0]
    assert isinstance(coarsest, nn.Sequential)
    last = coarsest[-1]
    assert isinstance(last, nn.Conv2d)
    assert last.bias is not None
    with torch.no_grad():
        last.bias.copy_(torch.tensor([1.0, -0.5]))
    frame = torch.rand(1, 3, height, width, dtype=torch.float64)
    padded = [-(-side // 4) * 4 for side in (height, width)]
    expected = torch.tensor([4 * width / padded[1], -2 * height / padded[0]], dtype=torch.float64)
    flow_2HW = net(frame, frame)[0]
    torch.testing.assert_close(flow_2HW, expected[:, None, None].expand(2, height, width))


def test_what_is_left_computes_the_same_at_its_levels() -> None:
    """Where the finest level corrects nothing, skipping it changes how the flow is enlarged, and nothing else."""
    whole = SPyNet(levels=3, kernel=3, widths=(4,)).double()
    torch.manual_seed(0)
    for level in list(whole.levels)[:2]:
        assert isinstance(level, nn.Sequential)
        for module in level:
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.2)
    fewer = SPyNet(levels=3, kernel=3, widths=(4,), skipped=1).double()
    fewer.levels.load_state_dict(whole.levels[:2].state_dict())
    one, other = torch.rand(2, 1, 3, 16, 16, dtype=torch.float64)
    enlarged = whole(one, other), fewer(one, other)
    assert enlarged[0].std() > 0.1
    # Two ways to enlarge the same flow of 8x8 pixels: both have its mean, to what corners weigh.
    torch.testing.assert_close(enlarged[0].mean((0, 2, 3)), enlarged[1].mean((0, 2, 3)), rtol=0.1, atol=0.05)


@every_family
def test_each_skipped_level_takes_its_macs_away(family: str) -> None:
    """A level's MACs are those of its chain at its frames: 3x3 kernels, from 8 channels by 4 and 3 to 2."""
    weights = 9 * (8 * 4 + 4 * 3 + 3 * 2)
    pixels = SIZE[0] * SIZE[1]
    for skipped in (0, 1, 2):
        cost = network_cost(build(FAMILIES[family](**THREE_LEVELS, flow_skipped=skipped)), SIZE)
        sizes = [pixels / 4**place for place in range(skipped, 3)]
        assert cost.macs_with_flow - cost.macs == 2 * weights * sum(sizes)  # both directions


@every_family
@pytest.mark.parametrize(("rule", "skipped"), itertools.product(RULES, (0, 1)))
def test_a_network_that_is_compact_to_its_flow_net_equals_the_masked_one(family: str, rule: str, skipped: int) -> None:
    network = random_network(FAMILIES[family](**THREE_LEVELS, flow_skipped=skipped, flow_pruned=True), signed=True)
    clip = random_clip(3, 9, 13)
    layout = network.channel_layout(rule)
    assert len([group for group in layout.groups if group.part == "flow"]) == 2 * (3 - skipped)
    for seed in range(3):
        plan = random_plan(layout, rule, seed)
        smaller = compact(network, plan).eval()
        gated = random_network(FAMILIES[family](**THREE_LEVELS, flow_skipped=skipped, flow_pruned=True), signed=True)
        zero_cut_gates(gated, plan)
        for branch, flow in smaller.flows(clip).items():
            assert_close(flow, gated.flows(clip)[branch])
        assert_close(smaller(clip).frames_NTCHW, gated(clip).frames_NTCHW)


@every_family
@pytest.mark.parametrize("rule", RULES)
def test_a_flow_net_that_is_pruned_counts_as_the_network_does(family: str, rule: str) -> None:
    """What the layout says of MACs and parameters is what the network's own operations and tensors are."""
    network = random_network(FAMILIES[family](**THREE_LEVELS, flow_pruned=True), dtype=torch.float32)
    layout = network.channel_layout(rule)
    for seed in range(2):
        plan = random_plan(layout, rule, seed)
        smaller = compact(network, plan)
        cost = network_cost(smaller, SIZE)
        assert cost.macs == cost.macs_with_flow == layout.macs_per_pixel(plan.kept_counts) * SIZE[0] * SIZE[1]
        assert cost.parameters == cost.parameters_with_flow == sum(p.numel() for p in smaller.parameters())
        assert cost.parameters == layout.parameters(plan.kept_counts)


def test_gates_of_a_flow_net_are_no_weights_of_it() -> None:
    """They are driven to zero while the flow net's weights stand still."""
    network = build(small_basicvsr(flow_pruned=True))
    network.train_flow(False)
    assert network.flow_net is not None
    still = {name for name, parameter in network.flow_net.named_parameters() if not parameter.requires_grad}
    assert still == {name for name in network.flow_net.state_dict() if not name.endswith("gate")}
    assert len(still) == 2 * 2 * 2  # weight and bias of two convolutions in two levels


def test_a_network_with_a_pruned_flow_net_is_saved_and_frozen(tmp_path: Path) -> None:
    network = random_network(small_basicvsr(**THREE_LEVELS, flow_pruned=True, flow_skipped=1), dtype=torch.float32)
    smaller = compact(network, random_plan(network.channel_layout("rsc"), "rsc", 1)).eval()
    clip = random_clip(3, 16, 24, dtype=torch.float32)
    save_network(smaller, tmp_path)
    expected = smaller(clip).frames_NTCHW
    torch.testing.assert_close(load_network(tmp_path).eval()(clip).frames_NTCHW, expected)
    frozen, _ = freeze(smaller, clip, lambda call: (call(), 1.0)[1])  # type: ignore[func-returns-value]
    torch.testing.assert_close(frozen(clip), expected, rtol=1e-4, atol=1e-4)


def checkpoint(network: nn.Module, file: Path, names: dict[str, str] | None = None) -> Path:
    values = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_file({(names or {}).get(name, name): value for name, value in values.items()}, file)
    return file


@every_family
def test_a_network_with_all_levels_serves_one_that_skips_some(family: str, tmp_path: Path) -> None:
    whole = random_network(FAMILIES[family](**THREE_LEVELS), dtype=torch.float32)
    file = checkpoint(whole, tmp_path / "whole.safetensors")
    fewer = load_dense(file, FAMILIES[family](**THREE_LEVELS, flow_skipped=1))
    assert fewer.flow_net is not None
    assert whole.flow_net is not None
    expected = {name: value for name, value in whole.flow_net.state_dict().items() if not name.startswith("levels.2.")}
    assert list(fewer.flow_net.state_dict()) == list(expected)
    for name, value in fewer.flow_net.state_dict().items():
        assert torch.equal(value, expected[name])


def test_so_does_a_flow_net_by_itself(tmp_path: Path) -> None:
    whole = random_network(small_basicvsr(**THREE_LEVELS), dtype=torch.float32).flow_net
    assert whole is not None
    layers = {f"levels.{level}.{layer}": f"basic_module.{level}.basic_module.{layer}"
              for level, layer in itertools.product(range(3), (0, 2, 4))}  # fmt: skip
    names = {f"{ours}.{kind}": f"{theirs}.{kind}" for ours, theirs in layers.items() for kind in ("weight", "bias")}
    network = build(small_basicvsr(**THREE_LEVELS, flow_skipped=2))
    load_flow(checkpoint(whole, tmp_path / "spynet.safetensors", names), network)
    assert network.flow_net is not None
    for name, value in network.flow_net.state_dict().items():
        assert torch.equal(value, whole.state_dict()[name])


@every_family
def test_arguments_that_came_later_change_no_key_at_their_defaults(family: str) -> None:
    def identity(**changes: Any) -> dict[str, Any]:
        return identity_of(FAMILIES[family](**changes))

    assert not {"flow_skipped", "flow_pruned"} & set(identity())
    assert identity(flow_skipped=1) == {**identity(), "flow_skipped": 1}
    assert identity(flow_pruned=True) == {**identity(), "flow_pruned": True}


@every_family
def test_one_level_at_least_is_left(family: str) -> None:
    with pytest.raises(UserError, match=r"model\.flow_skipped must be smaller than model\.flow_levels, 2, .*; got 2"):
        FAMILIES[family](flow_skipped=2)


def test_macs_of_the_flow_net_are_halved_by_cutting_it_alone() -> None:
    """The parts of the layout part the flow net from the rest."""
    network = build(small_basicvsr(**THREE_LEVELS, flow_pruned=True))
    layout = network.channel_layout("rsc")
    cut = {group.name: range(group.size // 2) for group in layout.groups if group.part == "flow"}
    smaller = compact(network, PrunePlan.cutting("rsc", layout, cut))
    clip = torch.empty(1, 2, 3, *SIZE, device="meta")
    before, after = (counted(net.to("meta").flows, clip)[0] for net in (network, smaller))
    assert 0.3 * before < after < 0.6 * before
