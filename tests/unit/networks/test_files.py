"""Networks as files: bit-equal round trips, and one line about what does not fit."""

import json
from pathlib import Path

import pytest
import torch
from networks_made import random_network, small_basicvsr
from safetensors.torch import save_file
from torch.utils._python_dispatch import TorchDispatchMode

from vsrprune.channels.layout import RULES
from vsrprune.channels.plan import PrunePlan
from vsrprune.errors import UserError
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.checkpoints import load_dense
from vsrprune.networks.files import DESCRIPTION, WEIGHTS, load_network, read_weights, save_network
from vsrprune.pruning.surgery import compact

both_directions = pytest.mark.parametrize("bidirectional", [True, False], ids=["bi", "uni"])


def network_of(**changes) -> BasicVSR:
    return random_network(small_basicvsr(**changes), dtype=torch.float32)


def uneven_plan(network: BasicVSR, rule: str) -> PrunePlan:
    """Other units and other numbers of units in every group."""
    layout = network.channel_layout(rule)
    return PrunePlan.cutting(
        rule, layout, {g.name: {(i + k) % g.size for k in range(i % g.size)} for i, g in enumerate(layout.groups)}
    )


def outputs(network: BasicVSR) -> torch.Tensor:
    frames_NTCHW = torch.rand(1, 3, 3, 7, 9, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return network(frames_NTCHW).frames_NTCHW


def same_weights(a: BasicVSR, b: BasicVSR) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@both_directions
@pytest.mark.parametrize("rule", RULES)
def test_compact_network_comes_back_bit_equal(rule: str, bidirectional: bool, tmp_path: Path) -> None:
    dense = network_of(bidirectional=bidirectional)
    network = compact(dense, uneven_plan(dense, rule))
    save_network(network, tmp_path)
    loaded = load_network(tmp_path)
    assert loaded.plan == network.plan
    assert loaded.arguments == network.arguments
    assert same_weights(loaded, network)
    assert torch.equal(outputs(loaded), outputs(network))


@both_directions
def test_dense_network_comes_back_bit_equal_with_its_gates(bidirectional: bool, tmp_path: Path) -> None:
    network = network_of(bidirectional=bidirectional)
    save_network(network, tmp_path)
    loaded = load_network(tmp_path)
    assert loaded.plan is None
    assert [g.tolist() for g in loaded.gate_parameters()] == [g.tolist() for g in network.gate_parameters()]
    assert same_weights(loaded, network)
    assert torch.equal(outputs(loaded), outputs(network))


def test_saving_again_replaces_the_network(tmp_path: Path) -> None:
    first, second = (
        network_of(),
        network_of(blocks=1),
    )
    save_network(first, tmp_path)
    save_network(second, tmp_path)
    assert same_weights(load_network(tmp_path), second)


def test_the_folder_holds_no_pickle(tmp_path: Path) -> None:
    """Two files: one is JSON, the other a JSON header of given length and raw numbers to the last byte."""
    network = network_of()
    save_network(compact(network, uneven_plan(network, "rsc")), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([WEIGHTS, DESCRIPTION])
    assert json.loads((tmp_path / DESCRIPTION).read_text())["plan"]["rule"] == "rsc"
    content = (tmp_path / WEIGHTS).read_bytes()
    header_size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + header_size])
    end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    assert 8 + header_size + end == len(content)


# Weights of one's own


def test_load_dense_reads_this_projects_own_weights(tmp_path: Path) -> None:
    network = network_of()
    save_network(network, tmp_path)
    assert same_weights(load_dense(tmp_path / WEIGHTS, small_basicvsr()), network)


def test_missing_gates_are_one(tmp_path: Path) -> None:
    network = network_of()
    weights = {name: value for name, value in network.state_dict().items() if not name.endswith("gate")}
    save_file(weights, tmp_path / "own.safetensors")
    loaded = load_dense(tmp_path / "own.safetensors", small_basicvsr())
    assert all(torch.equal(gate, torch.ones_like(gate)) for gate in loaded.gate_parameters())
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in weights.items())


def basicsr_names(network: BasicVSR) -> dict[str, torch.Tensor]:
    """The ungated weights under the names of BasicSR's BasicVSR."""
    renamed = {}
    for name, value in network.state_dict().items():
        if name.endswith("gate"):
            continue
        parts = name.split(".")
        if parts[0] == "flow_net":  # flow_net.levels.<level>.<layer>.<kind>
            name = f"spynet.basic_module.{parts[2]}.basic_module.{parts[3]}.{parts[4]}"
        elif parts[0].endswith("_trunk"):
            place = ["main", "0"] if parts[1] == "first" else ["main", "2"]
            name = ".".join([parts[0], *place, *parts[2:]])
        renamed[name] = value
    return renamed


def test_basicsr_layout_is_understood(tmp_path: Path) -> None:
    network = network_of()
    with torch.no_grad():
        for gate in network.gate_parameters():
            gate.fill_(1.0)
    weights = basicsr_names(network)
    assert "forward_trunk.main.2.1.conv2.bias" in weights
    assert "spynet.basic_module.0.basic_module.2.weight" in weights
    save_file(weights, tmp_path / "official.safetensors")
    loaded = load_dense(tmp_path / "official.safetensors", small_basicvsr())
    assert same_weights(loaded, network)
    assert torch.equal(outputs(loaded), outputs(network))


def test_half_precision_is_read_exactly_as_float32(tmp_path: Path) -> None:
    network = network_of()
    halves = {name: value.half() for name, value in network.state_dict().items()}
    save_file(halves, tmp_path / "half.safetensors")
    assert {value.dtype for value in read_weights(tmp_path / "half.safetensors").values()} == {torch.float32}
    loaded = load_dense(tmp_path / "half.safetensors", small_basicvsr())
    for name, value in loaded.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, halves[name].float())


# What does not fit


def complaint(call, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_more_blocks_than_the_file_has(tmp_path: Path) -> None:
    file = tmp_path / "own.safetensors"
    save_file(network_of(blocks=1).state_dict(), file)
    message = complaint(load_dense, file, small_basicvsr(blocks=2))
    assert str(file) in message
    # two branches, one block each: two convolutions of weight and bias; the gates need not be there
    assert "8 missing: backward_trunk.blocks.1.conv1.weight, backward_trunk.blocks.1.conv1.bias, " in message
    assert "unexpected" not in message
    assert "another shape" not in message


def test_fewer_blocks_than_the_file_has(tmp_path: Path) -> None:
    file = tmp_path / "own.safetensors"
    weights = {name: value for name, value in network_of(blocks=2).state_dict().items() if "gate" not in name}
    save_file(weights, file)
    message = complaint(load_dense, file, small_basicvsr(blocks=1))
    assert "8 unexpected: backward_trunk.blocks.1.conv1." in message
    assert "missing" not in message


def test_another_width(tmp_path: Path) -> None:
    file = tmp_path / "own.safetensors"
    save_file(
        {k: v for k, v in network_of(channels=4).state_dict().items() if "gate" not in k},
        file,
    )
    message = complaint(load_dense, file, small_basicvsr(channels=6))
    assert "of another shape: " in message
    assert "backward_trunk.first.weight is (4, 7, 3, 3) instead of (6, 9, 3, 3)" in message
    assert message.count(" instead of ") <= 3  # the first ones are enough


def test_weights_of_a_compact_network_are_not_a_dense_one(tmp_path: Path) -> None:
    dense = network_of()
    save_network(compact(dense, uneven_plan(dense, "aligned")), tmp_path)
    assert "of another shape" in complaint(load_dense, tmp_path / WEIGHTS, small_basicvsr())


def test_weights_beside_another_description(tmp_path: Path) -> None:
    for name, network in (
        ("a", network_of()),
        ("b", network_of(bidirectional=False)),
    ):
        (tmp_path / name).mkdir()
        save_network(network, tmp_path / name)
    (tmp_path / "a" / WEIGHTS).replace(tmp_path / "b" / WEIGHTS)
    message = complaint(load_network, tmp_path / "b")
    assert str(tmp_path / "b" / WEIGHTS) in message
    assert "unexpected: backward_trunk." in message


def damaged(content: bytes) -> dict[str, bytes]:
    return {
        "empty": b"",
        "noise": b"these are no weights, whatever the name says",
        "half": content[: len(content) // 2],
        "header": content[:20],
        "pickle": b"\x80\x02}q\x00." * 10,
    }


@pytest.mark.parametrize("kind", list(damaged(b"")))
def test_damaged_weights_are_named(kind: str, tmp_path: Path) -> None:
    save_network(network_of(), tmp_path)
    file = tmp_path / WEIGHTS
    file.write_bytes(damaged(file.read_bytes())[kind])
    for call, arguments in ((load_network, (tmp_path,)), (load_dense, (file, small_basicvsr()))):
        message = complaint(call, *arguments)
        assert message.startswith(f"{file}: cannot read these weights")
        assert ".safetensors file is expected" in message


def test_missing_files_are_named(tmp_path: Path) -> None:
    assert str(tmp_path / "none.safetensors") in complaint(load_dense, tmp_path / "none.safetensors", small_basicvsr())
    assert str(tmp_path / DESCRIPTION) in complaint(load_network, tmp_path)
    save_network(network_of(), tmp_path)
    (tmp_path / WEIGHTS).unlink()
    assert str(tmp_path / WEIGHTS) in complaint(load_network, tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [("{ not json", "cannot read the network's description"), ('{"network": "swinir"}', "unknown network 'swinir'")],
)
def test_damaged_description_is_named(content: str, words: str, tmp_path: Path) -> None:
    save_network(network_of(), tmp_path)
    (tmp_path / DESCRIPTION).write_text(content)
    message = complaint(load_network, tmp_path)
    assert message.startswith(f"{tmp_path / DESCRIPTION}: ")
    assert words in message


class Operations(TorchDispatchMode):
    """The operations that run on the meta device."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.is_meta:
            self.seen.add(func.name().partition(".")[0])
        return out


def test_to_hold_a_description_against_its_weights_computes_nothing_on_the_meta_device(tmp_path: Path) -> None:
    """For one operation there PyTorch imports 800 modules: a second, and 75 MB, of every command with a network."""
    dense = network_of()
    save_network(compact(dense, uneven_plan(dense, "rsc")), tmp_path)
    with Operations() as operations:
        load_network(tmp_path)
    assert operations.seen <= {"aten::empty", "aten::ones", "aten::detach", "aten::view", "aten::clone"}
