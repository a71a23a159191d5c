"""RRN's arguments and channel groups, without torch."""

from __future__ import annotations

from dataclasses import dataclass

from vsrprune.channels.layout import ChannelLayout, Slot
from vsrprune.channels.specification import Specification
from vsrprune.networks.parts.argument_checks import Enlarging, check_counts, check_upscale_factors
from vsrprune.networks.parts.traits import Reach

RGB = 3
FRAMES_READ = 2  # the present one and the one before


@dataclass(frozen=True)
class RRNArguments(Enlarging):
    """Everything that shapes an RRN (Isobe et al., "Revisiting Temporal Modeling", 2020). Defaults: RRN-L.

    channels, blocks: width of hidden state and trunk, and residual blocks (5 in RRN-S, 10 in RRN-L).
    upscale_factors: their product is the network's scale, reached by one pixel shuffle. None keeps the input's size.
    """

    channels: int = 128
    blocks: int = 10
    upscale_factors: tuple[int, ...] = (4,)

    def __post_init__(self) -> None:
        object.__setattr__(self, "upscale_factors", tuple(self.upscale_factors))
        check_counts(self, "channels", "blocks")
        check_upscale_factors(self.upscale_factors)

    @property
    def detail_channels(self) -> int:
        """Channels of an output frame at the input's size."""
        return RGB * self.scale**2

    @property
    def branches(self) -> tuple[str, ...]:
        """The hidden state goes forward alone."""
        return ("forward",)

    @property
    def reach(self) -> Reach:
        """All frames before; nothing looks ahead."""
        return (None, 0)

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
