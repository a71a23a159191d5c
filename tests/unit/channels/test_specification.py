"""Residual rules applied to what an author states: groups, gates and slots as a pencil gives them."""

from __future__ import annotations

import pytest

from vsrprune.channels.layout import RULES, ChannelGroup, ChannelLayout, Gate, Slot
from vsrprune.channels.specification import RGB, Specification
from vsrprune.errors import UserError

every_rule = pytest.mark.parametrize("rule", RULES)


def small(rule: str) -> ChannelLayout:
    """A stream of 4 channels with one block, filters that read it beside two channels of their own, a last conv."""
    spec = Specification(rule)
    body = spec.stream("body", 4, part="trunk", writers=["first"])
    spec.conv("first", 3, [RGB], body)
    spec.block("block", "body", part="trunk")
    mixed = spec.filters("mix", 1, [body, Slot(2)], 5, part="upsampler", kind="fusion", scale=2, filters_per_unit=4)
    spec.conv("last", 3, [mixed], RGB, scale=4, times=2)
    return spec.layout()


def output(conv: str) -> Gate:
    return Gate(conv, "output")


MIDDLE = ChannelGroup("block.conv1", "trunk", "middle", 4, (output("block.conv1"),), "block")
MIX = ChannelGroup("mix", "upsampler", "fusion", 5, (output("mix"),))
GROUPS = {
    "rsc": (
        ChannelGroup("block.conv1.input", "trunk", "input", 4, (Gate("block.conv1", "input"),), "block"),
        MIDDLE,
        ChannelGroup("block.conv2", "trunk", "output", 4, (output("block.conv2"),), "block"),
        MIX,
    ),
    "aligned": (
        ChannelGroup(
            "body.stream",
            "trunk",
            "stream",
            4,
            (output("first"), Gate("block.conv1", "input"), output("block.conv2")),
        ),
        MIDDLE,
        MIX,
    ),
    "inner": (MIDDLE, MIX),
}


@every_rule
def test_groups_and_gates_by_hand(rule: str) -> None:
    assert small(rule).groups == GROUPS[rule]
    assert small(rule).parts == ("trunk", "upsampler")


SLOTS = {  # of the stream itself, of what conv1 reads of it, of what conv2 adds to it
    "rsc": (
        Slot(4),
        Slot(4, "block.conv1.input", "body", partial=True),
        Slot(4, "block.conv2", "body", partial=True),
    ),
    "aligned": (Slot(4, "body.stream"), Slot(4, "body.stream", "body"), Slot(4, "body.stream", "body")),
    "inner": (Slot(4), Slot(4, None, "body"), Slot(4, None, "body")),
}


@every_rule
def test_slots_by_hand(rule: str) -> None:
    stream, read, added = SLOTS[rule]
    convs = {conv.name: conv for conv in small(rule).convs}
    assert list(convs) == ["first", "block.conv1", "block.conv2", "mix", "last"]
    ends = {name: (conv.inputs, conv.output) for name, conv in convs.items()}
    assert ends == {
        "first": ((Slot(3),), stream),
        "block.conv1": ((read,), Slot(4, "block.conv1")),
        "block.conv2": ((Slot(4, "block.conv1"),), added),
        "mix": ((stream, Slot(2)), Slot(5, "mix")),
        "last": ((Slot(5, "mix"),), Slot(3)),
    }
    shapes = {name: (conv.kernel, conv.scale, conv.filters_per_unit, conv.times) for name, conv in convs.items()}
    assert shapes == {
        "first": (3, 1, 1, 1),
        "block.conv1": (3, 1, 1, 1),
        "block.conv2": (3, 1, 1, 1),
        "mix": (1, 2, 4, 1),
        "last": (3, 4, 1, 2),
    }


@every_rule
def test_costs_by_hand(rule: str) -> None:
    """All groups keep two channels; only `aligned` makes the stream itself narrower."""
    layout = small(rule)
    kept = {group.name: 2 for group in layout.groups}
    stream = 2 if rule == "aligned" else 4
    read = added = 4 if rule == "inner" else 2
    weights = {"first": 27 * stream, "conv1": 9 * read * 2, "conv2": 9 * 2 * added, "mix": (stream + 2) * 8, "last": 54}
    pixels = {"first": 1, "conv1": 1, "conv2": 1, "mix": 4, "last": 2 * 16}
    assert layout.macs_per_pixel(kept) == sum(weights[name] * pixels[name] for name in weights)
    assert layout.parameters(kept) == sum(weights.values()) + stream + 2 + added + 8 + 3


@every_rule
def test_blocks_share_a_stream_by_the_rule(rule: str) -> None:
    spec = Specification(rule)
    stream = spec.stream("body", 6, part="trunk", writers=["a", "b"])
    spec.conv("a", 3, [RGB], stream)
    spec.conv("b", 1, [RGB], stream)
    added = [spec.block(name, "body", part="trunk", kernel=5) for name in ("one", "two")]
    layout = spec.layout()
    assert {conv.kernel for conv in layout.convs if conv.name.startswith(("one", "two"))} == {5}
    stream_ends = [slot for conv in layout.convs for slot in (*conv.inputs, conv.output) if slot.stream]
    assert [slot.stream for slot in stream_ends] == ["body"] * 4
    assert added == [slot for place, slot in enumerate(stream_ends) if place % 2]
    by_rule = {
        "rsc": ["one.conv1.input", "one.conv2", "two.conv1.input", "two.conv2"],
        "aligned": ["body.stream"] * 4,
        "inner": [None] * 4,
    }
    assert [slot.group for slot in stream_ends] == by_rule[rule]
    if rule == "aligned":
        ends = [("a", "output"), ("b", "output")]
        ends += [
            (f"{block}.{conv}", side)
            for block in ("one", "two")
            for conv, side in (("conv1", "input"), ("conv2", "output"))
        ]
        assert layout.groups[0].gates == tuple(Gate(conv, side) for conv, side in ends)  # type: ignore[arg-type]


@every_rule
def test_a_convolution_may_add_to_a_stream_by_itself(rule: str) -> None:
    """As one that ends a group of blocks does: an output of its own, in no block."""
    spec = Specification(rule)
    stream = spec.stream("body", 4, part="trunk", writers=["first"])
    spec.conv("first", 3, [RGB], stream)
    spec.conv("end", 3, [stream], spec.add("end", "body", part="trunk"))
    expected = {
        "rsc": [ChannelGroup("end", "trunk", "output", 4, (output("end"),))],
        "aligned": [ChannelGroup("body.stream", "trunk", "stream", 4, (output("first"), output("end")))],
        "inner": [],
    }
    assert list(spec.layout().groups) == expected[rule]
    group = {"rsc": "end", "aligned": "body.stream", "inner": None}[rule]
    assert spec.layout().convs[-1].output == Slot(4, group, "body", partial=rule == "rsc")


@every_rule
def test_a_group_may_be_read_before_its_convolution_is_stated(rule: str) -> None:
    """A recurrent state is read by what comes first."""
    spec = Specification(rule)
    state = spec.group(["late"], 3, part="forward", kind="hidden")
    first = spec.filters("early", 3, [RGB, state], 4, part="forward", kind="middle")
    spec.conv("late", 3, [first], state)
    layout = spec.layout()
    assert [group.name for group in layout.groups] == ["late", "early"]
    assert layout.macs_per_pixel({"late": 1, "early": 2}) == 9 * (3 + 1) * 2 + 9 * 2 * 1


def test_a_layout_is_what_was_stated_so_far() -> None:
    spec = Specification("rsc")
    spec.filters("a", 3, [RGB], 4, part="trunk", kind="middle")
    before = spec.layout()
    spec.filters("b", 3, [Slot(4, "a")], 4, part="trunk", kind="middle")
    assert [conv.name for conv in before.convs] == ["a"]
    assert [conv.name for conv in spec.layout().convs] == ["a", "b"]


# What is refused


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(UserError, match="residual rule must be one of rsc, aligned, inner; got 'skip'"):
        Specification("skip")


@every_rule
def test_a_layer_that_is_stated_twice_is_refused(rule: str) -> None:
    spec = Specification(rule)
    for _ in range(2):
        spec.filters("a", 3, [RGB], 4, part="trunk", kind="middle")
    with pytest.raises(ValueError, match="channel group 'a' is declared twice"):
        spec.layout()


@every_rule
def test_a_gate_in_two_groups_is_refused(rule: str) -> None:
    spec = Specification(rule)
    spec.stream("body", 4, part="trunk", writers=["a"])
    spec.stream("other", 4, part="trunk", writers=["a"])
    if rule == "aligned":
        with pytest.raises(ValueError, match="a gate stands in two channel groups"):
            spec.layout()
    else:
        assert spec.layout().groups == ()


@every_rule
def test_a_slot_of_another_size_is_refused(rule: str) -> None:
    spec = Specification(rule)
    spec.filters("a", 3, [RGB], 4, part="trunk", kind="middle")
    spec.conv("b", 3, [Slot(5, "a")], RGB)
    with pytest.raises(ValueError, match=r"b: slot Slot\(size=5, group='a'"):
        spec.layout()


@every_rule
def test_a_stream_that_was_not_stated_is_refused(rule: str) -> None:
    with pytest.raises(KeyError, match="body"):
        Specification(rule).block("block", "body", part="trunk")
