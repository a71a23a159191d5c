"""The request for a selection: the ten knobs that decide which units are cut, collected and checked once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from vsrprune.channels.layout import ChannelGroup, ChannelLayout
from vsrprune.channels.operations import grid
from vsrprune.errors import UserError, one_of

ORDERS = ("min", "max")
SCOPES = ("global", "local", "kind", "part", "per_layer")
NORMALISE = ("none", "layer", "kind", "lamp")
RANKS = ("score", "per_mac", "per_param")
TARGETS = ("units", "macs", "params")
TOLERANCE = 0.02  # of the wanted amount; beyond it the reached value is stated as a miss


@dataclass(frozen=True)
class Asked:
    """The request for a plan that `select` meets.

    rule: the residual rule whose units are cut (rsc, aligned, inner).
    ratio: share in [0, 1) that is removed of the units (target=units; floor(N * ratio + 0.5) units), or of the dense
    network's MACs or parameters, flow net excluded (target=macs, params; the ranking is cut nearest to it).
    scope: one ranking over all layers (global), the same share of every layer (local), of the units of every kind or of
    every part of the network, each ranked by itself (kind, part), or given ratios (per_layer).
    order: `min` cuts the smallest scores first (arXiv 2206.07687), `max` the largest (its ablation).
    min_kept: units that stay in every layer.
    round_to: kept counts are multiples of it (or the whole layer); `auto`: they lie on the grid of counts whose times
    are known.
    ratios: a ratio (float) or a kept count (int) by layer, for scope=per_layer; layers that are not named stay whole.
    parts: only layers in these parts of the network are cut; None for all. `ratio` still counts the whole network
    (target=units with local, kind or part: what may be cut of each of them).
    normalise: what a score is divided by before layers are compared: nothing (none), the mean of its layer or kind, or
    the sum of the scores of its layer that are not smaller (lamp).
    rank: what is compared: the score, or the score per MAC (per_mac) or parameter (per_param) that a unit frees.
    """

    rule: str
    ratio: float = 0.0
    target: str = "units"
    scope: str = "global"
    order: str = "min"
    min_kept: int = 1
    round_to: int | str = 1
    ratios: Mapping[str, float | int] | None = None
    parts: tuple[str, ...] | None = None
    normalise: str = "none"
    rank: str = "score"

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
        # From the largest multiple below the size: a whole layer is allowed whether or not it is a multiple itself.
        multiples = range((size - 1) // self.round_to * self.round_to, 0, -self.round_to)
        return [size, *(count for count in multiples if count >= self.min_kept)]

    def kept_count(self, group: ChannelGroup) -> int:
        """How many units `ratios` leaves a layer."""
        value = (self.ratios or {}).get(group.name, group.size)
        return value if isinstance(value, int) else group.size - half_up(group.size * value)


def half_up(number: float) -> int:
    """floor(x + 0.5), robust against 0.7 * 10 = 7.000000000000001 and its like."""
    # Not round(): it rounds halves to even, and 0.5 of 5 and of 7 channels would go different ways.
    return math.floor(round(number, 9) + 0.5)


def check_reachable(layout: ChannelLayout, asked: Asked) -> None:
    """Raise UserError, naming what is reachable, if no scores could make a plan that meets the request."""
    _check_values(layout, asked)
    least = least_counts(layout, asked)
    if asked.round_to != 1 and all(least[group.name] == group.size for group in layout.groups):
        sizes = sorted({group.size for group in layout.groups})
        limit = f"round_to={asked.round_to}" + (f" with min_kept={asked.min_kept}" if asked.min_kept > 1 else "")
        raise UserError(
            f"{limit} leaves nothing to cut in layers of {', '.join(map(str, sizes))} channels"
            + (f"; it must be smaller than {max(sizes)}" if asked.round_to != "auto" else "")
        )
    if asked.scope == "per_layer":
        _check_ratios(layout, asked)
    elif asked.target != "units":
        _check_amount(layout, asked, least)
    elif asked.scope == "global":
        _check_global(layout, asked, least)
    else:
        _check_pools(layout, asked, least)


def least_counts(layout: ChannelLayout, asked: Asked) -> dict[str, int]:
    """What a plan keeps that cuts everything it may: no scores can cut more."""
    return {group.name: asked.steps(group)[-1] for group in layout.groups}


def pools(layout: ChannelLayout, asked: Asked) -> dict[str, list[ChannelGroup]]:
    """The layers that may be cut, by what loses the same share with scope=local, kind or part."""
    found: dict[str, list[ChannelGroup]] = {}
    for group in filter(asked.may_cut, layout.groups):
        name = {"local": group.name, "kind": group.kind, "part": group.part}[asked.scope]
        found.setdefault(name, []).append(group)
    return found


def _check_values(layout: ChannelLayout, asked: Asked) -> None:
    one_of("order", asked.order, ORDERS)
    one_of("target", asked.target, TARGETS)
    one_of("scope", asked.scope, SCOPES)
    one_of("normalise", asked.normalise, NORMALISE)
    one_of("rank", asked.rank, RANKS)
    if not 0 <= asked.ratio < 1:
        raise UserError(f"ratio must be in [0, 1); got {asked.ratio}")
    if asked.min_kept < 1 or (isinstance(asked.round_to, int) and asked.round_to < 1):
        raise UserError(f"min_kept and round_to must be at least 1; got {asked.min_kept} and {asked.round_to}")
    for part in asked.parts or ():
        one_of("parts", part, layout.parts)
    for group in layout.groups:
        if asked.min_kept > group.size:
            raise UserError(
                f"min_kept={asked.min_kept} is more than the {group.size} channels of {group.name}; allowed:"
                f" 1..{group.size}"
            )


def _inside(asked: Asked) -> str:
    return f" in {', '.join(asked.parts)}" if asked.parts else ""


def _reachable(share: float) -> str:
    """The largest ratio that leaves `share`, rounded down so that it is reachable as it is printed."""
    return f"{math.floor(share * 1000) / 1000:g}"


def _check_amount(layout: ChannelLayout, asked: Asked, least: Mapping[str, int]) -> None:
    # With the tolerance that a finished plan is given: what it accepts there is not refused here.
    dense, floor = dense_amount(layout, asked.target), amount(layout, least, asked.target)
    if dense * (1 - asked.ratio) * (1 + TOLERANCE) < floor:
        name = {"macs": "MACs", "params": "parameters"}[asked.target]
        raise UserError(
            f"ratio={asked.ratio} with target={asked.target} asks for {1 - asked.ratio:.1%} of the dense {name}, but"
            f" the limits min_kept and round_to and the channels that no unit{_inside(asked)} covers keep"
            f" {floor / dense:.1%}; the largest reachable ratio is {_reachable(1 - floor / dense)}"
        )


def _check_global(layout: ChannelLayout, asked: Asked, least: Mapping[str, int]) -> None:
    free, wanted = layout.units - sum(least.values()), half_up(layout.units * asked.ratio)
    if wanted > free:
        raise UserError(
            f"ratio={asked.ratio} cuts {wanted} of {layout.units} units, but min_kept={asked.min_kept} and"
            f" round_to={asked.round_to} leave {free} to cut{_inside(asked)}; the largest reachable ratio is"
            f" {_reachable(free / layout.units)}"
        )


def _check_pools(layout: ChannelLayout, asked: Asked, least: Mapping[str, int]) -> None:
    if asked.round_to != 1:
        return  # rounding takes the nearest count that is allowed
    for name, groups in pools(layout, asked).items():
        size, stay = sum(group.size for group in groups), sum(least[group.name] for group in groups)
        wanted = size - half_up(size * asked.ratio)
        if wanted < stay:
            limit = f"min_kept={asked.min_kept}" + (f" of each of its {len(groups)} layers" if len(groups) > 1 else "")
            raise UserError(
                f"ratio={asked.ratio} with scope={asked.scope} would keep {wanted} of {size} channels in {name},"
                f" fewer than {limit}; the largest reachable ratio there is {_reachable(1 - stay / size)}"
            )


def _check_ratios(layout: ChannelLayout, asked: Asked) -> None:
    if not asked.ratios:
        raise UserError("scope=per_layer needs ratios: a file or a dict of layer: ratio (or kept count)")
    groups = {group.name: group for group in layout.groups}
    for name, value in asked.ratios.items():
        if name not in groups:
            some = ", ".join(list(groups)[:4])
            raise UserError(f"ratios names the unknown layer {name!r}; this network has {len(groups)}, such as {some}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"ratios[{name}] must be a ratio in [0, 1) or a kept count; got {value!r}")
        if isinstance(value, float) and not 0 <= value < 1:
            raise UserError(f"ratios[{name}] must be in [0, 1), or a whole number of kept channels; got {value}")
        kept, size = asked.kept_count(groups[name]), groups[name].size
        if isinstance(value, int) and isinstance(asked.round_to, int) and kept % asked.round_to and kept != size:
            raise UserError(f"ratios[{name}]={value} is a kept count that is no multiple of round_to={asked.round_to}")
        if not asked.min_kept <= kept <= size:
            raise UserError(
                f"ratios[{name}]={value} keeps {kept} of {size} channels; allowed: {asked.min_kept}..{size} (a whole"
                " number is a kept count, a fraction a ratio)"
            )


def amount(layout: ChannelLayout, kept: Mapping[str, int], target: str) -> float:
    """What a target counts, kept: units, MACs per low-resolution pixel, or parameters."""
    if target == "macs":
        return layout.macs_per_pixel(kept)
    if target == "params":
        return layout.parameters(kept)
    return sum(kept.values())


def dense_amount(layout: ChannelLayout, target: str) -> float:
    """What a target counts of the dense network."""
    return amount(layout, {group.name: group.size for group in layout.groups}, target)
