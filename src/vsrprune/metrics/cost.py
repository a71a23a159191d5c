"""Parameters and multiply-accumulates (MACs) of a network, counted on the operations that it runs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from vsrprune.results.result import Cost

COUNTED_FRAMES = 2  # of the longer of two clips, whose difference is what a frame costs that has one before it


def network_cost(network: Any, size: tuple[int, int]) -> Cost:
    """Parameters and MACs per low-resolution frame of `size` (height, width).

    Everything is counted on the meta device: nothing is computed, whatever the size. Published "FLOPs" are MACs without
    the flow net. Gates are not counted as parameters: they fold into weights. One flow call is counted per branch and
    frame.

    A frame costs what a clip of two frames costs more than one of a single frame, which has nothing to align. A flow
    net that is pruned too is a part of the network like any other.
    """
    gates = {id(gate) for gate in network.gate_parameters()}
    flow = sum(parameter.numel() for parameter in network.flow_parameters())
    everything = sum(parameter.numel() for parameter in network.parameters() if id(parameter) not in gates)
    shadow = copy.deepcopy(network).to("meta").eval()
    of_clips, of_flows = [], []
    for frames in (COUNTED_FRAMES - 1, COUNTED_FRAMES):
        clip = torch.empty(1, frames, 3, *size, device="meta")
        # The flow net is counted by itself: published "FLOPs" leave it out, and readers want both.
        flow_macs, flows = counted(shadow.flows, clip)
        of_flows.append(flow_macs)
        of_clips.append(counted(shadow, clip, flows)[0])
    macs, flow_macs = of_clips[1] - of_clips[0], of_flows[1] - of_flows[0]
    if network.arguments.prunes_flow:
        return Cost(everything, everything, macs + flow_macs, macs + flow_macs, size)
    return Cost(everything - flow, everything, macs, macs + flow_macs, size)


def counted(call: Callable[..., Any], *inputs: Any) -> tuple[int, Any]:
    """The MACs of a call on the meta device, and what it returns."""
    counter = FlopCounterMode(display=False)
    with counter, _ShapesAtOnce(), torch.no_grad():  # type: ignore[no-untyped-call]
        result = call(*inputs)
    return int(counter.get_total_flops()) // 2, result  # PyTorch counts a multiplication and an addition as two


class _ShapesAtOnce(TorchDispatchMode):
    """Gives the shape of resampled images at once.

    On the meta device PyTorch finds it by hundreds of small operations, none of which it counts.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.grid_sampler_2d.default:
            images_NCHW, grid_NHW2 = args[:2]
            return images_NCHW.new_empty(*images_NCHW.shape[:2], *grid_NHW2.shape[1:3])
        if func is torch.ops.aten.upsample_bilinear2d.default:
            images_NCHW, (height, width) = args[:2]
            return images_NCHW.new_empty(*images_NCHW.shape[:2], height, width)
        return func(*args, **(kwargs or {}))
