"""What the author of a network says about its channels, and the layout that follows from it and from a trace.

Chains of convolutions, activations, pixel shuffles and resizing are traced. What is left to say: which convolutions
read and write a residual stream or a recurrent state, and what is concatenated where.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from vsrprune.channels.layout import ChannelLayout, Slot
from vsrprune.channels.specification import Specification
from vsrprune.errors import UserError


@dataclass(frozen=True)
class TracedConv:
    """A convolution as a run of the network showed it.

    units: output channels, after a pixel shuffle where one follows. filters_per_unit: r*r before a pixel shuffle.
    producer: the convolution whose output channels it reads, all of them in their order, through nothing but plain
    operations; empty if it reads something else. scale, times: see ConvLayer. opaque: what else its output channels
    go into, in words; empty if only convolutions read them plainly. gated: whether its channels can carry gates.
    groups: see ConvLayer.
    """

    name: str
    inputs: int
    units: int
    kernel: int
    filters_per_unit: int = 1
    producer: str = ""
    scale: float = 1
    times: int = 1
    opaque: str = ""
    gated: bool = True
    groups: int = 1

    @property
    def depthwise(self) -> bool:
        """Whether its channels live and die with those that it reads."""
        return self.gated and self.groups > 1


@dataclass
class _Stream:
    starts: list[str]
    adds: list[str] = field(default_factory=list)


class Declaration:
    """What tracing cannot see, under one residual rule.

        spec = Declaration(rule)
        spec.stream("state", starts=["first"])
        spec.reads("first", 3, "state")             # the frame's channels, then the state's
        spec.block("state", "blocks.0.conv1", "blocks.0.conv2")
        spec.reads("upconv", "state")

    Convolutions go by their names in the network. Everything is checked when the layout is made.
    """

    def __init__(self, rule: str) -> None:
        self.rule = rule
        self._streams: dict[str, _Stream] = {}
        self._reads: dict[str, tuple[int | str, ...]] = {}
        self._blocks: dict[str, str] = {}  # conv1 -> stream
        self._block_of: dict[str, str] = {}  # convolution -> its block, which bears the name of its conv1
        self._together: list[list[str]] = []
        self._whole: list[str] = []

    def stream(self, name: str, *, starts: Iterable[str]) -> None:
        """A residual stream or a recurrent state, which the convolutions `starts` write anew; others add to it."""
        if name in self._streams:
            raise UserError(f"stream {name!r} is declared twice")
        self._streams[name] = _Stream(list(starts))

    def reads(self, conv: str, *inputs: int | str) -> None:
        """What a convolution's input is, in the order of its channels.

        inputs: a number of channels that are never cut (a frame's), the name of a stream, or that of a convolution
        whose output channels stand there.
        """
        if conv in self._reads:
            raise UserError(f"what {conv!r} reads is declared twice")
        self._reads[conv] = inputs

    def adds(self, stream: str, conv: str) -> None:
        """A convolution whose output is added to a stream."""
        self._known(stream).adds.append(conv)

    def block(self, stream: str, conv1: str, conv2: str) -> None:
        """A residual block x + conv2(act(conv1(x))) on a stream."""
        self._known(stream)
        if conv1 in self._blocks:
            raise UserError(f"{conv1!r} stands in two blocks")
        self._blocks[conv1] = stream
        self._block_of |= {conv1: conv1, conv2: conv1}
        self.adds(stream, conv2)

    def together(self, *convs: str) -> None:
        """Convolutions whose outputs are added or multiplied channel by channel: they lose the same channels."""
        self._together.append(list(convs))

    def whole(self, conv: str) -> None:
        """Never cut the output channels of this convolution."""
        self._whole.append(conv)

    def _known(self, stream: str) -> _Stream:
        if stream not in self._streams:
            raise UserError(f"stream {stream!r} is used before it is declared; declared: {_words(self._streams)}")
        return self._streams[stream]

    def layout(self, convs: Mapping[str, TracedConv]) -> ChannelLayout:
        """Groups and convolutions of a network with these convolutions, by name in the order of their first call.

        Raises UserError for a convolution that is unknown, or that stands in two groups, and where what a convolution
        reads does not add up to its inputs.
        """
        self._check(convs)
        return _Composer(self, convs).layout()

    def writers(self) -> dict[str, str]:
        """By convolution the group that it was declared for. Raises UserError for one that stands in two."""
        found: dict[str, str] = {}
        for name, stream in self._streams.items():
            _claim(found, stream.starts, f"stream {name!r}")
            _claim(found, stream.adds, f"stream {name!r}")
        for convs in self._together:
            _claim(found, convs, f"together({', '.join(map(repr, convs))})")
        _claim(found, self._whole, "whole")
        return found

    def _check(self, convs: Mapping[str, TracedConv]) -> None:
        writers = self.writers()
        inputs = (name for slots in self._reads.values() for name in slots if isinstance(name, str))
        named = {*writers, *self._reads, *self._blocks, *(name for name in inputs if name not in self._streams)}
        for name in sorted(named - set(convs)):
            raise UserError(f"{name!r} is no convolution that a run of the network called; it called {_words(convs)}")
        for name, group in writers.items():
            if not convs[name].gated and group != "whole":
                raise UserError(
                    f"{name!r} cannot lose channels: only square, same-padded convolutions can that are not grouped, or"
                    f" depthwise; it stands in {group}"
                )
        for traced in convs.values():
            if traced.groups > 1:
                self._check_grouped(traced, writers)
        for conv, slots in self._reads.items():
            if conv in self._blocks:
                raise UserError(f"{conv!r} is the first convolution of a block, which says what it reads; drop reads()")
            sizes = [self._size(slot, convs) for slot in slots]
            if sum(sizes) != convs[conv].inputs:
                shown = " + ".join(map(str, sizes))
                raise UserError(
                    f"reads({conv!r}, {', '.join(map(repr, slots))}) names {shown} = {sum(sizes)} channels, but"
                    f" {conv!r} has {convs[conv].inputs} inputs"
                )
        for name, stream in self._streams.items():
            widths = {conv: convs[conv].units for conv in (*stream.starts, *stream.adds)}
            if len(set(widths.values())) != 1:
                raise UserError(f"stream {name!r} is written by convolutions of other widths: {widths}")

    def _check_grouped(self, conv: TracedConv, writers: Mapping[str, str]) -> None:
        reads = self._reads.get(conv.name, ())
        named = [item for item in reads if isinstance(item, str)]
        if not conv.depthwise:
            cut = [item for item in named if item not in self._whole]
            if cut:
                raise UserError(
                    f"{conv.name!r} is a convolution in {conv.groups} groups, which is never cut, nor is what it reads;"
                    f" drop reads() for it and declare whole({cut[0]!r})"
                )
            return
        if len(reads) > 1:
            raise UserError(f"{conv.name!r} is depthwise and must read one thing; reads() names {len(reads)} for it")
        source = next(iter(named), conv.producer)
        whole_of_declared = conv.name in self._whole and (source in writers or source in self._streams)
        if whole_of_declared and source not in self._whole:
            raise UserError(
                f"{conv.name!r} is depthwise, and {source!r}, which it reads, may be cut; drop whole() for it"
            )
        if conv.name in self._blocks or (conv.name in writers and conv.name not in self._whole):
            group = writers.get(conv.name, "a block")
            instead = f"name {source!r}, which it reads, instead" if source else "name what it reads instead"
            raise UserError(f"{conv.name!r} is depthwise and has no channels of its own; in {group} {instead}")

    def _size(self, slot: int | str, convs: Mapping[str, TracedConv]) -> int:
        if isinstance(slot, int):
            return slot
        return convs[self._streams[slot].starts[0] if slot in self._streams else slot].units


class _Composer:
    """Puts a declaration and a trace together."""

    def __init__(self, said: Declaration, convs: Mapping[str, TracedConv]) -> None:
        self._said, self._convs = said, convs
        self._spec = Specification(said.rule)
        self._mentioned = {name for slots in said._reads.values() for name in slots if isinstance(name, str)}
        self._slots: dict[str, Slot] = {}
        self._read: dict[str, Slot] = {}
        self._added: dict[str, Slot] = {}

    def layout(self) -> ChannelLayout:
        for name, stream in self._said._streams.items():
            size = self._convs[stream.starts[0]].units
            slot = self._spec.stream(name, size, part="trunk", writers=stream.starts)
            self._slots |= dict.fromkeys((name, *stream.starts), slot)
        for conv in self._convs.values():  # first what each writes: a recurrence reads what is written later
            if not conv.depthwise:
                self._write(conv)
        for conv in self._convs.values():
            if conv.depthwise:
                (self._slots[conv.name],) = self._inputs(conv)
        for conv in self._convs.values():
            if conv.depthwise:
                slot = self._slots[conv.name]
                self._spec.depthwise(conv.name, conv.kernel, slot, scale=conv.scale, times=conv.times)
                continue
            self._spec.conv(
                conv.name,
                conv.kernel,
                self._inputs(conv),
                self._output(conv),
                scale=conv.scale,
                filters_per_unit=conv.filters_per_unit,
                times=conv.times,
                groups=conv.groups,
            )
        return self._spec.layout()

    def _write(self, conv: TracedConv) -> None:
        said, part, block = self._said, _part(conv), self._said._block_of.get(conv.name, "")
        if conv.name in said._blocks:
            self._read[conv.name] = self._spec.read(conv.name, said._blocks[conv.name], part="trunk", block=block)
        if conv.name in self._slots or conv.name in said._whole:
            return
        stream = next((name for name, stream in said._streams.items() if conv.name in stream.adds), None)
        if stream is not None:
            self._added[conv.name] = self._spec.add(conv.name, stream, part="trunk", block=block)
            self._slots[conv.name] = self._slots[stream]
            return
        together = next((convs for convs in said._together if conv.name in convs), [])
        if together:
            slot = self._spec.group(together, conv.units, part=part, kind="together")
            self._slots |= dict.fromkeys(together, slot)
        elif conv.gated and self._may_be_cut(conv):
            kind = "shuffle" if conv.filters_per_unit > 1 else "filters"
            self._slots[conv.name] = self._spec.group([conv.name], conv.units, part=part, kind=kind, block=block)

    def _may_be_cut(self, conv: TracedConv) -> bool:
        """Whether its channels, and those of depthwise convolutions that they go through, are read by known ones."""
        # Channels that go into something unknown are cut only where the author says who reads them.
        known = not conv.opaque or conv.name in self._mentioned
        followers = [other for other in self._convs.values() if other.depthwise and self._source(other) == conv.name]
        return known and conv.name not in self._said._whole and all(map(self._may_be_cut, followers))

    def _source(self, conv: TracedConv) -> int | str:
        """What a depthwise convolution reads."""
        return self._said._reads.get(conv.name, (conv.producer,))[0]

    def _output(self, conv: TracedConv) -> Slot:
        return self._added.get(conv.name) or self._slots.get(conv.name) or Slot(conv.units)

    def _inputs(self, conv: TracedConv) -> list[Slot]:
        if conv.name in self._read:
            return [self._read[conv.name]]
        declared = self._said._reads.get(conv.name)
        if declared is None:
            declared = (conv.producer,) if conv.producer in self._slots else (conv.inputs,)
        return [self._slot(item) for item in declared]

    def _slot(self, item: int | str) -> Slot:
        if isinstance(item, int):
            return Slot(item)
        return self._slots.get(item) or Slot(self._convs[item].units)


def _part(conv: TracedConv) -> str:
    """Where its group stands: what enlarges, or works enlarged, belongs to the upsampler."""
    return "upsampler" if conv.scale > 1 or conv.filters_per_unit > 1 else "trunk"


def _claim(found: dict[str, str], convs: Iterable[str], group: str) -> None:
    for conv in convs:
        if conv in found:
            raise UserError(
                f"the channels of {conv!r} stand in two groups: {found[conv]} and {group}; it must stand in one"
            )
        found[conv] = group


def _words(names: Collection[str]) -> str:
    return ", ".join(names) or "none"
