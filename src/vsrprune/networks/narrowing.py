"""Replace a network's convolutions by narrower ones that read and write only what a plan keeps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vsrprune.channels.layout import ChannelLayout, Slot
from vsrprune.channels.plan import PrunePlan
from vsrprune.networks.parts.deformable import DeformableConv2d
from vsrprune.networks.parts.layers import ResidualBlock


class PartialConv2d(nn.Conv2d):
    """A convolution that reads some channels of its input, and writes some of its output; the others are zero.

    read, written: their places; None for all. Written into a residual stream of `width` channels, which keeps them all,
    this is the Residual Sparsity Connection in a network whose own code knows nothing of it.
    """

    read: Tensor | None
    written: Tensor | None

    def __init__(
        self, conv: nn.Conv2d, read: Sequence[int] | None, written: Sequence[int] | None, widths: tuple[int, int]
    ) -> None:
        super().__init__(conv.in_channels, conv.out_channels, **_options(conv))
        self.weight, self.bias = conv.weight, conv.bias
        self.in_channels, self.out_channels = widths  # what the network's own code sees
        # Derived from the plan, which is stored beside the weights: no part of the state dict.
        self.register_buffer("read", None if read is None else torch.tensor(read), persistent=False)
        self.register_buffer("written", None if written is None else torch.tensor(written), persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve (N, in, H, W) to (N, out, H, W)."""
        x_NCHW = input if self.read is None else input.index_select(1, self.read)
        some_NCHW: Tensor = self._conv_forward(x_NCHW, self.weight, self.bias)
        if self.written is None:
            return some_NCHW
        # The batch's size comes from `shape`, since len() would make a constant of it in a traced graph.
        whole_NCHW = some_NCHW.new_zeros(some_NCHW.shape[0], self.out_channels, *some_NCHW.shape[-2:])
        copied_NCHW: Tensor = whole_NCHW.index_copy(1, self.written, some_NCHW)
        return copied_NCHW


def narrow(network: nn.Module, layout: ChannelLayout, plan: PrunePlan) -> None:
    """Give every convolution of the layout the plan's widths, in place, without gates.

    Weights are those of the kept filters and inputs, scaled as an initialisation by fan-in would be: a network of the
    plan's shape can be trained from scratch, too.
    """
    for conv in layout.convs:
        module = network.get_submodule(conv.name)
        assert isinstance(module, nn.Conv2d), f"{conv.name} is no convolution"
        inputs = _kept(conv.inputs, plan)
        units = _kept((conv.output,), plan)
        filters = [unit * conv.filters_per_unit + at for unit in units for at in range(conv.filters_per_unit)]
        narrower = _narrower(module, inputs, filters)
        read = plan.kept[conv.inputs[0].group] if conv.inputs[0].partial else None  # type: ignore[index]
        written = plan.kept[conv.output.group] if conv.output.partial else None  # type: ignore[index]
        block = network.get_submodule(conv.name.rpartition(".")[0])
        if isinstance(block, ResidualBlock):
            block.restrict(read=_unless_all(read, conv.inputs[0]), written=_unless_all(written, conv.output))
            if module is block.conv1:
                block.width = len(inputs) if read is None else conv.inputs[0].size
        elif (read or written) is not None:
            widths = (conv.inputs[0].size if read else len(inputs), conv.output.size if written else len(filters))
            narrower = PartialConv2d(narrower, read, written, widths)
        replace_module(network, conv.name, narrower)


def replace_module(network: nn.Module, name: str, module: nn.Module) -> None:
    """Put `module` where the network has the one of that name."""
    parent, _, leaf = name.rpartition(".")
    setattr(network.get_submodule(parent), leaf, module)


def _kept(slots: Sequence[Slot], plan: PrunePlan) -> list[int]:
    """Places of the kept channels among the slots' channels, one slot after the other."""
    places: list[int] = []
    offset = 0
    for slot in slots:
        places += [offset + channel for channel in (range(slot.size) if slot.group is None else plan.kept[slot.group])]
        offset += slot.size
    return places


def _unless_all(channels: Sequence[int] | None, slot: Slot) -> Sequence[int] | None:
    # Indexing with all channels would copy the stream and change nothing.
    return None if channels is None or len(channels) == slot.size else channels


@torch.no_grad()
def _narrower(conv: nn.Conv2d, inputs: list[int], filters: list[int]) -> nn.Conv2d:
    """A convolution of the same kind with some of the inputs and filters."""
    smaller = _same_kind(conv, inputs, len(filters)).to(conv.weight)
    if conv.weight.is_meta:  # shapes alone: see `networks.files.load_network`
        return smaller
    # Fewer inputs sum to a smaller variance; the gain gives it back.
    gain = math.sqrt(conv.weight.shape[1] / max(1, smaller.weight.shape[1]))
    kept = conv.weight[filters]
    smaller.weight.copy_((kept[:, inputs] if conv.groups == 1 else kept) * gain)
    if conv.bias is not None and smaller.bias is not None:
        smaller.bias.copy_(conv.bias[filters])
    return smaller


def _same_kind(conv: nn.Conv2d, inputs: list[int], outputs: int) -> nn.Conv2d:
    if isinstance(conv, DeformableConv2d):
        groups = [conv.channel_groups[channel] for channel in inputs]
        return DeformableConv2d(len(inputs), outputs, conv.kernel_size[0], conv.deformable_groups, groups)
    # A depthwise convolution has as many groups as channels, whatever was cut; others in groups are never cut.
    depthwise = conv.groups == conv.in_channels == conv.out_channels
    options = {**_options(conv), "groups": len(inputs) if depthwise else conv.groups}
    return nn.Conv2d(len(inputs), outputs, **options)


def _options(conv: nn.Conv2d) -> dict[str, Any]:
    return {
        "kernel_size": conv.kernel_size,
        "stride": conv.stride,
        "padding": conv.padding,
        "dilation": conv.dilation,
        "groups": conv.groups,
        "bias": conv.bias is not None,
        "padding_mode": conv.padding_mode,
    }
