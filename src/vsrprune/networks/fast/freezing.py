"""A compact network of any architecture in the form that runs fastest where it runs; the same function.

BasicVSR has a frozen form of its own (`models.frozen`). Of others, runs of residual blocks are replaced by blocks that
work in place on a copy of their input, each in the form that is fastest, and the memory format is chosen by timing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from vsrprune.networks.basicvsr.frozen import (
    BlockShape,
    Form,
    FrozenBasicVSR,
    FrozenBlock,
    Timer,
    block_shape,
    branch_chains,
    fastest_forms,
)
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.fast.device_operations import FORMATS
from vsrprune.networks.narrowing import replace_module
from vsrprune.networks.network import Flows, Network
from vsrprune.networks.parts.layers import ResidualBlock
from vsrprune.networks.rrn.network import RRN


class Frozen(Protocol):
    """What every frozen form offers."""

    arguments: Any

    def __call__(self, frames_NTCHW: Tensor, flows: Flows | None = None) -> Tensor:
        """Frames (N, T, 3, H, W) to frames (N, T, 3, scale*H, scale*W)."""

    def flows(self, frames_NTCHW: Tensor) -> Flows:
        """As the network's."""

    def compute(self, frames_NTCHW: Tensor, flows: Flows | None = None) -> Tensor:
        """The call, in the caller's gradient mode."""


class FrozenNetwork(nn.Module):
    """A compact network, its runs of residual blocks frozen; forms: of a block's shape."""

    def __init__(self, network: Network, forms: Callable[[BlockShape], Form]) -> None:
        super().__init__()
        if network.plan is None:
            raise ValueError("only a compact network can be frozen: fold its gates by surgery first")
        self.network = copy.deepcopy(network).eval()
        self.arguments, self.reach = network.arguments, network.reach
        for name, blocks in _runs(self.network).items():
            replace_module(self.network, name, _Run(blocks, forms))

    def flows(self, frames_NTCHW: Tensor) -> Flows:
        """As the network's."""
        return self.network.flows(frames_NTCHW)

    @torch.inference_mode()
    def forward(self, frames_NTCHW: Tensor, flows: Flows | None = None) -> Tensor:
        """Restore clips; see Network."""
        return self.compute(frames_NTCHW, flows)

    def compute(self, frames_NTCHW: Tensor, flows: Flows | None = None) -> Tensor:
        """What `forward` does, in the caller's gradient mode."""
        restored: Tensor = self.network(frames_NTCHW, flows).frames_NTCHW
        return restored


class FrozenOnline(FrozenNetwork):
    """A frozen network that goes from frame to frame, each with what the one before handed on."""

    @property
    def state_width(self) -> int:
        """Channels of what a step hands on."""
        return cast(RRN, self.network).state_width

    @torch.inference_mode()
    def step(self, frame_NCHW: Tensor, before_NCHW: Tensor, state_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        """As the network's."""
        return cast(RRN, self.network).step(frame_NCHW, before_NCHW, state_NCHW)


class Compiled:
    """A frozen network through torch.compile, which cannot work in inference mode. Compiles anew for each clip size."""

    def __init__(self, network: Frozen) -> None:
        self._network, self._compute = network, torch.compile(network.compute)

    def __call__(self, frames_NTCHW: Tensor, flows: Flows | None = None) -> Tensor:
        """As the network's."""
        with torch.inference_mode(False), torch.no_grad():
            high_NTCHW: Tensor = self._compute(frames_NTCHW, flows)
        return high_NTCHW

    def flows(self, frames_NTCHW: Tensor) -> Flows:
        """As the network's."""
        with torch.inference_mode(False), torch.no_grad():
            return self._network.flows(frames_NTCHW)


def freeze(network: Network, clip_NTCHW: Tensor, time: Timer) -> tuple[Frozen, str]:
    """The fastest form of a compact network for clips like this one, and the name of its memory format.

    Blocks of one shape are timed once, in every form and memory format, on frames of the clip's size.
    """
    if isinstance(network, BasicVSR):
        chains, kind = branch_chains(network), cast(Callable[..., nn.Module], FrozenBasicVSR)
    else:
        chains = [(blocks, list(range(blocks[0].width))) for blocks in _runs(network).values()]
        kind = FrozenOnline if isinstance(network, RRN) else FrozenNetwork
    candidates = {}
    for name, memory_format in FORMATS.items():
        forms = fastest_forms(chains, clip_NTCHW[:, 0], memory_format, time)
        candidates[name] = kind(network, forms.__getitem__).to(memory_format=memory_format)  # type: ignore[call-overload]
    frame_NTCHW = clip_NTCHW[:, :1]
    times = {name: time(partial(frozen, frame_NTCHW)) for name, frozen in candidates.items()}
    fastest = min(times, key=lambda name: times[name])
    return candidates[fastest], fastest


class _Run(nn.Module):
    """Residual blocks in place, on a copy: others may read the stream that enters them."""

    def __init__(self, blocks: list[ResidualBlock], forms: Callable[[BlockShape], Form]) -> None:
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
        if isinstance(module, nn.Sequential) and len(module) and all(type(block) is ResidualBlock for block in module)
    }
