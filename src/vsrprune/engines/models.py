"""A network's graphs as ONNX models: written, kept and run, in 32 bits or in int8."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from onnx import ModelProto

from vsrprune.engines import onnx_files
from vsrprune.engines.network import EngineNetwork, engine_graphs
from vsrprune.networks.graph import Graph
from vsrprune.networks.network import Network

Models = Mapping[str, ModelProto]  # by the names of a network's graphs
ASKED = ("quantise=int8", "quantise=none")
ONNXRUNTIME = "onnxruntime"  # which int8 graphs are calibrated in


@dataclass(frozen=True)
class EngineModels:
    """A compact network, its graphs, and their models in 32 bits."""

    network: Network
    graphs: Mapping[str, Graph]
    models: Models

    @classmethod
    def of(cls, network: Network) -> EngineModels:
        """All that an engine runs of a network. Raises UserError where it runs none of it."""
        graphs, least = engine_graphs(network, *ASKED), network.arguments.smallest_side
        return cls(network, graphs, {name: onnx_files.model(graph, least) for name, graph in graphs.items()})

    def save(self, models: Models, folder: Path) -> int:
        """Write some models of the graphs into a new folder; their size in bytes."""
        folder.mkdir()
        for name, model in models.items():
            onnx_files.save(model, folder / f"{name}.onnx", {"scale": str(self.network.arguments.scale)})
        return sum(path.stat().st_size for path in folder.iterdir())

    def run(self, models: Models, engine: str = ONNXRUNTIME) -> EngineNetwork:
        """Some models of the graphs in an engine; graphs of which none is given run in 32 bits."""
        files = {name: model.SerializeToString() for name, model in {**self.models, **models}.items()}
        threads = torch.get_num_threads()
        runners = {name: onnx_files.RUNNERS[engine](file, threads) for name, file in files.items()}
        return EngineNetwork(self.network.arguments, self.graphs, runners)


def kept(network: Network, folder: Path, engine: str) -> EngineNetwork:
    """The network of the models in a folder, in an engine; of `network` its form alone counts."""
    graphs, threads = engine_graphs(network, *ASKED), torch.get_num_threads()
    runners = {name: onnx_files.RUNNERS[engine](folder / f"{name}.onnx", threads) for name in graphs}
    return EngineNetwork(network.arguments, graphs, runners)
