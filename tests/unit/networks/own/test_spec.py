"""A network of one's own by its file: what is found out, what is kept, and which mistakes are one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from forked import CONTEXT, described_by

from vsrprune.channels.layout import RULES
from vsrprune.channels.plan import PrunePlan
from vsrprune.errors import UserError
from vsrprune.networks.checkpoints import load_dense
from vsrprune.networks.fast.fastest import freeze
from vsrprune.networks.files import load_network, save_network
from vsrprune.networks.graph import divide
from vsrprune.networks.own import sources, spec
from vsrprune.networks.own.spec import DescribedArguments, Description, OwnArguments
from vsrprune.networks.table import FAMILIES, build, family_name, identity_of
from vsrprune.pruning.surgery import compact
from vsrprune.use.streaming import Pieces, Span, span_of

NET = """
import torch
from torch import nn
from torch.nn import functional as F
from vsrprune.networks.own import Declaration, OwnNetwork, VSROutput


class Net(OwnNetwork):
    reach = (1, 0)
    smallest_side = 4

    def __init__(self, channels=4, depth=1):
        super().__init__()
        self.first = nn.Conv2d(6, channels, 3, padding=1, bias=False)
        self.up = nn.Conv2d(channels, 12, 3, padding=1)
        if depth != 1:
            raise ValueError("depth is 1")

    def forward(self, frames_NTCHW, flows=None):
        frames, states = [], []
        for t in range(frames_NTCHW.shape[1]):
            both = torch.cat((frames_NTCHW[:, max(0, t - 1)], frames_NTCHW[:, t]), dim=1)
            states.append(F.relu(self.first(both)))
            frames.append(F.pixel_shuffle(self.up(states[-1]), 2))
        return VSROutput(torch.stack(frames, dim=1), {"first": states})
"""


def net(folder: Path, text: str = NET) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "net.py").write_text(text)
    return folder / "net.py"


@pytest.fixture(autouse=True)
def quick_description(described: DescribedArguments, monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes that describe networks are forked with torch imported; that of `described` starts from nothing."""
    monkeypatch.setattr(spec, "subprocess", described_by(CONTEXT))


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> DescribedArguments:
    folder = tmp_path_factory.mktemp("own")
    return OwnArguments(f"{net(folder)}:Net", {"channels": 6}).prepared(folder / "networks")


def test_the_traits_are_those_of_the_network(described: DescribedArguments) -> None:
    assert (described.scale, described.branches, described.state_channels("first")) == (2, ("first",), 6)
    assert (described.reach, described.goes_back, described.has_flow, described.smallest_side) == (
        (1, 0),
        False,
        False,
        4,
    )
    assert not described.truncates  # no state is handed on
    network = build(described)
    assert network.arguments == described
    assert family_name(described) == "own"
    for rule in RULES:
        assert FAMILIES["own"].layout(described, rule) == network.channel_layout(rule)
    assert [group.size for group in network.channel_layout("rsc").groups] == [6]


def test_the_identity_is_the_content_and_not_the_place(described: DescribedArguments, tmp_path: Path) -> None:
    moved = OwnArguments(f"{net(tmp_path)}:Net", {"channels": 6}).prepared(tmp_path / "networks")
    assert identity_of(moved) == identity_of(described)
    assert moved == described
    other = OwnArguments(f"{net(tmp_path, NET + '# changed')}:Net", {"channels": 6}).prepared(tmp_path / "networks")
    assert identity_of(other) != identity_of(described)
    assert identity_of(described)["arguments"] == {"channels": 6}


def test_a_description_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, folder = net(tmp_path), tmp_path / "networks"
    first = OwnArguments(str(file)).prepared(folder)  # the only network in the file
    assert first.file == f"{file}:Net"
    monkeypatch.setattr(spec, "_described_by_a_child", None)  # what would run the network again
    assert OwnArguments(str(file)).prepared(folder) == first
    (damaged,) = folder.iterdir()
    damaged.write_text(damaged.read_text().replace("conv", "comv", 1))  # it reads well, and fails its checksum
    with pytest.raises(TypeError):
        OwnArguments(str(file)).prepared(folder)


def test_a_description_comes_back_from_json(described: DescribedArguments) -> None:
    assert Description.from_json(described.description.to_json()) == described.description


def test_a_network_is_built_without_touching_the_random_numbers(described: DescribedArguments) -> None:
    """A seed gives the weights that the class itself would give, and then the same numbers."""
    torch.manual_seed(3)
    plain = sources.import_source(sources.read_source(described.place[0])).Net(channels=6)
    after = torch.rand(1)
    torch.manual_seed(3)
    built = build(described)
    assert torch.equal(torch.rand(1), after)
    assert torch.equal(built.first.weight, plain.first.weight)
    torch.manual_seed(3)
    plain.prepare()
    assert torch.equal(torch.rand(1), torch.manual_seed(3) and torch.rand(1))


def test_a_saved_network_outlives_its_file(described: DescribedArguments, tmp_path: Path) -> None:
    file = net(tmp_path)
    arguments = OwnArguments(f"{file}:Net", {"channels": 6}).prepared(tmp_path / "networks")
    network = compact(
        build(arguments), PrunePlan.cutting("rsc", build(arguments).channel_layout("rsc"), {"first": [2]})
    )
    save_network(network, tmp_path / "saved")
    file.write_text("raise RuntimeError\n")
    loaded = load_network(tmp_path / "saved")
    clip = torch.rand(1, 3, 3, 8, 9)
    assert torch.equal(loaded(clip).frames_NTCHW, network(clip).frames_NTCHW)
    assert loaded.arguments == arguments
    with pytest.raises(UserError, match="this file changed since its network was described"):
        build(arguments)
    save_network(loaded, tmp_path / "again")
    assert (tmp_path / "again" / "source" / "net.py").read_text() == NET


def test_plain_weights_of_the_class_are_a_checkpoint(described: DescribedArguments, tmp_path: Path) -> None:
    """Without gates, and without the biases that the author's convolutions do not have."""
    plain = sources.import_source(sources.read_source(described.place[0])).Net(channels=6)
    torch.save({"module." + name: value for name, value in plain.state_dict().items()}, tmp_path / "plain.pth")
    assert "first.bias" not in plain.state_dict()
    loaded = load_dense(tmp_path / "plain.pth", described)
    clip = torch.rand(1, 3, 3, 8, 9)
    torch.testing.assert_close(loaded(clip).frames_NTCHW, plain(clip).frames_NTCHW)
    torch.save({"first.weight": plain.first.weight, "up.bias": plain.up.bias}, tmp_path / "part.pth")
    with pytest.raises(UserError, match=r"1 missing: up.weight"):
        load_dense(tmp_path / "part.pth", described)


def test_it_is_frozen_streamed_by_its_reach_and_divided(described: DescribedArguments) -> None:
    network = compact(build(described), PrunePlan.keep_all("rsc", build(described).channel_layout("rsc"))).eval()
    clip = torch.rand(1, 3, 3, 8, 9)
    frozen, _ = freeze(network, clip, lambda call: float(call() is None))
    torch.testing.assert_close(frozen(clip), network(clip).frames_NTCHW)
    assert span_of(frozen, Pieces(window=7, overlap=5)) == Span(7, 1, 0)
    divided = divide(network, 3)
    assert divided.clip.inputs["frames"] == (1, 3, 3, "height", "width")
    assert divided.clip.outputs["upscaled_frames"] == (1, 3, 3, "2*height", "2*width")
    assert not divided.steps


DECLARED = """
    def channel_groups(self, rule):
        spec = Declaration(rule)
        spec.reads("up", 7)
        return spec

    def forward"""
WRONG = NET.replace("\n    def forward", DECLARED)


@pytest.mark.parametrize(
    ("text", "name", "arguments", "words"),
    [
        (NET, ":Other", {}, "there is no Other in it; networks there: Net"),
        (NET, ":Declaration", {}, "Declaration is no OwnNetwork: derive the class from"),
        (NET, ":Net", {"width": 3}, "model.arguments do not fit Net, which takes channels, depth: got an unexpected"),
        (NET, ":Net", {"depth": 2}, r"Net\(depth=2\) failed in .*net.py, line 17: ValueError: depth is 1"),
        (NET + "class Two(Net):\n    pass\n", "", {}, "several networks; say which: net.py:Net or net.py:Two"),
        ("x = 1\n", "", {}, "no class in it derives from vsrprune.networks.own.OwnNetwork"),
        ("import os\nimport nothing_such\n", ":Net", {}, "importing it failed in .*net.py, line 2: ModuleNotFound"),
        ("def f(:\n", ":Net", {}, "net.py, line 1: this is no Python: "),
        ("raise SystemExit(3)\n", ":Net", {}, "importing it failed in .*net.py, line 1: SystemExit: 3"),
        ("import os\nos._exit(9)\n", ":Net", {}, r"the process that runs it ended \(9\)"),
        (WRONG, ":Net", {}, r"reads\('up', 7\) names 7 = 7 channels, but 'up' has 4 inputs"),
    ],
    ids=["class", "kind", "argument", "value", "two", "none", "import", "syntax", "exit", "crash", "declaration"],
)  # fmt: skip
def test_a_mistake_is_one_line(text: str, name: str, arguments: dict[str, int], words: str, tmp_path: Path) -> None:
    file = net(tmp_path, text)
    with pytest.raises(UserError, match=words) as caught:
        OwnArguments(f"{file}{name}", arguments).prepared(tmp_path / "networks")
    assert str(caught.value).startswith(f"model.file={file}{name}: ")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "networks").exists()


def test_a_file_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model.file is empty; give the file and class of your network"):
        OwnArguments().prepared(tmp_path)


def test_a_network_that_torch_cannot_trace_is_said_so(tmp_path: Path) -> None:
    branch = "            if float(self.up.weight.sum() + both.mean()) > 1e9:\n                raise ValueError\n"
    text = NET.replace("            states.append", f"{branch}            states.append", 1)
    arguments = OwnArguments(str(net(tmp_path, text))).prepared(tmp_path / "networks")
    network = compact(build(arguments), PrunePlan.keep_all("rsc", FAMILIES["own"].layout(arguments, "rsc")))
    with pytest.raises(UserError, match="cannot trace this network for frames of every size; --format safetensors"):
        divide(network, 2).clip.traced(4)


@pytest.mark.parametrize(
    ("file", "name"), [("nets/my_net.py:SmallVSR", "SmallVSR"), ("nets/my_net.py", "my_net"), ("", "own")]
)
def test_tables_call_a_network_by_its_class(file: str, name: str) -> None:
    assert OwnArguments(file).called("own") == name


def test_a_file_that_is_no_text_is_refused() -> None:
    with pytest.raises(UserError, match=r"^model\.file must be text; got None$"):
        OwnArguments(None)  # type: ignore[arg-type]


def test_a_file_that_changes_while_it_is_described_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "net.py"
    file.write_text(NET)
    described = spec._described_by_a_child

    def changes_meanwhile(arguments: OwnArguments, source: sources.Source, name: str) -> dict[str, object]:
        file.write_text(NET + "# changed")
        try:
            return described(arguments, source, name)
        finally:
            file.write_text(NET)

    with monkeypatch.context() as patch:
        patch.setattr(spec, "_described_by_a_child", changes_meanwhile)
        with pytest.raises(UserError, match="changed while it was described"):
            OwnArguments(str(file)).prepared(tmp_path / "store")
    assert OwnArguments(str(file)).prepared(tmp_path / "store").description.content == sources.read_source(file).content
