"""BasicVSR++: published figures, BasicSR's names, and what each state and offset must be."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pytest
import torch
from networks_made import SMALL_FLOW, random_clip, random_network, randomise, small_basicvsr_pp
from torch import Tensor
from torch.nn import functional as F

from vsrprune.errors import UserError
from vsrprune.metrics.cost import counted
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.basicvsr.spec import BasicVSRArguments
from vsrprune.networks.basicvsr_pp.network import BasicVSRPlusPlus, SecondOrderAlignment
from vsrprune.networks.basicvsr_pp.spec import BasicVSRPPArguments
from vsrprune.networks.basicvsr_pp.weights import basicsr_names
from vsrprune.networks.parts.layers import warp
from vsrprune.pruning.gates import folded

BRANCHES = ("backward_1", "forward_1", "backward_2", "forward_2")
FLOW_PARAMETERS = 1_440_300
SIDES = (9, 11)


def ungated(named: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Parameters, or a state dict, without gates: published networks have none."""
    return {name: value for name, value in named if not name.endswith("gate")}


def size(module: torch.nn.Module) -> int:
    return sum(value.numel() for value in ungated(module.named_parameters()).values())


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def still(frames_NTCHW: Tensor) -> dict[str, Tensor]:
    """Flows without motion."""
    batch, length, _, height, width = frames_NTCHW.shape
    return {name: frames_NTCHW.new_zeros(batch, length - 1, 2, height, width) for name in ("backward", "forward")}


# The published network


def conv_size(inputs: int, outputs: int) -> int:
    return 9 * inputs * outputs + outputs


def test_published_size() -> None:
    """7.3 M with the flow net (table 1 of the paper); by hand, part by part."""
    with torch.device("meta"):
        network = BasicVSRPlusPlus(BasicVSRPPArguments())
    block = 2 * conv_size(64, 64)
    offsets = conv_size(3 * 64 + 4, 64) + 2 * conv_size(64, 64) + conv_size(64, 27 * 16)
    parts = {
        "flow_net": FLOW_PARAMETERS,
        "feat_extract": conv_size(3, 64) + 5 * block,
        "deform_align": 4 * (offsets + conv_size(128, 64)),
        "backbone": sum(conv_size(read * 64, 64) + 7 * block for read in (2, 3, 4, 5)),
        "reconstruction": conv_size(5 * 64, 64) + 5 * block,
        "upconv1": conv_size(64, 256),
        "upconv2": conv_size(64, 256),
        "conv_hr": conv_size(64, 64),
        "conv_last": conv_size(64, 3),
    }
    assert {name: size(part) for name, part in network.named_children()} == parts
    assert size(network) == 7_322_927


def test_published_cost() -> None:
    """From the second frame on; the first one has nothing to align."""
    with torch.device("meta"):
        network = BasicVSRPlusPlus(BasicVSRPPArguments())

    def macs(length: int) -> int:
        frames_NTCHW = torch.empty(1, length, 3, 180, 320, device="meta")
        return counted(network, frames_NTCHW, still(frames_NTCHW))[0]

    one = 9 * 64 * 64
    residual = 2 * one * (5 + 4 * 7 + 5)
    rest = 9 * 3 * 64 + (2 + 3 + 4 + 5) * one + 5 * one + 4 * one + 4 * 4 * one + 16 * (one + 9 * 64 * 3)
    align = 4 * (9 * 196 * 64 + 2 * one + 9 * 64 * 27 * 16 + 2 * one)
    assert macs(1) == (residual + rest) * 180 * 320
    assert macs(3) - macs(2) == macs(2) - macs(1) == (residual + rest + align) * 180 * 320 == 397_169_049_600


def test_branches_and_scale() -> None:
    arguments = BasicVSRPPArguments()
    assert (arguments.branches, arguments.directions, arguments.scale) == (BRANCHES, ("backward", "forward"), 4)
    assert small_basicvsr_pp(upscale_factors=()).scale == 1
    assert small_basicvsr_pp(upscale_factors=[2, 3]).scale == 6


def trunk_shapes(name: str, inputs: int, blocks: int) -> dict[str, tuple[int, ...]]:
    """BasicSR's ConvResidualBlocks of 4 channels."""
    convs = {f"{name}.main.0": (4, inputs, 3, 3)}
    return convs | {
        f"{name}.main.2.{block}.{conv}": (4, 4, 3, 3) for block in range(blocks) for conv in ("conv1", "conv2")
    }


def basicsr_shapes() -> dict[str, tuple[int, ...]]:
    """Weights in the state dict of BasicSR's BasicVSRPlusPlus, were it as small as `small_basicvsr_pp`."""
    convs = trunk_shapes("feat_extract", 3, 1) | trunk_shapes("reconstruction", 20, 1)
    for index, branch in enumerate(BRANCHES):
        convs |= trunk_shapes(f"backbone.{branch}", (2 + index) * 4, 2)
        convs[f"deform_align.{branch}"] = (4, 8, 3, 3)
        for place, (inputs, outputs) in {0: (16, 4), 2: (4, 4), 4: (4, 4), 6: (4, 108)}.items():
            convs[f"deform_align.{branch}.conv_offset.{place}"] = (outputs, inputs, 3, 3)
    for level in range(2):
        convs[f"spynet.basic_module.{level}.basic_module.0"] = (4, 8, 3, 3)
        convs[f"spynet.basic_module.{level}.basic_module.2"] = (2, 4, 3, 3)
    tail = {"upconv1": (16, 4, 3, 3), "upconv2": (20, 4, 3, 3), "conv_hr": (5, 5, 3, 3), "conv_last": (3, 5, 3, 3)}
    return convs | tail


def test_names_of_basicsr_lead_to_tensors_of_their_shapes() -> None:
    state = ungated(random_network(small_basicvsr_pp()).state_dict().items())
    names = basicsr_names(small_basicvsr_pp())
    expected = {f"{name}.weight": shape for name, shape in basicsr_shapes().items()}
    expected |= {f"{name}.bias": shape[:1] for name, shape in basicsr_shapes().items()}
    assert {theirs: tuple(state[ours].shape) for theirs, ours in names.items()} == expected
    assert sorted(names.values()) == sorted(state)


def test_names_of_the_published_network_are_all_and_differ() -> None:
    with torch.device("meta"):
        network = BasicVSRPlusPlus(BasicVSRPPArguments())
    names = basicsr_names(BasicVSRPPArguments())
    assert sorted(names.values()) == sorted(ungated(network.state_dict().items()))
    assert {
        "deform_align.forward_2.weight": "deform_align.forward_2.deform.weight",
        "deform_align.backward_1.conv_offset.6.bias": "deform_align.backward_1.conv_offset.6.bias",
        "backbone.backward_2.main.2.6.conv2.weight": "backbone.backward_2.blocks.6.conv2.weight",
        "spynet.basic_module.5.basic_module.8.bias": "flow_net.levels.5.8.bias",
    }.items() <= names.items()


# Alignment


def alignment() -> SecondOrderAlignment:
    """Offsets at rest, weights at random."""
    module = SecondOrderAlignment(small_basicvsr_pp()).double()
    randomise(module.deform)
    return module


def constant_flow(right: int, down: int, like_NCHW: Tensor) -> Tensor:
    batch, _, height, width = like_NCHW.shape
    return torch.tensor([right, down]).double().view(1, 2, 1, 1).repeat(batch, 1, height, width)


def moved(input_NCHW: Tensor, right: int, down: int, around: int = 1) -> Tensor:
    """What lies so many pixels further, with a margin, zeros beyond the frame."""
    height, width = input_NCHW.shape[-2:]
    reach = 20
    top, left = reach - around + down, reach - around + right
    padded_NCHW = F.pad(input_NCHW, (reach,) * 4)
    return padded_NCHW[..., top : top + height + 2 * around, left : left + width + 2 * around]


def test_an_untrained_alignment_follows_the_flow_with_half_the_weight() -> None:
    module = alignment()
    features_NCHW, state_NCHW, far_NCHW = (noise(2, 4, 6, 7, seed=seed) for seed in range(3))
    flow_N2HW, between_N2HW = constant_flow(1, 0, state_NCHW), constant_flow(0, 2, state_NCHW)
    near_NCHW = moved(state_NCHW, 1, 0)
    weight, bias = module.deform.weight / 2, module.deform.bias
    with torch.no_grad():
        first_NCHW = module(features_NCHW, state_NCHW, flow_N2HW)
        torch.testing.assert_close(first_NCHW, F.conv2d(near_NCHW, weight[:, :4], bias), rtol=0, atol=1e-12)
        both_NCHW = module(features_NCHW, state_NCHW, flow_N2HW, (far_NCHW, between_N2HW))
    # Where the first flow leads off the frame, the second one is zero: the last column.
    expected_NCHW = F.conv2d(torch.cat((near_NCHW, moved(far_NCHW, 1, 2)), dim=1), weight, bias)
    torch.testing.assert_close(both_NCHW[..., :-1], expected_NCHW[..., :-1], rtol=0, atol=1e-12)
    assert not torch.allclose(both_NCHW[..., -1], expected_NCHW[..., -1])


@pytest.mark.parametrize("far", [False, True])
def test_offsets_and_masks_by_hand(far: bool) -> None:
    """Point by point: flow plus bounded residue, y before x; the first half of the groups reads the last state."""
    module = SecondOrderAlignment(small_basicvsr_pp()).double()
    randomise(module)
    features_NCHW, state_NCHW, far_NCHW = (noise(1, 4, 6, 7, seed=seed) for seed in range(3))
    flow_N2HW, between_N2HW = (noise(1, 2, 6, 7, seed=seed) for seed in (3, 4))
    seen: list[tuple[Tensor, ...]] = []
    module.deform.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs))
    with torch.no_grad():
        module(features_NCHW, state_NCHW, flow_N2HW, (far_NCHW, between_N2HW) if far else None)
        if far:
            far_flow_N2HW = flow_N2HW + warp(between_N2HW, flow_N2HW)
            far_warped_NCHW = warp(far_NCHW, far_flow_N2HW)
        else:
            far_NCHW, far_flow_N2HW, far_warped_NCHW = torch.zeros(1, 4, 6, 7), torch.zeros(1, 2, 6, 7), far_NCHW * 0
        read = (warp(state_NCHW, flow_N2HW), features_NCHW, far_warped_NCHW, flow_N2HW, far_flow_N2HW)
        raw = torch.cat([part.double() for part in read], dim=1)
        for place in (0, 2, 4, 6):
            layer = module.conv_offset[place]
            raw = F.conv2d(raw, layer.weight, layer.bias, padding=1)
            raw = F.leaky_relu(raw, 0.1) if place < 6 else raw
    ((states_NCHW, offset, mask),) = seen
    assert torch.equal(states_NCHW, torch.cat((state_NCHW, far_NCHW.double()), dim=1))
    assert module.deform.channel_groups == (0, 0, 1, 1, 2, 2, 3, 3)
    assert (offset.shape[1], mask.shape[1]) == (72, 36)
    for group in range(4):
        flow = flow_N2HW if group < 2 else far_flow_N2HW
        for point in range(9 * group, 9 * group + 9):
            for axis, component in ((0, 1), (1, 0)):
                expected = flow[:, component] + 1.5 * torch.tanh(raw[:, 2 * point + axis])
                torch.testing.assert_close(offset[:, 2 * point + axis], expected.double(), rtol=0, atol=1e-12)
            expected = 1 / (1 + torch.exp(-raw[:, 72 + point]))
            torch.testing.assert_close(mask[:, point], expected, rtol=0, atol=1e-12)
    assert len(torch.unique(mask)) > 1000


# Propagation


@pytest.mark.parametrize("length", [1, 2, 4])
@pytest.mark.parametrize("size", [(9, 11), (4, 3), (1, 5)], ids=str)
def test_shapes(length: int, size: tuple[int, int]) -> None:
    network = random_network(small_basicvsr_pp())
    with torch.no_grad():
        output = network(random_clip(length, *size, batch=2))
    assert output.frames_NTCHW.shape == (2, length, 3, 4 * size[0], 4 * size[1])
    assert torch.isfinite(output.frames_NTCHW).all()
    assert tuple(output.hidden) == BRANCHES
    for states in output.hidden.values():
        assert [tuple(state.shape) for state in states] == [(2, 4, *size)] * length


@pytest.mark.parametrize("factors", [(), (2,), (3,), (2, 3)], ids=str)
def test_other_scales(factors: tuple[int, ...]) -> None:
    network = random_network(small_basicvsr_pp(upscale_factors=factors))
    with torch.no_grad():
        output = network(random_clip(2, 5, 6))
    scale = math.prod(factors)
    assert output.frames_NTCHW.shape == (1, 2, 3, 5 * scale, 6 * scale)


def test_propagation_by_hand() -> None:
    """Four frames: what every state is made of, spelled out frame by frame."""
    network = random_network(small_basicvsr_pp())
    frames_NTCHW = random_clip(4, *SIDES)
    flows = {name: 0.7 * noise(1, 3, 2, 9, 11, seed=seed) for seed, name in enumerate(("backward", "forward"))}
    backward, forward = (list(flows[name].unbind(1)) for name in ("backward", "forward"))
    with torch.no_grad():
        features = [network.feat_extract(frame_NCHW) for frame_NCHW in frames_NTCHW.unbind(1)]
        expected: dict[str, list[Tensor]] = {}
        for branch in BRANCHES:
            align, backbone = network.deform_align[branch], network.backbone[branch]
            states: dict[int, Tensor] = {}

            def put(t: int, aligned: Tensor, states=states, backbone=backbone) -> None:
                read = [features[t], *(earlier[t] for earlier in expected.values()), aligned]
                states[t] = aligned + backbone(torch.cat(read, dim=1))

            zeros = torch.zeros_like(features[0])
            if branch.startswith("backward"):
                put(3, zeros)
                put(2, align(features[2], states[3], backward[2]))
                put(1, align(features[1], states[2], backward[1], (states[3], backward[2])))
                put(0, align(features[0], states[1], backward[0], (states[2], backward[1])))
            else:
                put(0, zeros)
                put(1, align(features[1], states[0], forward[0]))
                put(2, align(features[2], states[1], forward[1], (states[0], forward[0])))
                put(3, align(features[3], states[2], forward[2], (states[1], forward[1])))
            expected[branch] = [states[t] for t in range(4)]
        output = network(frames_NTCHW, flows)
        for branch in BRANCHES:
            for got, wanted in zip(output.hidden[branch], expected[branch], strict=True):
                torch.testing.assert_close(got, wanted, rtol=0, atol=1e-11)
        for t in range(4):
            read = [features[t], *(expected[branch][t] for branch in BRANCHES)]
            wanted = network.upsample(read, frames_NTCHW[:, t])
            torch.testing.assert_close(output.frames_NTCHW[:, t], wanted, rtol=0, atol=1e-10)


def test_trunk_and_upsampler_by_hand() -> None:
    network = random_network(small_basicvsr_pp(slope=0.2))
    states = [noise(1, 4, 3, 4, seed=seed) for seed in range(5)]
    frame_NCHW = random_clip(1, 3, 4)[:, 0]

    def conv(name: str, x_NCHW: Tensor) -> Tensor:
        return F.conv2d(x_NCHW, *folded(network.get_submodule(name)), padding=1)

    with torch.no_grad():
        x_NCHW = F.leaky_relu(conv("reconstruction.first", torch.cat(states, dim=1)), 0.2)
        x_NCHW = x_NCHW + conv("reconstruction.blocks.0.conv2", F.relu(conv("reconstruction.blocks.0.conv1", x_NCHW)))
        for name in ("upconv1", "upconv2"):
            x_NCHW = F.leaky_relu(F.pixel_shuffle(conv(name, x_NCHW), 2), 0.2)
        x_NCHW = conv("conv_last", F.leaky_relu(conv("conv_hr", x_NCHW), 0.2))
        base_NCHW = F.interpolate(frame_NCHW, scale_factor=4, mode="bilinear", align_corners=False)
        torch.testing.assert_close(network.upsample(states, frame_NCHW), x_NCHW + base_NCHW, rtol=0, atol=1e-11)


def test_states_know_only_the_frames_that_their_branch_has_seen() -> None:
    network = random_network(small_basicvsr_pp())
    frames_NTCHW = random_clip(4, *SIDES)
    other_NTCHW = frames_NTCHW.clone()
    other_NTCHW[:, 1] = 1 - other_NTCHW[:, 1]
    flows = still(frames_NTCHW)
    with torch.no_grad():
        before, after = (network.hidden_states(clip, flows) for clip in (frames_NTCHW, other_NTCHW))
    changed = {
        branch: [not torch.equal(a, b) for a, b in zip(before[branch], after[branch], strict=True)]
        for branch in BRANCHES
    }
    assert changed == {"backward_1": [True, True, False, False], **dict.fromkeys(BRANCHES[1:], [True] * 4)}


@pytest.mark.parametrize("length", [1, 3])
def test_flows_given_equal_flows_computed(length: int) -> None:
    network = random_network(small_basicvsr_pp())
    frames_NTCHW = random_clip(length, *SIDES, batch=2)
    with torch.no_grad():
        flows = network.flows(frames_NTCHW)
        given, computed = network(frames_NTCHW, flows), network(frames_NTCHW)
        hidden = network.hidden_states(frames_NTCHW)
        motionless = network(frames_NTCHW, still(frames_NTCHW))
    assert torch.equal(given.frames_NTCHW, computed.frames_NTCHW)
    for branch, expected in computed.hidden.items():
        assert all(torch.equal(a, b) for a, b in zip(hidden[branch], expected, strict=True))
    assert torch.equal(motionless.frames_NTCHW, computed.frames_NTCHW) == (length == 1)


def test_flows_are_those_of_basicvsr() -> None:
    network = random_network(small_basicvsr_pp())
    other = BasicVSR(BasicVSRArguments(channels=4, blocks=1, **SMALL_FLOW)).double()
    other.flow_net.load_state_dict(network.flow_net.state_dict())
    frames_NTCHW = random_clip(3, *SIDES)
    with torch.no_grad():
        ours, theirs = network.flows(frames_NTCHW), other.flows(frames_NTCHW)
    assert list(ours) == list(theirs) == ["backward", "forward"]
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow  # EDVR shows the same of deformable convolutions and padding, and BasicVSR of flows and warps
def test_one_exported_graph_serves_every_size() -> None:
    network = random_network(small_basicvsr_pp()).requires_grad_(False)
    sides = {3: torch.export.Dim.AUTO, 4: torch.export.Dim.AUTO}
    program = torch.export.export(network, (random_clip(3, 8, 12),), dynamic_shapes=(sides,)).module()
    for size in ((12, 16), (9, 11)):
        frames_NTCHW = random_clip(3, *size)
        torch.testing.assert_close(program(frames_NTCHW).frames_NTCHW, network(frames_NTCHW).frames_NTCHW)


def test_clips_of_a_batch_do_not_mix() -> None:
    network = random_network(small_basicvsr_pp())
    frames_NTCHW = random_clip(3, *SIDES, batch=2)
    with torch.no_grad():
        both = network(frames_NTCHW).frames_NTCHW
        singles = [network(clip_NTCHW).frames_NTCHW for clip_NTCHW in frames_NTCHW.split(1)]
    torch.testing.assert_close(both, torch.cat(singles), rtol=0, atol=1e-10)


@pytest.mark.parametrize("factors", [(), (2, 2)], ids=str)
def test_without_detail_the_output_is_the_enlarged_frame(factors: tuple[int, ...]) -> None:
    network = random_network(small_basicvsr_pp(upscale_factors=factors))
    frames_NTCHW = random_clip(2, *SIDES)
    before = frames_NTCHW.clone()
    with torch.no_grad():
        network.conv_last.weight.zero_()
        network.conv_last.bias.zero_()
        output_NTCHW = network(frames_NTCHW).frames_NTCHW
    if factors:
        expected = F.interpolate(before[0], scale_factor=4, mode="bilinear", align_corners=False)[None]
        torch.testing.assert_close(output_NTCHW, expected, rtol=0, atol=1e-12)
    else:
        assert torch.equal(output_NTCHW, before)
    assert torch.equal(frames_NTCHW, before)


def test_every_parameter_learns() -> None:
    network = random_network(small_basicvsr_pp()).train()
    network(random_clip(4, *SIDES)).frames_NTCHW.square().mean().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_start_of_training() -> None:
    """Residual convolutions small, offsets at rest, flows at rest: aligned states are averages of still states."""
    torch.manual_seed(0)
    network = BasicVSRPlusPlus(small_basicvsr_pp(channels=32))
    for branch in BRANCHES:
        layer = network.get_submodule(f"backbone.{branch}.blocks.1.conv2")
        assert layer.weight.std().item() == pytest.approx(0.1 * math.sqrt(2 / (9 * 32)), rel=0.05)
        assert not layer.bias.any()
        last = network.get_submodule(f"deform_align.{branch}.conv_offset.6")
        assert not last.weight.any()
        assert not last.bias.any()
    assert not any(flow.any() for flow in network.flows(random_clip(3, *SIDES).float()).values())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channels": 0}, r"model\.channels must be at least 1; got 0"),
        ({"extract_blocks": 0}, r"model\.extract_blocks must be at least 1; got 0"),
        ({"flow_kernel": 4}, r"model\.flow_kernel must be an odd number from 1 to 31; got 4"),
        ({"flow_widths": ()}, r"model\.flow_widths"),
        ({"upscale_factors": (2, 1)}, r"model\.upscale_factors must be factors, or none for scale 1, each from 2 to 8"),
        ({"slope": 1.0}, r"model\.slope must be in \[0, 1\); got 1"),
        ({"deformable_groups": 3}, r"model\.deformable_groups must be even; got 3"),
        ({"deformable_groups": 6}, r"model\.deformable_groups must divide twice model\.channels, 8; got 6"),
        ({"max_residue": 0.0}, r"model\.max_residue must be a finite number > 0, pixels; got 0"),
    ],
)
def test_bad_arguments_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        small_basicvsr_pp(**changes)
