"""A network in an engine is the network, window by window and tile by tile."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks_made import random_network, small_edvr
from numpy.typing import NDArray
from torch import Tensor, nn

from vsrprune.engines.extras import check_engine
from vsrprune.engines.network import EngineNetwork, engine_graphs
from vsrprune.errors import UserError
from vsrprune.networks.fast.blocks import Form
from vsrprune.networks.fast.frozen import FrozenNetwork
from vsrprune.networks.network import Network
from vsrprune.networks.table import FAMILIES, family_of, loaded
from vsrprune.pruning.surgery import compact
from vsrprune.selection.asked import Asked
from vsrprune.selection.units import select
from vsrprune.store.store import ENGINES
from vsrprune.use.engines import graphs_folder, in_engine
from vsrprune.use.export.request import Request
from vsrprune.use.streaming import Pieces, upscaled_frames

FLOW = {"flow_levels": 2, "flow_kernel": 3, "flow_widths": (4,)}
BLOCKS = {"blocks": 1, "extract_blocks": 1, "reconstruction_blocks": 1}
SMALL: dict[str, dict[str, Any]] = {
    "basicvsr": {"channels": 6, "blocks": 1, "upsampler_channels": 5, **FLOW},
    "basicvsr uni": {"channels": 6, "blocks": 1, "upsampler_channels": 5, "bidirectional": False, **FLOW},
    "basicvsr gru": {"channels": 6, "blocks": 1, "upsampler_channels": 5, "cell": "gru", **FLOW},
    "basicvsr second_order": {"channels": 6, "blocks": 1, "upsampler_channels": 5, "cell": "second_order", **FLOW},
    "rrn": {"channels": 5, "blocks": 1},
    "basicvsr_pp": {"channels": 4, "upsampler_channels": 4, "deformable_groups": 2, **BLOCKS, **FLOW},
    "edsr": {"channels": 6, "blocks": 1},
}
PIECES = [Pieces(window=3, overlap=1), Pieces(window=2, overlap=2, tile=16, tile_overlap=4)]


def pruned(name: str) -> Network:
    """A small network of random weights, cut to 60 % of the units by random scores, in float32."""
    family = name.split()[0]
    network = random_network(FAMILIES[family].arguments(**SMALL[name]), dtype=torch.float32)
    draw, layout = np.random.default_rng(0), network.channel_layout("rsc")
    plan = select(layout, {g.name: draw.random(g.size) for g in layout.groups}, Asked(rule="rsc", ratio=0.4))
    return compact(network, plan).eval()


def in_torch(network: Network) -> Any:
    """The plainest frozen form."""
    own = family_of(network.arguments).frozen
    return (loaded(own) if own else FrozenNetwork)(network, lambda shape: Form())


def runner(module: nn.Module) -> Any:
    """A step's module as an engine would run it: arrays in, arrays out."""

    @torch.no_grad()
    def run(inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        outputs = module(*map(torch.from_numpy, inputs))
        return [output.numpy() for output in ([outputs] if isinstance(outputs, Tensor) else outputs)]

    return run


def clip(length: int = 7) -> list[Tensor]:
    return list(torch.rand(length, 1, 3, 24, 20, generator=torch.Generator().manual_seed(1)))


def streamed(network: Any, frames: list[Tensor], pieces: Pieces) -> Tensor:
    return torch.stack(list(upscaled_frames(network, iter(frames), pieces)), dim=1)


@pytest.mark.parametrize("pieces", PIECES)
@pytest.mark.parametrize("name", [name for name in SMALL if name != "basicvsr_pp"])
def test_steps_go_through_windows_and_tiles_as_the_network_does(name: str, pieces: Pieces) -> None:
    network, frames = pruned(name), clip()
    graphs = engine_graphs(network, "", "")
    engine = EngineNetwork(network.arguments, graphs, {step: runner(graph.module) for step, graph in graphs.items()})
    torch.testing.assert_close(
        streamed(engine, frames, pieces), streamed(in_torch(network), frames, pieces), rtol=0, atol=1e-5
    )


@pytest.mark.long
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    "name",
    [
        "basicvsr", "rrn", "edsr",
        *(pytest.param(f"basicvsr {cell}", marks=pytest.mark.slow) for cell in ("gru", "second_order")),
    ],
)  # fmt: skip
def test_an_engine_gives_what_torch_gives_and_its_graphs_are_written_once(
    engine: str, name: str, tmp_path: Path
) -> None:
    if engine == "openvino" and find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    network, frames, said = pruned(name), clip(), []
    expected = streamed(in_torch(network), frames, PIECES[0])
    for _ in range(2):
        runs = in_engine(engine, network, tmp_path, 1, said.append)
        torch.testing.assert_close(streamed(runs, frames, PIECES[0]), expected, rtol=0, atol=1e-4)
    (folder,) = (tmp_path / ENGINES).iterdir()
    assert said == [f"writing the network's graphs to {folder}, once"]
    # A damaged graph is noticed and written again; another network has a folder of its own.
    graph = next(folder.glob("*.onnx"))
    content = bytearray(graph.read_bytes())
    content[-20] ^= 1
    graph.write_bytes(content)
    runs = in_engine(engine, network, tmp_path, 1, said.append)
    damage, again = said[1:]
    assert re.match(rf"warning: engines {folder.name} is damaged: {graph.name} fails its checksum; set aside", damage)
    assert again == said[0]
    torch.testing.assert_close(streamed(runs, frames, PIECES[0]), expected, rtol=0, atol=1e-4)
    next(iter(network.parameters())).data.add_(0.01)
    in_engine(engine, network, tmp_path, 1, said.append)
    assert len(list((tmp_path / ENGINES).iterdir())) == 2


def test_an_engine_that_is_not_installed_is_refused_with_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vsrprune.engines.extras.is_installed", lambda module: module != "openvino")
    check_engine("onnxruntime", "")
    with pytest.raises(UserError, match=r"^--engine openvino: openvino is not installed: pip install -e '\.\[o"):
        check_engine("openvino", "--engine openvino: ")


def test_graphs_are_written_after_a_process_was_killed_while_it_wrote_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, killed = pruned("edsr"), []

    def export(network: Network, request: Request, say: Any) -> None:
        request.folder.mkdir(parents=True)
        if not killed:
            killed.append(request.folder)
            (request.folder / "half-made").touch()
            raise KeyboardInterrupt  # nothing tidies up what was begun, as after a kill
        (request.folder / "clip.onnx").write_text("graph")

    monkeypatch.setattr("vsrprune.use.engines.export_network", export)
    with pytest.raises(KeyboardInterrupt):
        graphs_folder(network, tmp_path, lambda text: None)
    folder = graphs_folder(network, tmp_path, lambda text: None)
    assert sorted(path.name for path in folder.iterdir()) == ["clip.onnx", "manifest.json"]
    assert list((tmp_path / ENGINES).iterdir()) == [folder]
    assert not list(tmp_path.glob("unfinished/*/*"))
    assert graphs_folder(network, tmp_path, lambda text: pytest.fail(text)) == folder


def test_a_store_that_cannot_be_written_is_told_before_any_work(tmp_path: Path) -> None:
    (tmp_path / ENGINES).write_text("a file in the way")
    with pytest.raises(UserError, match=r"cannot write .*File exists; give --engine torch, or a --store that can"):
        graphs_folder(pruned("edsr"), tmp_path, lambda text: None)


@pytest.mark.parametrize("name", [*SMALL, "edvr"])
def test_networks_say_truly_whether_engines_run_them(name: str) -> None:
    network = random_network(small_edvr()) if name == "edvr" else pruned(name)
    try:
        found = bool(engine_graphs(network, "", ""))
    except UserError:
        found = False
    assert found == network.arguments.runs_in_engines


def test_a_network_without_steps_of_its_own_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"serves clips of one length alone.* use --engine torch"):
        in_engine("onnxruntime", pruned("basicvsr_pp"), tmp_path, 1, print)
    assert not list(tmp_path.iterdir())
