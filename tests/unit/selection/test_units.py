"""Selection by hand, against an exhaustive second implementation, and by properties."""

import math
import re
from collections.abc import Iterator, Mapping
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsrprune.channels.layout import RULES, ChannelGroup, ChannelLayout, ConvLayer, Gate, Slot
from vsrprune.channels.plan import PrunePlan
from vsrprune.errors import UserError
from vsrprune.networks.basicvsr.spec import BasicVSRArguments, basicvsr_layout
from vsrprune.selection.asked import ORDERS, SCOPES, TARGETS, Asked, check_reachable
from vsrprune.selection.budget import budget
from vsrprune.selection.units import select

Scores = dict[str, np.ndarray]


def chain(*sizes: int) -> ChannelLayout:
    """1x1 convolutions a, b, c, ... of these widths, from one channel to one channel."""
    groups, convs, previous = [], [], Slot(1)
    for name, size in zip("abcdefgh", sizes, strict=False):
        groups.append(ChannelGroup(name, "forward", "middle", size, (Gate(name, "output"),)))
        slot = Slot(size, name)
        convs.append(ConvLayer(name, 1, (previous,), slot))
        previous = slot
    return ChannelLayout(tuple(groups), (*convs, ConvLayer("last", 1, (previous,), Slot(1))))


def scores_of(*rows: list[float]) -> Scores:
    return {name: np.array(row, dtype=np.float64) for name, row in zip("abcdefgh", rows, strict=False)}


# Two layers of 4 and 2 units. MACs are 1*a + a*b + b*1: 14 when whole.
HAND_LAYOUT = chain(4, 2)
HAND_SCORES = scores_of([6, 1, 2, 7], [3, 5])
# From the least important: a1 a2 b0 [b1 stays] a0 [a3 stays]; MACs left 11, 8, 5, 3.
# From the most important:  a3 a0 b1 [b0 stays] a2 [a1 stays]; MACs left 11, 8, 5, 3.
# Local steps: (3, 2) 11, (3, 1) 7, (2, 1) 5, (1, 1) 3 MACs left.
# Parameters are 2a + a*b + 2b + 1: 21 when whole; along the ranking 17, 13, 9, 6; local steps 17, 12, 9, 6.
HAND_CASES = [
    ("global", "min", "units", 0.6, (3,), (1,)),  # 3.6 -> 4 units
    ("global", "max", "units", 0.6, (1,), (0,)),
    ("global", "min", "units", 0.3, (0, 3), (0, 1)),  # 1.8 -> 2 units, both of a
    ("global", "max", "units", 0.3, (1, 2), (0, 1)),
    ("global", "min", "macs", 0.6, (0, 3), (1,)),  # wants 5.6 left
    ("global", "max", "macs", 0.6, (1, 2), (0,)),
    ("global", "min", "macs", 0.3, (0, 2, 3), (0, 1)),  # wants 9.8 left: 11 is nearer than 8
    ("global", "max", "macs", 0.3, (0, 1, 2), (0, 1)),
    ("local", "min", "units", 0.6, (0, 3), (1,)),  # 2.4 -> 2 of a, 1.2 -> 1 of b
    ("local", "max", "units", 0.6, (1, 2), (0,)),
    ("local", "min", "macs", 0.55, (0, 2, 3), (1,)),  # wants 6.3 left: 7 is nearer than 5
    ("local", "max", "macs", 0.55, (0, 1, 2), (0,)),
    ("per_layer", "min", "units", 0.6, (0, 3), (0, 1)),
    ("per_layer", "max", "units", 0.6, (1, 2), (0, 1)),
    ("per_layer", "min", "macs", 0.6, (0, 3), (0, 1)),
    ("per_layer", "max", "macs", 0.6, (1, 2), (0, 1)),
    ("global", "min", "params", 0.6, (0, 3), (1,)),  # wants 8.4 left: 9 is nearer than 6
    ("global", "max", "params", 0.6, (1, 2), (0,)),
    ("local", "min", "params", 0.45, (0, 2, 3), (1,)),  # wants 11.55 left
    ("local", "max", "params", 0.45, (0, 1, 2), (0,)),
    ("per_layer", "min", "params", 0.6, (0, 3), (0, 1)),
    ("per_layer", "max", "params", 0.6, (1, 2), (0, 1)),
]


# Both layers are of one kind and one part, which therefore rank as one network does.
HAND_CASES += [(scope, *case[1:]) for scope in ("kind", "part") for case in HAND_CASES if case[0] == "global"]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("scope", "order", "target", "ratio", "kept_a", "kept_b"), HAND_CASES)
def test_by_hand(
    scope: str, order: str, target: str, ratio: float, kept_a: tuple[int, ...], kept_b: tuple[int, ...], rule: str
) -> None:
    plan = select(
        HAND_LAYOUT,
        HAND_SCORES,
        Asked(
            rule=rule,
            ratio=ratio,
            target=target,
            scope=scope,
            order=order,
            ratios={"a": 0.5, "b": 2} if scope == "per_layer" else None,
        ),
    )
    assert plan == PrunePlan(rule, {"a": 4, "b": 2}, {"a": kept_a, "b": kept_b})


def test_the_hand_cases_cover_every_combination() -> None:
    assert {case[:3] for case in HAND_CASES} == {(s, o, t) for s in SCOPES for o in ORDERS for t in TARGETS}


def half_up(size: int, ratio: float) -> int:
    """Exact floor(size * ratio + 1/2) of the decimal the user typed."""
    return math.floor(size * Fraction(str(ratio)) + Fraction(1, 2))


def cuts_in_rank_order(layout: ChannelLayout, scores: Scores, order: str, min_kept: int) -> Iterator[tuple[str, int]]:
    """Walk the whole ranking and skip a unit when its layer is down to `min_kept`."""
    left = {group.name: group.size for group in layout.groups}
    sign = 1 if order == "min" else -1
    ranking = sorted(
        (sign * scores[group.name][unit], layer, unit, group.name)
        for layer, group in enumerate(layout.groups)
        for unit in range(group.size)
    )
    for _, _, unit, name in ranking:
        if left[name] > min_kept:
            left[name] -= 1
            yield name, unit


def reference(layout: ChannelLayout, scores: Scores, ratio: float, target: str, scope: str, order: str) -> Mapping:
    """What stays, by exhaustive search: every prefix of the ranking, every uniform share of a fine grid."""
    walk = list(cuts_in_rank_order(layout, scores, order, 1))
    if scope == "global":
        options = [walk[:count] for count in range(len(walk) + 1)]
    else:
        options = []
        for share in [ratio] if target == "units" else np.arange(0, 1, 0.001):
            quota = {g.name: min(half_up(g.size, round(float(share), 6)), g.size - 1) for g in layout.groups}
            options.append([(n, u) for n, u in walk if [x for x in walk if x[0] == n].index((n, u)) < quota[n]])
    plans = []
    for cut in options:
        by_name: dict[str, list[int]] = {}
        for name, unit in cut:
            by_name.setdefault(name, []).append(unit)
        plans.append(PrunePlan.cutting("rsc", layout, by_name))
    if target == "units" and scope == "global":
        return plans[half_up(layout.units, ratio)].kept
    cost = layout.macs_per_pixel if target == "macs" else layout.parameters
    wanted = cost() * (1 - Fraction(str(ratio)))
    return min(plans, key=lambda plan: abs(cost(plan.kept_counts) - wanted)).kept


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("scope", ["global", "local"])
@pytest.mark.parametrize("rule", RULES)
def test_against_exhaustive_search_on_basicvsr(rule: str, scope: str, order: str, target: str) -> None:
    layout = basicvsr_layout(BasicVSRArguments(channels=4, blocks=1, upsampler_channels=6), rule)
    generator = np.random.default_rng(2)
    scores = {group.name: generator.integers(0, 9, group.size).astype(np.float64) for group in layout.groups}
    for ratio in (0.0, 0.2, 0.45, 0.6):
        plan = select(layout, scores, Asked(rule=rule, ratio=ratio, target=target, scope=scope, order=order))
        assert plan.kept == reference(layout, scores, ratio, target, scope, order), ratio
        assert plan.rule == rule


@pytest.mark.parametrize(
    ("units", "ratio", "cut"),
    [
        (10, 0.25, 3),  # 2.5 goes up
        (10, 0.24, 2),
        (10, 0.7, 7),  # 0.7 * 10 is 7.000000000000001 in binary
        (50, 0.29, 15),  # 14.5 goes up, 0.29 * 50 is 14.499999999999998 in binary
        (64, 0.5, 32),
        (64, 0.3, 19),
        (7, 0.0, 0),
        (7, 0.05, 0),
        (7, 0.08, 1),
    ],
)
@pytest.mark.parametrize("scope", ["global", "local"])
def test_number_of_units_is_rounded_half_up(units: int, ratio: float, cut: int, scope: str) -> None:
    layout = chain(units)
    plan = select(layout, {"a": np.arange(units, dtype=float)}, Asked(rule="rsc", ratio=ratio, scope=scope))
    assert plan.cut("a") == tuple(range(cut))


@pytest.mark.parametrize("order", ORDERS)
def test_ties_break_by_layer_then_index(order: str) -> None:
    layout = chain(3, 4)
    plan = select(layout, scores_of([1] * 3, [1] * 4), Asked(rule="rsc", ratio=3 / 7, order=order))
    assert plan.cut("a") == (0, 1)  # the third is protected, the next layer's first takes its place
    assert plan.cut("b") == (0,)


@pytest.mark.parametrize(("order", "cut_a", "cut_b"), [("min", (0, 3), (1, 2)), ("max", (1, 2), (0, 3))])
def test_ties_within_mixed_scores(order: str, cut_a: tuple[int, ...], cut_b: tuple[int, ...]) -> None:
    scores = scores_of([1, 9, 9, 1], [9, 1, 1, 9])
    plan = select(chain(4, 4), scores, Asked(rule="rsc", ratio=0.5, order=order))
    assert (plan.cut("a"), plan.cut("b")) == (cut_a, cut_b)


def test_a_protected_unit_is_replaced_by_the_next_in_rank() -> None:
    scores = scores_of([1, 2, 3, 4], [5, 6, 7, 8])
    kept = {
        min_kept: select(chain(4, 4), scores, Asked(rule="rsc", ratio=0.5, min_kept=min_kept)).kept
        for min_kept in (1, 2)
    }
    assert kept[1] == {"a": (3,), "b": (1, 2, 3)}
    assert kept[2] == {"a": (2, 3), "b": (2, 3)}


def test_the_units_kept_by_protection_are_the_best_of_their_layer() -> None:
    scores = scores_of([4, 1, 3, 2], [9, 9, 9, 9])
    assert select(chain(4, 4), scores, Asked(rule="rsc", ratio=0.375, min_kept=1)).kept["a"] == (0,)
    assert select(chain(4, 4), scores, Asked(rule="rsc", ratio=0.25, order="max", min_kept=3)).kept == {
        "a": (1, 2, 3),
        "b": (1, 2, 3),
    }


# Impossible requests


def stated_ratio(error: UserError) -> float:
    found = re.search(r"the largest reachable ratio (?:there )?is ([0-9.]+)$", str(error))
    assert found, str(error)
    return float(found[1])


@pytest.mark.parametrize(
    ("scope", "target", "options", "stated"),
    [
        ("global", "units", {}, 0.75),  # 6 of 8
        ("global", "units", {"min_kept": 3}, 0.25),  # 2 of 8
        ("global", "units", {"round_to": 3}, 0.25),  # down to 3 each: 2 of 8
        ("local", "units", {"min_kept": 2}, 0.5),
        ("local", "units", {}, 0.75),
        ("global", "macs", {}, 0.875),  # 3 of 24 stay
        ("local", "macs", {}, 0.875),
        ("global", "macs", {"min_kept": 2}, 0.666),  # 8 of 24 stay
        ("local", "macs", {"round_to": 2}, 0.666),
    ],
)
def test_impossible_ratio_states_the_largest_reachable(
    scope: str, target: str, options: dict[str, int], stated: float
) -> None:
    layout, scores = chain(4, 4), scores_of([1, 2, 3, 4], [5, 6, 7, 8])

    def cut(ratio: float) -> PrunePlan:
        return select(layout, scores, Asked(rule="rsc", ratio=ratio, scope=scope, target=target, **options))

    with pytest.raises(UserError, match=r"ratio=0\.95") as caught:
        cut(0.95)
    assert "\n" not in str(caught.value)
    assert stated_ratio(caught.value) == pytest.approx(stated)
    least = max(options.get("min_kept", 1), options.get("round_to", 1))
    assert set(cut(stated_ratio(caught.value)).kept_counts.values()) == {least}
    with pytest.raises(UserError):
        cut(stated + 0.13)  # more than half a unit further


def test_target_macs_counts_channels_that_no_unit_covers() -> None:
    layout = ChannelLayout(chain(4).groups, (*chain(4).convs, ConvLayer("whole", 1, (Slot(8),), Slot(1))))
    with pytest.raises(UserError, match=r"ratio=0\.6 with target=macs asks for 40\.0% .* keep 62\.5%") as caught:
        check_reachable(layout, Asked("rsc", ratio=0.6, target="macs"))  # 4 + 4 + 8 can fall to 1 + 1 + 8
    assert stated_ratio(caught.value) == 0.375


def test_target_macs_accepts_a_floor_within_the_tolerance() -> None:
    layout = chain(100)  # MACs 200, at least 2
    assert select(layout, {"a": np.arange(100.0)}, Asked(rule="rsc", ratio=0.9901, target="macs")).kept == {"a": (99,)}
    with pytest.raises(UserError):
        check_reachable(layout, Asked("rsc", ratio=0.9903, target="macs"))


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 1.5, math.nan])
def test_ratio_out_of_range(ratio: float) -> None:
    with pytest.raises(UserError, match=rf"ratio must be in \[0, 1\); got {ratio}"):
        check_reachable(HAND_LAYOUT, Asked("rsc", ratio=ratio))


@pytest.mark.parametrize("name", ["order", "scope", "target"])
def test_unknown_words_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"{name} must be one of .*; got 'other'"):
        select(HAND_LAYOUT, HAND_SCORES, Asked(rule="rsc", ratio=0.5, **{name: "other"}))


def test_min_kept_beyond_a_layer_names_it() -> None:
    with pytest.raises(UserError, match=r"min_kept=3 is more than the 2 channels of b; allowed: 1\.\.2"):
        check_reachable(HAND_LAYOUT, Asked("rsc", ratio=0.1, min_kept=3))


def test_scores_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="b: expected 2 scores, got shape"):
        select(HAND_LAYOUT, scores_of([1, 2, 3, 4], [1, 2, 3]), Asked(rule="rsc", ratio=0.5))


# Rounded widths


def test_rounded_layers_are_cut_in_whole_steps_by_mean_score() -> None:
    layout = chain(8, 8)
    scores = scores_of([0, 1, 2, 3, 4, 5, 6, 7], [9, 9, 9, 9, 0, 0, 0, 5])
    # steps of four: b4..b7 scores 1.25 and goes before a0..a3 with 1.5, though its largest is the larger
    assert select(layout, scores, Asked(rule="rsc", ratio=0.25, round_to=4)).kept == {
        "a": tuple(range(8)),
        "b": (0, 1, 2, 3),
    }
    assert select(layout, scores, Asked(rule="rsc", ratio=0.5, round_to=4)).kept == {
        "a": (4, 5, 6, 7),
        "b": (0, 1, 2, 3),
    }


def test_a_width_that_is_no_multiple_falls_to_the_multiple_below() -> None:
    scores = scores_of([5, 0, 3, 1, 4, 2])
    assert select(chain(6), scores, Asked(rule="rsc", ratio=0.3, round_to=4)).kept == {"a": (0, 2, 4, 5)}
    assert select(chain(6), scores, Asked(rule="rsc", ratio=0.16, round_to=4)).kept == {
        "a": tuple(range(6))
    }  # 1 of 2: whole


def test_rounding_in_a_layer_goes_to_the_nearest_and_up_on_ties() -> None:
    layout, scores = chain(8), {"a": np.arange(8.0)}
    kept = {
        ratio: len(select(layout, scores, Asked(rule="rsc", ratio=ratio, scope="local", round_to=4)).kept["a"])
        for ratio in (0.125, 0.25, 0.375, 0.5, 0.9)
    }
    assert kept == {0.125: 8, 0.25: 8, 0.375: 4, 0.5: 4, 0.9: 4}


@pytest.mark.parametrize("round_to", [4, 7])
def test_rounding_that_leaves_nothing_to_cut_is_refused(round_to: int) -> None:
    with pytest.raises(UserError, match=rf"round_to={round_to} .* 2, 4 channels; it must be smaller than 4"):
        check_reachable(HAND_LAYOUT, Asked("rsc", ratio=0.1, round_to=round_to))


# Ratios by layer


def test_per_layer_ratios_and_kept_counts() -> None:
    layout = chain(4, 4, 4)
    scores = scores_of([4, 3, 2, 1], [1, 2, 3, 4], [1, 2, 3, 4])
    plan = select(layout, scores, Asked(rule="rsc", ratio=0.9, scope="per_layer", ratios={"a": 0.7, "b": 3}))
    assert plan.kept == {"a": (0,), "b": (1, 2, 3), "c": (0, 1, 2, 3)}  # 2.8 -> 3 cut; 3 kept; not named: whole


def test_per_layer_zero_ratio_and_full_count_keep_the_layer() -> None:
    plan = select(HAND_LAYOUT, HAND_SCORES, Asked(rule="rsc", ratio=0.5, scope="per_layer", ratios={"a": 0.0, "b": 2}))
    assert plan.units_cut == 0


def test_per_layer_unknown_layer_is_named_with_examples() -> None:
    with pytest.raises(UserError, match=r"unknown layer 'z'; this network has 2, such as a, b"):
        check_reachable(HAND_LAYOUT, Asked("rsc", ratio=0.5, scope="per_layer", ratios={"z": 0.5}))


@pytest.mark.parametrize("ratios", [None, {}])
def test_per_layer_needs_ratios(ratios: dict[str, float] | None) -> None:
    with pytest.raises(UserError, match="scope=per_layer needs ratios"):
        check_reachable(HAND_LAYOUT, Asked("rsc", ratio=0.5, scope="per_layer", ratios=ratios))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1.0, r"ratios\[a\] must be in \[0, 1\)"),
        (-0.1, r"ratios\[a\] must be in \[0, 1\)"),
        (math.nan, r"ratios\[a\] must be in \[0, 1\)"),
        (0, r"ratios\[a\]=0 keeps 0 of 4 channels; allowed: 1\.\.4"),
        (-2, r"ratios\[a\]=-2 keeps -2 of 4 channels; allowed: 1\.\.4"),
        (5, r"ratios\[a\]=5 keeps 5 of 4 channels; allowed: 1\.\.4"),
        (0.9, r"ratios\[a\]=0\.9 keeps 0 of 4 channels; allowed: 1\.\.4"),
        (True, r"ratios\[a\] must be a ratio in \[0, 1\) or a kept count; got True"),
        ("half", r"ratios\[a\] must be a ratio in \[0, 1\) or a kept count; got 'half'"),
    ],
)
def test_per_layer_bad_values(value: object, words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_reachable(HAND_LAYOUT, Asked("rsc", ratio=0.5, scope="per_layer", ratios={"a": value}))


def test_per_layer_respects_min_kept() -> None:
    with pytest.raises(UserError, match=r"keeps 1 of 4 channels; allowed: 2\.\.4"):
        check_reachable(HAND_LAYOUT, Asked("rsc", ratio=0.5, scope="per_layer", min_kept=2, ratios={"a": 1}))


# Budgets


def test_budget_of_units() -> None:
    plan = select(HAND_LAYOUT, HAND_SCORES, Asked(rule="rsc", ratio=0.6))
    assert budget(HAND_LAYOUT, plan, 0.6, "units").to_json() == {
        "target": "units",
        "dense": 6,
        "wanted": 2,
        "reached": 2,
        "deviation": 0.0,
    }


def test_budget_of_macs_states_the_miss() -> None:
    plan = select(HAND_LAYOUT, HAND_SCORES, Asked(rule="rsc", ratio=0.6, target="macs"))
    result = budget(HAND_LAYOUT, plan, 0.6, "macs")
    assert (result.dense, result.reached) == (14, 5)
    assert result.wanted == pytest.approx(5.6)
    assert result.deviation == pytest.approx((5 - 5.6) / 5.6)


# Properties


@st.composite
def problems(draw: st.DrawFn) -> tuple[ChannelLayout, Scores]:
    """A chain of layers and scores of few distinct values, so that ties are common."""
    sizes = draw(st.lists(st.integers(1, 12), min_size=1, max_size=5))
    rows = [draw(st.lists(st.integers(0, 6).map(float), min_size=size, max_size=size)) for size in sizes]
    return chain(*sizes), scores_of(*rows)


RATIOS = st.integers(0, 99).map(lambda percent: percent / 100)


@given(problem=problems(), ratio=RATIOS, order=st.sampled_from(ORDERS), min_kept=st.integers(1, 3))
def test_global_cuts_exactly_the_asked_number_or_says_why_not(problem, ratio, order, min_kept) -> None:
    layout, scores = problem
    wanted = half_up(layout.units, ratio)
    if min_kept > min(group.size for group in layout.groups):
        with pytest.raises(UserError, match="min_kept"):
            select(layout, scores, Asked(rule="rsc", ratio=ratio, order=order, min_kept=min_kept))
    elif wanted > layout.units - min_kept * len(layout.groups):
        with pytest.raises(UserError) as caught:
            select(layout, scores, Asked(rule="rsc", ratio=ratio, order=order, min_kept=min_kept))
        select(layout, scores, Asked(rule="rsc", ratio=stated_ratio(caught.value), order=order, min_kept=min_kept))
    else:
        plan = select(layout, scores, Asked(rule="rsc", ratio=ratio, order=order, min_kept=min_kept))
        assert plan.units_cut == wanted
        walk = list(cuts_in_rank_order(layout, scores, order, min_kept))[:wanted]
        assert {(g.name, unit) for g in layout.groups for unit in plan.cut(g.name)} == set(walk)


@given(problem=problems(), ratio=RATIOS, order=st.sampled_from(ORDERS), target=st.sampled_from(TARGETS))
def test_no_cut_unit_ranks_above_a_kept_unprotected_one(problem, ratio, order, target) -> None:
    layout, scores = problem
    sign = 1 if order == "min" else -1
    try:
        plan = select(layout, scores, Asked(rule="rsc", ratio=ratio, order=order, target=target))
    except UserError:
        return  # whether the refusal is right is tested above
    cut = [sign * scores[g.name][unit] for g in layout.groups for unit in plan.cut(g.name)]
    for group in layout.groups:
        kept = sorted(sign * scores[group.name][unit] for unit in plan.kept[group.name])
        unprotected = kept[:-1]  # the best of a layer stays whatever its rank
        assert all(value >= max(cut, default=-math.inf) for value in unprotected)


@given(
    problem=problems(),
    ratio=RATIOS,
    scope=st.sampled_from(["global", "local", "kind", "part"]),
    target=st.sampled_from(TARGETS),
    order=st.sampled_from(ORDERS),
    min_kept=st.integers(1, 3),
    round_to=st.integers(1, 5),
)
def test_kept_counts_respect_the_limits(problem, ratio, scope, target, order, min_kept, round_to) -> None:
    layout, scores = problem
    options = {"scope": scope, "target": target, "min_kept": min_kept, "round_to": round_to}
    try:
        check_reachable(layout, Asked("rsc", ratio=ratio, **options))
    except UserError:
        with pytest.raises(UserError):
            select(layout, scores, Asked(rule="rsc", ratio=ratio, order=order, **options))
        return
    plan = select(layout, scores, Asked(rule="rsc", ratio=ratio, order=order, **options))
    for group in layout.groups:
        kept = plan.kept_counts[group.name]
        assert kept >= min_kept
        assert kept == group.size or kept % round_to == 0


@given(problem=problems(), ratio=RATIOS)
def test_global_macs_are_the_nearest_of_the_ranking(problem, ratio) -> None:
    layout, scores = problem
    wanted = layout.macs_per_pixel() * (1 - ratio)
    walk = list(cuts_in_rank_order(layout, scores, "min", 1))
    misses = []
    for count in range(len(walk) + 1):
        kept = {g.name: g.size - sum(name == g.name for name, _ in walk[:count]) for g in layout.groups}
        misses.append(abs(layout.macs_per_pixel(kept) - wanted))
    floor = layout.macs_per_pixel(dict.fromkeys((group.name for group in layout.groups), 1))
    try:
        plan = select(layout, scores, Asked(rule="rsc", ratio=ratio, target="macs"))
    except UserError:
        assert wanted * 1.02 < floor
        return
    reached = layout.macs_per_pixel(plan.kept_counts)
    assert abs(reached - wanted) == pytest.approx(min(misses), abs=1e-9)
    assert {(g.name, u) for g in layout.groups for u in plan.cut(g.name)} == set(walk[: plan.units_cut])


@given(problem=problems(), ratio=RATIOS, order=st.sampled_from(ORDERS))
def test_local_cuts_the_same_share_of_every_layer(problem, ratio, order) -> None:
    layout, scores = problem
    quota = {group.name: half_up(group.size, ratio) for group in layout.groups}
    if any(quota[group.name] == group.size for group in layout.groups):
        with pytest.raises(UserError, match="scope=local"):
            select(layout, scores, Asked(rule="rsc", ratio=ratio, scope="local", order=order))
        return
    plan = select(layout, scores, Asked(rule="rsc", ratio=ratio, scope="local", order=order))
    for group in layout.groups:
        ranked = [unit for name, unit in cuts_in_rank_order(layout, scores, order, 0) if name == group.name]
        assert plan.cut(group.name) == tuple(sorted(ranked[: quota[group.name]]))


@pytest.mark.parametrize("round_to", [8, 16])
@pytest.mark.parametrize("target", ["macs", "params"])
@pytest.mark.parametrize("rule", RULES)
def test_rounding_pays_in_one_layer_for_another(rule: str, target: str, round_to: int) -> None:
    layout = basicvsr_layout(BasicVSRArguments(channels=64, blocks=5), rule)
    draw = np.random.default_rng(3)
    scores = {group.name: draw.gamma(4.0, 0.25, group.size) * draw.uniform(0.7, 1.3) for group in layout.groups}
    for ratio in (0.3, 0.5, 0.7):
        plan = select(layout, scores, Asked(rule=rule, ratio=ratio, target=target, round_to=round_to))
        assert all(count % round_to == 0 for count in plan.kept_counts.values())
        assert abs(budget(layout, plan, ratio, target).deviation) <= 0.02
        assert len(set(plan.kept_counts.values())) > 1


def test_what_does_not_fit_is_skipped_for_what_does() -> None:
    # 8 + 8 units in two layers, one MAC for each of a's inputs (1), each of b's (a's units) and the last (b's units).
    layout = chain(8, 8)
    scores = scores_of([1, 1, 1, 1, 9, 9, 9, 9], [2, 2, 2, 2, 8, 8, 8, 8])
    free = select(layout, scores, Asked(rule="rsc", ratio=0.45, target="macs"))  # wants 44 of 80
    rounded = select(layout, scores, Asked(rule="rsc", ratio=0.45, target="macs", round_to=4))
    assert layout.macs_per_pixel(free.kept_counts) == 44
    assert rounded.kept_counts == {"a": 4, "b": 8}  # 4 + 32 + 8
