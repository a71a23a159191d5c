"""A network of one's own: what tracing finds, what a declaration adds, and every way to get it wrong."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from vsrprune.channels.layout import RULES
from vsrprune.channels.plan import PrunePlan
from vsrprune.errors import UserError
from vsrprune.metrics.cost import network_cost
from vsrprune.networks.files import WEIGHTS, load_network, save_network
from vsrprune.networks.own import Declaration, OwnNetwork, VSROutput
from vsrprune.networks.parts.flow import SPyNet
from vsrprune.pruning.surgery import compact, equivalence_error

CHANNELS = 6


def conv(inputs: int, outputs: int, kernel: int = 3, **options) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)


class Recurrent(OwnNetwork):
    """A residual stream whose end is the next frame's state, an upsampler that reads a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.first = conv(3 + CHANNELS, CHANNELS)
        self.conv1 = nn.ModuleList(conv(CHANNELS, CHANNELS) for _ in range(2))
        self.conv2 = nn.ModuleList(conv(CHANNELS, CHANNELS) for _ in range(2))
        self.skip = conv(CHANNELS, 4, 1)
        self.up = conv(CHANNELS + 4, 4 * 5)
        self.high = conv(5, 5)
        self.last = conv(5, 3)

    @property
    def state_width(self) -> int:
        return self.first.out_channels

    def before(self, state: Tensor, t: int) -> Tensor:
        return state

    def forward(self, frames_NTCHW: Tensor, flows: object = None) -> VSROutput:
        batch, _, _, height, width = frames_NTCHW.shape
        state = frames_NTCHW.new_zeros(batch, self.state_width, height, width)
        frames, states = [], []
        for frame in frames_NTCHW.unbind(1):
            state = F.relu(self.first(torch.cat((frame, self.before(state, len(states))), dim=1)))
            for conv1, conv2 in zip(self.conv1, self.conv2, strict=True):
                state = state + conv2(F.relu(conv1(state)))
            x = self.up(torch.cat((state, self.skip(state).relu()), dim=1))
            x = self.high(F.leaky_relu(F.pixel_shuffle(x, 2), 0.1))
            frames.append(self.last(x) + F.interpolate(frame, scale_factor=2.0, mode="bilinear"))
            states.append(state)
        return VSROutput(torch.stack(frames, dim=1), {"state": states})

    def channel_groups(self, rule: str) -> Declaration:
        spec = Declaration(rule)
        spec.stream("state", starts=["first"])
        spec.reads("first", 3, "state")
        for index in range(2):
            spec.block("state", f"conv1.{index}", f"conv2.{index}")
        spec.reads("skip", "state")
        spec.reads("up", "state", "skip")
        return spec


class HandsOn(Recurrent):
    def before(self, state: Tensor, t: int) -> Tensor:
        return self.handed_on(state, t - 1, t)


class Image(OwnNetwork):
    """A chain of convolutions that needs no declaration; subclasses put something between two of them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, CHANNELS), conv(CHANNELS, CHANNELS), conv(CHANNELS, 3)

    def between(self, x: Tensor) -> Tensor:
        return F.relu(x)

    def forward(self, frames_NTCHW: Tensor, flows: object = None) -> VSROutput:
        frames = [self.c(self.between(self.b(F.relu(self.a(frame))))) for frame in frames_NTCHW.unbind(1)]
        return VSROutput(torch.stack(frames, dim=1), {})


def group_sizes(network: OwnNetwork, rule: str) -> dict[str, int]:
    return {group.name: group.size for group in network.channel_layout(rule).groups}


BLOCKS = {"conv1.0": 6, "conv1.1": 6}
PLAIN = {"skip": 4, "up": 5, "high": 5}


@pytest.mark.parametrize(
    ("rule", "groups"),
    [
        ("inner", {**BLOCKS, **PLAIN}),
        ("aligned", {"state.stream": 6, **BLOCKS, **PLAIN}),
        ("rsc", {**BLOCKS, "conv1.0.input": 6, "conv1.1.input": 6, "conv2.0": 6, "conv2.1": 6, **PLAIN}),
    ],
)
def test_groups_by_hand(rule: str, groups: dict[str, int]) -> None:
    assert group_sizes(Recurrent().prepare(), rule) == groups


def test_a_stream_that_the_rule_keeps_is_explained() -> None:
    network = Recurrent().prepare()
    assert "first: 6 channels, never cut: it writes stream 'state'" in network.explain("rsc")
    assert "first: 6 channels in group state.stream" in network.explain("aligned")


def test_the_groups_of_a_block_share_its_name() -> None:
    layout = Recurrent().prepare().channel_layout("rsc")
    blocks = {group.name: group.block for group in layout.groups if group.block}
    assert blocks == {
        f"{name}.{index}{end}": f"conv1.{index}"
        for index in range(2)
        for name, end in (("conv1", ".input"), ("conv1", ""), ("conv2", ""))
    }


@pytest.mark.parametrize("rule", RULES)
def test_macs_and_parameters_are_those_of_the_network(rule: str) -> None:
    network = Recurrent().prepare()
    layout = network.channel_layout(rule)
    plan = PrunePlan.cutting(rule, layout, {group.name: [0, 2] for group in layout.groups})
    for some, kept in ((network, None), (compact(network, plan), plan.kept_counts)):
        cost = network_cost(some, (8, 12))
        assert cost.macs == layout.macs_per_pixel(kept) * 8 * 12
        assert cost.parameters == layout.parameters(kept)


@cache
def recurrent() -> Recurrent:
    """The network that all examples cut: it takes half a second to trace, and the cut is made on a copy."""
    return Recurrent().prepare()


@given(seed=st.integers(0, 2**31), rule=st.sampled_from(RULES))
def test_any_cut_is_exact(seed: int, rule: str) -> None:
    network = recurrent()
    draw = torch.Generator().manual_seed(seed)
    layout = network.channel_layout(rule)
    cut = {
        group.name: torch.randperm(group.size, generator=draw)[
            : int(torch.randint(group.size, (1,), generator=draw))
        ].tolist()
        for group in layout.groups
    }
    frames = torch.rand(2, 3, 3, 7, 9, generator=draw)
    assert equivalence_error(network, PrunePlan.cutting(rule, layout, cut), frames, torch.float64) <= 1e-12


def test_a_cut_network_is_saved_and_read_back(tmp_path: Path) -> None:
    network = Recurrent().prepare()
    layout = network.channel_layout("rsc")
    smaller = compact(network, PrunePlan.cutting("rsc", layout, {"up": [1], "conv2.0": [0, 3]}))
    frames = torch.rand(1, 2, 3, 8, 8)
    for name, some in (("dense", network), ("pruned", smaller)):
        save_network(some, tmp_path / name)
        again = load_network(tmp_path / name)
        assert again.arguments == some.arguments
        assert torch.equal(again(frames).frames_NTCHW, some(frames).frames_NTCHW)
    save_network(Image().prepare(), tmp_path / "image")
    (tmp_path / "image" / WEIGHTS).write_bytes((tmp_path / "dense" / WEIGHTS).read_bytes())
    with pytest.raises(UserError, match="another network"):
        load_network(tmp_path / "image")


def test_the_hidden_state_of_a_stream_loses_its_channels() -> None:
    network = Recurrent().prepare()
    plan = PrunePlan.cutting("aligned", network.channel_layout("aligned"), {"state.stream": [0, 5]})
    smaller = compact(network, plan)
    assert smaller.stream_channels("state") == (1, 2, 3, 4)
    assert smaller(torch.rand(1, 2, 3, 8, 8)).hidden["state"][1].shape[1] == 4
    assert network.stream_channels("state") is None
    assert network.arguments.branches == ("state",)
    assert network.arguments.scale == 2


@pytest.mark.parametrize(("kind", "truncates"), [(Recurrent, False), (HandsOn, True), (Image, False)])
def test_whether_gradients_of_states_can_be_ended_is_found_by_itself(kind: type[OwnNetwork], truncates: bool) -> None:
    network = kind().prepare()
    assert network.arguments.truncates is truncates
    assert network.gradient_frames == 0
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_chain_needs_no_declaration() -> None:
    network = Image().prepare()
    assert {rule: group_sizes(network, rule) for rule in RULES} == {rule: {"a": 6, "b": 6} for rule in RULES}
    assert "c: 3 channels, never cut" in network.explain("rsc")


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: F.leaky_relu_(x, 0.2),
        lambda x: F.interpolate(F.avg_pool2d(x, 2), scale_factor=2.0),
        lambda x: torch.tanh(x) * 0.5,
        lambda x: F.dropout(F.gelu(x), 0.1, training=False).contiguous(),
    ],
)
def test_plain_operations_are_seen_through(operation: Callable[[Tensor], Tensor]) -> None:
    class Plain(Image):
        def between(self, x: Tensor) -> Tensor:
            return operation(x)

    assert group_sizes(Plain().prepare(), "rsc") == {"a": 6, "b": 6}


@pytest.mark.parametrize(
    ("operation", "reason"),
    [
        (torch.sigmoid, "sigmoid"),
        (lambda x: x + 1, "add"),
        (lambda x: x.flip(1), "flip"),
        (lambda x: torch.cat((x[:, :3], x[:, 3:]), dim=1), "__getitem__"),
        (lambda x: x.add_(1.0), "add_"),
        (lambda x: F.group_norm(x, 2), "group_norm"),
        (lambda x: x.softmax(dim=1), "softmax"),
    ],
)
def test_what_is_not_plain_keeps_its_channels(operation: Callable[[Tensor], Tensor], reason: str) -> None:
    class Opaque(Image):
        def between(self, x: Tensor) -> Tensor:
            return operation(x)

    network = Opaque().prepare()
    assert group_sizes(network, "rsc") == {"a": 6}
    assert f"b: 6 channels, never cut: {reason}" in network.explain("rsc")


def test_convolutions_that_cannot_lose_channels_are_left_whole() -> None:
    class Odd(Image):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Conv2d(3, CHANNELS, 3, padding="same", bias=False)
            self.b = nn.Conv2d(CHANNELS, CHANNELS, (1, 3), padding=(0, 1))
            self.depth = conv(CHANNELS, CHANNELS, groups=CHANNELS)

        def between(self, x: Tensor) -> Tensor:
            return self.depth(x)

    class NoBias(Image):
        def __init__(self) -> None:
            super().__init__()
            self.b = conv(CHANNELS, CHANNELS, bias=False)

    assert group_sizes(NoBias().prepare(), "rsc") == {"a": 6, "b": 6}
    with pytest.raises(UserError, match="nothing can be cut"):
        Odd().prepare()


def test_outputs_that_are_multiplied_lose_the_same_channels() -> None:
    class Product(Image):
        def __init__(self) -> None:
            super().__init__()
            self.d = conv(3, CHANNELS)

        def forward(self, frames_NTCHW: Tensor, flows: object = None) -> VSROutput:
            frames = [
                self.c(self.b(F.relu(self.a(frame))) * self.d(frame).sigmoid()) for frame in frames_NTCHW.unbind(1)
            ]
            return VSROutput(torch.stack(frames, dim=1), {})

        def channel_groups(self, rule: str) -> Declaration:
            spec = Declaration(rule)
            spec.together("b", "d")
            spec.reads("c", "b")
            return spec

    network = Product().prepare()
    assert group_sizes(network, "inner") == {"a": 6, "b": 6}
    plan = PrunePlan.cutting("inner", network.channel_layout("inner"), {"b": [0, 4]})
    assert compact(network, plan).d.out_channels == 4


# Every way to get it wrong


class OtherOrder(Recurrent):
    def channel_groups(self, rule: str) -> Declaration:
        spec = super().channel_groups(rule)
        spec._reads["first"] = ("state", 3)
        return spec


class OtherOrderOfFeatures(Recurrent):
    def channel_groups(self, rule: str) -> Declaration:
        spec = super().channel_groups(rule)
        spec._reads["up"] = ("skip", "state")
        return spec


class MissingReader(Recurrent):
    def channel_groups(self, rule: str) -> Declaration:
        spec = super().channel_groups(rule)
        del spec._reads["skip"]
        return spec


class MissingBlock(Recurrent):
    def channel_groups(self, rule: str) -> Declaration:
        spec = super().channel_groups(rule)
        del spec._blocks["conv1.1"]
        spec._streams["state"].adds.remove("conv2.1")
        return spec


class TwoGroups(Recurrent):
    def channel_groups(self, rule: str) -> Declaration:
        spec = super().channel_groups(rule)
        spec.together("conv2.0", "skip")
        return spec


class ConstantWidth(Recurrent):
    state_width = CHANNELS  # type: ignore[assignment]


class ConstantInForward(Image):
    def between(self, x: Tensor) -> Tensor:
        return x * x.new_ones(1, CHANNELS, 1, 1)

    def channel_groups(self, rule: str) -> Declaration:
        spec = Declaration(rule)
        spec.reads("c", "b")
        return spec


class NotZero(Image):
    def between(self, x: Tensor) -> Tensor:
        return x.sigmoid()

    def channel_groups(self, rule: str) -> Declaration:
        spec = Declaration(rule)
        spec.reads("c", "b")
        return spec


class WrongCount(Recurrent):
    def channel_groups(self, rule: str) -> Declaration:
        spec = super().channel_groups(rule)
        spec._reads["first"] = (4, "state")
        return spec


class UnknownName(Recurrent):
    def channel_groups(self, rule: str) -> Declaration:
        spec = super().channel_groups(rule)
        spec.whole("upp")
        return spec


class OtherWidths(Recurrent):
    def channel_groups(self, rule: str) -> Declaration:
        spec = super().channel_groups(rule)
        spec.adds("state", "high")
        return spec


class NobodyReads(Image):
    def forward(self, frames_NTCHW: Tensor, flows: object = None) -> VSROutput:
        output = super().forward(frames_NTCHW)
        return VSROutput(output.frames_NTCHW + 0 * self.b(frames_NTCHW.new_ones(1, self.b.in_channels, 4, 4)).sum(), {})

    def channel_groups(self, rule: str) -> Declaration:
        spec = Declaration(rule)
        spec.whole("a")
        return spec


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (OtherOrder, "state.stream .*another place among the inputs of first"),
        (OtherOrderOfFeatures, "another place among the inputs of up"),
        (MissingReader, r"skip got 3 channels, but has 6 inputs.*add reads\('skip', ...\)"),
        (MissingBlock, r"conv1.1 got 3 channels, but has 6 inputs"),
        (TwoGroups, "'conv2.0' stand in two groups: stream 'state' and together"),
        (ConstantWidth, "first reads these channels.*a width stands in the network as a constant"),
        (ConstantInForward, r"test_own_network.py:\d+ \(return x \* x.new_ones.*never from constants"),
        (NotZero, "a channel of zeros does not stay one"),
        (WrongCount, "names 4 \\+ 6 = 10 channels, but 'first' has 9 inputs"),
        (UnknownName, "'upp' is no convolution that a run of the network called; it called first, conv1.0"),
        (OtherWidths, "written by convolutions of other widths: .*'high': 5"),
    ],
)
def test_a_wrong_declaration_is_named(wrong: type[OwnNetwork], words: str) -> None:
    with pytest.raises(UserError, match=f"(?s){words}"):
        wrong().prepare()


class OtherName(Recurrent):
    """Its hidden state narrows under `aligned`, and its name does not say how."""

    def forward(self, frames_NTCHW: Tensor, flows: object = None) -> VSROutput:
        frames_NTCHW, hidden = super().forward(frames_NTCHW)
        return VSROutput(frames_NTCHW, {"memory": hidden["state"]})


class OtherState(Recurrent):
    """Its hidden state bears the name of the stream, and is something else."""

    def forward(self, frames_NTCHW: Tensor, flows: object = None) -> VSROutput:
        frames_NTCHW, hidden = super().forward(frames_NTCHW)
        return VSROutput(frames_NTCHW, {"state": [state.flip(1) for state in hidden["state"]]})


class DrawsNumbers(Image):
    def forward(self, frames_NTCHW: Tensor, flows: object = None) -> VSROutput:
        output = super().forward(frames_NTCHW)
        return output._replace(frames_NTCHW=output.frames_NTCHW + torch.randn_like(output.frames_NTCHW))


class NotFinite(Image):
    def forward(self, frames_NTCHW: Tensor, flows: object = None) -> VSROutput:
        output = super().forward(frames_NTCHW)
        return output._replace(frames_NTCHW=(output.frames_NTCHW - 1e6).sqrt())


class NoStates(Image):
    def forward(self, frames_NTCHW: Tensor, flows: object = None) -> VSROutput:
        return super().forward(frames_NTCHW)._replace(hidden=None)  # type: ignore[arg-type]


class OneTensor(Image):
    def forward(self, frames_NTCHW: Tensor, flows: object = None) -> VSROutput:
        return super().forward(frames_NTCHW)._replace(hidden={"all": frames_NTCHW[0]})  # type: ignore[dict-item]


class InFloat64(Image):
    def __init__(self) -> None:
        super().__init__()
        self.double()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (OtherName, "rule aligned: hidden state 'memory' has 3 of 6 channels left, and its name does not say which"),
        (OtherState, "hidden state 'state' is not that of its name; it differs by"),
        (DrawsNumbers, "two runs on one clip differ"),
        (NotFinite, "its output on a clip in .0, 1. is not finite"),
        (NoStates, "must return hidden states by name, {} for none; got NoneType"),
        (OneTensor, r"hidden state 'all' must be a list, one tensor \(N, C, H, W\) per frame; got Tensor"),
        (InFloat64, "networks are trained in torch.float32; this one has parameters in torch.float64"),
    ],
)
def test_what_training_could_not_use_is_named_before_it(wrong: type[OwnNetwork], words: str) -> None:
    with pytest.raises(UserError, match=words):
        wrong().prepare()


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda spec: spec.block("body", "a", "b"), "'body' is used before it is declared"),
        (lambda spec: (spec.stream("s", starts=["a"]), spec.stream("s", starts=["b"])), "'s' is declared twice"),
        (lambda spec: (spec.reads("a", 3), spec.reads("a", 3)), "what 'a' reads is declared twice"),
    ],
)
def test_a_declaration_refuses_contradictions_at_once(use: Callable[[Declaration], object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        use(Declaration("rsc"))


def test_a_network_that_returns_something_else_is_named() -> None:
    class Bare(Image):
        def forward(self, frames_NTCHW: Tensor, flows: object = None) -> Tensor:  # type: ignore[override]
            return super().forward(frames_NTCHW).frames_NTCHW

    class Flat(Image):
        def forward(self, frames_NTCHW: Tensor, flows: object = None) -> VSROutput:
            return VSROutput(super().forward(frames_NTCHW).frames_NTCHW[:, 0], {})

    with pytest.raises(UserError, match="must return VSROutput"):
        Bare().prepare()
    with pytest.raises(UserError, match="must return frames of"):
        Flat().prepare()
    with pytest.raises(UserError, match="call prepare"):
        Image().channel_layout("rsc")
    with pytest.raises(UserError, match="T >= 2"):
        Image().prepare(torch.rand(1, 1, 3, 8, 8))


def test_an_idle_branch_hides_no_mistake() -> None:
    """A last convolution of zeros gives the same output whatever was cut before it."""

    class Idle(OtherOrder):
        def __init__(self) -> None:
            super().__init__()
            nn.init.zeros_(self.last.weight)

    with pytest.raises(UserError, match="another place"):
        Idle().prepare()


def test_a_flow_net_is_never_pruned() -> None:
    class Flowing(Image):
        def __init__(self) -> None:
            super().__init__()
            self.flow_net = SPyNet(levels=2, kernel=3, widths=(4,))

        def forward(self, frames_NTCHW: Tensor, flows: object = None) -> VSROutput:
            flow = self.flow_net(frames_NTCHW[:, 0], frames_NTCHW[:, -1])
            output = super().forward(frames_NTCHW)
            return output._replace(frames_NTCHW=output.frames_NTCHW + flow.mean())

    network = Flowing().prepare()
    for rule in RULES:
        assert group_sizes(network, rule) == {"a": CHANNELS, "b": CHANNELS}
    assert not [name for name, _ in network.flow_net.named_parameters() if "gate" in name]
