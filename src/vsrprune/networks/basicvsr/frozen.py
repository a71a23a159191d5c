"""A compact BasicVSR made ready for inference: the same function, in the form that runs fastest where it runs.

These things are chosen, none of them changes the result beyond rounding:

- The channels of a branch's stream are permuted once, so that those which no block touches come last and stay out of
  the blocks altogether; warps, fusion and the first convolution see the same state in another order.
- Each residual block reads and writes the rest in one of several forms (`READS`, `WRITES`), in place.
- The memory format, and the kernels of the convolutions outside of the blocks.

Training and pruning never use this file: it holds no gates and gives no gradients.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from vsrprune.networks.basicvsr.cells.table import Recurrence
from vsrprune.networks.basicvsr.network import BasicVSR, in_frame_order, propagation
from vsrprune.networks.basicvsr.spec import RGB, trunk
from vsrprune.networks.fast.blocks import Chain, Forms, FrozenBlock, active_channels, block_shape
from vsrprune.networks.fast.frozen import Carried, Moment, prepare, ready_for, upsampled_by
from vsrprune.networks.fast.fused import KERNELS, PLAIN
from vsrprune.networks.fast.graphs import Caller, direct
from vsrprune.networks.fast.kernels import Kernels, convolved, is_channels_last
from vsrprune.networks.fast.warping import warped
from vsrprune.networks.network import Flows
from vsrprune.networks.parts.layers import ResidualBlock, enlarge


class FrozenBasicVSR(nn.Module):
    """What `freeze` makes of BasicVSR; maps frames (N, T, 3, H, W) to frames (N, T, 3, scale*H, scale*W).

    kernels: what runs the convolutions outside of the blocks, a name in `fused.KERNELS`. call: runs what is done for
    every frame: the flow net, the step of a branch, and `upsample`.
    """

    call: Caller

    def __init__(self, network: BasicVSR, forms: Forms, kernels: str = PLAIN) -> None:
        super().__init__()
        if network.plan is None:
            raise ValueError("only a compact network can be frozen: fold its gates by surgery first")
        # A copy, because its modules are put into another memory format while the network goes on to be used.
        network = copy.deepcopy(network).eval()
        self.arguments, self.call, self._kernels = network.arguments, direct, KERNELS[kernels]
        self.flow_net = network.flow_net
        orders = {}
        for branch in network.arguments.branches:
            source = network.get_submodule(trunk(branch))
            frozen = _Trunk(cast(Recurrence, source), forms, self._kernels)
            orders[branch] = frozen.order
            self.add_module(trunk(branch), frozen)
        self._upsampler = network
        fusion = [network.fusion] if self.arguments.bidirectional else []
        steps = [cast(nn.Conv2d, network.get_submodule(step.name)) for step in network.steps]
        _read_in_order([*fusion, *steps], _joined(list(orders.values())))
        if fusion:
            prepare(network.fusion, self._kernels)
        ready_for(network, self._kernels)

    def flows(self, frames_NTCHW: Tensor) -> Flows:
        """As the network's."""
        length = frames_NTCHW.shape[1]
        if self.call is direct or length == 1:
            flows: Flows = self._upsampler.flows(frames_NTCHW)
            return flows
        # Pair by pair, so that what was recorded or compiled serves clips of every length.
        pairs = {
            branch: [(t, t + 1) if branch == "backward" else (t + 1, t) for t in range(length - 1)]
            for branch in self.arguments.branches
        }
        return {
            branch: torch.stack([self._flow(frames_NTCHW[:, at], frames_NTCHW[:, to]) for at, to in rows], dim=1)
            for branch, rows in pairs.items()
        }

    def _flow(self, frame_NCHW: Tensor, neighbour_NCHW: Tensor) -> Tensor:
        flow_N2HW: Tensor = self.call(self.flow_net, frame_NCHW, neighbour_NCHW)
        return flow_N2HW

    @torch.inference_mode()
    def forward(self, frames_NTCHW: Tensor, flows: Flows | None = None) -> Tensor:
        """Super-resolve clips; see BasicVSR.forward."""
        return self.compute(frames_NTCHW, flows)

    def compute(self, frames_NTCHW: Tensor, flows: Flows | None = None) -> Tensor:
        """What `forward` does, in the caller's gradient mode."""
        if flows is None:
            flows = self.flows(frames_NTCHW)
        states = [self.states(branch, frames_NTCHW, flows[branch]) for branch in self.arguments.branches]
        frames = [
            self.call(self._upsample, [state[t] for state in states], frames_NTCHW[:, t])
            for t in range(frames_NTCHW.shape[1])
        ]
        return torch.stack(frames, dim=1)

    def states(self, branch: str, frames_NTCHW: Tensor, flows_NT2HW: Tensor) -> list[Tensor]:
        """What a branch hands on at every frame, in frame order, the states' channels in the branch's own order."""
        module = self._trunk(branch)
        step, start_NCHW = partial(self.call, module.step), module.start(frames_NTCHW[:, 0])
        reverse = branch == "backward"
        return in_frame_order(propagation(step, start_NCHW, frames_NTCHW, flows_NT2HW, reverse), reverse)

    def _trunk(self, branch: str) -> _Trunk:
        return cast(_Trunk, self.get_submodule(trunk(branch)))

    @staticmethod
    def chains(network: BasicVSR) -> list[Chain]:
        """The residual blocks of every branch, and the channels of its stream that are active."""
        trunks = [network.get_submodule(trunk(branch)) for branch in network.arguments.branches]
        runs = [cast(list[ResidualBlock], list(cast(nn.Sequential, source.blocks))) for source in trunks]
        return [
            (blocks, active_channels(blocks, cast(int, source.width)))
            for blocks, source in zip(runs, trunks, strict=True)
        ]

    @torch.inference_mode()
    def advance(self, branch: str, frame_NCHW: Tensor, before: Carried) -> Moment:
        """A branch at the next frame on its way; `before` is where it stood one frame earlier, None at its start.

        Frame by frame, `advance` and `upsample` are `forward` for sequences of any length.
        """
        module = self._trunk(branch)
        if before is None:
            return Moment(frame_NCHW, self.call(module.step, frame_NCHW, module.start(frame_NCHW), None))
        flow_N2HW = self._flow(frame_NCHW, before.frame_NCHW)
        return Moment(frame_NCHW, self.call(module.step, frame_NCHW, before.state_NCHW, flow_N2HW))

    @torch.inference_mode()
    def upsample(self, states: Sequence[Tensor], frame_NCHW: Tensor) -> Tensor:
        """Fuse what the branches hand on at a frame, in the order of the arguments, and enlarge."""
        high_NCHW: Tensor = self.call(self._upsample, states, frame_NCHW)
        return high_NCHW

    def _upsample(self, states: Sequence[Tensor], frame_NCHW: Tensor) -> Tensor:
        pairs = zip(self.arguments.branches, states, strict=True)
        # A memory that holds flows is more precise than the states in it.
        hidden = [self._trunk(branch).hidden(state).to(self._trunk(branch).weight.dtype) for branch, state in pairs]
        x_NCHW = hidden[0] if len(hidden) == 1 else torch.cat(hidden, dim=1)
        network = self._upsampler
        if self.arguments.bidirectional:
            fusion = network.fusion
            x_NCHW = self._kernels.conv_leaky(x_NCHW, fusion.weight, cast(Tensor, fusion.bias), self.arguments.slope)
        detail_NCHW = network.detail(upsampled_by(network, self._kernels, x_NCHW))
        if self.arguments.scale == 1:
            return detail_NCHW + frame_NCHW
        # Added to the frame, which is never in sixteen bits: in those, bright pixels would be half a level off.
        return enlarge(frame_NCHW, self.arguments.scale).add_(detail_NCHW)

    def restore_window(self, frames: Sequence[Tensor], own: range, before: Carried) -> Iterator[tuple[Tensor, Carried]]:
        """See `Frozen`. Frames after the window serve the backward branch, which begins at the last of them."""
        backward: list[Tensor] = []
        if self.arguments.bidirectional:
            behind: Carried = None
            # Frames behind the window only bring the branch up to it; frames before the window are of no use to a
            # branch that goes back.
            for t in reversed(range(own.start, len(frames))):
                behind = self.advance("backward", frames[t], behind)
                if t in own:
                    # In the order of the way back, so that pop() hands them out in the order of frames.
                    backward.append(behind.state_NCHW)
        for t in own:
            before = self.advance("forward", frames[t], before)
            states = [before.state_NCHW]
            if backward:
                states.insert(0, backward.pop())
            yield self.upsample(states, frames[t]), before


class _Trunk(Recurrence):
    """A branch whose state is permuted: active channels first, in `order`."""

    weight: Tensor
    bias: Tensor
    gate_weight: Tensor
    gate_bias: Tensor

    def __init__(self, source: Recurrence, forms: Forms, kernels: Kernels) -> None:
        super().__init__(source.name)
        self._kernels = kernels
        blocks = cast(list[ResidualBlock], list(cast(nn.Sequential, source.blocks)))
        self._width = source.width
        self.slope: float = source.slope  # type: ignore[assignment]
        active = active_channels(blocks, self.width)
        touched = set(active)
        self.active = len(active)
        # Active channels first: blocks then work on a slice of the state instead of gathering it.
        self.order = active + [channel for channel in range(self.width) if channel not in touched]
        weight, bias = self._permuted(cast(nn.Conv2d, source.first), self.shape.states)
        for kind, values in zip(("weight", "bias"), kernels.prepared(weight, bias), strict=True):
            self.register_buffer(kind, values)
        gates = [self._permuted(cast(nn.Conv2d, source.get_submodule(name)), 1) for name in self.shape.gates]
        # One convolution for all gates: they read the same.
        for kind, parts in zip(("weight", "bias"), zip(*gates, strict=True), strict=False):
            self.register_buffer(f"gate_{kind}", torch.cat(parts))
        position = {channel: place for place, channel in enumerate(active)}
        self.blocks = nn.Sequential(
            *(FrozenBlock(block, position, forms(block_shape(block, self.active))) for block in blocks)
        )

    def _permuted(self, conv: nn.Conv2d, states: int) -> tuple[Tensor, Tensor]:
        """Weight and bias of a convolution that reads the frame and so many permuted states, and writes one."""
        assert conv.bias is not None
        read = [RGB + state * self.width + channel for state in range(states) for channel in self.order]
        weight = conv.weight.detach()[self.order][:, [*range(RGB), *read]]
        return weight.contiguous(), conv.bias.detach()[self.order]

    @property
    def width(self) -> int:
        """See `BranchParts`."""
        return self._width

    def start(self, frame_NCHW: Tensor) -> Tensor:
        """The memory before the first frame."""
        return super().start(frame_NCHW).to(self.weight.dtype)

    def step(self, frame_NCHW: Tensor, memory_NCHW: Tensor, flow_N2HW: Tensor | None) -> Tensor:
        """See `Recurrence`."""
        frame_NCHW = frame_NCHW.to(self.weight.dtype)
        if is_channels_last(memory_NCHW):
            # What is joined of both formats would be written in the other one, and converted in the first convolution.
            frame_NCHW = frame_NCHW.contiguous(memory_format=torch.channels_last)
        return super().step(frame_NCHW, memory_NCHW, flow_N2HW)

    def refined(self, joined_NCHW: Tensor) -> Tensor:
        """See `BranchParts`."""
        state_NCHW = self._kernels.conv_leaky(joined_NCHW, self.weight, self.bias, self.slope)
        # Where all channels are active no copy is needed, since nobody else reads this tensor.
        if self.active == self.width:
            refined: Tensor = self.blocks(state_NCHW)
            return refined
        state_NCHW[:, : self.active] = self.blocks(
            state_NCHW[:, : self.active].clone(memory_format=torch.preserve_format)
        )
        return state_NCHW

    def warped(self, memory_NCHW: Tensor, flow_N2HW: Tensor) -> Tensor:
        """See `BranchParts`."""
        return warped(memory_NCHW, flow_N2HW)

    def gates(self, joined_NCHW: Tensor) -> Sequence[Tensor]:
        """See `BranchParts`."""
        return torch.sigmoid(convolved(joined_NCHW, self.gate_weight, self.gate_bias)).chunk(len(self.shape.gates), 1)


def _read_in_order(convs: Sequence[nn.Conv2d], order: Sequence[int]) -> None:
    """Have a row of convolutions read features whose channels stand in this order, in place.

    Depthwise ones hand the order on; the first other one ends it.
    """
    index = list(order)
    for conv in convs:
        depthwise = conv.groups > 1
        weight = conv.weight.detach()
        conv.weight = nn.Parameter(weight[index] if depthwise else weight[:, index].contiguous(), requires_grad=False)
        if not depthwise:
            return
        conv.bias = nn.Parameter(cast(Tensor, conv.bias).detach()[index], requires_grad=False)


def _joined(orders: Sequence[Sequence[int]]) -> list[int]:
    """Orders of concatenated slots as one order of their channels."""
    indices: list[int] = []
    offset = 0
    for order in orders:
        indices += [offset + channel for channel in order]
        offset += len(order)
    return indices
