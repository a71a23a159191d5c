"""What a frozen network is, and the form for networks that have none of their own."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn

from vsrprune.networks.fast.blocks import Chain, Forms, FrozenBlock, block_shape
from vsrprune.networks.fast.fused import KERNELS, PLAIN, reorder_filters
from vsrprune.networks.fast.graphs import Caller, direct
from vsrprune.networks.fast.kernels import Kernels
from vsrprune.networks.narrowing import replace_module
from vsrprune.networks.network import Flows, Network
from vsrprune.networks.parts.layers import ResidualBlock
from vsrprune.networks.parts.reconstruction import Upsampler, repeated


class Moment(NamedTuple):
    """Where a recurrence stands: a frame (N, 3, H, W), and what the network knows there (N, C, H, W)."""

    frame_NCHW: Tensor
    state_NCHW: Tensor


Carried = Moment | None  # what a window leaves to the next; None before the first, and where nothing is handed on


class Frozen(Protocol):
    """What every frozen form offers.

    call: runs what is done again and again: steps from frame to frame where the network has them, else whole clips.
    """

    arguments: Any
    call: Caller

    def __call__(self, frames_NTCHW: Tensor, flows: Flows | None = None) -> Tensor:
        """Frames (N, T, 3, H, W) to frames (N, T, 3, scale*H, scale*W)."""

    def flows(self, frames_NTCHW: Tensor) -> Flows:
        """As the network's."""

    def compute(self, frames_NTCHW: Tensor, flows: Flows | None = None) -> Tensor:
        """The call, in the caller's gradient mode."""

    def restore_window(self, frames: Sequence[Tensor], own: range, before: Carried) -> Iterator[tuple[Tensor, Carried]]:
        """A window of a sequence: each of its frames (1, 3, scale*H, scale*W), and where the network stands after it.

        frames: (1, 3, H, W), the window's and those around it that are read too. own: the places of the window's.
        before: what the window before left here.
        """


class FrozenNetwork(nn.Module):
    """A compact network whose runs of residual blocks are frozen, each block in the form that `forms` gives.

    kernels: what runs an upsampler's convolutions, a name in `fused.KERNELS`.
    """

    call: Caller

    def __init__(self, network: Network, forms: Forms, kernels: str = PLAIN) -> None:
        super().__init__()
        if network.plan is None:
            raise ValueError("only a compact network can be frozen: fold its gates by surgery first")
        self.network = copy.deepcopy(network).eval()
        self.arguments, self.call = network.arguments, direct
        for name, blocks in _runs(self.network).items():
            replace_module(self.network, name, _Run(blocks, forms))
        if kernels != PLAIN and isinstance(self.network, Upsampler):
            ready_for(self.network, KERNELS[kernels])
            self.network.upsampled = partial(upsampled_by, self.network, KERNELS[kernels])  # type: ignore[method-assign]

    def flows(self, frames_NTCHW: Tensor) -> Flows:
        """As the network's."""
        return self.network.flows(frames_NTCHW)

    @torch.inference_mode()
    def forward(self, frames_NTCHW: Tensor, flows: Flows | None = None) -> Tensor:
        """Restore clips; see Network."""
        return self.compute(frames_NTCHW, flows)

    def compute(self, frames_NTCHW: Tensor, flows: Flows | None = None) -> Tensor:
        """What `forward` does, in the caller's gradient mode."""
        restored_NTCHW: Tensor = self.call(self._restored, frames_NTCHW, flows)
        return restored_NTCHW

    def _restored(self, frames_NTCHW: Tensor, flows: Flows | None) -> Tensor:
        restored_NTCHW: Tensor = self.network(frames_NTCHW, flows).frames_NTCHW
        return restored_NTCHW

    @staticmethod
    def chains(network: Network) -> list[Chain]:
        """The runs of residual blocks; all channels of their streams are active."""
        return [(blocks, list(range(blocks[0].width))) for blocks in _runs(network).values()]

    def restore_window(self, frames: Sequence[Tensor], own: range, before: Carried) -> Iterator[tuple[Tensor, Carried]]:
        """See `Frozen`. The frames are restored together, as a clip."""
        restored_NTCHW = self(torch.stack(list(frames), dim=1))[:, own.start : own.stop]
        yield from ((high_NCHW, None) for high_NCHW in restored_NTCHW.unbind(1))


class _Run(nn.Module):
    """Residual blocks in place, on a copy: others may read the stream that enters them."""

    def __init__(self, blocks: list[ResidualBlock], forms: Forms) -> None:
        super().__init__()
        width = blocks[0].width
        position = {channel: channel for channel in range(width)}
        self.blocks = nn.Sequential(
            *(FrozenBlock(block, position, forms(block_shape(block, width))) for block in blocks)
        )

    def forward(self, stream_NCHW: Tensor) -> Tensor:
        """Map the stream (N, C, H, W) to a new one; the input is left as it was."""
        refined_NCHW: Tensor = self.blocks(stream_NCHW.clone(memory_format=torch.preserve_format))
        return refined_NCHW


def _runs(network: Network) -> Mapping[str, list[ResidualBlock]]:
    """Sequences of nothing but plain residual blocks, by name."""
    return {
        name: cast(list[ResidualBlock], list(module))
        for name, module in network.named_modules()
        # type() and not isinstance: a subclass may do more to its update than a FrozenBlock knows.
        if isinstance(module, nn.Sequential) and len(module) and all(type(block) is ResidualBlock for block in module)
    }


def ready_for(network: Upsampler, kernels: Kernels) -> None:
    """Put an upsampler into the form in which these kernels are fast, in place; see `upsampled_by`."""
    *steps, last = network.steps
    for step in steps:
        conv = cast(nn.Conv2d, network.get_submodule(step.name))
        if step.shuffle > 1 and kernels.ordered:
            reorder_filters(conv, step.shuffle)
        prepare(conv, kernels)
    replace_module(network, last.name, _ByKernels(cast(nn.Conv2d, network.get_submodule(last.name)), kernels))


def prepare(conv: nn.Conv2d, kernels: Kernels) -> None:
    """Give a convolution, which these kernels alone are to run, the weights that they are fast with, in place."""
    if conv.groups == 1:
        weight, bias = kernels.prepared(conv.weight.detach(), cast(Tensor, conv.bias).detach())
        conv.weight = nn.Parameter(weight, requires_grad=False)
        conv.bias = nn.Parameter(bias, requires_grad=False)


class _ByKernels(nn.Module):
    """A convolution that kernels run, where a module is called."""

    def __init__(self, conv: nn.Conv2d, kernels: Kernels) -> None:
        super().__init__()
        prepare(conv, kernels)
        self.conv, self._kernels = conv, kernels

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, I, H, W) to (N, O, H, W), the bias added."""
        if self._kernels.bare:
            outputs_NCHW: Tensor = self.conv(x_NCHW)
            return outputs_NCHW
        return self._kernels.conv(x_NCHW, self.conv.weight, self.conv.bias)


def upsampled_by(network: Upsampler, kernels: Kernels, features_NCHW: Tensor) -> Tensor:
    """What `network.upsampled` returns; see `ready_for`."""
    x_NCHW, slope = features_NCHW, network.arguments.slope
    for step in network.steps[:-1]:
        conv = cast(nn.Conv2d, network.get_submodule(step.name))
        x_NCHW, bias = repeated(x_NCHW, step.nearest), cast(Tensor, conv.bias)
        if step.shuffle > 1:
            x_NCHW = kernels.conv_shuffle(x_NCHW, conv.weight, bias, step.shuffle, slope)
        else:
            x_NCHW = kernels.conv_leaky(x_NCHW, conv.weight, bias, slope)
    return x_NCHW
