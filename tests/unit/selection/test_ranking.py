"""Scores on one scale, and counted per what a unit frees: by hand, and as properties over all of the dicts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from vsrprune.channels.layout import ChannelGroup, ChannelLayout, ConvLayer, Gate, Slot
from vsrprune.errors import UserError
from vsrprune.networks.basicvsr.spec import BasicVSRArguments, basicvsr_layout
from vsrprune.networks.edsr_rcan.spec import RCANArguments, rcan_layout
from vsrprune.selection.asked import NORMALISE, ORDERS, RANKS, SCOPES, TOLERANCE, Asked, amount, check_reachable
from vsrprune.selection.ranking import COSTS, NORMALISERS, Ranking, freed, ranked
from vsrprune.selection.units import select

# 1 -> a (3) -> b (2) -> 1, all 3x3, b at twice the side: MACs per pixel 9 * 3 + 36 * 3 * 2 + 36 * 2.
A, B = Slot(3, "a"), Slot(2, "b")
TWO = ChannelLayout(
    (
        ChannelGroup("a", "trunk", "middle", 3, (Gate("a", "output"),)),
        ChannelGroup("b", "upsampler", "shuffle", 2, (Gate("b", "output"),)),
    ),
    (
        ConvLayer("a", 3, (Slot(1),), A),
        ConvLayer("b", 3, (A,), B, scale=2),
        ConvLayer("last", 3, (B,), Slot(1), scale=2),
    ),
)
SCORES = {"a": np.array([3.0, 1.0, 2.0]), "b": np.array([8.0, 4.0])}
TINY = BasicVSRArguments(channels=4, blocks=2, upsampler_channels=4)


def drawn(layout: ChannelLayout) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {group.name: generator.random(group.size) for group in layout.groups}


def test_a_unit_frees_its_filters_and_what_reads_them() -> None:
    assert freed(TWO, "macs") == {"a": 9 + 36 * 2, "b": 36 * 3 + 36}
    assert freed(TWO, "params") == {"a": 9 + 1 + 9 * 2, "b": 9 * 3 + 1 + 9}  # a bias is a parameter


def test_scores_per_mac_and_per_parameter_by_hand() -> None:
    per_mac = ranked(TWO, SCORES, Ranking(rank="per_mac"))
    assert per_mac["a"] == pytest.approx([3 / 81, 1 / 81, 2 / 81])
    assert per_mac["b"] == pytest.approx([8 / 144, 4 / 144])
    per_param = ranked(TWO, SCORES, Ranking(rank="per_param"))
    assert per_param["a"] == pytest.approx([3 / 28, 1 / 28, 2 / 28])
    assert per_param["b"] == pytest.approx([8 / 37, 4 / 37])


def test_scores_over_means_by_hand() -> None:
    layer = ranked(TWO, SCORES, Ranking(normalise="layer"))
    assert layer["a"] == pytest.approx([1.5, 0.5, 1.0])
    assert layer["b"] == pytest.approx([4 / 3, 2 / 3])
    # Of one kind the units of several layers have one mean.
    layout = basicvsr_layout(TINY, "rsc")
    ones = {group.name: np.full(group.size, float(index)) for index, group in enumerate(layout.groups, start=1)}
    kind = ranked(layout, ones, Ranking(normalise="kind"))
    for name in {group.kind for group in layout.groups}:
        values = [kind[group.name] for group in layout.groups if group.kind == name]
        assert np.concatenate(values).mean() == pytest.approx(1)
    inputs = [group.name for group in layout.groups if group.kind == "input"]
    assert kind[inputs[1]][0] / kind[inputs[0]][0] == pytest.approx(ones[inputs[1]][0] / ones[inputs[0]][0])


def test_lamp_by_hand() -> None:
    shares = ranked(TWO, SCORES, Ranking(normalise="lamp"))
    assert shares["a"] == pytest.approx([1, 1 / 6, 2 / 5])
    assert shares["b"] == pytest.approx([1, 4 / 12])


def test_layers_that_score_nothing_stay_at_nothing() -> None:
    zeros = {"a": np.zeros(3), "b": np.array([1.0, 0.0])}
    for normalise in NORMALISE:
        values = ranked(TWO, zeros, Ranking(normalise=normalise))
        assert values["a"].tolist() == [0, 0, 0]
        assert values["b"][1] == 0


@pytest.mark.parametrize("order", ORDERS)
def test_units_that_free_nothing_are_cut_last(order: str) -> None:
    """RCAN's squeeze works on one mean per channel: its MACs do not grow with the frame."""
    layout = rcan_layout(RCANArguments(channels=8, groups=1, blocks=2, reduction=4), "rsc")
    scores = drawn(layout)
    free = [name for name, macs in freed(layout, "macs").items() if macs == 0]
    assert free
    assert all(name.endswith("squeeze") for name in free)
    sign = 1 if order == "min" else -1
    values = ranked(layout, scores, Ranking(order, rank="per_mac"))
    others = np.concatenate([values[name] for name in scores if name not in free])
    for name in free:
        assert (sign * values[name]).min() > (sign * others).max()
        assert np.argsort(values[name]).tolist() == np.argsort(scores[name]).tolist()
    plan = select(layout, scores, Asked("rsc", 0.5, "macs", order=order, rank="per_mac"))
    assert not any(plan.cut(name) for name in free)
    assert all(freed(layout, "params").values())


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("normalise", "rank"), list(itertools.product(NORMALISERS, RANKS)))
def test_the_order_within_a_layer_stays(normalise: str, rank: str, order: str) -> None:
    layout = basicvsr_layout(TINY, "rsc")
    scores = drawn(layout)
    values = ranked(layout, scores, Ranking(order, normalise, rank))
    for name, before in scores.items():
        assert np.argsort(values[name]).tolist() == np.argsort(before).tolist()
        assert np.isfinite(values[name]).all()


def test_names_are_those_of_the_dicts() -> None:
    assert tuple(NORMALISERS) == NORMALISE
    assert ("score", *COSTS) == RANKS


WAYS = list(itertools.product(NORMALISERS, RANKS, [scope for scope in SCOPES if scope != "per_layer"]))


@pytest.mark.parametrize("target", ["units", "macs", "params"])
@pytest.mark.parametrize(("normalise", "rank", "scope"), WAYS)
def test_every_way_to_rank_meets_its_budget(normalise: str, rank: str, scope: str, target: str) -> None:
    layout, draw = basicvsr_layout(BasicVSRArguments(channels=48, blocks=1), "rsc"), np.random.default_rng(1)
    scores = {group.name: draw.gamma(2.0, group.size / 20, group.size) for group in layout.groups}
    asked = Asked("rsc", 0.4, target, scope, normalise=normalise, rank=rank)
    plan = select(layout, scores, asked)
    kept = amount(layout, plan.kept_counts, target) / amount(layout, {g.name: g.size for g in layout.groups}, target)
    # Of 48 channels in every layer one is 2 %, and its MACs go in two layers: a share of all at once is that coarse.
    assert kept == pytest.approx(0.6, abs=TOLERANCE * 0.6 if scope != "local" else 0.02)
    # A larger ratio takes nothing back.
    more = select(layout, scores, Asked("rsc", 0.6, target, scope, normalise=normalise, rank=rank))
    assert all(set(more.kept[name]) <= set(plan.kept[name]) for name in plan.kept)


@pytest.mark.parametrize(("scope", "pool"), [("kind", lambda group: group.kind), ("part", lambda group: group.part)])
def test_every_kind_or_part_loses_the_same_share(scope: str, pool) -> None:
    layout = basicvsr_layout(BasicVSRArguments(channels=16, blocks=2, upsampler_channels=8), "rsc")
    plan = select(layout, drawn(layout), Asked("rsc", 0.25, scope=scope))
    for name in {pool(group) for group in layout.groups}:
        groups = [group for group in layout.groups if pool(group) == name]
        assert sum(len(plan.cut(group.name)) for group in groups) == sum(group.size for group in groups) / 4
    # Within a kind or part there is one ranking: layers lose different shares.
    assert len({len(plan.cut(group.name)) / group.size for group in layout.groups}) > 2
    half = select(layout, drawn(layout), Asked("rsc", 0.25, scope=scope, parts=("backward",)))
    assert {group.part for group in layout.groups if half.cut(group.name)} == {"backward"}


def test_a_share_that_a_kind_cannot_lose_is_refused() -> None:
    text = (
        "ratio=0.9 with scope=kind would keep 10 of 96 channels in input, fewer than min_kept=4 of each of its 6"
        " layers; the largest reachable ratio there is 0.75"
    )
    layout = basicvsr_layout(BasicVSRArguments(channels=16, blocks=3), "rsc")
    with pytest.raises(UserError) as caught:
        check_reachable(layout, Asked("rsc", 0.9, scope="kind", min_kept=4))
    assert str(caught.value) == text
    check_reachable(layout, Asked("rsc", 0.75, scope="kind", min_kept=4))
