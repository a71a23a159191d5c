"""What is exported of a network: graphs with named inputs, their shapes, and clips to trace and verify them with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.nn import functional as F

from vsrprune.models.basicvsr import BasicVSR
from vsrprune.models.basicvsr_channels import RGB, trunk
from vsrprune.models.steps import Clip, OnlineStep, Step, Upsampler

Shape = tuple[int | str, ...]  # a string is an axis of any size
FRAME: Shape = (1, RGB, "height", "width")
SMOOTH = 4  # low-resolution pixels from one random value to the next: motion, not noise, as in a video


@dataclass(frozen=True)
class Graph:
    """A module to export. Outputs whose axes depend on the inputs' are named like `4*height`."""

    module: nn.Module
    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Shape]

    def example(self, size: tuple[int, int], length: int) -> tuple[Tensor, ...]:
        """Random inputs of frames of `size` (height, width), always the same; clips of any length have `length`."""
        sides = {"frames": length, "height": size[0], "width": size[1]}
        shapes = [[sides[side] if isinstance(side, str) else side for side in shape] for shape in self.inputs.values()]
        return tuple(_random(shape, seed) for seed, shape in enumerate(shapes))

    def traced(self, smallest: int) -> ExportedProgram:
        """The graph for frames of every height and width from `smallest` on."""
        axes = {name: Dim(name, min=smallest) for name in ("height", "width")}
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


def smallest_side(network: BasicVSR) -> int:
    """Below it the coarsest level of the flow net would be one pixel, for which a graph would be a special case."""
    return int(2 ** (network.arguments.flow_levels - 1) + 1)


def step_graphs(network: BasicVSR) -> dict[str, Graph]:
    """One recurrent step: `step` of a unidirectional network; else `<branch>_step` of both, and `upsampler`."""
    scale = network.arguments.scale
    upscaled = {"upscaled_frame": _enlarged(FRAME, scale)}
    states: dict[str, Shape] = {
        branch: (1, int(network.get_submodule(trunk(branch)).width), "height", "width")  # type: ignore[arg-type]
        for branch in network.arguments.branches
    }
    graphs = {}
    for branch, state in states.items():
        inputs = {"frame": FRAME, "previous_frame": FRAME, "previous_state": state}
        if not network.arguments.bidirectional:
            return {"step": Graph(OnlineStep(network), inputs, {**upscaled, "state": state})}
        graphs[f"{branch}_step"] = Graph(Step(network, branch), inputs, {"state": state})
    inputs = {"frame": FRAME, **{f"{branch}_state": state for branch, state in states.items()}}
    return {**graphs, "upsampler": Graph(Upsampler(network), inputs, upscaled)}


def clip_graph(network: BasicVSR, frames: int | str) -> Graph:
    """A whole clip of so many frames; the recurrence is unrolled."""
    shape: Shape = (1, frames, RGB, "height", "width")
    return Graph(Clip(network), {"frames": shape}, {"upscaled_frames": _enlarged(shape, network.arguments.scale)})


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
