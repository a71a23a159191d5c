"""Plans for this device: the faster format, the aim that learns from measurements, what cannot be met."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from vsrprune.channels import PrunePlan
from vsrprune.errors import UserError
from vsrprune.models.basicvsr_channels import BasicVSRArguments, basicvsr_layout
from vsrprune.operations import Operation, TimeTable
from vsrprune.pruning.frontier import Frontier, timed_operations
from vsrprune.pruning.timed_selection import TimedSelection

LAYOUT = basicvsr_layout(BasicVSRArguments(channels=32, blocks=3, upsampler_channels=32), "rsc")
DRAW = np.random.default_rng(4)
SCORES = {group.name: DRAW.gamma(4.0, 0.25, group.size) for group in LAYOUT.groups}
DENSE = PrunePlan.keep_all("rsc", LAYOUT)


def table(factor: float = 1.0) -> TimeTable:
    """Milliseconds in proportion to the work of convolutions, and a little for everything else."""

    def ms(operation: Operation) -> float:
        work = operation.reads * operation.writes * operation.kernel**2 if operation.kind == "conv" else 0
        return factor * (work + 10 * operation.writes) * operation.scale**2 / 1e5

    return TimeTable({operation: ms(operation) for operation in timed_operations(LAYOUT)})


def timed(order: str = "min", **tables: TimeTable) -> TimedSelection:
    return TimedSelection(LAYOUT, SCORES, tables or {"contiguous": table()}, rule="rsc", order=order)


@pytest.mark.parametrize("target", ["macs", "params"])
def test_an_amount_is_kept(target: str) -> None:
    wanted = 0.4 * (LAYOUT.macs_per_pixel() if target == "macs" else LAYOUT.parameters())
    plan, budget = timed().for_amount(target, wanted)
    cost = LAYOUT.macs_per_pixel if target == "macs" else LAYOUT.parameters
    assert budget.target == target
    assert budget.reached == cost(plan.kept_counts)
    assert abs(budget.deviation) <= 0.02


def test_the_format_in_which_its_plan_is_faster_decides() -> None:
    wanted = 0.4 * LAYOUT.macs_per_pixel()
    slow = TimeTable(
        {
            operation: 1.0 if operation.kind == "conv" and operation.reads % 16 else 1e-3
            for operation in timed_operations(LAYOUT)
        }
    )
    alone, _ = timed(slow=slow).for_amount("macs", wanted)
    fast, _ = timed(fast=table(1e-6)).for_amount("macs", wanted)
    assert alone != fast
    assert timed(slow=slow, fast=table(1e-6)).for_amount("macs", wanted)[0] == fast


def test_the_other_order_keeps_the_smallest_scores() -> None:
    kept = {}
    for order in ("min", "max"):
        plan, _ = timed(order).for_amount("macs", 0.4 * LAYOUT.macs_per_pixel())
        kept[order] = np.mean(np.concatenate([SCORES[name][list(units)] for name, units in plan.kept.items()]))
    assert kept["min"] > kept["max"]


def clock(rest: float, factor: float = 1.0, calls: list[PrunePlan] | None = None) -> Callable[[PrunePlan], float]:
    """A device whose times are those of the table times `factor`, and `rest`."""
    frontier = Frontier(LAYOUT, SCORES, table(), "latency")

    def measure(plan: PrunePlan) -> float:
        if calls is not None:
            calls.append(plan)
        touched: dict[str, set[int]] = {}
        for branch in ("backward", "forward"):
            names = [name for name in plan.kept if name.startswith(branch) and not name.endswith("conv1")]
            touched[f"{branch}_trunk"] = set().union(*(plan.kept[name] for name in names))
        steps = (32, 28, 24, 20, 16, 12, 8, 4)
        active = {name: min(count for count in steps if count >= len(some)) for name, some in touched.items()}
        return rest + factor * frontier.milliseconds({**plan.kept_counts, **active})

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


def test_a_latency_that_the_dense_network_has_cuts_nothing() -> None:
    calls: list[PrunePlan] = []
    measure = clock(3.0, calls=calls)
    dense = measure(DENSE)
    plan, _ = timed().for_latency(dense, dense, measure)
    assert plan == DENSE


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
