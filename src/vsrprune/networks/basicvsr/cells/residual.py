"""BasicVSR's own recurrence: the trunk reads the frame and the state of the frame before, and gives the new state."""

from __future__ import annotations

import torch
from torch import Tensor

from vsrprune.networks.basicvsr.cells.parts import BranchParts


def residual_state(parts: BranchParts, frame_NCHW: Tensor, memory_NCHW: Tensor, flow_N2HW: Tensor | None) -> Tensor:
    """Return h' = trunk(frame, h): h is the warped state of the frame before."""
    if flow_N2HW is not None:
        memory_NCHW = parts.warped(memory_NCHW, flow_N2HW)
    return parts.refined(torch.cat((frame_NCHW, memory_NCHW), dim=1))
