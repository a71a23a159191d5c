"""EDSR and RCAN as graphs."""

from __future__ import annotations

from vsrprune.networks.edsr_rcan.network import ImageNetwork
from vsrprune.networks.graph import ANY_LENGTH, Division, clip_graph


def divide(network: ImageNetwork, frames: int) -> Division:
    """Frames are a batch: one graph serves every length."""
    return Division(clip_graph(network, ANY_LENGTH), {})
