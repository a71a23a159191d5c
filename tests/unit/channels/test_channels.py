"""Plans and layouts check themselves; a layout's cost is what a pencil gives."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsrprune.channels.layout import RULES, ChannelGroup, ChannelLayout, ConvLayer, Gate, Slot
from vsrprune.channels.plan import PrunePlan
from vsrprune.channels.specification import Specification
from vsrprune.errors import UserError


def group(name: str, size: int, *convs: str) -> ChannelGroup:
    return ChannelGroup(name, "forward", "middle", size, tuple(Gate(conv, "output") for conv in convs or (name,)))


@pytest.fixture
def layout() -> ChannelLayout:
    """A 3x3 convolution 3 -> 4 (a), one 4+3 -> 2 before a shuffle by 2 (b), one 2 -> 3 at twice the side."""
    a, b = Slot(4, "a"), Slot(2, "b")
    return ChannelLayout(
        (group("a", 4), group("b", 2)),
        (
            ConvLayer("a", 3, (Slot(3),), a),
            ConvLayer("b", 1, (a, Slot(3)), b, filters_per_unit=4),
            ConvLayer("last", 3, (b,), Slot(3), scale=2),
        ),
    )


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        ((2, 1), "ascend without repeats"),
        ((1, 1), "ascend without repeats"),
        ((0, 4), r"must lie in 0\.\.3"),
        ((-1, 2), r"must lie in 0\.\.3"),
        ((), "at least one channel"),
    ],
    ids=["unsorted", "repeated", "too large", "negative", "empty"],
)
def test_plan_refuses_bad_channels(kept: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        PrunePlan("rsc", {"good": 2, "bad": 4}, {"good": (0, 1), "bad": kept})
    assert str(caught.value).startswith("bad: ")


def test_plan_refuses_unknown_rule() -> None:
    with pytest.raises(ValueError, match=r"rule must be one of rsc, aligned, inner; got 'loose'"):
        PrunePlan("loose", {"a": 2}, {"a": (0,)})


def test_plan_refuses_groups_without_size_or_channels() -> None:
    with pytest.raises(ValueError, match=r"\['b', 'c'\]"):
        PrunePlan("rsc", {"a": 2, "b": 2}, {"a": (0,), "c": (0,)})


@pytest.mark.parametrize("rule", ["rsc", "aligned", "inner"])
def test_plan_survives_json(rule: str) -> None:
    plan = PrunePlan(rule, {"z": 5, "a": 2}, {"z": (0, 3), "a": (1,)})
    back = PrunePlan.from_json(json.loads(json.dumps(plan.to_json())))
    assert back == plan
    assert list(back.sizes) == ["z", "a"]  # the network's order, not the alphabet's


def test_json_of_a_damaged_plan_is_refused() -> None:
    data = PrunePlan("rsc", {"a": 3}, {"a": (0, 2)}).to_json()
    data["groups"]["a"]["kept"] = [2, 0]
    with pytest.raises(ValueError, match="ascend"):
        PrunePlan.from_json(data)


def test_cutting_keeps_the_others(layout: ChannelLayout) -> None:
    plan = PrunePlan.cutting("inner", layout, {"a": [3, 1]})
    assert plan.kept == {"a": (0, 2), "b": (0, 1)}
    assert plan.cut("a") == (1, 3)
    assert plan.cut("b") == ()
    assert plan.kept_counts == {"a": 2, "b": 2}
    assert plan.units_cut == 2


def test_cutting_a_whole_group_is_refused(layout: ChannelLayout) -> None:
    with pytest.raises(ValueError, match="b: at least one channel"):
        PrunePlan.cutting("inner", layout, {"b": [0, 1]})


def test_keep_all_cuts_nothing(layout: ChannelLayout) -> None:
    plan = PrunePlan.keep_all("inner", layout)
    assert plan.kept == {"a": (0, 1, 2, 3), "b": (0, 1)}
    assert plan.units_cut == 0


def test_plan_of_another_network_is_named(layout: ChannelLayout) -> None:
    PrunePlan.keep_all("rsc", layout).check_fits(layout)
    with pytest.raises(UserError, match="group a has 5 channels in the plan and 4 in the network"):
        PrunePlan("rsc", {"a": 5, "b": 2}, {"a": (0,), "b": (0,)}).check_fits(layout)
    with pytest.raises(UserError, match="group b has no channels in the plan and 2 in the network"):
        PrunePlan("rsc", {"a": 4}, {"a": (0,)}).check_fits(layout)
    with pytest.raises(UserError, match="group c has 1 channels in the plan and no in the network"):
        PrunePlan("rsc", {"a": 4, "b": 2, "c": 1}, {"a": (0,), "b": (0,), "c": (0,)}).check_fits(layout)


def test_layout_refuses_a_group_twice() -> None:
    with pytest.raises(ValueError, match="'a' is declared twice"):
        ChannelLayout((group("a", 4, "x"), group("a", 4, "y")), ())


def test_layout_refuses_a_gate_in_two_groups() -> None:
    with pytest.raises(ValueError, match="a gate stands in two channel groups"):
        ChannelLayout((group("a", 4, "x"), group("b", 4, "x")), ())


def test_the_two_sides_of_one_convolution_are_two_gates() -> None:
    inputs = ChannelGroup("x.input", "forward", "input", 4, (Gate("x", "input"),))
    layout = ChannelLayout((inputs, group("x", 4)), ())
    assert [gate.parameter for g in layout.groups for gate in g.gates] == ["x.input_gate", "x.gate"]


@pytest.mark.parametrize("slot", [Slot(3, "a"), Slot(4, "unknown")], ids=["another size", "no such group"])
def test_layout_refuses_a_slot_without_its_group(slot: Slot) -> None:
    for conv in (ConvLayer("c", 3, (Slot(3),), slot), ConvLayer("c", 3, (slot,), Slot(3))):
        with pytest.raises(ValueError, match=r"c: slot .* does not match a declared group"):
            ChannelLayout((group("a", 4),), (conv,))


def test_group_needs_channels_and_gates() -> None:
    with pytest.raises(ValueError, match="'a' needs at least one channel and one gate"):
        group("a", 0)
    with pytest.raises(ValueError, match="'a' needs at least one channel and one gate"):
        ChannelGroup("a", "forward", "middle", 4, ())


def test_units(layout: ChannelLayout) -> None:
    assert layout.units == 6


@pytest.mark.parametrize(
    ("kept", "macs"),
    [
        (None, 9 * 3 * 4 + (4 + 3) * 2 * 4 + 9 * 4 * 2 * 3),  # 108 + 56 + 216
        ({}, 380),
        ({"a": 1}, 9 * 3 * 1 + (1 + 3) * 2 * 4 + 216),
        ({"b": 1}, 108 + (4 + 3) * 1 * 4 + 9 * 4 * 1 * 3),
        ({"a": 2, "b": 1}, 9 * 3 * 2 + (2 + 3) * 1 * 4 + 9 * 4 * 1 * 3),
    ],
)
def test_macs_per_pixel_by_hand(layout: ChannelLayout, kept: dict[str, int] | None, macs: int) -> None:
    assert layout.macs_per_pixel(kept) == macs


SPECIFIED = st.lists(
    st.tuples(st.integers(2, 6), st.booleans(), st.sampled_from((1, 2)), st.sampled_from((0, 0.5, 1, 2))),
    min_size=1,
    max_size=5,
)


@given(rule=st.sampled_from(RULES), layers=SPECIFIED)
def test_a_layout_comes_back_from_json(rule: str, layers: list[tuple[int, bool, int, float]]) -> None:
    spec, slot = Specification(rule), Slot(3)
    for index, (width, streamed, times, scale) in enumerate(layers):
        if streamed:
            stream = spec.stream(f"s{index}", width, part="trunk", writers=[f"w{index}"])
            spec.conv(f"w{index}", 3, [slot], stream, scale=scale, times=times)
            spec.block(f"b{index}", f"s{index}", part="trunk")
            slot = stream
        else:
            slot = spec.filters(f"f{index}", 1, [slot, slot], width, part="up", kind="filters", filters_per_unit=times)
    layout = spec.layout()
    assert ChannelLayout.from_json(json.loads(json.dumps(layout.to_json()))) == layout
