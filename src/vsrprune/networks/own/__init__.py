"""Prune a network of one's own: `docs/own_network.md` shows how."""

from vsrprune.networks.network import VSROutput
from vsrprune.networks.own.declaration import Declaration
from vsrprune.networks.own.own import OwnNetwork

__all__ = ["Declaration", "OwnNetwork", "VSROutput"]
