"""What holds for every network: surgery, cost, files, frozen forms, streaming and checkpoints; published sizes."""

from __future__ import annotations

import copy
import itertools
import math
import weakref
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fused_on_cpu import use_on_cpu
from networks_made import random_clip, random_network, randomise
from torch import Tensor, nn

from vsrprune.channels.layout import RULES, ChannelLayout
from vsrprune.channels.plan import PrunePlan
from vsrprune.errors import UserError
from vsrprune.metrics.cost import network_cost
from vsrprune.networks.basicvsr.frozen import FrozenBasicVSR
from vsrprune.networks.checkpoints import load_dense
from vsrprune.networks.fast.blocks import COUNTS, READS, WRITES, Form, FrozenBlock
from vsrprune.networks.fast.device_operations import FORMATS
from vsrprune.networks.fast.fastest import freeze
from vsrprune.networks.fast.frozen import Frozen, FrozenNetwork
from vsrprune.networks.fast.fused import KERNELS, ONEDNN, PLAIN
from vsrprune.networks.files import load_network, save_network
from vsrprune.networks.network import Network
from vsrprune.networks.parts.layers import ResidualBlock
from vsrprune.networks.rrn.frozen import FrozenRRN
from vsrprune.networks.table import FAMILIES, build, family_name, loaded
from vsrprune.pruning.gates import zero_cut_gates
from vsrprune.pruning.surgery import compact
from vsrprune.results.result import Cost
from vsrprune.use.streaming import Pieces, span_of, upscaled_frames

FLOW = {"flow_levels": 2, "flow_kernel": 3, "flow_widths": (4,)}
TINY: dict[str, dict[str, Any]] = {
    "basicvsr": {"channels": 6, "blocks": 2, "upsampler_channels": 5, **FLOW},
    "basicvsr_pp": {
        "channels": 4,
        "blocks": 1,
        "extract_blocks": 1,
        "reconstruction_blocks": 2,
        "upsampler_channels": 5,
        "deformable_groups": 4,
        "max_residue": 1.5,
        **FLOW,
    },
    "edvr": {
        "channels": 4,
        "window": 3,
        "deformable_groups": 2,
        "extract_blocks": 1,
        "reconstruction_blocks": 2,
        "upsampler_channels": 5,
    },
    "rrn": {"channels": 6, "blocks": 2},
    "edsr": {"channels": 6, "blocks": 3, "residual_scale": 0.5},
    "rcan": {"channels": 6, "groups": 2, "blocks": 2, "reduction": 2},
}
SCALES = ((2, 2), (2,), ())
SEEDS = range(3)
NETWORKS = [name for name in FAMILIES if name != "own"]  # which has tests of its own, in own/

every_network = pytest.mark.parametrize("name", NETWORKS)
every_rule = pytest.mark.parametrize("rule", RULES)
# Scale 1 once, since all rules leave to upsamplers, which it lacks, groups of their own.
every_rule_and_scale = pytest.mark.parametrize(
    ("rule", "factors"), [*itertools.product(RULES, SCALES[:2]), ("rsc", SCALES[2])], ids=str
)


def test_every_architecture_is_tried() -> None:
    assert list(TINY) == list(NETWORKS)
    for name in TINY:
        assert family_name(arguments(name)) == name
        assert type(build(arguments(name))) is loaded(FAMILIES[name].network)


def arguments(name: str, **changes: Any) -> Any:
    return FAMILIES[name].arguments(**{**TINY[name], **changes})


def random_plan(layout: ChannelLayout, rule: str, seed: int) -> PrunePlan:
    """Of every group some channels and never all; another share of each."""
    draw = np.random.default_rng(seed)
    cut = {g.name: draw.permutation(g.size)[: draw.integers(0, g.size)].tolist() for g in layout.groups}
    return PrunePlan.cutting(rule, layout, cut)


def single_plan(layout: ChannelLayout, rule: str) -> PrunePlan:
    """One channel of every group, not the same of all."""
    kept = {group.name: place % group.size for place, group in enumerate(layout.groups)}
    return PrunePlan.cutting(rule, layout, {g.name: set(range(g.size)) - {kept[g.name]} for g in layout.groups})


def plans(network: Network, rule: str) -> Iterator[PrunePlan]:
    layout = network.channel_layout(rule)
    yield from (random_plan(layout, rule, seed) for seed in SEEDS)
    yield single_plan(layout, rule)


def compact_network(name: str, rule: str, seed: int = 0, **changes: Any) -> Network:
    network = random_network(arguments(name, **changes), signed=True)
    return compact(network, random_plan(network.channel_layout(rule), rule, seed)).eval()


def masked(network: Network, plan: PrunePlan) -> Network:
    same = copy.deepcopy(network)
    zero_cut_gates(same, plan)
    return same


def assert_equal(got: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    assert got.shape == expected.shape
    assert float((got - expected).abs().max()) <= tolerance * float(expected.abs().max())


# Surgery


@every_network
@pytest.mark.parametrize(
    ("rule", "factors"), [*((rule, SCALES[0]) for rule in RULES), *(("rsc", other) for other in SCALES[1:])], ids=str
)
def test_compact_equals_masked(name: str, rule: str, factors: tuple[int, ...]) -> None:
    """Outputs and hidden states; those of channels that are gone were zeros."""
    network = random_network(arguments(name, upscale_factors=factors), signed=True)
    scale = math.prod(factors)
    for plan in plans(network, rule):
        smaller, gated = compact(network, plan).eval(), masked(network, plan)
        assert not smaller.gate_parameters()
        assert smaller.plan == plan
        for length in (1, 2, 4):
            with torch.no_grad():
                expected, got = gated(random_clip(length)), smaller(random_clip(length))
            assert expected.frames_NTCHW.shape == (1, length, 3, 7 * scale, 9 * scale)
            assert_equal(got.frames_NTCHW, expected.frames_NTCHW)
            assert tuple(got.hidden) == tuple(expected.hidden) == network.arguments.branches
            for branch, states in got.hidden.items():
                channels = range(network.arguments.channels)
                kept = smaller.stream_channels(branch) or tuple(channels)
                cut = [channel for channel in channels if channel not in kept]
                for state, whole in zip(states, expected.hidden[branch], strict=True):
                    assert state.shape[1] == len(kept)
                    torch.testing.assert_close(state, whole[:, list(kept)], rtol=1e-12, atol=1e-12)
                    assert not whole[:, cut].any()


@every_network
@every_rule
def test_a_plan_matters(name: str, rule: str) -> None:
    """Compact networks differ from the dense one, so that equality with the masked one says something."""
    network = random_network(arguments(name), signed=True)
    with torch.no_grad():
        dense = network(random_clip(2)).frames_NTCHW
        for plan in plans(network, rule):
            assert not torch.allclose(compact(network, plan)(random_clip(2)).frames_NTCHW, dense, rtol=1e-3, atol=1e-3)


@every_network
@every_rule
def test_a_plan_that_cuts_nothing_folds_the_gates_alone(name: str, rule: str) -> None:
    network = random_network(arguments(name), signed=True)
    smaller = compact(network, PrunePlan.keep_all(rule, network.channel_layout(rule)))
    with torch.no_grad():
        assert_equal(smaller(random_clip(3)).frames_NTCHW, network(random_clip(3)).frames_NTCHW)


@every_network
@every_rule
def test_the_network_that_is_cut_stays_as_it_was(name: str, rule: str) -> None:
    network = random_network(arguments(name), signed=True)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    modules = {key: type(module) for key, module in network.named_modules()}
    plan = random_plan(network.channel_layout(rule), rule, 0)
    for smaller in (compact(network, plan), network.with_plan(plan)):
        with torch.no_grad():
            for parameter in smaller.parameters():
                parameter.fill_(3.0)
    assert network.plan is None
    assert {key: type(module) for key, module in network.named_modules()} == modules
    state = network.state_dict()
    assert list(state) == list(before)
    assert all(torch.equal(value, before[key]) for key, value in state.items())


@every_network
def test_a_plan_of_another_network_is_refused(name: str) -> None:
    layout = build(arguments(name, channels=2 * TINY[name]["channels"])).channel_layout("rsc")
    with pytest.raises(UserError, match="the plan does not fit this network: group"):
        build(arguments(name)).with_plan(PrunePlan.keep_all("rsc", layout))


@every_network
@every_rule
def test_layouts_name_the_networks_own_layers(name: str, rule: str) -> None:
    network = build(arguments(name))
    layout = network.channel_layout(rule)
    assert layout == FAMILIES[name].layout(arguments(name), rule)
    for conv in layout.convs:
        weight = network.get_parameter(f"{conv.name}.weight")
        inputs = sum(slot.size for slot in conv.inputs)
        assert tuple(weight.shape) == (conv.output.size * conv.filters_per_unit, inputs, conv.kernel, conv.kernel)
    assert len({conv.name for conv in layout.convs}) == len(layout.convs)
    convs = {key for key, module in network.named_modules() if isinstance(module, nn.Conv2d)}
    assert {conv.name for conv in layout.convs} == {key for key in convs if not key.startswith("flow_net")}
    for group in layout.groups:
        for gate in group.gates:
            assert network.get_parameter(gate.parameter).shape == (group.size,)


@every_network
def test_gates_are_those_of_all_rules_and_start_at_one(name: str) -> None:
    network = build(arguments(name))
    layouts = [network.channel_layout(rule) for rule in RULES]
    wanted = {gate.parameter for layout in layouts for group in layout.groups for gate in group.gates}
    found = {key for key, _ in network.named_parameters() if key.endswith("gate")}
    assert wanted <= found
    # A convolution with gated inputs has a gate of its outputs too, which no rule may ask for.
    assert {key.replace(".gate", ".input_gate") for key in found - wanted} <= wanted
    gates = network.gate_parameters()
    assert sum(gate.numel() for gate in gates) == sum(network.get_parameter(key).numel() for key in found)
    assert all(bool((gate == 1).all()) for gate in gates)


@every_network
@every_rule
def test_every_parameter_of_a_compact_network_learns(name: str, rule: str) -> None:
    network = build(arguments(name, channels=8)).double()
    layout = network.channel_layout(rule)
    plan = PrunePlan.cutting(rule, layout, {g.name: range(0, g.size, 2) if g.size > 1 else () for g in layout.groups})
    smaller = network.with_plan(plan)
    randomise(smaller, signed=True)
    with torch.no_grad():
        for key, parameter in smaller.named_parameters():
            if "squeeze" in key:  # an attention's few activations could all be zero, or its sigmoid flat
                parameter.abs_().add_(1) if key.endswith("bias") else parameter.div_(255)
    smaller.train()(random_clip(4)).frames_NTCHW.square().mean().backward()
    assert [key for key, p in smaller.named_parameters() if p.grad is None or not p.grad.any()] == []


# Cost


def attention_macs(layout: ChannelLayout, kept: dict[str, int]) -> int:
    """RCAN's two convolutions of a frame's mean, by hand: the layout leaves them out, the counter does not."""
    macs = 0
    for conv in layout.convs:
        if conv.name.endswith(".squeeze"):
            block = conv.name.removesuffix(".squeeze")
            written = next(other.output for other in layout.convs if other.name == f"{block}.conv2")
            update = written.size if written.group is None else kept[written.group]
            macs += 2 * update * kept[f"{block}.squeeze"]
    return macs


@cache
def counted_costs(name: str, factors: tuple[int, ...], size: tuple[int, int]) -> Cost:
    """Of the whole network, which no rule changes."""
    return network_cost(random_network(arguments(name, upscale_factors=factors), signed=True).float(), size)


@every_network
@every_rule_and_scale
def test_the_layout_s_costs_are_those_that_are_counted(name: str, rule: str, factors: tuple[int, ...]) -> None:
    network = random_network(arguments(name, upscale_factors=factors), signed=True).float()
    layout = network.channel_layout(rule)
    size = (8, 12)  # EDVR works on multiples of four
    flow = sum(parameter.numel() for parameter in network.flow_parameters())
    assert (flow > 0) == (name in ("basicvsr", "basicvsr_pp"))
    whole = PrunePlan.keep_all(rule, layout)
    plan = single_plan(layout, rule) if factors == (2,) else random_plan(layout, rule, 1)
    for kept, counted in (
        (whole.kept_counts, counted_costs(name, factors, size)),
        (plan.kept_counts, network_cost(compact(network, plan), size)),
    ):
        attention = attention_macs(layout, kept)
        assert (attention > 0) == (name == "rcan")
        assert layout.macs_per_pixel(kept) * math.prod(size) == counted.macs - attention
        assert layout.parameters(kept) == counted.parameters
        assert counted.parameters_with_flow == counted.parameters + flow


PUBLISHED = [
    ("basicvsr", {}, 4_851_011, 337_755_340_800),
    ("basicvsr_pp", {}, 5_882_627, 397_169_049_600),
    ("edvr", {}, 3_300_131, 396_171_878_400),
    ("rrn", {}, 3_364_400, 193_624_473_600),
    ("rrn", {"blocks": 5}, 1_888_560, None),
    ("edsr", {}, 1_517_571, 114_230_476_800),
    ("edsr", {"channels": 256, "blocks": 32, "residual_scale": 0.1}, 43_089_923, None),
    # The published file's 15,592,379 are with 24 of the 1x1 convolutions that shift the mean.
    ("rcan", {}, 15_592_379 - 24, None),
]


@pytest.mark.parametrize(
    ("name", "changes", "parameters", "macs"),
    PUBLISHED,
    ids=[f"{name}{changes or ''}" for name, changes, *_ in PUBLISHED],
)
def test_published_size(name: str, changes: dict[str, Any], parameters: int, macs: int | None) -> None:
    shape = FAMILIES[name].arguments(**changes)
    for rule in RULES:
        layout = FAMILIES[name].layout(shape, rule)
        assert layout.parameters() == parameters
        assert macs is None or layout.macs_per_pixel() * 180 * 320 == macs
    with torch.device("meta"):
        network = build(shape)
    cost = network_cost(network, (180, 320))
    assert cost.parameters == parameters
    if name == "rcan":
        assert f"{cost.macs / 1e9:.1f}" == "916.9"
        assert cost.macs - layout.macs_per_pixel() * 180 * 320 == 200 * 2 * 64 * 4
    assert macs is None or cost.macs == macs


# Files


@every_network
@pytest.mark.parametrize("rule", [None, *RULES])
def test_networks_come_back_from_files_bit_for_bit(name: str, rule: str | None, tmp_path: Path) -> None:
    dense = random_network(arguments(name), signed=True)
    network = (dense if rule is None else compact_network(name, rule)).float()
    save_network(network, tmp_path)
    loaded = load_network(tmp_path).eval()
    assert type(loaded) is type(network)
    assert loaded.arguments == network.arguments
    assert loaded.plan == network.plan
    before, after = network.state_dict(), loaded.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    frames_NTCHW = random_clip(3).float()
    with torch.no_grad():
        assert torch.equal(loaded(frames_NTCHW).frames_NTCHW, network(frames_NTCHW).frames_NTCHW)


# Frozen forms


def frozen_as(network: Network, form: Form = Form(), kernels: str = PLAIN) -> Any:  # noqa: B008  frozen dataclass
    kinds: dict[str, Callable[..., Any]] = {"basicvsr": FrozenBasicVSR, "rrn": FrozenRRN}
    return kinds.get(family_name(network.arguments), FrozenNetwork)(network, lambda shape: form, kernels)


def plain_blocks(network: nn.Module) -> int:
    return sum(type(module) is ResidualBlock for module in network.modules())


@every_network
@every_rule
def test_every_frozen_form_is_the_same_function(name: str, rule: str) -> None:
    network = compact_network(name, rule)
    clip_NTCHW = random_clip(3, batch=2)
    with torch.no_grad():
        expected = network(clip_NTCHW).frames_NTCHW
    for read, write, memory_format in itertools.product(READS, WRITES, FORMATS.values()):
        frozen = frozen_as(network, Form(read, write)).to(memory_format=memory_format)
        blocks = [module for module in frozen.modules() if isinstance(module, FrozenBlock)]
        assert len(blocks) == plain_blocks(network)
        assert (len(blocks) > 0) == (name != "rcan")
        assert_equal(frozen(clip_NTCHW), expected, 1e-11)
        assert_equal(frozen(clip_NTCHW, network.flows(clip_NTCHW)), expected, 1e-11)
        with torch.no_grad():
            assert_equal(frozen.compute(clip_NTCHW), expected, 1e-11)


@every_network
@every_rule
@pytest.mark.parametrize("kernels", [name for name in KERNELS if name != PLAIN])
def test_every_fused_form_is_the_same_function(
    name: str, rule: str, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_on_cpu(monkeypatch)
    # oneDNN has no kernels of float64.
    dtype, apart = (torch.float32, 1e-4) if kernels == ONEDNN else (torch.float64, 1e-11)
    network = compact_network(name, rule).to(dtype)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    clip_NTCHW = random_clip(3, batch=2).to(dtype)
    with torch.no_grad():
        expected = network(clip_NTCHW).frames_NTCHW
    for read, write, counts in itertools.product(READS, WRITES, COUNTS):
        frozen = frozen_as(network, Form(read, write, kernels, counts), kernels).to(memory_format=torch.channels_last)
        assert_equal(frozen(clip_NTCHW), expected, apart)
        assert_equal(frozen(clip_NTCHW), expected, apart)  # the first call changed nothing that the second reads
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@every_network
@every_rule
def test_freezing_times_what_it_chooses_and_leaves_the_network_as_it_was(name: str, rule: str) -> None:
    network = compact_network(name, rule)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    clip_NTCHW = random_clip(2)
    timed: list[object] = []

    def time(call: Callable[[], object]) -> float:
        timed.append(call())
        return float(-len(timed))  # the last is the fastest

    frozen, chosen = freeze(network, clip_NTCHW, time)
    assert chosen == list(FORMATS)[-1]
    assert isinstance(timed[-1], Tensor)
    assert timed[-1].shape == (1, 1, 3, 28, 36)
    with torch.no_grad():
        assert_equal(frozen(clip_NTCHW), network(clip_NTCHW).frames_NTCHW, 1e-11)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(parameter.is_contiguous() for parameter in network.parameters())


@every_network
def test_networks_with_gates_cannot_be_frozen(name: str) -> None:
    with pytest.raises(ValueError, match="fold its gates by surgery first"):
        freeze(random_network(arguments(name), signed=True), random_clip(1), lambda call: 1.0)


@every_network
@every_rule
def test_sixteen_bits_compute_the_same_up_to_their_rounding(name: str, rule: str) -> None:
    """Frozen, and while it trains."""
    network = compact_network(name, rule).float()
    clip_NTCHW = random_clip(3).float()
    with torch.no_grad():
        expected = network(clip_NTCHW).frames_NTCHW
    frozen, _ = freeze(network, clip_NTCHW, lambda call: (call(), 1.0)[1], torch.bfloat16)  # type: ignore[func-returns-value]
    with torch.autocast("cpu", torch.bfloat16):
        trained = network.train()(clip_NTCHW).frames_NTCHW
    few = [frozen(clip_NTCHW), trained]
    few[1].float().square().mean().backward()
    scale = float(expected.abs().max())
    for outputs in few:
        assert 0 < float((outputs.detach().float() - expected).abs().mean()) < 0.03 * scale


# Streaming


def whole_clip(network: Network, frames: list[Tensor]) -> Tensor:
    with torch.no_grad():
        restored: Tensor = network(torch.stack(frames, dim=1)).frames_NTCHW
    return restored


def streamed(frozen: Frozen, frames: list[Tensor], pieces: Pieces) -> Tensor:
    return torch.stack(list(upscaled_frames(frozen, iter(frames), pieces)), dim=1)


@pytest.mark.parametrize("length", [1, 2, 4, 7])
@pytest.mark.parametrize("name", ["edsr", "rcan", "edvr", "rrn"])
def test_windows_are_the_whole_sequence_where_the_reach_is_known(name: str, length: int) -> None:
    changes = {"window": 5} if name == "edvr" else {}
    network = compact_network(name, "rsc", **changes)
    frames = list(random_clip(length).unbind(1))
    expected = whole_clip(network, frames)
    for window in (1, 2, 3, 100):
        assert_equal(streamed(frozen_as(network), frames, Pieces(window, overlap=0)), expected)


@pytest.mark.parametrize("window", [1, 3, 4, 100])
@pytest.mark.parametrize("overlap", [0, 2])
def test_a_network_that_sees_everything_gives_every_frame_once(window: int, overlap: int) -> None:
    """BasicVSR++: only a window with all frames around it is the whole sequence."""
    network = compact_network("basicvsr_pp", "rsc")
    frames = list(random_clip(7).unbind(1))
    outputs = streamed(frozen_as(network), frames, Pieces(window, overlap))
    assert outputs.shape == (1, 7, 3, 28, 36)
    assert torch.isfinite(outputs).all()
    differs = [not torch.allclose(a, b) for a, b in zip(outputs[0], whole_clip(network, frames)[0], strict=True)]
    assert any(differs) == (window < 100)
    assert_equal(streamed(frozen_as(network), frames, Pieces(window, 7)), whole_clip(network, frames))


@pytest.mark.parametrize(
    ("name", "spans"),
    [
        ("basicvsr", (4, 0, 2)),
        ("basicvsr_pp", (4, 2, 2)),
        ("edvr", (4, 1, 1)),
        ("rrn", (1, 0, 0)),
        ("edsr", (1, 0, 0)),
        ("rcan", (1, 0, 0)),
    ],
)
def test_no_more_frames_are_held_than_are_read(name: str, spans: tuple[int, int, int]) -> None:
    frozen = frozen_as(compact_network(name, "rsc"))
    span = span_of(frozen, Pieces(4, 2))
    assert (span.window, span.before, span.after) == spans
    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
    most = 0

    def source() -> Iterator[Tensor]:
        nonlocal most
        for _ in range(20):
            frame = torch.rand(1, 3, 5, 6, dtype=torch.float64)
            alive.add(frame)
            most = max(most, len(alive))
            yield frame

    assert sum(1 for _ in upscaled_frames(frozen, source(), Pieces(4, 2))) == 20
    assert most <= 2 * sum(spans) + 2  # a window, and the next being read


@pytest.mark.parametrize("name", ["edsr", "rrn"])
def test_tiles_are_the_whole_frame_where_their_overlap_covers_the_reach(name: str) -> None:
    """A tile sees so many pixels around it as convolutions of 3x3 follow one another, in every frame before too."""
    network = compact_network(name, "rsc")
    frames = list(random_clip(3, 26, 31).unbind(1))
    # At the input's size conv_first or conv_1, those of the blocks, one after them; two pixels of the enlarged frame.
    around = {"edsr": 1 + 2 * 3 + 1 + 2, "rrn": 3 * (1 + 2 * 2 + 1)}[name]
    frozen = frozen_as(network)
    tiled = streamed(frozen, frames, Pieces(2, 0, tile=9, tile_overlap=around))
    assert_equal(tiled, whole_clip(network, frames))
    short = streamed(frozen, frames, Pieces(2, 0, tile=9, tile_overlap=1))
    assert not torch.allclose(short, tiled)


def test_frames_without_a_reach_know_nothing_of_one_another() -> None:
    for name in ("edsr", "rcan"):
        network = random_network(arguments(name), signed=True)
        assert network.arguments.reach == (0, 0)
        frames_NTCHW = random_clip(3)
        with torch.no_grad():
            together = network(frames_NTCHW).frames_NTCHW
            alone = [network(frames_NTCHW[:, t : t + 1]).frames_NTCHW for t in range(3)]
        assert_equal(torch.cat(alone, dim=1), together)


def test_an_online_network_does_not_look_ahead() -> None:
    network = random_network(arguments("rrn"), signed=True)
    frames_NTCHW = random_clip(4)
    other_NTCHW = frames_NTCHW.clone()
    other_NTCHW[:, 2] = 1 - other_NTCHW[:, 2]
    with torch.no_grad():
        before, after = network(frames_NTCHW).frames_NTCHW, network(other_NTCHW).frames_NTCHW
    assert torch.equal(before[:, :2], after[:, :2])
    assert all(not torch.allclose(before[:, t], after[:, t]) for t in (2, 3))


# Checkpoints

NAMED = [
    (name, project) for name in NETWORKS if name != "basicvsr" for project in FAMILIES[name].published(arguments(name))
]


def theirs(name: str, project: str, network: Network) -> dict[str, Tensor]:
    """The weights under their names."""
    state = network.state_dict()
    table = FAMILIES[name].published(network.arguments)[project].names
    return {their: state[our] for their, our in table.items()}


def without_gates(name: str) -> Network:
    network = random_network(arguments(name), signed=True).float()
    with torch.no_grad():
        for gate in network.gate_parameters():
            gate.fill_(1.0)
    return network


def test_who_has_published_weights() -> None:
    assert {name for name, _ in NAMED} == set(NETWORKS) - {"basicvsr"}  # of which there are several layouts


@pytest.mark.parametrize(("name", "project"), NAMED)
def test_names_of_published_weights_are_all_and_differ(name: str, project: str) -> None:
    for factors in SCALES:
        network = build(arguments(name, upscale_factors=factors))
        ours = FAMILIES[name].published(network.arguments)[project].names.values()
        assert sorted(ours) == sorted(key for key in network.state_dict() if not key.endswith("gate"))


PUBLISHED_NAMES = {
    "basicvsr_pp": "deform_align.forward_1.weight",
    "edvr": "pcd_align.dcn_pack.l3.conv_offset.bias",
    "rrn": "neuro.recon_trunk.1.conv2.weight",
    "edsr": "upsample.2.bias",
    "rcan": "body.1.residual_group.0.rcab.3.attention.3.weight",
}


# mmagic's EDSR has other numbers too, since it works on pixels in [0, 1].
@pytest.mark.parametrize(("name", "project"), [pair for pair in NAMED if pair != ("edsr", "mmagic")])
def test_published_weights_give_equal_outputs(name: str, project: str, tmp_path: Path) -> None:
    network, file = without_gates(name), tmp_path / "published.pth"
    weights = theirs(name, project, network)
    # The names of other projects are those of test_foreign and test_mmagic_names.
    assert PUBLISHED_NAMES[name] in weights or project not in ("BasicSR", "RRN")
    constants = {"spynet.mean": torch.zeros(1, 3, 1, 1), "spynet.std": torch.ones(1, 3, 1, 1)}
    torch.save({"params": weights | (constants if name == "basicvsr_pp" else {})}, file)
    said: list[str] = []
    loaded = load_dense(file, network.arguments, said.append).eval()
    assert said == [f"{file}: weights in {project}'s layout, under params"]
    with torch.no_grad():
        expected = network(random_clip(3).float()).frames_NTCHW
        assert torch.equal(loaded(random_clip(3).float()).frames_NTCHW, expected)
    assert all(bool((gate == 1).all()) for gate in loaded.gate_parameters())


@every_network
def test_weights_in_the_own_layout_are_read_with_their_gates(name: str, tmp_path: Path) -> None:
    network, file = random_network(arguments(name), signed=True).float(), tmp_path / "own.pth"
    torch.save(network.state_dict(), file)
    said: list[str] = []
    loaded = load_dense(file, network.arguments, said.append)
    assert said == [f"{file}: weights in vsrprune's layout"]
    state = network.state_dict()
    assert list(loaded.state_dict()) == list(state)
    assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())


@every_network
def test_a_dense_network_that_was_saved_is_a_checkpoint(name: str, tmp_path: Path) -> None:
    network = random_network(arguments(name), signed=True).float()
    save_network(network, tmp_path)
    loaded = load_dense(tmp_path / "network.safetensors", network.arguments).state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize(("name", "project"), NAMED)
def test_weights_that_are_missing_bear_the_names_of_the_file(name: str, project: str, tmp_path: Path) -> None:
    network, file = without_gates(name), tmp_path / "cut.pth"
    weights = theirs(name, project, network)
    names = list(weights)
    gone = [names[1], names[-4], names[-1]]
    torch.save({key: value for key, value in weights.items() if key not in gone}, file)
    with pytest.raises(UserError) as caught:
        load_dense(file, network.arguments)
    what = f"{file}: these weights are of another network (3 missing: {', '.join(gone)})"
    compared = f"compared with {project}'s layout: the {len(weights) - 3} tensors of the file"
    assert str(caught.value).startswith(f"{what}; {compared}")
    torch.save({**weights, names[0]: weights[names[0]][:1], "more": torch.zeros(1)}, file)
    with pytest.raises(UserError, match=rf"1 unexpected: more; 1 of another shape: {names[0]} is \(1, "):
        load_dense(file, network.arguments)


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - {"basicvsr"}))
def test_weights_of_another_architecture_are_refused(name: str, tmp_path: Path) -> None:
    other = "rrn" if name == "edsr" else "edsr"
    torch.save(theirs(other, NAMED[[n for n, _ in NAMED].index(other)][1], without_gates(other)), tmp_path / "x.pth")
    with pytest.raises(UserError, match="these weights are of another network"):
        load_dense(tmp_path / "x.pth", arguments(name))


# Frame by frame


@every_network
@pytest.mark.parametrize("length", [1, 2, 11])
def test_frame_by_frame_is_the_clip(name: str, length: int) -> None:
    """11 frames are more than are taken together anywhere."""
    network = random_network(arguments(name), signed=True)
    clip_NTCHW = random_clip(length)
    with torch.no_grad():
        whole, frames = network(clip_NTCHW), list(network.frame_by_frame(clip_NTCHW))
    assert_equal(torch.stack([frame.frame_NCHW for frame in frames], dim=1), whole.frames_NTCHW)
    assert [tuple(frame.hidden) for frame in frames] == [tuple(whole.hidden)] * length
    for branch, states in whole.hidden.items():
        for frame, state in zip(frames, states, strict=True):
            assert_equal(frame.hidden[branch], state)


def test_frame_by_frame_nothing_is_held_that_no_later_frame_needs() -> None:
    """Of outputs and forward states none, of backward states those of later frames."""
    network = random_network(arguments("basicvsr"), dtype=torch.float32)
    gone: list[tuple[weakref.ref[Tensor], ...]] = []
    with torch.no_grad():
        for frame in network.frame_by_frame(random_clip(4, dtype=torch.float32)):
            assert all(tensor() is None for tensors in gone[:-1] for tensor in tensors)
            gone.append((weakref.ref(frame.frame_NCHW), *map(weakref.ref, frame.hidden.values())))
