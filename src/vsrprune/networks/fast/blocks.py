"""Residual blocks in the forms among which the fastest is chosen by timing; the same function, in place.

Each block reads and writes the stream in one of several forms (`READS`, `WRITES`). There are no gates here, and no
gradients: training and pruning never use this file.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsrprune.channels.operations import grid
from vsrprune.networks.fast.device_operations import gather, scatter_
from vsrprune.networks.fast.graphs import recorder_of, time_unlaunched
from vsrprune.networks.parts.layers import ResidualBlock

READS = ("gather", "whole")
WRITES = ("scatter", "whole")

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
    """How a block reads the stream and adds to it.

    read: `gather` copies the channels it needs; `whole` convolves all of them, with zeros in the weight for the others.
    write: `scatter` adds to the channels it changes; `whole` computes all of them, zeros for the others, and adds.
    """

    read: str = "gather"
    write: str = "scatter"


Forms = Callable[[BlockShape], Form]  # which form a block of a shape takes


class FrozenBlock(nn.Module):
    """x += scale * conv2(relu(conv1(x))) in one form, in place."""

    weight1: Tensor
    bias1: Tensor
    weight2: Tensor
    bias2: Tensor
    read: Tensor | None
    written: Tensor | None

    def __init__(self, block: ResidualBlock, position: dict[int, int], form: Form) -> None:
        super().__init__()
        active = len(position)
        read = _positions(block.read, position)
        written = _positions(block.written, position)
        conv1, conv2 = block.conv1, block.conv2
        weight1, weight2, bias2 = conv1.weight.detach(), conv2.weight.detach(), conv2.bias.detach()  # type: ignore[union-attr]
        # Folded into the weights once, instead of a multiplication per pixel.
        weight2, bias2 = weight2 * block.scale, bias2 * block.scale
        if form.read == "whole" or read == list(range(active)):
            weight1 = _spread(weight1, read, active, dim=1)
            read = list(range(active))
        if form.write == "whole" or written == list(range(active)):
            weight2, bias2 = _spread(weight2, written, active, dim=0), _spread(bias2, written, active, dim=0)
            written = list(range(active))
        self.register_buffer("weight1", weight1.contiguous())
        self.register_buffer("bias1", conv1.bias.detach())  # type: ignore[union-attr]
        self.register_buffer("weight2", weight2.contiguous())
        self.register_buffer("bias2", bias2)
        all_of_them = list(range(active))
        self.register_buffer("read", None if read == all_of_them else torch.tensor(read, device=weight1.device))
        self.register_buffer(
            "written", None if written == all_of_them else torch.tensor(written, device=weight1.device)
        )

    def forward(self, stream_NCHW: Tensor) -> Tensor:
        """Change the active channels of a stream (N, C, H, W), in place; returns them."""
        read_NCHW = stream_NCHW if self.read is None else gather(stream_NCHW, self.read)
        middle_NCHW = F.relu_(F.conv2d(read_NCHW, self.weight1, self.bias1, padding=1))
        update_NCHW = F.conv2d(middle_NCHW, self.weight2, self.bias2, padding=1)
        if self.written is None:
            return stream_NCHW.add_(update_NCHW)
        return scatter_(stream_NCHW, self.written, update_NCHW)


def _positions(channels: Tensor | None, position: dict[int, int]) -> list[int]:
    """Where channels of the stream stand among the active ones; None is all of the stream."""
    return sorted(position.values()) if channels is None else [position[channel] for channel in channels.tolist()]


def _spread(values: Tensor, places: Sequence[int], size: int, dim: int) -> Tensor:
    """`values` along `dim` at `places` of a tensor of `size`, zeros elsewhere."""
    shape = list(values.shape)
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
    for blocks, active in chains:
        position = {channel: place for place, channel in enumerate(active)}
        stream_NCHW = frame_NCHW.new_zeros(len(frame_NCHW), max(1, len(active)), *frame_NCHW.shape[-2:])
        stream_NCHW = stream_NCHW.to(memory_format=memory_format)
        for block in blocks:
            shape = block_shape(block, len(active))
            if shape not in forms:
                tried = {}
                for form in _possible(shape):
                    frozen = FrozenBlock(block, position, form).to(frame_NCHW.dtype, memory_format=memory_format)  # type: ignore[call-overload]
                    tried[form] = time_unlaunched(partial(frozen, stream_NCHW), time, record)
                forms[shape] = min(tried, key=lambda form: tried[form])
    return forms


def _possible(shape: BlockShape) -> list[Form]:
    """The forms that differ for a block of this shape."""
    # A block that reads every channel has nothing to gather, and both forms are one.
    reads = READS if shape.read < shape.active else READS[1:]
    writes = WRITES if shape.written < shape.active else WRITES[1:]
    return [Form(read, write) for read, write in itertools.product(reads, writes)]
