"""EDVR: published figures, BasicSR's names, a second writing of the network under them, and windows."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pytest
import torch
from networks_made import random_clip, random_network, small_edvr
from torch import Tensor, nn
from torch.nn import functional as F

from vsrprune.errors import UserError
from vsrprune.metrics.cost import counted
from vsrprune.networks.edvr.network import EDVR
from vsrprune.networks.edvr.spec import EDVRArguments, window_indices
from vsrprune.networks.edvr.weights import basicsr_names
from vsrprune.networks.parts.deformable import DeformableConv2d
from vsrprune.pruning.gates import folded

C, HIGH = 4, 5  # of small_edvr
SIDES = (9, 11)


def ungated(named: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Parameters, or a state dict, without gates: published networks have none."""
    return {name: value for name, value in named if not name.endswith("gate")}


def size(module: nn.Module) -> int:
    return sum(value.numel() for value in ungated(module.named_parameters()).values())


# The published network


def conv_size(inputs: int, outputs: int, kernel: int = 3) -> int:
    return kernel**2 * inputs * outputs + outputs


def test_published_size() -> None:
    """3.3 M; by hand, part by part."""
    with torch.device("meta"):
        network = EDVR(EDVRArguments())
    one, two = conv_size(64, 64), conv_size(128, 64)
    pack = one + conv_size(64, 27 * 8)
    point, window = conv_size(64, 64, 1), conv_size(5 * 64, 64, 1)
    parts = {
        "conv_first": conv_size(3, 64),
        "feature_extraction": 5 * 2 * one,
        **dict.fromkeys(("conv_l2_1", "conv_l2_2", "conv_l3_1", "conv_l3_2"), one),
        "pcd_align": 3 * two + (one + 2 * two) + 2 * one + 2 * two + (two + one) + 4 * pack,
        "fusion": (2 * one + 2 * window) + (conv_size(128, 64, 1) + 2 * one + point) + (point + two + one + 2 * point),
        "reconstruction": 10 * 2 * one,
        **dict.fromkeys(("upconv1", "upconv2"), conv_size(64, 256)),
        "conv_hr": one,
        "conv_last": conv_size(64, 3),
    }
    assert {name: size(part) for name, part in network.named_children()} == parts
    assert size(network) == 3_300_131


def test_published_cost() -> None:
    """A window costs five alignments; level n has a quarter of the pixels of level n-1."""
    with torch.device("meta"):
        network = EDVR(EDVRArguments())
        frames_NTCHW = torch.empty(1, 3, 3, 180, 320)
    one, point, offsets = 9 * 64 * 64, 64 * 64, 9 * 64 * 27 * 8
    features = 9 * 3 * 64 + 10 * one + 2 * one / 4 + 2 * one / 16
    finer, coarsest = (2 + 2 + 1 + 1 + 2) * one + offsets, (2 + 1 + 1) * one + offsets
    aligned = finer + finer / 4 + coarsest / 16 + (2 + 1 + 1) * one + offsets
    fused = (1 + 5 + 1) * one + (5 + 5 + 2) * point + (one + 4 * point) / 4 + 3 * one / 16
    enlarged = 4 * one + 4 * 4 * one + 16 * (one + 9 * 64 * 3)
    macs = (features + 5 * aligned + fused + 20 * one + enlarged) * 180 * 320
    assert counted(network, frames_NTCHW)[0] == 3 * macs
    assert f"{macs / 1e9:.3f}" == "396.172"


def basicsr_shapes() -> dict[str, tuple[int, int, int]]:
    """Filters, inputs and kernel of the convolutions of BasicSR's EDVR, were it as small as `small_edvr`."""
    one, two, point = (C, C, 3), (C, 2 * C, 3), (C, C, 1)
    convs = {"conv_first": (C, 3, 3)}
    convs |= {f"feature_extraction.0.{conv}": one for conv in ("conv1", "conv2")}
    convs |= {f"reconstruction.{block}.{conv}": one for block in (0, 1) for conv in ("conv1", "conv2")}
    convs |= dict.fromkeys(("conv_l2_1", "conv_l2_2", "conv_l3_1", "conv_l3_2"), one)
    align = {f"{kind}.{level}": two for kind in ("offset_conv1", "offset_conv2") for level in ("l1", "l2", "l3")}
    align |= {"offset_conv2.l3": one, "offset_conv3.l1": one, "offset_conv3.l2": one}
    align |= {"feat_conv.l1": two, "feat_conv.l2": two, "cas_offset_conv1": two, "cas_offset_conv2": one}
    for pack in ("dcn_pack.l1", "dcn_pack.l2", "dcn_pack.l3", "cas_dcnpack"):
        align |= {pack: one, f"{pack}.conv_offset": (2 * 27, C, 3)}
    convs |= {f"pcd_align.{name}": shape for name, shape in align.items()}
    fusion = {"temporal_attn1": one, "temporal_attn2": one, "feat_fusion": (C, 5 * C, 1)}
    fusion |= {"spatial_attn1": (C, 5 * C, 1), "spatial_attn2": (C, 2 * C, 1), "spatial_attn3": one}
    fusion |= {"spatial_attn4": point, "spatial_attn5": one, "spatial_attn_l1": point, "spatial_attn_l2": two}
    fusion |= {"spatial_attn_l3": one, "spatial_attn_add1": point, "spatial_attn_add2": point}
    convs |= {f"fusion.{name}": shape for name, shape in fusion.items()}
    return (
        convs
        | {"upconv1": (4 * C, C, 3), "upconv2": (4 * HIGH, C, 3), "conv_hr": (HIGH, HIGH, 3)}
        | {"conv_last": (3, HIGH, 3)}
    )


def test_names_of_basicsr_lead_to_tensors_of_their_shapes() -> None:
    state = ungated(random_network(small_edvr()).state_dict().items())
    names = basicsr_names(small_edvr())
    expected = {f"{name}.weight": (*shape, shape[-1]) for name, shape in basicsr_shapes().items()}
    expected |= {f"{name}.bias": shape[:1] for name, shape in basicsr_shapes().items()}
    assert {theirs: tuple(state[ours].shape) for theirs, ours in names.items()} == expected
    assert sorted(names.values()) == sorted(state)


def test_names_of_the_published_network_are_all_and_differ() -> None:
    with torch.device("meta"):
        network = EDVR(EDVRArguments())
    assert sorted(basicsr_names(EDVRArguments()).values()) == sorted(ungated(network.state_dict().items()))


# The network once more, for one window of frames with sides that halve twice, under BasicSR's names


class Again:
    """The network written from the paper's figures, on a dictionary of weights."""

    def __init__(self, network: EDVR) -> None:
        state = network.state_dict()
        for name, module in network.named_modules():
            if isinstance(module, nn.Conv2d):  # their networks have no gates: weights with the gates multiplied in
                state[f"{name}.weight"], state[f"{name}.bias"] = folded(module)
        self.weights = {theirs: state[ours] for theirs, ours in basicsr_names(network.arguments).items()}
        self.groups = network.arguments.deformable_groups

    def conv(self, name: str, *inputs: Tensor, stride: int = 1, slope: float | None = 0.1) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        output = F.conv2d(torch.cat(inputs, dim=1), weight, bias, stride, weight.shape[-1] // 2)
        return output if slope is None else torch.where(output > 0, output, slope * output)

    def blocks(self, name: str, x: Tensor, count: int) -> Tensor:
        for index in range(count):
            x = x + self.conv(f"{name}.{index}.conv2", self.conv(f"{name}.{index}.conv1", x, slope=0.0), slope=None)
        return x

    def deformed(self, name: str, x: Tensor, guide: Tensor) -> Tensor:
        layer = DeformableConv2d(C, C, 3, self.groups).double()
        layer.load_state_dict({kind: self.weights[f"{name}.{kind}"] for kind in ("weight", "bias")})
        y_and_x, masks = self.conv(f"{name}.conv_offset", guide, slope=None).split(
            (18 * self.groups, 9 * self.groups), 1
        )
        return layer(x, y_and_x, 1 / (1 + torch.exp(-masks)))

    def pyramid(self, frame: Tensor) -> dict[str, Tensor]:
        l1 = self.blocks("feature_extraction", self.conv("conv_first", frame), 1)
        l2 = self.conv("conv_l2_2", self.conv("conv_l2_1", l1, stride=2))
        return {"l1": l1, "l2": l2, "l3": self.conv("conv_l3_2", self.conv("conv_l3_1", l2, stride=2))}

    def aligned(self, neighbour: dict[str, Tensor], reference: dict[str, Tensor]) -> Tensor:
        guide = self.conv("pcd_align.offset_conv1.l3", neighbour["l3"], reference["l3"])
        guide = self.conv("pcd_align.offset_conv2.l3", guide)
        feature = lrelu(self.deformed("pcd_align.dcn_pack.l3", neighbour["l3"], guide))
        for level in ("l2", "l1"):
            fresh = self.conv(f"pcd_align.offset_conv1.{level}", neighbour[level], reference[level])
            guide = self.conv(f"pcd_align.offset_conv2.{level}", fresh, 2 * twice(guide))
            guide = self.conv(f"pcd_align.offset_conv3.{level}", guide)
            moved = self.deformed(f"pcd_align.dcn_pack.{level}", neighbour[level], guide)
            slope = 0.1 if level == "l2" else None
            feature = self.conv(f"pcd_align.feat_conv.{level}", moved, twice(feature), slope=slope)
        guide = self.conv("pcd_align.cas_offset_conv1", feature, reference["l1"])
        return lrelu(self.deformed("pcd_align.cas_dcnpack", feature, self.conv("pcd_align.cas_offset_conv2", guide)))

    def fused(self, aligned: list[Tensor]) -> Tensor:
        center = self.conv("fusion.temporal_attn1", aligned[len(aligned) // 2], slope=None)
        weighed = []
        for feature in aligned:
            likeness = torch.einsum("nchw,nchw->nhw", self.conv("fusion.temporal_attn2", feature, slope=None), center)
            weighed.append(feature * torch.sigmoid(likeness)[:, None])
        half = self.conv("fusion.spatial_attn2", *pooled(self.conv("fusion.spatial_attn1", *weighed)))
        quarter = self.conv("fusion.spatial_attn_l2", *pooled(self.conv("fusion.spatial_attn_l1", half)))
        quarter = self.conv("fusion.spatial_attn_l3", quarter)
        half = self.conv("fusion.spatial_attn4", self.conv("fusion.spatial_attn3", half) + twice(quarter))
        attention = self.conv("fusion.spatial_attn5", twice(half), slope=None)
        added = self.conv("fusion.spatial_attn_add2", self.conv("fusion.spatial_attn_add1", attention), slope=None)
        return 2 * torch.sigmoid(attention) * self.conv("fusion.feat_fusion", *weighed) + added

    def restored(self, frames: list[Tensor]) -> Tensor:
        pyramids = [self.pyramid(frame) for frame in frames]
        middle = len(frames) // 2
        x = self.fused([self.aligned(pyramid, pyramids[middle]) for pyramid in pyramids])
        x = self.blocks("reconstruction", x, 2)
        for name in ("upconv1", "upconv2"):
            x = lrelu(F.pixel_shuffle(self.conv(name, x, slope=None), 2))
        return self.conv("conv_last", self.conv("conv_hr", x), slope=None) + twice(frames[middle], 4)


def lrelu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.1 * x)


def twice(x: Tensor, factor: float = 2) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def pooled(x: Tensor) -> tuple[Tensor, Tensor]:
    return F.max_pool2d(x, 3, stride=2, padding=1), F.avg_pool2d(x, 3, stride=2, padding=1)


@pytest.mark.parametrize("window", [1, 3, 5])
def test_every_frame_equals_the_second_writing(window: int) -> None:
    network = random_network(small_edvr(window=window))
    frames_NTCHW = random_clip(4, 8, 12)
    again = Again(network)
    with torch.no_grad():
        output_NTCHW = network(frames_NTCHW).frames_NTCHW
        for t in range(4):
            frames = [frames_NTCHW[:, index] for index in window_indices(t, 4, window)]
            torch.testing.assert_close(output_NTCHW[:, t], again.restored(frames), rtol=0, atol=1e-10)


# Windows


@pytest.mark.parametrize(
    ("length", "windows"),
    [
        (5, [[2, 1, 0, 1, 2], [1, 0, 1, 2, 3], [0, 1, 2, 3, 4], [1, 2, 3, 4, 3], [2, 3, 4, 3, 2]]),
        (3, [[2, 1, 0, 1, 2], [1, 0, 1, 2, 1], [0, 1, 2, 1, 0]]),
        (2, [[0, 1, 0, 1, 0], [1, 0, 1, 0, 1]]),
        (1, [[0, 0, 0, 0, 0]]),
    ],
)
def test_windows_are_mirrored_at_the_ends(length: int, windows: list[list[int]]) -> None:
    assert [window_indices(t, length, 5) for t in range(length)] == windows


def test_a_window_of_seven() -> None:
    assert window_indices(0, 10, 7) == [3, 2, 1, 0, 1, 2, 3]
    assert window_indices(8, 10, 7) == [5, 6, 7, 8, 9, 8, 7]
    assert window_indices(0, 3, 7) == [1, 2, 1, 0, 1, 2, 1]


def test_a_frame_is_restored_from_its_window_alone() -> None:
    network = random_network(small_edvr())
    frames_NTCHW = random_clip(8, *SIDES)
    with torch.no_grad():
        whole = network(frames_NTCHW).frames_NTCHW
        alone = network(frames_NTCHW[:, 2:7]).frames_NTCHW
    torch.testing.assert_close(whole[:, 4], alone[:, 2], rtol=0, atol=1e-10)
    assert not torch.allclose(whole[:, 3], alone[:, 1])


def test_time_may_run_backwards_if_the_fusion_reads_backwards() -> None:
    network, mirrored = random_network(small_edvr()), random_network(small_edvr())
    frames_NTCHW = random_clip(6, *SIDES)
    with torch.no_grad():
        for layer in (mirrored.fusion.feat_fusion, mirrored.fusion.spatial_attn1):
            layer.weight.copy_(layer.weight.unflatten(1, (5, C)).flip(1).flatten(1, 2))
        forward = network(frames_NTCHW).frames_NTCHW
        backward = mirrored(frames_NTCHW.flip(1)).frames_NTCHW
    torch.testing.assert_close(backward.flip(1), forward, rtol=0, atol=1e-10)


def test_features_of_a_frame_are_made_once() -> None:
    network = random_network(small_edvr())
    made: list[int] = []
    for name in ("conv_first", "conv_l2_1", "conv_l3_2"):
        network.get_submodule(name).register_forward_hook(lambda layer, read, written: made.append(len(written)))
    with torch.no_grad():
        network(random_clip(7, *SIDES, batch=2))
    assert made == [14, 14, 14]


# Shapes


@pytest.mark.parametrize("length", [1, 2, 5])
@pytest.mark.parametrize("size", [(9, 11), (8, 12), (1, 2)], ids=str)
def test_shapes(length: int, size: tuple[int, int]) -> None:
    network = random_network(small_edvr())
    with torch.no_grad():
        output = network(random_clip(length, *size, batch=2))
    assert output.frames_NTCHW.shape == (2, length, 3, 4 * size[0], 4 * size[1])
    assert torch.isfinite(output.frames_NTCHW).all()
    assert output.hidden == {}
    assert network.arguments.branches == ()


@pytest.mark.parametrize("factors", [(), (2,), (3,), (2, 3)], ids=str)
def test_other_scales(factors: tuple[int, ...]) -> None:
    network = random_network(small_edvr(upscale_factors=factors))
    scale = math.prod(factors)
    with torch.no_grad():
        assert network(random_clip(2, 5, 6)).frames_NTCHW.shape == (1, 2, 3, 5 * scale, 6 * scale)
    assert network.arguments.scale == scale


def test_odd_sizes_are_those_of_a_frame_whose_border_goes_on() -> None:
    network = random_network(small_edvr())
    frames_NTCHW = random_clip(3, *SIDES)
    wider_NTCHW = torch.cat((frames_NTCHW, frames_NTCHW[..., -1:]), dim=-1)
    larger_NTCHW = torch.cat((wider_NTCHW, *[wider_NTCHW[..., -1:, :]] * 3), dim=-2)
    assert larger_NTCHW.shape[-2:] == (12, 12)
    with torch.no_grad():
        expected_NTCHW = network(larger_NTCHW).frames_NTCHW[..., :36, :44]
        torch.testing.assert_close(network(frames_NTCHW).frames_NTCHW, expected_NTCHW, rtol=0, atol=1e-12)


@pytest.mark.long
def test_one_exported_graph_serves_every_size() -> None:
    """Those that need padding and those that need none."""
    network = random_network(small_edvr(window=3)).requires_grad_(False)
    sides = {3: torch.export.Dim.AUTO, 4: torch.export.Dim.AUTO}
    program = torch.export.export(network, (random_clip(1, 8, 12),), dynamic_shapes=(sides,)).module()
    for size in ((12, 16), (9, 11), (6, 13)):
        frames_NTCHW = random_clip(1, *size)
        torch.testing.assert_close(program(frames_NTCHW).frames_NTCHW, network(frames_NTCHW).frames_NTCHW)


def test_clips_of_a_batch_do_not_mix() -> None:
    network = random_network(small_edvr())
    frames_NTCHW = random_clip(3, *SIDES, batch=2)
    with torch.no_grad():
        both = network(frames_NTCHW).frames_NTCHW
        singles = [network(clip_NTCHW).frames_NTCHW for clip_NTCHW in frames_NTCHW.split(1)]
    torch.testing.assert_close(both, torch.cat(singles), rtol=0, atol=1e-10)


def test_without_detail_the_output_is_the_bilinear_frame() -> None:
    network = random_network(small_edvr())
    frames_NTCHW = random_clip(2, *SIDES)
    before = frames_NTCHW.clone()
    with torch.no_grad():
        network.conv_last.weight.zero_()
        network.conv_last.bias.zero_()
        output_NTCHW = network(frames_NTCHW).frames_NTCHW
    torch.testing.assert_close(output_NTCHW[0], twice(before[0], 4), rtol=0, atol=1e-12)
    assert torch.equal(frames_NTCHW, before)


# Training


def test_every_parameter_learns() -> None:
    network = random_network(small_edvr()).train()
    network(random_clip(3, *SIDES)).frames_NTCHW.square().mean().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_start_of_training() -> None:
    torch.manual_seed(0)
    network = EDVR(small_edvr(channels=32))
    for run in (network.feature_extraction, network.reconstruction):
        assert run[0].conv1.weight.std().item() == pytest.approx(0.1 * math.sqrt(2 / (9 * 32)), rel=0.05)
        assert not run[0].conv1.bias.any()
    packs = [*network.pcd_align.dcn_pack.values(), network.pcd_align.cas_dcnpack]
    assert len(packs) == 4
    assert not any(parameter.any() for pack in packs for parameter in pack.conv_offset.parameters())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channels": 0}, r"model\.channels must be at least 1; got 0"),
        ({"reconstruction_blocks": 0}, r"model\.reconstruction_blocks must be at least 1; got 0"),
        ({"window": 4}, r"model\.window must be an odd number from 1 to 31; got 4"),
        ({"deformable_groups": 3}, r"model\.deformable_groups must divide model\.channels, 4; got 3"),
        ({"upscale_factors": (1,)}, r"model\.upscale_factors must be factors, or none for scale 1, each from 2 to 8"),
        ({"slope": -0.1}, r"model\.slope must be in \[0, 1\); got -0\.1"),
    ],
)
def test_bad_arguments_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        small_edvr(**changes)
