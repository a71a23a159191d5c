"""Every projected vector meets the budget within half a percent, and the bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsrprune.errors import UserError
from vsrprune.networks.basicvsr.spec import BasicVSRArguments, basicvsr_layout
from vsrprune.selection.projection import (
    PROJECTION_TOLERANCE,
    Bounds,
    check_projectable,
    count_bounds,
    project,
    scaled_widths,
)

MIDDLE = BasicVSRArguments(channels=32, blocks=4, upsampler_channels=32)
LAYOUTS = {rule: basicvsr_layout(MIDDLE, rule) for rule in ("rsc", "aligned", "inner")}


@pytest.mark.parametrize("rule", LAYOUTS)
@given(seed=st.integers(0, 10**6), place=st.floats(0, 1), high=st.floats(0.5, 0.97))
def test_meets_budget_and_bounds(rule: str, seed: int, place: float, high: float) -> None:
    layout = LAYOUTS[rule]
    bounds = count_bounds(layout, 0.0, high, min_kept=1)
    dense = layout.macs_per_pixel()
    smallest = layout.macs_per_pixel(bounds.least) / dense
    share = smallest + place * (1 - smallest)
    ratios = dict(zip(bounds.least, np.random.default_rng(seed).uniform(0, high, len(bounds.least)), strict=True))
    counts = project(layout, ratios, share, bounds)
    assert abs(layout.macs_per_pixel(counts) / (dense * share) - 1) <= PROJECTION_TOLERANCE
    assert all(bounds.least[name] <= count <= bounds.most[name] for name, count in counts.items())


def test_a_plan_on_the_budget_stays_as_it_is() -> None:
    layout = LAYOUTS["rsc"]
    bounds = count_bounds(layout, 0.0, 0.95, min_kept=1)
    generator = np.random.default_rng(0)
    counts = {group.name: int(generator.integers(8, 30)) for group in layout.groups}
    ratios = {group.name: 1 - counts[group.name] / group.size for group in layout.groups}
    share = layout.macs_per_pixel(counts) / layout.macs_per_pixel()
    assert project(layout, ratios, share, bounds) == counts


def test_equal_ratios_stay_equal_up_to_single_channels() -> None:
    layout = LAYOUTS["rsc"]
    bounds = count_bounds(layout, 0.0, 0.95, min_kept=1)
    counts = project(layout, {group.name: 0.2 for group in layout.groups}, 0.5, bounds)
    assert max(counts.values()) - min(counts.values()) <= 2


def test_proportions_are_kept() -> None:
    layout = LAYOUTS["inner"]
    bounds = Bounds({group.name: 1 for group in layout.groups}, {group.name: group.size for group in layout.groups})
    ratios = {group.name: 0.2 if place % 2 else 0.6 for place, group in enumerate(layout.groups)}
    wanted = 0.4 * layout.macs_per_pixel()
    widths = scaled_widths(layout, ratios, bounds, lambda some: layout.macs_per_pixel(some) <= wanted)  # type: ignore[arg-type]
    names = list(widths)
    assert widths[names[1]] / widths[names[0]] == pytest.approx(0.8 / 0.4)


def test_bounds_by_hand() -> None:
    layout = LAYOUTS["inner"]  # 32 channels everywhere
    bounds = count_bounds(layout, 0.25, 0.9, min_kept=1)
    assert set(bounds.least.values()) == {4}  # 32 * 0.1 = 3.2, at least
    assert set(bounds.most.values()) == {24}
    assert set(count_bounds(layout, 0.25, 0.9, min_kept=6).least.values()) == {6}


def test_bounds_without_a_count_are_refused() -> None:
    with pytest.raises(UserError, match=r"min_kept=30.*search.low and search.high"):
        count_bounds(LAYOUTS["inner"], 0.25, 0.9, min_kept=30)


def test_an_unreachable_budget_says_what_is_reachable() -> None:
    layout = LAYOUTS["inner"]
    bounds = count_bounds(layout, 0.5, 0.9, min_kept=1)
    smallest, largest = (layout.macs_per_pixel(kept) / layout.macs_per_pixel() for kept in (bounds.least, bounds.most))
    with pytest.raises(UserError, match=f"{smallest:.1%} to {largest:.1%}".replace(".", r"\.")):
        check_projectable(layout, 0.95, bounds)
    check_projectable(layout, (smallest + largest) / 2, bounds)
