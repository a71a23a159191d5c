"""What cells work with: the trunk of a branch, whether it trains or is frozen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class BranchParts(Protocol):
    """Convolutions of a branch whose state has `width` channels."""

    @property
    def width(self) -> int:
        """Channels of the hidden state."""

    def refined(self, joined_NCHW: Tensor) -> Tensor:
        """The first convolution, an activation, and the residual blocks: (N, C, H, W)."""

    def warped(self, memory_NCHW: Tensor, flow_N2HW: Tensor) -> Tensor:
        """A memory, sampled at each pixel's position plus its flow; see `layers.warp`."""

    def gates(self, joined_NCHW: Tensor) -> Sequence[Tensor]:
        """GRU's gates by the order of their names, each (N, C, H, W) in (0, 1); none of other cells."""
