"""What the networks' arguments share, without torch: their fields, and the rules between them."""

from __future__ import annotations

import math
from dataclasses import fields

from vsrprune.errors import UserError
from vsrprune.knobs import Limits, check_knobs, converted, hints, knob
from vsrprune.networks.parts.traits import Traits

# The upper bounds are far above every published network; beyond them a slip of the keyboard would fill the memory.
WIDTH: Limits = {"at_least": 1, "at_most": 4096}
BLOCKS: Limits = {"at_least": 1, "at_most": 500}
WIDEST_SCALE = 16


class Enlarging(Traits):
    """Arguments with `upscale_factors`."""

    upscale_factors: tuple[int, ...]

    def __post_init__(self) -> None:
        """Make lists tuples and check every argument. Raises UserError naming the first wrong one."""
        kinds = hints(type(self))
        for item in fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            # The only way to set a field of a frozen dataclass, here before anybody has seen the instance.
            object.__setattr__(self, item.name, converted(kinds[item.name], getattr(self, item.name)))
        check_knobs(self, "model.")
        if self.scale > WIDEST_SCALE:
            raise UserError(
                f"model.upscale_factors={list(self.upscale_factors)} is scale {self.scale}; at most {WIDEST_SCALE} is"
                " possible"
            )

    @property
    def scale(self) -> int:
        """Side of the output relative to the input."""
        return math.prod(self.upscale_factors)


def upscale_factors(*default: int) -> tuple[int, ...]:
    """The field of the pixel shuffles."""
    return knob(
        default,
        "One pixel shuffle each; their product is the network's scale. None at all: scale 1, for restoration.",
        at_least=2,
        at_most=8,
        form="factors, or none for scale 1",
        lengths=(0, 4),
    )


def slope() -> float:
    """The field of the activations' negative slope."""
    return knob(
        0.1,
        "The negative slope of the activations outside the residual blocks; 0 is ReLU, as in the SSL authors' code.",
        at_least=0,
        below=1,
    )


def upsampler_channels() -> int:
    """The field of the width of the last convolutions."""
    return knob(64, "The width after the last pixel shuffle and of conv_hr.", **WIDTH)


def flow_levels() -> int:
    """The field of the height of SPyNet's pyramid."""
    return knob(6, "The levels of the flow net's pyramid (SPyNet).", at_least=1, at_most=10)


def flow_kernel() -> int:
    """The field of SPyNet's kernel."""
    return knob(7, "The kernel of the flow net's convolutions.", at_least=1, at_most=31, odd=True)


def flow_widths() -> tuple[int, ...]:
    """The field of SPyNet's hidden widths."""
    return knob(
        (32, 64, 32, 16),
        "The hidden widths of every level of the flow net.",
        at_least=1,
        at_most=4096,
        form="one or more widths",
        lengths=(1, 16),
    )


def flow_skipped() -> int:
    """The field of the levels of SPyNet's pyramid that are left out."""
    return knob(
        0,
        "So many of the finest levels of the flow net's pyramid are left out, and the flow is enlarged: each makes it"
        " about four times cheaper.",
        at_least=0,
        at_most=9,
    )


def flow_pruned() -> bool:
    """The field that says whether the flow net loses channels too."""
    return knob(
        False,
        "The flow net's filters are units too, in a part `flow`, and count among the MACs and parameters; add"
        " schedule.finetune.train_flow=true, by which it gets over the cut.",
    )


def check_flow(levels: int, skipped: int) -> None:
    """At least the coarsest level is left. Raises UserError."""
    if skipped >= levels:
        raise UserError(
            f"model.flow_skipped must be smaller than model.flow_levels, {levels}, of which one is left; got {skipped}"
        )


def check_deformable_groups(groups: int, channels: int, words: str) -> None:
    """The channels that a deformable convolution reads must divide into its groups. words: what the channels are."""
    if channels % groups:
        raise UserError(f"model.deformable_groups must divide {words}, {channels}; got {groups}")
