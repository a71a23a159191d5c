"""Parameters and multiply-accumulates (MACs) of a network as it stands, counted on its own operations."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

COUNTED_FRAMES = 2  # per-frame cost is the same for every length; two show that the recurrence is counted


@dataclass(frozen=True)
class NetworkCost:
    """MACs are per low-resolution frame of `size` (height, width). Published "FLOPs" are MACs without the flow net.

    Gates are not counted as parameters: they fold into weights. One flow call per branch and frame is counted.
    """

    parameters: int
    parameters_with_flow: int
    macs: int
    macs_with_flow: int
    size: tuple[int, int]

    def without(self, macs: int, parameters: int) -> NetworkCost:
        """The cost less so many MACs per frame and parameters."""
        return NetworkCost(
            self.parameters - parameters,
            self.parameters_with_flow - parameters,
            self.macs - macs,
            self.macs_with_flow - macs,
            self.size,
        )


def network_cost(network: Any, size: tuple[int, int]) -> NetworkCost:
    """Count on the meta device: nothing is computed, whatever the size."""
    gates = {id(gate) for gate in network.gate_parameters()}
    flow = sum(parameter.numel() for parameter in network.flow_net.parameters())
    everything = sum(parameter.numel() for parameter in network.parameters() if id(parameter) not in gates)
    shadow = copy.deepcopy(network).to("meta")
    frames = torch.empty(1, COUNTED_FRAMES, 3, *size, device="meta")
    flows = {
        branch: torch.empty(1, COUNTED_FRAMES - 1, 2, *size, device="meta") for branch in network.arguments.branches
    }
    macs = _macs(shadow, frames, flows) // COUNTED_FRAMES
    flow_macs = _macs(shadow.flow_net, frames[:, 0], frames[:, 1]) * len(flows)
    return NetworkCost(everything - flow, everything, macs, macs + flow_macs, size)


def _macs(module: nn.Module, *inputs: Any) -> int:
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        module(*inputs)
    return int(counter.get_total_flops()) // 2
