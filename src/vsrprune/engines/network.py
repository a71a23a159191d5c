"""A network that an engine runs: ONNX graphs of its steps, whatever runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vsrprune.errors import UserError
from vsrprune.networks.fast.frozen import Carried, Moment
from vsrprune.networks.graph import ANY_LENGTH, Graph, divide
from vsrprune.networks.network import Network

Arrays = list[NDArray[np.float32]]
Runner = Callable[[Arrays], Arrays]  # inputs in the graph's order -> outputs


def engine_graphs(network: Network, asked: str, instead: str) -> Mapping[str, Graph]:
    """What an engine runs of a network, by name: its steps, or a clip of any length.

    Raises UserError where the network has neither; `asked` is what was given, `instead` what can be given.
    """
    divided = divide(network, 2)
    if not divided.steps and divided.clip.inputs["frames"][1] != ANY_LENGTH:
        raise UserError(
            f"{asked}: a graph of this network serves clips of one length alone, since it has no steps from frame to"
            f" frame; use {instead}"
        )
    return divided.steps or {"clip": divided.clip}


class EngineNetwork:
    """A network that an engine runs, window by window like `Frozen`.

    graphs: see `engine_graphs`. runners: what runs them, by the same names.
    """

    def __init__(self, arguments: Any, graphs: Mapping[str, Graph], runners: Mapping[str, Runner]) -> None:
        self.arguments, self.runners = arguments, runners
        states = {step: graph.inputs.get("previous_state") for step, graph in graphs.items()}
        self._widths = {step: int(state[1]) for step, state in states.items() if state}

    def restore_window(self, frames: Sequence[Tensor], own: range, before: Carried) -> Iterator[tuple[Tensor, Carried]]:
        """See `Frozen.restore_window`."""
        if "clip" in self.runners:
            (restored_NTCHW,) = self._run("clip", torch.stack(list(frames), dim=1))
            yield from ((high_NCHW, None) for high_NCHW in restored_NTCHW[:, own.start : own.stop].unbind(1))
            return
        if "step" in self.runners:
            for t in own:
                high_NCHW, state_NCHW = self._step("step", frames[t], before)
                before = Moment(frames[t], state_NCHW)
                yield high_NCHW, before
            return
        backward: list[Tensor] = []
        behind: Carried = None
        for t in reversed(range(own.start, len(frames))):
            behind = Moment(frames[t], self._step("backward_step", frames[t], behind)[0])
            if t in own:
                backward.append(behind.state_NCHW)
        for t in own:
            before = Moment(frames[t], self._step("forward_step", frames[t], before)[0])
            (high_NCHW,) = self._run("upsampler", frames[t], backward.pop(), before.state_NCHW)
            yield high_NCHW, before

    def state(self, branch: str, frame_NCHW: Tensor, before: Carried) -> Tensor:
        """A branch's hidden state (1, C, H, W) at a frame; `before` is where the branch comes from."""
        return self._step("step" if "step" in self.runners else f"{branch}_step", frame_NCHW, before)[-1]

    def _step(self, name: str, frame_NCHW: Tensor, before: Carried) -> list[Tensor]:
        if before is None:  # the first frame is its own predecessor, with a state of zeros
            zeros_NCHW = frame_NCHW.new_zeros(1, self._widths[name], *frame_NCHW.shape[-2:])
            before = Moment(frame_NCHW, zeros_NCHW)
        return self._run(name, frame_NCHW, before.frame_NCHW, before.state_NCHW)

    def _run(self, name: str, *inputs: Tensor) -> list[Tensor]:
        return [torch.from_numpy(array) for array in self.runners[name]([tensor.numpy() for tensor in inputs])]
