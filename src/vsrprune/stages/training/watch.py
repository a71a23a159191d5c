"""Remembers the first loss that was not finite, without making the host wait for a card at every step."""

from __future__ import annotations

import torch
from torch import Tensor, distributed

READ_EVERY = 10  # steps


def steps_between_reads(device: torch.device) -> int:
    """After how many steps to look at what lies on the device.

    On a card a look makes the host wait for all that was launched, and the card for the host after it; on a CPU it is
    free.
    """
    return 1 if device.type == "cpu" else READ_EVERY


class LossWatch:
    """The first step whose loss was not finite, and its terms; both stay on the losses' device until they are read.

    `found` is a float32 scalar on the device, 1 from that step on and 0 before, on all ranks alike. A fused optimiser
    that has it as `found_inf` leaves the weights alone while it is 1, as it does for GradScaler.
    """

    def __init__(self, device: torch.device) -> None:
        self.found = torch.zeros((), device=device)
        self._step = torch.full((), -1, device=device)
        self._terms: Tensor | None = None

    def see(self, step: int, terms: Tensor) -> None:
        """Look at the terms (n,) of a step's loss, which is their sum. Launches work and waits for nothing."""
        terms = terms.detach()
        bad = ~torch.isfinite(terms.sum())
        first = bad & (self._step < 0)
        self._step.masked_fill_(first, step)
        self._terms = terms.clone() if self._terms is None else torch.where(first, terms, self._terms)
        self.found.masked_fill_(bad, 1.0)
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(self.found, distributed.ReduceOp.MAX)  # the others get its gradients

    def first_bad(self) -> tuple[int, list[float]] | None:
        """The step and its terms, or None if every loss of this rank was finite; waits for the device."""
        step = int(self._step)
        return None if step < 0 or self._terms is None else (step, self._terms.tolist())
