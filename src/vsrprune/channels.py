"""Which channels live and die together, what a plan keeps of them, and what the rest costs.

A *unit* is what is kept or cut as a whole; a `ChannelGroup` is a layer of units: unit u of the group stands for
channel u of every gate (scaling factor) of the group. Models declare groups and convolutions as a
`ChannelLayout`; selection and surgery read nothing else, so neither knows any network or residual rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vsrprune.errors import UserError

RULES = ("rsc", "aligned", "inner")
Side = Literal["output", "input"]


@dataclass(frozen=True)
class Gate:
    """One vector of scaling factors: on the outputs of a convolution, or on its inputs."""

    conv: str
    side: Side

    @property
    def parameter(self) -> str:
        """Name of the gate among the network's parameters."""
        return f"{self.conv}.{'gate' if self.side == 'output' else 'input_gate'}"


@dataclass(frozen=True)
class ChannelGroup:
    """`size` units; unit u is channel u of each of `gates`.

    kind: what the units are (input, middle, output, stream, fusion, shuffle, reconstruction).
    part: where they stand in the network (backward, forward, trunk, upsampler).
    block: the residual block that they belong to; empty outside of one.
    """

    name: str
    part: str
    kind: str
    size: int
    gates: tuple[Gate, ...]
    block: str = ""

    def __post_init__(self) -> None:
        if self.size < 1 or not self.gates:
            raise ValueError(f"group {self.name!r} needs at least one channel and one gate")


@dataclass(frozen=True)
class Slot:
    """A run of `size` channels that enter or leave a convolution; `group` may cut them, None never does.

    stream: the residual stream that they are read from or added to; empty where there is none.
    partial: the stream keeps its channels whatever the group loses: kept ones are gathered from it or added to it.
    """

    size: int
    group: str | None = None
    stream: str = ""
    partial: bool = False


@dataclass(frozen=True)
class ConvLayer:
    """A convolution as cost and surgery see it.

    inputs: the slots concatenated to its input, in order.
    filters_per_unit: consecutive filters that one output channel stands for (r*r before a pixel shuffle, else 1).
    scale: side of its output relative to the low-resolution frame: 1/2 after a stride of 2, 0 where a frame's mean is
    convolved, which costs next to nothing.
    times: how often it runs for one frame of output (once for every frame of a window, for instance).
    """

    name: str
    kernel: int
    inputs: tuple[Slot, ...]
    output: Slot
    scale: float = 1
    filters_per_unit: int = 1
    times: int = 1

    def filters(self, kept: Mapping[str, int]) -> int:
        """Number of filters when groups keep so many channels; groups left out are whole."""
        return _width(self.output, kept) * self.filters_per_unit

    def weights(self, kept: Mapping[str, int]) -> int:
        """Number of weights, which is also the multiply-accumulates per pixel of the output before a pixel shuffle."""
        return self.kernel**2 * sum(_width(slot, kept) for slot in self.inputs) * self.filters(kept)

    def macs(self, kept: Mapping[str, int]) -> float:
        """Multiply-accumulates per low-resolution pixel of one frame of output."""
        return self.pixels * self.weights(kept)

    @property
    def pixels(self) -> float:
        """Output pixels that it computes for each low-resolution pixel of one frame of output."""
        return self.times * self.scale**2


def _width(slot: Slot, kept: Mapping[str, int]) -> int:
    return slot.size if slot.group is None else kept.get(slot.group, slot.size)


@dataclass(frozen=True)
class ChannelLayout:
    """All prunable groups in network order, and every convolution they reach."""

    groups: tuple[ChannelGroup, ...]
    convs: tuple[ConvLayer, ...]

    def __post_init__(self) -> None:
        sizes: dict[str, int] = {}
        for group in self.groups:
            if group.name in sizes:
                raise ValueError(f"channel group {group.name!r} is declared twice")
            sizes[group.name] = group.size
        gates = [gate for group in self.groups for gate in group.gates]
        if len(set(gates)) != len(gates):
            raise ValueError("a gate stands in two channel groups")
        for conv in self.convs:
            for slot in (*conv.inputs, conv.output):
                if slot.group is not None and sizes.get(slot.group) != slot.size:
                    raise ValueError(f"{conv.name}: slot {slot} does not match a declared group")

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of the network that have groups, in its order."""
        return tuple(dict.fromkeys(group.part for group in self.groups))

    @property
    def units(self) -> int:
        """Number of prunable units."""
        return sum(group.size for group in self.groups)

    def macs_per_pixel(self, kept: Mapping[str, int] | None = None) -> float:
        """Multiply-accumulates per low-resolution pixel of one frame, flow net excluded; a whole number at full scale.

        kept: number of kept channels by group; groups left out are whole.
        """
        return sum(conv.macs(kept or {}) for conv in self.convs)

    def parameters(self, kept: Mapping[str, int] | None = None) -> int:
        """Weights and biases, flow net excluded; gates fold into them. `kept` as for the MACs."""
        counts = kept or {}
        return sum(conv.weights(counts) + conv.filters(counts) for conv in self.convs)


@dataclass(frozen=True)
class PrunePlan:
    """What is kept: for each group its size and the kept channels, ascending.

    Raises ValueError for an unknown rule, an empty group, or channels unsorted, repeated or out of range.
    """

    rule: str
    sizes: Mapping[str, int]
    kept: Mapping[str, tuple[int, ...]]

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"rule must be one of {', '.join(RULES)}; got {self.rule!r}")
        if set(self.sizes) != set(self.kept):
            raise ValueError(f"sizes and kept name different groups: {sorted(set(self.sizes) ^ set(self.kept))}")
        for name, channels in self.kept.items():
            if not channels:
                raise ValueError(f"{name}: at least one channel must be kept")
            if list(channels) != sorted(set(channels)):
                raise ValueError(f"{name}: kept channels must ascend without repeats, got {channels}")
            if channels[0] < 0 or channels[-1] >= self.sizes[name]:
                raise ValueError(f"{name}: kept channels must lie in 0..{self.sizes[name] - 1}, got {channels}")

    @classmethod
    def keep_all(cls, rule: str, layout: ChannelLayout) -> PrunePlan:
        """The plan that cuts nothing."""
        return cls.cutting(rule, layout, {})

    @classmethod
    def cutting(cls, rule: str, layout: ChannelLayout, cut: Mapping[str, Iterable[int]]) -> PrunePlan:
        """The plan that cuts the channels named in `cut` (by group) and keeps the others."""
        gone = {name: set(channels) for name, channels in cut.items()}
        sizes = {group.name: group.size for group in layout.groups}
        for name, channels in gone.items():
            if not channels <= set(range(sizes.get(name, 0))):
                raise ValueError(f"{name}: channels {sorted(channels)} are not among this layout's")
        return cls(
            rule=rule,
            sizes={group.name: group.size for group in layout.groups},
            kept={
                group.name: tuple(u for u in range(group.size) if u not in gone.get(group.name, ()))
                for group in layout.groups
            },
        )

    @property
    def kept_counts(self) -> dict[str, int]:
        """Number of kept channels by group."""
        return {name: len(channels) for name, channels in self.kept.items()}

    @property
    def units_cut(self) -> int:
        """Number of units that are cut."""
        return sum(self.sizes.values()) - sum(self.kept_counts.values())

    def cut(self, group: str) -> tuple[int, ...]:
        """The channels of `group` that are cut, ascending."""
        kept = set(self.kept[group])
        return tuple(u for u in range(self.sizes[group]) if u not in kept)

    def check_fits(self, layout: ChannelLayout) -> None:
        """Raise UserError naming the first group in which plan and layout differ."""
        expected = {group.name: group.size for group in layout.groups}
        for name in sorted(set(expected) | set(self.sizes)):
            if expected.get(name) != self.sizes.get(name):
                raise UserError(
                    f"the plan does not fit this network: group {name} has {self.sizes.get(name, 'no')} channels in"
                    f" the plan and {expected.get(name, 'no')} in the network"
                )

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file; `from_json` reads them back."""
        return {
            "rule": self.rule,
            "groups": {name: {"size": size, "kept": list(self.kept[name])} for name, size in self.sizes.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PrunePlan:
        """The plan that `to_json` wrote."""
        groups = data["groups"]
        return cls(
            rule=data["rule"],
            sizes={name: int(group["size"]) for name, group in groups.items()},
            kept={name: tuple(map(int, group["kept"])) for name, group in groups.items()},
        )
