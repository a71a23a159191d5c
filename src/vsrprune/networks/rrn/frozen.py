"""A frozen RRN, which goes from frame to frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from vsrprune.networks.fast.frozen import Carried, FrozenNetwork, Moment
from vsrprune.networks.rrn.network import RRN


class FrozenRRN(FrozenNetwork):
    """A frozen network whose every frame needs what the one before handed on, and nothing that comes after."""

    network: RRN

    @torch.inference_mode()
    def step(self, frame_NCHW: Tensor, before_NCHW: Tensor, state_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        """As the network's."""
        return self.network.step(frame_NCHW, before_NCHW, state_NCHW)

    def restore_window(self, frames: Sequence[Tensor], own: range, before: Carried) -> Iterator[tuple[Tensor, Carried]]:
        """See `Frozen`. The first frame of all is its own predecessor, with a state of zeros."""
        for t in own:
            frame_NCHW = frames[t]
            if before is None:
                zeros = frame_NCHW.new_zeros(len(frame_NCHW), self.network.state_width, *frame_NCHW.shape[-2:])
                before = Moment(frame_NCHW, zeros)
            high_NCHW, state_NCHW = self.step(frame_NCHW, *before)
            before = Moment(frame_NCHW, state_NCHW)
            yield high_NCHW, before
