"""BasicVSR's arguments and channel groups, without torch: the sweep's parent process reads them too."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vsrprune.channels import ChannelGroup, ChannelLayout, ConvLayer, Gate, Side, Slot
from vsrprune.errors import UserError, one_of

RGB = 3


@dataclass(frozen=True)
class BasicVSRArguments:
    """Everything that shapes a BasicVSR network (Chan et al., CVPR 2021). Defaults are the published network.

    channels, blocks: width of the hidden state, residual blocks per branch.
    upsampler_channels: width after the last pixel shuffle and of conv_hr.
    bidirectional: with False the backward branch and the fusion convolution are absent.
    upscale_factors: one pixel shuffle each; their product is the network's scale. None: scale 1, for restoration.
    slope: negative slope of the activations outside the residual blocks; 0 is ReLU, as in the SSL authors' code.
    flow_levels, flow_kernel, flow_widths: the SPyNet pyramid and the hidden widths of its levels.
    """

    channels: int = 64
    blocks: int = 30
    upsampler_channels: int = 64
    bidirectional: bool = True
    upscale_factors: tuple[int, ...] = (2, 2)
    slope: float = 0.1
    flow_levels: int = 6
    flow_kernel: int = 7
    flow_widths: tuple[int, ...] = (32, 64, 32, 16)

    def __post_init__(self) -> None:
        object.__setattr__(self, "upscale_factors", tuple(self.upscale_factors))
        object.__setattr__(self, "flow_widths", tuple(self.flow_widths))
        for name in ("channels", "blocks", "upsampler_channels", "flow_levels", "flow_kernel"):
            if getattr(self, name) < 1:
                raise UserError(f"model.{name} must be at least 1; got {getattr(self, name)}")
        if self.flow_kernel % 2 == 0:
            raise UserError(f"model.flow_kernel must be odd; got {self.flow_kernel}")
        if min(self.upscale_factors, default=2) < 2:
            raise UserError(
                f"model.upscale_factors must be factors >= 2, or none for scale 1; got {self.upscale_factors}"
            )
        if not self.flow_widths or min(self.flow_widths) < 1:
            raise UserError(f"model.flow_widths must be one or more widths >= 1; got {self.flow_widths}")
        if not 0 <= self.slope < 1:
            raise UserError(f"model.slope must be in [0, 1); got {self.slope}")

    @property
    def scale(self) -> int:
        """Side of the output relative to the input."""
        return math.prod(self.upscale_factors)

    @property
    def branches(self) -> tuple[str, ...]:
        """Propagation branches in the order in which fusion reads them."""
        return ("backward", "forward") if self.bidirectional else ("forward",)


def trunk(branch: str) -> str:
    """Name of a branch's module (a plain `forward` would hide the network's own)."""
    return f"{branch}_trunk"


def basicvsr_layout(arguments: BasicVSRArguments, rule: str) -> ChannelLayout:
    """Groups and convolutions of BasicVSR under a residual rule.

    `rsc` (Residual Sparsity Connection, arXiv 2206.07687 section 3.3): the stream keeps all its channels and every
    block chooses inputs, middle and outputs freely. `aligned`: one index set per branch, shared by the first
    convolution, every conv2 and every conv1 input. `inner`: only conv1's filters; the stream is never cut.
    """
    one_of("residual rule", rule, ("rsc", "aligned", "inner"))
    groups: list[ChannelGroup] = []
    convs: list[ConvLayer] = []
    streams = [_branch(arguments, rule, branch, groups, convs) for branch in arguments.branches]
    _upsampler(arguments, streams, groups, convs)
    return ChannelLayout(tuple(groups), tuple(convs))


def _branch(
    arguments: BasicVSRArguments, rule: str, branch: str, groups: list[ChannelGroup], convs: list[ConvLayer]
) -> Slot:
    """Append one branch's groups and convolutions; return the slot of its hidden state."""
    width = arguments.channels
    blocks = [f"{trunk(branch)}.blocks.{index}" for index in range(arguments.blocks)]
    first = f"{trunk(branch)}.first"
    stream = Slot(width)
    if rule == "aligned":
        gates = [Gate(first, "output")]
        gates += [Gate(f"{block}.{conv}", side) for block in blocks for conv, side in _STREAM_SIDES]
        stream = _grouped(groups, f"{trunk(branch)}.stream", branch, "stream", width, gates)
    convs.append(ConvLayer(first, 3, (Slot(RGB), stream), stream))
    in_block = Slot(width, stream.group, stream=trunk(branch))
    for block in blocks:
        conv1, conv2 = f"{block}.conv1", f"{block}.conv2"
        read, written = in_block, in_block
        if rule == "rsc":
            gate = Gate(conv1, "input")
            read = _grouped(groups, f"{conv1}.input", branch, "input", width, [gate], in_block.stream, block)
        middle = _grouped(groups, conv1, branch, "middle", width, [Gate(conv1, "output")], block=block)
        if rule == "rsc":
            gate = Gate(conv2, "output")
            written = _grouped(groups, conv2, branch, "output", width, [gate], in_block.stream, block)
        convs += [ConvLayer(conv1, 3, (read,), middle), ConvLayer(conv2, 3, (middle,), written)]
    return stream


_STREAM_SIDES: tuple[tuple[str, Side], ...] = (("conv1", "input"), ("conv2", "output"))


def _upsampler(
    arguments: BasicVSRArguments, streams: list[Slot], groups: list[ChannelGroup], convs: list[ConvLayer]
) -> None:
    """Append fusion, the pixel shuffles and the reconstruction convolutions."""
    part = "upsampler"
    slot = streams[-1]
    if arguments.bidirectional:
        slot = _grouped(groups, "fusion", part, "fusion", arguments.channels, [Gate("fusion", "output")])
        convs.append(ConvLayer("fusion", 1, tuple(streams), slot))
    scale = 1
    for index, factor in enumerate(arguments.upscale_factors, start=1):
        last = index == len(arguments.upscale_factors)
        width = arguments.upsampler_channels if last else arguments.channels
        name = f"upconv{index}"
        shuffled = _grouped(groups, name, part, "shuffle", width, [Gate(name, "output")])
        convs.append(ConvLayer(name, 3, (slot,), shuffled, scale, factor**2))
        slot, scale = shuffled, scale * factor
    width = arguments.upsampler_channels
    high = _grouped(groups, "conv_hr", part, "reconstruction", width, [Gate("conv_hr", "output")])
    convs.append(ConvLayer("conv_hr", 3, (slot,), high, scale))
    convs.append(ConvLayer("conv_last", 3, (high,), Slot(RGB), scale))


def _grouped(
    groups: list[ChannelGroup],
    name: str,
    part: str,
    kind: str,
    size: int,
    gates: list[Gate],
    stream: str = "",
    block: str = "",
) -> Slot:
    groups.append(ChannelGroup(name, part, kind, size, tuple(gates), block))
    return Slot(size, name, stream)
