"""Prune a network of one's own: `docs/networks.md` shows how."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vsrprune.networks.own import sources

if TYPE_CHECKING:
    from vsrprune.networks.network import VSROutput
    from vsrprune.networks.own.declaration import Declaration
    from vsrprune.networks.own.own import OwnNetwork

__all__ = ["Declaration", "OwnNetwork", "VSROutput"]

_PLACES = {"VSROutput": "network", "Declaration": "own.declaration", "OwnNetwork": "own.own"}

sources.install()  # before anything of a user's file is unpickled by its module's name, as ranks of a training do


def __getattr__(name: str) -> Any:
    """The names above, imported when they are asked for: a sweep's parent reads this folder without torch."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"vsrprune.networks.{_PLACES[name]}"), name)
