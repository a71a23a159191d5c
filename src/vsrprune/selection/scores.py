"""Scores without torch: what they are, which there are, and what each is computed from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Scores = Mapping[str, NDArray[np.float64]]  # the importance of every unit, by group: finite, not negative

RANDOM = "random"
OF_WEIGHTS = ("l1", "l1_first", "l2", "gate", "fpgm", "lamp", RANDOM)  # the last of nothing at all
OF_BATCHES = ("taylor", "fisher", "activation")
OF_OUTPUTS = ("taylor", "activation")  # of these, the ones that can do without the truth
# In units of the loss, so that sums over layers compare. By the triangle inequality a sum of taylor's is not below what
# the loss changes by to first order; a sum of fisher's is the rise where units cancel out on average.
ADDITIVE = ("taylor", "fisher")
NAMES = (*OF_WEIGHTS[:-1], *OF_BATCHES, RANDOM)


def is_own(score: str) -> bool:
    """Whether a score is a function of the user's own, FILE.py:FUNCTION."""
    file, colon, function = score.rpartition(":")
    return bool(colon) and file.endswith(".py") and function.isidentifier()


def adds_up(score: str) -> bool:
    """Whether sums of a score over units of any layers compare; of a function of the user's own that is believed."""
    return score in ADDITIVE or is_own(score)


def reads_batches(score: str, batches: int) -> bool:
    """Whether a score is computed from training data, where so many batches are drawn for it."""
    return score in OF_BATCHES or (is_own(score) and batches > 0)
