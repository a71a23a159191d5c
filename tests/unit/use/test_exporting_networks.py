"""Every network's graphs: what they are called, what they serve, and that they compute what the network computes."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vsrprune.channels.layout import RULES
from vsrprune.networks.files import load_network, save_network
from vsrprune.networks.graph import divide
from vsrprune.networks.network import Network
from vsrprune.networks.table import FAMILIES, build
from vsrprune.pruning.surgery import compact
from vsrprune.selection.asked import Asked
from vsrprune.selection.units import select
from vsrprune.use.export.export import export, verified
from vsrprune.use.export.request import Request

FLOW = {"flow_levels": 2, "flow_kernel": 3, "flow_widths": (4,)}
BLOCKS = {"blocks": 1, "extract_blocks": 1, "reconstruction_blocks": 1}
SMALL: dict[str, dict[str, Any]] = {
    "basicvsr": {"channels": 6, "blocks": 1, "upsampler_channels": 5, **FLOW},
    "basicvsr_pp": {"channels": 4, "upsampler_channels": 4, "deformable_groups": 2, **BLOCKS, **FLOW},
    "edvr": {
        "channels": 4,
        "upsampler_channels": 4,
        "deformable_groups": 2,
        "window": 3,
        "extract_blocks": 1,
        "reconstruction_blocks": 1,
    },
    "rrn": {"channels": 5, "blocks": 1},
    "edsr": {"channels": 6, "blocks": 1},
    "rcan": {"channels": 6, "groups": 1, "blocks": 1, "reduction": 2},
}
TRACED = 2  # frames of an unrolled clip
SERVED = {"basicvsr": TRACED, "basicvsr_pp": TRACED, "edvr": TRACED, "rrn": TRACED, "edsr": "any", "rcan": "any"}
STEPS = {"basicvsr": ["backward_step", "forward_step", "upsampler"], "rrn": ["step"]}
AHEAD = {"basicvsr": True, "basicvsr_pp": True, "rrn": False}
LEAST = {"basicvsr": 3, "basicvsr_pp": 3, "edvr": 5, "rrn": 1, "edsr": 1, "rcan": 1}
UNROLLED = ("basicvsr_pp", "edvr")  # export takes a minute; basicvsr has its tests in test_exporting.py
QUICK = ("rrn", "edsr", "rcan")

every_network = pytest.mark.parametrize("name", SMALL)
by_rule = pytest.mark.parametrize(
    ("name", "rule"),
    [pytest.param(name, rule, marks=[] if rule == "rsc" else pytest.mark.slow) for name in QUICK for rule in RULES]
    + [pytest.param(name, rule, marks=pytest.mark.slow) for name in UNROLLED for rule in RULES],
)
by_network = pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in UNROLLED)]
)


def pruned_network(name: str, rule: str = "rsc", **changes: object) -> Network:
    """Random weights everywhere, so that offsets and flows move, and a plan from random scores.

    No larger ones: RRN's outputs, which are its state, would grow from frame to frame, and their rounding with them.
    """
    torch.manual_seed(0)
    network = build(FAMILIES[name].arguments(**SMALL[name] | changes))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    layout = network.channel_layout(rule)
    draw = np.random.default_rng(1)
    plan = select(layout, {g.name: draw.random(g.size) for g in layout.groups}, Asked(rule=rule, ratio=0.4))
    return compact(network, plan).eval()


def exported(network: Network, format: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """The files' folder and what export.json says of them."""
    (folder / "net").mkdir()
    save_network(network, folder / "net")
    request = Request(folder / "net", format, folder / "out", size=(12, 16), frames=TRACED, repeats=1)
    out = export(request, lambda text: None)
    return out, json.loads((out / "export.json").read_text())


@torch.no_grad()
def restored(network: Network, frames_NTCHW: torch.Tensor) -> torch.Tensor:
    return network(frames_NTCHW).frames_NTCHW


def clips(name: str, served: int | str) -> list[torch.Tensor]:
    """Of the smallest size, of one that needs no padding, and of an odd one; of several lengths if any is served."""
    least = LEAST[name]
    lengths = (1, 4, 3) if served == "any" else (int(served),) * 3
    sizes = ((least, least), (16, 8), (11, 13))
    return [torch.rand(1, length, 3, *size) for length, size in zip(lengths, sizes, strict=True)]


# Division into graphs


@every_network
def test_graphs_compute_what_their_shapes_say(name: str) -> None:
    network = pruned_network(name)
    divided = divide(network, TRACED)
    assert list(divided.steps) == STEPS.get(name, [])
    for part, graph in {"clip": divided.clip, **divided.steps}.items():
        found = verified(graph, graph.module, network, part, lambda text: None)
        assert set(found["max_abs_error"].values()) == {0.0}
        sides = {"height": 12, "width": 16, "frames": 3, "4*height": 48, "4*width": 64}
        with torch.no_grad():
            outputs = graph.module(*graph.example((12, 16), 3))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        expected = [[sides.get(side, side) for side in shape] for shape in graph.outputs.values()]
        assert [list(output.shape) for output in outputs] == expected
    length = divided.clip.inputs["frames"][1]
    assert length == ("frames" if SERVED[name] == "any" else TRACED)
    assert divided.looped.inputs == {"frames": (1, "frames", 3, "height", "width")}


@every_network
def test_the_smallest_side_follows_from_the_network(name: str) -> None:
    assert pruned_network(name).arguments.smallest_side == LEAST[name]
    if "flow_levels" in SMALL[name]:
        assert pruned_network(name, flow_levels=6).arguments.smallest_side == 33


def test_a_network_of_no_family_is_refused_by_name() -> None:
    class Transformer(Network):
        arguments = Fraction(1)

    with pytest.raises(ValueError, match=r"^Fraction shapes none of basicvsr, .*, own$"):
        divide(Transformer(), 2)


def test_a_family_without_a_division_of_its_own_is_exported_as_a_clip() -> None:
    divided = divide(pruned_network("basicvsr_pp"), 3)
    assert (divided.clip.inputs["frames"], divided.steps) == ((1, 3, 3, "height", "width"), {})


# Files


@every_network
def test_safetensors_come_back_with_the_name_of_the_network(name: str, tmp_path: Path) -> None:
    network = pruned_network(name)
    folder, described = exported(network, "safetensors", tmp_path)
    again = load_network(folder)
    assert again.plan == network.plan
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in network.state_dict().items())
    assert described["network"] == name
    assert described.get("bidirectional") == AHEAD.get(name)


@by_rule
def test_onnx_is_the_network(name: str, rule: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra deploy is not installed")
    network = pruned_network(name, rule)
    folder, described = exported(network, "onnx", tmp_path)
    served = TRACED if name in UNROLLED else "any"
    session = onnxruntime.InferenceSession(folder / "clip.onnx")
    for frames_NTCHW in clips(name, served):
        (got,) = session.run(["upscaled_frames"], {"frames": frames_NTCHW.numpy()})
        expected = restored(network, frames_NTCHW).numpy()
        assert got.shape == expected.shape
        assert np.abs(got - expected).max() < 1e-5
    assert described["frames"] == served
    assert list(described["files"]) == ["clip.onnx", *(f"{step}.onnx" for step in STEPS.get(name, []))]
    assert set(described["milliseconds_per_frame"]["median"]) == {"pytorch", "onnxruntime"}


@by_network
def test_torch_export_is_the_network(name: str, tmp_path: Path) -> None:
    """Under one rule: ONNX is made from the same graphs."""
    network = pruned_network(name)
    folder, described = exported(network, "torch_export", tmp_path)
    loaded = torch.export.load(folder / "clip.pt2").module()
    for frames_NTCHW in clips(name, SERVED[name]):
        with torch.no_grad():
            got = loaded(frames_NTCHW)
        torch.testing.assert_close(got, restored(network, frames_NTCHW), rtol=1e-6, atol=1e-6)
    assert described["frames"] == SERVED[name]
    assert described["smallest_side"] == LEAST[name]


def test_at_scale_1_outputs_are_as_large_as_inputs(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra deploy is not installed")
    network = pruned_network("edsr", upscale_factors=())
    folder, described = exported(network, "onnx", tmp_path)
    frames_NTCHW = torch.rand(1, 3, 3, 11, 13)
    (got,) = onnxruntime.InferenceSession(folder / "clip.onnx").run(
        ["upscaled_frames"], {"frames": frames_NTCHW.numpy()}
    )
    assert np.abs(got - restored(network, frames_NTCHW).numpy()).max() < 1e-5
    assert got.shape == (1, 3, 3, 11, 13)
    assert described["scale"] == 1
    assert described["files"]["clip.onnx"]["outputs"] == {"upscaled_frames": [1, "frames", 3, "height", "width"]}


def test_rrn_step_by_step_is_the_network(tmp_path: Path) -> None:
    """Whoever uses step.onnx keeps the state, in which the last output lies too, as with a unidirectional BasicVSR."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra deploy is not installed")
    network = pruned_network("rrn", upscale_factors=(2,))
    folder, described = exported(network, "onnx", tmp_path)
    frames_NTCHW = torch.rand(1, 4, 3, 7, 10)
    session = onnxruntime.InferenceSession(folder / "step.onnx")
    channels = described["files"]["step.onnx"]["inputs"]["previous_state"][1]
    previous, state = frames_NTCHW[:, 0].numpy(), np.zeros((1, channels, 7, 10), np.float32)
    for t, expected in enumerate(restored(network, frames_NTCHW).unbind(1)):
        frame = frames_NTCHW[:, t].numpy()
        inputs = {"frame": frame, "previous_frame": previous, "previous_state": state}
        upscaled, state = session.run(["upscaled_frame", "state"], inputs)
        assert np.abs(upscaled - expected.numpy()).max() < 1e-5
        previous = frame


@pytest.mark.slow
def test_a_flow_net_of_full_depth_is_exported_for_sizes_from_the_smallest_side() -> None:
    network = pruned_network("basicvsr_pp", flow_levels=6)
    least = network.arguments.smallest_side
    program = divide(network, TRACED).clip.traced(least).module()
    for size in ((least, least), (64, 48), (65, 37)):
        frames_NTCHW = torch.rand(1, TRACED, 3, *size)
        with torch.no_grad():
            got = program(frames_NTCHW)
        torch.testing.assert_close(got, restored(network, frames_NTCHW), rtol=1e-6, atol=1e-6)
