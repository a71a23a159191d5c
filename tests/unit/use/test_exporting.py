"""Exporting: what is refused beforehand, what verification catches, and what is never left under its name."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vsrprune.channels.layout import RULES
from vsrprune.errors import UserError
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.basicvsr.spec import BasicVSRArguments
from vsrprune.networks.files import WEIGHTS, load_network, save_network
from vsrprune.networks.graph import divide, random_clip
from vsrprune.pruning.surgery import compact
from vsrprune.selection.asked import Asked
from vsrprune.selection.units import select
from vsrprune.use.export.export import export, verified
from vsrprune.use.export.request import Request

SMALL = {"channels": 6, "blocks": 1, "upsampler_channels": 5, "flow_levels": 2, "flow_kernel": 3, "flow_widths": (4,)}


def pruned_network(rule: str = "rsc", bidirectional: bool = True, **arguments: object) -> BasicVSR:
    """Random weights (the flow net's too: it would start with no motion) and a plan from random scores."""
    torch.manual_seed(0)
    network = BasicVSR(BasicVSRArguments(**{**SMALL, **arguments}, bidirectional=bidirectional))  # type: ignore[arg-type]
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    layout = network.channel_layout(rule)
    draw = np.random.default_rng(1)
    plan = select(layout, {g.name: draw.random(g.size) for g in layout.groups}, Asked(rule=rule, ratio=0.4))
    return compact(network, plan).eval()


def saved(folder: Path, network: BasicVSR) -> Path:
    folder.mkdir()
    save_network(network, folder)
    return folder


def quiet(text: str) -> None:
    pass


# ONNX

both_directions = pytest.mark.parametrize("bidirectional", [True, False], ids=["bi", "uni"])
CASES = [  # in short only one: a unidirectional network is exported by tests/integration
    *(
        pytest.param(rule, bi, "residual", marks=() if (rule, bi) == ("rsc", True) else pytest.mark.slow)
        for rule in RULES
        for bi in (True, False)
    ),
    pytest.param("aligned", True, "gru", marks=pytest.mark.long),
    pytest.param("rsc", False, "gru", marks=pytest.mark.long),
    pytest.param("aligned", True, "second_order", marks=pytest.mark.long),
    pytest.param("rsc", False, "second_order", marks=pytest.mark.long),
]


@pytest.mark.slow  # EDSR shows it in seconds, in test_exporting_networks.py
@both_directions
def test_at_scale_1_outputs_are_as_large_as_inputs(bidirectional: bool, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra deploy is not installed")
    network = pruned_network("rsc", bidirectional, upscale_factors=())
    export(Request(saved(tmp_path / "net", network), "onnx", tmp_path / "out", repeats=0), quiet)
    frames_NTCHW = torch.rand(1, 3, 3, 11, 13)
    with torch.no_grad():
        expected = network(frames_NTCHW).frames_NTCHW.numpy()
    session = onnxruntime.InferenceSession(tmp_path / "out" / "clip.onnx")
    (got,) = session.run(["upscaled_frames"], {"frames": frames_NTCHW.numpy()})
    assert np.abs(got - expected).max() < 1e-5
    described = json.loads((tmp_path / "out" / "export.json").read_text())
    assert described["scale"] == 1
    assert described["files"]["clip.onnx"]["outputs"] == {"upscaled_frames": [1, "frames", 3, "height", "width"]}


@pytest.mark.parametrize(("rule", "bidirectional", "cell"), CASES)
def test_onnx_is_the_network_at_every_size_and_length(
    rule: str, bidirectional: bool, cell: str, tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra deploy is not installed")
    network = pruned_network(rule, bidirectional, cell=cell)
    request = Request(saved(tmp_path / "net", network), "onnx", tmp_path / "out", repeats=0)
    export(request, quiet)
    session = onnxruntime.InferenceSession(tmp_path / "out" / "clip.onnx")
    for length, size in ((1, (16, 8)), (4, (11, 13)), (3, (3, 37))):
        frames_NTCHW = torch.rand(1, length, 3, *size)
        with torch.no_grad():
            expected = network(frames_NTCHW).frames_NTCHW.numpy()
        (got,) = session.run(["upscaled_frames"], {"frames": frames_NTCHW.numpy()})
        assert got.shape == expected.shape
        assert np.abs(got - expected).max() < 1e-5
    described = json.loads((tmp_path / "out" / "export.json").read_text())
    steps = ["backward_step", "forward_step", "upsampler"] if bidirectional else ["step"]
    assert list(described["files"]) == ["clip.onnx", *(f"{step}.onnx" for step in steps)]
    assert described["rule"] == rule
    assert described["files"]["clip.onnx"]["inputs"] == {"frames": [1, "frames", 3, "height", "width"]}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*described["files"], "export.json"}


# torch.export


@pytest.mark.parametrize("bidirectional", [pytest.param(True, marks=pytest.mark.slow), False], ids=["bi", "uni"])
def test_torch_export_is_the_network_at_every_size(bidirectional: bool, tmp_path: Path) -> None:
    network = pruned_network(bidirectional=bidirectional)
    request = Request(saved(tmp_path / "net", network), "torch_export", tmp_path / "out", frames=2, repeats=0)
    export(request, quiet)
    loaded = torch.export.load(tmp_path / "out" / "clip.pt2").module()
    for size in ((16, 8), (11, 13), (3, 37)):
        frames_NTCHW = torch.rand(1, 2, 3, *size)
        with torch.no_grad():
            expected = network(frames_NTCHW).frames_NTCHW
            torch.testing.assert_close(loaded(frames_NTCHW), expected, rtol=0, atol=1e-6)


# safetensors


def test_safetensors_come_back_bit_equal(tmp_path: Path) -> None:
    network = pruned_network()
    folder = export(Request(saved(tmp_path / "net", network), "safetensors", tmp_path / "out"), quiet)
    again = load_network(folder)
    assert again.plan == network.plan
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in network.state_dict().items())
    described = json.loads((folder / "export.json").read_text())
    assert described["scale"] == 4
    assert described["macs_per_frame"]["macs_with_flow"] > described["macs_per_frame"]["macs"] > 0


def test_files_that_are_there_are_replaced_only_when_asked(tmp_path: Path) -> None:
    first, second = pruned_network("rsc"), pruned_network("inner")
    out = tmp_path / "out"
    export(Request(saved(tmp_path / "first", first), "safetensors", out), quiet)
    (out / "notes.txt").write_text("mine")
    request = Request(saved(tmp_path / "second", second), "safetensors", out)
    with pytest.raises(UserError, match="--overwrite"):
        export(request, quiet)
    assert load_network(out).plan == first.plan
    export(replace(request, overwrite=True), quiet)
    assert load_network(out).plan == second.plan
    assert (out / "notes.txt").read_text() == "mine"


# Verification


@both_directions
def test_what_computes_something_else_is_refused(bidirectional: bool) -> None:
    network = pruned_network(bidirectional=bidirectional)
    divided = divide(network, 2)
    for name, graph in {"clip": divided.looped, **divided.steps}.items():
        said: list[str] = []
        found = verified(graph, graph.module, network, name, said.append)
        assert set(found["max_abs_error"].values()) == {0.0}
        assert name in said[0]
        for wrong in (1e-3, float("nan")):

            def shifted(*inputs: torch.Tensor, graph=graph, wrong=wrong) -> tuple[torch.Tensor, ...]:
                outputs = graph.module(*inputs)
                *others, last = outputs if isinstance(outputs, tuple) else (outputs,)
                return (*others, last + wrong)

            with pytest.raises(UserError, match=f"{name} differs from PyTorch"):
                verified(graph, shifted, network, name, quiet)


def test_verification_uses_two_sizes_one_odd_and_two_lengths() -> None:
    network = pruned_network()
    clip = divide(network, 2).looped
    cases = verified(clip, clip.module, network, "clip", quiet)
    assert list(cases["max_abs_error"]) == ["1x2x3x3x21", "1x5x3x34x17"]


def test_a_network_that_fails_verification_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = pruned_network(bidirectional=False, flow_levels=1)
    source, out = saved(tmp_path / "net", network), tmp_path / "out"
    with torch.no_grad():
        network.conv_last.bias.fill_(float("nan"))  # type: ignore[union-attr]
    # Such weights are refused where they are read.
    monkeypatch.setattr("vsrprune.use.export.export.load_trained", lambda *given: network.eval())
    with pytest.raises(UserError, match=r"clip.pt2 differs from PyTorch by nan"):
        export(Request(source, "torch_export", out, frames=2, repeats=0), quiet)
    assert not out.exists()


def test_random_clips_are_smooth_and_move() -> None:
    clip_NTCHW = random_clip(4, (13, 18))
    assert clip_NTCHW.shape == (1, 4, 3, 13, 18)
    assert clip_NTCHW.min() >= 0
    assert clip_NTCHW.max() <= 1
    assert torch.equal(clip_NTCHW[:, 0, :, 1:, 1:], clip_NTCHW[:, 1, :, :-1, :-1])
    assert (clip_NTCHW[..., 1:] - clip_NTCHW[..., :-1]).abs().max() <= 0.25


# Wrong input


def test_a_missing_library_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = Request(tmp_path, "onnx", tmp_path / "out")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"onnxruntime is not installed: pip install -e '\.\[deploy\]'"):
        request.check()
    replace(request, format="torch_export").check()  # needs none


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": "tflite"}, "--format must be one of onnx, safetensors, torch_export; got 'tflite'"),
        ({"which": "thin"}, "--which must be one of pruned, dense; got 'thin'"),
        ({"frames": 1}, "--frames must be at least 2; got 1"),
        ({"repeats": -1}, "--repeats must be at least 0; got -1"),
        ({"openvino": True}, "--openvino times ONNX files; got --format safetensors"),
        ({"size": (2, 40)}, "--size must be at least 3 3 for this network; got 2 40"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_values_are_named(changes: dict[str, object], words: str, tmp_path: Path) -> None:
    request = Request(saved(tmp_path / "net", pruned_network()), "safetensors", tmp_path / "out")
    with pytest.raises(UserError) as caught:
        export(replace(request, **changes), quiet)  # type: ignore[arg-type]
    assert str(caught.value) == words
    assert not (tmp_path / "out").exists()


def test_the_folder_is_named_after_the_network_unless_given(tmp_path: Path) -> None:
    source = saved(tmp_path / "net", pruned_network())
    assert Request(source, "onnx").folder == Path("exports/net/onnx")
    assert Request(source / WEIGHTS, "onnx").folder == Path("exports/net/onnx")
    assert Request(source, "onnx", tmp_path).folder == tmp_path


def test_smallest_side_keeps_the_coarsest_level_above_a_pixel() -> None:
    assert pruned_network().arguments.smallest_side == 3
