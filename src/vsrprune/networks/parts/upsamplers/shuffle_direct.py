"""ESPCN's end (Shi et al., CVPR 2016): all work at the input's size, and one pixel shuffle straight to the frame."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vsrprune.networks.parts.upsamplers.step import RGB, UpsamplingStep


def shuffle_direct_steps(channels: int, last: int, factors: Sequence[int]) -> tuple[UpsamplingStep, ...]:
    """A convolution to `last` features, and one to the frame's pixels, whatever the factors are made of."""
    return UpsamplingStep("conv_low", last), UpsamplingStep("conv_last", RGB, shuffle=math.prod(factors))
