"""Which convolutions stay in 32 bits: as few as it takes, the most sensitive first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


def most_sensitive(errors: Mapping[T, float]) -> list[T]:
    """By the error that each makes alone, the largest first; equal ones in their order."""
    return sorted(errors, key=lambda item: -errors[item])


def fewest(order: Sequence[T], loss: Callable[[Sequence[T]], float], largest: float) -> tuple[list[T], float]:
    """The shortest beginning of `order` that leaves a loss of at most `largest`, and that loss.

    Found by halving, which takes for granted that the loss falls with each more; that it is small enough at the
    beginning that is returned was measured there. All of `order` is returned where nothing shorter will do.
    """
    low, high, found = 0, len(order), {}
    while low < high:
        middle = (low + high) // 2
        found[middle] = loss(order[:middle])
        low, high = (low, middle) if found[middle] <= largest else (middle + 1, high)
    return list(order[:low]), found[low] if low in found else loss(order[:low])
