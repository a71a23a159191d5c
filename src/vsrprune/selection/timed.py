"""`round_to=auto`: counts that are fast on this device, and keep the highest score for their time.

Scores are weighed against measured milliseconds over the whole network at once (`frontier.py`), until the budget is
met: MACs, parameters, or milliseconds themselves. That needs scores whose sum over layers means something.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from vsrprune.channels.layout import ChannelLayout
from vsrprune.channels.operations import TimeTable
from vsrprune.channels.plan import PrunePlan
from vsrprune.errors import UserError
from vsrprune.selection.asked import TOLERANCE, Asked, amount
from vsrprune.selection.budget import REALTIME, Budget
from vsrprune.selection.frontier import Frontier, plan_milliseconds
from vsrprune.selection.scores import Scores
from vsrprune.selection.units import select

LATENCY_TOLERANCE = 0.10  # of the wanted milliseconds
LATENCY_AIM = 0.05  # of the wanted milliseconds; nearer than that the search ends, since repeats differ by as much
DEADLINE_AIM = 0.95  # of the milliseconds that a frame has: plans are aimed at less, since they may take no more
ATTEMPTS = 6  # plans that are built and measured; each takes seconds to minutes
HALVINGS = 4  # more plans that are measured where the first ones are late and the narrowest is in time
FALLEN = 0.5  # of the median time of convolutions: the narrowest, of a hundredth of the work, must not take more


class _Found(NamedTuple):
    """A plan on a frontier: what it keeps of the scores, and the time of its convolutions in milliseconds."""

    plan: PrunePlan
    worth: float
    ms: float


class TimedSelection:
    """Plans for one network and one device.

    scores: they must be additive. tables: times of operations by memory format. asked: rule, order, min_kept, normalise
    and rank; `order=min` keeps the largest scores, `max` the smallest (the ablation). multiple: of what kept counts are
    where the times do not fall with the counts, and `normalise` and `rank` decide instead.
    """

    def __init__(
        self,
        layout: ChannelLayout,
        scores: Scores,
        tables: Mapping[str, TimeTable],
        asked: Asked,
        multiple: int = 8,
    ) -> None:
        # The frontier adds up worths, which therefore must not be negative, in either order.
        highest = max(float(values.max()) for values in scores.values())
        self._worth = {name: values if asked.order == "min" else highest - values for name, values in scores.items()}
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
        dense = amount(self._layout, {}, target)
        if self.falls:
            plans = [self._found(frontier, dense * (1 - ratio)) for frontier in self._frontiers(target)]
            plan = min(plans, key=lambda found: found.ms).plan
        else:
            plan = self._rounded(target, ratio)
        return plan, Budget(target, dense, dense * (1 - ratio), amount(self._layout, plan.kept_counts, target))

    def for_latency(
        self, wanted_ms: float, dense_ms: float, measure: Callable[[PrunePlan], float]
    ) -> tuple[PrunePlan, Budget]:
        """The plan of highest score whose network, built and measured, takes `wanted_ms` per frame within a tenth.

        measure: milliseconds per frame of a plan's network. What the table of operations does not hold (flow net,
        warps, copies) is learned from each measurement, and the next plan aims accordingly; between two plans on
        either side of the target, where that leads back to one of them. Raises UserError where it cannot be met.
        """
        tried = self._approach(wanted_ms, wanted_ms, dense_ms, measure)
        reached, plan = min(tried, key=lambda measured: abs(measured[0] - wanted_ms))
        if abs(reached / wanted_ms - 1) > LATENCY_TOLERANCE:
            measured = ", ".join(f"{ms:.1f}" for ms, _ in tried)
            raise UserError(
                f"no plan takes {wanted_ms:.1f} ms per frame on this device (the dense network takes {dense_ms:.1f});"
                f" measured plans near it took {measured} ms: ask for one of these with target_ms"
            )
        return plan, Budget("latency", dense_ms, wanted_ms, reached)

    def for_deadline(
        self, wanted_ms: float, dense_ms: float, measure: Callable[[PrunePlan], float]
    ) -> tuple[PrunePlan, Budget]:
        """The plan of highest score whose network takes at most `wanted_ms` per frame; the fastest if none does.

        Nothing is cut where the dense network is in time. measure: as for `for_latency`.
        """
        whole = PrunePlan.keep_all(self._free.rule, self._layout)
        if dense_ms <= wanted_ms:
            return whole, Budget(REALTIME, dense_ms, wanted_ms, dense_ms)
        tried = self._approach(wanted_ms * DEADLINE_AIM, wanted_ms, dense_ms, measure)
        if all(ms > wanted_ms for ms, _ in tried):
            tried += self._between_late_and_least(wanted_ms, tried, measure)
        in_time = [found for found in tried if found[0] <= wanted_ms]
        # The slowest of those in time keeps the most.
        reached, plan = max(in_time or [min(tried, key=lambda found: found[0])], key=lambda found: found[0])
        return plan, Budget(REALTIME, dense_ms, wanted_ms, reached)

    def _between_late_and_least(
        self, wanted_ms: float, late: Sequence[tuple[float, PrunePlan]], measure: Callable[[PrunePlan], float]
    ) -> list[tuple[float, PrunePlan]]:
        """Plans with their measured milliseconds, where all that were measured are late.

        Before it is said that no plan is in time, that of the fewest channels is measured. It may be far too fast:
        halfway between it and the fastest of the late ones, by the tables, a plan is looked for that keeps more.
        """
        frontiers = self._frontiers("ms")
        plan, _, low = self._within(frontiers, 0.0)
        known = [known for _, known in late]
        if plan in known:
            return []
        found = [(measure(plan), plan)]
        known.append(plan)
        if found[0][0] > wanted_ms:
            return found
        tables = self._tables.values()
        high = min(plan_milliseconds(self._layout, plan, table) for _, plan in late for table in tables)
        for _ in range(HALVINGS):
            plan, _, predicted = self._within(frontiers, (low + high) / 2)
            if plan in known:
                break
            ms = measure(plan)
            found.append((ms, plan))
            known.append(plan)
            if DEADLINE_AIM - LATENCY_AIM <= ms / wanted_ms <= 1:
                break
            low, high = (predicted, high) if ms <= wanted_ms else (low, predicted)
        return found

    def _approach(
        self, aim_ms: float, wanted_ms: float, dense_ms: float, measure: Callable[[PrunePlan], float]
    ) -> list[tuple[float, PrunePlan]]:
        """Plans that come nearer to `aim_ms`, with their measured milliseconds, until one is near enough."""
        # The first guess of what the table does not hold is its share in the dense network.
        frontiers = self._frontiers("ms")
        predicted_ms = min(frontier.milliseconds(frontier.dense) for frontier in frontiers)
        aim = _aimed(aim_ms, dense_ms, predicted_ms)
        tried: list[tuple[float, float, PrunePlan]] = []  # milliseconds, measured and predicted
        for _ in range(ATTEMPTS):
            plan, _, predicted_ms = self._within(frontiers, aim)
            if plan in [known for *_, known in tried]:
                between = _between([(ms, predicted) for ms, predicted, _ in tried], aim_ms)
                if between is None:
                    break  # the aim moves by less than a step of the grid
                plan, _, predicted_ms = self._within(frontiers, between)
                if plan in [known for *_, known in tried]:
                    break
            reached = measure(plan)
            tried.append((reached, predicted_ms, plan))
            if abs(reached / aim_ms - 1) <= LATENCY_AIM and (aim_ms == wanted_ms or reached <= wanted_ms):
                break
            aim = _aimed(aim_ms, reached, predicted_ms)
        return [(ms, plan) for ms, _, plan in tried]

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

    def _frontiers(self, target: str) -> list[Frontier]:
        return [
            Frontier(self._layout, self._worth, table, target, self._free.min_kept) for table in self._tables.values()
        ]

    def _found(self, frontier: Frontier, wanted: float) -> _Found:
        """What keeps the highest score at this amount."""
        counts = frontier.reach(wanted, TOLERANCE)
        plan = PrunePlan.cutting(self._free.rule, self._layout, frontier.cut(counts))
        return _Found(plan, frontier.worth(counts), frontier.milliseconds(counts))

    def _within(self, frontiers: Iterable[Frontier], aim_ms: float) -> _Found:
        """What keeps the highest score in about `aim_ms` by the tables, or else the fastest."""

        def rank(found: _Found) -> tuple[float, float]:
            return -max(found.ms, aim_ms * (1 + TOLERANCE)), found.worth

        return max((self._found(frontier, aim_ms) for frontier in frontiers), key=rank)


def _aimed(aim_ms: float, measured_ms: float, predicted_ms: float) -> float:
    """Milliseconds by the tables at which `aim_ms` are expected, after what one plan was predicted and measured."""
    # What the table does not hold adds to it; what runs faster than the table says, as integers do, scales it.
    if measured_ms >= predicted_ms:
        return aim_ms - (measured_ms - predicted_ms)
    return aim_ms * predicted_ms / measured_ms


def _between(tried: Sequence[tuple[float, float]], wanted_ms: float) -> float | None:
    """Predicted milliseconds halfway between the nearest plans on either side.

    None where all are on one side, or one is near enough. tried: milliseconds, measured and predicted.
    """
    faster, slower = ([predicted for ms, predicted in tried if (ms < wanted_ms) is side] for side in (True, False))
    near = any(abs(ms / wanted_ms - 1) <= LATENCY_TOLERANCE for ms, _ in tried)
    return None if near or not (faster and slower) else (max(faster) + min(slower)) / 2
