"""Every cell by its name, and the branch that steps by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vsrprune.networks.basicvsr.cells.gru import gated_state
from vsrprune.networks.basicvsr.cells.parts import BranchParts
from vsrprune.networks.basicvsr.cells.residual import residual_state
from vsrprune.networks.basicvsr.cells.second_order import second_order_memory, second_order_state
from vsrprune.networks.basicvsr.cells.spec import SHAPES
from vsrprune.networks.parts.layers import warp


def _the_state(state_NCHW: Tensor, before_NCHW: Tensor, flow_N2HW: Tensor | None) -> Tensor:
    return state_NCHW


@dataclass(frozen=True)
class BranchCell:
    """state: the new hidden state, from the parts, the frame, the memory, and the flow to the frame before or None.

    memory: what is handed on, from the state of a frame, that of the frame before, and the flow between them or None.
    """

    state: Callable[[BranchParts, Tensor, Tensor, Tensor | None], Tensor]
    memory: Callable[[Tensor, Tensor, Tensor | None], Tensor] = _the_state


CELLS = {
    "residual": BranchCell(residual_state),
    "gru": BranchCell(gated_state),
    "second_order": BranchCell(second_order_state, second_order_memory),
}


class Recurrence(nn.Module):
    """A branch, of whose parts a cell makes the step from frame to frame."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.shape, self.cell = name, SHAPES[name], CELLS[name]

    @property
    def width(self) -> int:
        """See `BranchParts`."""
        raise NotImplementedError

    @property
    def memory_width(self) -> int:
        """Channels of what a step hands on."""
        return self.shape.memory(self.width)

    def refined(self, joined_NCHW: Tensor) -> Tensor:
        """See `BranchParts`."""
        raise NotImplementedError

    def warped(self, memory_NCHW: Tensor, flow_N2HW: Tensor) -> Tensor:
        """See `BranchParts`."""
        return warp(memory_NCHW, flow_N2HW)

    def gates(self, joined_NCHW: Tensor) -> Sequence[Tensor]:
        """See `BranchParts`."""
        raise NotImplementedError

    def start(self, frame_NCHW: Tensor) -> Tensor:
        """The memory before the first frame: zeros."""
        batch, _, height, width = frame_NCHW.shape
        return frame_NCHW.new_zeros(batch, self.memory_width, height, width)

    def step(self, frame_NCHW: Tensor, memory_NCHW: Tensor, flow_N2HW: Tensor | None) -> Tensor:
        """The memory of a frame from that of the frame before, and the flow between them; None at the first frame."""
        state_NCHW = self.cell.state(self, frame_NCHW, memory_NCHW, flow_N2HW)
        return self.cell.memory(state_NCHW, self.hidden(memory_NCHW), flow_N2HW)

    def hidden(self, memory_NCHW: Tensor) -> Tensor:
        """The hidden state (N, C, H, W) in a memory."""
        return memory_NCHW if self.shape.states == 1 else memory_NCHW[:, : self.width]

    def remembered(self, states: Sequence[Tensor], flow_N2HW: Tensor | None) -> Tensor:
        """The memory of a frame, from the hidden states of it and of those before, the nearest first.

        flow_N2HW: from the frame to the one before; None at the first frame.
        """
        state_NCHW, *before = states
        return self.cell.memory(state_NCHW, before[0] if before else torch.zeros_like(state_NCHW), flow_N2HW)
