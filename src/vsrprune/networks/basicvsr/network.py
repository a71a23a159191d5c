"""BasicVSR (Chan et al., CVPR 2021), bidirectional or unidirectional, gated for pruning or compact after it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from vsrprune.channels.layout import ChannelLayout
from vsrprune.networks.basicvsr.cells.gru import open_gate
from vsrprune.networks.basicvsr.cells.spec import GATE_KERNEL, SHAPES
from vsrprune.networks.basicvsr.cells.table import Recurrence
from vsrprune.networks.basicvsr.spec import RGB, BasicVSRArguments, basicvsr_layout, trunk
from vsrprune.networks.network import Flows, FrameOutput, States, VSROutput
from vsrprune.networks.parts.flow import SPyNet, clip_flows
from vsrprune.networks.parts.folding import recomputed
from vsrprune.networks.parts.layers import plain_conv
from vsrprune.networks.parts.reconstruction import Upsampler, residual_blocks

HandedOn = Callable[[Tensor, int, int], Tensor]  # state, its frame, the frame that reads it


class BasicVSR(Upsampler):
    """Recurrent video super-resolution.

    checkpoint_frames: while it trains, keep only what passes from frame to frame, and compute the rest of a frame again
    when its gradients are due: long clips need less memory, and a step 1.2 to 1.4 times the time.
    """

    flow_net: SPyNet

    def __init__(self, arguments: BasicVSRArguments) -> None:
        super().__init__(arguments)
        self.flow_net = SPyNet(
            arguments.flow_levels, arguments.flow_kernel, arguments.flow_widths, arguments.flow_skipped
        )
        for name in arguments.branches:
            self.add_module(trunk(name), _Trunk(arguments))
        if arguments.bidirectional:
            self.fusion = plain_conv(2 * arguments.channels, arguments.channels, 1)
        self.add_upsampler()
        self.add_gates()

    def channel_layout(self, rule: str) -> ChannelLayout:
        """Channel groups and convolutions under a residual rule (rsc, aligned, inner)."""
        return basicvsr_layout(self.arguments, rule)

    def stream_channels(self, branch: str) -> tuple[int, ...] | None:
        """The channels of the dense hidden state that this network still has; None for all of them."""
        return None if self.plan is None else self.plan.kept.get(f"{trunk(branch)}.stream")

    def flows(self, frames_NTCHW: Tensor) -> Flows:
        """Flow of each branch: from frame t to the neighbour whose hidden state is warped to t."""
        return clip_flows(self.flow_net, frames_NTCHW, self.arguments.branches)

    def forward(self, frames_NTCHW: Tensor, flows: Flows | None = None) -> VSROutput:
        """Super-resolve clips; see Network."""
        hidden = self.hidden_states(frames_NTCHW, flows)
        frames = [
            self._remembered(self.upsample, [states[t] for states in hidden.values()], frames_NTCHW[:, t])
            for t in range(frames_NTCHW.shape[1])
        ]
        return VSROutput(torch.stack(frames, dim=1), hidden)

    def hidden_states(self, frames_NTCHW: Tensor, flows: Flows | None = None) -> dict[str, list[Tensor]]:
        """The propagation alone: what a teacher is asked for, without the upsampler."""
        if flows is None:
            flows = self.flows(frames_NTCHW)
        return {
            name: self.get_submodule(trunk(name))(
                frames_NTCHW, flows[name], name == "backward", self._remembered, self.handed_on
            )
            for name in self.arguments.branches
        }

    def frame_by_frame(self, frames_NTCHW: Tensor, flows: Flows | None = None) -> Iterator[FrameOutput]:
        """See Network. Of the branch that goes back every state is held, of the other the last."""
        for t, states in enumerate(self.states_handed_on(frames_NTCHW, flows)):
            yield FrameOutput(self.upsample(list(states.values()), frames_NTCHW[:, t]), states)

    def states_handed_on(self, frames_NTCHW: Tensor, flows: Flows | None = None) -> Iterator[States]:
        """See Network."""
        if flows is None:
            flows = self.flows_in_parts(frames_NTCHW)
        ways = {
            name: self._trunk(name).way(frames_NTCHW, flows[name], name == "backward")
            for name in self.arguments.branches
        }
        if "backward" in ways:
            ways["backward"] = _from_the_end(list(ways["backward"]))
        for states in zip(*ways.values(), strict=True):
            yield dict(zip(ways, states, strict=True))

    def steps_alone(self, frames_NTCHW: Tensor, flows: Flows, given: Iterator[States]) -> Iterator[States]:
        """See Network. No branch reads another: a step is handed its branch's states of the last frames, one or two."""
        for t, neighbours in enumerate(_before_and_after(given, SHAPES[self.arguments.cell].states)):
            made = {}
            for name in self.arguments.branches:
                branch, frame_NCHW = self._trunk(name), frames_NTCHW[:, t]
                states = [handed[name] for handed in neighbours[name == "backward"]]
                # From this frame to the one before on the branch's way, and from that to the one before it.
                places = (t, t + 1) if name == "backward" else (t - 1, t - 2)
                flow_N2HW, earlier_N2HW = (
                    flows[name][:, place] if order < len(states) else None for order, place in enumerate(places)
                )
                memory_NCHW = branch.remembered(states, earlier_N2HW) if states else branch.start(frame_NCHW)
                made[name] = branch.cell.state(branch, frame_NCHW, memory_NCHW, flow_N2HW)
            yield made

    def _trunk(self, name: str) -> _Trunk:
        return cast(_Trunk, self.get_submodule(trunk(name)))

    def _remembered(self, step: Callable[..., Tensor], *inputs: Any) -> Tensor:
        """`step(*inputs)`, without what lies between for the gradients if frames are checkpointed."""
        if not (self.checkpoint_frames and torch.is_grad_enabled()):
            return step(*inputs)
        # The re-entrant form gives no gradients where none of the inputs requires them, as at the first frame of a
        # clip.
        again = partial(checkpoint, step, use_reentrant=False)
        # torch.compile takes no contexts here, and its graph holds the folded weights itself.
        if not torch.compiler.is_compiling():
            again = partial(again, context_fn=partial(recomputed, self))
        output: Tensor = again(*inputs)
        return output

    def hidden(self, memories: Sequence[Tensor]) -> list[Tensor]:
        """The hidden states (N, C, H, W) in what the steps of all branches hand on."""
        pairs = zip(self.arguments.branches, memories, strict=True)
        return [self._trunk(name).hidden(memory_NCHW) for name, memory_NCHW in pairs]

    def upsample(self, states: Sequence[Tensor], frame_NCHW: Tensor) -> Tensor:
        """Fuse the states (N, C, H, W) of a frame, in the order of the branches, and enlarge."""
        x_NCHW = states[0]
        if self.arguments.bidirectional:
            x_NCHW = self.activate(self.fusion(torch.cat(list(states), dim=1)))
        return self.enlarge(x_NCHW, frame_NCHW)


class _Trunk(Recurrence):
    """One direction of propagation: a first convolution, residual blocks, and the gates of a GRU."""

    def __init__(self, arguments: BasicVSRArguments) -> None:
        super().__init__(arguments.cell)
        channels = arguments.channels
        self.slope = arguments.slope
        for name in self.shape.gates:
            self.add_module(name, open_gate(plain_conv(RGB + channels, channels, GATE_KERNEL)))
        self.first = plain_conv(RGB + self.shape.states * channels, channels, 3)
        self.blocks = residual_blocks(channels, arguments.blocks)

    @property
    def width(self) -> int:
        """See `BranchParts`."""
        return self.first.out_channels

    def forward(
        self,
        frames_NTCHW: Tensor,
        flows_NT2HW: Tensor,
        reverse: bool,
        call: Callable[..., Tensor],
        handed_on: HandedOn,
    ) -> list[Tensor]:
        """Hidden states (N, C, H, W) of all frames, in frame order; `call` runs the step of a frame."""
        step, start_NCHW = partial(call, self.step), self.start(frames_NTCHW[:, 0])
        memories = propagation(step, start_NCHW, frames_NTCHW, flows_NT2HW, reverse, handed_on)
        return in_frame_order(map(self.hidden, memories), reverse)

    def way(self, frames_NTCHW: Tensor, flows_NT2HW: Tensor, reverse: bool) -> Iterator[Tensor]:
        """The hidden states (N, C, H, W) one after the other, from the frame at which the branch begins."""
        start_NCHW = self.start(frames_NTCHW[:, 0])
        return map(self.hidden, propagation(self.step, start_NCHW, frames_NTCHW, flows_NT2HW, reverse))

    def refined(self, joined_NCHW: Tensor) -> Tensor:
        """See `BranchParts`."""
        refined_NCHW: Tensor = self.blocks(F.leaky_relu_(self.first(joined_NCHW), self.slope))
        return refined_NCHW

    def gates(self, joined_NCHW: Tensor) -> list[Tensor]:
        """See `BranchParts`."""
        return [torch.sigmoid(self.get_submodule(name)(joined_NCHW)) for name in self.shape.gates]


def _as_it_is(state: Tensor, source: int, target: int) -> Tensor:
    return state


def in_frame_order(states: Iterable[Tensor], reverse: bool) -> list[Tensor]:
    """What a `propagation` gives of every frame, that of a reversed one turned round."""
    return list(states)[:: -1 if reverse else 1]


def propagation(
    step: Callable[..., Tensor],
    start_NCHW: Tensor,
    frames_NTCHW: Tensor,
    flows_NT2HW: Tensor,
    reverse: bool,
    handed_on: HandedOn = _as_it_is,
) -> Iterator[Tensor]:
    """Memories (N, M, H, W) along a branch that begins with `start_NCHW`, at the last frame if reversed.

    step: the memory of a frame, from the frame, the memory before it, and the flow between them (None at the first).
    handed_on: what a frame reads of the memory of the frame before; see `Network.handed_on`.
    """
    length = frames_NTCHW.shape[1]
    memory_NCHW = start_NCHW
    for place, t in enumerate(range(length - 1, -1, -1) if reverse else range(length)):
        # Flow i is that of frames i and i + 1: the neighbour of t is t + 1 on the way back, and t - 1 on the way forth.
        flow_N2HW = None
        if place > 0:
            before = t + 1 if reverse else t - 1
            flow_N2HW = flows_NT2HW[:, min(t, before)]
            memory_NCHW = handed_on(memory_NCHW, before, t)
        memory_NCHW = step(frames_NTCHW[:, t], memory_NCHW, flow_N2HW)
        yield memory_NCHW


def _before_and_after(given: Iterator[States], count: int) -> Iterator[tuple[list[States], list[States]]]:
    """For every frame what is given of the frames before and after it, at most `count` each, the nearest first."""
    before: deque[States] = deque(maxlen=count)
    ahead = deque(islice(given, 1 + count))
    while ahead:
        here = ahead.popleft()
        yield list(before), list(ahead)
        before.appendleft(here)
        ahead.extend(islice(given, 1))


def _from_the_end(states: list[Tensor]) -> Iterator[Tensor]:
    """The states from the last on, each given up when it is handed out."""
    while states:
        yield states.pop()
