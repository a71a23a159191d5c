"""Depthwise and grouped convolutions in a network of one's own: traced, cut, proven, or refused by name."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks_made import randomise
from torch import Tensor, nn
from torch.nn import functional as F

from vsrprune.channels.layout import RULES
from vsrprune.channels.plan import PrunePlan
from vsrprune.errors import UserError
from vsrprune.metrics.cost import network_cost
from vsrprune.networks.fast.fastest import freeze
from vsrprune.networks.own import Declaration, OwnNetwork, VSROutput
from vsrprune.pruning.penalty import TARGETS
from vsrprune.pruning.reparametrisation import normalise_filters
from vsrprune.pruning.scores.table import score_units
from vsrprune.pruning.surgery import compact, equivalence_error
from vsrprune.selection.asked import Asked
from vsrprune.selection.units import select

CHANNELS = 6
every_rule = pytest.mark.parametrize("rule", RULES)


def conv(inputs: int, outputs: int, kernel: int = 3, groups: int = 1, **options) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, **options)


class Separable(OwnNetwork):
    """A recurrent stream with an inverted block (wide, depthwise, narrow); the upsampler is depthwise-separable."""

    def __init__(self) -> None:
        super().__init__()
        self.first = conv(3 + CHANNELS, CHANNELS)
        self.wide = conv(CHANNELS, 10, 1)
        self.spatial = conv(10, 10, groups=10, bias=False)
        self.narrow = conv(10, CHANNELS, 1)
        self.spread = conv(CHANNELS, CHANNELS, 5, groups=CHANNELS)
        self.up = conv(CHANNELS, 4 * 5, 1)
        self.smooth, self.again = conv(5, 5, groups=5), conv(5, 5, groups=5)
        self.last = conv(5, 3)

    def forward(self, frames_NTCHW: Tensor, flows: object = None) -> VSROutput:
        batch, _, _, height, width = frames_NTCHW.shape
        state = frames_NTCHW.new_zeros(batch, self.first.out_channels, height, width)
        frames, states = [], []
        for frame in frames_NTCHW.unbind(1):
            state = F.relu(self.first(torch.cat((frame, state), dim=1)))
            state = state + self.narrow(F.relu(self.spatial(F.relu(self.wide(state)))))
            x = F.pixel_shuffle(self.up(F.relu(self.spread(state))), 2)
            frames.append(self.last(self.again(F.relu(self.smooth(F.relu(x))))))
            states.append(state)
        return VSROutput(torch.stack(frames, dim=1), {"state": states})

    def channel_groups(self, rule: str) -> Declaration:
        spec = Declaration(rule)
        spec.stream("state", starts=["first"])
        spec.reads("first", 3, "state")
        spec.reads("wide", "state")
        spec.adds("state", "narrow")
        spec.reads("spread", "state")
        return spec


@functools.cache
def separable() -> OwnNetwork:
    network = Separable().prepare().double()
    randomise(network, signed=True)
    return network.eval()


@functools.cache
def clip() -> Tensor:
    return torch.rand(1, 3, 3, 7, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


GATES = {
    "wide": ["wide.gate", "spatial.gate"],
    "up": ["up.gate", "smooth.gate", "again.gate"],
    "narrow": ["narrow.gate"],
    "state.stream": ["first.gate", "narrow.gate", "spread.gate"],
}


@pytest.mark.parametrize(
    ("rule", "groups"),
    [("rsc", ["wide", "narrow", "up"]), ("aligned", ["state.stream", "wide", "up"]), ("inner", ["wide", "up"])],
)
def test_a_depthwise_convolution_is_traced_into_the_group_of_its_producer(rule: str, groups: list[str]) -> None:
    layout = separable().channel_layout(rule)
    found = {group.name: [gate.parameter for gate in group.gates] for group in layout.groups}
    assert found == {name: GATES[name] for name in groups}
    assert {conv.name for conv in layout.convs if conv.depthwise} == {"spatial", "spread", "smooth", "again"}
    assert "spatial: 10 channels in group wide" in separable().explain(rule)
    if rule != "aligned":
        assert "spread: 6 channels, never cut: it goes with what it reads" in separable().explain(rule)


@every_rule
@given(data=st.data())
def test_depthwise_channels_compact_equal_masked(rule: str, data: st.DataObject) -> None:
    network = separable()
    layout = network.channel_layout(rule)
    cut = {
        group.name: data.draw(st.sets(st.integers(0, group.size - 1), max_size=group.size - 1), label=group.name)
        for group in layout.groups
    }
    plan = PrunePlan.cutting(rule, layout, cut)
    assert equivalence_error(network, plan, clip(), torch.float64) <= 1e-10


@every_rule
def test_macs_and_parameters_are_counted_on_the_compact_network(rule: str) -> None:
    network = copy.deepcopy(separable()).float()
    layout = network.channel_layout(rule)
    plan = PrunePlan.cutting(rule, layout, {group.name: [0, 2] for group in layout.groups})
    smaller = compact(network, plan)
    assert (smaller.spatial.in_channels, smaller.spatial.groups, len(smaller.again.weight)) == (8, 8, 3)
    for some, kept in ((network, None), (smaller, plan.kept_counts)):
        cost = network_cost(some, (8, 12))
        assert cost.macs == layout.macs_per_pixel(kept) * 8 * 12
        assert cost.parameters == layout.parameters(kept)


@every_rule
def test_a_frozen_depthwise_network_is_the_network(rule: str) -> None:
    network = separable()
    layout = network.channel_layout(rule)
    smaller = compact(network, PrunePlan.cutting(rule, layout, {group.name: [1] for group in layout.groups}))
    frozen, _ = freeze(smaller, clip(), lambda call: float(call() is None))
    torch.testing.assert_close(frozen(clip()), smaller(clip()).frames_NTCHW, rtol=0, atol=1e-10)


@pytest.mark.parametrize("score", ["l1", "l2", "fpgm", "lamp", "gate", "l1_first"])
def test_depthwise_channels_are_scored_and_selected(score: str) -> None:
    network = separable()
    layout = network.channel_layout("inner")
    plan = select(layout, score_units(network, layout, score), Asked(rule="inner", ratio=0.4, target="macs"))
    assert 0.35 <= 1 - layout.macs_per_pixel(plan.kept_counts) / layout.macs_per_pixel() <= 0.45


@pytest.mark.parametrize("target", TARGETS)
def test_a_penalty_drives_depthwise_channels_to_zero_too(target: str) -> None:
    network = separable()
    plan = PrunePlan.cutting("inner", network.channel_layout("inner"), {"wide": [0, 3], "up": []})
    values = TARGETS[target](network, plan).values(network)
    counts = {"gates": [4], "filters": [2 * CHANNELS, 2, 2 * 9, 2]}
    assert [value.numel() for value in values] == counts[target]


def test_unit_filters_of_a_depthwise_convolution_leave_the_function() -> None:
    network = Separable().prepare().double()
    randomise(network, signed=True)
    before = network(clip()).frames_NTCHW
    normalise_filters(network, network.channel_layout("inner"))
    torch.testing.assert_close(network(clip()).frames_NTCHW, before, rtol=0, atol=1e-10)
    assert network.spatial.weight.flatten(1).norm(dim=1).tolist() == pytest.approx([1.0] * 10)


class Between(OwnNetwork):
    """Convolutions a and b, something between them, and c; nothing is declared."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, CHANNELS), conv(CHANNELS, CHANNELS), conv(CHANNELS, 3)
        self.d = self.between_conv()

    def between_conv(self) -> nn.Conv2d:
        return conv(CHANNELS, CHANNELS, groups=CHANNELS)

    def forward(self, frames_NTCHW: Tensor, flows: object = None) -> VSROutput:
        frames = [self.c(self.after(self.d(self.b(F.relu(self.a(frame)))))) for frame in frames_NTCHW.unbind(1)]
        return VSROutput(torch.stack(frames, dim=1), {})

    def after(self, x: Tensor) -> Tensor:
        return F.relu(x)


class Groups(Between):
    def between_conv(self) -> nn.Conv2d:
        return conv(CHANNELS, CHANNELS, groups=2)


class Multiplied(Between):
    def between_conv(self) -> nn.Conv2d:
        return conv(CHANNELS, 2 * CHANNELS, groups=CHANNELS)

    def after(self, x: Tensor) -> Tensor:
        return x[:, :CHANNELS]


class Dilated(Between):
    def between_conv(self) -> nn.Conv2d:
        return nn.Conv2d(CHANNELS, CHANNELS, 3, padding=2, dilation=2, groups=CHANNELS)


class Reflected(Between):
    """A convolution with gates pads with zeros: it would be another one."""

    def between_conv(self) -> nn.Conv2d:
        return conv(CHANNELS, CHANNELS, groups=CHANNELS, padding_mode="reflect")


class Sigmoid(Between):
    def after(self, x: Tensor) -> Tensor:
        return x.sigmoid()


class Shuffled(Between):
    def __init__(self) -> None:
        super().__init__()
        self.b, self.c = conv(CHANNELS, 8), conv(2, 3)

    def between_conv(self) -> nn.Conv2d:
        return conv(8, 8, groups=8)

    def after(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(F.pixel_shuffle(x, 2), 2)


@pytest.mark.parametrize(
    ("kind", "groups"),
    [
        (Between, {"a": 6, "b": 6}),
        (Groups, {"a": 6}),
        (Multiplied, {"a": 6}),
        (Dilated, {"a": 6}),
        (Reflected, {"a": 6}),
        (Sigmoid, {"a": 6}),
        (Shuffled, {"a": 6}),
    ],
)
def test_what_is_not_depthwise_or_not_read_plainly_is_whole_with_what_it_reads(
    kind: type[OwnNetwork], groups: dict[str, int]
) -> None:
    network = kind().prepare()
    for rule in RULES:
        layout = network.channel_layout(rule)
        assert {group.name: group.size for group in layout.groups} == groups
        assert network_cost(network, (8, 12)).macs == layout.macs_per_pixel() * 8 * 12


def declared(kind: type[OwnNetwork], *says: tuple[str, ...]) -> OwnNetwork:
    """A network of this kind whose declaration makes these calls, each a method's name and its arguments."""

    class Declared(kind):  # type: ignore[misc, valid-type]
        def channel_groups(self, rule: str) -> Declaration:
            spec = super().channel_groups(rule)
            for method, *arguments in says:
                getattr(spec, method)(*arguments)
            return spec

    return Declared()


def test_a_depthwise_convolution_may_be_kept_whole() -> None:
    network = declared(Between, ("whole", "d")).prepare()
    assert [group.name for group in network.channel_layout("rsc").groups] == ["a"]


@pytest.mark.parametrize(
    ("kind", "says", "words"),
    [
        (
            Groups,
            [("reads", "d", "b")],
            r"'d' is a convolution in 2 groups, which is never cut, .* declare whole\('b'\)",
        ),
        (Between, [("together", "d", "a")], r"'d' is depthwise and has no channels of its own; in together.* name 'b'"),
        (Between, [("reads", "d", "b", "a")], "'d' is depthwise and must read one thing; reads.* names 2 for it"),
        (Separable, [("adds", "state", "again")], "'again' is depthwise .* in stream 'state' name 'smooth'"),
        (
            Separable,
            [("whole", "spread")],
            r"'spread' is depthwise, and 'state', which it reads, may be cut; drop whole",
        ),
    ],
)
def test_what_a_convolution_in_groups_cannot_be_is_named(
    kind: type[OwnNetwork], says: list[tuple[str, ...]], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        declared(kind, *says).prepare()
