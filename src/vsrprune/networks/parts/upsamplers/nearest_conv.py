"""Resize and convolve (Odena et al., "Deconvolution and Checkerboard Artifacts", 2016): every filter has the same place
in the enlarged pixel.
"""

from __future__ import annotations

from collections.abc import Sequence

from vsrprune.networks.parts.upsamplers.step import RGB, UpsamplingStep


def nearest_conv_steps(channels: int, last: int, factors: Sequence[int]) -> tuple[UpsamplingStep, ...]:
    """As `shuffle_steps`, with repeated pixels before a convolution for each shuffle: as many MACs, fewer weights."""
    widths = [*[channels] * (len(factors) - 1), last]
    upconvs = (
        UpsamplingStep(f"upconv{index}", widths[index - 1], nearest=factor) for index, factor in enumerate(factors, 1)
    )
    return (*upconvs, UpsamplingStep("conv_hr", last), UpsamplingStep("conv_last", RGB))
