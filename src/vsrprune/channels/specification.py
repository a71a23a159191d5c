"""State a network's channel layout in the words of its architecture: streams, blocks, filters, convolutions.

A residual rule decides what a skip connection allows; it is applied here and nowhere else, so an author says only which
convolutions read a residual stream and which add to it:

    spec = Specification(rule)
    body = spec.stream("body", 64, part="trunk", writers=["conv_first"])
    spec.conv("conv_first", 3, [RGB], body)
    for name in blocks:
        spec.block(name, "body", part="trunk")
    high = spec.filters("upconv", 3, [body], 64, part="upsampler", kind="shuffle", filters_per_unit=4)
    spec.conv("conv_last", 3, [high], RGB, scale=2)
    layout = spec.layout()
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vsrprune.channels.layout import RULES, ChannelGroup, ChannelLayout, ConvLayer, Gate, Slot
from vsrprune.errors import one_of

RGB = Slot(3)


@dataclass
class _Group:
    """A channel group whose gates are still being collected."""

    name: str
    part: str
    kind: str
    size: int
    block: str = ""
    gates: list[Gate] = field(default_factory=list)

    def finished(self) -> ChannelGroup:
        return ChannelGroup(self.name, self.part, self.kind, self.size, tuple(self.gates), self.block)


class Specification:
    """Collects groups and convolutions in network order under one residual rule.

    `rsc`: every block chooses which channels of a stream it reads and adds to; the stream keeps all of them. `aligned`:
    the channels of a stream are cut once for all that read or write it. `inner`: a stream is never cut.
    """

    def __init__(self, rule: str) -> None:
        one_of("residual rule", rule, RULES)
        self.rule = rule
        self._groups: list[_Group] = []
        self._convs: list[ConvLayer] = []
        self._streams: dict[str, Slot] = {}

    def layout(self) -> ChannelLayout:
        """The layout of all that was stated so far. Raises ValueError where it contradicts itself."""
        # A stream without writers and readers has no gates, and nothing of it can be cut.
        groups = tuple(group.finished() for group in self._groups if group.gates)
        return ChannelLayout(groups, tuple(self._convs))

    def stream(self, name: str, size: int, *, part: str, writers: Sequence[str] = ()) -> Slot:
        """A residual stream of `size` channels; returns the slot of all of it.

        writers: the convolutions that start it, whose gates go with its channels.
        """
        # Only under `aligned` is a stream a group. Under `rsc` its ends are groups of their own; under `inner` it stays
        # whole.
        slot = Slot(size)
        if self.rule == "aligned":
            gates = [Gate(writer, "output") for writer in writers]
            self._groups.append(_Group(f"{name}.stream", part, "stream", size, gates=gates))
            slot = Slot(size, f"{name}.stream")
        self._streams[name] = slot
        return slot

    def read(self, conv: str, stream: str, *, part: str, block: str = "") -> Slot:
        """What a convolution with input gates reads of a stream; the caller states the convolution."""
        return self._end(stream, Gate(conv, "input"), f"{conv}.input", part, "input", block)

    def add(self, conv: str, stream: str, *, part: str, block: str = "") -> Slot:
        """What a convolution adds to a stream; the caller states the convolution."""
        return self._end(stream, Gate(conv, "output"), conv, part, "output", block)

    def _end(self, stream: str, gate: Gate, name: str, part: str, kind: str, block: str) -> Slot:
        """The slot at a convolution's end on a stream: a group of its own, or the stream's channels."""
        whole = self._streams[stream]
        if self.rule == "rsc":
            self._groups.append(_Group(name, part, kind, whole.size, block, [gate]))
            return Slot(whole.size, name, stream, partial=True)
        # `aligned`: this end goes with the channels of the stream. `inner`: the stream has no group, and the gate is in
        # none.
        for group in self._groups:
            if group.name == whole.group:
                group.gates.append(gate)
        return Slot(whole.size, whole.group, stream)

    def block(self, name: str, stream: str, *, part: str, kernel: int = 3) -> Slot:
        """A residual block x + conv2(relu(conv1(x))) on a stream; returns the slot of what it adds."""
        conv1, conv2 = f"{name}.conv1", f"{name}.conv2"
        read = self.read(conv1, stream, part=part, block=name)
        # Groups in network order (input, middle, output): ties between scores break by it.
        middle = self.filters(conv1, kernel, [read], read.size, part=part, kind="middle", block=name)
        added = self.add(conv2, stream, part=part, block=name)
        self.conv(conv2, kernel, [middle], added)
        return added

    def group(self, convs: Sequence[str], size: int, *, part: str, kind: str, block: str = "") -> Slot:
        """The output channels of some convolutions, cut together; the caller states the convolutions."""
        self._groups.append(_Group(convs[0], part, kind, size, block, [Gate(conv, "output") for conv in convs]))
        return Slot(size, convs[0])

    def filters(
        self,
        conv: str,
        kernel: int,
        inputs: Sequence[Slot],
        size: int,
        *,
        part: str,
        kind: str,
        scale: float = 1,
        filters_per_unit: int = 1,
        times: int = 1,
        block: str = "",
    ) -> Slot:
        """A convolution whose output channels are a group of their own; returns their slot."""
        slot = self.group([conv], size, part=part, kind=kind, block=block)
        self.conv(conv, kernel, inputs, slot, scale=scale, filters_per_unit=filters_per_unit, times=times)
        return slot

    def depthwise(self, conv: str, kernel: int, slot: Slot, *, scale: float = 1, times: int = 1) -> Slot:
        """A convolution with a filter for each channel of `slot`, which it writes too; returns that slot.

        Its gate goes with the producer's: a channel of zeros would leave it as its bias.
        """
        for group in self._groups:
            if group.name == slot.group:
                group.gates.append(Gate(conv, "output"))
        self.conv(conv, kernel, [slot], slot, scale=scale, times=times, groups=slot.size)
        return slot

    def conv(
        self,
        name: str,
        kernel: int,
        inputs: Sequence[Slot],
        output: Slot,
        *,
        scale: float = 1,
        filters_per_unit: int = 1,
        times: int = 1,
        groups: int = 1,
    ) -> None:
        """A convolution that reads `inputs`, concatenated in this order, and writes `output`; see ConvLayer."""
        self._convs.append(ConvLayer(name, kernel, tuple(inputs), output, scale, filters_per_unit, times, groups))
