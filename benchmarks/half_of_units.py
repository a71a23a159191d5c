"""What half of the units of the published network cost, beside what the paper states for it (arXiv 2206.07687).

    python benchmarks/half_of_units.py [--ratio 0.5]

A share of units is not a share of MACs: it depends on how many of the units lie in the trunk and how many in the
upsampler, so on the ranking. Rows: every layer loses the same share (`local`); one ranking over all layers, of scores
that say nothing of the layer (`random`, so nearly the same) and of mean weights as they are initialised (`l1`, which
compares layers by the width of what they read). The last row is what the paper's two figures leave: the shares of
trunk and upsampler that give both its MACs and its parameters.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from vsrprune.channels.layout import ChannelLayout
from vsrprune.channels.plan import PrunePlan
from vsrprune.cli import preset
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.pruning.scores.table import score_units
from vsrprune.selection.asked import Asked
from vsrprune.selection.units import select

PIXELS = 180 * 320
RANKINGS = (("local", "l1"), ("global", "random"), ("global", "l1"))


class Size(NamedTuple):
    """MACs of a 320x180 frame and parameters, flow net left out."""

    macs: float
    parameters: float


PUBLISHED = Size(92.1e9, 1.0e6)  # "SSL-bi": MACs from the paper; parameters, to one digit, from QBasicVSR's table 1


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ratio", type=float, default=0.5, help="the share of the units that is cut")
    ratio = parser.parse_args().ratio
    torch.manual_seed(0)
    network = BasicVSR(preset("basicvsr").arguments)
    table = Table("rule", "scope", "score", "MACs", "params", "trunk kept", "upsampler kept")
    for rule in ("rsc", "aligned", "inner"):
        layout = network.channel_layout(rule)
        dense = sizes(layout, PrunePlan.keep_all(rule, layout))
        for scope, score in RANKINGS:
            kept = sizes(
                layout, select(layout, score_units(network, layout, score, 0), Asked(rule, ratio, scope=scope))
            )
            table.add_row(rule, scope, score, *row(kept, dense))
    table.add_row("published", "", "", *row(solved(PUBLISHED, dense), dense))
    Console().print(table)


def sizes(layout: ChannelLayout, plan: PrunePlan) -> tuple[Size, Size]:
    """Trunk and upsampler."""
    halves = []
    for in_trunk in (True, False):
        convs = tuple(conv for conv in layout.convs if ("_trunk." in conv.name) == in_trunk)
        half = replace(layout, convs=convs)
        halves.append(Size(PIXELS * half.macs_per_pixel(plan.kept_counts), half.parameters(plan.kept_counts)))
    return halves[0], halves[1]


def solved(whole: Size, dense: tuple[Size, Size]) -> tuple[Size, Size]:
    """Trunk and upsampler that have these MACs and parameters, each cut alike in both."""
    halves = np.array(dense)  # a row per half
    shares = np.linalg.solve(halves.T, np.array(whole))
    trunk, upsampler = halves * shares[:, None]
    return Size(*trunk), Size(*upsampler)


def row(kept: tuple[Size, Size], dense: tuple[Size, Size]) -> list[str]:
    """MACs, parameters, and the share of the MACs that each half keeps."""
    macs, parameters = (sum(values) for values in zip(*kept, strict=True))
    shares = [f"{100 * half.macs / whole.macs:.1f}%" for half, whole in zip(kept, dense, strict=True)]
    return [f"{macs / 1e9:.1f} G", f"{parameters / 1e6:.2f} M", *shares]


if __name__ == "__main__":
    main()
