"""How well the flows of a flow net explain what frames show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from vsrprune.networks.parts.flow import clip_flows
from vsrprune.networks.parts.layers import warp
from vsrprune.pruning.losses import charbonnier

# Both ways, whatever the network reads: training on one alone would halve what every clip teaches.
BOTH_WAYS = ("backward", "forward")


def photometric_error(flow_net: nn.Module, frames_NTCHW: Tensor, shift_2: Tensor | None = None) -> Tensor:
    """Charbonnier distance between frames (RGB in [0, 1]) and their neighbours, warped by the flows to them.

    What a flow fetches from outside of a frame is the border of the frame. Needs two frames or more. shift_2: taken off
    every flow first, x then y, in pixels.
    """
    flows = clip_flows(flow_net, frames_NTCHW, BOTH_WAYS)
    if shift_2 is not None:
        flows = {way: flow - shift_2[:, None, None] for way, flow in flows.items()}
    earlier, later = frames_NTCHW[:, :-1].flatten(0, 1), frames_NTCHW[:, 1:].flatten(0, 1)
    warped = [
        warp(neighbour, flows[way].flatten(0, 1), padding_mode="border")
        for way, neighbour in zip(BOTH_WAYS, (later, earlier), strict=True)
    ]
    return charbonnier(torch.cat(warped), torch.cat((earlier, later)))


@torch.inference_mode()
def shared_shift(flow_net: nn.Module, lows_TCHW: Iterable[Tensor], device: torch.device) -> Tensor:
    """What all flows of these uint8 clips have in common: their mean (2,), x then y, over both ways; zeros for no pair.

    Pretraining may add a constant shift to every flow, forth and back alike, and learn features that stand off by as
    much. It says nothing of motion; what does move has flows of opposite signs, whose mean over both ways is zero.
    """
    total_2, pairs = torch.zeros(2, device=device), 0
    for pair_NTCHW in _pairs(lows_TCHW, device):
        flows = clip_flows(flow_net, pair_NTCHW, BOTH_WAYS)
        total_2 += torch.stack([flow.mean((0, 1, 3, 4)) for flow in flows.values()]).mean(0)
        pairs += 1
    return total_2 / max(1, pairs)


@torch.inference_mode()
def photometric_errors(
    flow_net: nn.Module, low_TCHW: Tensor, device: torch.device, shift_2: Tensor | None = None
) -> tuple[float, float]:
    """Errors of a uint8 clip, warped and not, mean over its pairs of frames; zeros for a clip of a single frame.

    shift_2: see `photometric_error`.
    """
    warped, still, pairs = 0.0, 0.0, 0
    for pair_NTCHW in _pairs([low_TCHW], device):
        warped += float(photometric_error(flow_net, pair_NTCHW, shift_2))
        still += float(charbonnier(pair_NTCHW[:, 0], pair_NTCHW[:, 1]))
        pairs += 1
    return warped / max(1, pairs), still / max(1, pairs)


def _pairs(lows_TCHW: Iterable[Tensor], device: torch.device) -> Iterator[Tensor]:
    # A pair at a time: the flows of a long clip of large frames would take gigabytes.
    for low_TCHW in lows_TCHW:
        for t in range(low_TCHW.shape[0] - 1):
            yield low_TCHW[None, t : t + 2].to(device).float() / 255
