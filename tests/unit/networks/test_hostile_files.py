"""Files of networks that are damaged, or meant to do harm, end in one line before anything is built."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vsrprune.errors import UserError
from vsrprune.networks.basicvsr.spec import BasicVSRArguments
from vsrprune.networks.checkpoints import load_dense
from vsrprune.networks.files import load_network
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


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"net{suffix}"
    os.mkfifo(file)
    assert "there is no such file" in refusal(lambda: load_dense(file, SMALL))
