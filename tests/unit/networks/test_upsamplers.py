"""Every upsampler: what it costs, what it computes, how it is cut, frozen, streamed, exported, and what it refuses."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from fused_on_cpu import use_on_cpu
from hypothesis import given
from hypothesis import strategies as st
from networks_made import random_clip, random_network, small_basicvsr, small_basicvsr_pp, small_edvr
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from vsrprune.channels.layout import RULES
from vsrprune.channels.plan import PrunePlan
from vsrprune.errors import UserError
from vsrprune.metrics.cost import network_cost
from vsrprune.networks.basicvsr.frozen import FrozenBasicVSR
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.basicvsr.spec import BasicVSRArguments, basicvsr_layout
from vsrprune.networks.checkpoints import load_dense
from vsrprune.networks.fast.blocks import Form
from vsrprune.networks.fast.frozen import FrozenNetwork
from vsrprune.networks.fast.fused import KERNELS
from vsrprune.networks.files import load_network, save_network
from vsrprune.networks.graph import divide
from vsrprune.networks.network import Network
from vsrprune.networks.parts.upsamplers.table import PUBLISHED, UPSAMPLERS, upsampler_steps
from vsrprune.networks.table import build, family_of, identity_of
from vsrprune.pruning.surgery import compact, equivalence_error
from vsrprune.use.export.export import export
from vsrprune.use.export.request import Request
from vsrprune.use.streaming import Pieces, upscaled_frames

every_upsampler = pytest.mark.parametrize("name", UPSAMPLERS)
every_rule = pytest.mark.parametrize("rule", RULES)
both_directions = pytest.mark.parametrize("bidirectional", [True, False], ids=["bi", "uni"])
FAMILIES: dict[str, Any] = {"basicvsr": small_basicvsr, "basicvsr_pp": small_basicvsr_pp, "edvr": small_edvr}
FACTORS = st.sampled_from([(2, 2), (3,), (2, 3), ()])


@functools.cache
def made(name: str, family: str = "basicvsr", dtype: torch.dtype = torch.float64, **changes: Any) -> Network:
    """A gated network of random weights, for tests that leave it alone."""
    return random_network(FAMILIES[family](upsampler=name, **changes), signed=True, dtype=dtype)


def half(network: Network, rule: str) -> PrunePlan:
    """Half of every group is cut, other channels in every group."""
    groups = network.channel_layout(rule).groups
    cut = {g.name: {(at + 2 * k) % g.size for k in range(g.size // 2)} for at, g in enumerate(groups)}
    return PrunePlan.cutting(rule, network.channel_layout(rule), cut)


# What it costs: of 64 features, at four times the side, MACs for each low-resolution pixel

C = 64
COSTS = {
    # upconv1; upconv2 and conv_hr on 4 and 16 pixels; conv_last
    "shuffle": 9 * C * 4 * C + 4 * 9 * C * 4 * C + 16 * 9 * C * C + 16 * 9 * C * 3,
    "shuffle_direct": 9 * C * C + 9 * C * 48,
    "nearest_conv": 4 * 9 * C * C + 16 * 9 * C * C + 16 * 9 * C * C + 16 * 9 * C * 3,
    "light": (9 * C + C * 4 * C) + 4 * (9 * C + C * 4 * C) + 16 * (9 * C + C * C) + 16 * 9 * C * 3,
}
PARAMETERS = {
    "shuffle": 2 * (9 * C * 4 * C + 4 * C) + (9 * C * C + C) + (9 * C * 3 + 3),
    "shuffle_direct": (9 * C * C + C) + (9 * C * 48 + 48),
    "nearest_conv": 3 * (9 * C * C + C) + (9 * C * 3 + 3),
    "light": 3 * (9 * C + C) + 2 * (C * 4 * C + 4 * C) + (C * C + C) + (9 * C * 3 + 3),
}


@every_upsampler
def test_macs_and_parameters_by_hand(name: str) -> None:
    arguments = BasicVSRArguments(upsampler=name)
    names = {step.name for step in upsampler_steps(arguments)}
    convs = [conv for conv in basicvsr_layout(arguments, "rsc").convs if conv.name in names]
    assert sum(conv.macs({}) for conv in convs) == COSTS[name]
    assert sum(conv.weights({}) + conv.filters({}) for conv in convs) == PARAMETERS[name]


def test_light_does_a_seventh_of_the_work() -> None:
    assert [round(COSTS["shuffle"] / COSTS[name], 1) for name in UPSAMPLERS] == [1.0, 21.0, 1.0, 7.2]


@pytest.mark.parametrize("family", FAMILIES)
@every_upsampler
def test_what_is_counted_on_the_network_is_what_its_layout_says(name: str, family: str) -> None:
    network = made(name, family, torch.float32)
    frame = (8, 12)
    plan = half(network, "aligned")
    whole, pruned = (network_cost(some, frame).macs for some in (network, compact(network, plan)))
    layout = network.channel_layout("aligned")
    lost = layout.macs_per_pixel() - layout.macs_per_pixel(plan.kept_counts)
    # A difference, since networks have operations of their own that no layout states.
    assert whole - pruned == lost * math.prod(frame)
    if family == "basicvsr":
        assert whole == layout.macs_per_pixel() * math.prod(frame)


# What it computes


def conv(network: Network, name: str, x_NCHW: Tensor) -> Tensor:
    """A convolution without its gates; a depthwise one channel by channel."""
    weight, bias = (value.detach() for value in network.get_submodule(name).folded())  # type: ignore[operator]
    pad = weight.shape[-1] // 2
    if weight.shape[1] == x_NCHW.shape[1]:
        return F.conv2d(x_NCHW, weight, bias, padding=pad)
    channels = range(len(weight))
    rows = [F.conv2d(x_NCHW[:, c : c + 1], weight[c : c + 1], bias[c : c + 1], padding=pad) for c in channels]
    return torch.cat(rows, dim=1)


def by_hand(network: Network, x: Tensor) -> Tensor:
    """What conv_last reads, or for shuffle_direct the detail, for factors 2 and 3, by an implementation of its own."""

    def act(y: Tensor) -> Tensor:
        return torch.where(y > 0, y, network.arguments.slope * y)

    match network.arguments.upsampler:
        case "shuffle":
            for index, factor in enumerate((2, 3), start=1):
                x = act(F.pixel_shuffle(conv(network, f"upconv{index}", x), factor))
            return act(conv(network, "conv_hr", x))
        case "shuffle_direct":
            return act(conv(network, "conv_low", x))
        case "nearest_conv":
            for index, factor in enumerate((2, 3), start=1):
                repeated = x.repeat_interleave(factor, dim=-1).repeat_interleave(factor, dim=-2)
                x = act(conv(network, f"upconv{index}", repeated))
            return act(conv(network, "conv_hr", x))
        case _:
            for index, factor in enumerate((2, 3), start=1):
                x = act(conv(network, f"upconv{index}_depthwise", x))
                x = act(F.pixel_shuffle(conv(network, f"upconv{index}", x), factor))
            return act(conv(network, "conv_hr", act(conv(network, "conv_hr_depthwise", x))))


@every_upsampler
def test_features_become_a_frame_as_by_hand(name: str) -> None:
    network = made(name, upscale_factors=(2, 3))
    features_NCHW = torch.randn(2, 4, 5, 7, dtype=torch.float64)
    frame_NCHW = torch.rand(2, 3, 5, 7, dtype=torch.float64)
    x_NCHW = by_hand(network, features_NCHW)
    last = network.get_submodule("conv_last")
    detail_NCHW = F.conv2d(x_NCHW, last.weight, last.bias, padding=1)  # type: ignore[arg-type]
    if name == "shuffle_direct":
        detail_NCHW = F.pixel_shuffle(detail_NCHW, 6)
    base_NCHW = F.interpolate(frame_NCHW, scale_factor=6.0, mode="bilinear", align_corners=False)
    got = network.enlarge(features_NCHW, frame_NCHW)  # type: ignore[operator]
    torch.testing.assert_close(got, detail_NCHW + base_NCHW, rtol=0, atol=1e-12)


@every_upsampler
@pytest.mark.parametrize("factors", [(), (3,), (2, 2, 2)], ids=str)
def test_frames_are_as_large_as_the_factors_say(name: str, factors: tuple[int, ...]) -> None:
    frames_NTCHW = random_clip(2)
    enlarged = made(name, upscale_factors=factors)(frames_NTCHW).frames_NTCHW
    scale = math.prod(factors)
    assert enlarged.shape == (1, 2, 3, 7 * scale, 9 * scale)


# How it is cut


@every_upsampler
@given(data=st.data(), rule=st.sampled_from(RULES), bidirectional=st.booleans(), factors=FACTORS)
def test_a_compact_network_equals_the_masked_one(
    name: str, rule: str, bidirectional: bool, factors: tuple[int, ...], data: st.DataObject
) -> None:
    network = made(name, bidirectional=bidirectional, upscale_factors=factors)
    layout = network.channel_layout(rule)
    cut = {
        group.name: data.draw(st.sets(st.integers(0, group.size - 1), max_size=group.size - 1), label=group.name)
        for group in layout.groups
    }
    plan = PrunePlan.cutting(rule, layout, cut)
    assert equivalence_error(network, plan, random_clip(2, 5, 6), torch.float64) <= 1e-10


@pytest.mark.parametrize("family", ["basicvsr_pp", "edvr"])
@every_rule
@every_upsampler
def test_other_families_are_cut_with_it(name: str, rule: str, family: str) -> None:
    network = made(name, family)
    assert equivalence_error(network, half(network, rule), random_clip(2, 8, 8), torch.float64) <= 1e-10


GROUPS = {
    "shuffle": ["fusion", "upconv1", "upconv2", "conv_hr"],
    "shuffle_direct": ["fusion", "conv_low"],
    "nearest_conv": ["fusion", "upconv1", "upconv2", "conv_hr"],
    "light": ["fusion", "upconv1", "upconv2", "conv_hr"],
}


@every_rule
@every_upsampler
def test_its_part_has_the_groups_of_its_filters(name: str, rule: str) -> None:
    groups = [group for group in made(name).channel_layout(rule).groups if group.part == "upsampler"]
    assert [group.name for group in groups] == GROUPS[name]
    if name == "light":
        assert [[gate.conv for gate in group.gates] for group in groups[:3]] == [
            ["fusion", "upconv1_depthwise"],
            ["upconv1", "upconv2_depthwise"],
            ["upconv2", "conv_hr_depthwise"],
        ]


# Where it runs


@pytest.mark.parametrize("kernels", KERNELS)
@every_upsampler
def test_frozen_is_the_network(name: str, kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use_on_cpu(monkeypatch)
    clip_NTCHW = random_clip(2, 8, 9)
    for rule in RULES:
        for bidirectional in (True, False):
            network = made(name, bidirectional=bidirectional, upscale_factors=(2, 3))
            smaller = compact(network, half(network, rule))
            expected = smaller(clip_NTCHW).frames_NTCHW
            for kind in (FrozenBasicVSR, FrozenNetwork):
                frozen = kind(smaller, lambda shape: Form(), kernels)  # type: ignore[arg-type]
                frozen.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
                torch.testing.assert_close(frozen(clip_NTCHW), expected, rtol=0, atol=1e-10)


@both_directions
@every_upsampler
def test_streamed_is_the_whole(name: str, bidirectional: bool) -> None:
    network = made(name, bidirectional=bidirectional)
    smaller = compact(network, half(network, "rsc"))
    frames_NTCHW = random_clip(5, 8, 9)
    pieces = Pieces(window=2, overlap=0) if not bidirectional else Pieces(window=100, overlap=0)
    frozen = FrozenBasicVSR(smaller, lambda shape: Form())  # type: ignore[arg-type]
    got = torch.stack(list(upscaled_frames(frozen, iter(frames_NTCHW.unbind(1)), pieces)), dim=1)
    torch.testing.assert_close(got, smaller(frames_NTCHW).frames_NTCHW, rtol=0, atol=1e-10)


@every_upsampler
def test_graphs_of_its_steps_compute_what_the_network_does(name: str) -> None:
    """The graphs alone, step by step, from states of zeros."""
    network = made(name, bidirectional=False)
    smaller = compact(network, half(network, "rsc"))
    (step,) = divide(smaller, 2).steps.values()
    frames = random_clip(3, 8, 9).unbind(1)
    width = smaller.get_submodule("forward_trunk").width
    before, state = frames[0], frames[0].new_zeros(1, int(width), 8, 9)  # type: ignore[arg-type]
    restored = []
    for frame in frames:
        high, state = step.module(frame, before, state)
        restored.append(high)
        before = frame
    expected = smaller(torch.stack(frames, dim=1)).frames_NTCHW
    torch.testing.assert_close(torch.stack(restored, dim=1), expected, rtol=0, atol=1e-10)


@pytest.mark.long
@both_directions
@every_upsampler
def test_onnx_is_the_network_at_every_size(name: str, bidirectional: bool, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra deploy is not installed")
    network = made(name, dtype=torch.float32, bidirectional=bidirectional, upscale_factors=(2, 3))
    smaller = compact(network, half(network, "rsc")).eval()
    (tmp_path / "net").mkdir()
    save_network(smaller, tmp_path / "net")
    export(Request(tmp_path / "net", "onnx", tmp_path / "out", repeats=0), lambda text: None)
    session = onnxruntime.InferenceSession(tmp_path / "out" / "clip.onnx")
    for length, size in ((1, (16, 8)), (3, (3, 37))):
        frames_NTCHW = torch.rand(1, length, 3, *size)
        with torch.no_grad():
            expected = smaller(frames_NTCHW).frames_NTCHW
        (got,) = session.run(["upscaled_frames"], {"frames": frames_NTCHW.numpy()})
        torch.testing.assert_close(torch.from_numpy(got), expected, rtol=0, atol=1e-4)


@pytest.mark.long
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "shuffle" else pytest.mark.slow) for name in UPSAMPLERS]
)
def test_torch_export_and_openvino_are_the_network(name: str, tmp_path: Path) -> None:
    """`export` compares every file that it writes with the network, and refuses what differs."""
    network = made(name, dtype=torch.float32)
    smaller = compact(network, half(network, "rsc")).eval()
    (tmp_path / "net").mkdir()
    save_network(smaller, tmp_path / "net")
    for format in ("torch_export", "openvino"):
        if format == "openvino":
            pytest.importorskip("openvino", reason="the extra openvino is not installed")
        export(Request(tmp_path / "net", format, tmp_path / format, repeats=0), lambda text: None)
        assert (tmp_path / format / "export.json").is_file()


@every_upsampler
def test_a_saved_network_comes_back(name: str, tmp_path: Path) -> None:
    network = made(name, dtype=torch.float32)
    smaller = compact(network, half(network, "rsc"))
    save_network(smaller, tmp_path)
    back = load_network(tmp_path)
    assert back.arguments.upsampler == name
    clip_NTCHW = random_clip(2, dtype=torch.float32)
    assert torch.equal(back(clip_NTCHW).frames_NTCHW, smaller(clip_NTCHW).frames_NTCHW)


# What follows from its name


@pytest.mark.parametrize("family", FAMILIES)
def test_the_default_leaves_keys_and_first_weights_as_they_were(family: str) -> None:
    arguments = FAMILIES[family]()
    assert arguments.upsampler == PUBLISHED
    assert "upsampler" not in identity_of(arguments)
    others = {name: identity_of(FAMILIES[family](upsampler=name)) for name in UPSAMPLERS if name != PUBLISHED}
    assert {values["upsampler"] for values in others.values()} == set(others)


def test_published_weights_are_for_the_published_upsampler(tmp_path: Path) -> None:
    published = build(small_basicvsr())
    state = published.state_dict()
    for project, names in family_of(published.arguments).published(published.arguments).items():
        file = tmp_path / f"{project}.safetensors"
        save_file({theirs: state[ours].clone() for theirs, ours in names.names.items()}, file)
        if project != "SSL":  # whose networks have another slope
            assert isinstance(load_dense(file, small_basicvsr()), BasicVSR)
            for name in UPSAMPLERS:
                if name != PUBLISHED:
                    words = f"published weights are of model.upsampler=shuffle, and .* is {name}; leave out one"
                    with pytest.raises(UserError, match=words):
                        load_dense(file, small_basicvsr(upsampler=name))


@pytest.mark.parametrize("family", FAMILIES)
def test_an_unknown_upsampler_is_named(family: str) -> None:
    with pytest.raises(UserError, match=r"model\.upsampler must be one of shuffle, .* got 'bicubic'"):
        FAMILIES[family](upsampler="bicubic")
