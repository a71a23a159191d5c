"""Convolutions in groups: a depthwise one goes with its producer's channels, another one is never cut."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vsrprune.channels.layout import RULES, ChannelGroup, ChannelLayout, ConvLayer, Gate, Slot
from vsrprune.channels.operations import Operation, TimeTable, Widths, forms
from vsrprune.channels.specification import RGB, Specification
from vsrprune.selection.frontier import Frontier, timed_operations

every_rule = pytest.mark.parametrize("rule", RULES)


def separable(rule: str = "inner") -> ChannelLayout:
    """A stream of 8 channels that a depthwise convolution reads, 6 filters, a depthwise one on them, a last one."""
    spec = Specification(rule)
    body = spec.stream("body", 8, part="trunk", writers=["first"])
    spec.conv("first", 3, [RGB], body)
    spread = spec.depthwise("spread", 5, body)
    mixed = spec.filters("mix", 1, [spread], 6, part="up", kind="shuffle", filters_per_unit=4)
    mixed = spec.depthwise("smooth", 3, mixed, scale=2, times=3)
    spec.conv("last", 1, [mixed], RGB, scale=2)
    return spec.layout()


@every_rule
def test_a_depthwise_gate_joins_the_group_of_what_it_reads(rule: str) -> None:
    groups = {group.name: group.gates for group in separable(rule).groups}
    body = (Gate("first", "output"), Gate("spread", "output"))
    mixed = (Gate("mix", "output"), Gate("smooth", "output"))
    assert groups == {**({"body.stream": body} if rule == "aligned" else {}), "mix": mixed}


@pytest.mark.parametrize(("rule", "stream"), [("rsc", 8), ("aligned", 5), ("inner", 8)])
def test_costs_by_hand(rule: str, stream: int) -> None:
    """Three of six channels are kept, and five of eight where the stream can be cut."""
    layout = separable(rule)
    kept = {
        name: count for name, count in {"body.stream": 5, "mix": 3}.items() if name in {g.name for g in layout.groups}
    }
    spread, mix, smooth, last = 25 * stream, stream * 12, 9 * 3, 3 * 3
    first = 27 * stream
    assert layout.macs_per_pixel(kept) == first + spread + mix + 3 * 4 * smooth + 4 * last
    biases = stream + stream + 12 + 3 + 3
    assert layout.parameters(kept) == first + spread + mix + smooth + last + biases


def test_fractions_of_channels_are_counted_too() -> None:
    kept = {"mix": 2.5}
    # 216 and 200 of the stream, 8 * 10 before the shuffle, three times 9 * 2.5 on four pixels, 2.5 * 3 on four pixels.
    assert separable().macs_per_pixel(kept) == 216 + 200 + 80 + 270 + 30  # type: ignore[arg-type]


def test_other_groups_are_counted_and_never_cut() -> None:
    plain = ConvLayer("grouped", 3, (Slot(8),), Slot(4), groups=2)
    assert plain.weights({}) == 9 * 4 * 4
    assert not plain.depthwise
    group = ChannelGroup("a", "trunk", "filters", 8, (Gate("a", "output"),))
    for slots in ((Slot(8, "a"), Slot(4)), (Slot(4), Slot(8, "a"))):
        with pytest.raises(ValueError, match="grouped: a convolution in 2 groups is never cut, nor is what it reads"):
            ChannelLayout((group,), (ConvLayer("grouped", 3, slots[:1], slots[1], groups=2),))
    with pytest.raises(ValueError, match="3 groups do not divide 8 inputs and 4 filters"):
        ConvLayer("grouped", 3, (Slot(8),), Slot(4), groups=3)


@pytest.mark.parametrize(
    "conv",
    [
        ConvLayer("d", 3, (Slot(4, "a"),), Slot(4, "a"), groups=4),
        ConvLayer("d", 3, (Slot(4),), Slot(4), groups=4),
    ],
    ids=["cut", "whole"],
)
def test_a_depthwise_convolution_whose_channels_are_cut_needs_its_gate_there(conv: ConvLayer) -> None:
    assert conv.depthwise
    without, with_it = (
        ChannelGroup("a", "trunk", "filters", 4, tuple(Gate(name, "output") for name in names))
        for names in (["a"], ["a", "d"])
    )
    assert ChannelLayout((with_it,), (conv,)).macs_per_pixel() == 36
    if conv.output.group:
        with pytest.raises(ValueError, match="d: its gate must be in group a, whose channels it reads"):
            ChannelLayout((without,), (conv,))


def test_a_stream_that_keeps_its_channels_is_read_by_no_depthwise_convolution() -> None:
    """Some channels of a stream are not all that a depthwise convolution writes."""
    spec = Specification("rsc")
    spec.stream("body", 4, part="trunk", writers=["first"])
    some = spec.read("d", "body", part="trunk")
    with pytest.raises(ValueError, match="only a depthwise one is"):
        spec.depthwise("d", 3, some)


def test_one_channel_has_no_groups() -> None:
    spec = Specification("inner")
    slot = spec.filters("a", 3, [RGB], 1, part="trunk", kind="filters")
    spec.depthwise("d", 3, slot)
    assert spec.layout().macs_per_pixel() == 27 + 9


def test_the_timed_form_has_as_many_groups_as_channels_are_kept() -> None:
    convs = {conv.name: conv for conv in separable("aligned").convs}
    (form,) = forms(convs["smooth"], Widths(3, 3))
    assert form == (Operation("conv", 3, 3, 3, 3), Operation("activation", 3, 3))
    (whole,) = forms(ConvLayer("grouped", 3, (Slot(8),), Slot(4), groups=2), Widths(8, 4))
    assert whole[0] == Operation("conv", 8, 4, 3, 2)
    assert [operation.work for operation in (form[0], whole[0])] == [27, 144]


def test_the_narrowest_convolution_is_none_with_groups() -> None:
    """A depthwise convolution does little, and takes long for it: it does not say whether times fall."""
    times = {Operation("conv", 64, 64, 3): 8.0, Operation("conv", 8, 8, 3): 1.0, Operation("conv", 64, 64, 3, 64): 6.0}
    assert TimeTable(times).falls(0.5)
    assert TimeTable.from_json(json.loads(json.dumps(TimeTable(times).to_json()))).falls(0.5)


@every_rule
def test_a_frontier_prices_a_depthwise_convolution_by_what_it_keeps(rule: str) -> None:
    layout = separable(rule)
    operations = timed_operations(layout)
    table = TimeTable({item: 1.0 + (item.work if item.kind == "conv" else 0) for item in operations})
    frontier = Frontier(layout, {group.name: np.ones(group.size) for group in layout.groups}, table, "macs")
    assert frontier.amount(frontier.dense) == layout.macs_per_pixel()
    half = {**frontier.dense, "mix": 3}
    assert frontier.amount(half) == layout.macs_per_pixel({"mix": 3})
    # What three channels fewer save: three times 9 * 3 on four pixels, 3 * 3 on four pixels, and 8 * 12.
    smooth, last, mix = 12 * (9 * 3), 4 * 9, 8 * 12
    assert frontier.milliseconds(frontier.dense) - frontier.milliseconds(half) == pytest.approx(smooth + last + mix)


@every_rule
def test_a_depthwise_layout_comes_back_from_json(rule: str) -> None:
    layout = separable(rule)
    values = json.loads(json.dumps(layout.to_json()))
    assert ChannelLayout.from_json(values) == layout
    for conv in values["convs"]:
        conv.pop("groups")  # as files have it that are older than groups
    assert {conv.groups for conv in ChannelLayout.from_json(values).convs} == {1}
