"""Residual blocks in the forms among which the fastest is chosen by timing; the same function, in place.

Each block reads and writes the stream in one of several forms (`READS`, `WRITES`). There are no gates here, and no
gradients: training and pruning never use this file.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from vsrprune.channels.operations import grid
from vsrprune.networks.fast.fused import KERNELS, PLAIN, available, placed, time_unless_it_fails, to_time
from vsrprune.networks.fast.graphs import recorder_of, time_unlaunched
from vsrprune.networks.parts.layers import ResidualBlock

READS = ("gather", "whole")
WRITES = ("scatter", "whole")
COUNTS = ("kept", "eights")
EIGHT = 8  # Tensor cores work on so many channels of sixteen bits at once; other counts are copied to multiples first

Timer = Callable[[Callable[[], object]], float]  # milliseconds of a call
Chain = tuple[Sequence[ResidualBlock], Sequence[int]]  # residual blocks in a row, and their stream's active channels


@dataclass(frozen=True)
class BlockShape:
    """What decides a block's time: channels of the active stream, and how many of them it reads, holds and writes."""

    active: int
    read: int
    middle: int
    written: int


@dataclass(frozen=True)
class Form:
    """How a block reads the stream, computes, and adds to it.

    read: `gather` copies the channels it needs; `whole` convolves all of them, with zeros in the weight for the others.
    write: `scatter` adds to the channels it changes; `whole` computes all of them, zeros for the others, and adds.
    kernels: a name in `fused.KERNELS`. counts: `kept` as they are; `eights` with channels of zeros up to the next
    multiple of eight, and a middle channel that is 1 everywhere: its weight is the second convolution's bias.
    """

    read: str = "gather"
    write: str = "scatter"
    kernels: str = PLAIN
    counts: str = "kept"


Forms = Callable[[BlockShape], Form]  # which form a block of a shape takes


class FrozenBlock(nn.Module):
    """x += scale * conv2(relu(conv1(x))) in one form, in place."""

    weight1: Tensor
    bias1: Tensor
    weight2: Tensor
    bias2: Tensor | None
    read: Tensor | None
    written: Tensor | None
    place: Tensor | None

    def __init__(self, block: ResidualBlock, position: dict[int, int], form: Form) -> None:
        super().__init__()
        self._form, active = form, len(position)
        whole = list(range(active))
        convs = _Convs.of(block)
        read, written = _positions(block.read, position), _positions(block.written, position)
        reads = _computed(read, active, form.read == "whole", form.counts)
        writes = _computed(written, active, form.write == "whole", form.counts)
        convs = convs.reading(read, reads).writing(written, writes)
        if form.counts == "eights":
            convs = convs.carrying_bias()
        kernels = KERNELS[form.kernels]
        weight1, bias1 = kernels.prepared(convs.weight1, convs.bias1)
        weight2, bias2 = convs.weight2, convs.bias2
        if writes != whole and bias2 is not None:  # `conv_add_` takes them as they are
            weight2, bias2 = kernels.prepared(weight2, bias2)
        self.register_buffer("weight1", weight1.contiguous())
        self.register_buffer("bias1", bias1)
        self.register_buffer("weight2", weight2.contiguous())
        self.register_buffer("bias2", bias2)
        device = convs.weight1.device
        self.register_buffer("read", None if reads == whole else torch.tensor(reads, device=device))
        self.register_buffer("written", None if writes == whole else torch.tensor(writes, device=device))
        self.register_buffer("place", None if writes == whole else placed(writes, active).to(device))

    def forward(self, stream_NCHW: Tensor) -> Tensor:
        """Change the active channels of a stream (N, C, H, W), in place; returns them."""
        kernels = KERNELS[self._form.kernels]
        read_NCHW = stream_NCHW if self.read is None else kernels.gather(stream_NCHW, self.read)
        middle_NCHW = kernels.conv_relu(read_NCHW, self.weight1, self.bias1)
        if self.written is None or self.place is None:
            return kernels.conv_add_(stream_NCHW, middle_NCHW, self.weight2, self.bias2)
        update_NCHW = kernels.conv(middle_NCHW, self.weight2, self.bias2)
        return kernels.scatter_(stream_NCHW, update_NCHW, self.bias2, self.written, self.place)


@dataclass(frozen=True)
class _Convs:
    """The weights of a block; `bias2` None: there is none to add."""

    weight1: Tensor
    bias1: Tensor
    weight2: Tensor
    bias2: Tensor | None

    @classmethod
    def of(cls, block: ResidualBlock) -> _Convs:
        bias1, bias2 = cast(Tensor, block.conv1.bias).detach(), cast(Tensor, block.conv2.bias).detach()
        # The scale is folded into the weights once, instead of a multiplication per pixel.
        return cls(block.conv1.weight.detach(), bias1, block.conv2.weight.detach() * block.scale, bias2 * block.scale)

    def reading(self, some: list[int], of: list[int]) -> _Convs:
        """The first convolution reads channels `of`, those but `some` with zeros."""
        return replace(self, weight1=_spread(self.weight1, [of.index(channel) for channel in some], len(of), dim=1))

    def writing(self, some: list[int], of: list[int]) -> _Convs:
        """The second convolution writes channels `of`, zeros to those but `some`."""
        assert self.bias2 is not None
        places = [of.index(channel) for channel in some]
        weight2, bias2 = (_spread(values, places, len(of), dim=0) for values in (self.weight2, self.bias2))
        return replace(self, weight2=weight2, bias2=bias2)

    def carrying_bias(self) -> _Convs:
        """More middle channels, up to the next multiple of eight: the first of them is 1, the others are 0."""
        assert self.bias2 is not None
        middle = len(self.bias1)
        size = (middle // EIGHT + 1) * EIGHT
        kept = list(range(middle))
        weight2, center = _spread(self.weight2, kept, size, dim=1), self.weight2.shape[-1] // 2
        # relu(0 * x + 1) is 1, and the centre of the kernel never lies in the padding of zeros.
        weight2[:, middle, center, center] = self.bias2
        bias1 = _spread(self.bias1, kept, size, dim=0)
        bias1[middle] = 1
        return _Convs(_spread(self.weight1, kept, size, dim=0), bias1, weight2, None)


def _computed(channels: list[int], active: int, whole: bool, counts: str) -> list[int]:
    """The channels of the stream that a convolution reads or writes, where `channels` are those that it has to."""
    if whole:
        return list(range(active))
    missing = -len(channels) % EIGHT if counts == "eights" else 0
    others = [channel for channel in range(active) if channel not in set(channels)]
    return sorted([*channels, *others[:missing]])


def _positions(channels: Tensor | None, position: dict[int, int]) -> list[int]:
    """Where channels of the stream stand among the active ones; None is all of the stream."""
    return sorted(position.values()) if channels is None else [position[channel] for channel in channels.tolist()]


def _spread(values: Tensor, places: Sequence[int], size: int, dim: int) -> Tensor:
    """`values` along `dim` at `places` of a tensor of `size`, zeros elsewhere."""
    shape = list(values.shape)
    if list(places) == list(range(size)):
        return values
    shape[dim] = size
    return values.new_zeros(shape).index_copy_(dim, torch.tensor(list(places), device=values.device), values)


def active_channels(blocks: Sequence[ResidualBlock], width: int) -> list[int]:
    """Channels of the stream that some block reads or writes, ascending, and others up to a count that is fast."""
    touched: set[int] = set()
    for block in blocks:
        for channels in (block.read, block.written):
            touched |= set(range(width)) if channels is None else set(channels.tolist())
    # Kernels work on blocks of channels, so a count between two of the grid often takes as long as the next one
    # (`grid_step`).
    count = min(count for count in grid(width) if count >= len(touched))
    others = [channel for channel in range(width) if channel not in touched]
    return sorted(touched | set(others[: count - len(touched)]))


def block_shape(block: ResidualBlock, active: int) -> BlockShape:
    """Shape of a block whose branch has so many active channels."""
    return BlockShape(active, block.conv1.in_channels, block.conv1.out_channels, block.conv2.out_channels)


@torch.inference_mode()
def fastest_forms(
    chains: Sequence[Chain],
    frame_NCHW: Tensor,
    memory_format: torch.memory_format,
    time: Timer,
) -> dict[BlockShape, Form]:
    """By shape the form in which a block is fastest on features of the frame's size and type; each is timed once.

    chains: runs of residual blocks, each with the channels of its stream that are active.
    """
    forms: dict[BlockShape, Form] = {}
    record = recorder_of(frame_NCHW.device)
    fused = available(frame_NCHW.device, frame_NCHW.dtype) if memory_format is torch.channels_last else ()
    for blocks, active in chains:
        position = {channel: place for place, channel in enumerate(active)}
        stream_NCHW = frame_NCHW.new_zeros(len(frame_NCHW), max(1, len(active)), *frame_NCHW.shape[-2:])
        stream_NCHW = stream_NCHW.to(memory_format=memory_format)
        for block in blocks:
            shape = block_shape(block, len(active))
            if shape not in forms:
                tried = {}
                for form in possible_forms(shape, fused):
                    frozen = FrozenBlock(block, position, form).to(frame_NCHW.dtype, memory_format=memory_format)  # type: ignore[call-overload]
                    measure = partial(time_unlaunched, partial(frozen, stream_NCHW), time, record)
                    tried[form] = time_unless_it_fails(form.kernels, measure)
                forms[shape] = min(tried, key=lambda form: tried[form])
    return forms


def possible_forms(shape: BlockShape, fused: Sequence[str]) -> list[Form]:
    """The forms that may win for a block of this shape; fused: names of kernels that may be used besides plain ones."""
    # A block that reads every channel has nothing to gather, and both forms are one.
    reads = READS if shape.read < shape.active else READS[1:]
    writes = WRITES if shape.written < shape.active else WRITES[1:]
    compiled = any(KERNELS[name].bare for name in fused)
    uneven = any(count % EIGHT for count in (shape.read, shape.middle, shape.written))
    ways = [(kernels, "kept") for kernels in to_time(fused)]
    # Compiled kernels add the bias at no cost, so that of even counts a channel for it would only be one more; and so
    # do those of a CPU, of any counts.
    if PLAIN in to_time(fused) and fused and (uneven or not compiled):
        ways.append((fused[-1], "eights"))
    forms = [Form(read, write, *way) for way, read, write in itertools.product(ways, reads, writes)]
    # Compiled kernels gather and scatter in fewer steps than PyTorch does; a form that is left out saves its timing.
    return [form for form in forms if not compiled or form.kernels != PLAIN or form.read == form.write == "whole"]
