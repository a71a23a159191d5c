"""Networks in the engines that people deploy with, window by window: ONNX graphs of their steps, kept in the store."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vsrprune.errors import UserError
from vsrprune.networks.fast.frozen import Carried, Moment
from vsrprune.networks.files import DESCRIPTION, WEIGHTS, save_network
from vsrprune.networks.graph import ANY_LENGTH, divide
from vsrprune.networks.network import Network
from vsrprune.store.store import ENGINES, Store, content_key, sha256
from vsrprune.use.export.export import export_network
from vsrprune.use.export.request import Request

Say = Callable[[str], None]
Runner = Callable[[list[NDArray[np.float32]]], list[NDArray[np.float32]]]


class EngineNetwork:
    """A network that an engine runs, window by window like `Frozen`.

    runners: by the names of the network's steps (`networks.graph.Division`), or the whole clip's alone.
    state_widths: channels of what the step of a branch hands on, by the step's name.
    """

    def __init__(self, arguments: Any, runners: Mapping[str, Runner], state_widths: Mapping[str, int]) -> None:
        self.arguments, self._runners, self._widths = arguments, runners, state_widths

    def restore_window(self, frames: Sequence[Tensor], own: range, before: Carried) -> Iterator[tuple[Tensor, Carried]]:
        """See `Frozen.restore_window`."""
        if "clip" in self._runners:
            (restored_NTCHW,) = self._run("clip", torch.stack(list(frames), dim=1))
            yield from ((high_NCHW, None) for high_NCHW in restored_NTCHW[:, own.start : own.stop].unbind(1))
            return
        if "step" in self._runners:
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

    def _step(self, name: str, frame_NCHW: Tensor, before: Carried) -> list[Tensor]:
        if before is None:  # the first frame is its own predecessor, with a state of zeros
            zeros_NCHW = frame_NCHW.new_zeros(1, self._widths[name], *frame_NCHW.shape[-2:])
            before = Moment(frame_NCHW, zeros_NCHW)
        return self._run(name, frame_NCHW, before.frame_NCHW, before.state_NCHW)

    def _run(self, name: str, *inputs: Tensor) -> list[Tensor]:
        return [torch.from_numpy(array) for array in self._runners[name]([tensor.numpy() for tensor in inputs])]


def in_engine(name: str, network: Network, store: Path, threads: int, say: Say) -> EngineNetwork:
    """The network in an engine. Its graphs are written to the store when they are asked for first.

    Raises UserError where the network cannot be exported, or a graph differs from PyTorch.
    """
    from vsrprune.use.export import onnx_files

    divided = divide(network, 2)
    if not divided.steps and divided.clip.inputs["frames"][1] != ANY_LENGTH:
        raise UserError(
            f"--engine {name}: a graph of this network serves clips of one length alone, since it has no steps from"
            " frame to frame; use --engine torch"
        )
    folder = graphs_folder(network, store, say)
    graphs = divided.steps or {"clip": divided.clip}
    runner = {"onnxruntime": onnx_files.onnxruntime_runner, "openvino": onnx_files.openvino_runner}[name]
    states = {
        name: graph.inputs["previous_state"] for name, graph in graphs.items() if "previous_state" in graph.inputs
    }
    widths = {name: int(shape[1]) for name, shape in states.items()}
    return EngineNetwork(network.arguments, {step: runner(folder / f"{step}.onnx", threads) for step in graphs}, widths)


def graphs_folder(network: Network, root: Path, say: Say) -> Path:
    """The folder of the network's ONNX graphs in a store, whose checksums are right; written where they are not there.

    Raises UserError where the store cannot be written.
    """
    store = Store(root, lambda text: say(f"warning: {text}"), say)
    identity = _identity(network)
    key = content_key(identity)

    def make(folder: Path, unfinished: Path) -> None:
        say(f"writing the network's graphs to {root / ENGINES / key}, once")
        written = unfinished / "graphs"
        shutil.rmtree(written, ignore_errors=True)  # of a process that was killed over it
        export_network(network, Request(Path(WEIGHTS), "onnx", out=written, repeats=0), lambda text: None)
        for path in written.iterdir():
            path.rename(folder / path.name)

    try:
        return store.produce(ENGINES, key, identity, make).folder
    except OSError as error:
        raise UserError(
            f"cannot write the network's graphs to {root / ENGINES / key}: {error.strerror}; give --engine torch, or a"
            " --store that can be written and the network's own folder (STORE/finetune/KEY) as --model"
        ) from error


def _identity(network: Network) -> dict[str, Any]:
    """Of the weights, of what describes the network, and of what writes its graphs."""
    with tempfile.TemporaryDirectory() as folder:
        save_network(network, Path(folder))
        files = {name: sha256(Path(folder) / name) for name in (WEIGHTS, DESCRIPTION)}
    return {**files, **{name: version(name) for name in ("torch", "onnx", "onnxscript", "vsrprune")}}
