"""How well the flows of a flow net explain what frames show."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vsrprune.networks.parts.flow import clip_flows
from vsrprune.networks.parts.layers import warp
from vsrprune.pruning.losses import charbonnier

# Both ways, whatever the network reads: training on one alone would halve what every clip teaches.
BOTH_WAYS = ("backward", "forward")


def photometric_error(flow_net: nn.Module, frames_NTCHW: Tensor) -> Tensor:
    """Charbonnier distance between frames (RGB in [0, 1]) and their neighbours, warped by the flows to them.

    What a flow fetches from outside of a frame is the border of the frame. Needs two frames or more.
    """
    flows = clip_flows(flow_net, frames_NTCHW, BOTH_WAYS)
    earlier, later = frames_NTCHW[:, :-1].flatten(0, 1), frames_NTCHW[:, 1:].flatten(0, 1)
    warped = [
        warp(neighbour, flows[way].flatten(0, 1), padding_mode="border")
        for way, neighbour in zip(BOTH_WAYS, (later, earlier), strict=True)
    ]
    return charbonnier(torch.cat(warped), torch.cat((earlier, later)))


@torch.inference_mode()
def photometric_errors(flow_net: nn.Module, low_TCHW: Tensor, device: torch.device) -> tuple[float, float]:
    """Errors of a uint8 clip, warped and not, mean over its pairs of frames; zeros for a clip of a single frame."""
    pairs = range(low_TCHW.shape[0] - 1)
    warped, still = 0.0, 0.0
    # A pair at a time: the flows of a long clip of large frames would take gigabytes.
    for t in pairs:
        pair_NTCHW = low_TCHW[None, t : t + 2].to(device).float() / 255
        warped += float(photometric_error(flow_net, pair_NTCHW)) / len(pairs)
        still += float(charbonnier(pair_NTCHW[:, 0], pair_NTCHW[:, 1])) / len(pairs)
    return warped, still
