"""Means over seeds with their uncertainty, and differences paired over clips and seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """Mean of `count` values, their standard deviation, and half the width of the 95 % interval of the mean.

    The interval is Student's t; with one value both spreads are NaN.
    """

    count: int
    mean: float
    deviation: float
    half_width: float

    @property
    def verdict(self) -> str:
        """For a difference where more is better: better, worse, or within noise."""
        if not abs(self.mean) > self.half_width:
            return "within noise"
        return "better" if self.mean > 0 else "worse"


def interval(values: Sequence[float]) -> Interval:
    """The mean of independent values and its 95 % interval."""
    count = len(values)
    mean = float(np.mean(values))
    if count < 2:
        return Interval(count, mean, math.nan, math.nan)
    from scipy.stats import t

    deviation = float(np.std(values, ddof=1))
    return Interval(
        count, mean, deviation, float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * deviation / math.sqrt(count)
    )


def paired_difference(values: Mapping[object, float], reference: Mapping[object, float]) -> Interval | None:
    """Interval of value - reference over the pairs (such as clip and seed) that both have; None if they share none."""
    shared = [key for key in values if key in reference]
    return interval([values[key] - reference[key] for key in shared]) if shared else None
