"""What the published network's flow net takes of a frame, and what is left of it when it is made cheaper.

    python benchmarks/flow_net.py [--size 180 320] [--rounds 3]

Rows take turns, and the fastest of all rounds counts: SPyNet as published, both directions of a frame; without one and
two of its finest levels (`model.flow_skipped`); with half of the units of every layer (`model.flow_pruned`); and both.
Weights do not matter for time, so that they are drawn.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import replace
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from vsrprune.channels.plan import PrunePlan
from vsrprune.cli import preset
from vsrprune.metrics.cost import counted
from vsrprune.networks.network import Network
from vsrprune.networks.table import build
from vsrprune.pruning.surgery import compact

ROWS: dict[str, dict[str, Any]] = {
    "as published": {},
    "flow_skipped=1": {"flow_skipped": 1},
    "flow_skipped=2": {"flow_skipped": 2},
    "half of its units": {"flow_pruned": True},
    "both, flow_skipped=1": {"flow_skipped": 1, "flow_pruned": True},
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(180, 320), help="height and width of a frame")
    parser.add_argument("--rounds", type=int, default=3, help="turns of all rows")
    given = parser.parse_args()
    nets = {name: small_flow(changes) for name, changes in ROWS.items()}
    clip_NTCHW = torch.rand(1, 2, 3, *given.size)
    best = dict.fromkeys(nets, math.inf)
    with torch.inference_mode():
        for _ in range(given.rounds + 1):  # the first turn warms up, and cannot be the fastest for long
            for name, net in nets.items():
                best[name] = min(best[name], seconds(net, clip_NTCHW))
    table = Table("flow net", "MACs per frame", "ms per frame", "times faster")
    whole = best["as published"]
    for name, net in nets.items():
        macs, _ = counted(net.to("meta").flows, clip_NTCHW.to("meta"))
        table.add_row(name, f"{macs / 1e9:.2f} G", f"{1000 * best[name]:.0f}", f"{whole / best[name]:.2f}")
    Console().print(table)
    print(f"{torch.get_num_threads()} threads, frames of {given.size[1]}x{given.size[0]}, both directions")


def small_flow(changes: dict[str, Any]) -> Network:
    """The published BasicVSR with one block a branch, its flow net changed; pruned, it loses half of the units."""
    network = build(replace(preset("basicvsr").arguments, blocks=1, **changes))
    layout = network.channel_layout("rsc")
    cut = {group.name: range(group.size // 2) for group in layout.groups if group.part == "flow"}
    return compact(network, PrunePlan.cutting("rsc", layout, cut)).eval()


def seconds(net: Network, clip_NTCHW: torch.Tensor) -> float:
    """The time of the flows of a pair of frames, one each way."""
    start = time.perf_counter()
    net.flows(clip_NTCHW)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
