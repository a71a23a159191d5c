from __future__ import annotations

import itertools

import torch

from benchmarks.flow_net import ROWS, small_flow
from vsrprune.metrics.cost import counted


def test_rows_are_the_published_flow_net_and_what_is_left_of_it() -> None:
    """SPyNet's level: 7x7 kernels, from 8 channels by 32, 64, 32 and 16 to 2; six levels, two directions."""
    frames = torch.empty(1, 2, 3, 64, 96, device="meta")
    widths = (8, 32, 64, 32, 16, 2)
    halved = (8, 16, 32, 16, 8, 2)
    per_pixel = [sum(49 * one * other for one, other in itertools.pairwise(row)) for row in (widths, halved)]

    def macs(per_pixel: int, skipped: int) -> float:
        return 2 * per_pixel * 64 * 96 * sum(4.0**-place for place in range(skipped, 6))

    assert {name: counted(small_flow(changes).to("meta").flows, frames)[0] for name, changes in ROWS.items()} == {
        "as published": macs(per_pixel[0], 0),
        "flow_skipped=1": macs(per_pixel[0], 1),
        "flow_skipped=2": macs(per_pixel[0], 2),
        "half of its units": macs(per_pixel[1], 0),
        "both, flow_skipped=1": macs(per_pixel[1], 1),
    }
