"""What the networks' arguments share, without torch. Each check raises UserError naming the option and its value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from vsrprune.errors import UserError
from vsrprune.networks.parts.traits import Traits


class Enlarging(Traits):
    """Arguments with `upscale_factors`."""

    upscale_factors: tuple[int, ...]

    @property
    def scale(self) -> int:
        """Side of the output relative to the input."""
        return math.prod(self.upscale_factors)


def check_counts(arguments: Any, *names: str) -> None:
    """Every named argument must be at least 1."""
    for name in names:
        if getattr(arguments, name) < 1:
            raise UserError(f"model.{name} must be at least 1; got {getattr(arguments, name)}")


def check_upscale_factors(factors: Sequence[int]) -> None:
    """One pixel shuffle each; none at all keeps the size of the input."""
    if any(factor < 2 for factor in factors):
        raise UserError(f"model.upscale_factors must be factors >= 2, or none for scale 1; got {factors}")


def check_slope(slope: float) -> None:
    """A negative slope of an activation: in [0, 1)."""
    if not 0 <= slope < 1:
        raise UserError(f"model.slope must be in [0, 1); got {slope}")


def check_flow_net(kernel: int, widths: Sequence[int]) -> None:
    """A SPyNet needs an odd kernel and hidden widths."""
    if kernel % 2 == 0:
        raise UserError(f"model.flow_kernel must be odd; got {kernel}")
    if not widths or min(widths) < 1:
        raise UserError(f"model.flow_widths must be one or more widths >= 1; got {widths}")


def check_deformable_groups(groups: int, channels: int, words: str) -> None:
    """The channels that a deformable convolution reads must divide into its groups. words: what the channels are."""
    if channels % groups:
        raise UserError(f"model.deformable_groups must divide {words}, {channels}; got {groups}")
