"""A compact network of any family in the form that runs fastest where it runs; the same function.

A family may have a frozen form of its own (`Family.frozen`). Of others, runs of residual blocks are replaced by blocks
that work in place on a copy of their input, each in the form that is fastest. The memory format is chosen by timing.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from vsrprune.networks.fast.blocks import Timer, fastest_forms
from vsrprune.networks.fast.device_operations import FORMATS
from vsrprune.networks.fast.frozen import Frozen
from vsrprune.networks.network import Flows, Network
from vsrprune.networks.table import family_of, loaded

OF_ANY_NETWORK = "fast.frozen:FrozenNetwork"


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
    kind = loaded(family_of(network.arguments).frozen or OF_ANY_NETWORK)
    chains = kind.chains(network)
    candidates = {}
    for name, memory_format in FORMATS.items():
        forms = fastest_forms(chains, clip_NTCHW[:, 0], memory_format, time)
        candidates[name] = kind(network, forms.__getitem__).to(memory_format=memory_format)
    # One frame is enough to compare: every further one runs the same operations.
    frame_NTCHW = clip_NTCHW[:, :1]
    times = {name: time(partial(frozen, frame_NTCHW)) for name, frozen in candidates.items()}
    fastest = min(times, key=lambda name: times[name])
    return candidates[fastest], fastest
