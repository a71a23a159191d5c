"""References: the plans that the rules make at the cost at which trials are compared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from vsrprune.channels.layout import ChannelLayout
from vsrprune.search.bench import SearchBench
from vsrprune.search.probes import probe
from vsrprune.search.rows import ReferenceRow
from vsrprune.search.space import Space
from vsrprune.selection.projection import Bounds, count_bounds
from vsrprune.selection.units import select

FRONT_REFERENCES = 4  # budgets at which a front is compared with the plans of the rules


def score_references(bench: SearchBench) -> list[ReferenceRow]:
    """Both rules' plans at the budget of the search, or at several between the budgets of a front."""
    search = bench.search
    shares = [1 - bench.config.ratio]
    if bench.front:
        shares = np.linspace(search.budgets[0], search.budgets[1], FRONT_REFERENCES).tolist()
    cost = bench.cost(_widest(bench))
    rows = []
    for share in shares:
        for name, ratios in (
            ("global", _global_ratios(bench, share)),
            ("uniform", _uniform_ratios(bench.layout, share)),
        ):
            counts = cost.project(ratios, share)
            psnr = probe(bench, counts)
            rows.append(ReferenceRow(name, share, counts, cost.share(counts), psnr))
            bench.say(f"  reference  {name} at {share:.0%} of the {search.cost}: {psnr[-1]:.2f} dB")
    return rows


def known_points(bench: SearchBench, space: Space, references: Sequence[ReferenceRow]) -> list[dict[str, float]]:
    """The references as points of `space`, where it can express them."""
    points = []
    for row in references:
        wished = ratios_of(bench.layout, row.counts)
        if row.name == "uniform":
            wished = _uniform_ratios(bench.layout, row.budget)  # before rounding, which differs from layer to layer
        point = space.express(wished)
        if point is not None:
            points.append({**point, **({"budget": row.budget} if bench.front else {})})
    return points


def ratios_of(layout: ChannelLayout, counts: Mapping[str, int]) -> dict[str, float]:
    """The ratio of every layer that kept counts stand for."""
    return {group.name: 1 - counts[group.name] / group.size for group in layout.groups}


def _widest(bench: SearchBench) -> Bounds:
    """The rules know nothing of search.low and search.high."""
    return count_bounds(bench.layout, 0.0, 1 - 1e-9, bench.config.min_kept)


def _global_ratios(bench: SearchBench, share: float) -> dict[str, float]:
    """The method's own: one ranking over all layers, cut at this share of the MACs."""
    layout = bench.layout
    floor = layout.macs_per_pixel(_widest(bench).least)
    # A budget below the thinnest plan cannot be asked for; the projection that follows reports what was reached.
    ratio = min(1 - share, 1 - floor / layout.macs_per_pixel())
    plan = select(layout, bench.trials.scores, replace(bench.asked, ratio=ratio, target="macs"))
    return ratios_of(layout, plan.kept_counts)


def _uniform_ratios(layout: ChannelLayout, share: float) -> dict[str, float]:
    # Nearly every convolution is cut at both ends: its MACs fall as the square of the share that is kept.
    return {group.name: 1 - math.sqrt(share) for group in layout.groups}
