"""Prune a network of one's own: `docs/own_network.md` shows how."""

from vsrprune.library.declaration import Declaration
from vsrprune.library.own import OwnNetwork
from vsrprune.models.network import VSROutput

__all__ = ["Declaration", "OwnNetwork", "VSROutput"]
