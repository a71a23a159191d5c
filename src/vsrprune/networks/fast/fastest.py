"""A compact network of any family in the form that runs fastest where it runs; the same function.

A family may have a frozen form of its own (`Family.frozen`). Of others, runs of residual blocks are replaced by blocks
that work in place on a copy of their input, each in the form that is fastest. The memory format is chosen by timing,
and on a CUDA device whether steps are launched or replayed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from vsrprune.networks.fast.blocks import Timer, fastest_forms
from vsrprune.networks.fast.device_operations import FORMATS
from vsrprune.networks.fast.flow import use_fastest_flow
from vsrprune.networks.fast.frozen import Frozen
from vsrprune.networks.fast.fused import PLAIN, available, to_time
from vsrprune.networks.fast.graphs import Caller, Graphs, Recorder, copied, direct, in_plain_strides, recorder_of
from vsrprune.networks.fast.precision import in_precision
from vsrprune.networks.network import Flows, Network
from vsrprune.networks.table import family_of, loaded

OF_ANY_NETWORK = "fast.frozen:FrozenNetwork"
FUSED, REPLAYED = ", fused", ", CUDA graphs"  # what the name of a form goes on with


class Compiling:
    """A `Caller` through torch.compile: each function is compiled once for each shape of its inputs."""

    def __init__(self, device: torch.device) -> None:
        self._graphs = device.type == "cuda"
        self._compiled: dict[Callable[..., Any], Callable[..., Any]] = {}

    def __call__(self, function: Callable[..., Any], *inputs: Any) -> Any:
        """See `Caller`."""
        if function not in self._compiled:
            mode = "reduce-overhead" if self._graphs else "default"
            self._compiled[function] = torch.compile(function, dynamic=False, mode=mode)
        if self._graphs:
            # The graphs of this mode write every call's outputs into the same memory, unless the last were given up.
            torch.compiler.cudagraph_mark_step_begin()
        outputs = self._compiled[function](*in_plain_strides(inputs))
        return copied(outputs) if self._graphs else outputs


class Compiled:
    """A frozen network through torch.compile, which cannot work in inference mode.

    Networks with steps are compiled for a size of frames, whatever their number; the others for a size of clips.
    """

    def __init__(self, network: Frozen, device: torch.device) -> None:
        self._network = network
        network.call = Compiling(device)

    def __call__(self, frames_NTCHW: Tensor, flows: Flows | None = None) -> Tensor:
        """As the network's."""
        with torch.inference_mode(False), torch.no_grad():
            return self._network.compute(frames_NTCHW, flows)

    def flows(self, frames_NTCHW: Tensor) -> Flows:
        """As the network's."""
        with torch.inference_mode(False), torch.no_grad():
            return self._network.flows(frames_NTCHW)


def freeze(network: Network, clip_NTCHW: Tensor, time: Timer, dtype: torch.dtype | None = None) -> tuple[Frozen, str]:
    """The fastest form of a compact network for clips like this one, and its name: format, `FUSED`, `REPLAYED`.

    Blocks of one shape are timed once, in every form and memory format, on frames of the clip's size. dtype: the type
    of weights and features (`in_precision`); None leaves them as they are. Call neither this nor the form under
    autocast.
    """
    kind = loaded(family_of(network.arguments).frozen or OF_ANY_NETWORK)
    chains = kind.chains(network)
    frame_NCHW = clip_NTCHW[:, 0] if dtype is None else clip_NTCHW[:, 0].to(dtype)
    candidates: dict[str, Frozen] = {}
    for name, memory_format in FORMATS.items():
        forms = fastest_forms(chains, frame_NCHW, memory_format, time)
        # Fused kernels are written for channels_last; of all that are available the last are the most fused.
        fused = available(frame_NCHW.device, frame_NCHW.dtype)[-1:] if memory_format is torch.channels_last else ()
        for kernels in to_time(fused):
            frozen = kind(network, forms.__getitem__, kernels).to(memory_format=memory_format)
            how = name if kernels == PLAIN else name + FUSED
            candidates[how] = frozen if dtype is None else in_precision(frozen, dtype)
    frozen, how = fastest_called(candidates, clip_NTCHW, time, recorder_of(clip_NTCHW.device))
    use_fastest_flow(cast(nn.Module, frozen), clip_NTCHW[:, 0], time)
    return frozen, how


def forget_graphs(frozen: Frozen) -> None:
    """Give the memory of its graphs back, where a form replays any: they are recorded anew when they are needed."""
    if isinstance(frozen.call, Graphs):
        frozen.call.forget()


def fastest_called(
    candidates: dict[str, Frozen], clip_NTCHW: Tensor, time: Timer, record: Recorder | None
) -> tuple[Frozen, str]:
    """The fastest of the candidates, launched or, with a recorder, replayed; and its name."""
    callers: dict[str, Caller] = {"": direct} if record is None else {"": direct, REPLAYED: Graphs(record)}
    # One frame is enough to compare: every further one runs the same operations.
    frame_NTCHW = clip_NTCHW[:, :1]
    times = {}
    for (name, frozen), (how, caller) in itertools.product(candidates.items(), callers.items()):
        frozen.call = caller
        try:
            times[name, how] = time(partial(frozen, frame_NTCHW))
        except RuntimeError:
            if caller is direct:
                raise
            # It cannot be captured, for instance since it looks at values on the host.
        finally:
            forget_graphs(frozen)
    name, how = min(times, key=lambda key: times[key])
    candidates[name].call = callers[how]
    return candidates[name], name + how
