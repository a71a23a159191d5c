"""Times on the card: networks, training steps, upscaling; from the benchmarks that anybody can run alone."""

from __future__ import annotations

from benchmarks.card.runner import Check, Found


def latency(check: Check, found: Found) -> None:
    """Dense against pruned."""


def training(check: Check, found: Found) -> None:
    """A step of each kind."""


def upscaling(check: Check, found: Found) -> None:
    """Frames per second."""
