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
        # Not `<=`: with one value the width is NaN, which must come out as noise.
        if not abs(self.mean) > self.half_width:
            return "within noise"
        return "better" if self.mean > 0 else "worse"


def interval(values: Sequence[float]) -> Interval:
    """The mean of independent values and its 95 % interval."""
    count = len(values)
    mean = float(np.mean(values))
    if count < 2:
        return Interval(count, mean, math.nan, math.nan)
    # Imported here: one seed needs no interval, and every job that reads results would pay for scipy.
    from scipy.stats import t

    deviation = float(np.std(values, ddof=1))
    return Interval(
        count, mean, deviation, float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * deviation / math.sqrt(count)
    )


@dataclass(frozen=True)
class PairedTest:
    """In how many of so many pairs a value is the larger one, and the p of the two-sided signed-rank test."""

    pairs: int
    better: int
    p_value: float


def paired_test(values: Mapping[object, float], reference: Mapping[object, float]) -> PairedTest | None:
    """Wilcoxon's signed-rank test of value - reference over the pairs that both have; None if they share none.

    It assumes only that the differences are distributed symmetrically about zero; p is 1 where all are zero.
    """
    differences = [values[key] - reference[key] for key in values if key in reference]
    if not differences:
        return None
    from scipy.stats import wilcoxon

    p_value = float(wilcoxon(differences).pvalue) if any(differences) else 1.0
    return PairedTest(len(differences), sum(difference > 0 for difference in differences), p_value)


def paired_difference(values: Mapping[object, float], reference: Mapping[object, float]) -> Interval | None:
    """Interval of value - reference over the pairs (such as clip and seed) that both have; None if they share none."""
    shared = [key for key in values if key in reference]
    return interval([values[key] - reference[key] for key in shared]) if shared else None
