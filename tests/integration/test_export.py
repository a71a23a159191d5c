"""Exporting as a user runs it: a network's folder in, verified files out, one line for wrong input."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from forked import run_script

from vsrprune.channels.plan import PrunePlan
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.basicvsr.spec import BasicVSRArguments
from vsrprune.networks.files import load_network, save_network
from vsrprune.pruning.surgery import compact


def export_py(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return run_script([ROOT / "src" / "export.py", *arguments], cwd, {"OMP_NUM_THREADS": "1"})


@pytest.fixture(scope="module")
def network_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A unidirectional network pruned with RSC, random weights everywhere."""
    return saved_network(tmp_path_factory.mktemp("export") / "net", flow_levels=2)


@pytest.fixture(scope="module")
def shallow_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a flow net of one level, whose graph is traced in two thirds of the time."""
    return saved_network(tmp_path_factory.mktemp("shallow") / "net", flow_levels=1)


def saved_network(folder: Path, flow_levels: int) -> Path:
    torch.manual_seed(0)
    network = BasicVSR(BasicVSRArguments(6, 1, 5, False, flow_levels=flow_levels, flow_kernel=3, flow_widths=(4,)))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    layout = network.channel_layout("rsc")
    plan = PrunePlan.cutting("rsc", layout, {g.name: {i % g.size} for i, g in enumerate(layout.groups)})
    folder.mkdir()
    save_network(compact(network, plan), folder)
    return folder


def test_onnx_step_by_step_is_the_network(shallow_folder: Path, tmp_path: Path) -> None:
    """Whoever uses step.onnx keeps the state; the files say all that is needed for it."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra deploy is not installed")
    arguments = ("--format", "onnx", "--size", 20, 24, "--repeats", 1, "--frames", 2)
    done = export_py(shallow_folder, *map(str, arguments), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "exports" / "net" / "onnx"
    described = json.loads((out / "export.json").read_text())
    assert sorted(path.name for path in out.iterdir()) == ["clip.onnx", "export.json", "step.onnx"]
    assert max(described["files"]["step.onnx"]["max_abs_error"].values()) <= 1e-4
    assert set(described["milliseconds_per_frame"]["median"]) == {"pytorch", "onnxruntime"}
    assert "max |error|" in done.stdout
    assert "ms per frame at 24x20, 2 frames, 1 threads: pytorch " in done.stdout

    network = load_network(shallow_folder)
    frames_NTCHW = torch.rand(1, 4, 3, 13, 10)
    with torch.no_grad():
        expected = network(frames_NTCHW).frames_NTCHW.numpy()
    session = onnxruntime.InferenceSession(out / "step.onnx")
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata["scale"] == "4"
    channels = described["files"]["step.onnx"]["inputs"]["previous_state"][1]
    previous, state = frames_NTCHW[:, 0].numpy(), np.zeros((1, channels, 13, 10), np.float32)
    for t in range(4):
        frame = frames_NTCHW[:, t].numpy()
        inputs = {"frame": frame, "previous_frame": previous, "previous_state": state}
        upscaled, state = session.run(["upscaled_frame", "state"], inputs)
        assert np.abs(upscaled - expected[:, t]).max() < 1e-5
        previous = frame


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["NET", "--format", "tflite"], "--format must be one of onnx, safetensors, torch_export; got 'tflite'"),
        (["nothing", "--format", "onnx"], "nothing: there is no such folder or file"),
        ([".", "--format", "safetensors"], ".: neither the folder of a finished job"),
        (["NET", "--format", "safetensors", "--size", "2", "9"], "--size must be at least 3 3"),
        (["NET", "--format", "safetensors", "--out", "NET"], "network.safetensors is there already; --overwrite"),
        (["NET", "--format", "safetensors", "--out", "file"], "--out file: a file is there; name a folder"),
    ],
    ids=["format", "source", "no network", "size", "exists", "file"],
)
def test_wrong_input_is_one_line(arguments: list[str], words: str, network_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    before = sorted(network_folder.iterdir())
    done = export_py(*[network_folder if word == "NET" else word for word in arguments], cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(network_folder.iterdir()) == before
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
