"""Intervals by hand and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vsrprune.results.intervals import Interval, PairedTest, interval, paired_difference, paired_test


def test_by_hand() -> None:
    """Of 1, 2, 3: deviation 1, t(0.975, 2) = 4.302653, half width 4.302653 / sqrt 3."""
    assert interval([1, 2, 3]) == Interval(3, 2.0, 1.0, pytest.approx(4.302653 / math.sqrt(3), rel=1e-6))


def test_one_value_has_no_interval() -> None:
    single = interval([31.5])
    assert single.mean == 31.5
    assert math.isnan(single.half_width)
    assert single.verdict == "within noise"


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    draw = np.random.default_rng(0)
    samples = draw.normal(10, 3, size=(2000, 4))
    covered = [abs(interval(list(sample)).mean - 10) <= interval(list(sample)).half_width for sample in samples]
    assert 0.93 < np.mean(covered) < 0.97


def test_pairs_take_out_what_the_pairs_share() -> None:
    """Clips differ by many dB; the difference of two settings does not."""
    reference: dict[object, float] = {("easy", 0): 40.0, ("hard", 0): 25.0, ("easy", 1): 40.5, ("hard", 1): 25.2}
    better = {key: value + 0.1 + 0.01 * index for index, (key, value) in enumerate(reference.items())}
    difference = paired_difference(better, reference)
    assert difference is not None
    assert difference.mean == pytest.approx(0.115)
    assert difference.verdict == "better"
    assert paired_difference(reference, better).verdict == "worse"  # type: ignore[union-attr]
    assert paired_difference({"a": 1.0}, {"b": 1.0}) is None
    assert paired_difference({"a": 1.0, "b": 0.0, "c": 0.5}, {"a": 0.5, "b": 0.5, "c": 0.5}).verdict == "within noise"  # type: ignore[union-attr]


def test_the_signed_rank_test_by_hand() -> None:
    """All six differences of one sign: 2 of the 2^6 = 64 signings are as extreme."""
    reference: dict[object, float] = dict.fromkeys(range(6), 30.0)
    better = {key: 30.1 + 0.01 * number for number, key in enumerate(reference)}
    assert paired_test(better, reference) == PairedTest(6, 6, pytest.approx(2 / 64))
    assert paired_test(reference, better) == PairedTest(6, 0, pytest.approx(2 / 64))
    assert paired_test(reference, reference) == PairedTest(6, 0, 1.0)
    assert paired_test(reference, {}) is None


def test_pairs_that_only_one_has_are_left_out_of_the_test() -> None:
    """Differences +1, +2, -3: rank sums 3 and 3, which no signing is less extreme than."""
    values: dict[object, float] = {"a": 1.0, "b": 2.0, "c": -3.0, "d": 99.0}
    assert paired_test(values, {"a": 0.0, "b": 0.0, "c": 0.0}) == PairedTest(3, 2, 1.0)
