"""Narrow convolutions: which channels they gather and scatter, and what of the dense one they keep."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsrprune.channels.layout import Slot
from vsrprune.channels.plan import PrunePlan
from vsrprune.channels.specification import RGB, Specification
from vsrprune.networks.narrowing import PartialConv2d, narrow, replace_module
from vsrprune.networks.parts.deformable import DeformableConv2d, GatedDeformableConv2d
from vsrprune.networks.parts.layers import GatedConv2d, ResidualBlock


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2).double()
    with torch.no_grad():
        layer.weight.copy_(noise(*layer.weight.shape))
        layer.bias.copy_(noise(outputs, seed=2))  # type: ignore[union-attr]
    return layer


# Gather and scatter


def test_one_pixel_by_hand() -> None:
    """Reads channels 3 and 0 of four, as 10 and 2; writes places 2 and 1 of three."""
    layer = nn.Conv2d(2, 2, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(2, 2, 1, 1))
        layer.bias.copy_(torch.tensor([0.5, 0.25]))  # type: ignore[union-attr]
    x_NCHW = torch.tensor([2.0, -7.0, -9.0, 10.0]).view(1, 4, 1, 1)
    partial = PartialConv2d(layer, [3, 0], [2, 1], (4, 3))
    assert partial(x_NCHW).flatten().tolist() == [0.0, 3 * 10 + 4 * 2 + 0.25, 10 + 2 * 2 + 0.5]
    assert (partial.in_channels, partial.out_channels) == (4, 3)
    assert list(partial.state_dict()) == ["weight", "bias"]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("read", "written"), [([0, 2, 5], [1, 4]), (None, [1, 4]), ([0, 2, 5], None), (None, None)])
def test_partial_convolutions_gather_and_scatter(
    read: list[int] | None, written: list[int] | None, stride: int
) -> None:
    layer, x_NCHW = conv(3, 2, stride=stride), noise(2, 6 if read else 3, 7, 9)
    partial = PartialConv2d(layer, read, written, (6 if read else 3, 5 if written else 2))
    some_NCHW = layer(x_NCHW[:, read] if read else x_NCHW)
    output_NCHW = partial(x_NCHW)
    assert output_NCHW.shape == (2, 5 if written else 2, *((7, 9) if stride == 1 else (4, 5)))
    assert torch.equal(output_NCHW[:, written] if written else output_NCHW, some_NCHW)
    if written:
        assert not output_NCHW[:, [0, 2, 3]].any()


def test_gradients_go_through_gather_and_scatter() -> None:
    layer, x_NCHW = conv(2, 2), noise(1, 4, 5, 5).requires_grad_()
    partial = PartialConv2d(layer, [3, 1], [0, 2], (4, 3))
    assert torch.autograd.gradcheck(partial, x_NCHW)
    partial(x_NCHW).square().sum().backward()
    assert layer.weight.grad is not None  # the very parameters, not copies
    assert x_NCHW.grad is not None
    assert not x_NCHW.grad[:, [0, 2]].any()
    assert bool(x_NCHW.grad[:, [1, 3]].any())


# A network of a stream, a convolution of stride 2 and a deformable one


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = conv(3, 4)
        self.block = ResidualBlock(conv(4, 4), conv(4, 4), scale=0.5)
        self.end = conv(4, 4)
        self.down = conv(4, 6, stride=2)
        self.deform = DeformableConv2d(6, 5, 3, 3, (0, 1, 1, 2, 0, 2)).double()

    def forward(self, x_NCHW: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        stream_NCHW = self.first(x_NCHW)
        stream_NCHW = stream_NCHW + self.end(self.block(stream_NCHW))
        output: Tensor = self.deform(self.down(stream_NCHW), offset, mask)
        return output


def toy_spec(rule: str) -> Specification:
    spec = Specification(rule)
    stream = spec.stream("body", 4, part="trunk", writers=["first"])
    spec.conv("first", 3, [RGB], stream)
    spec.block("block", "body", part="trunk")
    spec.conv("end", 3, [stream], spec.add("end", "body", part="trunk"))
    down = spec.filters("down", 3, [stream], 6, part="trunk", kind="middle", scale=1 / 2)
    spec.filters("deform", 3, [down], 5, part="trunk", kind="middle", scale=1 / 2)
    return spec


def narrowed(rule: str, kept: dict[str, tuple[int, ...]]) -> Toy:
    layout, toy = toy_spec(rule).layout(), Toy()
    cut = {g.name: set(range(g.size)) - set(kept[g.name]) for g in layout.groups if g.name in kept}
    narrow(toy, layout, PrunePlan.cutting(rule, layout, cut))
    return toy


def test_the_deformable_groups_of_kept_channels_stay() -> None:
    toy = narrowed("inner", {"down": (1, 3, 4), "deform": (0, 2)})
    assert type(toy.deform) is DeformableConv2d
    assert toy.deform.channel_groups == (1, 2, 0)
    assert toy.deform.deformable_groups == 3
    assert toy.deform.weight.shape == (2, 3, 3, 3)
    assert toy.deform.order is not None
    assert toy.deform.order.tolist() == [2, 0, 1]


@pytest.mark.parametrize("gated", [False, True])
def test_a_narrow_deformable_convolution_is_the_dense_one_on_what_is_kept(gated: bool) -> None:
    dense = Toy().deform
    kept, filters = [1, 3, 4], [0, 2]
    toy = Toy()
    with torch.no_grad():
        dense.weight.copy_(noise(*dense.weight.shape))
    toy.deform = GatedDeformableConv2d(copy.deepcopy(dense)) if gated else copy.deepcopy(dense)
    layout = toy_spec("inner").layout()
    narrow(toy, layout, PrunePlan.cutting("inner", layout, {"down": {0, 2, 5}, "deform": {1, 3, 4}}))
    x_NCHW, offset, mask = noise(1, 6, 5, 6), noise(1, 3 * 18, 5, 6, seed=3), noise(1, 3 * 9, 5, 6, seed=4)
    only_NCHW = torch.zeros_like(x_NCHW)
    only_NCHW[:, kept] = x_NCHW[:, kept]
    gain = math.sqrt(6 / 3)  # of an initialisation by fan-in
    got, expected = toy.deform(x_NCHW[:, kept], offset, mask), dense(only_NCHW, offset, mask)[:, filters]
    bias = dense.bias[filters].view(1, -1, 1, 1)
    torch.testing.assert_close(got, (expected - bias) * gain + bias, rtol=1e-12, atol=1e-12)
    assert not [name for name, _ in toy.named_parameters() if name.endswith("gate")]


def test_stride_and_padding_stay() -> None:
    toy = narrowed("aligned", {"body.stream": (0, 3), "down": (5,)})
    assert type(toy.down) is nn.Conv2d
    assert (toy.down.stride, toy.down.padding, toy.down.weight.shape) == ((2, 2), (1, 1), (1, 2, 3, 3))
    assert toy.down(noise(1, 2, 7, 9)).shape == (1, 1, 4, 5)
    dense = Toy().down
    assert torch.equal(toy.down.weight, dense.weight[[5]][:, [0, 3]] * math.sqrt(4 / 2))
    assert torch.equal(toy.down.bias, dense.bias[[5]])  # type: ignore[index]


def test_under_rsc_the_stream_keeps_its_width() -> None:
    toy = narrowed("rsc", {"block.conv1.input": (1, 2), "block.conv1": (0,), "block.conv2": (3,), "end": (0, 2)})
    assert type(toy.first) is nn.Conv2d
    assert toy.first.out_channels == toy.block.width == 4
    assert toy.block.read is not None
    assert toy.block.written is not None
    assert (toy.block.read.tolist(), toy.block.written.tolist()) == ([1, 2], [3])
    assert type(toy.block.conv1) is nn.Conv2d
    assert toy.block.conv1.weight.shape == (1, 2, 3, 3)
    assert isinstance(toy.end, PartialConv2d)
    assert toy.end.read is None
    assert toy.end.written is not None
    assert toy.end.written.tolist() == [0, 2]
    assert (toy.end.in_channels, toy.end.out_channels) == (4, 4)
    stream_NCHW = noise(1, 4, 5, 6)
    changed = (toy.block(stream_NCHW) != stream_NCHW).flatten(2).any(dim=2)
    assert changed.tolist() == [[False, False, False, True]]


def test_a_block_that_keeps_everything_gathers_nothing() -> None:
    toy = narrowed("rsc", {})
    assert toy.block.read is None
    assert toy.block.written is None


@pytest.mark.parametrize(("rule", "width"), [("aligned", 3), ("inner", 4)])
def test_a_block_knows_the_width_of_its_stream(rule: str, width: int) -> None:
    toy = narrowed(rule, {"body.stream": (0, 1, 2), "block.conv1": (1,)})
    assert toy.block.width == toy.first.out_channels == width
    assert toy.block.conv1.in_channels == toy.block.conv2.out_channels == width
    assert toy.block.read is None
    offset, mask = noise(1, 3 * 18, 4, 4), noise(1, 3 * 9, 4, 4)
    assert toy(noise(1, 3, 8, 8), offset, mask).shape == (1, 5, 4, 4)


def test_filters_before_a_shuffle_go_together() -> None:
    spec = Specification("inner")
    read = spec.filters("first", 3, [Slot(2), Slot(1)], 3, part="trunk", kind="middle")
    spec.filters("up", 3, [read, Slot(2)], 2, part="upsampler", kind="shuffle", filters_per_unit=4)
    network = nn.Module()
    network.first, network.up = conv(3, 3), conv(5, 8)
    dense = network.up.weight
    layout = spec.layout()
    narrow(network, layout, PrunePlan.cutting("inner", layout, {"first": {1}, "up": {0}}))
    assert torch.equal(network.up.weight, dense[4:8][:, [0, 2, 3, 4]] * math.sqrt(5 / 4))
    assert network.first.weight.shape == (2, 3, 3, 3)


def test_replace_module_finds_nested_names() -> None:
    network = nn.Module()
    network.inner = nn.Sequential(nn.ReLU(), nn.ReLU())
    layer = conv(1, 1)
    replace_module(network, "inner.1", layer)
    assert network.inner[1] is layer
    replace_module(network, "inner", layer)
    assert network.inner is layer


# Gates on a convolution that is there already


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_gates_of_one_change_nothing(kernel: int, stride: int) -> None:
    layer, x_NCHW = conv(3, 4, kernel, stride), noise(2, 3, 7, 9)
    gated = GatedConv2d.from_conv(layer, gated_inputs=True)
    assert gated.stride == (stride, stride)
    assert gated.weight.dtype == torch.float64
    assert torch.equal(gated(x_NCHW), layer(x_NCHW))
    assert [gate.tolist() for gate in (gated.gate, gated.input_gate)] == [[1] * 4, [1] * 3]  # type: ignore[union-attr]
    with torch.no_grad():
        layer.weight.zero_()
    assert bool(gated.weight.any())  # a copy


@pytest.mark.parametrize("stride", [1, 2])
def test_gates_by_hand(stride: int) -> None:
    """y = gate * (W * (input_gate x) + b); two filters share a gate before a shuffle."""
    layer, x_NCHW = conv(3, 4, 3, stride), noise(2, 3, 7, 9)
    gated = GatedConv2d.from_conv(layer, filters_per_unit=2, gated_inputs=True)
    gate, input_gate = torch.tensor([2.0, -0.5]).double(), torch.tensor([1.5, 0.0, -3.0]).double()
    with torch.no_grad():
        gated.gate.copy_(gate)
        gated.input_gate.copy_(input_gate)  # type: ignore[union-attr]
    read_NCHW = x_NCHW * input_gate.view(1, -1, 1, 1)
    expected = F.conv2d(read_NCHW, layer.weight, layer.bias, stride, 1) * gate[[0, 0, 1, 1]].view(1, -1, 1, 1)
    torch.testing.assert_close(gated(x_NCHW), expected, rtol=1e-12, atol=1e-12)
    assert gated.input_gate is not None
    assert GatedConv2d.from_conv(layer).input_gate is None


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 2, 3),
        nn.Conv2d(2, 2, 3, padding=2),
        nn.Conv2d(2, 2, (1, 3), padding=(0, 1)),
        nn.Conv2d(2, 2, (3, 1), padding=(1, 0)),
        nn.Conv2d(2, 2, 3, padding=1, bias=False),
        nn.Conv2d(2, 2, 3, padding="same"),
    ],
    ids=["not padded", "padded more", "wide", "tall", "without bias", "padded by name"],
)
def test_convolutions_that_carry_no_gates_are_refused(layer: nn.Conv2d) -> None:
    with pytest.raises(ValueError, match="only square, same-padded convolutions with a bias carry gates; got Conv2d"):
        GatedConv2d.from_conv(layer)
