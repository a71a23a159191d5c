"""Checkpoints of other projects: modules built as theirs are give the names, and the outputs must be equal."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from networks_made import random_network
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from vsrprune.errors import UserError
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.basicvsr.spec import BasicVSRArguments
from vsrprune.networks.basicvsr.weights import LAYOUTS, tensor_names
from vsrprune.networks.checkpoints import load_dense, load_flow
from vsrprune.networks.parts.published import likeliest

CHANNELS, BLOCKS, HIGH, LEVELS, WIDTHS, KERNEL = 4, 2, 5, 2, (4, 3), 3


def arguments(**changes) -> BasicVSRArguments:
    values = {"channels": CHANNELS, "blocks": BLOCKS, "upsampler_channels": HIGH, "slope": 0.0}
    flow = {"flow_levels": LEVELS, "flow_kernel": KERNEL, "flow_widths": WIDTHS}
    return BasicVSRArguments(**{**values, **flow, **changes})


# How their code nests its modules (mmagic 1.x, BasicSR 1.4, the released code of arXiv 2206.07687).


class Holder(nn.Module):
    def __init__(self, **children: nn.Module) -> None:
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)


class ScaledConv(nn.Conv2d):
    """SSL's convolutions: scales of shape (1, C, 1, 1) on the outputs, and on the inputs of conv1."""

    def __init__(self, inputs: int, outputs: int, kernel: int, shuffled: int = 1, scaled_inputs: bool = False) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2)
        self.shuffled = shuffled
        if scaled_inputs:
            self.act_scale_pre = nn.Parameter(torch.ones(1, inputs, 1, 1))
        self.act_scale = nn.Parameter(torch.ones(1, outputs // shuffled, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        if hasattr(self, "act_scale_pre"):
            x = x * self.act_scale_pre
        y = F.conv2d(x, self.weight, self.bias, padding=self.padding)
        b, c, h, w = y.shape
        return (self.act_scale * y.view(b, c // self.shuffled, -1, w)).view(b, c, h, w)


def spynet(conv_module: bool) -> nn.Module:
    def level() -> nn.Module:
        layers: list[nn.Module] = []
        for inputs, outputs in zip((8, *WIDTHS), (*WIDTHS, 2), strict=True):
            conv = nn.Conv2d(inputs, outputs, KERNEL, padding=KERNEL // 2)
            layers += [Holder(conv=conv)] if conv_module else [conv, nn.ReLU()]
        return Holder(basic_module=nn.Sequential(*layers))

    net = Holder(basic_module=nn.ModuleList(level() for _ in range(LEVELS)))
    net.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
    net.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
    return net


def conv(inputs: int, outputs: int, kernel: int = 3, **_: object) -> nn.Module:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


def branch(make=conv) -> nn.Module:
    blocks = [
        Holder(conv1=make(CHANNELS, CHANNELS, 3, scaled_inputs=True), conv2=make(CHANNELS, CHANNELS, 3))
        for _ in range(BLOCKS)
    ]
    return Holder(main=nn.Sequential(conv(3 + CHANNELS, CHANNELS), nn.LeakyReLU(0.1), nn.Sequential(*blocks)))


def basicsr(make=conv) -> nn.Module:
    return Holder(
        spynet=spynet(conv_module=False),
        backward_trunk=branch(make),
        forward_trunk=branch(make),
        fusion=make(2 * CHANNELS, CHANNELS, 1),
        upconv1=make(CHANNELS, 4 * CHANNELS, 3, shuffled=4),
        upconv2=make(CHANNELS, 4 * HIGH, 3, shuffled=4),
        conv_hr=make(HIGH, HIGH, 3),
        conv_last=conv(HIGH, 3),
    )


def mmagic() -> nn.Module:
    return Holder(
        spynet=spynet(conv_module=True),
        backward_resblocks=branch(),
        forward_resblocks=branch(),
        fusion=conv(2 * CHANNELS, CHANNELS, 1),
        upsample1=Holder(upsample_conv=conv(CHANNELS, 4 * CHANNELS)),
        upsample2=Holder(upsample_conv=conv(CHANNELS, 4 * HIGH)),
        conv_hr=conv(HIGH, HIGH),
        conv_last=conv(HIGH, 3),
    )


THEIRS = {"BasicSR": basicsr, "SSL": lambda: basicsr(ScaledConv), "mmagic": mmagic}


def network_of(seed: int = 0, **changes) -> BasicVSR:
    return random_network(arguments(**changes), seed, dtype=torch.float32)


def convs(network: nn.Module) -> list[nn.Conv2d]:
    return [module for module in network.modules() if isinstance(module, nn.Conv2d)]


def written_by(layout: str, network: BasicVSR) -> dict[str, Tensor]:
    """The state dict of their network with our network's weights: convolution by convolution, in order."""
    theirs = THEIRS[layout]()
    with torch.no_grad():
        for target, source in zip(convs(theirs), convs(network), strict=True):
            target.weight.copy_(source.weight)
            target.bias.copy_(source.bias)
            for name, gate in (("act_scale", "gate"), ("act_scale_pre", "input_gate")):
                if hasattr(target, name):
                    getattr(target, name).copy_(getattr(source, gate).view(1, -1, 1, 1))
    return theirs.state_dict()


def ungate(network: BasicVSR, layout: str) -> BasicVSR:
    """With the gates that the layout cannot hold at 1."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("gate") and (layout != "SSL" or "first" in name):
                parameter.fill_(1.0)
    return network


def outputs(network: BasicVSR) -> Tensor:
    frames_NTCHW = torch.rand(1, 3, 3, 7, 9, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return network(frames_NTCHW).frames_NTCHW


def complaint(file: Path, **changes) -> str:
    with pytest.raises(UserError) as caught:
        load_dense(file, arguments(**changes))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{file}: ")
    return message


@pytest.mark.parametrize("layout", THEIRS)
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_a_checkpoint_of_another_project_gives_equal_outputs(layout: str, suffix: str, tmp_path: Path) -> None:
    network = ungate(network_of(), layout)
    file = tmp_path / f"official{suffix}"
    weights = written_by(layout, network)
    if suffix == ".safetensors":
        save_file(weights, file)
    else:
        torch.save(weights, file)
    said: list[str] = []
    loaded = load_dense(file, arguments(), said.append)
    assert torch.equal(outputs(loaded), outputs(network))
    assert {name: gate.tolist() for name, gate in loaded.named_parameters() if name.endswith("gate")} == {
        name: gate.tolist() for name, gate in network.named_parameters() if name.endswith("gate")
    }
    assert said == [f"{file}: weights in {layout}'s layout"]


def test_the_names_are_those_of_the_published_files() -> None:
    names = {layout: list(written_by(layout, network_of())) for layout in THEIRS}
    assert "generator.forward_resblocks.main.2.1.conv2.bias".removeprefix("generator.") in names["mmagic"]
    assert {"spynet.basic_module.1.basic_module.2.conv.weight", "upsample2.upsample_conv.bias"} <= set(names["mmagic"])
    assert "forward_trunk.main.2.0.conv1.act_scale_pre" in names["SSL"]
    assert "forward_trunk.main.0.act_scale" not in names["SSL"]
    tables = {name: tensor_names(layout, arguments()) for name, layout in LAYOUTS.items()}
    assert {layout: likeliest(tables, found) for layout, found in names.items()} == {name: name for name in THEIRS}


def test_gates_act_as_the_authors_scales_do(tmp_path: Path) -> None:
    theirs = basicsr(ScaledConv)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    torch.save({"params": theirs.state_dict()}, tmp_path / "ssl.pth")
    loaded = load_dense(tmp_path / "ssl.pth", arguments())
    x_NCHW = torch.randn(2, CHANNELS, 6, 7, generator=generator)
    with torch.no_grad():
        for name, place in (("upconv1", "upconv1"), ("forward_trunk.blocks.1.conv1", "forward_trunk.main.2.1.conv1")):
            ours, expected = loaded.get_submodule(name)(x_NCHW), theirs.get_submodule(place)(x_NCHW)
            assert torch.allclose(ours, expected, atol=1e-5)
            assert expected.std() > 0.1


def test_the_authors_networks_want_relu(tmp_path: Path) -> None:
    torch.save({"params": written_by("SSL", network_of())}, tmp_path / "ssl.pth")
    assert "model.slope is 0.1; add model.slope=0" in complaint(tmp_path / "ssl.pth", slope=0.1)


# Wrappers and prefixes


def prefixed(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in weights.items()}


def wrapped(kind: str, good: dict[str, Tensor], bad: dict[str, Tensor]) -> dict[str, object]:
    return {
        "params": {"params": good},
        "averaged": {"params": bad, "params_ema": good},
        "mmagic": {
            "meta": {"epoch": 3, "dataset": None},
            "state_dict": {"step_counter": torch.zeros(1), **prefixed("generator.", good)},
        },
        "mmagic, averaged": {"state_dict": {**prefixed("generator.", bad), **prefixed("generator_ema.", good)}},
        "parallel": prefixed("module.", good),
        "parallel inside": {"state_dict": prefixed("generator.module.", good)},
    }[kind]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("params", ", under params"),
        ("averaged", ", under params_ema instead of params"),
        ("mmagic", ", under state_dict, of generator"),
        ("mmagic, averaged", ", under state_dict, of generator_ema"),
        ("parallel", ", of module"),
        ("parallel inside", ", under state_dict, of generator, of module"),
    ],
)
def test_wrappers_and_prefixes_are_taken_off(kind: str, words: str, tmp_path: Path) -> None:
    network, other = (ungate(network_of(seed), "mmagic") for seed in (0, 1))
    content = wrapped(kind, written_by("mmagic", network), written_by("mmagic", other))
    torch.save(content, tmp_path / "net.pth")
    said: list[str] = []
    assert torch.equal(outputs(load_dense(tmp_path / "net.pth", arguments(), said.append)), outputs(network))
    assert said == [f"{tmp_path / 'net.pth'}: weights in mmagic's layout{words}"]


# What does not fit


def test_missing_and_unexpected_weights_bear_the_names_of_the_file(tmp_path: Path) -> None:
    torch.save(
        {"state_dict": prefixed("generator.", written_by("mmagic", network_of()))},
        tmp_path / "net.pth",
    )
    message = complaint(tmp_path / "net.pth", blocks=BLOCKS + 1)
    assert "8 missing: backward_resblocks.main.2.2.conv1.weight, backward_resblocks.main.2.2.conv1.bias, " in message
    message = complaint(tmp_path / "net.pth", blocks=BLOCKS - 1)
    assert "8 unexpected: backward_resblocks.main.2.1.conv1.weight, " in message
    message = complaint(tmp_path / "net.pth", channels=6)
    assert "backward_resblocks.main.0.weight is (4, 7, 3, 3) instead of (6, 9, 3, 3)" in message


class Malicious:
    def __reduce__(self):
        return (print, ("this code must never run",))


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(
        {"params": written_by("BasicSR", network_of()), "more": Malicious()},
        tmp_path / "evil.pth",
    )
    message = complaint(tmp_path / "evil.pth")
    assert "as plain tensors" in message
    assert ".safetensors" in message
    assert capsys.readouterr().out == ""


def files_without_weights() -> dict[str, bytes]:
    return {"empty": b"", "noise": b"no weights, whatever the name says", "zip": b"PK\x03\x04" + bytes(40)}


@pytest.mark.parametrize("kind", files_without_weights())
def test_files_that_are_no_checkpoint_are_named(kind: str, tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(files_without_weights()[kind])
    assert "cannot read these weights" in complaint(tmp_path / "net.pth")


def test_a_cut_checkpoint_is_named(tmp_path: Path) -> None:
    file = tmp_path / "net.pth"
    torch.save({"params": written_by("BasicSR", network_of())}, file)
    file.write_bytes(file.read_bytes()[:-500])
    assert "cannot read these weights" in complaint(file)


@pytest.mark.parametrize("content", [{}, {"params": {}}, {"params": 3}, [torch.zeros(1)], torch.zeros(2), {"epoch": 7}])
def test_a_checkpoint_without_weights_is_named(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "net.pth")
    assert "no weights in it" in complaint(tmp_path / "net.pth")


def test_old_pickles_are_read_too(tmp_path: Path) -> None:
    """Checkpoints from before PyTorch 1.6 are no zip files."""
    network = ungate(network_of(), "BasicSR")
    torch.save({"params": written_by("BasicSR", network)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert torch.equal(outputs(load_dense(tmp_path / "old.pth", arguments())), outputs(network))
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"params": Malicious()}))
    assert "cannot read these weights" in complaint(tmp_path / "plain.pth")


# The flow net alone


@pytest.mark.parametrize("layout", ["BasicSR", "mmagic", "vsrprune"])
def test_a_flow_net_of_its_own_replaces_only_the_flow_net(layout: str, tmp_path: Path) -> None:
    source, target = (
        network_of(0),
        network_of(1),
    )
    before = {name: value.clone() for name, value in target.state_dict().items()}
    if layout == "vsrprune":
        weights = source.flow_net.state_dict()
    else:
        weights = {
            name.removeprefix("spynet."): value
            for name, value in written_by(layout, source).items()
            if name.startswith("spynet.")
        }
        assert "mean" in weights
    torch.save({"params": weights}, tmp_path / "spynet.pth")
    said: list[str] = []
    load_flow(tmp_path / "spynet.pth", target, said.append)
    assert said == [f"{tmp_path / 'spynet.pth'}: flow net in {layout}'s layout, under params"]
    for name, value in target.state_dict().items():
        expected = source.state_dict()[name] if name.startswith("flow_net.") else before[name]
        assert torch.equal(value, expected), name


def test_a_flow_net_of_another_size_is_refused(tmp_path: Path) -> None:
    torch.save(network_of().flow_net.state_dict(), tmp_path / "spynet.pth")
    with pytest.raises(UserError, match=r"spynet\.pth: these weights are of another network \(6 missing: levels\.2\.0"):
        load_flow(tmp_path / "spynet.pth", network_of(flow_levels=3))
