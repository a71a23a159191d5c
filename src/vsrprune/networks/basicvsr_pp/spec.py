"""BasicVSR++'s arguments and channel groups, without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vsrprune.channels.layout import ChannelLayout, Slot
from vsrprune.channels.specification import RGB, Specification
from vsrprune.errors import UserError
from vsrprune.networks.basicvsr.spec import upsample
from vsrprune.networks.parts.argument_checks import (
    Enlarging,
    check_counts,
    check_deformable_groups,
    check_flow_net,
    check_slope,
    check_upscale_factors,
)
from vsrprune.networks.parts.traits import pyramid_side

# Branch -> the direction that it propagates in, in the order in which the branches run and are read.
DIRECTIONS = {"backward_1": "backward", "forward_1": "forward", "backward_2": "backward", "forward_2": "forward"}
OFFSET_CONVS = (0, 2, 4, 6)  # places of the convolutions in an alignment's `conv_offset`; activations lie between


@dataclass(frozen=True)
class BasicVSRPPArguments(Enlarging):
    """Everything that shapes a BasicVSR++ network (Chan et al., CVPR 2022). Defaults are the published network.

    channels: width of the features of a frame and of every branch's hidden state.
    blocks, extract_blocks, reconstruction_blocks: residual blocks per branch, before all branches, after them.
    upsampler_channels: width after the last pixel shuffle and of conv_hr.
    deformable_groups: of an alignment; half of them read the last hidden state, half the one before.
    max_residue: how far offsets may lie from the flow, in pixels.
    upscale_factors: one pixel shuffle each; their product is the network's scale. None keeps the size of the input.
    slope: negative slope of the activations outside the residual blocks.
    flow_levels, flow_kernel, flow_widths: the SPyNet pyramid and the hidden widths of its levels.
    """

    channels: int = 64
    blocks: int = 7
    extract_blocks: int = 5
    reconstruction_blocks: int = 5
    upsampler_channels: int = 64
    deformable_groups: int = 16
    max_residue: float = 10.0
    upscale_factors: tuple[int, ...] = (2, 2)
    slope: float = 0.1
    flow_levels: int = 6
    flow_kernel: int = 7
    flow_widths: tuple[int, ...] = (32, 64, 32, 16)

    def __post_init__(self) -> None:
        object.__setattr__(self, "upscale_factors", tuple(self.upscale_factors))
        object.__setattr__(self, "flow_widths", tuple(self.flow_widths))
        check_counts(self, "channels", "blocks", "extract_blocks", "reconstruction_blocks", "upsampler_channels")
        check_counts(self, "deformable_groups", "flow_levels", "flow_kernel")
        check_flow_net(self.flow_kernel, self.flow_widths)
        check_upscale_factors(self.upscale_factors)
        check_slope(self.slope)
        if self.deformable_groups % 2:
            raise UserError(f"model.deformable_groups must be even; got {self.deformable_groups}")
        check_deformable_groups(self.deformable_groups, 2 * self.channels, "twice model.channels")
        if not 0 < self.max_residue < math.inf:
            raise UserError(f"model.max_residue must be a positive number of pixels; got {self.max_residue}")

    @property
    def branches(self) -> tuple[str, ...]:
        """Propagation branches in the order in which they run and reconstruction reads them."""
        return tuple(DIRECTIONS)

    @property
    def has_flow(self) -> bool:
        """Alignments start from the flow of a SPyNet."""
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
    features = _state_trunk(spec, "feat_extract", "features", channels, arguments.extract_blocks, [RGB])
    read = [features]
    for branch in arguments.branches:
        read.append(_state_branch(spec, arguments, branch, read))
    fused = _state_trunk(spec, "reconstruction", "reconstruction", channels, arguments.reconstruction_blocks, read)
    upsample(spec, fused, channels, arguments.upsampler_channels, arguments.upscale_factors)
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
