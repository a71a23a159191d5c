"""Remembers the first loss that was not finite, without making the host wait for a card at every step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

READ_EVERY = 10  # steps


def steps_between_reads(device: torch.device) -> int:
    """After how many steps to look at what lies on the device.

    On a card a look makes the host wait for all that was launched, and the card for the host after it; on a CPU it is
    free.
    """
    return 1 if device.type == "cpu" else READ_EVERY


class LossWatch:
    """The first step whose loss was not finite, and its terms; both stay on the losses' device until they are read."""

    def __init__(self) -> None:
        self._step: Tensor | None = None  # int64 scalar, -1 while all losses were finite
        self._terms: Tensor | None = None

    def see(self, step: int, terms: Tensor) -> None:
        """Look at the terms (n,) of a step's loss, which is their sum. Launches work and waits for nothing."""
        terms = terms.detach()
        if self._step is None or self._terms is None:
            self._step = torch.full((), -1, device=terms.device)
            self._terms = torch.zeros_like(terms)
        first = ~torch.isfinite(terms.sum()) & (self._step < 0)
        self._step.masked_fill_(first, step)
        self._terms = torch.where(first, terms, self._terms)

    def first_bad(self) -> tuple[int, Sequence[float]] | None:
        """The step and its terms, or None if every loss was finite; waits for the device."""
        if self._step is None or self._terms is None or (step := int(self._step)) < 0:
            return None
        return step, self._terms.tolist()
