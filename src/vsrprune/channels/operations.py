"""The time that a plan costs: the operations that its convolutions need, and a table of their measured times.

A residual block that reads or writes only some channels of its stream can be run in several ways; `forms` lists them,
and the time of a convolution is that of the fastest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from vsrprune.channels.layout import ConvLayer

STEPS = 8  # counts that are tried for a layer: so many, evenly spaced

KINDS = ("conv", "shuffle", "activation", "gather", "scatter", "add")


def grid_step(size: int) -> int:
    """The distance between two kept counts that are tried for `size` channels: a power of two, 8 for 64."""
    # A power of two, since kernels of CPUs and GPUs work on blocks of 8, 16 or 32 channels: a count between two blocks
    # often takes as long as the next one.
    return 1 << max(0, (size // STEPS).bit_length() - 1)


def grid(size: int, at_least: int = 1) -> list[int]:
    """Kept counts that are tried for `size` channels, falling from `size`."""
    step = grid_step(size)
    return [size, *(count for count in range((size - 1) // step * step, 0, -step) if count >= at_least)]


@dataclass(frozen=True)
class Operation:
    """One timed step on a low-resolution frame.

    kind: `conv` from `reads` to `writes` channels; `shuffle`, a pixel shuffle of `reads` channels to `writes`;
    `activation` of `writes` channels; `gather` of `writes` channels out of `reads`; `scatter`, the addition of `reads`
    channels to some of `writes`; `add` of all `writes` channels. groups: those of a convolution.
    """

    kind: str
    reads: int
    writes: int
    kernel: int = 1
    groups: int = 1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {self.kind!r}")

    @property
    def work(self) -> int:
        """Multiply-accumulates of a convolution per pixel."""
        return self.kernel**2 * self.reads * self.writes // self.groups


@dataclass(frozen=True)
class Widths:
    """Channels that a convolution reads and writes, and those of the residual streams at its ends (0: no stream)."""

    reads: int
    writes: int
    stream_in: int = 0
    stream_out: int = 0

    def fit(self) -> bool:
        """Whether no more channels are read or written than the streams have."""
        return not (0 < self.stream_in < self.reads or 0 < self.stream_out < self.writes)


def forms(conv: ConvLayer, widths: Widths) -> list[tuple[Operation, ...]]:
    """The ways to run a convolution with these widths.

    Reading some channels of a stream: gather them, or convolve all with zeros in the weight. Adding to some: scatter,
    or compute all, zeros for the others, and add.
    """
    ways_in: list[tuple[int, tuple[Operation, ...]]] = [(widths.reads, ())]
    if widths.reads < widths.stream_in:
        ways_in = [
            (widths.reads, (Operation("gather", widths.stream_in, widths.reads),)),
            (widths.stream_in, ()),
        ]
    filters = widths.writes * conv.filters_per_unit
    # What follows a convolution differs: an addition to its stream, a pixel shuffle, or an activation.
    if widths.stream_out:
        ways_out = [(widths.stream_out, (Operation("add", widths.stream_out, widths.stream_out),))]
        if widths.writes < widths.stream_out:
            ways_out.append((filters, (Operation("scatter", filters, widths.stream_out),)))
    elif conv.filters_per_unit > 1:
        ways_out = [(filters, (Operation("shuffle", filters, widths.writes),))]
    else:
        ways_out = [(filters, (Operation("activation", filters, filters),))]
    # A depthwise convolution has no stream at its ends, so that it reads as many channels as its plan keeps.
    groups = widths.reads if conv.depthwise else conv.groups
    return [
        (*before, Operation("conv", reads, writes, conv.kernel, groups), *after)
        for reads, before in ways_in
        for writes, after in ways_out
    ]


class TimeTable:
    """Milliseconds of operations on a low-resolution frame, measured on one device in one memory format."""

    def __init__(self, milliseconds: Mapping[Operation, float]) -> None:
        self._milliseconds = dict(milliseconds)
        self._fastest: dict[tuple[int, float, int, int, Widths], float] = {}

    def conv_ms(self, conv: ConvLayer, widths: Widths) -> float:
        """Milliseconds of a convolution in its fastest form; raises KeyError for an operation that was not timed."""
        shape = (conv.kernel, conv.pixels, conv.filters_per_unit, conv.groups, widths)
        # A search prices the same few shapes thousands of times.
        if shape not in self._fastest:
            times = (sum(self._milliseconds[operation] for operation in form) for form in forms(conv, widths))
            self._fastest[shape] = min(times) * conv.pixels  # time grows as the number of pixels
        return self._fastest[shape]

    def falls(self, share: float) -> bool:
        """Whether the convolution with the least work takes at most `share` of the median time of convolutions.

        Only those with the kernel of the one with the most work count. Where calls take longer than arithmetic, times
        hardly fall.
        """
        work = {item: item.work for item in self._milliseconds if item.kind == "conv" and item.groups == 1}
        most = max(work, key=lambda item: work[item])
        alike = sorted((item for item in work if item.kernel == most.kernel), key=lambda item: work[item])
        return self._milliseconds[alike[0]] <= share * median(self._milliseconds[item] for item in alike)

    def to_json(self) -> list[dict[str, Any]]:
        """Plain values for a JSON file; `from_json` reads them back."""
        return [{**asdict(operation), "ms": ms} for operation, ms in self._milliseconds.items()]

    @classmethod
    def from_json(cls, rows: Iterable[Mapping[str, Any]]) -> TimeTable:
        """The table that `to_json` wrote."""
        return cls({Operation(**{key: value for key, value in row.items() if key != "ms"}): row["ms"] for row in rows})
