"""Project pruning ratios onto a budget: the proportions between layers stay, and the MACs become those asked for.

A search draws a ratio per layer; without the projection, most of its plans would miss the budget at which it compares.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from vsrprune.channels.layout import ChannelLayout
from vsrprune.errors import UserError

PROJECTION_TOLERANCE = 0.005  # of the wanted MACs
_HALVINGS = 60  # of an interval of 24: more than float64 can tell apart
_PAIRS = 128  # of moves that are tried exactly, those that promise most
_WIDEST = 12.0  # log of the largest factor on a kept share: beyond it every layer is at its bound


@dataclass(frozen=True)
class Bounds:
    """The fewest and the most channels that may be kept, by group."""

    least: Mapping[str, int]
    most: Mapping[str, int]


def count_bounds(layout: ChannelLayout, low: float, high: float, min_kept: int) -> Bounds:
    """Kept counts whose pruning ratio lies in [low, high], and at least `min_kept`.

    Raises UserError where a layer has no such count.
    """
    least, most = {}, {}
    for group in layout.groups:
        # round(): 10 * (1 - 0.7) is 3.0000000000000004 in floats, and must not become 4 channels.
        least[group.name] = max(min_kept, math.ceil(round(group.size * (1 - high), 9)))
        most[group.name] = math.floor(round(group.size * (1 - low), 9))
        if least[group.name] > most[group.name]:
            raise UserError(
                f"no kept count of {group.name} ({group.size} channels, min_kept={min_kept}) has a ratio within"
                f" [{low:g}, {high:g}]; widen search.low and search.high"
            )
    return Bounds(least, most)


def check_projectable(layout: ChannelLayout, wanted_share: float, bounds: Bounds) -> None:
    """Raise UserError, naming what is reachable, if no counts within the bounds keep that share of the MACs."""
    dense = layout.macs_per_pixel()
    smallest, largest = (layout.macs_per_pixel(counts) / dense for counts in (bounds.least, bounds.most))
    if not smallest * (1 - PROJECTION_TOLERANCE) <= wanted_share <= largest * (1 + PROJECTION_TOLERANCE):
        raise UserError(
            f"{wanted_share:.1%} of the MACs cannot be kept within search.low and search.high: they allow"
            f" {smallest:.1%} to {largest:.1%}, so ratio must lie in [{max(0, 1 - largest):.3f}, {1 - smallest:.3f}]"
        )


def project(layout: ChannelLayout, ratios: Mapping[str, float], wanted_share: float, bounds: Bounds) -> dict[str, int]:
    """Kept counts that keep `wanted_share` of the dense MACs (flow net excluded), in the proportions of `ratios`.

    ratios: the share of channels to cut, by group; only the proportions of what they keep count. All kept shares are
    multiplied by one factor, held within the bounds, and rounded; single channels of one or two layers at a time are
    then moved until the budget is met within half a percent, or as near as whole channels come. Deterministic.
    """
    wanted = layout.macs_per_pixel() * wanted_share

    def fits(widths: Mapping[str, float]) -> bool:
        return layout.macs_per_pixel(widths) <= wanted  # type: ignore[arg-type]  # a polynomial: fractions will do

    counts = _rounded(scaled_widths(layout, ratios, bounds, fits))
    return _repaired(layout, counts, wanted, bounds)


def scaled_widths(
    layout: ChannelLayout, ratios: Mapping[str, float], bounds: Bounds, fits: Callable[[Mapping[str, float]], bool]
) -> dict[str, float]:
    """The widest widths (not rounded) in the proportions of `ratios` that still fit; the narrowest if none does."""

    def widths(log_factor: float) -> dict[str, float]:
        return {
            group.name: min(
                max(group.size * (1 - ratios[group.name]) * math.exp(log_factor), bounds.least[group.name]),
                bounds.most[group.name],
            )
            for group in layout.groups
        }

    # In the logarithm, so that a factor and its inverse are searched alike.
    low, high = -_WIDEST, _WIDEST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if fits(widths(middle)):
            low = middle
        else:
            high = middle
    return widths(low)  # the side of the interval that fits


def _rounded(widths: Mapping[str, float]) -> dict[str, int]:
    return {name: math.floor(width + 0.5) for name, width in widths.items()}


def _repaired(layout: ChannelLayout, counts: dict[str, int], wanted: float, bounds: Bounds) -> dict[str, int]:
    """Move a channel or two, of a layer or of two, whatever brings the budget nearest, while that helps."""

    def miss(kept: Mapping[str, int]) -> float:
        return abs(layout.macs_per_pixel(kept) - wanted)

    while miss(counts) > PROJECTION_TOLERANCE * wanted:
        singles = [
            {name: count + step}
            for name, count in counts.items()
            for step in (-2, -1, 1, 2)
            if bounds.least[name] <= count + step <= bounds.most[name]
        ]
        gains = np.array([layout.macs_per_pixel({**counts, **move}) for move in singles]) - wanted
        off = layout.macs_per_pixel(counts) - wanted
        # What two moves change together is nearly the sum of what each changes: the most promising pairs are tried.
        together = np.abs(gains[:, None] + gains[None, :] - off)
        first, second = np.unravel_index(np.argsort(together, axis=None)[:_PAIRS], together.shape)
        pairs = [{**singles[a], **singles[b]} for a, b in zip(first, second, strict=True)]
        nearest = min(({**counts, **move} for move in [*singles, *pairs]), key=miss, default=counts)
        if miss(nearest) >= miss(counts):
            break  # as near as whole channels come
        counts = nearest
    return counts
