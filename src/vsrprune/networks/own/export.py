"""A network of one's own as a graph."""

from __future__ import annotations

from vsrprune.networks.graph import Division, clip_graph, open_sides
from vsrprune.networks.own.own import OwnNetwork


def divide(network: OwnNetwork, frames: int) -> Division:
    """A clip of so many frames alone: how its work divides into steps is not declared."""
    return Division(open_sides(clip_graph(network, frames)), {})
