"""A convolutional GRU (Ballas et al., ICLR 2016) on the warped state, with the trunk for its candidate."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vsrprune.networks.basicvsr.cells.parts import BranchParts
from vsrprune.networks.parts.layers import small_init

OPEN = 2.0  # the logit at which both gates start: a new network is nearly the residual one


def gated_state(parts: BranchParts, frame_NCHW: Tensor, memory_NCHW: Tensor, flow_N2HW: Tensor | None) -> Tensor:
    """Return h' = (1 - z) h + z trunk(frame, r h): h is the warped state of the frame before, r and z are its gates.

    A channel that is zero in h and in what the trunk gives stays zero, whatever its gates say: so it can be cut.
    """
    if flow_N2HW is not None:
        memory_NCHW = parts.warped(memory_NCHW, flow_N2HW)
    reset_NCHW, update_NCHW = parts.gates(torch.cat((frame_NCHW, memory_NCHW), dim=1))
    refined_NCHW = parts.refined(torch.cat((frame_NCHW, reset_NCHW * memory_NCHW), dim=1))
    return (1 - update_NCHW) * memory_NCHW + update_NCHW * refined_NCHW


def open_gate(conv: nn.Conv2d) -> nn.Conv2d:
    """`conv` itself, initialised so that its gate is open whatever it reads."""
    bias = small_init(conv).bias
    assert bias is not None
    nn.init.constant_(bias, OPEN)
    return conv
