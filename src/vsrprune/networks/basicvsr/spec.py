"""BasicVSR's arguments and channel groups, without torch: the sweep's parent process reads them too."""

from __future__ import annotations

from dataclasses import dataclass

from vsrprune.channels.layout import ChannelLayout, Slot
from vsrprune.channels.specification import RGB as RGB_SLOT
from vsrprune.channels.specification import Specification
from vsrprune.knobs import knob
from vsrprune.networks.basicvsr.cells.spec import GATE_KERNEL, SHAPES
from vsrprune.networks.parts.argument_checks import (
    BLOCKS,
    WIDTH,
    Enlarging,
    check_flow,
    flow_kernel,
    flow_levels,
    flow_pruned,
    flow_skipped,
    flow_widths,
    slope,
    upsampler_channels,
    upscale_factors,
)
from vsrprune.networks.parts.flow_layout import state_flow
from vsrprune.networks.parts.traits import Reach, pyramid_side
from vsrprune.networks.parts.upsamplers.table import upsample, upsampler

RGB = 3


@dataclass(frozen=True)
class BasicVSRArguments(Enlarging):
    """Everything that shapes a BasicVSR network (Chan et al., CVPR 2021). Defaults are the published network."""

    channels: int = knob(64, "The width of the hidden states.", **WIDTH)
    blocks: int = knob(30, "Residual blocks per branch.", **BLOCKS)
    upsampler_channels: int = upsampler_channels()
    bidirectional: bool = knob(True, "false: the backward branch and the fusion convolution are absent.")
    upscale_factors: tuple[int, ...] = upscale_factors(2, 2)
    slope: float = slope()
    flow_levels: int = flow_levels()
    flow_kernel: int = flow_kernel()
    flow_widths: tuple[int, ...] = flow_widths()
    flow_skipped: int = flow_skipped()
    flow_pruned: bool = flow_pruned()
    cell: str = knob(
        "residual",
        "How a branch makes its state: `residual`, its trunk reads the frame and the last state, as published; `gru`, a"
        " convolutional GRU has the trunk for its candidate; `second_order`, the trunk reads the last two states.",
        choices=tuple(SHAPES),
    )
    upsampler: str = upsampler()

    later = ("flow_skipped", "flow_pruned", "cell", "upsampler")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_flow(self.flow_levels, self.flow_skipped)

    @property
    def branches(self) -> tuple[str, ...]:
        """Propagation branches in the order in which fusion reads them."""
        return ("backward", "forward") if self.bidirectional else ("forward",)

    @property
    def has_flow(self) -> bool:
        """States are warped along the flow of a SPyNet."""
        return True

    @property
    def runs_in_engines(self) -> bool:
        """A step of each branch, and the upsampler."""
        return True

    @property
    def reach(self) -> Reach:
        """All frames before; all after only if there is a backward branch."""
        return (None, None if self.bidirectional else 0)

    @property
    def prunes_flow(self) -> bool:
        """As its argument says."""
        return self.flow_pruned

    @property
    def truncates(self) -> bool:
        """Every branch can."""
        return True

    @property
    def hands_on_state(self) -> bool:
        """The forward branch is carried from frame to frame, whether or not another goes back."""
        return True

    @property
    def smallest_side(self) -> int:
        """What the flow's pyramid asks for."""
        return pyramid_side(self.flow_levels)


def trunk(branch: str) -> str:
    """Name of a branch's module (a plain `forward` would hide the network's own)."""
    return f"{branch}_trunk"


def basicvsr_layout(arguments: BasicVSRArguments, rule: str) -> ChannelLayout:
    """Groups and convolutions of BasicVSR under a residual rule.

    `rsc` (Residual Sparsity Connection, arXiv 2206.07687 section 3.3): the stream keeps all its channels and every
    block chooses inputs, middle and outputs freely. `aligned`: one index set per branch, shared by the first
    convolution, every conv2 and every conv1 input. `inner`: only conv1's filters; the stream is never cut. Gates of a
    GRU are as wide as the stream, whose channels they multiply, and have no scaling factors of their own.
    """
    spec = Specification(rule)
    state_flow(spec, arguments, len(arguments.branches))
    streams = [_branch(spec, arguments, branch) for branch in arguments.branches]
    _upsampler(spec, arguments, streams)
    return spec.layout()


def _branch(spec: Specification, arguments: BasicVSRArguments, branch: str) -> Slot:
    """State one branch; returns the slot of its hidden state."""
    name = trunk(branch)
    stream = spec.stream(name, arguments.channels, part=branch, writers=[f"{name}.first"])
    shape = SHAPES[arguments.cell]
    for gate in shape.gates:
        spec.conv(f"{name}.{gate}", GATE_KERNEL, [RGB_SLOT, stream], stream)
    spec.conv(f"{name}.first", 3, [RGB_SLOT, *[stream] * shape.states], stream)
    for index in range(arguments.blocks):
        spec.block(f"{name}.blocks.{index}", name, part=branch)
    return stream


def _upsampler(spec: Specification, arguments: BasicVSRArguments, streams: list[Slot]) -> None:
    """State fusion and the steps of the upsampler."""
    part, slot = "upsampler", streams[-1]
    if arguments.bidirectional:
        slot = spec.filters("fusion", 1, streams, arguments.channels, part=part, kind="fusion")
    upsample(spec, slot, arguments)
