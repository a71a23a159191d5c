"""The graphs that a network is exported as: modules with named inputs, their shapes, and inputs to trace them with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.nn import functional as F

from vsrprune.errors import UserError
from vsrprune.networks.basicvsr.spec import RGB
from vsrprune.networks.network import Network
from vsrprune.networks.table import family_of, loaded

Shape = tuple[int | str, ...]  # a string is an axis of any size
FRAME: Shape = (1, RGB, "height", "width")
ANY_LENGTH = "frames"  # the axis of clips of any length
ERROR_LENGTH = 200  # of what torch says, which may go on for pages
SMOOTH = 4  # low-resolution pixels from one random value to the next: motion, not noise, as in a video


@dataclass(frozen=True)
class Graph:
    """A module to export. Outputs whose axes depend on the inputs' are named like `4*height`.

    `axis` makes what torch.export is told of an open axis, from the axis' name and smallest size; by default torch has
    to prove every condition on sizes that it meets. `starred` says that the module takes all inputs but the first as
    *inputs.
    """

    module: nn.Module
    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Shape]
    axis: Callable[[str, int], Any] = field(default=lambda name, least: Dim(name, min=least))
    starred: bool = False

    def example(self, size: tuple[int, int], length: int) -> tuple[Tensor, ...]:
        """Random inputs of frames of `size` (height, width), always the same; clips of any length have `length`."""
        sides = {ANY_LENGTH: length, "height": size[0], "width": size[1]}
        shapes = [[sides[side] if isinstance(side, str) else side for side in shape] for shape in self.inputs.values()]
        return tuple(_random(shape, seed) for seed, shape in enumerate(shapes))

    def traced(self, smallest: int) -> ExportedProgram:
        """The graph for frames of every height and width from `smallest` on, and for clips of any open length.

        Raises UserError where torch.export cannot follow the network's code.
        """
        _know_shape_of_warps()
        least = {"height": smallest, "width": smallest, ANY_LENGTH: 1}
        axes = {side: self.axis(side, size) for side, size in least.items()}
        dynamic = tuple(
            {axis: axes[side] for axis, side in enumerate(shape) if isinstance(side, str)}
            for shape in self.inputs.values()
        )
        if self.starred:
            # torch.export expects the shapes of *inputs as one tuple, like the parameter itself.
            dynamic = (dynamic[0], dynamic[1:])  # type: ignore[assignment]
        # Two frames, because torch.export takes an axis of size 1 for a constant.
        example = self.example((smallest + 7, smallest + 22), 2)
        try:
            with torch.no_grad():
                return torch.export.export(self.module.eval(), example, dynamic_shapes=dynamic)
        except Exception as error:  # of many kinds, and of what the author of a network wrote
            words = " ".join(str(error).split())[:ERROR_LENGTH]
            raise UserError(
                f"torch.export cannot trace this network for frames of every size; --format safetensors exports it"
                f" ({type(error).__name__}: {words})"
            ) from error


@cache
def _know_shape_of_warps() -> None:
    """Tell PyTorch what shape grid_sample has, for frames of open sizes.

    It would trace the hundred operations that grid_sample consists of to find it, for each warp three times: half of
    the time of exporting a step (12 s in place of 6). Without the place to tell it, it still does.
    """
    try:
        from torch._subclasses.fake_impls import register_fast_op_impl
    except ImportError:
        return

    def sampled(mode: AbstractContextManager[object], x_NCHW: Tensor, grid_NHW2: Tensor, *settings: object) -> Tensor:
        with mode:
            return x_NCHW.new_empty(x_NCHW.shape[:2] + grid_NHW2.shape[1:3])

    register_fast_op_impl(torch.ops.aten.grid_sampler_2d.default)(sampled)


@dataclass(frozen=True)
class Division:
    """The graphs of a network.

    `clip` is the graph of a whole clip, as PyTorch traces it: a recurrence is unrolled, so that the graph serves one
    length only. `steps` holds by name the work on a single frame, of which a loop over clips of any length can be made;
    it is empty for networks that do not divide into steps.
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
    """The network's graphs: as its family divides it, or the clip alone.

    frames: the length of the clip, where its graph serves one length.
    """
    export = family_of(network.arguments).export
    divided: Division = loaded(export)(network, frames) if export else Division(clip_graph(network, frames), {})
    return divided


class ClipGraph(nn.Module):
    """A network that returns the frames alone."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames_NTCHW: Tensor) -> Tensor:
        """Super-resolve a clip (N, T, 3, H, W) to (N, T, 3, scale*H, scale*W), not clipped."""
        frames: Tensor = self.network(frames_NTCHW).frames_NTCHW
        return frames


def clip_graph(network: Network, frames: int | str) -> Graph:
    """A whole clip of so many frames, or of `ANY_LENGTH`."""
    shape: Shape = (1, frames, RGB, "height", "width")
    return Graph(ClipGraph(network), {"frames": shape}, {"upscaled_frames": enlarged(shape, network.arguments.scale)})


def open_sides(graph: Graph) -> Graph:
    """The graph for networks whose conditions on sizes torch cannot prove: its axes only must not become constants."""
    return replace(graph, axis=lambda name, least: Dim.DYNAMIC(min=least))


def step_inputs(state: Shape) -> dict[str, Shape]:
    """What a recurrent step reads. At the first frame, the previous one is itself, and its state zeros."""
    return {"frame": FRAME, "previous_frame": FRAME, "previous_state": state}


def enlarged(shape: Shape, scale: int) -> Shape:
    """The shape of an output for an input of this one."""
    return (*shape[:-2], *(side if scale == 1 else f"{scale}*{side}" for side in shape[-2:]))


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
