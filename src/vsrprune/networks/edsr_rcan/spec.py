"""EDSR's and RCAN's arguments and channel groups, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vsrprune.channels.layout import ChannelLayout, Slot
from vsrprune.channels.specification import RGB, Specification
from vsrprune.errors import UserError
from vsrprune.knobs import knob
from vsrprune.networks.parts.argument_checks import (
    BLOCKS,
    WIDTH,
    Enlarging,
    upscale_factors,
)
from vsrprune.networks.parts.traits import Reach


@dataclass(frozen=True)
class EDSRArguments(Enlarging):
    """Everything that shapes an EDSR network (Lim et al., CVPRW 2017). Defaults are the published baseline."""

    channels: int = knob(64, "The width of the trunk: 256 in the large network.", **WIDTH)
    blocks: int = knob(16, "Residual blocks: 32 in the large network.", **BLOCKS)
    residual_scale: float = knob(
        1.0,
        "What a block's update is multiplied by before it is added: 0.1 in the large network.",
        above=0,
        at_most=1,
    )
    upscale_factors: tuple[int, ...] = upscale_factors(2, 2)

    @property
    def runs_in_engines(self) -> bool:
        """Every frame stands alone."""
        return True

    @property
    def reach(self) -> Reach:
        """Frames are restored one by one."""
        return (0, 0)


@dataclass(frozen=True)
class RCANArguments(Enlarging):
    """Everything that shapes an RCAN network (Zhang et al., ECCV 2018). Defaults are the published network."""

    channels: int = knob(64, "The width of the trunk.", **WIDTH)
    groups: int = knob(10, "Residual groups.", at_least=1, at_most=50)
    blocks: int = knob(20, "Residual blocks in each group.", **BLOCKS)
    reduction: int = knob(16, "The attention of a block squeezes its channels to one in so many.", **WIDTH)
    upscale_factors: tuple[int, ...] = upscale_factors(2, 2)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reduction > self.channels:
            raise UserError(f"model.reduction must be at most model.channels, {self.channels}; got {self.reduction}")

    @property
    def runs_in_engines(self) -> bool:
        """Every frame stands alone."""
        return True

    @property
    def reach(self) -> Reach:
        """Frames are restored one by one."""
        return (0, 0)

    @property
    def squeezed(self) -> int:
        """Channels between the two convolutions of an attention."""
        return self.channels // self.reduction


def edsr_layout(arguments: EDSRArguments, rule: str) -> ChannelLayout:
    """Groups and convolutions of EDSR under a residual rule. The whole trunk is one stream."""
    spec, stream = _started(arguments.channels, rule)
    for block in range(arguments.blocks):
        spec.block(f"body.{block}", "body", part="trunk")
    _ended(spec, stream, arguments.channels, arguments.upscale_factors)
    return spec.layout()


def rcan_layout(arguments: RCANArguments, rule: str) -> ChannelLayout:
    """Groups and convolutions of RCAN under a residual rule.

    The whole trunk is one stream: groups start from it and add to it. An attention multiplies the channels of its
    block's update, so its last convolution loses the filters of the channels that the update loses.
    """
    spec, stream = _started(arguments.channels, rule)
    for group in range(arguments.groups):
        for index in range(arguments.blocks):
            name = f"body.{group}.blocks.{index}"
            added = spec.block(name, "body", part="trunk")
            update = Slot(added.size, added.group)
            # The scale is 0, since an attention works on one mean per channel: its MACs do not grow with the frame.
            squeezed = spec.filters(
                f"{name}.squeeze",
                1,
                [update],
                arguments.squeezed,
                part="trunk",
                kind="attention",
                scale=0,
                block=name,
            )
            spec.conv(f"{name}.excite", 1, [squeezed], update, scale=0)
        conv = f"body.{group}.conv"
        spec.conv(conv, 3, [stream], spec.add(conv, "body", part="trunk"))
    _ended(spec, stream, arguments.channels, arguments.upscale_factors)
    return spec.layout()


def _started(channels: int, rule: str) -> tuple[Specification, Slot]:
    spec = Specification(rule)
    stream = spec.stream("body", channels, part="trunk", writers=["conv_first"])
    spec.conv("conv_first", 3, [RGB], stream)
    return spec, stream


def _ended(spec: Specification, stream: Slot, channels: int, factors: Sequence[int]) -> None:
    """State the convolution after the body, the pixel shuffles and the last convolution."""
    after = "conv_after_body"
    spec.conv(after, 3, [stream], spec.add(after, "body", part="trunk"))
    slot, scale = stream, 1
    for index, factor in enumerate(factors, start=1):
        slot = spec.filters(
            f"upconv{index}",
            3,
            [slot],
            channels,
            part="upsampler",
            kind="shuffle",
            scale=scale,
            filters_per_unit=factor**2,
        )
        scale *= factor
    spec.conv("conv_last", 3, [slot], RGB, scale=scale)
