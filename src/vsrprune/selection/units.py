"""Which units are cut: one ranking over the network, the same share of every pool of layers, or given counts.

Works on numbers alone (no torch), so that a sweep can refuse an impossible ratio before its first job starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from vsrprune.channels.layout import ChannelGroup, ChannelLayout
from vsrprune.channels.plan import PrunePlan
from vsrprune.selection.asked import Asked, amount, check_reachable, dense_amount, half_up, pools
from vsrprune.selection.ranking import Ranking, ranked
from vsrprune.selection.scores import Scores


@dataclass(frozen=True)
class _Chunk:
    """Units of one group that are cut together (a single unit unless counts are rounded)."""

    group: str
    units: tuple[int, ...]
    score: float


def select(layout: ChannelLayout, scores: Scores, asked: Asked) -> PrunePlan:
    """Choose the units to cut; `asked` says how many, and where.

    Ties break by layer order, then index. With round_to > 1 one ranking goes on past the units that would overshoot, so
    that what is rounded up in one layer is paid for in another. round_to=auto is for `TimedSelection`.
    Raises UserError where the limits leave too little to cut.
    """
    check_reachable(layout, asked)
    for group in layout.groups:
        if scores[group.name].shape != (group.size,):
            raise ValueError(f"{group.name}: expected {group.size} scores, got shape {scores[group.name].shape}")
    values = ranked(layout, scores, Ranking(asked.order, asked.normalise, asked.rank))
    chunks = {group.name: _cut_order(group, values[group.name], asked) for group in layout.groups}
    if asked.scope == "global":
        chosen = _global(layout, _ranking(chunks.values(), asked), asked)
    elif asked.scope == "per_layer":
        chosen = [
            chunk
            for group in layout.groups
            for chunk in _first_units(chunks[group.name], group.size - _allowed(group, asked.kept_count(group), asked))
        ]
    else:
        chosen = _pooled(layout, chunks, asked)
    cut: dict[str, list[int]] = {}
    for chunk in chosen:
        cut.setdefault(chunk.group, []).extend(chunk.units)
    return PrunePlan.cutting(asked.rule, layout, cut)


def _cut_order(group: ChannelGroup, scores: NDArray[np.float64], asked: Asked) -> list[_Chunk]:
    """The group's chunks in the order in which they would be cut; protected units are left out."""
    ranked = sorted(range(group.size), key=lambda unit: (_rank(float(scores[unit]), asked.order), unit))
    chunks = []
    for more, fewer in pairwise(asked.steps(group)):
        units = tuple(ranked[group.size - more : group.size - fewer])
        chunks.append(_Chunk(group.name, units, float(np.mean(scores[list(units)]))))
    return chunks


def _rank(score: float, order: str) -> float:
    return score if order == "min" else -score


def _ranking(rows: Iterable[Sequence[_Chunk]], asked: Asked) -> list[_Chunk]:
    """One ranking of the chunks of several layers; stable, so that layer order and then cut order break the ties."""
    return sorted((chunk for row in rows for chunk in row), key=lambda chunk: _rank(chunk.score, asked.order))


def _global(layout: ChannelLayout, ranked: Sequence[_Chunk], asked: Asked) -> Sequence[_Chunk]:
    """Cut one ranking over all layers where it comes nearest to the target.

    With rounding it goes on beyond that place with the chunks that do not overshoot, if that comes nearer.
    """
    ratio, target = asked.ratio, asked.target
    if target == "units":
        cut = [0, *accumulate(len(chunk.units) for chunk in ranked)]
        return ranked[: _nearest(lambda n: cut[n], len(ranked), half_up(layout.units * ratio))]  # ratio of all units

    # Counted anew for every prefix: the MACs of a convolution are a product of two counts, so that a chunk's share
    # depends on what was cut before it. Bisection needs few prefixes.
    def removed(chunks: Sequence[_Chunk]) -> float:
        return _removed(layout, chunks, target)

    dense = dense_amount(layout, target)
    place = _nearest(lambda n: removed(ranked[:n]), len(ranked), dense * ratio)
    chosen = ranked[:place]
    if asked.round_to == 1:
        return chosen
    # Start from the last place that does not overshoot, which may be one chunk before the nearest.
    filled = list(chosen if removed(chosen) <= dense * ratio else ranked[: place - 1])
    closed: set[str] = set()  # a layer is cut in its own order: what comes after a chunk that stays, stays
    for chunk in ranked[len(filled) :]:
        if chunk.group not in closed and removed([*filled, chunk]) <= dense * ratio:
            filled.append(chunk)
        else:
            closed.add(chunk.group)
    return min((chosen, filled), key=lambda chunks: abs(removed(chunks) - dense * ratio))


def _nearest(value: Callable[[int], float], last: int, wanted: float) -> int:
    """The n in 0..last whose value is nearest to `wanted`, the smaller on ties; `value` must not fall."""
    low, high = 0, last
    while low < high:
        middle = (low + high) // 2
        if value(middle) < wanted:
            low = middle + 1
        else:
            high = middle
    return low - 1 if low > 0 and wanted - value(low - 1) <= value(low) - wanted else low


def _removed(layout: ChannelLayout, chunks: Sequence[_Chunk], target: str) -> float:
    """What a target counts, of what is cut."""
    kept = {group.name: group.size for group in layout.groups}
    for chunk in chunks:
        kept[chunk.group] -= len(chunk.units)
    return dense_amount(layout, target) - amount(layout, kept, target)


def _pooled(layout: ChannelLayout, chunks: Mapping[str, Sequence[_Chunk]], asked: Asked) -> Sequence[_Chunk]:
    """Cut the same share of every pool (see `pools`), each by a ranking of its own."""
    members = pools(layout, asked)
    sizes = [sum(group.size for group in groups) for groups in members.values()]
    rankings = [_ranking((chunks[group.name] for group in groups), asked) for groups in members.values()]
    totals = [[0, *accumulate(len(chunk.units) for chunk in ranking)] for ranking in rankings]

    def uniform(share: float) -> list[_Chunk]:
        found = []
        for size, ranking, total in zip(sizes, rankings, totals, strict=True):
            found += ranking[: _nearest(total.__getitem__, len(ranking), half_up(size * share))]
        return found

    if asked.target == "units":
        return uniform(asked.ratio)
    # Counts change only at shares of (n - 1/2) / size, where half_up changes; these are all shares worth a try.
    shares = sorted({0.0} | {(cut - 0.5) / size for size in set(sizes) for cut in range(1, size + 1)})
    wanted = dense_amount(layout, asked.target) * asked.ratio
    return uniform(
        shares[_nearest(lambda n: _removed(layout, uniform(shares[n]), asked.target), len(shares) - 1, wanted)]
    )


def _allowed(group: ChannelGroup, wanted: int, asked: Asked) -> int:
    """The allowed kept count nearest to `wanted`, the larger on ties."""
    return min(asked.steps(group), key=lambda count: (abs(count - wanted), -count))


def _first_units(chunks: Sequence[_Chunk], cut: int) -> Sequence[_Chunk]:
    totals = [0, *accumulate(len(chunk.units) for chunk in chunks)]
    return chunks[: totals.index(cut)]
