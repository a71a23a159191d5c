"""Networks in the engines that people deploy with, window by window: ONNX graphs of their steps, kept in the store."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vsrprune.engines.network import EngineNetwork, engine_graphs
from vsrprune.errors import UserError
from vsrprune.networks.files import DESCRIPTION, WEIGHTS, save_network
from vsrprune.networks.network import Network
from vsrprune.store.places import open_place
from vsrprune.store.store import ENGINES, content_key, sha256
from vsrprune.use.export.export import export_network
from vsrprune.use.export.request import Request

Say = Callable[[str], None]


def in_engine(
    name: str, network: Network, store: str | Path, threads: int, say: Say, kept: Path | None = None
) -> EngineNetwork:
    """The network in an engine. Its graphs are written to the store when they are asked for first.

    kept: a folder of graphs to run instead, such as those of `load.int8_graphs`.

    Raises UserError where the network cannot be exported, or a graph differs from PyTorch.
    """
    from vsrprune.engines import onnx_files

    graphs = engine_graphs(network, f"--engine {name}", "--engine torch")
    folder = kept or graphs_folder(network, store, say)
    runners = {step: onnx_files.RUNNERS[name](folder / f"{step}.onnx", threads) for step in graphs}
    return EngineNetwork(network.arguments, graphs, runners)


def graphs_folder(network: Network, root: str | Path, say: Say) -> Path:
    """The folder of the network's ONNX graphs in a store, whose checksums are right; written where they are not there.

    Raises UserError where the store cannot be written.
    """
    store = open_place(root, lambda text: say(f"warning: {text}"), say)
    identity = _identity(network)
    key = content_key(identity)

    def make(folder: Path, unfinished: Path) -> None:
        say(f"writing the network's graphs to {store.root / ENGINES / key}, once")
        written = unfinished / "graphs"
        shutil.rmtree(written, ignore_errors=True)  # of a process that was killed over it
        export_network(network, Request(Path(WEIGHTS), "onnx", out=written, repeats=0), lambda text: None)
        for path in written.iterdir():
            path.rename(folder / path.name)

    try:
        return store.produce(ENGINES, key, identity, make).folder
    except OSError as error:
        raise UserError(
            f"cannot write the network's graphs to {store.root / ENGINES / key}: {error.strerror}; give --engine torch,"
            " or a --store that can be written and the network's own folder (STORE/finetune/KEY) as --model"
        ) from error


def _identity(network: Network) -> dict[str, Any]:
    """Of the weights, of what describes the network, and of what writes its graphs."""
    with tempfile.TemporaryDirectory() as folder:
        save_network(network, Path(folder))
        files = {name: sha256(Path(folder) / name) for name in (WEIGHTS, DESCRIPTION)}
    return {**files, **{name: version(name) for name in ("torch", "onnx", "onnxscript", "vsrprune")}}
