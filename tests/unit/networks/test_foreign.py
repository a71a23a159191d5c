"""Where the weights lie in other people's files: keys, prefixes, suffixes, and what stands beside them."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks_made import random_network, small_basicvsr
from safetensors.torch import save_file
from torch import Tensor, nn

from vsrprune.errors import UserError
from vsrprune.networks.basicvsr.weights import LAYOUTS, tensor_names
from vsrprune.networks.checkpoints import load_dense, load_flow


def basicsr(seed: int = 0) -> dict[str, Tensor]:
    """A network's weights in BasicSR's layout."""
    own = random_network(small_basicvsr(), seed, dtype=torch.float32).state_dict()
    return {theirs: own[ours].clone() for theirs, ours in tensor_names(LAYOUTS["BasicSR"], small_basicvsr()).items()}


def prefixed(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in weights.items()}


def read(file: Path) -> tuple[dict[str, Tensor], str]:
    """The weights that were loaded, under BasicSR's names, and what was said of the file."""
    said: list[str] = []
    own = load_dense(file, small_basicvsr(), said.append).state_dict()
    names = tensor_names(LAYOUTS["BasicSR"], small_basicvsr())
    (line,) = said
    return {theirs: own[ours] for theirs, ours in names.items()}, line.removeprefix(f"{file}: ")


def same(weights: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return weights.keys() == expected.keys() and all(torch.equal(weights[name], expected[name]) for name in weights)


def complaint(content: Any, folder: Path) -> str:
    torch.save(content, folder / "net.pth")
    with pytest.raises(UserError) as caught:
        load_dense(folder / "net.pth", small_basicvsr())
    message = str(caught.value)
    assert "\n" not in message
    assert "\x1b" not in message
    assert message.startswith(f"{folder / 'net.pth'}: ")
    return message


PREFIXES = ["_orig_mod.", "module.", "model.", "network.", "generator.", "module._orig_mod.", "net.G.inner."]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("key", ["", "state_dict"])
def test_a_prefix_that_all_names_share_comes_off(prefix: str, key: str, tmp_path: Path) -> None:
    weights = prefixed(prefix, basicsr())
    torch.save({key: weights, "epoch": 3} if key else weights, tmp_path / "net.pth")
    loaded, line = read(tmp_path / "net.pth")
    assert same(loaded, basicsr())
    parts = "".join(f", of {part}" for part in prefix.split(".")[:-1])
    assert line == f"weights in BasicSR's layout{', under state_dict' if key else ''}{parts}"


def test_a_prefix_comes_off_a_safetensors_file_too(tmp_path: Path) -> None:
    save_file(prefixed("_orig_mod.", basicsr()), tmp_path / "net.safetensors")
    assert same(read(tmp_path / "net.safetensors")[0], basicsr())


@pytest.mark.parametrize("key", ["model", "model_state_dict", "net", "G", "weights.of.all"])
def test_the_one_dictionary_of_tensors_is_the_weights_whatever_its_key(key: str, tmp_path: Path) -> None:
    network = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()  # its state is tensors by name too: step, exp_avg, exp_avg_sq
    torch.save({key: basicsr(), "optimizer": optimizer.state_dict(), "epoch": 3}, tmp_path / "net.pth")
    loaded, line = read(tmp_path / "net.pth")
    assert same(loaded, basicsr())
    assert line == f"weights in BasicSR's layout, under {key}"


def test_weights_are_found_two_keys_deep(tmp_path: Path) -> None:
    torch.save({"models": {"generator": basicsr(), "discriminator": {"conv.weight": torch.ones(3)}}}, tmp_path / "n.pt")
    loaded, line = read(tmp_path / "n.pt")
    assert same(loaded, basicsr())
    assert line == "weights in BasicSR's layout, under models.generator"


@pytest.mark.parametrize("name", ["UPPER.PTH", "net.Pt", "last.ckpt", "best.pth.tar", "BEST.PTH.TAR"])
def test_a_suffix_does_not_decide_what_is_read(name: str, tmp_path: Path) -> None:
    torch.save({"params": basicsr()}, tmp_path / name)
    assert same(read(tmp_path / name)[0], basicsr())


@pytest.mark.parametrize("kind", ["key", "prefix"])
def test_of_equal_networks_the_averaged_one_is_taken(kind: str, tmp_path: Path) -> None:
    good, bad = basicsr(0), basicsr(1)
    content = {"key": {"model": bad, "model_ema": good}, "prefix": {**prefixed("net.", bad), **prefixed("ema.", good)}}
    torch.save(content[kind], tmp_path / "net.pth")
    loaded, line = read(tmp_path / "net.pth")
    assert same(loaded, good)
    expected = {"key": ", under model_ema instead of model", "prefix": ", of ema"}
    assert line == f"weights in BasicSR's layout{expected[kind]}"


def test_several_networks_that_fit_are_refused_by_their_keys(tmp_path: Path) -> None:
    message = complaint({"first": basicsr(0), "second": basicsr(1)}, tmp_path)
    assert "it holds several networks that fit as well: under first and under second; save one of them alone" in message
    message = complaint({**prefixed("student.", basicsr(0)), **prefixed("teacher.", basicsr(1))}, tmp_path)
    assert "of student and of teacher" in message


def test_tensors_beside_the_weights_are_named(tmp_path: Path) -> None:
    beside = {"loss.vgg.weight": torch.ones(3), "loss.vgg.bias": torch.ones(2), "n_averaged": torch.tensor(7)}
    torch.save({"state_dict": {**prefixed("model.", basicsr()), **beside}}, tmp_path / "net.ckpt")
    loaded, line = read(tmp_path / "net.ckpt")
    assert same(loaded, basicsr())
    assert line.endswith(", of model, without 2 tensors beside them (loss.vgg.weight, loss.vgg.bias)")


def test_a_flow_net_is_found_in_a_whole_network(tmp_path: Path) -> None:
    torch.save({"params": basicsr(0)}, tmp_path / "net.pth")
    target = random_network(small_basicvsr(), 1, dtype=torch.float32)
    said: list[str] = []
    load_flow(tmp_path / "net.pth", target, said.append)
    expected = random_network(small_basicvsr(), 0, dtype=torch.float32).flow_net.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in target.flow_net.state_dict().items())
    assert said[0].startswith(f"{tmp_path / 'net.pth'}: flow net in BasicSR's layout, under params, of spynet, without")


# What a pickle holds besides


def made_project(monkeypatch: pytest.MonkeyPatch) -> Any:
    project = types.ModuleType("someproject")
    exec("class Curve:\n    pass\nclass Settings(dict):\n    pass", project.__dict__)  # classes of that module
    monkeypatch.setitem(sys.modules, "someproject", project)
    return project


def test_values_of_other_packages_are_read_as_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project's own objects, whose code is not there when the file is read."""
    project = made_project(monkeypatch)
    curve = project.Curve()
    curve.values = [1.0, 2.0]
    content = {
        "state_dict": OrderedDict(basicsr()),
        "best": np.float64(31.4),
        "curve": curve,
        "array": np.arange(3),
        "args": argparse.Namespace(lr=0.1),
        "where": Path("runs"),
    }
    torch.save(content, tmp_path / "net.pth")
    monkeypatch.delitem(sys.modules, "someproject")
    loaded, line = read(tmp_path / "net.pth")
    assert same(loaded, basicsr())
    assert line == "weights in BasicSR's layout, under state_dict"
    assert "someproject" not in sys.modules


def test_a_dictionary_of_another_kind_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = {"params": basicsr(), "settings": made_project(monkeypatch).Settings(lr=0.1)}
    message = complaint(content, tmp_path)
    assert "(one of someproject.Settings is a list or dictionary of its own kind)" in message


def test_a_whole_network_that_was_saved_is_named(tmp_path: Path) -> None:
    message = complaint(nn.Sequential(nn.Conv2d(3, 3, 3)), tmp_path)
    assert "no weights in it" in message
    assert "torch.nn.modules.conv.Conv2d" in message
    assert "state_dict()" in message


class Runs:
    def __init__(self, function: Any) -> None:
        self.function = function

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return self.function, ("this code must never run",)


@pytest.mark.parametrize("function", [print, exec, os.system, subprocess.run])
def test_what_would_run_code_is_refused_by_name(
    function: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = complaint({"params": basicsr(), "more": Runs(function)}, tmp_path)
    assert "as plain tensors (it names " in message
    assert f"{function.__name__})" in message
    assert capsys.readouterr().out == ""


def test_an_old_pickle_names_what_was_refused_without_colours(tmp_path: Path) -> None:
    file = tmp_path / "old.pth"
    torch.save({"params": basicsr(), "best": np.float64(1)}, file, _use_new_zipfile_serialization=False)
    with pytest.raises(UserError) as caught:
        load_dense(file, small_basicvsr())
    assert "(it names numpy" in str(caught.value)
    assert "multiarray.scalar)" in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_torchscript_file_is_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "net.pt"
    torch.jit.script(nn.Conv2d(3, 3, 3)).save(str(file))
    with pytest.raises(UserError, match="cannot read these weights") as caught:
        load_dense(file, small_basicvsr())
    assert "TorchScript" in str(caught.value)
    assert "\n" not in str(caught.value)


# What does not fit


@pytest.mark.parametrize("text", ["<html><body>404</body></html>", "version https://git-lfs.github.com/spec/v1"])
def test_a_page_or_a_pointer_in_the_place_of_weights_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_text(text)
    with pytest.raises(UserError, match=f"begins with '{text[:12]}.*fetched whole") as caught:
        load_dense(tmp_path / "net.pth", small_basicvsr())
    assert "weights_only" not in str(caught.value)


def test_half_a_file_is_called_so(tmp_path: Path) -> None:
    torch.save(basicsr(), tmp_path / "net.pth")
    (tmp_path / "net.pth").write_bytes((tmp_path / "net.pth").read_bytes()[:3000])
    with pytest.raises(UserError, match="cut off or damaged"):
        load_dense(tmp_path / "net.pth", small_basicvsr())


def test_a_refusal_prints_the_names_of_the_file(tmp_path: Path) -> None:
    message = complaint({"state_dict": {"model.a.weight": torch.ones(2), "model.a.bias": torch.ones(2)}}, tmp_path)
    assert "none of the 2 tensors of the file (model.a.weight, model.a.bias) is a name in it" in message
    weights = prefixed("generator.", basicsr())
    del weights["generator.fusion.weight"], weights["generator.fusion.bias"]
    weights["generator.extra.weight"] = torch.ones(2)
    message = complaint({"state_dict": weights}, tmp_path)
    assert "2 missing: fusion.weight, fusion.bias; 1 unexpected: extra.weight)" in message
    assert "compared with BasicSR's layout, under state_dict, of generator: the " in message
    assert f"the {len(weights)} tensors of the file (generator." in message
    assert message.endswith("..., generator.extra.weight)")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(value: float, tmp_path: Path) -> None:
    weights = basicsr()
    weights["conv_hr.bias"][1] = value
    assert "weights are NaN or infinite: conv_hr.bias; " in complaint({"params": weights}, tmp_path)


def test_weights_beyond_single_precision_are_refused_by_name(tmp_path: Path) -> None:
    weights = basicsr()
    weights["conv_hr.bias"] = weights["conv_hr.bias"].double() + 1e300
    assert "weights are NaN or infinite: conv_hr.bias; " in complaint({"params": weights}, tmp_path)


@pytest.mark.parametrize("kind", [torch.int8, torch.int64, torch.bool])
def test_integer_weights_are_refused_by_name(kind: torch.dtype, tmp_path: Path) -> None:
    weights = basicsr()
    weights["conv_hr.bias"] = weights["conv_hr.bias"].to(kind)
    message = complaint({"params": weights}, tmp_path)
    assert f"weights are no floating-point numbers: conv_hr.bias ({kind}); " in message


def test_weights_that_are_no_numbers_are_counted(tmp_path: Path) -> None:
    weights = {name: torch.full_like(value, torch.nan) for name, value in basicsr().items()}
    assert f" ({len(weights)} in all); take another file" in complaint({"params": weights}, tmp_path)
