"""EDVR as a graph."""

from __future__ import annotations

from vsrprune.networks.edvr.network import EDVR
from vsrprune.networks.graph import Division, clip_graph, open_sides


def divide(network: EDVR, frames: int) -> Division:
    """A frame is made from a window of others: the clip alone.

    That every level of the padded frames doubles to the size of the finer one is beyond what torch can prove, so its
    sides are open without a proof; files are verified at sizes that need padding, and that need none.
    """
    return Division(open_sides(clip_graph(network, frames)), {})
