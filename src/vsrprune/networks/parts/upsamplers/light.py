"""The pixel shuffles with depthwise-separable convolutions (Howard et al., MobileNets, 2017) in place of full ones."""

from __future__ import annotations

from collections.abc import Sequence

from vsrprune.networks.parts.upsamplers.step import RGB, UpsamplingStep


def light_steps(channels: int, last: int, factors: Sequence[int]) -> tuple[UpsamplingStep, ...]:
    """As `shuffle_steps`: before every convolution a depthwise one, so that it needs no neighbours itself."""
    steps: list[UpsamplingStep] = []
    width, widths = channels, [*[channels] * (len(factors) - 1), last]
    for index, factor in enumerate(factors, start=1):
        steps += [
            UpsamplingStep(f"upconv{index}_depthwise", width, depthwise=True),
            UpsamplingStep(f"upconv{index}", widths[index - 1], kernel=1, shuffle=factor),
        ]
        width = widths[index - 1]
    high = (UpsamplingStep("conv_hr_depthwise", width, depthwise=True), UpsamplingStep("conv_hr", last, kernel=1))
    return (*steps, *high, UpsamplingStep("conv_last", RGB))
