"""What a plan costs, as a share of the dense network: MACs, or milliseconds by a table of timed operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from vsrprune.channels.layout import ChannelLayout
from vsrprune.channels.operations import TimeTable, grid
from vsrprune.channels.plan import PrunePlan
from vsrprune.selection.frontier import plan_milliseconds
from vsrprune.selection.projection import Bounds, project, scaled_widths


class MacsCost:
    """Multiply-accumulates, flow net excluded."""

    def __init__(self, layout: ChannelLayout, bounds: Bounds) -> None:
        self._layout, self._bounds = layout, bounds

    def project(self, ratios: Mapping[str, float], share: float) -> dict[str, int]:
        """Kept counts with this share of the MACs, in the proportions of `ratios`."""
        return project(self._layout, ratios, share, self._bounds)

    def rounded(self, ratios: Mapping[str, float]) -> dict[str, int]:
        """Kept counts nearest to `ratios`."""
        least, most = self._bounds.least, self._bounds.most
        return {
            group.name: min(max(round(group.size * (1 - ratios[group.name])), least[group.name]), most[group.name])
            for group in self._layout.groups
        }

    def share(self, counts: Mapping[str, int]) -> float:
        """Share of the dense network's MACs."""
        return self._layout.macs_per_pixel(counts) / self._layout.macs_per_pixel()


class LatencyCost:
    """Milliseconds by the tables, in the faster memory format; counts lie on the grid that was timed.

    `plan` turns kept counts into a plan. What the tables do not hold (flow net, warps) is the same for every plan
    and is left out.
    """

    def __init__(
        self,
        layout: ChannelLayout,
        bounds: Bounds,
        tables: Sequence[TimeTable],
        plan: Callable[[Mapping[str, int]], PrunePlan],
    ) -> None:
        self._layout, self._bounds, self._tables, self._plan = layout, bounds, tables, plan
        self._dense_ms = self._milliseconds({group.name: group.size for group in layout.groups})

    def project(self, ratios: Mapping[str, float], share: float) -> dict[str, int]:
        """The widest counts in the proportions of `ratios` that take at most this share of the dense time."""

        def fits(widths: Mapping[str, float]) -> bool:
            # Rounded first, compared then: the nearest count that was timed may be the wider one.
            return self.share(self._on_grid(widths)) <= share

        return self._on_grid(scaled_widths(self._layout, ratios, self._bounds, fits))

    def rounded(self, ratios: Mapping[str, float]) -> dict[str, int]:
        """Kept counts nearest to `ratios`."""
        return self._on_grid({group.name: group.size * (1 - ratios[group.name]) for group in self._layout.groups})

    def share(self, counts: Mapping[str, int]) -> float:
        """Share of the dense network's time."""
        return self._milliseconds(counts) / self._dense_ms

    def _milliseconds(self, counts: Mapping[str, int]) -> float:
        plan = self._plan(counts)
        return min(plan_milliseconds(self._layout, plan, table) for table in self._tables)

    def _on_grid(self, widths: Mapping[str, float]) -> dict[str, int]:
        return {
            group.name: min(
                grid(group.size, self._bounds.least[group.name]), key=lambda count: abs(count - widths[group.name])
            )
            for group in self._layout.groups
        }
