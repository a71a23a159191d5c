"""BasicVSR's own upsampler (Chan et al., CVPR 2021): a convolution and a pixel shuffle for each factor."""

from __future__ import annotations

from collections.abc import Sequence

from vsrprune.networks.parts.upsamplers.step import RGB, UpsamplingStep


def shuffle_steps(channels: int, last: int, factors: Sequence[int]) -> tuple[UpsamplingStep, ...]:
    """Shuffles to `channels` features, the last of them to `last`, and two convolutions of the output's size."""
    widths = [*[channels] * (len(factors) - 1), last]
    upconvs = (
        UpsamplingStep(f"upconv{index}", widths[index - 1], shuffle=factor) for index, factor in enumerate(factors, 1)
    )
    return (*upconvs, UpsamplingStep("conv_hr", last), UpsamplingStep("conv_last", RGB))
