"""What is exported of a network: graphs with named inputs, their shapes, and clips to trace and verify them with.

`DIVISIONS` says of every kind of network which graphs it is divided into.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.nn import functional as F

from vsrprune.errors import UserError
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.basicvsr.spec import RGB, trunk
from vsrprune.networks.basicvsr_pp.network import BasicVSRPlusPlus
from vsrprune.networks.edsr_rcan.network import ImageNetwork
from vsrprune.networks.edvr.network import EDVR, MULTIPLE
from vsrprune.networks.network import Network
from vsrprune.networks.parts.flow import SPyNet
from vsrprune.networks.rrn.network import RRN
from vsrprune.networks.steps import Clip, OnlineStep, RRNStep, Step, Upsampler

Shape = tuple[int | str, ...]  # a string is an axis of any size
FRAME: Shape = (1, RGB, "height", "width")
ANY_LENGTH = "frames"  # the axis of clips of any length
SMOOTH = 4  # low-resolution pixels from one random value to the next: motion, not noise, as in a video


@dataclass(frozen=True)
class Graph:
    """A module to export. Outputs whose axes depend on the inputs' are named like `4*height`.

    axis: what an open axis is to torch.export, of its name and smallest size; by default torch has to prove every
    condition on sizes that it meets.
    """

    module: nn.Module
    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Shape]
    axis: Callable[[str, int], Any] = field(default=lambda name, least: Dim(name, min=least))

    def example(self, size: tuple[int, int], length: int) -> tuple[Tensor, ...]:
        """Random inputs of frames of `size` (height, width), always the same; clips of any length have `length`."""
        sides = {ANY_LENGTH: length, "height": size[0], "width": size[1]}
        shapes = [[sides[side] if isinstance(side, str) else side for side in shape] for shape in self.inputs.values()]
        return tuple(_random(shape, seed) for seed, shape in enumerate(shapes))

    def traced(self, smallest: int) -> ExportedProgram:
        """The graph for frames of every height and width from `smallest` on, and for clips of any open length."""
        least = {"height": smallest, "width": smallest, ANY_LENGTH: 1}
        axes = {side: self.axis(side, size) for side, size in least.items()}
        dynamic = tuple(
            {axis: axes[side] for axis, side in enumerate(shape) if isinstance(side, str)}
            for shape in self.inputs.values()
        )
        if isinstance(self.module, Upsampler):  # its states come as *states
            dynamic = (dynamic[0], dynamic[1:])  # type: ignore[assignment]
        with torch.no_grad():
            return torch.export.export(
                self.module.eval(), self.example((smallest + 7, smallest + 22), 2), dynamic_shapes=dynamic
            )


@dataclass(frozen=True)
class Division:
    """The graphs of a network.

    clip: a whole clip, as PyTorch traces it: a recurrence is unrolled, so that the graph serves one length only.
    steps: by name, the work on a single frame, of which a loop over clips of any length can be made; none for some.
    """

    clip: Graph
    steps: Mapping[str, Graph]

    @property
    def looped(self) -> Graph:
        """What a loop over the steps computes; its module serves any length, but no tracing."""
        inputs, outputs = (
            {name: (1, ANY_LENGTH, *shape[2:]) for name, shape in side.items()}
            for side in (self.clip.inputs, self.clip.outputs)
        )
        return replace(self.clip, inputs=inputs, outputs=outputs)


def divide(network: Network, frames: int) -> Division:
    """The network's graphs; of the clip where it serves one length, that of so many frames.

    Raises UserError for a kind of network that has no division.
    """
    for kind, division in DIVISIONS.items():
        if isinstance(network, kind):
            return division(network, frames)
    raise UserError(
        f"{type(network).__name__} is not divided into graphs, only {', '.join(kind.__name__ for kind in DIVISIONS)};"
        " --format safetensors exports it"
    )


def smallest_side(network: Network) -> int:
    """Below it the coarsest level of a pyramid would be one pixel, for which a graph would be a special case."""
    if isinstance(network.flow_net, SPyNet):
        return int(2 ** (len(network.flow_net.levels) - 1) + 1)
    return MULTIPLE + 1 if isinstance(network, EDVR) else 1


def _basicvsr(network: BasicVSR, frames: int) -> Division:
    """One recurrent step: `step` of a unidirectional network; else `<branch>_step` of both, and `upsampler`."""
    upscaled = {"upscaled_frame": _enlarged(FRAME, network.arguments.scale)}
    states: dict[str, Shape] = {
        branch: (1, int(network.get_submodule(trunk(branch)).width), "height", "width")  # type: ignore[arg-type]
        for branch in network.arguments.branches
    }
    clip, graphs = _clip(network, frames), {}
    for branch, state in states.items():
        inputs = _step_inputs(state)
        if not network.arguments.bidirectional:
            return Division(clip, {"step": Graph(OnlineStep(network), inputs, {**upscaled, "state": state})})
        graphs[f"{branch}_step"] = Graph(Step(network, branch), inputs, {"state": state})
    inputs = {"frame": FRAME, **{f"{branch}_state": state for branch, state in states.items()}}
    return Division(clip, {**graphs, "upsampler": Graph(Upsampler(network), inputs, upscaled)})


def _rrn(network: RRN, frames: int) -> Division:
    """One recurrent step, with the names of a unidirectional BasicVSR's."""
    state: Shape = (1, network.state_width, "height", "width")
    outputs = {"upscaled_frame": _enlarged(FRAME, network.arguments.scale), "state": state}
    return Division(_clip(network, frames), {"step": Graph(RRNStep(network), _step_inputs(state), outputs)})


def _image(network: ImageNetwork, frames: int) -> Division:
    """Frames are a batch: one graph serves every length."""
    return Division(_clip(network, ANY_LENGTH), {})


def _basicvsr_pp(network: BasicVSRPlusPlus, frames: int) -> Division:
    """A branch reads all states of those before it, and two states back: the clip alone."""
    return Division(_clip(network, frames), {})


def _edvr(network: EDVR, frames: int) -> Division:
    """A frame is made from a window of others: the clip alone.

    That every level of the padded frames doubles to the size of the finer one is beyond what torch can prove, so its
    axes are only held not to become constants; files are verified at sizes that need padding, and that need none.
    """
    return Division(replace(_clip(network, frames), axis=lambda name, least: Dim.DYNAMIC(min=least)), {})


DIVISIONS: dict[type[Network], Callable[[Any, int], Division]] = {
    BasicVSR: _basicvsr,
    BasicVSRPlusPlus: _basicvsr_pp,
    EDVR: _edvr,
    RRN: _rrn,
    ImageNetwork: _image,
}


def _clip(network: Network, frames: int | str) -> Graph:
    shape: Shape = (1, frames, RGB, "height", "width")
    return Graph(Clip(network), {"frames": shape}, {"upscaled_frames": _enlarged(shape, network.arguments.scale)})


def _step_inputs(state: Shape) -> dict[str, Shape]:
    return {"frame": FRAME, "previous_frame": FRAME, "previous_state": state}


def random_clip(frames: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """A smooth clip (1, T, 3, H, W) in [0, 1] that moves by a pixel per frame."""
    generator = torch.Generator().manual_seed(seed)
    coarse = [-(-(side + frames) // SMOOTH) for side in size]
    picture_NCHW = F.interpolate(torch.rand(1, RGB, *coarse, generator=generator), scale_factor=SMOOTH, mode="bilinear")
    moved = [picture_NCHW[..., t : t + size[0], t : t + size[1]] for t in range(frames)]
    return torch.stack(moved, dim=1)


def _random(shape: Sequence[int], seed: int) -> Tensor:
    """A clip, a frame, or a state."""
    *leading, channels, height, width = shape
    if channels != RGB:
        return torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    frames = leading[1:] or [1]
    return random_clip(frames[0], (height, width), seed).view(shape)


def _enlarged(shape: Shape, scale: int) -> Shape:
    return (*shape[:-2], *(side if scale == 1 else f"{scale}*{side}" for side in shape[-2:]))
