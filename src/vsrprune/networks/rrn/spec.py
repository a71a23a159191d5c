"""RRN's arguments and channel groups, without torch."""

from __future__ import annotations

from dataclasses import dataclass

from vsrprune.channels.layout import ChannelLayout, Slot
from vsrprune.channels.specification import Specification
from vsrprune.knobs import knob
from vsrprune.networks.parts.argument_checks import (
    BLOCKS,
    WIDTH,
    Enlarging,
    upscale_factors,
)
from vsrprune.networks.parts.traits import Reach

RGB = 3
FRAMES_READ = 2  # the present one and the one before


@dataclass(frozen=True)
class RRNArguments(Enlarging):
    """Everything that shapes an RRN (Isobe et al., "Revisiting Temporal Modeling", 2020). Defaults are RRN-L.

    The scale is reached by one pixel shuffle, whatever its factors.
    """

    channels: int = knob(128, "The width of the hidden state and of the trunk.", **WIDTH)
    blocks: int = knob(10, "Residual blocks: 5 in RRN-S, 10 in RRN-L.", **BLOCKS)
    upscale_factors: tuple[int, ...] = upscale_factors(4)

    @property
    def detail_channels(self) -> int:
        """Channels of an output frame at the input's size."""
        return RGB * self.scale**2

    @property
    def branches(self) -> tuple[str, ...]:
        """The hidden state goes forward alone."""
        return ("forward",)

    @property
    def runs_in_engines(self) -> bool:
        """A step."""
        return True

    @property
    def reach(self) -> Reach:
        """All frames before; nothing looks ahead."""
        return (None, 0)

    @property
    def truncates(self) -> bool:
        """Hidden state and output."""
        return True

    @property
    def hands_on_state(self) -> bool:
        """A step hands on the hidden state and the output."""
        return True


def rrn_layout(arguments: RRNArguments, rule: str) -> ChannelLayout:
    """Groups and convolutions of RRN under a residual rule.

    The trunk is a stream. The hidden state is what `conv_h` makes of it: filters of its own, which only the first
    convolution reads, so they are cut under every rule. The output before a pixel shuffle is never cut: its channels
    are pixels.
    """
    spec, channels, part = Specification(rule), arguments.channels, "forward"
    detail = Slot(arguments.detail_channels)
    stream = spec.stream("trunk", channels, part=part, writers=["conv_1"])
    hidden = spec.group(["conv_h"], channels, part=part, kind="hidden")
    spec.conv("conv_1", 3, [Slot(FRAMES_READ * RGB), hidden, detail], stream)
    for block in range(arguments.blocks):
        spec.block(f"recon_trunk.{block}", "trunk", part=part)
    spec.conv("conv_h", 3, [stream], hidden)
    spec.conv("conv_o", 3, [stream], detail)
    return spec.layout()
