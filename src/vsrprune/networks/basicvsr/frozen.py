"""A compact BasicVSR made ready for inference: the same function, in the form that runs fastest where it runs.

Three things are chosen, none of them changes the result beyond rounding:

- The channels of a branch's stream are permuted once, so that those which no block touches come last and stay out of
  the blocks altogether; warps, fusion and the first convolution see the same state in another order.
- Each residual block reads and writes the rest in one of several forms (`READS`, `WRITES`), in place.
- The memory format.

Training and pruning never use this file: it holds no gates and gives no gradients.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsrprune.channels.operations import grid
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.basicvsr.spec import RGB, trunk
from vsrprune.networks.fast.device_operations import gather, scatter_
from vsrprune.networks.network import Flows
from vsrprune.networks.parts.layers import ResidualBlock, enlarge, warp

READS = ("gather", "whole")
WRITES = ("scatter", "whole")

# By name the type in which a frozen network computes under autocast; flows and positions stay in 32 bits.
PRECISIONS = {"32": torch.float32, "bf16": torch.bfloat16, "16": torch.float16}

Timer = Callable[[Callable[[], object]], float]  # milliseconds of a call


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
    count = min(count for count in grid(width) if count >= len(touched))
    others = [channel for channel in range(width) if channel not in touched]
    return sorted(touched | set(others[: count - len(touched)]))


def block_shape(block: ResidualBlock, active: int) -> BlockShape:
    """Shape of a block whose branch has so many active channels."""
    return BlockShape(active, block.conv1.in_channels, block.conv1.out_channels, block.conv2.out_channels)


@torch.inference_mode()
def fastest_forms(
    chains: Sequence[tuple[Sequence[ResidualBlock], Sequence[int]]],
    frame_NCHW: Tensor,
    memory_format: torch.memory_format,
    time: Timer,
) -> dict[BlockShape, Form]:
    """By shape the form in which a block is fastest on features of a frame's size; each shape is timed once.

    chains: runs of residual blocks, each with the channels of its stream that are active.
    """
    forms: dict[BlockShape, Form] = {}
    for blocks, active in chains:
        position = {channel: place for place, channel in enumerate(active)}
        stream_NCHW = frame_NCHW.new_zeros(len(frame_NCHW), max(1, len(active)), *frame_NCHW.shape[-2:])
        stream_NCHW = stream_NCHW.to(_computed_dtype(frame_NCHW), memory_format=memory_format)
        for block in blocks:
            shape = block_shape(block, len(active))
            if shape not in forms:
                tried = {
                    form: time(partial(FrozenBlock(block, position, form).to(memory_format=memory_format), stream_NCHW))  # type: ignore[call-overload]
                    for form in _possible(shape)
                }
                forms[shape] = min(tried, key=lambda form: tried[form])
    return forms


def branch_chains(network: BasicVSR) -> list[tuple[list[ResidualBlock], list[int]]]:
    """The residual blocks of every branch, and the channels of its stream that are active."""
    chains = []
    for branch in network.arguments.branches:
        source = network.get_submodule(trunk(branch))
        blocks = cast(list[ResidualBlock], list(cast(nn.Sequential, source.blocks)))
        chains.append((blocks, active_channels(blocks, cast(int, source.width))))
    return chains


def _computed_dtype(x: Tensor) -> torch.dtype:
    """The type of what a convolution of `x` returns here, under autocast or not."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def _possible(shape: BlockShape) -> list[Form]:
    """The forms that differ for a block of this shape."""
    reads = READS if shape.read < shape.active else READS[1:]
    writes = WRITES if shape.written < shape.active else WRITES[1:]
    return [Form(read, write) for read, write in itertools.product(reads, writes)]


class Moment(NamedTuple):
    """Where a branch stands: a frame (N, 3, H, W), and the branch's hidden state (N, C, H, W) there."""

    frame_NCHW: Tensor
    state_NCHW: Tensor


class FrozenBasicVSR(nn.Module):
    """What `freeze` makes of BasicVSR; maps frames (N, T, 3, H, W) to frames (N, T, 3, scale*H, scale*W)."""

    head_weight: Tensor
    head_bias: Tensor

    def __init__(self, network: BasicVSR, forms: Callable[[BlockShape], Form]) -> None:
        super().__init__()
        if network.plan is None:
            raise ValueError("only a compact network can be frozen: fold its gates by surgery first")
        network = copy.deepcopy(network).eval()
        self.arguments = network.arguments
        self.flow_net = network.flow_net
        orders = {}
        for branch in network.arguments.branches:
            source = network.get_submodule(trunk(branch))
            frozen = _Trunk(source, forms)
            orders[branch] = frozen.order
            self.add_module(trunk(branch), frozen)
        self._upsampler = network
        # The convolutions up to conv_last, and the factors by which pixel shuffles follow them; 1 for none.
        upconvs = [(f"upconv{index}", factor) for index, factor in enumerate(self.arguments.upscale_factors, start=1)]
        self._convs = [*[("fusion", 1)] * self.arguments.bidirectional, *upconvs, ("conv_hr", 1)]
        # The first reads the states: its inputs in the order of the permuted ones.
        head = cast(nn.Conv2d, network.get_submodule(self._convs[0][0]))
        assert head.bias is not None
        self.register_buffer("head_weight", head.weight.detach()[:, _joined(list(orders.values()))].contiguous())
        self.register_buffer("head_bias", head.bias.detach())

    def flows(self, frames_NTCHW: Tensor) -> Flows:
        """As the network's."""
        flows: Flows = self._upsampler.flows(frames_NTCHW)
        return flows

    @torch.inference_mode()
    def forward(self, frames_NTCHW: Tensor, flows: Flows | None = None) -> Tensor:
        """Super-resolve clips; see BasicVSR.forward."""
        return self.compute(frames_NTCHW, flows)

    def compute(self, frames_NTCHW: Tensor, flows: Flows | None = None) -> Tensor:
        """What `forward` does, in the caller's gradient mode."""
        if flows is None:
            flows = self.flows(frames_NTCHW)
        states = [
            self.get_submodule(trunk(branch))(frames_NTCHW, flows[branch], branch == "backward")
            for branch in self.arguments.branches
        ]
        frames = [
            self.upsample([state[t] for state in states], frames_NTCHW[:, t]) for t in range(frames_NTCHW.shape[1])
        ]
        return torch.stack(frames, dim=1)

    @torch.inference_mode()
    def advance(self, branch: str, frame_NCHW: Tensor, before: Moment | None) -> Moment:
        """A branch at the next frame on its way; `before` is where it stood one frame earlier, None at its start.

        Frame by frame, `advance` and `upsample` are `forward` for sequences of any length.
        """
        module = cast(_Trunk, self.get_submodule(trunk(branch)))
        if before is None:
            return Moment(frame_NCHW, module.step(frame_NCHW, module.start(frame_NCHW)))
        flow_N2HW = self.flow_net(frame_NCHW, before.frame_NCHW)
        return Moment(frame_NCHW, module.step(frame_NCHW, warp(before.state_NCHW, flow_N2HW)))

    @torch.inference_mode()
    def upsample(self, states: Sequence[Tensor], frame_NCHW: Tensor) -> Tensor:
        """Fuse the states of a frame, in the order of the arguments' branches, and enlarge."""
        x_NCHW = states[0] if len(states) == 1 else torch.cat(list(states), dim=1)
        for place, (name, factor) in enumerate(self._convs):
            if place == 0:
                x_NCHW = F.conv2d(x_NCHW, self.head_weight, self.head_bias, padding=self.head_weight.shape[-1] // 2)
            else:
                x_NCHW = self._upsampler.get_submodule(name)(x_NCHW)
            if factor > 1:
                x_NCHW = F.pixel_shuffle(x_NCHW, factor)
            x_NCHW = F.leaky_relu_(x_NCHW, self.arguments.slope)
        detail_NCHW: Tensor = self._upsampler.conv_last(x_NCHW)
        return detail_NCHW.add_(enlarge(frame_NCHW, self.arguments.scale))


class _Trunk(nn.Module):
    """A branch whose state is permuted: active channels first, in `order`."""

    weight: Tensor
    bias: Tensor

    def __init__(self, source: nn.Module, forms: Callable[[BlockShape], Form]) -> None:
        super().__init__()
        blocks = cast(list[ResidualBlock], list(cast(nn.Sequential, source.blocks)))
        self.width: int = source.width  # type: ignore[assignment]
        self.slope: float = source.slope  # type: ignore[assignment]
        active = active_channels(blocks, self.width)
        touched = set(active)
        self.active = len(active)
        self.order = active + [channel for channel in range(self.width) if channel not in touched]
        first = cast(nn.Conv2d, source.first)
        assert first.bias is not None
        inputs = [*range(RGB), *(RGB + channel for channel in self.order)]
        self.register_buffer("weight", first.weight.detach()[self.order][:, inputs].contiguous())
        self.register_buffer("bias", first.bias.detach()[self.order])
        position = {channel: place for place, channel in enumerate(active)}
        self.blocks = nn.Sequential(
            *(FrozenBlock(block, position, forms(block_shape(block, self.active))) for block in blocks)
        )

    def forward(self, frames_NTCHW: Tensor, flows_NT2HW: Tensor, reverse: bool) -> list[Tensor]:
        length = frames_NTCHW.shape[1]
        order = range(length - 1, -1, -1) if reverse else range(length)
        states: list[Tensor] = []
        state_NCHW = self.start(frames_NTCHW[:, 0])
        for step, t in enumerate(order):
            if step > 0:
                state_NCHW = warp(state_NCHW, flows_NT2HW[:, t if reverse else t - 1])
            state_NCHW = self.step(frames_NTCHW[:, t], state_NCHW)
            states.append(state_NCHW)
        return states[::-1] if reverse else states

    def start(self, frame_NCHW: Tensor) -> Tensor:
        """The state before the first frame."""
        return frame_NCHW.new_zeros(len(frame_NCHW), self.width, *frame_NCHW.shape[-2:])

    def step(self, frame_NCHW: Tensor, warped_NCHW: Tensor) -> Tensor:
        """One frame's refinement; `warped_NCHW` is the state of the frame before, warped."""
        joined_NCHW = torch.cat((frame_NCHW, warped_NCHW), dim=1)
        state_NCHW = F.leaky_relu_(F.conv2d(joined_NCHW, self.weight, self.bias, padding=1), self.slope)
        if self.active == self.width:
            refined: Tensor = self.blocks(state_NCHW)
            return refined
        state_NCHW[:, : self.active] = self.blocks(
            state_NCHW[:, : self.active].clone(memory_format=torch.preserve_format)
        )
        return state_NCHW


def _joined(orders: Sequence[Sequence[int]]) -> list[int]:
    """Orders of concatenated slots as one order of their channels."""
    indices: list[int] = []
    offset = 0
    for order in orders:
        indices += [offset + channel for channel in order]
        offset += len(order)
    return indices
