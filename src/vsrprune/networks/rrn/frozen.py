"""A frozen RRN, which goes from frame to frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from vsrprune.networks.fast.frozen import Carried, FrozenNetwork, Moment
from vsrprune.networks.network import Flows
from vsrprune.networks.rrn.network import RRN


class FrozenRRN(FrozenNetwork):
    """A frozen network whose every frame needs what the one before handed on, and nothing that comes after."""

    network: RRN

    def compute(self, frames_NTCHW: Tensor, flows: Flows | None = None) -> Tensor:
        """See `Frozen`."""
        frames = frames_NTCHW.unbind(1)
        before, restored = self._start(frames[0]), []
        for frame_NCHW in frames:
            high_NCHW, state_NCHW = self.call(self.network.step, frame_NCHW, *before)
            before = Moment(frame_NCHW, state_NCHW)
            restored.append(high_NCHW)
        return torch.stack(restored, dim=1)

    @torch.inference_mode()
    def step(self, frame_NCHW: Tensor, before_NCHW: Tensor, state_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        """As the network's."""
        high_NCHW, state_NCHW = self.call(self.network.step, frame_NCHW, before_NCHW, state_NCHW)
        return high_NCHW, state_NCHW

    def _start(self, frame_NCHW: Tensor) -> Moment:
        """The first frame of all is its own predecessor, with a state of zeros."""
        zeros = frame_NCHW.new_zeros(len(frame_NCHW), self.network.state_width, *frame_NCHW.shape[-2:])
        return Moment(frame_NCHW, zeros)

    def restore_window(self, frames: Sequence[Tensor], own: range, before: Carried) -> Iterator[tuple[Tensor, Carried]]:
        """See `Frozen`."""
        for t in own:
            frame_NCHW = frames[t]
            high_NCHW, state_NCHW = self.step(frame_NCHW, *(before or self._start(frame_NCHW)))
            before = Moment(frame_NCHW, state_NCHW)
            yield high_NCHW, before
