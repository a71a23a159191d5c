"""The states of the last two frames, each warped; BasicVSR++'s second order (Chan et al., CVPR 2022, section 3.2)
without its deformable alignment.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vsrprune.networks.basicvsr.cells.parts import BranchParts
from vsrprune.networks.basicvsr.cells.spec import FLOW


def second_order_state(parts: BranchParts, frame_NCHW: Tensor, memory_NCHW: Tensor, flow_N2HW: Tensor | None) -> Tensor:
    """Return h' = trunk(frame, h1, h2): h1 and h2 are the warped states of the frame before and the one before it.

    memory_NCHW: see `second_order_memory`.
    """
    near = parts.width + FLOW
    near_NCHW, far_NCHW = memory_NCHW[:, :near], memory_NCHW[:, near:]
    if flow_N2HW is not None:
        near_NCHW = parts.warped(near_NCHW, flow_N2HW)
        # Two flows of one frame make the flow over two, so that no other is estimated.
        far_NCHW = parts.warped(far_NCHW, flow_N2HW + near_NCHW[:, parts.width :])
    # The memory is as precise as its flow, which may be more than the trunk is.
    states = (state_NCHW.to(frame_NCHW.dtype) for state_NCHW in (near_NCHW[:, : parts.width], far_NCHW))
    return parts.refined(torch.cat((frame_NCHW, *states), dim=1))


def second_order_memory(state_NCHW: Tensor, before_NCHW: Tensor, flow_N2HW: Tensor | None) -> Tensor:
    """A frame's state, its flow to the frame before (zeros if there is none), and that frame's state: 2C + 2 channels.

    One tensor, so that whoever carries it from frame to frame carries a state, of whatever cell.
    """
    if flow_N2HW is None:
        flow_N2HW = torch.zeros_like(state_NCHW[:, :1]).expand(-1, FLOW, -1, -1)
    return torch.cat((state_NCHW, flow_N2HW, before_NCHW), dim=1)
