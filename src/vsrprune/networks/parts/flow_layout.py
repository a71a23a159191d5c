"""The flow net's channels as groups, for networks that prune it too. Without torch."""

from __future__ import annotations

from typing import Any

from vsrprune.channels.layout import Slot
from vsrprune.channels.specification import Specification

READ, WRITTEN = Slot(8), Slot(2)  # two frames and a flow; the correction of a flow


def state_flow(spec: Specification, arguments: Any, directions: int) -> None:
    """State a network's SPyNet, if it is pruned: a chain of convolutions in each level, whose inner channels are units.

    directions: how often it runs for a frame.
    """
    if not arguments.prunes_flow:
        return
    kernel, widths, levels = arguments.flow_kernel, arguments.flow_widths, arguments.flow_levels
    for level in range(levels - arguments.flow_skipped):
        name, slot, scale = f"flow_net.levels.{level}", READ, 2.0 ** (level + 1 - levels)
        for place, width in enumerate(widths):
            conv = f"{name}.{2 * place}"  # activations lie between
            slot = spec.filters(conv, kernel, [slot], width, part="flow", kind="flow", scale=scale, times=directions)
        spec.conv(f"{name}.{2 * len(widths)}", kernel, [slot], WRITTEN, scale=scale, times=directions)
