"""Every upsampler by its name, and what its steps are to channels. No torch: a sweep's parent reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from vsrprune.channels.layout import Slot
from vsrprune.channels.specification import RGB, Specification
from vsrprune.knobs import knob
from vsrprune.networks.parts.published import PublishedNames
from vsrprune.networks.parts.upsamplers.light import light_steps
from vsrprune.networks.parts.upsamplers.nearest_conv import nearest_conv_steps
from vsrprune.networks.parts.upsamplers.shuffle import shuffle_steps
from vsrprune.networks.parts.upsamplers.shuffle_direct import shuffle_direct_steps
from vsrprune.networks.parts.upsamplers.step import UpsamplingStep

# By name what makes the steps from the width of the features, `upsampler_channels` and the factors.
UPSAMPLERS: dict[str, Callable[[int, int, Sequence[int]], tuple[UpsamplingStep, ...]]] = {
    "shuffle": shuffle_steps,
    "shuffle_direct": shuffle_direct_steps,
    "nearest_conv": nearest_conv_steps,
    "light": light_steps,
}
PUBLISHED = "shuffle"


def upsampler() -> str:
    """The field of the upsampler."""
    return knob(
        PUBLISHED,
        "How features become a frame: `shuffle`, a convolution and a pixel shuffle for each factor, as published;"
        " `shuffle_direct`, one pixel shuffle by the whole scale; `nearest_conv`, repeated pixels and a convolution for"
        " each factor; `light`, as shuffle, of depthwise-separable convolutions.",
        choices=tuple(UPSAMPLERS),
    )


def upsampler_steps(arguments: Any) -> tuple[UpsamplingStep, ...]:
    """The steps of a network's upsampler, from its arguments."""
    make = UPSAMPLERS[arguments.upsampler]
    return make(arguments.channels, arguments.upsampler_channels, arguments.upscale_factors)


def upsample(spec: Specification, slot: Slot, arguments: Any) -> None:
    """State the convolutions from the features in `slot` to the frame."""
    *steps, last = upsampler_steps(arguments)
    scale = 1
    for step in steps:
        scale *= step.nearest
        if step.depthwise:
            slot = spec.depthwise(step.name, step.kernel, slot, scale=scale)
        else:
            slot = spec.filters(
                step.name,
                step.kernel,
                [slot],
                step.width,
                part="upsampler",
                kind="shuffle" if step.shuffle > 1 else "reconstruction",
                scale=scale,
                filters_per_unit=step.shuffle**2,
            )
        scale *= step.shuffle
    # Its channels are pixels, which are never cut.
    spec.conv(last.name, last.kernel, [slot], RGB, scale=scale * last.nearest, filters_per_unit=last.shuffle**2)


def of_published_upsampler(names: Mapping[str, PublishedNames], arguments: Any) -> dict[str, PublishedNames]:
    """The names of published weights; refused where the network has another upsampler than published ones."""
    if arguments.upsampler == PUBLISHED:
        return dict(names)
    words = (
        f"published weights are of model.upsampler={PUBLISHED}, and model.upsampler is {arguments.upsampler}; leave out"
        " one of them"
    )
    return {project: replace(known, refusal=words) for project, known in names.items()}
