"""Files of networks that are damaged, or meant to do harm, end in one line before anything is built."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vsrprune.errors import UserError
from vsrprune.networks import files
from vsrprune.networks.basicvsr.spec import BasicVSRArguments
from vsrprune.networks.checkpoints import load_dense
from vsrprune.networks.files import load_network, save_network
from vsrprune.networks.network import Network
from vsrprune.networks.table import build
from vsrprune.results.result import Result
from vsrprune.store.atomic import read_json

SMALL = BasicVSRArguments(channels=4, blocks=1, flow_levels=2, flow_kernel=3, flow_widths=(4, 3))


def refusal(read: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        read()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["network.json", "result.json"])
@pytest.mark.parametrize("content", ["", "[1]", "[" * 100_000, "{}"])
def test_json_that_describes_nothing_is_one_line(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    read = load_network if name == "network.json" else Result.load
    assert name in refusal(lambda: read(tmp_path))


def test_a_folder_or_a_pipe_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        read_json(tmp_path / "folder")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="no regular file"):
        read_json(tmp_path / "pipe")


def test_a_description_of_a_billion_blocks_builds_nothing(tmp_path: Path) -> None:
    described = {"network": "basicvsr", "arguments": {"blocks": 10**9}, "plan": None}
    (tmp_path / "network.json").write_text(json.dumps(described))
    assert "blocks" in refusal(lambda: load_network(tmp_path))


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        (torch.zeros(1).expand(10**12), "holds fewer numbers than it has places"),
        (torch.tensor([1.0, float("nan")]), "weights are NaN or infinite: fusion.bias"),
        (torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "quantised"),
        (torch.ones(2).to_sparse(), "sparse"),
        (torch.ones(2, dtype=torch.complex64), "complex"),
    ],
    ids=["expanded", "nan", "quantised", "sparse", "complex"],
)
def test_weights_that_are_none_are_refused(tmp_path: Path, weight: torch.Tensor, words: str) -> None:
    torch.save({**build(SMALL).state_dict(), "fusion.bias": weight}, tmp_path / "net.pth")
    assert words in refusal(lambda: load_dense(tmp_path / "net.pth", SMALL))


def test_a_description_that_its_weights_do_not_bear_out_builds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only meta tensors, which take no memory, are made of what the description says."""
    save_network(build(SMALL), tmp_path)
    described = json.loads((tmp_path / "network.json").read_text())
    described["arguments"]["channels"] = 4000
    (tmp_path / "network.json").write_text(json.dumps(described))
    devices = []

    def watched(arguments: Any) -> Network:
        devices.append(torch.empty(0).device.type)
        return build(arguments)

    monkeypatch.setattr(files, "build", watched)
    words = refusal(lambda: load_network(tmp_path))
    assert f"{tmp_path / 'network.safetensors'}: these weights are of another network" in words
    assert "instead of (4000, 4003, 3, 3)" in words
    assert devices == ["meta"]


def test_holding_a_description_against_its_weights_draws_no_random_numbers(tmp_path: Path) -> None:
    """Else the same job would train on other patches after a network was read."""
    save_network(build(SMALL), tmp_path)
    torch.manual_seed(0)
    build(SMALL)
    expected = torch.rand(3)
    torch.manual_seed(0)
    load_network(tmp_path)
    assert torch.equal(torch.rand(3), expected)


def test_a_network_whose_weights_are_no_numbers_is_refused_by_the_name_of_the_first(tmp_path: Path) -> None:
    network = build(SMALL)
    with torch.no_grad():
        network.get_parameter("fusion.bias")[0] = float("inf")
        network.get_parameter("fusion.weight")[0] = float("nan")
    save_network(network, tmp_path)
    words = "weights are NaN or infinite: fusion.bias, fusion.weight (2 in all); take another file"
    assert refusal(lambda: load_network(tmp_path)) == f"{tmp_path / 'network.safetensors'}: {words}"


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"net{suffix}"
    os.mkfifo(file)
    assert "there is no such file" in refusal(lambda: load_dense(file, SMALL))
