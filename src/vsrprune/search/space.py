"""The search space: which layers share a pruning ratio, and within which bounds ratios are drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vsrprune.channels.layout import ChannelGroup, ChannelLayout
from vsrprune.errors import one_of

# What the layers of one ratio have in common. Outside the residual blocks, a layer is a block of its own.
GROUPS: dict[str, Callable[[ChannelGroup], str]] = {
    "layer": lambda group: group.name,
    "block": lambda group: group.block or group.name,
    "kind": lambda group: group.kind,
    "part": lambda group: group.part,
}
# Ratios are computed from counts, so that they meet bounds and each other up to rounding.
_SAME = 1e-9


@dataclass(frozen=True)
class Range:
    """Bounds of a ratio, both included."""

    low: float
    high: float

    def __contains__(self, ratio: float) -> bool:
        return self.low - _SAME <= ratio <= self.high + _SAME

    def around(self, centre: float, radius: float) -> Range:
        """The part of this range that is at most `radius` away from `centre`."""
        return Range(max(self.low, centre - radius), min(self.high, centre + radius))


@dataclass(frozen=True)
class Space:
    """`layers` names the layers of each dimension, in network order; `ranges` bounds each dimension's ratio."""

    layers: Mapping[str, tuple[str, ...]]
    ranges: Mapping[str, Range]

    def ratios(self, values: Mapping[str, float]) -> dict[str, float]:
        """The ratio of every layer when the dimensions have these values."""
        return {layer: values[name] for name, layers in self.layers.items() for layer in layers}

    def express(self, ratios: Mapping[str, float]) -> dict[str, float] | None:
        """The dimensions' values that give exactly these ratios of layers; None if none do."""
        values = {}
        for name, layers in self.layers.items():
            first = ratios[layers[0]]
            if any(abs(ratios[layer] - first) > _SAME for layer in layers) or first not in self.ranges[name]:
                return None
            values[name] = first
        return self.nearest(values)

    def nearest(self, ratios: Mapping[str, float]) -> dict[str, float]:
        """The point nearest to these values of the dimensions."""
        return {name: min(max(ratios[name], bounds.low), bounds.high) for name, bounds in self.ranges.items()}

    def to_json(self) -> dict[str, list[float]]:
        """Bounds by dimension, for a JSON file."""
        return {name: [bounds.low, bounds.high] for name, bounds in self.ranges.items()}


def make_space(layout: ChannelLayout, group: str, low: float, high: float) -> Space:
    """One dimension per layer, residual block, kind of unit, or part of the network; see GROUPS."""
    one_of("search.group", group, GROUPS)
    layers: dict[str, tuple[str, ...]] = {}
    for channels in layout.groups:
        name = GROUPS[group](channels)
        layers[name] = (*layers.get(name, ()), channels.name)
    return Space(layers, dict.fromkeys(layers, Range(low, high)))


def refined(layout: ChannelLayout, centre: Mapping[str, float], low: float, high: float, radius: float) -> Space:
    """One dimension per layer, each at most `radius` away from the layer's ratio in `centre`."""
    whole = make_space(layout, "layer", low, high)
    ranges = {name: Range(low, high).around(ratio, radius) for name, ratio in whole.nearest(centre).items()}
    return Space(whole.layers, ranges)
