"""Fused kernels are the same functions as PyTorch's own, and are forms that timing chooses among on a card alone."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from fused_on_cpu import cudnn_stand_in, use_on_cpu
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.nn import functional as F

from vsrprune.channels.operations import KINDS, Operation
from vsrprune.channels.plan import PrunePlan
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.basicvsr.spec import BasicVSRArguments
from vsrprune.networks.fast import blocks, device_operations, fastest, flow, fused, onednn
from vsrprune.networks.fast.blocks import (
    COUNTS,
    READS,
    WRITES,
    BlockShape,
    Form,
    FrozenBlock,
    block_shape,
    fastest_forms,
    possible_forms,
)
from vsrprune.networks.fast.device_operations import FORMATS, operation_calls, time_tables
from vsrprune.networks.fast.fused import KERNELS, ONEDNN, PLAIN, available, placed, shuffle_order, works
from vsrprune.networks.fast.narrow import one_by_one
from vsrprune.networks.parts.flow import SPyNet
from vsrprune.networks.parts.layers import ResidualBlock

CPU = torch.device("cpu")
FUSED = [name for name in KERNELS if name != PLAIN]
FORMS = [Form(*values) for values in itertools.product(READS, WRITES, KERNELS, COUNTS)]
every_form = pytest.mark.parametrize("form", FORMS, ids=str)


@pytest.fixture(autouse=True)
def _known_anew() -> Iterator[None]:
    available.cache_clear()
    yield
    available.cache_clear()


@pytest.fixture
def fused_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    use_on_cpu(monkeypatch)


def residual_block(
    read: list[int] | None, written: list[int] | None, width: int = 20, middle: int = 5
) -> ResidualBlock:
    torch.manual_seed(0)
    convs = (
        nn.Conv2d(len(read) if read else width, middle, 3, padding=1),
        nn.Conv2d(middle, len(written) if written else width, 3, padding=1),
    )
    return ResidualBlock(*convs, read=read, written=written, scale=0.7).double().requires_grad_(False)


def flow_net() -> SPyNet:
    """Two levels of three convolutions, random ones, with noise for flows."""
    torch.manual_seed(0)
    net = SPyNet(levels=2, kernel=3, widths=(4, 5)).double().eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.2)
    return net


# What the kernels compute


def test_places_of_channels() -> None:
    assert placed([1, 3], 5).tolist() == [-1, 0, -1, 1, -1]
    assert placed([], 2).tolist() == [-1, -1]


def test_the_order_of_filters_before_a_shuffle() -> None:
    # Unit u at place p of an enlarged pixel is filter 4 u + p; all units at place 0 come first.
    assert shuffle_order(8, 2) == [0, 4, 1, 5, 2, 6, 3, 7]


@pytest.mark.parametrize("factor", [2, 3])
def test_a_shuffle_of_reordered_filters(factor: int) -> None:
    filters = 5 * factor**2
    x_NCHW, bias = torch.randn(2, filters, 3, 4), torch.randn(filters)
    expected = F.leaky_relu(F.pixel_shuffle(x_NCHW + bias.view(-1, 1, 1), factor), 0.2)
    order = shuffle_order(filters, factor)
    got_NHWC = fused.bias_shuffle(x_NCHW[:, order].permute(0, 2, 3, 1), bias[order], factor, 0.2)
    assert torch.equal(got_NHWC.permute(0, 3, 1, 2), expected)


def test_scattering_changes_only_its_channels() -> None:
    stream_PC = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    # Not a number in a channel must not reach those that are not written, not even times zero.
    update_PK, bias_K = torch.tensor([[torch.nan, 10.0], [1.0, 20.0]]), torch.tensor([0.5, 1.0])
    fused.bias_scatter_(stream_PC, update_PK, bias_K, placed([2, 1], 3))
    expected = torch.tensor([[1.0, 13.0, torch.nan], [4.0, 26.0, 7.5]])
    assert torch.equal(stream_PC.nan_to_num(-1.0), expected.nan_to_num(-1.0))


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.usefixtures("fused_on_cpu")
def test_fused_kernels_compute_what_the_plain_ones_do(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert works(name, CPU, torch.float32 if name == ONEDNN else torch.float64)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_torch_compile_makes_of_them_is_the_same(dtype: torch.dtype) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert works("compiled", CPU, dtype)
    with torch.inference_mode():
        # Of other sizes than those that were compiled first.
        for pixels, width, some in ((40, 16, 8), (30, 24, 24), (10, 8, 1)):
            stream_PC, update_PK, bias_K = torch.randn(pixels, width), torch.randn(pixels, some), torch.randn(some)
            place_C = placed(sorted(torch.randperm(width)[:some].tolist()), width)
            expected = fused.bias_scatter_(stream_PC.clone(), update_PK, bias_K, place_C)
            fused.compiled(fused.bias_scatter_)(stream_PC, update_PK, bias_K, place_C)
            torch.testing.assert_close(stream_PC, expected)


# What works where


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_nothing_is_tried_on_a_cpu_in_types_that_its_library_has_not(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "works", lambda *arguments: pytest.fail("tried"))
    assert available(CPU, dtype) == ()


@pytest.mark.parametrize("dtype", [dtype for dtype in onednn.TYPES if onednn.offers(dtype)])
def test_on_a_cpu_its_library_joins_what_follows_a_convolution(dtype: torch.dtype) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert available(CPU, dtype) == (ONEDNN,)
    assert fused.to_time((ONEDNN,)) == (ONEDNN,)  # the plain ones are its own too, in more calls


def test_without_its_library_a_cpu_has_plain_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert available(CPU, torch.float32) == ()
    assert fused.to_time(()) == (PLAIN,)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("reads", [1, 3, 16])
@pytest.mark.parametrize("writes", [1, 5, 32])
@pytest.mark.parametrize("kernel", [1, 3])
def test_what_a_cpu_joins_is_what_it_computes_step_by_step(
    kernel: int, writes: int, reads: int, memory_format: str
) -> None:
    torch.manual_seed(0)
    kernels, plain = KERNELS[ONEDNN], KERNELS[PLAIN]
    x_NCHW = torch.randn(2, reads, 7, 9).contiguous(memory_format=FORMATS[memory_format])
    weight, bias = torch.randn(4 * writes, reads, kernel, kernel), torch.randn(4 * writes)
    weight = weight.contiguous(memory_format=FORMATS[memory_format])
    stream_NCHW = torch.randn(2, 4 * writes, 7, 9).contiguous(memory_format=FORMATS[memory_format])
    expected = plain.conv_add_(stream_NCHW.clone(memory_format=torch.preserve_format), x_NCHW, weight, bias)
    for summed_NCHW in (kernels.conv_add_(stream_NCHW, x_NCHW, weight, bias), stream_NCHW):
        torch.testing.assert_close(summed_NCHW, expected)
    torch.testing.assert_close(
        kernels.conv_relu(x_NCHW, weight, bias), F.relu(F.conv2d(x_NCHW, weight, bias, padding=kernel // 2))
    )
    got, wanted = (which.conv_leaky(x_NCHW, weight, bias, 0.1) for which in (kernels, plain))
    torch.testing.assert_close(got, wanted)
    order = shuffle_order(4 * writes, 2)
    got = kernels.conv_shuffle(x_NCHW, weight[order], bias[order], 2, 0.1)
    torch.testing.assert_close(got, plain.conv_shuffle(x_NCHW, weight, bias, 2, 0.1))


def test_a_depthwise_convolution_is_joined_too() -> None:
    x_NCHW, weight, bias = torch.randn(1, 6, 7, 9), torch.randn(6, 1, 3, 3), torch.randn(6)
    got, wanted = (KERNELS[name].conv_leaky(x_NCHW, weight, bias, 0.1) for name in (ONEDNN, PLAIN))
    torch.testing.assert_close(got, wanted)


@pytest.mark.usefixtures("fused_on_cpu")
def test_kernels_that_fail_are_left_out_and_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(*inputs: object) -> Tensor:
        raise RuntimeError("Failed to find C compiler.\nA long trace")

    monkeypatch.setattr(fused, "compiled", lambda function: no_compiler)
    monkeypatch.setattr(fused, "works", lambda name, device, dtype: works(name, CPU, dtype))  # there is no card here
    with pytest.warns(UserWarning, match="without compiled kernels on .*: Failed to find C compiler.$") as told:
        found = [available(torch.device("cuda"), torch.float32) for _ in range(2)]
    assert found == [("cudnn",)] * 2
    assert len(told) == 1


@pytest.mark.usefixtures("fused_on_cpu")
def test_the_last_of_the_available_kernels_fuses_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "works", lambda name, device, dtype: works(name, CPU, dtype))
    assert available(torch.device("cuda"), torch.float32) == ("compiled", "compiled, cudnn")


@pytest.mark.usefixtures("fused_on_cpu")
def test_kernels_that_are_wrong_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_garbage(*inputs: object) -> Tensor:
        return cudnn_stand_in(*inputs) * torch.nan  # type: ignore[arg-type]

    monkeypatch.setattr(torch, "cudnn_convolution_relu", with_garbage)
    with pytest.warns(UserWarning, match="without cudnn kernels on cpu: conv_relu, narrow conv_relu differs"):
        assert not works("cudnn", CPU, torch.float32)


# Forms of blocks


@pytest.mark.usefixtures("fused_on_cpu")
@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("written", [None, [0, 3, 4, 17]], ids=str)
@pytest.mark.parametrize("read", [None, [1, 2, 9]], ids=str)
@every_form
def test_every_form_is_the_block_in_place(
    form: Form, read: list[int] | None, written: list[int] | None, memory_format: str
) -> None:
    # oneDNN has no kernels of float64.
    dtype, apart = (torch.float32, 1e-5) if form.kernels == ONEDNN else (torch.float64, 1e-12)
    block = residual_block(read, written).to(dtype)
    weights = {name: value.clone() for name, value in block.state_dict().items()}
    frozen = FrozenBlock(block, {channel: channel for channel in range(20)}, form)
    frozen = frozen.to(memory_format=FORMATS[memory_format])  # type: ignore[call-overload]
    stream_NCHW = torch.randn(2, 20, 7, 9, dtype=dtype).contiguous(memory_format=FORMATS[memory_format])
    expected, before = block(stream_NCHW), stream_NCHW.clone()
    for changed_NCHW in (frozen(stream_NCHW), stream_NCHW):
        torch.testing.assert_close(changed_NCHW, expected, rtol=apart, atol=apart)
    left = [channel for channel in range(20) if written is not None and channel not in written]
    assert torch.equal(stream_NCHW[:, left], before[:, left])
    assert all(torch.equal(value, weights[name]) for name, value in block.state_dict().items())


@every_form
def test_eights_are_multiples_that_hold_the_kept_counts(form: Form) -> None:
    if form.counts == "kept":
        return
    frozen = FrozenBlock(residual_block([1, 2, 9], [0, 3, 4, 17]), dict(zip(range(20), range(20), strict=True)), form)
    reads, writes = (20 if form.read == "whole" else 8), (20 if form.write == "whole" else 8)
    assert one_by_one(frozen.weight1, None)[0].shape == (8, reads, 3, 3)
    assert frozen.weight2.shape == (writes, 8, 3, 3)
    assert frozen.bias2 is None


@pytest.mark.parametrize("middle", [7, 8])
def test_the_bias_that_a_channel_carries_is_exact_at_the_border(middle: int) -> None:
    block = residual_block(None, None, width=3, middle=middle)
    for parameter in block.parameters():
        parameter.data = parameter.mul(8).round()  # whole numbers, of which sums are exact
    block.scale = 1.0
    stream_NCHW = torch.randint(-4, 5, (1, 3, 4, 5)).double()
    expected = block(stream_NCHW)
    frozen = FrozenBlock(block, {channel: channel for channel in range(3)}, Form("whole", "whole", PLAIN, "eights"))
    assert frozen.weight2.shape[1] == {7: 8, 8: 16}[middle]
    assert torch.equal(frozen(stream_NCHW), expected)


def test_active_channels_stand_in_another_order() -> None:
    block = residual_block([1, 9], [0, 17])
    position = {channel: place for place, channel in enumerate([0, 1, 9, 17])}
    stream_NCHW = torch.randn(1, 20, 5, 5, dtype=torch.float64)
    expected = block(stream_NCHW)[:, [0, 1, 9, 17]]
    for counts in COUNTS:
        frozen = FrozenBlock(block, position, Form(counts=counts))
        torch.testing.assert_close(frozen(stream_NCHW[:, [0, 1, 9, 17]]), expected, rtol=1e-12, atol=1e-12)


def test_without_fused_kernels_the_forms_are_ways_to_read_and_write() -> None:
    shape = BlockShape(active=8, read=4, middle=4, written=4)
    assert possible_forms(shape, ()) == [Form(read, write) for read, write in itertools.product(READS, WRITES)]
    assert possible_forms(replace(shape, read=8, written=8), ()) == [Form("whole", "whole")]


def test_what_a_cpu_joins_takes_the_place_of_what_it_computes_step_by_step() -> None:
    shape = BlockShape(active=8, read=4, middle=5, written=4)
    forms = [Form(read, write, ONEDNN) for read, write in itertools.product(READS, WRITES)]
    assert possible_forms(shape, (ONEDNN,)) == forms


def test_with_fused_kernels_more_forms_are_tried() -> None:
    shape = BlockShape(active=8, read=8, middle=4, written=8)
    assert possible_forms(shape, ("cudnn", "compiled")) == [
        Form("whole", "whole", PLAIN, "kept"),
        Form("whole", "whole", "cudnn", "kept"),
        Form("whole", "whole", "compiled", "kept"),
        Form("whole", "whole", "compiled", "eights"),
    ]


def test_forms_that_cannot_win_are_not_timed() -> None:
    shape = BlockShape(active=64, read=16, middle=24, written=32)

    def tried(shape: BlockShape, *fused: str) -> list[tuple[str, str]]:
        return [(form.kernels, form.counts) for form in possible_forms(shape, fused)]

    # Counts in eights need no filling up, and what compiled kernels gather and scatter is not timed without them.
    assert tried(shape, "compiled") == [(PLAIN, "kept")] + 4 * [("compiled", "kept")]
    uneven = 4 * [("compiled", "kept")] + 4 * [("compiled", "eights")]
    assert tried(replace(shape, middle=23), "compiled") == [(PLAIN, "kept"), *uneven]
    # cuDNN alone leaves the second bias to a kernel of its own, unless a channel carries it.
    assert tried(shape, "cudnn") == 4 * [(PLAIN, "kept")] + 4 * [("cudnn", "kept")] + 4 * [("cudnn", "eights")]


@pytest.mark.usefixtures("fused_on_cpu")
def test_a_fused_form_is_taken_where_it_is_the_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "available", lambda device, dtype: tuple(FUSED))
    block = residual_block([1, 2, 9], [0, 3])
    tried: list[Form] = []

    def time(call: Callable[[], object]) -> float:
        call()
        tried.append(call.func._form)  # type: ignore[attr-defined]
        return 1.0 if tried[-1] == Form("whole", "scatter", "compiled", "kept") else 2.0

    chains = [([block], list(range(20)))]
    frame_NCHW = torch.rand(1, 3, 6, 6, dtype=torch.float64)
    shape = block_shape(block, 20)
    forms = fastest_forms(chains, frame_NCHW, torch.channels_last, time)
    assert forms == {shape: Form("whole", "scatter", "compiled", "kept")}
    assert tried == possible_forms(shape, FUSED)
    fastest_forms(chains, frame_NCHW, torch.contiguous_format, time)
    assert tried[len(possible_forms(shape, FUSED)) :] == possible_forms(shape, ())


@pytest.mark.usefixtures("fused_on_cpu")
def test_a_network_is_frozen_with_fused_ends_where_those_are_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    for room in (blocks, fastest):
        monkeypatch.setattr(room, "available", lambda device, dtype: tuple(FUSED))
    arguments = BasicVSRArguments(channels=4, blocks=1, flow_levels=1, flow_kernel=3, flow_widths=(4,))
    layout = BasicVSR(arguments).channel_layout("rsc")
    network = BasicVSR(arguments).with_plan(PrunePlan.keep_all("rsc", layout)).double().eval()
    clip_NTCHW = torch.rand(1, 2, 3, 6, 6, dtype=torch.float64)
    ended: list[bool] = []

    def time(call: Callable[[], object]) -> float:
        call()
        frozen = call.func  # type: ignore[attr-defined]
        if isinstance(frozen, FrozenBlock):
            return 1.0
        ended.append(frozen._kernels is KERNELS[FUSED[-1]])
        return 1.0 if ended[-1] else 2.0

    frozen, name = fastest.freeze(network, clip_NTCHW, time)
    assert ended == [False, False, True]  # contiguous, channels_last, and the latter fused
    assert name == "channels_last, fused"
    with torch.no_grad():
        expected = network(clip_NTCHW).frames_NTCHW
    torch.testing.assert_close(frozen(clip_NTCHW), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.usefixtures("fused_on_cpu")
def test_a_form_that_cannot_run_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_engine(*inputs: object) -> Tensor:
        raise RuntimeError("GET was unable to find an engine to execute this computation")

    monkeypatch.setattr(torch, "cudnn_convolution_relu", no_engine)
    monkeypatch.setattr(blocks, "available", lambda device, dtype: ("cudnn",))
    block, frame_NCHW = residual_block(None, None), torch.rand(1, 3, 6, 6, dtype=torch.float64)
    forms = fastest_forms([([block], list(range(20)))], frame_NCHW, torch.channels_last, lambda call: (call(), 1.0)[1])  # type: ignore[func-returns-value]
    assert forms[block_shape(block, 20)] == Form("whole", "whole", PLAIN, "kept")


# Flow nets


@pytest.mark.usefixtures("fused_on_cpu")
@pytest.mark.parametrize("name", KERNELS)
def test_a_flow_net_with_joined_convolutions_is_the_same(name: str) -> None:
    net = flow_net()
    names = list(net.state_dict())
    first_NCHW, second_NCHW = torch.rand(2, 2, 3, 12, 20, dtype=torch.float64)
    with torch.no_grad():
        expected = net(first_NCHW, second_NCHW)
        got = flow.joined(net, name)(first_NCHW, second_NCHW)
    torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-11)
    assert sum(isinstance(module, flow.ConvReLU) for module in flow.joined(net, name).modules()) == 4
    assert list(net.state_dict()) == names


@pytest.mark.parametrize("fastest_one", range(3))
@pytest.mark.usefixtures("fused_on_cpu")
def test_the_fastest_flow_net_is_used_by_all_who_hold_it(fastest_one: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "available", lambda device, dtype: ("compiled", "compiled, cudnn"))
    holder, inner = nn.Module(), nn.Module()
    holder.inner, holder.flow_net = inner, flow_net()
    inner.flow_net = plain = holder.flow_net
    times = iter([1.0 if place == fastest_one else 2.0 for place in range(3)])
    flow.use_fastest_flow(holder, torch.rand(1, 3, 12, 20, dtype=torch.float64), lambda call: (call(), next(times))[1])  # type: ignore[func-returns-value]
    assert holder.flow_net is inner.flow_net
    assert (holder.flow_net is plain) == (fastest_one == 0)


# The table of round_to=auto


@pytest.mark.usefixtures("fused_on_cpu")
@pytest.mark.parametrize("kind", KINDS)
def test_ways_to_run_an_operation(kind: str) -> None:
    operation = Operation(kind, *{"gather": (8, 3), "scatter": (3, 8), "shuffle": (32, 8)}.get(kind, (8, 8)), 3)

    def ways(names: tuple[str, ...]) -> list[object]:
        calls = operation_calls(operation, (5, 6), torch.channels_last, CPU, torch.float32, names)
        return [call() for call in calls.values()]

    assert len(ways(())) == 1
    assert len(ways((ONEDNN,))) == {"activation": 0, "add": 0}.get(kind, 1)
    assert len(ways(("cudnn", "compiled"))) == {"activation": 0, "add": 1}.get(kind, 3)


@pytest.mark.usefixtures("fused_on_cpu")
def test_the_table_takes_the_fastest_way_and_a_fused_activation_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_operations, "available", lambda device, dtype: ("cudnn", "compiled"))
    conv, activation = Operation("conv", 4, 4, 3), Operation("activation", 4, 4)
    drawn = iter([3.0, 2.0, 7.0, 5.0, 6.0])  # contiguous: convolution, activation; channels_last: a convolution's ways
    tables = time_tables([conv, activation], (4, 4), CPU, lambda call: next(drawn), lambda done: None)
    rows = {name: {row["kind"]: row["ms"] for row in table.to_json()} for name, table in tables.items()}
    assert rows == {"contiguous": {"conv": 3.0, "activation": 2.0}, "channels_last": {"conv": 5.0, "activation": 0.0}}


@pytest.mark.slow
def test_widths_of_parameters_do_not_compile_anew() -> None:
    torch._dynamo.reset()
    kernels = KERNELS["compiled"]
    counters["stats"].clear()
    with torch.inference_mode():
        for width in (8, 12, 20, 28, 36, 44, 52, 60, 64):  # more than torch.compile would compile for
            x_NCHW = torch.randn(1, width, 6, 7).contiguous(memory_format=torch.channels_last)
            bias = nn.Parameter(torch.randn(width), requires_grad=False)
            expected = F.leaky_relu(x_NCHW + bias[:, None, None], 0.1)
            torch.testing.assert_close(kernels.leaky(x_NCHW.clone(), bias, 0.1), expected)
    assert counters["stats"]["unique_graphs"] <= 2
