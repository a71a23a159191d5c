"""What a score of the user's own must return."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vsrprune.channels.layout import ChannelLayout
from vsrprune.errors import UserError
from vsrprune.selection.scores import Scores


def checked(found: Any, layout: ChannelLayout) -> Scores:
    """The scores that a function returned: {group: one number per unit}, finite and not negative.

    Raises UserError, one line, otherwise.
    """
    scores = checked_shapes(found, layout)
    for name, values in scores.items():
        if not np.isfinite(values).all():
            raise UserError(f"the scores of {name} must be finite; got {values[~np.isfinite(values)][0]:g}")
        if values.min() < 0:
            raise UserError(f"the scores of {name} must not be negative; got {values.min():g}")
    return scores


def checked_shapes(found: Any, layout: ChannelLayout) -> Scores:
    """As `checked`, whatever the numbers are."""
    if not isinstance(found, dict):
        raise UserError(f"it must return a dict of the scores of every group; got {type(found).__name__}")
    names = [group.name for group in layout.groups]
    missing, unknown = [name for name in names if name not in found], [name for name in found if name not in names]
    if missing or unknown:
        what = f"lacks {missing[0]!r}" if missing else f"has {unknown[0]!r}, which is no group"
        raise UserError(f"what it returns {what}; layout.groups names the {len(names)} groups")
    return {group.name: _values(group.name, group.size, found[group.name]) for group in layout.groups}


def _values(name: str, size: int, given: Any) -> NDArray[np.float64]:
    values = given.detach().cpu().double().numpy() if isinstance(given, torch.Tensor) else given
    try:
        # NumPy would drop the imaginary part with a warning; so would `double` above.
        if np.iscomplexobj(given) or (isinstance(given, torch.Tensor) and given.is_complex()):
            raise TypeError("complex numbers have no order")
        scores = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"the scores of {name} must be {size} numbers; got {type(given).__name__}") from error
    if scores.shape != (size,):
        raise UserError(f"the scores of {name} must be {size} numbers, one for each unit; got shape {scores.shape}")
    return scores
