"""Parameters and multiply-accumulates (MACs) of a network, counted on the operations that it runs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from vsrprune.results.result import Cost

COUNTED_FRAMES = 2  # of the longer of two clips, whose difference is what a frame costs that has one before it


def network_cost(network: Any, size: tuple[int, int]) -> Cost:
    """Parameters and MACs per low-resolution frame of `size` (height, width).

    Everything is counted on the meta device: nothing is computed, whatever the size. Published "FLOPs" are MACs without
    the flow net. Gates are not counted as parameters: they fold into weights. One flow call is counted per branch and
    frame.

    A frame costs what a clip of two frames costs more than one of a single frame, which has nothing to align.
    """
    gates = {id(gate) for gate in network.gate_parameters()}
    flow = sum(parameter.numel() for parameter in network.flow_parameters())
    everything = sum(parameter.numel() for parameter in network.parameters() if id(parameter) not in gates)
    shadow = copy.deepcopy(network).to("meta").eval()
    of_clips, of_flows = [], []
    for frames in (COUNTED_FRAMES - 1, COUNTED_FRAMES):
        clip = torch.empty(1, frames, 3, *size, device="meta")
        # The flow net is counted by itself: published "FLOPs" leave it out, and readers want both.
        flow_macs, flows = _counted(shadow.flows, clip)
        of_flows.append(flow_macs)
        of_clips.append(_counted(shadow, clip, flows)[0])
    macs, flow_macs = of_clips[1] - of_clips[0], of_flows[1] - of_flows[0]
    return Cost(everything - flow, everything, macs, macs + flow_macs, size)


def _counted(call: Callable[..., Any], *inputs: Any) -> tuple[int, Any]:
    """The MACs of a call, and what it returns."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        result = call(*inputs)
    return int(counter.get_total_flops()) // 2, result  # PyTorch counts a multiplication and an addition as two
