"""Random units at a ranking's counts: the counts are the ranking's, and chance is even and seeded."""

from __future__ import annotations

from collections import Counter
from math import comb

import pytest

from vsrprune.channels.layout import RULES, ChannelGroup, ChannelLayout, Gate
from vsrprune.channels.plan import PrunePlan
from vsrprune.networks.basicvsr.spec import BasicVSRArguments, basicvsr_layout
from vsrprune.selection.controls import random_units

LAYOUT = ChannelLayout(
    tuple(ChannelGroup(name, "part", "kind", size, (Gate(name, "output"),)) for name, size in (("a", 5), ("b", 3))), ()
)


def cutting(a: int, b: int) -> PrunePlan:
    return PrunePlan.cutting("rsc", LAYOUT, {"a": range(a), "b": range(b)})


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", range(3))
def test_every_layer_keeps_its_count(rule: str, seed: int) -> None:
    layout = basicvsr_layout(BasicVSRArguments(channels=6, blocks=2, upsampler_channels=5), rule)
    plan = PrunePlan.cutting(rule, layout, {group.name: range(i % group.size) for i, group in enumerate(layout.groups)})
    drawn = random_units(layout, plan, seed)
    assert drawn.kept_counts == plan.kept_counts
    assert (drawn.rule, drawn.sizes) == (plan.rule, plan.sizes)


def test_nothing_and_all_but_one_are_drawn_too() -> None:
    assert random_units(LAYOUT, cutting(0, 0), 0) == cutting(0, 0)
    assert random_units(LAYOUT, cutting(4, 2), 0).kept_counts == {"a": 1, "b": 1}


def test_the_units_are_those_of_the_seed_whatever_the_ranking_would_cut() -> None:
    other = PrunePlan.cutting("rsc", LAYOUT, {"a": [1, 4], "b": [2]})
    assert random_units(LAYOUT, cutting(2, 1), 7) == random_units(LAYOUT, other, 7)
    assert len({str(random_units(LAYOUT, cutting(2, 1), seed)) for seed in range(20)}) > 10


@pytest.mark.parametrize("seed", range(5))
def test_a_later_round_takes_nothing_back(seed: int) -> None:
    first, second = (random_units(LAYOUT, cutting(*counts), seed) for counts in ((1, 1), (3, 2)))
    for name in ("a", "b"):
        assert set(first.cut(name)) < set(second.cut(name))


def test_all_sets_of_units_are_equally_likely() -> None:
    draws = 5000
    found = Counter(random_units(LAYOUT, cutting(2, 0), seed).cut("a") for seed in range(draws))
    assert len(found) == comb(5, 2)
    # Five standard deviations of a binomial count.
    expected = draws / comb(5, 2)
    assert all(abs(count - expected) < 5 * (expected * (1 - 1 / comb(5, 2))) ** 0.5 for count in found.values())
