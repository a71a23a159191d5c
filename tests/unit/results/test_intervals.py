"""Intervals, tests and Holm's correction, by hand and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from vsrprune.results.intervals import Interval, holm, interval, paired_difference, verdict


def test_by_hand() -> None:
    """Of 1, 2, 3: deviation 1, t(0.975, 2) = 4.302653, half width 4.302653 / sqrt 3.

    t = 2 sqrt 3; with two degrees of freedom p = 1 - t / sqrt(t^2 + 2) = 1 - sqrt(12 / 14).
    """
    half_width = pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert interval([1, 2, 3]) == Interval(3, 2.0, 1.0, half_width, pytest.approx(1 - math.sqrt(12 / 14)))


def test_one_value_has_no_interval_and_no_test() -> None:
    single = interval([31.5])
    assert single.mean == 31.5
    assert math.isnan(single.half_width)
    assert math.isnan(single.p_value)
    assert single.verdict == "within noise"


def test_values_that_do_not_vary_leave_no_doubt() -> None:
    assert interval([0.5, 0.5]).p_value == 0.0
    assert interval([0.0, 0.0]).p_value == 1.0
    assert interval([0.0, 0.0]).verdict == "within noise"


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=8, unique=True))
def test_the_test_is_scipy_s_and_agrees_with_the_interval(values: list[float]) -> None:
    found = interval(values)
    if found.deviation > 1e-6:
        assert found.p_value == pytest.approx(float(ttest_1samp(values, 0).pvalue), abs=1e-9)
        if abs(found.p_value - 0.05) > 1e-6:
            assert (abs(found.mean) > found.half_width) == (found.p_value < 0.05)


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    draw = np.random.default_rng(0)
    samples = draw.normal(10, 3, size=(2000, 4))
    covered = [abs(interval(list(sample)).mean - 10) <= interval(list(sample)).half_width for sample in samples]
    assert 0.93 < np.mean(covered) < 0.97


def test_pairs_take_out_what_the_pairs_share() -> None:
    """Dense networks differ by more than two settings do."""
    reference: dict[object, float] = {0: 40.0, 1: 25.0, 2: 40.5, 3: 25.2}
    better = {key: value + 0.1 + 0.01 * index for index, (key, value) in enumerate(reference.items())}
    difference = paired_difference(better, reference)
    assert difference is not None
    assert difference.mean == pytest.approx(0.115)
    assert difference.verdict == "better"
    assert paired_difference(reference, better).verdict == "worse"  # type: ignore[union-attr]
    assert paired_difference({"a": 1.0}, {"b": 1.0}) is None
    assert paired_difference({"a": 1.0, "b": 0.0, "c": 0.5}, {"a": 0.5, "b": 0.5, "c": 0.5}).verdict == "within noise"  # type: ignore[union-attr]


def test_holm_by_hand() -> None:
    """Of four: 0.01 times 4, 0.02 times 3, 0.03 times 2, and 0.035 times 1, which may not fall below the one before."""
    assert holm([0.03, 0.01, 0.035, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_rows_without_a_test_do_not_count() -> None:
    first, second, third = holm([0.02, math.nan, 0.04])
    assert (first, third) == (0.04, 0.04)
    assert math.isnan(second)


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_lies_between_no_correction_and_bonferroni_s_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for p, corrected in zip(p_values, adjusted, strict=True):
        assert p <= corrected <= min(1.0, p * len(p_values))
    pairs = sorted(zip(p_values, adjusted, strict=True))
    assert [corrected for _, corrected in pairs] == sorted(adjusted)


def test_words_follow_the_corrected_p() -> None:
    assert verdict(0.1, 0.049) == "better"
    assert verdict(-0.1, 0.049) == "worse"
    assert verdict(0.1, 0.05) == "within noise"
    assert verdict(0.1, math.nan) == "within noise"
