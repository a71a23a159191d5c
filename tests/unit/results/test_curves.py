"""Two curves in one number: closed forms, a pair that is integrated by hand, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsrprune.results.curves import EQUAL_MACS, curve_gap

SHARES = st.lists(st.floats(0.05, 1.0), min_size=2, max_size=6, unique=True)


@given(SHARES, st.floats(-3, 3))
def test_parallel_curves_differ_by_their_distance(shares: list[float], above: float) -> None:
    curve = [(x, 30 + math.sin(5 * x)) for x in shares]
    gap = curve_gap([(x, y + above) for x, y in curve], curve)
    assert gap is not None
    assert gap.mean == pytest.approx(above, abs=1e-9)
    assert (gap.low, gap.high) == (min(shares), max(shares))


def test_a_pair_that_is_integrated_by_hand() -> None:
    """Common range 0.4 to 0.8. The curve is 30 to 32 there, straight; the other 31 up to 0.6, then up to 31.5.

    Distances at 0.4, 0.6 and 0.8: -1, 0, 0.5; trapezoids of -0.5 and 0.25 over 0.2 each, whose mean is -0.125.
    """
    gap = curve_gap([(0.4, 30.0), (1.0, 33.0)], [(0.8, 31.5), (0.6, 31.0), (0.2, 31.0)])
    assert gap is not None
    assert gap.mean == pytest.approx(-0.125)
    assert (gap.low, gap.high) == (0.4, 0.8)


@given(SHARES, SHARES)
def test_swapped_curves_differ_by_the_sign_alone(first: list[float], second: list[float]) -> None:
    one, two = ([(x, 30 + math.sin(9 * x + place)) for x in of] for place, of in enumerate((first, second)))
    there, back = curve_gap(one, two), curve_gap(two, one)
    assert (there is None) == (back is None)
    if there and back:
        assert there.mean == pytest.approx(-back.mean, abs=1e-9)


def test_the_mean_is_that_of_many_small_steps() -> None:
    """An independent sum: 100,000 places at each of which both curves are drawn as straight lines."""
    one = [(0.3, 29.0), (0.45, 30.1), (0.9, 30.3)]
    two = [(0.35, 29.4), (0.5, 29.5), (0.8, 30.4), (1.0, 30.5)]
    places = np.linspace(0.35, 0.9, 100_001)
    heights = [np.interp(places, *zip(*curve, strict=True)) for curve in (one, two)]
    gap = curve_gap(one, two)
    assert gap is not None
    assert gap.mean == pytest.approx(float(np.mean(heights[0] - heights[1])), abs=1e-5)


def test_curves_without_a_common_range_are_refused_and_not_continued() -> None:
    assert curve_gap([(0.2, 29.0), (0.4, 30.0)], [(0.5, 30.0), (0.8, 31.0)]) is None


def test_a_point_stands_against_the_line_at_its_own_macs() -> None:
    gap = curve_gap([(0.5, 30.7)], [(0.4, 30.0), (0.8, 31.0)])
    assert gap is not None
    assert gap.mean == pytest.approx(30.7 - 30.25)
    assert gap.low == gap.high == 0.5


@pytest.mark.parametrize(("apart", "compared"), [(0.9 * EQUAL_MACS, True), (1.1 * EQUAL_MACS, False)])
def test_two_points_compare_where_their_macs_are_equal_within_a_percent(apart: float, compared: bool) -> None:
    gap = curve_gap([(0.5, 30.7)], [(0.5 + apart, 30.0)])
    assert (gap is not None) == compared
    if gap:
        assert gap.mean == pytest.approx(0.7)
