"""The equations that define the methods SSL is compared with."""

from __future__ import annotations

import copy
from itertools import product

import numpy as np
import pytest
import torch

from vsrprune.channels.layout import ChannelLayout
from vsrprune.channels.plan import PrunePlan
from vsrprune.errors import UserError
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.basicvsr.spec import BasicVSRArguments, basicvsr_layout
from vsrprune.networks.edsr_rcan.spec import EDSRArguments, RCANArguments, edsr_layout, rcan_layout
from vsrprune.networks.rrn.spec import RRNArguments, rrn_layout
from vsrprune.pruning.alignment import agreement, alignment_loss, shared_gates
from vsrprune.pruning.masking import mask_smallest, zero_costs
from vsrprune.pruning.penalty import CutFilters
from vsrprune.pruning.reparametrisation import bake, hold_zeros, normalise_filters
from vsrprune.pruning.scores.table import score_units
from vsrprune.pruning.surgery import compact, equivalence_error
from vsrprune.selection.asked import Asked, amount
from vsrprune.selection.units import select
from vsrprune.selection.widths import narrow_plan

# ASSL


@pytest.mark.parametrize("rule", ["aligned", "rsc"])
def test_normalised_filters_leave_the_function_as_it_was(rule: str, random_network, random_clip) -> None:
    network = random_network()
    layout, clip = network.channel_layout(rule), random_clip(3)
    before = network(clip).frames_NTCHW
    folded_norms = {
        conv.name: network.get_submodule(conv.name).folded()[0].flatten(1).norm(dim=1)
        for conv in layout.convs
        if hasattr(network.get_submodule(conv.name), "gate")
    }
    normalise_filters(network, layout)
    torch.testing.assert_close(network(clip).frames_NTCHW, before, rtol=1e-11, atol=1e-11)
    for conv in layout.convs:
        module = network.get_submodule(conv.name)
        if conv.name not in folded_norms:
            continue
        units = module.weight.reshape(module.gate.numel(), -1)
        torch.testing.assert_close(units.norm(dim=1), torch.ones(len(units), dtype=units.dtype))
        joint = folded_norms[conv.name].view(-1, conv.filters_per_unit).square().sum(dim=1).sqrt()
        torch.testing.assert_close(module.gate.detach(), joint)  # the filters of a pixel-shuffle group share one
        assert module.input_gate is None or bool((module.input_gate == 1).all())
    bake(network)
    torch.testing.assert_close(network(clip).frames_NTCHW, before, rtol=1e-11, atol=1e-11)
    assert set(network.state_dict()) == set(random_network().state_dict())


def test_normalised_filters_stay_so_while_they_train(random_network, random_clip) -> None:
    network = random_network()
    layout = network.channel_layout("aligned")
    normalise_filters(network, layout)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    before = network.get_submodule("fusion").weight.detach().clone()
    network(random_clip(2)).frames_NTCHW.square().mean().backward()
    optimizer.step()
    weight = network.get_submodule("fusion").weight.detach()
    assert (weight - before).abs().max() > 1e-3
    torch.testing.assert_close(weight.flatten(1).norm(dim=1), torch.ones(len(weight), dtype=weight.dtype))


@pytest.mark.parametrize("bias", [0.0, -0.75])
def test_a_filter_of_zeros_neither_becomes_nan_nor_changes_the_function(
    bias: float, random_network, random_clip
) -> None:
    """Of a convolution, and of the four filters that make one channel after a pixel shuffle; in float32, as trained."""
    network, clip = random_network(dtype=torch.float32), random_clip(2).float()
    layout = network.channel_layout("aligned")
    block, up = network.get_submodule("forward_trunk.blocks.0.conv2"), network.get_submodule("upconv1")
    with torch.no_grad():
        for conv, filters in ((block, slice(1, 2)), (up, slice(4, 8))):
            conv.weight[filters] = 0.0
            conv.bias[filters] = bias
            conv.gate[1] = 1.0
    before = network(clip).frames_NTCHW
    normalise_filters(network, layout)
    torch.testing.assert_close(network(clip).frames_NTCHW, before, rtol=1e-4, atol=1e-5)
    assert block.gate[1].item() == pytest.approx(abs(bias))
    assert up.gate[1].item() == pytest.approx(2 * abs(bias))  # of four biases the norm
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        network(clip).frames_NTCHW.square().mean().backward()
        optimizer.step()
    assert all(bool(torch.isfinite(parameter).all()) for parameter in network.parameters())
    assert bool((block.gate[1] == 0).item()) == (bias == 0)  # nothing reaches a channel that is nothing
    bake(network)
    assert bool(torch.isfinite(network(clip).frames_NTCHW).all())


def test_alignment_loss_by_hand() -> None:
    gates = torch.tensor([[3.0, 1.0], [2.0, 5.0]], dtype=torch.float64, requires_grad=True)
    half, up, down = 0.5, 1 / (1 + np.exp(-3)), 1 / (1 + np.exp(2))
    masks = np.array([[half, down], [half, up]])  # thresholds are 3 and 5: each layer keeps one
    masks[1] = [1 / (1 + np.exp(3)), half]
    loss = alignment_loss(gates, kept=1)
    assert loss.item() == pytest.approx(-(masks @ masks.T).mean(), rel=1e-12)
    loss.backward()
    assert gates.grad is not None
    assert bool((gates.grad < 0).all())  # more of a channel in one layer agrees better with all the others


def test_training_the_alignment_brings_layers_to_agree() -> None:
    gates = torch.rand(6, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert agreement([gates.detach()], [8]) < 0.4
    optimizer = torch.optim.SGD([gates], lr=1.0)
    for _ in range(300):
        optimizer.zero_grad()
        alignment_loss(gates, 8).backward()
        optimizer.step()
        with torch.no_grad():
            gates.sub_(gates.mean(dim=1, keepdim=True))  # the reconstruction holds their size
    assert agreement([gates.detach()], [8]) == 1


def test_agreement_by_hand() -> None:
    same = torch.tensor([[4.0, 3.0, 2.0, 1.0], [40.0, 30.0, 20.0, 10.0]])
    assert agreement([same], [2]) == 1
    assert agreement([torch.stack([same[0], same[0].flip(0)])], [2]) == 0
    assert agreement([torch.tensor([[4.0, 3.0, 2.0, 1.0], [4.0, 1.0, 3.0, 2.0]])], [2]) == pytest.approx(1 / 3)


def test_layers_that_share_no_channels_agree() -> None:
    assert agreement([], []) == 1


def test_gates_are_shared_by_the_layers_that_write_a_stream(random_network) -> None:
    network = random_network()  # two blocks per branch
    found = dict(shared_gates(network, network.channel_layout("aligned")))
    assert set(found) == {"backward_trunk.stream", "forward_trunk.stream"}
    expected = [
        network.get_parameter(f"forward_trunk.{name}.gate") for name in ("first", "blocks.0.conv2", "blocks.1.conv2")
    ]
    assert torch.equal(found["forward_trunk.stream"], torch.stack(expected))
    assert shared_gates(network, network.channel_layout("rsc")) == []


# SRP


@pytest.mark.parametrize("rule", ["aligned", "inner", "rsc"])
def test_the_gradient_of_srp_is_lambda_times_the_cut_filters(rule: str, random_network) -> None:
    network = random_network()
    layout = network.channel_layout(rule)
    plan = PrunePlan.cutting(
        rule, layout, {group.name: [index % group.size] for index, group in enumerate(layout.groups)}
    )
    CutFilters(network, plan).penalty(network, 0.07).backward()
    expected = {name: torch.zeros_like(value) for name, value in network.named_parameters()}
    for group in layout.groups:
        for gate in group.gates:
            if gate.side == "output":
                conv = network.get_submodule(gate.conv)
                each = conv.out_channels // group.size
                rows = [unit * each + index for unit in plan.cut(group.name) for index in range(each)]
                for kind in ("weight", "bias"):
                    expected[f"{gate.conv}.{kind}"][rows] = 0.07 * getattr(conv, kind).detach()[rows]
    for name, parameter in network.named_parameters():
        got = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(got, expected[name], rtol=1e-12, atol=0)


def test_a_plan_that_cuts_nothing_has_no_filter_penalty(random_network) -> None:
    network = random_network()
    plan = PrunePlan.keep_all("aligned", network.channel_layout("aligned"))
    assert CutFilters(network, plan).penalty(network, 0.1).item() == 0
    assert CutFilters(network, plan).magnitudes(network) == {}


def test_filter_norms_are_relative_to_those_that_stay(random_network) -> None:
    network = random_network()
    plan = PrunePlan.cutting("aligned", network.channel_layout("aligned"), {"conv_hr": [1]})
    conv = network.get_submodule("conv_hr")
    with torch.no_grad():
        conv.weight.fill_(0.5)
        conv.weight[1] = 0.05
    norms = CutFilters(network, plan).magnitudes(network)
    assert list(norms) == ["conv_hr"]
    assert norms["conv_hr"].tolist() == pytest.approx([0.1])


def test_srp_ranks_a_stream_by_its_first_layer(random_network) -> None:
    network = random_network()
    layout = network.channel_layout("aligned")
    scores = score_units(network, layout, "l1_first")
    first = network.get_submodule("forward_trunk.first").folded()[0].abs().mean(dim=(1, 2, 3))
    np.testing.assert_allclose(scores["forward_trunk.stream"], first.detach().numpy(), rtol=1e-12)
    whole = score_units(network, layout, "l1")
    assert not np.allclose(scores["forward_trunk.stream"], whole["forward_trunk.stream"])
    np.testing.assert_array_equal(scores["fusion"], whole["fusion"])


# Single weights


def compacted(random_network) -> tuple[BasicVSR, BasicVSR]:
    dense = random_network()
    return dense, compact(dense, PrunePlan.keep_all("rsc", dense.channel_layout("rsc")))


@pytest.mark.parametrize("target", ["macs", "params"])
@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.5, 0.9])
def test_the_smallest_weights_are_masked_within_the_budget(target: str, ratio: float, random_network) -> None:
    _, network = compacted(random_network)
    layout = network.channel_layout("rsc")
    before = copy.deepcopy(network)
    asked = mask_smallest(network, layout, ratio, target)
    kept, gone, macs = [], [], 0
    for conv in layout.convs:
        old, new = (made.get_submodule(conv.name).weight.detach() for made in (before, network))
        assert torch.equal(new[new != 0], old[new != 0])
        assert torch.equal(network.get_submodule(conv.name).bias, before.get_submodule(conv.name).bias)
        kept.append(old[new != 0].abs().min() if (new != 0).any() else torch.tensor(torch.inf))
        gone.append(old[new == 0].abs().max() if (new == 0).any() else torch.tensor(-1.0))
        macs += conv.scale**2 * int((new != 0).sum())
    assert max(gone) <= min(kept)  # one ranking over all layers
    zero_macs, zeros = zero_costs(network, layout)
    assert macs == layout.macs_per_pixel() - zero_macs
    reached = macs if target == "macs" else layout.parameters() - zeros
    assert asked.reached == reached
    assert 0 <= reached - asked.wanted < 16  # the dearest weight costs 16 products per low-resolution pixel


def test_masked_weights_stay_zero_while_the_others_train(random_network, random_clip) -> None:
    _, network = compacted(random_network)
    layout = network.channel_layout("rsc")
    mask_smallest(network, layout, 0.5, "macs")
    zeros = {conv.name: network.get_submodule(conv.name).weight == 0 for conv in layout.convs}
    before = {conv.name: network.get_submodule(conv.name).weight.detach().clone() for conv in layout.convs}
    names = set(network.state_dict())
    hold_zeros(network, layout)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for length in (2, 3, 2):
        optimizer.zero_grad()
        network(random_clip(length)).frames_NTCHW.square().mean().backward()
        optimizer.step()
    bake(network)
    assert set(network.state_dict()) == names
    for name, mask in zeros.items():
        weight = network.get_submodule(name).weight.detach()
        assert torch.equal(weight == 0, mask)
        assert mask.all() or (weight - before[name])[~mask].abs().min() > 0


# Narrow networks


@pytest.mark.parametrize("target", ["macs", "params"])
@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.8])
@pytest.mark.parametrize(("channels", "upsampler"), [(32, 32), (24, 16)])
def test_narrow_widths_meet_the_budget(target: str, ratio: float, channels: int, upsampler: int) -> None:
    layout = basicvsr_layout(BasicVSRArguments(channels=channels, blocks=3, upsampler_channels=upsampler), "aligned")
    plan = narrow_plan(layout, Asked(rule="aligned", ratio=ratio, target=target, min_kept=1))
    whole = amount(layout, {group.name: group.size for group in layout.groups}, target)
    miss = abs(amount(layout, plan.kept_counts, target) / (whole * (1 - ratio)) - 1)
    assert miss <= 0.02
    assert all(channels == tuple(range(len(channels))) for channels in plan.kept.values())
    trunk = {len(plan.kept[group.name]) for group in layout.groups if group.part != "upsampler"}
    assert len(trunk) == 1


def test_where_no_width_meets_the_budget_the_nearest_is_taken() -> None:
    layout = basicvsr_layout(BasicVSRArguments(channels=3, blocks=1, upsampler_channels=3), "aligned")
    plan = narrow_plan(layout, Asked(rule="aligned", ratio=0.6, target="macs", min_kept=1))
    wanted = layout.macs_per_pixel() * 0.4
    misses = []
    for trunk, upsampler in product(range(1, 4), repeat=2):
        counts = {group.name: upsampler if group.part == "upsampler" else trunk for group in layout.groups}
        misses.append(abs(layout.macs_per_pixel(counts) - wanted))
    assert min(misses) / wanted > 0.02
    assert abs(layout.macs_per_pixel(plan.kept_counts) - wanted) == min(misses)


def test_a_narrow_network_is_the_architecture_with_fewer_channels() -> None:
    wide = BasicVSRArguments(channels=16, blocks=2, upsampler_channels=16)
    layout = basicvsr_layout(wide, "aligned")
    plan = PrunePlan.cutting("aligned", layout, {group.name: range(8, 16) for group in layout.groups})
    narrow = basicvsr_layout(BasicVSRArguments(channels=8, blocks=2, upsampler_channels=8), "aligned")
    assert layout.macs_per_pixel(plan.kept_counts) == narrow.macs_per_pixel()
    assert layout.parameters(plan.kept_counts) == narrow.parameters()


def test_a_width_below_min_kept_is_refused() -> None:
    layout = basicvsr_layout(BasicVSRArguments(channels=8, blocks=1, upsampler_channels=4), "aligned")
    with pytest.raises(UserError, match="min_kept=5 is more than the 4 channels"):
        narrow_plan(layout, Asked(rule="aligned", ratio=0.5, target="macs", min_kept=5))


@pytest.mark.parametrize(
    "layout",
    [rrn_layout(RRNArguments(32, 2), "aligned"), edsr_layout(EDSRArguments(32, 2, upscale_factors=()), "aligned")],
    ids=["rrn", "edsr at scale 1"],
)
def test_without_groups_in_the_upsampler_there_is_one_width(layout: ChannelLayout) -> None:
    assert "upsampler" not in layout.parts
    plan = narrow_plan(layout, Asked(rule="aligned", ratio=0.5, target="macs", min_kept=1))
    assert len(set(plan.kept_counts.values())) == 1
    by_width = [layout.macs_per_pixel({g.name: width for g in layout.groups}) for width in range(1, 33)]
    nearest = min(by_width, key=lambda macs: abs(macs - layout.macs_per_pixel() / 2))
    assert layout.macs_per_pixel(plan.kept_counts) == nearest


def test_min_kept_holds_in_the_narrowest_layers_too() -> None:
    """RCAN's attention has a few channels, of which a small share is none."""
    layout = rcan_layout(RCANArguments(channels=16, groups=1, blocks=1, reduction=4), "aligned")
    for min_kept in (1, 2, 3):
        plan = narrow_plan(layout, Asked(rule="aligned", ratio=0.97, target="macs", min_kept=min_kept))
        assert min(plan.kept_counts.values()) == plan.kept_counts["body.0.blocks.0.squeeze"] == min_kept


# Only some parts


@pytest.mark.parametrize("parts", [["backward"], ["forward"], ["upsampler"], ["backward", "forward"]])
@pytest.mark.parametrize("scope", ["global", "local"])
@pytest.mark.parametrize("target", ["units", "macs"])
def test_other_parts_stay_whole(parts: list[str], scope: str, target: str, random_network, random_clip) -> None:
    network = random_network(channels=16, upsampler_channels=16)
    layout = network.channel_layout("rsc")
    scores = score_units(network, layout, "l1")
    ratio = 0.3 if (scope, target) == ("local", "units") else 0.06  # of each layer there, else of the whole network
    plan = select(layout, scores, Asked(rule="rsc", ratio=ratio, target=target, scope=scope, parts=parts))
    for group in layout.groups:
        assert bool(plan.cut(group.name)) <= (group.part in parts)
    assert plan.units_cut > 0
    if target == "macs" and scope == "global":
        assert layout.macs_per_pixel(plan.kept_counts) == pytest.approx(0.94 * layout.macs_per_pixel(), rel=0.03)
    assert equivalence_error(network, plan, random_clip(2), torch.float64) < 1e-10


def test_what_some_parts_cannot_give_is_said() -> None:
    layout = basicvsr_layout(BasicVSRArguments(channels=8, blocks=1, upsampler_channels=8), "rsc")
    scores = {group.name: np.arange(group.size, dtype=float) for group in layout.groups}
    with pytest.raises(UserError, match=r"no unit in forward covers keep .*the largest reachable ratio is 0\.\d"):
        select(layout, scores, Asked(rule="rsc", ratio=0.9, target="macs", parts=["forward"]))
    with pytest.raises(UserError, match=r"leave \d+ to cut in forward"):
        select(layout, scores, Asked(rule="rsc", ratio=0.9, parts=["forward"]))
    with pytest.raises(UserError, match="parts must be one of"):
        select(layout, scores, Asked(rule="rsc", ratio=0.1, parts=["sideways"]))
