"""`round_to=auto`: the plan for a target that keeps the highest score for the time it takes on this device."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from vsrprune.channels import ChannelLayout, PrunePlan
from vsrprune.errors import UserError
from vsrprune.operations import TimeTable
from vsrprune.pruning.frontier import Counts, Frontier
from vsrprune.pruning.selection import TOLERANCE, Budget, amount

Scores = Mapping[str, NDArray[np.float64]]
LATENCY_AIM, LATENCY_TOLERANCE = 0.05, 0.10  # relative; the first ends the search, the second is a success
ATTEMPTS = 6


class TimedSelection:
    """Plans by the frontiers of several memory formats.

    tables: by memory format. order: `min` keeps the largest scores, `max` the smallest (the ablation).
    """

    def __init__(
        self,
        layout: ChannelLayout,
        scores: Scores,
        tables: Mapping[str, TimeTable],
        *,
        rule: str,
        order: str = "min",
        min_kept: int = 1,
    ) -> None:
        highest = max(float(values.max()) for values in scores.values())
        self._worth = {name: values if order == "min" else highest - values for name, values in scores.items()}
        self._layout, self._tables, self._rule, self._min_kept = layout, tables, rule, min_kept

    def for_amount(self, target: str, wanted: float) -> tuple[PrunePlan, Budget]:
        """The fastest plan on the frontiers that keeps `wanted` MACs per pixel or parameters, within TOLERANCE.

        Raises UserError if there is none.
        """
        frontiers = self._frontiers(target)
        found: list[tuple[float, PrunePlan]] = []
        error = UserError("no memory format was timed")
        for frontier in frontiers:
            try:
                counts = frontier.reach(wanted, TOLERANCE)
            except UserError as caught:
                error = caught
                continue
            found.append((frontier.milliseconds(counts), frontier.plan(self._rule, counts)))
        if not found:
            raise error
        plan = min(found, key=lambda pair: pair[0])[1]
        return plan, Budget(target, frontiers[0].dense, wanted, amount(self._layout, plan.kept_counts, target))

    def for_latency(
        self, wanted_ms: float, dense_ms: float, measure: Callable[[PrunePlan], float]
    ) -> tuple[PrunePlan, Budget]:
        """The plan of highest score whose network, built and measured, takes `wanted_ms` per frame within a tenth.

        measure: milliseconds per frame of a plan's network. What the table of operations does not hold (flow net,
        warps, copies) is learned from each measurement, and the next plan aims accordingly. Raises UserError where the
        target cannot be met.
        """
        frontiers = self._frontiers("latency")
        rest = dense_ms - min(frontier.dense for frontier in frontiers)
        tried: list[tuple[float, PrunePlan]] = []
        for _ in range(ATTEMPTS):
            frontier, counts = self._best(frontiers, wanted_ms - rest)
            plan = frontier.plan(self._rule, counts)
            if plan in [known for _, known in tried]:
                break
            tried.append((measure(plan), plan))
            if abs(tried[-1][0] / wanted_ms - 1) <= LATENCY_AIM:
                break
            rest = tried[-1][0] - frontier.milliseconds(counts)
        reached, plan = min(tried, key=lambda pair: abs(pair[0] - wanted_ms))
        if abs(reached / wanted_ms - 1) > LATENCY_TOLERANCE:
            measured = ", ".join(f"{ms:.1f}" for ms, _ in tried)
            raise UserError(
                f"no plan takes {wanted_ms:.1f} ms per frame on this device (the dense network takes {dense_ms:.1f});"
                f" measured plans near it took {measured} ms: ask for one of these with target_ms"
            )
        return plan, Budget("latency", dense_ms, wanted_ms, reached)

    def _frontiers(self, target: str) -> list[Frontier]:
        return [Frontier(self._layout, self._worth, table, target, self._min_kept) for table in self._tables.values()]

    def _best(self, frontiers: list[Frontier], aim: float) -> tuple[Frontier, Counts]:
        """The counts of highest worth among those whose table time is `aim`, or the least where that is too little."""
        found = [(frontier, frontier.reach(max(aim, frontier.least), TOLERANCE)) for frontier in frontiers]
        return max(found, key=lambda pair: pair[0].worth(pair[1]))
