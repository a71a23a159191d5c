"""`round_to=auto`: counts that are fast on this device, near the plan that scores alone would make.

Scores rank units whatever they cost, and time alone would empty the parts where a unit costs most (the upsampler). So
each part of the network keeps the budget that the unrounded ranking leaves it, and spends it where it keeps the highest
score for the time it takes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace

from vsrprune.channels.layout import ChannelLayout
from vsrprune.channels.operations import TimeTable, grid
from vsrprune.channels.plan import PrunePlan
from vsrprune.errors import UserError
from vsrprune.selection.asked import TOLERANCE, Asked, amount
from vsrprune.selection.budget import Budget
from vsrprune.selection.frontier import Frontier, conv_amount, part_convs
from vsrprune.selection.ranking import NORMALISERS
from vsrprune.selection.scores import Scores
from vsrprune.selection.units import select

LATENCY_TOLERANCE = 0.10  # of the wanted milliseconds
LATENCY_AIM = 0.05  # of the wanted milliseconds; nearer than that the search ends, since repeats differ by as much
ATTEMPTS = 6  # plans that are built and measured; each takes seconds to minutes
FALLEN = 0.5  # of the median time of convolutions: the narrowest, of a hundredth of the work, must not take more
HALVINGS = 10  # of the ratio, in search of a predicted time: a thousandth is less than a channel


class TimedSelection:
    """Plans for one network and one device.

    tables: times of operations by memory format. asked: rule, order, min_kept, normalise and rank; `order=min` keeps
    the largest scores, `max` the smallest (the ablation). multiple: of what kept counts are where the times do not fall
    with the counts.
    """

    def __init__(
        self,
        layout: ChannelLayout,
        scores: Scores,
        tables: Mapping[str, TimeTable],
        asked: Asked,
        multiple: int = 8,
    ) -> None:
        # The frontier adds up worths, which therefore must not be negative, in either order. It weighs them against
        # milliseconds itself: `rank` decides only what the free ranking leaves each part.
        worth = NORMALISERS[asked.normalise](layout, scores)
        highest = max(float(values.max()) for values in worth.values())
        self._worth = {name: values if asked.order == "min" else highest - values for name, values in worth.items()}
        self._layout, self._scores, self._tables = layout, scores, tables
        self._multiple = multiple
        self._free = Asked(
            asked.rule, order=asked.order, min_kept=asked.min_kept, normalise=asked.normalise, rank=asked.rank
        )

    @property
    def falls(self) -> bool:
        """Whether the times fall with the counts in some memory format: if not, they say nothing about counts."""
        return any(table.falls(FALLEN) for table in self._tables.values())

    def for_amount(self, target: str, ratio: float) -> tuple[PrunePlan, Budget]:
        """The plan without `ratio` of the MACs (target=macs) or parameters (params) that is fastest by the tables.

        Where the times do not fall with the counts, it is the ranking's plan, its counts rounded to multiples.
        """
        if self.falls:
            plans = (self._plan(table, target, ratio) for table in self._tables.values())
            plan, _ = min(plans, key=lambda pair: pair[1])
        else:
            plan = self._rounded(target, ratio)
        dense, reached = amount(self._layout, {}, target), amount(self._layout, plan.kept_counts, target)
        return plan, Budget(target, dense, dense * (1 - ratio), reached)

    def for_latency(
        self, wanted_ms: float, dense_ms: float, measure: Callable[[PrunePlan], float]
    ) -> tuple[PrunePlan, Budget]:
        """The plan of smallest ratio whose network, built and measured, takes `wanted_ms` per frame within a tenth.

        measure: milliseconds per frame of a plan's network. What the table of operations does not hold (flow net,
        warps, copies) is learned from each measurement, and the next plan aims accordingly. Raises UserError where the
        target cannot be met.
        """
        # The first guess of what the table does not hold is its share in the dense network.
        rest = dense_ms - min(self._plan(table, "macs", 0.0)[1] for table in self._tables.values())
        tried: list[tuple[float, PrunePlan]] = []
        for _ in range(ATTEMPTS):
            plan, predicted_ms = self._within(wanted_ms - rest)
            if plan in [known for _, known in tried]:
                break  # measured already: the aim moves by less than a step of the grid
            tried.append((measure(plan), plan))
            if abs(tried[-1][0] / wanted_ms - 1) <= LATENCY_AIM:
                break
            rest = tried[-1][0] - predicted_ms
        reached, plan = min(tried, key=lambda pair: abs(pair[0] - wanted_ms))
        if abs(reached / wanted_ms - 1) > LATENCY_TOLERANCE:
            measured = ", ".join(f"{ms:.1f}" for ms, _ in tried)
            raise UserError(
                f"no plan takes {wanted_ms:.1f} ms per frame on this device (the dense network takes {dense_ms:.1f});"
                f" measured plans near it took {measured} ms: ask for one of these with target_ms"
            )
        return plan, Budget("latency", dense_ms, wanted_ms, reached)

    def _rounded(self, target: str, ratio: float) -> PrunePlan:
        """Counts that are multiples; of smaller numbers where those keep too much or too little."""
        wanted, tried = (1 - ratio) * amount(self._layout, {}, target), {}
        for multiple in itertools.takewhile(bool, (self._multiple >> halving for halving in itertools.count())):
            if multiple > 1 and all(group.size <= multiple for group in self._layout.groups):
                continue  # nothing could be cut
            asked = replace(self._free, ratio=ratio, target=target, round_to=multiple)
            plan = select(self._layout, self._scores, asked)
            tried[multiple] = plan, abs(amount(self._layout, plan.kept_counts, target) / wanted - 1)
            if tried[multiple][1] <= TOLERANCE:
                break
        return min(tried.values(), key=lambda pair: pair[1])[0]

    def _within(self, aim_ms: float) -> tuple[PrunePlan, float]:
        """The plan of smallest ratio that takes at most `aim_ms` by the tables, or the smallest plan; and its time."""
        low, high = 0.0, self._largest_ratio()
        best = self._fastest(high)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            plan = self._fastest(middle)
            if plan[1] > aim_ms:
                low = middle
            else:
                high, best = middle, plan
        dense = self._fastest(0.0)  # bisection approaches 0 and does not try it
        return dense if dense[1] <= aim_ms else best

    def _fastest(self, ratio: float) -> tuple[PrunePlan, float]:
        return min((self._plan(table, "macs", ratio) for table in self._tables.values()), key=lambda pair: pair[1])

    def _largest_ratio(self) -> float:
        least = {group.name: min(self._free.min_kept, group.size) for group in self._layout.groups}
        return 1 - self._layout.macs_per_pixel(least) / self._layout.macs_per_pixel()

    def _plan(self, table: TimeTable, target: str, ratio: float) -> tuple[PrunePlan, float]:
        """The plan in one memory format and the time of its convolutions in milliseconds."""
        asked = replace(self._free, ratio=ratio, target=target)
        free, min_kept = select(self._layout, self._scores, asked).kept_counts, asked.min_kept
        parts = dict.fromkeys(group.part for group in self._layout.groups)
        wanted = {
            part: sum(conv_amount(conv, free, target) for conv in part_convs(self._layout, part)) for part in parts
        }
        cut: dict[str, set[int]] = {}
        fixed = {group.name: _nearest(grid(group.size, min_kept), free[group.name]) for group in self._layout.groups}
        owed, ms = 0.0, 0.0
        # What a part keeps too much or too little of is paid for by the next: those with the fewest layers go first.
        for part in sorted(parts, key=lambda part: sum(group.part == part for group in self._layout.groups)):
            frontier = Frontier(self._layout, part, self._worth, table, target, min_kept=min_kept, fixed=fixed)
            counts = frontier.reach(wanted[part] + owed, TOLERANCE)
            owed += wanted[part] - frontier.amount(counts)
            ms += frontier.milliseconds(counts)
            cut |= frontier.cut(counts)
            fixed |= counts
        return PrunePlan.cutting(self._free.rule, self._layout, cut), ms


def _nearest(counts: list[int], wanted: int) -> int:
    return min(counts, key=lambda count: abs(count - wanted))
