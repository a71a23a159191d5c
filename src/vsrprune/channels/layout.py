"""Which channels are kept or cut together, and what the kept ones cost.

A *unit* is what is kept or cut as a whole; a `ChannelGroup` is a layer of units: unit u of the group stands for
channel u of every gate (scaling factor) of the group. Models declare groups and convolutions as a
`ChannelLayout`; selection and surgery read nothing else, so neither knows any network or residual rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

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
    """A layer of `size` units; unit u is channel u of each of `gates`.

    kind: what the units are (input, middle, output, stream, fusion, shuffle, reconstruction).
    part: the part of the network that they belong to (backward, forward, trunk, upsampler).
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
    partial: whether the stream keeps its channels whatever the group loses; those kept are gathered from it, or added
    to it.
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
    groups: those of the dense network's convolution. A depthwise one has a filter for every channel that it reads: its
    one input is its output, so that a channel lives and dies with that of its producer. Other groups are never cut, nor
    is what they read.
    """

    name: str
    kernel: int
    inputs: tuple[Slot, ...]
    output: Slot
    scale: float = 1
    filters_per_unit: int = 1
    times: int = 1
    groups: int = 1

    def __post_init__(self) -> None:
        if self.groups == 1 or self.depthwise:
            return
        reads, filters = sum(slot.size for slot in self.inputs), self.filters({})
        if reads % self.groups or filters % self.groups:
            raise ValueError(f"{self.name}: {self.groups} groups do not divide {reads} inputs and {filters} filters")
        if any(slot.group for slot in (*self.inputs, self.output)):
            raise ValueError(
                f"{self.name}: a convolution in {self.groups} groups is never cut, nor is what it reads; only a"
                " depthwise one is, with the channels that it reads"
            )

    @property
    def depthwise(self) -> bool:
        """Whether each filter reads the one channel of its place."""
        whole = self.inputs == (self.output,) and self.filters_per_unit == 1 and not self.output.partial
        return whole and self.groups == self.output.size > 1

    def filters(self, kept: Mapping[str, int]) -> int:
        """Number of filters when groups keep so many channels; groups left out are whole."""
        return _width(self.output, kept) * self.filters_per_unit

    def weights(self, kept: Mapping[str, int]) -> int:
        """Number of weights, which is also the multiply-accumulates per pixel of the output before a pixel shuffle."""
        # Weights do not grow with `times`, MACs do: the same filters run once per frame of a window.
        if self.depthwise:
            return self.kernel**2 * self.filters(kept)
        weights = self.kernel**2 * sum(_width(slot, kept) for slot in self.inputs) * self.filters(kept)
        # Fractions of channels are counted too, on the way to whole ones; of other groups none is cut.
        return weights if self.groups == 1 else weights // self.groups

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
        # A gate in two groups would be cut by one and kept by the other: surgery could do neither.
        gates = [gate for group in self.groups for gate in group.gates]
        if len(set(gates)) != len(gates):
            raise ValueError("a gate stands in two channel groups")
        for conv in self.convs:
            for slot in (*conv.inputs, conv.output):
                if slot.group is not None and sizes.get(slot.group) != slot.size:
                    raise ValueError(f"{conv.name}: slot {slot} does not match a declared group")
            # Its bias would be left of a channel that its producer's gate alone makes zero.
            if conv.depthwise and conv.output.group and Gate(conv.name, "output") not in gates:
                raise ValueError(f"{conv.name}: its gate must be in group {conv.output.group}, whose channels it reads")

    def to_json(self) -> dict[str, Any]:
        """The layout as JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ChannelLayout:
        """The layout that `to_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        groups = (ChannelGroup(**{**group, "gates": _all_of(Gate, group["gates"])}) for group in values["groups"])
        convs = (
            ConvLayer(**{**conv, "inputs": _all_of(Slot, conv["inputs"]), "output": Slot(**conv["output"])})
            for conv in values["convs"]
        )
        return cls(tuple(groups), tuple(convs))

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
        # Every convolution has a bias: one number per filter.
        return sum(conv.weights(counts) + conv.filters(counts) for conv in self.convs)


def _all_of(kind: type[Any], values: Sequence[Mapping[str, Any]]) -> tuple[Any, ...]:
    return tuple(kind(**value) for value in values)
