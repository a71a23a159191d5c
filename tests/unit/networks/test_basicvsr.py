"""BasicVSR: published figures, golden values, and what each state and channel must be."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from networks_made import random_clip, random_network, small_basicvsr
from torch.nn import functional as F

from vsrprune.channels.layout import RULES
from vsrprune.channels.plan import PrunePlan
from vsrprune.errors import UserError
from vsrprune.metrics.cost import network_cost
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.basicvsr.spec import BasicVSRArguments, basicvsr_layout
from vsrprune.networks.checkpoints import load_dense
from vsrprune.networks.parts.flow import SPyNet
from vsrprune.networks.parts.layers import warp
from vsrprune.pruning.surgery import compact

LOW = (180, 320)
PIXELS = LOW[0] * LOW[1]
GOLDENS = Path(__file__).parents[2] / "goldens"
BLOCK = "forward_trunk.blocks.0"

both_directions = pytest.mark.parametrize("bidirectional", [True, False], ids=["bi", "uni"])
every_rule = pytest.mark.parametrize("rule", RULES)


def still(frames_NTCHW: torch.Tensor, network: BasicVSR) -> dict[str, torch.Tensor]:
    """Flows without motion."""
    batch, length, _, height, width = frames_NTCHW.shape
    zeros = frames_NTCHW.new_zeros(batch, length - 1, 2, height, width)
    return {branch: zeros.clone() for branch in network.arguments.branches}


# Figures of the published size


@pytest.mark.parametrize(
    ("bidirectional", "parameters", "macs", "giga"),
    [(True, 4_851_011, 337_755_340_800, "337.755"), (False, 2_588_419, 207_658_598_400, "207.659")],
    ids=["bi", "uni"],
)
def test_published_size(bidirectional: bool, parameters: int, macs: int, giga: str) -> None:
    with torch.device("meta"):
        network = BasicVSR(BasicVSRArguments(bidirectional=bidirectional))
    cost = network_cost(network, LOW)
    assert cost.parameters == parameters
    assert cost.parameters_with_flow == parameters + 1_440_300
    assert sum(p.numel() for p in network.flow_net.parameters()) == 1_440_300
    assert cost.macs == macs
    assert f"{macs / 1e9:.3f}" == giga
    for rule in RULES:
        assert network.channel_layout(rule).macs_per_pixel() * PIXELS == macs
    calls = 2 if bidirectional else 1
    flow = (cost.macs_with_flow - cost.macs) / calls
    assert f"{flow / 1e9:.2f}" == "19.65"
    gates = sum(gate.numel() for gate in network.gate_parameters())
    assert gates == calls * (64 + 30 * 3 * 64) + (4 if bidirectional else 3) * 64
    assert sum(p.numel() for p in network.parameters()) == parameters + 1_440_300 + gates


def test_macs_of_the_parts() -> None:
    convs = basicvsr_layout(BasicVSRArguments(), "inner").convs

    def giga(prefix: str) -> str:
        macs = sum(
            c.kernel**2 * c.scale**2 * sum(slot.size for slot in c.inputs) * c.output.size * c.filters_per_unit
            for c in convs
            if c.name.startswith(prefix)
        )
        return f"{macs * PIXELS / 1e9:.2f}"

    figures = {
        "backward_trunk": "129.62",
        "forward_trunk": "129.62",
        "fusion": "0.47",
        "upconv1": "8.49",
        "upconv2": "33.97",
        "conv_hr": "33.97",
        "conv_last": "1.59",
    }
    assert {name: giga(name) for name in figures} == figures


@pytest.mark.parametrize(
    ("rule", "bidirectional", "units"),
    [
        ("rsc", True, 11_776),
        ("aligned", True, (2 + 60 + 4) * 64),
        ("inner", True, (60 + 4) * 64),
        ("rsc", False, (3 * 30 + 3) * 64),
        ("aligned", False, (1 + 30 + 3) * 64),
        ("inner", False, (30 + 3) * 64),
    ],
)
def test_number_of_units(rule: str, bidirectional: bool, units: int) -> None:
    assert basicvsr_layout(BasicVSRArguments(bidirectional=bidirectional), rule).units == units


def test_units_of_the_sparsity_connection_by_kind() -> None:
    groups = basicvsr_layout(BasicVSRArguments(), "rsc").groups
    by_kind: dict[str, int] = {}
    for group in groups:
        by_kind[group.kind] = by_kind.get(group.kind, 0) + group.size
    assert by_kind == {
        "input": 3840,
        "middle": 3840,
        "output": 3840,
        "fusion": 64,
        "shuffle": 128,
        "reconstruction": 64,
    }
    assert sum(by_kind.values()) - by_kind["input"] == 7936
    assert len({gate.conv for group in groups for gate in group.gates}) == 124
    assert all(len(group.gates) == 1 for group in groups)


@pytest.mark.parametrize(
    ("rule", "figures"),
    [
        ("rsc", ["169.7", "88.3", "34.3"]),
        ("aligned", ["167.4", "84.9", "30.1"]),
        ("inner", ["222.8", "152.0", "87.4"]),
    ],
)
def test_macs_of_a_uniform_cut(rule: str, figures: list[str]) -> None:
    layout = basicvsr_layout(BasicVSRArguments(), rule)
    kept = {0.3: 45, 0.5: 32, 0.7: 19}  # of 64: 19.2 -> 19, 32 and 44.8 -> 45 are cut
    macs = [layout.macs_per_pixel({g.name: count for g in layout.groups}) * PIXELS / 1e9 for count in kept.values()]
    assert [f"{value:.1f}" for value in macs] == figures


# Which channels live and die together


@both_directions
@every_rule
def test_layout_names_the_networks_own_layers(rule: str, bidirectional: bool) -> None:
    network = BasicVSR(small_basicvsr(bidirectional))
    layout = network.channel_layout(rule)
    for conv in layout.convs:
        weight = network.get_parameter(f"{conv.name}.weight")
        inputs = sum(slot.size for slot in conv.inputs)
        assert tuple(weight.shape) == (conv.output.size * conv.filters_per_unit, inputs, conv.kernel, conv.kernel)
    for group in layout.groups:
        assert group.part in ("backward", "forward", "upsampler")
        for gate in group.gates:
            assert network.get_parameter(gate.parameter).shape == (group.size,)
    declared = {conv.name for conv in layout.convs}
    convs = {name for name, module in network.named_modules() if isinstance(module, torch.nn.Conv2d)}
    assert declared == {name for name in convs if not name.startswith("flow_net")}


@every_rule
def test_stream_is_cut_only_where_the_rule_says_so(rule: str) -> None:
    layout = basicvsr_layout(small_basicvsr(), rule)
    convs = {conv.name: conv for conv in layout.convs}
    stream = {"backward": "backward_trunk.stream", "forward": "forward_trunk.stream"}
    whole = rule != "aligned"
    assert [slot.group for slot in convs["fusion"].inputs] == [None if whole else name for name in stream.values()]
    for name in ("backward", "forward"):
        expected = None if whole else stream[name]
        first = convs[f"{name}_trunk.first"]
        assert first.output.group == expected
        assert [(slot.size, slot.group) for slot in first.inputs] == [(3, None), (4, expected)]
    conv1, conv2 = convs[f"{BLOCK}.conv1"], convs[f"{BLOCK}.conv2"]
    sides = {
        "rsc": (f"{BLOCK}.conv1.input", f"{BLOCK}.conv2"),
        "aligned": ("forward_trunk.stream", "forward_trunk.stream"),
        "inner": (None, None),
    }
    assert (conv1.inputs[0].group, conv2.output.group) == sides[rule]
    assert conv1.output.group == conv2.inputs[0].group == f"{BLOCK}.conv1"
    assert convs["conv_last"].output.group is None


def test_aligned_unit_has_every_gate_on_its_way() -> None:
    layout = basicvsr_layout(small_basicvsr(), "aligned")
    (stream,) = [group for group in layout.groups if group.name == "forward_trunk.stream"]
    assert [gate.parameter for gate in stream.gates] == [
        "forward_trunk.first.gate",
        "forward_trunk.blocks.0.conv1.input_gate",
        "forward_trunk.blocks.0.conv2.gate",
        "forward_trunk.blocks.1.conv1.input_gate",
        "forward_trunk.blocks.1.conv2.gate",
    ]


@every_rule
def test_without_fusion_upconv1_reads_the_stream(rule: str) -> None:
    layout = basicvsr_layout(small_basicvsr(bidirectional=False), rule)
    (upconv1,) = [conv for conv in layout.convs if conv.name == "upconv1"]
    assert upconv1.inputs[0].group == ("forward_trunk.stream" if rule == "aligned" else None)


# A zero gate makes a channel exactly zero


@pytest.mark.parametrize(
    ("gate", "reader"),
    [
        ("forward_trunk.first.gate", f"{BLOCK}.conv1"),
        (f"{BLOCK}.conv1.gate", f"{BLOCK}.conv2"),
        ("fusion.gate", "upconv1"),
        ("upconv1.gate", "upconv2"),
        ("upconv2.gate", "conv_hr"),
        ("conv_hr.gate", "conv_last"),
    ],
)
def test_zero_gate_silences_exactly_its_channel(gate: str, reader: str) -> None:
    network = random_network(small_basicvsr())
    seen: list[torch.Tensor] = []
    network.get_submodule(reader).register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    with torch.no_grad():
        network.get_parameter(gate)[2] = 0.0
        network(random_clip(3))
    assert len(seen) == 3
    for read_NCHW in seen:
        silent = (read_NCHW == 0).all(dim=3).all(dim=2)[0]
        assert silent[2]
    alive = torch.stack([read_NCHW.abs().amax(dim=(0, 2, 3)) for read_NCHW in seen]).amax(dim=0) > 0
    assert alive.sum() > 1
    assert not alive[2]


def test_zero_gates_on_both_sides_of_a_block_leave_the_stream_alone() -> None:
    network = random_network(small_basicvsr())
    block = network.get_submodule(BLOCK)
    stream_NCHW = random_clip(1)[:, 0, :1].repeat(1, 4, 1, 1) + torch.arange(4.0).view(1, 4, 1, 1)
    louder_NCHW = stream_NCHW.clone()
    louder_NCHW[:, 1] *= 3
    with torch.no_grad():
        assert not torch.equal(block(stream_NCHW)[:, 0], stream_NCHW[:, 0])
        block.conv2.gate[0] = 0.0
        assert torch.equal(block(stream_NCHW)[:, 0], stream_NCHW[:, 0])  # not written
        assert not torch.equal(block.conv1(louder_NCHW), block.conv1(stream_NCHW))
        block.conv1.input_gate[1] = 0.0
        assert torch.equal(block.conv1(louder_NCHW), block.conv1(stream_NCHW))  # not read


def test_aligned_unit_at_zero_is_zero_in_every_hidden_state() -> None:
    network = random_network(small_basicvsr())
    with torch.no_grad():
        for name in ("first.gate", "blocks.0.conv2.gate", "blocks.1.conv2.gate"):
            network.get_parameter(f"forward_trunk.{name}")[3] = 0.0
        hidden = network(random_clip(4)).hidden
    assert all((state[:, 3] == 0).all() for state in hidden["forward"])
    assert all((state[:, 3] != 0).any() for state in hidden["backward"])
    assert all((state[:, :3] != 0).any() for state in hidden["forward"])


# Propagation


@both_directions
@pytest.mark.parametrize("length", [1, 2, 4])
@pytest.mark.parametrize("size", [(7, 9), (5, 3), (8, 12)], ids=str)
def test_shapes(length: int, size: tuple[int, int], bidirectional: bool) -> None:
    network = random_network(small_basicvsr(bidirectional))
    with torch.no_grad():
        output = network(random_clip(length, *size, batch=2))
    assert output.frames_NTCHW.shape == (2, length, 3, 4 * size[0], 4 * size[1])
    assert torch.isfinite(output.frames_NTCHW).all()
    assert list(output.hidden) == (["backward", "forward"] if bidirectional else ["forward"])
    for states in output.hidden.values():
        assert [tuple(state.shape) for state in states] == [(2, 4, *size)] * length


@pytest.mark.parametrize("factors", [(2,), (3,), (2, 2), (2, 3)], ids=str)
def test_other_scales(factors: tuple[int, ...]) -> None:
    network = random_network(small_basicvsr(upscale_factors=factors))
    with torch.no_grad():
        output = network(random_clip(2, 5, 6))
    scale = math.prod(factors)
    assert output.frames_NTCHW.shape == (1, 2, 3, 5 * scale, 6 * scale)


@both_directions
def test_at_scale_1_detail_is_added_to_the_frame_itself(bidirectional: bool) -> None:
    network = random_network(small_basicvsr(bidirectional, upscale_factors=()))
    assert network.arguments.scale == 1
    assert not [name for name in network.state_dict() if "upconv" in name]
    frames_NTCHW = random_clip(3, 5, 6)
    with torch.no_grad():
        for parameter in network.conv_last.parameters():
            parameter.zero_()
        assert torch.equal(network(frames_NTCHW).frames_NTCHW, frames_NTCHW)


@both_directions
@every_rule
def test_at_scale_1_there_are_no_shuffle_groups(rule: str, bidirectional: bool) -> None:
    layout = basicvsr_layout(small_basicvsr(bidirectional=bidirectional, upscale_factors=()), rule)
    kinds = [group.kind for group in layout.groups if group.part == "upsampler"]
    assert kinds == (["fusion", "reconstruction"] if bidirectional else ["reconstruction"])
    (conv_hr,) = [conv for conv in layout.convs if conv.name == "conv_hr"]
    stream = "forward_trunk.stream" if rule == "aligned" else None
    assert conv_hr.inputs[0].group == ("fusion" if bidirectional else stream)
    assert conv_hr.scale == 1


def test_unidirectional_has_no_backward_and_no_fusion() -> None:
    network = BasicVSR(small_basicvsr(bidirectional=False))
    assert network.arguments.branches == ("forward",)
    assert not [name for name in network.state_dict() if "backward" in name or "fusion" in name]
    assert [name for name in BasicVSR(small_basicvsr()).state_dict() if "backward" in name]
    for rule in RULES:
        layout = network.channel_layout(rule)
        assert {group.part for group in layout.groups} == {"forward", "upsampler"}
        assert "fusion" not in {conv.name for conv in layout.convs}
    assert set(network.flows(random_clip(3).float())) == {"forward"}


@both_directions
@pytest.mark.parametrize("length", [1, 4])
def test_flows_given_equal_flows_computed(length: int, bidirectional: bool) -> None:
    network = random_network(small_basicvsr(bidirectional))
    frames_NTCHW = random_clip(length)
    with torch.no_grad():
        flows = network.flows(frames_NTCHW)
        given, computed = network(frames_NTCHW, flows), network(frames_NTCHW)
        states = network.hidden_states(frames_NTCHW, flows)
        motionless = network(frames_NTCHW, still(frames_NTCHW, network))
    assert all(flow.shape == (1, length - 1, 2, 7, 9) for flow in flows.values())
    assert torch.equal(given.frames_NTCHW, computed.frames_NTCHW)
    for branch, expected in computed.hidden.items():
        assert all(torch.equal(a, b) for a, b in zip(states[branch], expected, strict=True))
    assert torch.equal(motionless.frames_NTCHW, computed.frames_NTCHW) == (length == 1)


def test_flows_belong_to_the_right_pairs_of_frames() -> None:
    network = random_network(small_basicvsr())
    frames_NTCHW = random_clip(3)
    with torch.no_grad():
        flows = network.flows(frames_NTCHW)
        for t in range(2):
            now, after = frames_NTCHW[:, t], frames_NTCHW[:, t + 1]
            torch.testing.assert_close(flows["backward"][:, t], network.flow_net(now, after))
            torch.testing.assert_close(flows["forward"][:, t], network.flow_net(after, now))


def test_untrained_flow_net_says_no_motion() -> None:
    network = BasicVSR(small_basicvsr())
    assert not any(flow.any() for flow in network.flows(random_clip(3).float()).values())


def silent_flow_net() -> SPyNet:
    """Two levels of convolutions 8 -> 4 -> 2, all weights and biases zero."""
    flow_net = SPyNet(levels=2, kernel=3, widths=(4,)).double()
    with torch.no_grad():
        for parameter in flow_net.parameters():
            parameter.zero_()
    return flow_net


def test_coarse_flow_is_doubled_and_scaled_back_to_an_odd_size() -> None:
    """7x9 is worked on at 8x10: levels say (1, 2) and (0.5, -1), so (2.5, 3) there, in pixels of 7x9 a little less."""
    flow_net = silent_flow_net()
    frame_NCHW = random_clip(1)[:, 0]
    with torch.no_grad():
        flow_net.levels[0][-1].bias.copy_(torch.tensor([1.0, 2.0]))
        flow_net.levels[1][-1].bias.copy_(torch.tensor([0.5, -1.0]))
        flow_N2HW = flow_net(frame_NCHW, frame_NCHW)
    expected_N2HW = torch.tensor([2.5 * 9 / 10, 3.0 * 7 / 8], dtype=torch.float64).view(1, 2, 1, 1).expand(1, 2, 7, 9)
    torch.testing.assert_close(flow_N2HW, expected_N2HW, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("channel", "seen"),
    [(0, (0.2 - 0.485) / 0.229), (2, (0.2 - 0.406) / 0.225), (3, (0.8 - 0.485) / 0.229), (6, 100.0), (7, -60.0)],
    ids=["reference red", "reference blue", "warped red", "flow x", "flow y"],
)
def test_a_flow_level_reads_reference_warped_frame_and_flow(channel: int, seen: float) -> None:
    """Level 1 adds one of its input channels to the flow's x; the flow points far outside, where the border goes on."""
    flow_net = silent_flow_net()
    offset = 100.0  # through the ReLU and off again
    with torch.no_grad():
        flow_net.levels[0][-1].bias.copy_(torch.tensor([50.0, -30.0]))
        first, last = flow_net.levels[1][0], flow_net.levels[1][-1]
        first.weight[0, channel, 1, 1] = 1.0
        first.bias[0] = offset
        last.weight[0, 0, 1, 1] = 1.0
        last.bias[0] = -offset
        reference_NCHW = torch.full((1, 3, 8, 12), 0.2, dtype=torch.float64)
        flow_N2HW = flow_net(reference_NCHW, torch.full_like(reference_NCHW, 0.8))
    expected_N2HW = torch.tensor([100.0 + seen, -60.0], dtype=torch.float64).view(1, 2, 1, 1).expand(1, 2, 8, 12)
    torch.testing.assert_close(flow_N2HW, expected_N2HW, rtol=0, atol=1e-5)  # mean and std are kept in float32


def test_states_of_a_branch_know_only_the_frames_it_has_seen() -> None:
    """Frame order in the lists: changing a frame changes the states at and after it, on the branch's way."""
    network = random_network(small_basicvsr())
    frames_NTCHW = random_clip(4)
    other_NTCHW = frames_NTCHW.clone()
    other_NTCHW[:, 1] = 1 - other_NTCHW[:, 1]
    flows = still(frames_NTCHW, network)
    with torch.no_grad():
        before, after = network(frames_NTCHW, flows), network(other_NTCHW, flows)
    changed = {
        branch: [not torch.equal(a, b) for a, b in zip(states, after.hidden[branch], strict=True)]
        for branch, states in before.hidden.items()
    }
    assert changed == {"backward": [True, True, False, False], "forward": [False, True, True, True]}


def shifted_left(state_NCHW: torch.Tensor) -> torch.Tensor:
    """What a flow of one pixel in x fetches: the right neighbour, zero beyond the border."""
    return F.pad(state_NCHW[..., 1:], (0, 1))


def shifted_up(state_NCHW: torch.Tensor) -> torch.Tensor:
    return F.pad(state_NCHW[..., 1:, :], (0, 0, 0, 1))


def test_propagation_by_hand() -> None:
    """Three frames; from frame to frame the flow is one pixel in x, then one in y."""
    network = random_network(small_basicvsr())
    frames_NTCHW = random_clip(3)
    flows = still(frames_NTCHW, network)
    for flow_NT2HW in flows.values():
        flow_NT2HW[:, 0, 0] = 1.0
        flow_NT2HW[:, 1, 1] = 1.0

    def step(branch: str, t: int, state_NCHW: torch.Tensor) -> torch.Tensor:
        trunk = network.get_submodule(f"{branch}_trunk")
        first_NCHW = F.leaky_relu(conv(trunk.first, torch.cat((frames_NTCHW[:, t], state_NCHW), 1)), 0.1)
        for block in trunk.blocks:
            first_NCHW = first_NCHW + conv(block.conv2, F.relu(conv(block.conv1, first_NCHW)))
        return first_NCHW

    def conv(layer: torch.nn.Module, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Gates on the feature maps instead of the weights."""
        if layer.input_gate is not None:
            x_NCHW = x_NCHW * layer.input_gate.view(1, -1, 1, 1)
        return F.conv2d(x_NCHW, layer.weight, layer.bias, padding=1) * layer.gate.view(1, -1, 1, 1)

    zeros_NCHW = torch.zeros(1, 4, 7, 9, dtype=torch.float64)
    with torch.no_grad():
        forward = [step("forward", 0, zeros_NCHW)]
        forward.append(step("forward", 1, shifted_left(forward[0])))
        forward.append(step("forward", 2, shifted_up(forward[1])))
        backward = [step("backward", 2, zeros_NCHW)]
        backward.append(step("backward", 1, shifted_up(backward[0])))
        backward.append(step("backward", 0, shifted_left(backward[1])))
        hidden = network.hidden_states(frames_NTCHW, flows)
    for got, expected in zip(hidden["forward"], forward, strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-11)
    for got, expected in zip(hidden["backward"], backward[::-1], strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-11)


@both_directions
def test_upsampler_by_hand(bidirectional: bool) -> None:
    """Fusion reads backward then forward; gates multiply maps, the shuffle is written out."""
    network = random_network(small_basicvsr(bidirectional, slope=0.2))
    frames_NTCHW = random_clip(2, 4, 5)

    def shuffle(x_NCHW: torch.Tensor) -> torch.Tensor:
        out_NCHW = torch.empty(1, x_NCHW.shape[1] // 4, 2 * x_NCHW.shape[2], 2 * x_NCHW.shape[3], dtype=torch.float64)
        for filter_ in range(x_NCHW.shape[1]):
            out_NCHW[:, filter_ // 4, filter_ % 4 // 2 :: 2, filter_ % 2 :: 2] = x_NCHW[:, filter_]
        return out_NCHW

    def gated(name: str, x_NCHW: torch.Tensor) -> torch.Tensor:
        layer = network.get_submodule(name)
        out_NCHW = F.conv2d(x_NCHW, layer.weight, layer.bias, padding=layer.weight.shape[-1] // 2)
        if name.startswith("upconv"):
            out_NCHW = shuffle(out_NCHW)
        return F.leaky_relu(out_NCHW * layer.gate.view(1, -1, 1, 1), 0.2)

    with torch.no_grad():
        output = network(frames_NTCHW)
        for t in range(2):
            x_NCHW = torch.cat([states[t] for states in output.hidden.values()], dim=1)
            if bidirectional:
                assert torch.equal(x_NCHW[:, :4], output.hidden["backward"][t])
                x_NCHW = gated("fusion", x_NCHW)
            for name in ("upconv1", "upconv2", "conv_hr"):
                x_NCHW = gated(name, x_NCHW)
            detail_NCHW = F.conv2d(x_NCHW, network.conv_last.weight, network.conv_last.bias, padding=1)
            base_NCHW = F.interpolate(frames_NTCHW[:, t], scale_factor=4, mode="bilinear", align_corners=False)
            torch.testing.assert_close(output.frames_NTCHW[:, t], base_NCHW + detail_NCHW, rtol=0, atol=1e-11)


def test_without_detail_the_output_is_the_bilinear_frame() -> None:
    network = random_network(small_basicvsr())
    frames_NTCHW = torch.full((1, 2, 3, 4, 4), 0.25, dtype=torch.float64)
    with torch.no_grad():
        network.conv_last.weight.zero_()
        network.conv_last.bias.copy_(torch.tensor([0.0, 0.5, -1.0]))
        output_NTCHW = network(frames_NTCHW).frames_NTCHW
    expected_NTCHW = torch.tensor([0.25, 0.75, -0.75], dtype=torch.float64).view(1, 1, 3, 1, 1).expand(1, 2, 3, 16, 16)
    torch.testing.assert_close(output_NTCHW, expected_NTCHW, rtol=0, atol=1e-12)


def test_clips_of_a_batch_do_not_mix() -> None:
    network = random_network(small_basicvsr())
    frames_NTCHW = random_clip(3, batch=2)
    with torch.no_grad():
        both = network(frames_NTCHW).frames_NTCHW
        alone = network(frames_NTCHW[1:]).frames_NTCHW
    torch.testing.assert_close(both[1:], alone, rtol=0, atol=1e-11)


def test_input_is_left_as_it_was() -> None:
    network = random_network(small_basicvsr())
    frames_NTCHW = random_clip(3)
    before = frames_NTCHW.clone()
    with torch.no_grad():
        network(frames_NTCHW)
    assert torch.equal(frames_NTCHW, before)


# Compact networks, as the model builds them


@every_rule
def test_compact_network_says_what_is_left_of_its_stream(rule: str) -> None:
    network = random_network(small_basicvsr())
    assert network.stream_channels("forward") is None
    layout = network.channel_layout(rule)
    plan = PrunePlan.cutting(rule, layout, {group.name: [1] for group in layout.groups})
    pruned = network.with_plan(plan)
    kept = (0, 2, 3) if rule == "aligned" else None
    assert pruned.stream_channels("forward") == pruned.stream_channels("backward") == kept
    assert pruned.gate_parameters() == []
    with torch.no_grad():
        hidden = pruned.float()(random_clip(2).float()).hidden
    assert {state.shape[1] for states in hidden.values() for state in states} == {3 if kept else 4}


def test_residual_convolutions_start_small() -> None:
    torch.manual_seed(0)
    network = BasicVSR(small_basicvsr(channels=32))
    for conv in ("conv1", "conv2"):
        layer = network.get_submodule(f"{BLOCK}.{conv}")
        assert layer.weight.std().item() == pytest.approx(0.1 * math.sqrt(2 / (9 * 32)), rel=0.05)
        assert not layer.bias.any()
    assert all(torch.equal(gate, torch.ones_like(gate)) for gate in network.gate_parameters())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channels": 0}, r"model\.channels must be at least 1; got 0"),
        ({"flow_kernel": 4}, r"model\.flow_kernel must be an odd number from 1 to 31; got 4"),
        (
            {"upscale_factors": (2, 1)},
            r"model\.upscale_factors must be factors, or none for scale 1, each from 2 to 8; got \(2, 1\)",
        ),
        ({"flow_widths": ()}, r"model\.flow_widths"),
        ({"slope": 1.0}, r"model\.slope must be in \[0, 1\); got 1"),
    ],
)
def test_bad_arguments_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        small_basicvsr(**changes)


def test_unknown_rule_is_refused() -> None:
    with pytest.raises(UserError, match="residual rule must be one of rsc, aligned, inner; got 'free'"):
        basicvsr_layout(small_basicvsr(), "free")


# Oracles that this project's code did not make: see tests/goldens/README.md


@pytest.fixture(scope="module")
def golden() -> tuple[BasicVSR, dict[str, torch.Tensor]]:
    """The golden network and values; outputs as float32, which they were before they were stored in 16 bits."""
    arguments = BasicVSRArguments(channels=16, blocks=2, upsampler_channels=64, flow_widths=(4, 8, 8, 4))
    network = load_dense(GOLDENS / "basicvsr.safetensors", arguments).eval()
    with np.load(GOLDENS / "basicvsr.npz") as file:
        values = {name: torch.from_numpy(file[name]).float() for name in file.files}
    for name, scale in (("output_NTCHW", "output_scale"), ("small_middle_NCHW", "small_middle_scale")):
        lowest, step = values.pop(scale)
        values[name] = lowest + step * values[name]
    return network, values


def golden_flows(values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """BasicSR's flows of the golden clip, by its published flow net."""
    return {branch: values[f"flows_{branch}"] for branch in ("backward", "forward")}


def test_golden_flows(golden) -> None:
    network, values = golden
    with torch.no_grad():
        flows = network.flows(values["frames_NTCHW"])
    for branch in ("forward", "backward"):
        assert values[f"small_flows_{branch}"].abs().max() > 1
        assert (flows[branch] - values[f"small_flows_{branch}"]).abs().max() < 1e-4


def test_golden_output_for_given_flows(golden) -> None:
    network, values = golden
    assert values["flows_forward"].abs().max() > 0.1
    with torch.no_grad():
        output_NTCHW = network(values["frames_NTCHW"], golden_flows(values)).frames_NTCHW
    assert (output_NTCHW - values["output_NTCHW"]).abs().max() < 1e-4


def test_golden_output_from_frames_alone(golden) -> None:
    """The middle frame depends on the flows of all five, in both directions."""
    network, values = golden
    with torch.no_grad():
        output_NTCHW = network(values["frames_NTCHW"]).frames_NTCHW
    assert (output_NTCHW[:, 2] - values["small_middle_NCHW"]).abs().max() < 1e-4


@every_rule
def test_golden_output_of_the_folded_network(golden, rule: str) -> None:
    network, values = golden
    pruned = compact(network, PrunePlan.keep_all(rule, network.channel_layout(rule)))
    with torch.no_grad():
        output_NTCHW = pruned(values["frames_NTCHW"], golden_flows(values)).frames_NTCHW
    assert (output_NTCHW - values["output_NTCHW"]).abs().max() < 1e-4


@pytest.mark.parametrize("bidirectional", [True, False])
def test_checkpointed_frames_have_the_same_gradients(bidirectional: bool) -> None:
    clip_NTCHW = random_clip(4)
    found = []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        network = random_network(small_basicvsr(bidirectional))
        network.checkpoint_frames = checkpointed
        output = network(clip_NTCHW)
        loss = output.frames_NTCHW.square().mean() + sum(states[-1].mean() for states in output.hidden.values())
        loss.backward()
        found.append((output.frames_NTCHW, {name: parameter.grad for name, parameter in network.named_parameters()}))
    (plain, gradients), (again, others) = found
    assert torch.equal(plain, again)
    assert gradients.keys() == others.keys()
    for name, gradient in gradients.items():
        assert (gradient is None) == (others[name] is None), name
        assert gradient is None or torch.equal(gradient, others[name]), name


def test_checkpointed_frames_keep_less_for_the_gradients() -> None:
    kept = []
    for checkpointed in (False, True):
        network = random_network(small_basicvsr())
        network.checkpoint_frames = checkpointed
        held: dict[int, int] = {}

        def pack(tensor: torch.Tensor, held: dict[int, int] = held) -> torch.Tensor:
            held[tensor.data_ptr()] = tensor.numel()
            return tensor

        clip_NTCHW = random_clip(8)
        with torch.no_grad():
            flows = network.flows(clip_NTCHW)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            network(clip_NTCHW, flows)
        kept.append(sum(held.values()))
    assert kept[1] < 0.5 * kept[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_sixteen_bit_states_are_sampled_at_the_right_pixel(dtype: torch.dtype) -> None:
    """Positions in bfloat16 would be off by up to four pixels at this width."""
    state_NCHW = torch.rand(1, 2, 3, 1500).to(dtype)
    flow_N2HW = torch.zeros(1, 2, 3, 1500)
    flow_N2HW[:, 0] = 1.0
    warped_NCHW = warp(state_NCHW, flow_N2HW)
    assert warped_NCHW.dtype == dtype
    torch.testing.assert_close(warped_NCHW[..., :-1], state_NCHW[..., 1:], rtol=0.01, atol=1e-3)
