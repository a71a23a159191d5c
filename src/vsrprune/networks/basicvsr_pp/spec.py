"""BasicVSR++'s arguments and channel groups, without torch."""

from __future__ import annotations

from dataclasses import dataclass

from vsrprune.channels.layout import ChannelLayout, Slot
from vsrprune.channels.specification import RGB, Specification
from vsrprune.errors import UserError
from vsrprune.knobs import knob
from vsrprune.networks.parts.argument_checks import (
    BLOCKS,
    WIDTH,
    Enlarging,
    check_deformable_groups,
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
from vsrprune.networks.parts.traits import pyramid_side
from vsrprune.networks.parts.upsamplers.table import upsample, upsampler

# Branch -> the direction that it propagates in, in the order in which the branches run and are read.
DIRECTIONS = {"backward_1": "backward", "forward_1": "forward", "backward_2": "backward", "forward_2": "forward"}
OFFSET_CONVS = (0, 2, 4, 6)  # places of the convolutions in an alignment's `conv_offset`; activations lie between


@dataclass(frozen=True)
class BasicVSRPPArguments(Enlarging):
    """Everything that shapes a BasicVSR++ network (Chan et al., CVPR 2022). Defaults are the published network."""

    channels: int = knob(64, "The width of the features of a frame and of every branch's hidden state.", **WIDTH)
    blocks: int = knob(7, "Residual blocks per branch.", **BLOCKS)
    extract_blocks: int = knob(5, "Residual blocks before all branches.", **BLOCKS)
    reconstruction_blocks: int = knob(5, "Residual blocks after all branches.", **BLOCKS)
    upsampler_channels: int = upsampler_channels()
    deformable_groups: int = knob(
        16,
        "Groups of every deformable convolution; half of them read the last hidden state, half the one before.",
        **WIDTH,
    )
    max_residue: float = knob(10.0, "How far offsets may lie from the flow, in pixels.", above=0, words="pixels")
    upscale_factors: tuple[int, ...] = upscale_factors(2, 2)
    slope: float = slope()
    flow_levels: int = flow_levels()
    flow_kernel: int = flow_kernel()
    flow_widths: tuple[int, ...] = flow_widths()
    flow_skipped: int = flow_skipped()
    flow_pruned: bool = flow_pruned()
    upsampler: str = upsampler()

    later = ("flow_skipped", "flow_pruned", "upsampler")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_flow(self.flow_levels, self.flow_skipped)
        if self.deformable_groups % 2:
            raise UserError(f"model.deformable_groups must be even; got {self.deformable_groups}")
        check_deformable_groups(self.deformable_groups, 2 * self.channels, "twice model.channels")

    @property
    def branches(self) -> tuple[str, ...]:
        """Propagation branches in the order in which they run and reconstruction reads them."""
        return tuple(DIRECTIONS)

    @property
    def has_flow(self) -> bool:
        """Alignments start from the flow of a SPyNet."""
        return True

    @property
    def prunes_flow(self) -> bool:
        """As its argument says."""
        return self.flow_pruned

    @property
    def truncates(self) -> bool:
        """Every branch can."""
        return True

    @property
    def smallest_side(self) -> int:
        """What the flow's pyramid asks for."""
        return pyramid_side(self.flow_levels)

    @property
    def directions(self) -> tuple[str, ...]:
        """Directions of the flows; two branches share each."""
        return tuple(dict.fromkeys(DIRECTIONS.values()))


def basicvsr_pp_layout(arguments: BasicVSRPPArguments, rule: str) -> ChannelLayout:
    """Groups and convolutions of BasicVSR++ under a residual rule.

    A branch's hidden state is a stream: its alignment starts it, the blocks of its backbone add to it. Offsets and
    masks themselves are never cut, nor which deformable group a channel belongs to.
    """
    spec, channels = Specification(rule), arguments.channels
    state_flow(spec, arguments, len(arguments.directions))
    features = _state_trunk(spec, "feat_extract", "features", channels, arguments.extract_blocks, [RGB])
    read = [features]
    for branch in arguments.branches:
        read.append(_state_branch(spec, arguments, branch, read))
    fused = _state_trunk(spec, "reconstruction", "reconstruction", channels, arguments.reconstruction_blocks, read)
    upsample(spec, fused, arguments)
    return spec.layout()


def _state_trunk(
    spec: Specification,
    name: str,
    part: str,
    channels: int,
    blocks: int,
    inputs: list[Slot],
    writers: tuple[str, ...] = (),
) -> Slot:
    """State a convolution and residual blocks; returns the slot of the stream. writers: who else starts it."""
    stream = spec.stream(name, channels, part=part, writers=[*writers, f"{name}.first"])
    spec.conv(f"{name}.first", 3, [*inputs, *([stream] if writers else [])], stream)
    for block in range(blocks):
        spec.block(f"{name}.blocks.{block}", name, part=part)
    return stream


def _state_branch(spec: Specification, arguments: BasicVSRPPArguments, branch: str, read: list[Slot]) -> Slot:
    """State a branch, which reads a frame's features and the branches before it; returns the slot of its state."""
    align, channels = f"deform_align.{branch}", arguments.channels
    trunk = f"backbone.{branch}"
    stream = _state_trunk(spec, trunk, branch, channels, arguments.blocks, read, writers=(f"{align}.deform",))
    guide = [stream, read[0], stream, Slot(2 * 2)]
    for place in OFFSET_CONVS[:-1]:
        slot = spec.filters(f"{align}.conv_offset.{place}", 3, guide, channels, part=branch, kind="offset")
        guide = [slot]
    spec.conv(f"{align}.conv_offset.{OFFSET_CONVS[-1]}", 3, guide, Slot(3 * arguments.deformable_groups * 3**2))
    spec.conv(f"{align}.deform", 3, [stream, stream], stream)
    return stream
