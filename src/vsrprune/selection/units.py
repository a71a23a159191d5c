"""Which units are cut: one ranking over the network, the same share of every layer, or given counts.

Works on numbers alone (no torch), so that a sweep can refuse an impossible ratio before its first job starts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsrprune.channels.layout import ChannelGroup, ChannelLayout
from vsrprune.channels.operations import grid
from vsrprune.channels.plan import PrunePlan
from vsrprune.errors import UserError, one_of

ORDERS = ("min", "max")
SCOPES = ("global", "local", "per_layer")
TARGETS = ("units", "macs", "params")
LATENCY_TOLERANCE = 0.10  # of the wanted milliseconds
TOLERANCE = 0.02  # of the wanted amount; beyond it the reached value is stated as a miss


@dataclass(frozen=True)
class Budget:
    """What a selection was asked to keep and what it keeps: units, MACs per low-resolution pixel, parameters, ms."""

    target: str
    dense: float
    wanted: float
    reached: float

    @property
    def deviation(self) -> float:
        """Relative miss, (reached - wanted) / wanted."""
        return (self.reached - self.wanted) / self.wanted

    def check(self, round_to: int | str) -> None:
        """Raise UserError if rounding stands in the way of what was asked for; says what is reachable."""
        if abs(self.deviation) > TOLERANCE:
            raise UserError(
                f"round_to={round_to} cannot keep {self.wanted / self.dense:.1%} of the {self.target}; the nearest plan"
                f" keeps {self.reached / self.dense:.1%}: use ratio={1 - self.reached / self.dense:.3f}, or round_to=1"
            )

    def to_json(self) -> dict[str, float | str]:
        """Plain values for a JSON file."""
        return {
            "target": self.target,
            "dense": self.dense,
            "wanted": self.wanted,
            "reached": self.reached,
            "deviation": self.deviation,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Budget:
        """The budget that `to_json` wrote; its deviation follows from the rest."""
        return cls(data["target"], data["dense"], data["wanted"], data["reached"])


@dataclass(frozen=True)
class Limits:
    """min_kept: units that stay in every layer. round_to: kept counts are multiples of it (or the whole layer).

    round_to=auto: they lie on the grid of counts whose times are known. parts: only layers in them are cut; None for
    all.
    """

    min_kept: int = 1
    round_to: int | str = 1
    parts: Sequence[str] | None = None

    def may_cut(self, group: ChannelGroup) -> bool:
        """Whether the layer lies in a part that is cut."""
        return self.parts is None or group.part in self.parts

    def steps(self, group: ChannelGroup) -> list[int]:
        """Kept counts a layer may have, falling from its size."""
        size = group.size
        if not self.may_cut(group):
            return [size]
        if isinstance(self.round_to, str):
            return grid(size, self.min_kept)
        multiples = range((size - 1) // self.round_to * self.round_to, 0, -self.round_to)
        return [size, *(count for count in multiples if count >= self.min_kept)]


@dataclass(frozen=True)
class _Chunk:
    """Units of one group that are cut together (a single unit unless counts are rounded)."""

    group: str
    units: tuple[int, ...]
    score: float


def select(
    layout: ChannelLayout,
    scores: Mapping[str, NDArray[np.float64]],
    *,
    rule: str,
    ratio: float,
    target: str = "units",
    scope: str = "global",
    order: str = "min",
    min_kept: int = 1,
    round_to: int = 1,
    ratios: Mapping[str, float | int] | None = None,
    parts: Sequence[str] | None = None,
) -> PrunePlan:
    """Choose the units to cut.

    ratio: share in [0, 1) that is removed of the units (target=units; floor(N * ratio + 0.5) units), or of the dense
    network's MACs or parameters, flow net excluded (target=macs, params; the ranking is cut nearest to it).
    round_to: kept counts are multiples of it. One ranking then goes on past the units that would overshoot, so that
    what is rounded up in one layer is paid for in another.
    order: `min` cuts the smallest scores first (arXiv 2206.07687), `max` the largest (its ablation). Ties break by
    layer order, then index. parts: only layers in these parts of the network are cut; `ratio` still counts the whole
    network (scope=local, target=units: each of these layers). Raises UserError where the limits leave too little to
    cut.
    """
    one_of("order", order, ORDERS)
    check_reachable(
        layout,
        ratio=ratio,
        target=target,
        scope=scope,
        min_kept=min_kept,
        round_to=round_to,
        ratios=ratios,
        parts=parts,
    )
    limits = Limits(min_kept, round_to, parts)
    chunks = {group.name: _cut_order(group, scores[group.name], order, limits) for group in layout.groups}
    if scope == "global":
        ranked = sorted((chunk for row in chunks.values() for chunk in row), key=lambda c: _rank(c.score, order))
        chosen = _global(layout, ranked, ratio, target, fill=round_to > 1)
    else:
        counts = _layer_counts(layout, ratio, target, scope, limits, ratios)
        chosen = [
            chunk
            for group in layout.groups
            for chunk in _first_units(chunks[group.name], group.size - counts[group.name])
        ]
    cut: dict[str, list[int]] = {}
    for chunk in chosen:
        cut.setdefault(chunk.group, []).extend(chunk.units)
    return PrunePlan.cutting(rule, layout, cut)


def amount(layout: ChannelLayout, kept: Mapping[str, int], target: str) -> float:
    """What a target counts, kept: units, MACs per low-resolution pixel, or parameters."""
    if target == "macs":
        return layout.macs_per_pixel(kept)
    if target == "params":
        return layout.parameters(kept)
    return sum(kept.values())


def budget(layout: ChannelLayout, plan: PrunePlan, ratio: float, target: str) -> Budget:
    """Compare what `plan` keeps with what `ratio` asked for."""
    dense, reached = _whole(layout, target), amount(layout, plan.kept_counts, target)
    wanted = dense - _half_up(dense * ratio) if target == "units" else dense * (1 - ratio)
    return Budget(target, dense, wanted, reached)


def _whole(layout: ChannelLayout, target: str) -> float:
    return amount(layout, {group.name: group.size for group in layout.groups}, target)


def check_reachable(
    layout: ChannelLayout,
    *,
    ratio: float,
    target: str = "units",
    scope: str = "global",
    min_kept: int = 1,
    round_to: int | str = 1,
    ratios: Mapping[str, float | int] | None = None,
    parts: Sequence[str] | None = None,
) -> None:
    """Raise UserError, naming what is reachable, if no scores could make a plan that meets the request."""
    one_of("target", target, TARGETS)
    one_of("scope", scope, SCOPES)
    if not 0 <= ratio < 1:
        raise UserError(f"ratio must be in [0, 1); got {ratio}")
    if min_kept < 1 or (isinstance(round_to, int) and round_to < 1):
        raise UserError(f"min_kept and round_to must be at least 1; got {min_kept} and {round_to}")
    limits = Limits(min_kept, round_to, parts)
    inside = f" in {', '.join(parts)}" if parts else ""
    for part in parts or ():
        one_of("parts", part, list(dict.fromkeys(group.part for group in layout.groups)))
    for group in layout.groups:
        if min_kept > group.size:
            raise UserError(
                f"min_kept={min_kept} is more than the {group.size} channels of {group.name}; allowed: 1..{group.size}"
            )
    least = {group.name: limits.steps(group)[-1] for group in layout.groups}
    if round_to != 1 and all(least[group.name] == group.size for group in layout.groups):
        sizes = sorted({group.size for group in layout.groups})
        limit = f"round_to={round_to}" + (f" with min_kept={min_kept}" if min_kept > 1 else "")
        raise UserError(
            f"{limit} leaves nothing to cut in layers of {', '.join(map(str, sizes))} channels"
            + (f"; it must be smaller than {max(sizes)}" if round_to != "auto" else "")
        )
    if scope == "per_layer":
        _check_ratios(layout, ratios, limits)
    elif target != "units":
        _check_amount(layout, ratio, target, least, inside)
    elif scope == "global":
        free = layout.units - sum(least.values())
        if _half_up(layout.units * ratio) > free:
            raise UserError(
                f"ratio={ratio} cuts {_half_up(layout.units * ratio)} of {layout.units} units, but min_kept={min_kept}"
                f" and round_to={round_to} leave {free} to cut{inside}; the largest reachable ratio is"
                f" {math.floor(free / layout.units * 1000) / 1000:g}"
            )
    else:
        _check_local(layout, ratio, least, limits)


def _check_amount(layout: ChannelLayout, ratio: float, target: str, least: Mapping[str, int], inside: str) -> None:
    dense, floor = _whole(layout, target), amount(layout, least, target)
    if dense * (1 - ratio) * (1 + TOLERANCE) < floor:
        name = {"macs": "MACs", "params": "parameters"}[target]
        raise UserError(
            f"ratio={ratio} with target={target} asks for {1 - ratio:.1%} of the dense {name}, but the limits min_kept"
            f" and round_to and the channels that no unit{inside} covers keep {floor / dense:.1%};"
            f" the largest reachable ratio is {math.floor((1 - floor / dense) * 1000) / 1000:g}"
        )


def _check_local(layout: ChannelLayout, ratio: float, least: Mapping[str, int], limits: Limits) -> None:
    for group in layout.groups:
        wanted = group.size - _half_up(group.size * ratio)
        if limits.may_cut(group) and wanted < least[group.name] and limits.round_to == 1:
            raise UserError(
                f"ratio={ratio} with scope=local would keep {wanted} of {group.size} channels in {group.name}, fewer"
                f" than min_kept={limits.min_kept}; the largest reachable ratio there is"
                f" {math.floor((1 - least[group.name] / group.size) * 1000) / 1000:g}"
            )


def _check_ratios(layout: ChannelLayout, ratios: Mapping[str, float | int] | None, limits: Limits) -> None:
    if not ratios:
        raise UserError("scope=per_layer needs ratios: a file or a dict of layer: ratio (or kept count)")
    sizes = {group.name: group.size for group in layout.groups}
    for name, value in ratios.items():
        if name not in sizes:
            some = ", ".join(list(sizes)[:4])
            raise UserError(f"ratios names the unknown layer {name!r}; this network has {len(sizes)}, such as {some}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"ratios[{name}] must be a ratio in [0, 1) or a kept count; got {value!r}")
        if isinstance(value, float) and not 0 <= value < 1:
            raise UserError(f"ratios[{name}] must be in [0, 1), or a whole number of kept channels; got {value}")
        kept = _kept_count(sizes[name], value)
        if (
            isinstance(value, int)
            and isinstance(limits.round_to, int)
            and kept % limits.round_to
            and kept != sizes[name]
        ):
            raise UserError(f"ratios[{name}]={value} is a kept count that is no multiple of round_to={limits.round_to}")
        if not limits.min_kept <= kept <= sizes[name]:
            raise UserError(
                f"ratios[{name}]={value} keeps {kept} of {sizes[name]} channels; allowed:"
                f" {limits.min_kept}..{sizes[name]} (a whole number is a kept count, a fraction a ratio)"
            )


def _kept_count(size: int, value: float | int) -> int:
    return value if isinstance(value, int) else size - _half_up(size * value)


def _half_up(number: float) -> int:
    """floor(x + 0.5), robust against 0.7 * 10 = 7.000000000000001 and its like."""
    return math.floor(round(number, 9) + 0.5)


def _cut_order(group: ChannelGroup, scores: NDArray[np.float64], order: str, limits: Limits) -> list[_Chunk]:
    """The group's chunks in the order in which they would be cut; protected units are left out."""
    if scores.shape != (group.size,):
        raise ValueError(f"{group.name}: expected {group.size} scores, got shape {scores.shape}")
    ranked = sorted(range(group.size), key=lambda unit: (_rank(float(scores[unit]), order), unit))
    chunks = []
    for more, fewer in pairwise(limits.steps(group)):
        units = tuple(ranked[group.size - more : group.size - fewer])
        chunks.append(_Chunk(group.name, units, float(np.mean(scores[list(units)]))))
    return chunks


def _rank(score: float, order: str) -> float:
    return score if order == "min" else -score


def _global(layout: ChannelLayout, ranked: Sequence[_Chunk], ratio: float, target: str, fill: bool) -> Sequence[_Chunk]:
    """Cut one ranking over all layers where it comes nearest to the target.

    The ranking is stable and chunks come in layer order, each layer's in cut order: that breaks the ties.
    fill: beyond that place go on with the chunks that do not overshoot, if that comes nearer.
    """
    if target == "units":
        cut = [0, *accumulate(len(chunk.units) for chunk in ranked)]
        return ranked[: _nearest(lambda n: cut[n], len(ranked), _half_up(layout.units * ratio))]

    def removed(chunks: Sequence[_Chunk]) -> float:
        kept = {group.name: group.size for group in layout.groups}
        for chunk in chunks:
            kept[chunk.group] -= len(chunk.units)
        return dense - amount(layout, kept, target)

    dense = _whole(layout, target)
    place = _nearest(lambda n: removed(ranked[:n]), len(ranked), dense * ratio)
    chosen = ranked[:place]
    if not fill:
        return chosen
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


def _layer_counts(
    layout: ChannelLayout,
    ratio: float,
    target: str,
    scope: str,
    limits: Limits,
    ratios: Mapping[str, float | int] | None,
) -> dict[str, int]:
    """Kept count of every layer for scope=local and scope=per_layer."""
    sizes = {group.name: group.size for group in layout.groups}
    if scope == "per_layer":
        wanted = {name: _kept_count(size, (ratios or {}).get(name, size)) for name, size in sizes.items()}
        return {group.name: _allowed(group, wanted[group.name], limits) for group in layout.groups}

    def uniform(share: float) -> dict[str, int]:
        return {
            group.name: _allowed(group, group.size - _half_up(group.size * share), limits) for group in layout.groups
        }

    if target == "units":
        return uniform(ratio)
    shares = sorted({0.0} | {(cut - 0.5) / size for size in set(sizes.values()) for cut in range(1, size + 1)})
    dense = _whole(layout, target)
    index = _nearest(lambda n: dense - amount(layout, uniform(shares[n]), target), len(shares) - 1, dense * ratio)
    return uniform(shares[index])


def _allowed(group: ChannelGroup, wanted: int, limits: Limits) -> int:
    """The allowed kept count nearest to `wanted`, the larger on ties."""
    return min(limits.steps(group), key=lambda count: (abs(count - wanted), -count))


def _first_units(chunks: Sequence[_Chunk], cut: int) -> Sequence[_Chunk]:
    totals = [0, *accumulate(len(chunk.units) for chunk in chunks)]
    return chunks[: totals.index(cut)]
