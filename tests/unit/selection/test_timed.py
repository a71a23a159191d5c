"""Plans for this device: the faster format, the aim that learns from measurements, what cannot be met."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest

from vsrprune.channels.layout import ChannelLayout
from vsrprune.channels.operations import Operation, TimeTable, grid
from vsrprune.channels.plan import PrunePlan
from vsrprune.errors import UserError
from vsrprune.networks.basicvsr.spec import BasicVSRArguments, basicvsr_layout
from vsrprune.selection.asked import RANKS, Asked
from vsrprune.selection.budget import Budget
from vsrprune.selection.frontier import choices, conv_widths, plan_milliseconds, timed_operations
from vsrprune.selection.ranking import NORMALISERS
from vsrprune.selection.timed import TimedSelection
from vsrprune.selection.units import select

LAYOUT = basicvsr_layout(BasicVSRArguments(channels=32, blocks=3, upsampler_channels=32), "rsc")
DRAW = np.random.default_rng(4)
SCORES = {group.name: DRAW.gamma(4.0, 0.25, group.size) for group in LAYOUT.groups}
DENSE = PrunePlan.keep_all("rsc", LAYOUT)


def table(factor: float = 1.0, layout: ChannelLayout = LAYOUT) -> TimeTable:
    """Milliseconds in proportion to the work of convolutions, and a little for everything else."""

    def ms(operation: Operation) -> float:
        work = operation.reads * operation.writes * operation.kernel**2 if operation.kind == "conv" else 0
        return factor * (work + 10 * operation.writes) / 1e5

    return TimeTable({operation: ms(operation) for operation in timed_operations(layout)})


def timed(order: str = "min", **tables: TimeTable) -> TimedSelection:
    return TimedSelection(LAYOUT, SCORES, tables or {"contiguous": table()}, Asked(rule="rsc", order=order))


@pytest.mark.parametrize("rule", ["rsc", "aligned", "inner"])
@pytest.mark.parametrize("target", ["macs", "params"])
def test_an_amount_is_kept_and_more_score_for_its_time_than_by_the_free_ranking(target: str, rule: str) -> None:
    layout = basicvsr_layout(BasicVSRArguments(channels=64, blocks=6), rule)
    scores = {group.name: DRAW.gamma(4.0, 0.25, group.size) for group in layout.groups}
    times = table(layout=layout)
    plan, budget = TimedSelection(layout, scores, {"contiguous": times}, Asked(rule=rule)).for_amount(target, 0.4)
    cost = layout.macs_per_pixel if target == "macs" else layout.parameters
    assert budget.target == target
    assert budget.reached == cost(plan.kept_counts)
    assert budget.wanted == pytest.approx(0.6 * cost())
    assert abs(budget.deviation) <= 0.02
    assert all(plan.kept_counts[group.name] in grid(group.size) for group in layout.groups)
    free = select(layout, scores, Asked(rule=rule, ratio=0.4, target=target, round_to=8))
    per_ms, free_per_ms = (kept_scores(scores, it) / plan_milliseconds(layout, it, times) for it in (plan, free))
    assert per_ms > free_per_ms


def kept_scores(scores: Mapping[str, np.ndarray], plan: PrunePlan) -> float:
    return float(sum(scores[name][list(units)].sum() for name, units in plan.kept.items()))


def test_a_budget_that_rounding_misses_names_what_is_reachable() -> None:
    Budget("macs", 1000, 985.0, 1000).check("auto")
    expected = "round_to=8 cannot keep 93.0% of the macs; the nearest plan keeps 95.7%: use ratio=0.043, or round_to=1"
    with pytest.raises(UserError, match=re.escape(expected)):
        Budget("macs", 1000, 930.0, 957).check(8)


def test_the_format_in_which_its_plan_is_faster_decides() -> None:
    slow = TimeTable(
        {
            operation: 1.0 if operation.kind == "conv" and operation.reads % 16 else 1e-3
            for operation in timed_operations(LAYOUT)
        }
    )
    alone, _ = timed(slow=slow).for_amount("macs", 0.6)
    fast, _ = timed(fast=table(1e-6)).for_amount("macs", 0.6)
    assert alone != fast
    assert timed(slow=slow, fast=table(1e-6)).for_amount("macs", 0.6)[0] == fast


def test_the_other_order_keeps_the_smallest_scores() -> None:
    kept = {}
    for order in ("min", "max"):
        plan, _ = timed(order).for_amount("macs", 0.6)
        kept[order] = np.mean(np.concatenate([SCORES[name][list(units)] for name, units in plan.kept.items()]))
    assert kept["min"] > kept["max"]


@pytest.mark.parametrize("order", ["min", "max"])
@pytest.mark.parametrize(("normalise", "rank"), list(itertools.product(NORMALISERS, RANKS)))
def test_normalise_and_rank_decide_only_where_times_say_nothing(normalise: str, rank: str, order: str) -> None:
    asked = Asked("rsc", order=order, normalise=normalise, rank=rank)
    plan, _ = TimedSelection(LAYOUT, SCORES, {"contiguous": table()}, asked).for_amount("macs", 0.5)
    assert plan == timed(order).for_amount("macs", 0.5)[0]
    flat = {"contiguous": TimeTable(dict.fromkeys(timed_operations(LAYOUT), 1.0))}
    rounded, _ = TimedSelection(LAYOUT, SCORES, flat, asked, multiple=4).for_amount("macs", 0.5)
    ranked = replace(asked, ratio=0.5, target="macs")
    assert rounded in [select(LAYOUT, SCORES, replace(ranked, round_to=multiple)) for multiple in (4, 2, 1)]


def clock(rest: float, factor: float = 1.0, calls: list[PrunePlan] | None = None) -> Callable[[PrunePlan], float]:
    """A device whose times are those of the table times `factor`, and `rest`."""
    times = table()
    free = choices(LAYOUT).free

    def measure(plan: PrunePlan) -> float:
        if calls is not None:
            calls.append(plan)
        touched: dict[str, set[int]] = {}
        for branch in ("backward", "forward"):
            names = [name for name in plan.kept if name.startswith(branch) and not name.endswith("conv1")]
            touched[f"{branch}_trunk"] = set().union(*(plan.kept[name] for name in names))
        steps = (32, 28, 24, 20, 16, 12, 8, 4)
        active = {name: min(count for count in steps if count >= len(some)) for name, some in touched.items()}
        counts = {**plan.kept_counts, **active}
        return rest + factor * sum(times.conv_ms(conv, conv_widths(conv, counts, free)) for conv in LAYOUT.convs)

    return measure


@pytest.mark.parametrize(("rest", "factor"), [(0.0, 1.0), (5.0, 1.0), (5.0, 1.7), (2.0, 0.6)])
def test_a_latency_is_met_as_it_is_measured(rest: float, factor: float) -> None:
    measure = clock(rest, factor)
    dense = measure(DENSE)
    wanted = rest + 0.5 * (dense - rest)
    plan, budget = timed().for_latency(wanted, dense, measure)
    assert budget.reached == measure(plan)
    assert budget.target == "latency"
    assert abs(budget.deviation) <= 0.10


@pytest.mark.parametrize("power", [3, 6])
@pytest.mark.parametrize("share", [0.3, 0.4, 0.6])
def test_a_latency_is_met_where_times_fall_much_faster_than_the_table_says(power: int, share: float) -> None:
    """The aim that a measurement corrects goes too far then, and too far back."""
    linear = clock(0.0)
    dense = linear(DENSE)

    def measure(plan: PrunePlan) -> float:
        return float(dense * (linear(plan) / dense) ** power)

    _, budget = timed().for_latency(share * dense, dense, measure)
    assert abs(budget.deviation) <= 0.10


def test_a_latency_that_the_dense_network_has_cuts_nothing() -> None:
    calls: list[PrunePlan] = []
    measure = clock(3.0, calls=calls)
    dense = measure(DENSE)
    plan, _ = timed().for_latency(dense, dense, measure)
    assert plan == DENSE


def test_a_latency_is_met_in_the_format_that_can_meet_it() -> None:
    """In the other all plans take as long, so that keeping everything looks best there."""
    flat = TimeTable(dict.fromkeys(timed_operations(LAYOUT), 1.0))
    measure = clock(rest=0.0)
    wanted = 0.5 * measure(DENSE)
    plan, budget = timed(flat=flat, sloped=table()).for_latency(wanted, measure(DENSE), measure)
    assert abs(budget.deviation) <= 0.10
    assert plan == timed().for_latency(wanted, measure(DENSE), measure)[0]


def test_a_latency_keeps_no_less_than_macs_at_that_time() -> None:
    """Milliseconds are met on the same frontier as MACs."""
    by_macs, _ = timed().for_amount("macs", 0.5)
    ms = clock(0.0)(by_macs)
    by_ms, _ = timed().for_latency(ms, clock(0.0)(DENSE), clock(0.0))
    assert clock(0.0)(by_ms) == pytest.approx(ms, rel=0.03)
    assert kept_scores(SCORES, by_ms) == pytest.approx(kept_scores(SCORES, by_macs), rel=0.03)


def test_a_latency_below_the_fastest_plan_names_what_is_reachable() -> None:
    measure = clock(rest=10.0)
    dense = measure(DENSE)
    expected = re.escape(
        f"no plan takes 9.0 ms per frame on this device (the dense network takes {dense:.1f}); measured"
    )
    with pytest.raises(
        UserError, match=expected + r" plans near it took 10\.\d ms: ask for one of these with target_ms"
    ):
        timed().for_latency(9.0, dense, measure)


@pytest.mark.parametrize(("rest", "factor"), [(0.0, 1.0), (5.0, 1.7), (2.0, 0.6)])
def test_a_deadline_is_kept_and_hardly_anything_is_given_away(rest: float, factor: float) -> None:
    measure = clock(rest, factor)
    wanted = rest + 0.5 * (measure(DENSE) - rest)
    plan, budget = timed().for_deadline(wanted, measure(DENSE), measure)
    assert budget.target == "realtime"
    assert budget.reached == measure(plan) <= wanted
    assert budget.reached >= 0.85 * wanted


def test_a_deadline_that_the_dense_network_keeps_cuts_nothing_and_measures_nothing() -> None:
    calls: list[PrunePlan] = []
    dense = clock(3.0)(DENSE)
    plan, budget = timed().for_deadline(1.01 * dense, dense, clock(3.0, calls=calls))
    assert plan == DENSE
    assert budget.reached == dense
    assert calls == []


def test_of_a_deadline_that_nothing_keeps_the_fastest_plan_is_left() -> None:
    calls: list[PrunePlan] = []
    measure = clock(rest=10.0, calls=calls)
    plan, budget = timed().for_deadline(9.0, clock(rest=10.0)(DENSE), measure)
    assert budget.reached == min(clock(rest=10.0)(tried) for tried in calls) > budget.wanted == 9.0
    assert plan in calls
    assert all(plan.kept_counts[name] <= tried.kept_counts[name] for tried in calls for name in plan.kept_counts)


def scaled(factor: float, calls: list[PrunePlan]) -> Callable[[PrunePlan], float]:
    """A way to run networks that takes a share of what the tables say, as integers do."""
    table = clock(0.0)

    def measure(plan: PrunePlan) -> float:
        calls.append(plan)
        return factor * table(plan)

    return measure


@pytest.mark.parametrize("share", [0.4, 0.6, 0.8, 0.9])
def test_a_deadline_is_met_closely_where_networks_run_faster_than_the_tables_say(share: float) -> None:
    calls: list[PrunePlan] = []
    measure = scaled(0.35, calls)
    dense = measure(DENSE)
    budget = timed().for_deadline(share * dense, dense, measure)[1]
    assert 0.85 * budget.wanted <= budget.reached <= budget.wanted
    assert len(calls) <= 8


def test_between_plans_that_are_late_and_one_that_is_far_too_fast_others_are_tried() -> None:
    """All but narrow networks take the same time, so that nothing is learned from the plans near the dense one."""
    calls: list[PrunePlan] = []
    table = clock(0.0)
    dense = table(DENSE)

    def measure(plan: PrunePlan) -> float:
        calls.append(plan)
        return dense if table(plan) > 0.55 * dense else table(plan)

    plan, budget = timed().for_deadline(0.93 * dense, dense, measure)
    assert budget.reached <= budget.wanted
    least = min(table(tried) for tried in calls)
    assert table(plan) > least + 0.3 * (0.55 * dense - least), "more is kept than where nothing more can be cut"


def launched(constant_ms: float) -> dict[str, TimeTable]:
    """Tables of a card on which every operation takes as long as its launch, and then its arithmetic.

    64 channels on 180x320 take 0.02 ms, as on a large card in sixteen bits.
    """
    work = {operation: table_ms(operation) for operation in timed_operations(WIDE)}
    return {"contiguous": TimeTable({operation: constant_ms + ms for operation, ms in work.items()})}


WIDE = basicvsr_layout(BasicVSRArguments(channels=64, blocks=30), "rsc")


def table_ms(operation: Operation) -> float:
    pixels = 180 * 320
    macs = operation.reads * operation.writes * operation.kernel**2 if operation.kind == "conv" else 0
    return pixels * (macs / 1.2e11 + (operation.reads + operation.writes) * 2 / 3e9)


# Whole launches, where times do not fall, at every ratio; what is left of them at one, since such plans take a second.
@pytest.mark.parametrize(
    ("constant_ms", "ratio"),
    [(0.0, 0.3), (0.0, 0.73), (0.0015, 0.5), *itertools.product((0.03, 1.0), (0.3, 0.5, 0.73))],
)
def test_what_launches_take_does_not_move_the_plan(constant_ms: float, ratio: float) -> None:
    """1.5 us is what is left of a launch of 30 us in a graph of 20 calls; the others are whole launches."""
    draw = np.random.default_rng(0)
    scores = {group.name: draw.gamma(4.0, 0.25, group.size) for group in WIDE.groups}
    selection = TimedSelection(WIDE, scores, launched(constant_ms), Asked(rule="rsc"))
    assert selection.falls == (constant_ms < 0.03)
    plan, budget = selection.for_amount("macs", ratio)
    assert abs(budget.deviation) <= 0.02
    if not selection.falls:
        assert all(plan.kept_counts[group.name] % 8 == 0 for group in WIDE.groups)


def test_times_fall_if_the_narrowest_convolution_takes_half_the_median_time_of_its_kernel() -> None:
    wide, middle, narrow = (Operation("conv", width, width, 3) for width in (64, 32, 8))
    others = {Operation("conv", 1, 1, 1): 0.01, Operation("add", 64, 64): 5.0}
    for ms, falls in ((0.4, True), (0.5, True), (0.6, False)):
        times = TimeTable({wide: 3.0, middle: 1.0, narrow: ms, **others})
        assert times.falls(0.5) == falls


def test_multiples_are_halved_where_they_could_not_keep_what_is_asked() -> None:
    layout = basicvsr_layout(BasicVSRArguments(channels=8, blocks=2, upsampler_channels=8), "rsc")
    scores = {group.name: DRAW.gamma(4.0, 0.25, group.size) for group in layout.groups}
    flat = {"contiguous": TimeTable(dict.fromkeys(timed_operations(layout), 1.0))}
    plan, budget = TimedSelection(layout, scores, flat, Asked(rule="rsc"), multiple=8).for_amount("macs", 0.4)
    assert abs(budget.deviation) <= 0.02
    assert plan.units_cut > 0
