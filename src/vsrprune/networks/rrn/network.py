"""RRN (Isobe et al., "Revisiting Temporal Modeling for Video Super-Resolution", BMVC 2020): causal, without a flow net.

Every frame is restored from itself, the frame before, the hidden state and the output of the frame before.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from vsrprune.channels.layout import ChannelLayout
from vsrprune.networks.network import Flows, FrameOutput, Network, States, VSROutput
from vsrprune.networks.parts.layers import enlarge, plain_conv, small_init
from vsrprune.networks.parts.reconstruction import residual_blocks
from vsrprune.networks.rrn.spec import FRAMES_READ, RGB, RRNArguments, rrn_layout

OUTPUT = "output"  # beside the hidden state, what a step hands on: the frame that it restored


class RRN(Network):
    """Recurrent video super-resolution for streams: a frame needs nothing that comes after it."""

    def __init__(self, arguments: RRNArguments) -> None:
        super().__init__()
        self.arguments = arguments
        channels, detail = arguments.channels, arguments.detail_channels
        # All at a tenth of the usual initialisation, as the authors' are: outputs are read again, and what begins far
        # from the enlarged frame drives the first activations to zero for good.
        self.conv_1 = small_init(plain_conv(FRAMES_READ * RGB + channels + detail, channels, 3))
        self.recon_trunk = residual_blocks(channels, arguments.blocks)
        self.conv_h = small_init(plain_conv(channels, channels, 3))
        self.conv_o = small_init(plain_conv(channels, detail, 3))
        self.add_gates()

    def channel_layout(self, rule: str) -> ChannelLayout:
        """Channel groups and convolutions under a residual rule (rsc, aligned, inner)."""
        return rrn_layout(self.arguments, rule)

    def stream_channels(self, branch: str) -> tuple[int, ...] | None:
        """The channels of the dense hidden state that this network still has; None for all of them."""
        return None if self.plan is None else self.plan.kept["conv_h"]

    @property
    def state_width(self) -> int:
        """Channels of what a step hands on: the hidden state, and the output frame at the input's size."""
        return self.conv_h.out_channels + self.arguments.detail_channels  # type: ignore[no-any-return]

    def forward(self, frames_NTCHW: Tensor, flows: Flows | None = None) -> VSROutput:
        """Super-resolve clips; see Network.

        The first frame is its own predecessor; the authors' code takes the second for it, which a stream does not have.
        """
        frames = list(self.frame_by_frame(frames_NTCHW))
        hidden = {"forward": [frame.hidden["forward"] for frame in frames]}
        return VSROutput(torch.stack([frame.frame_NCHW for frame in frames], dim=1), hidden)

    def frame_by_frame(self, frames_NTCHW: Tensor, flows: Flows | None = None) -> Iterator[FrameOutput]:
        """See Network."""
        for high_NCHW, state_NCHW in self._steps(frames_NTCHW):
            yield FrameOutput(high_NCHW, {"forward": state_NCHW[:, : self.conv_h.out_channels]})

    def states_handed_on(self, frames_NTCHW: Tensor, flows: Flows | None = None) -> Iterator[States]:
        """See Network; beside the hidden state the output frame, at the input's size."""
        for _, state_NCHW in self._steps(frames_NTCHW):
            yield self._parted(state_NCHW)

    def steps_alone(self, frames_NTCHW: Tensor, flows: Flows, given: Iterator[States]) -> Iterator[States]:
        """See Network."""
        state_NCHW = self._start(frames_NTCHW)
        for t, states in enumerate(given):
            _, made_NCHW = self.step(frames_NTCHW[:, t], frames_NTCHW[:, max(0, t - 1)], state_NCHW)
            yield self._parted(made_NCHW)
            state_NCHW = torch.cat((states["forward"], states[OUTPUT]), dim=1)

    def _parted(self, state_NCHW: Tensor) -> States:
        hidden = self.conv_h.out_channels
        return {"forward": state_NCHW[:, :hidden], OUTPUT: state_NCHW[:, hidden:]}

    def _steps(self, frames_NTCHW: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        state_NCHW = self._start(frames_NTCHW)
        for t in range(frames_NTCHW.shape[1]):
            before = max(0, t - 1)
            state_NCHW = self.handed_on(state_NCHW, before, t)
            high_NCHW, state_NCHW = self.step(frames_NTCHW[:, t], frames_NTCHW[:, before], state_NCHW)
            yield high_NCHW, state_NCHW

    def _start(self, frames_NTCHW: Tensor) -> Tensor:
        batch, _, _, height, width = frames_NTCHW.shape
        return frames_NTCHW.new_zeros(batch, self.state_width, height, width)

    def step(self, frame_NCHW: Tensor, before_NCHW: Tensor, state_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        """The output of a frame (N, 3, scale*H, scale*W), not clipped, and what is handed on (N, state_width, H, W).

        before_NCHW: the frame before. state_NCHW: what it handed on; zeros before the first frame.
        """
        joined_NCHW = torch.cat((before_NCHW, frame_NCHW, state_NCHW), dim=1)
        trunk_NCHW = self.recon_trunk(F.relu_(self.conv_1(joined_NCHW)))
        hidden_NCHW = F.relu_(self.conv_h(trunk_NCHW))
        scale = self.arguments.scale
        detail_NCHW = self.conv_o(trunk_NCHW)
        if scale > 1:
            detail_NCHW = F.pixel_shuffle(detail_NCHW, scale)
        high_NCHW = detail_NCHW + enlarge(frame_NCHW, scale)
        # The output is read again by the next step, which works at the input's size: pixels become channels.
        low_NCHW = F.pixel_unshuffle(high_NCHW, scale) if scale > 1 else high_NCHW
        return high_NCHW, torch.cat((hidden_NCHW, low_NCHW), dim=1)
