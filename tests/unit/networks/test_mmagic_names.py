"""mmagic's BasicVSR++ and EDVR: modules nested as theirs are give the names, and the outputs must be equal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from networks_made import random_network, small_basicvsr_pp, small_edvr
from torch import Tensor, nn

from vsrprune.networks.checkpoints import load_dense
from vsrprune.networks.table import FAMILIES, family_name

C, HIGH = 4, 5  # as small_basicvsr_pp and small_edvr


def held(**children: nn.Module) -> nn.Module:
    holder = nn.Module()
    for name, child in children.items():
        holder.add_module(name, child)
    return holder


def conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel)


def activated(inputs: int, outputs: int, kernel: int = 3) -> nn.Module:
    """A convolution and its activation in one module."""
    return held(conv=conv(inputs, outputs, kernel))


def blocks(count: int) -> nn.Sequential:
    return nn.Sequential(*(held(conv1=conv(C, C), conv2=conv(C, C)) for _ in range(count)))


def trunk(inputs: int, count: int) -> nn.Module:
    return held(main=nn.Sequential(conv(inputs, C), nn.LeakyReLU(), blocks(count)))


def deformable(inputs: int, offsets: nn.Module) -> nn.Module:
    """A deformable convolution is a convolution that holds the one of its offsets."""
    module = conv(inputs, C)
    module.add_module("conv_offset", offsets)
    return module


def tail() -> dict[str, nn.Module]:
    shuffles = {
        "upsample1": held(upsample_conv=conv(C, 4 * C)),
        "upsample2": held(upsample_conv=conv(C, 4 * HIGH)),
    }
    return {**shuffles, "conv_hr": conv(HIGH, HIGH), "conv_last": conv(HIGH, 3)}


def basicvsr_pp() -> nn.Module:
    levels = [held(basic_module=nn.Sequential(activated(8, C), activated(C, 2))) for _ in range(2)]
    branches = ("backward_1", "forward_1", "backward_2", "forward_2")
    layers = [layer for inputs in (3 * C + 4, C, C) for layer in (conv(inputs, C), nn.LeakyReLU())]
    align = {
        branch: deformable(2 * C, nn.Sequential(*layers, conv(C, 27 * 4)))  # 27 for each deformable group
        for branch in branches
    }
    backbone = {branch: trunk((2 + index) * C, 2) for index, branch in enumerate(branches)}
    return held(
        spynet=held(basic_module=nn.ModuleList(levels)),
        feat_extract=trunk(3, 1),
        deform_align=nn.ModuleDict(align),
        backbone=nn.ModuleDict(backbone),
        reconstruction=trunk(5 * C, 1),
        **tail(),
    )


def edvr() -> nn.Module:
    alignment: dict[str, dict[str, nn.Module]] = {
        "offset_conv1": {f"l{level}": activated(2 * C, C) for level in (3, 2, 1)},
        "offset_conv2": {"l3": activated(C, C), "l2": activated(2 * C, C), "l1": activated(2 * C, C)},
        "offset_conv3": {"l2": activated(C, C), "l1": activated(C, C)},
        "dcn_pack": {f"l{level}": deformable(C, conv(C, 27 * 2)) for level in (3, 2, 1)},
        "feat_conv": {"l2": activated(2 * C, C), "l1": activated(2 * C, C)},
    }
    fusion = {
        "temporal_attn1": conv(C, C),
        "temporal_attn2": conv(C, C),
        "feat_fusion": activated(5 * C, C, 1),
        "spatial_attn1": activated(5 * C, C, 1),
        "spatial_attn2": activated(2 * C, C, 1),
        "spatial_attn3": activated(C, C),
        "spatial_attn4": activated(C, C, 1),
        "spatial_attn5": conv(C, C),
        "spatial_attn_l1": activated(C, C, 1),
        "spatial_attn_l2": activated(2 * C, C),
        "spatial_attn_l3": activated(C, C),
        "spatial_attn_add1": activated(C, C, 1),
        "spatial_attn_add2": conv(C, C, 1),
    }
    return held(
        conv_first=conv(3, C),
        feature_extraction=blocks(1),
        **{f"feat_l{level}_conv{place}": activated(C, C) for level in (2, 3) for place in (1, 2)},
        pcd_alignment=held(
            **{name: nn.ModuleDict(levels) for name, levels in alignment.items()},
            cas_offset_conv1=activated(2 * C, C),
            cas_offset_conv2=activated(C, C),
            cas_dcnpack=deformable(C, conv(C, 27 * 2)),
        ),
        fusion=held(**fusion),
        reconstruction=blocks(2),
        **tail(),
    )


NETWORKS: dict[str, tuple[Any, Callable[[], nn.Module]]] = {
    "basicvsr_pp": (small_basicvsr_pp(), basicvsr_pp),
    "edvr": (small_edvr(), edvr),
}


def ungated(name: str) -> Any:
    network = random_network(NETWORKS[name][0], dtype=torch.float32)
    with torch.no_grad():
        for gate in network.gate_parameters():
            gate.fill_(1.0)
    return network


def names_of(arguments: Any) -> dict[str, str]:
    return dict(FAMILIES[family_name(arguments)].published(arguments)["mmagic"].names)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_names_are_those_of_their_modules_and_lead_to_tensors_of_their_shapes(name: str) -> None:
    arguments, make = NETWORKS[name]
    state = ungated(name).state_dict()
    shapes = {theirs: state[ours].shape for theirs, ours in names_of(arguments).items()}
    assert shapes == {theirs: value.shape for theirs, value in make().state_dict().items()}
    gates = {parameter for parameter in state if parameter.endswith("gate")}
    assert sorted(names_of(arguments).values()) == sorted(set(state) - gates)


def test_some_pairs_of_names_by_hand() -> None:
    pairs = names_of(small_edvr()) | names_of(small_basicvsr_pp())
    assert pairs["feat_l3_conv1.conv.weight"] == "conv_l3_1.weight"
    assert pairs["pcd_alignment.dcn_pack.l2.bias"] == "pcd_align.dcn_pack.l2.deform.bias"
    assert pairs["fusion.spatial_attn_l2.conv.weight"] == "fusion.spatial_attn_l2.weight"
    assert pairs["deform_align.forward_2.weight"] == "deform_align.forward_2.deform.weight"
    assert pairs["spynet.basic_module.1.basic_module.1.conv.bias"] == "flow_net.levels.1.2.bias"


@pytest.mark.parametrize("name", NETWORKS)
def test_a_checkpoint_in_their_layout_gives_equal_outputs(name: str, tmp_path: Path) -> None:
    arguments, network = NETWORKS[name][0], ungated(name)
    state = network.state_dict()
    weights = {f"generator.{theirs}": state[ours] for theirs, ours in names_of(arguments).items()}
    weights["step_counter"] = torch.zeros(1)
    if name == "basicvsr_pp":
        weights |= {f"generator.spynet.{constant}": torch.ones(1, 3, 1, 1) for constant in ("mean", "std")}
    file, said = tmp_path / "theirs.pth", []
    torch.save({"meta": {"epoch": 3}, "state_dict": weights}, file)
    loaded = load_dense(file, arguments, said.append)
    assert said == [f"{file}: weights in mmagic's layout, under state_dict, of generator"]
    assert torch.equal(outputs(loaded), outputs(network))


def outputs(network: Any) -> Tensor:
    frames_NTCHW = torch.rand(1, 3, 3, 8, 12, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        frames: Tensor = network(frames_NTCHW).frames_NTCHW
    return frames
