"""Intervals and tests over independent values, and Holm's correction of several tests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.05  # of tests; intervals are of 1 - LEVEL


@dataclass(frozen=True)
class Interval:
    """Mean of `count` values, their standard deviation, and half the width of the 95 % interval of the mean.

    p_value: of Student's two-sided test of a mean of zero, on which the interval rests too. With one value both
    spreads and p are NaN.
    """

    count: int
    mean: float
    deviation: float
    half_width: float
    p_value: float

    @property
    def verdict(self) -> str:
        """In a word what a difference is where it is the only one; of several, see `holm`."""
        return verdict(self.mean, self.p_value)


def interval(values: Sequence[float]) -> Interval:
    """The mean of independent values, its 95 % interval, and the test of a mean of zero."""
    count = len(values)
    mean = float(np.mean(values))
    if count < 2:
        return Interval(count, mean, math.nan, math.nan, math.nan)
    # Imported here: one value needs no interval, and every job that reads results would pay for scipy.
    from scipy.special import stdtr, stdtrit

    deviation = float(np.std(values, ddof=1))
    error = deviation / math.sqrt(count)
    half_width = float(stdtrit(count - 1, 1 - LEVEL / 2)) * error
    if error == 0:
        return Interval(count, mean, 0.0, 0.0, 1.0 if mean == 0 else 0.0)
    return Interval(count, mean, deviation, half_width, 2 * float(stdtr(count - 1, -abs(mean) / error)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's p-values (1979), in the order given: of all that are below a, none is false but in a share of a.

    NaN stands for no test: it stays NaN and does not count.
    """
    order = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    adjusted = [math.nan] * len(p_values)
    highest = 0.0
    for number, (p, place) in enumerate(order):
        # The smallest counts for all, the next for those that are left, and none may fall below one before it.
        highest = max(highest, min(1.0, (len(order) - number) * p))
        adjusted[place] = highest
    return adjusted


def verdict(mean: float, p_value: float) -> str:
    """A mean difference, of which more is better, in a word: better, worse, or within noise."""
    # Not `>=`: without a test p is NaN, which must come out as noise.
    if not p_value < LEVEL:
        return "within noise"
    return "better" if mean > 0 else "worse"


def paired_difference(values: Mapping[object, float], reference: Mapping[object, float]) -> Interval | None:
    """Interval of value - reference over the keys (such as dense networks) that both have; None if they share none."""
    shared = [key for key in values if key in reference]
    return interval([values[key] - reference[key] for key in shared]) if shared else None
