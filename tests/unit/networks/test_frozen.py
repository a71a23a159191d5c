"""A frozen network is the same function in every form, and the form that is chosen is the fastest."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from fused_on_cpu import use_on_cpu

from vsrprune.channels.plan import PrunePlan
from vsrprune.networks.basicvsr.frozen import FrozenBasicVSR
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.basicvsr.spec import BasicVSRArguments
from vsrprune.networks.fast.blocks import (
    READS,
    WRITES,
    BlockShape,
    Form,
    FrozenBlock,
    active_channels,
)
from vsrprune.networks.fast.device_operations import FORMATS
from vsrprune.networks.fast.fastest import Compiled, freeze
from vsrprune.networks.fast.fused import PLAIN
from vsrprune.networks.fast.graphs import direct
from vsrprune.networks.fast.precision import PRECISIONS, in_precision

RULES = ("rsc", "aligned", "inner")


def compact_network(rule: str, bidirectional: bool = True, share: float = 0.5, **arguments: object) -> BasicVSR:
    """A small compact network with a random plan and random weights, in float64."""
    torch.manual_seed(0)
    values = {"channels": 8, "blocks": 2, "upsampler_channels": 6, "flow_levels": 2, "flow_kernel": 3}
    shaped = BasicVSRArguments(**{**values, "flow_widths": (4,), "bidirectional": bidirectional, **arguments})  # type: ignore[arg-type]
    network = BasicVSR(shaped)
    layout = network.channel_layout(rule)
    draw = np.random.default_rng(1)
    cut = {group.name: draw.choice(group.size, int(group.size * share), replace=False) for group in layout.groups}
    plan = PrunePlan.cutting(rule, layout, {name: channels.tolist() for name, channels in cut.items()})
    smaller = network.with_plan(plan).double().eval()
    for parameter in smaller.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return smaller


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize(("read", "write"), list(itertools.product(READS, WRITES)))
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("rule", RULES)
def test_every_form_is_the_same_function(
    rule: str, bidirectional: bool, read: str, write: str, memory_format: str
) -> None:
    network = compact_network(rule, bidirectional)
    clip_NTCHW = torch.rand(2, 3, 3, 13, 15, dtype=torch.float64)
    frozen = FrozenBasicVSR(network, lambda shape: Form(read, write)).to(memory_format=FORMATS[memory_format])  # type: ignore[call-overload]
    with torch.no_grad():
        expected = network(clip_NTCHW).frames_NTCHW
        flows = network.flows(clip_NTCHW)
    torch.testing.assert_close(frozen(clip_NTCHW), expected, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(frozen(clip_NTCHW, flows), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.8])
@pytest.mark.parametrize("factors", [(2, 2), (4,), (3,), (2,)])
def test_every_scale_and_share(factors: tuple[int, ...], share: float) -> None:
    network = compact_network("rsc", factors == (2, 2), share, upscale_factors=factors)
    clip_NTCHW = torch.rand(1, 1, 3, 9, 7, dtype=torch.float64)
    with torch.no_grad():
        expected = network(clip_NTCHW).frames_NTCHW
    torch.testing.assert_close(FrozenBasicVSR(network, lambda shape: Form())(clip_NTCHW), expected)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("rule", RULES)
def test_scale_1(rule: str, bidirectional: bool) -> None:
    network = compact_network(rule, bidirectional, upscale_factors=())
    clip_NTCHW = torch.rand(2, 3, 3, 9, 7, dtype=torch.float64)
    with torch.no_grad():
        expected = network(clip_NTCHW).frames_NTCHW
    assert expected.shape == clip_NTCHW.shape
    frozen = FrozenBasicVSR(network, lambda shape: Form())
    torch.testing.assert_close(frozen(clip_NTCHW), expected, rtol=1e-11, atol=1e-11)


def test_the_network_that_is_frozen_stays_as_it_was() -> None:
    network = compact_network("rsc")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    freeze(network, torch.rand(1, 2, 3, 8, 8, dtype=torch.float64), lambda call: 1.0)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.is_contiguous() for parameter in network.parameters())


def test_a_network_with_gates_is_refused() -> None:
    network = BasicVSR(BasicVSRArguments(channels=4, blocks=1, flow_levels=1, flow_kernel=3, flow_widths=(4,)))
    with pytest.raises(ValueError, match="fold its gates"):
        FrozenBasicVSR(network, lambda shape: Form())


def test_active_channels_are_those_that_a_block_reads_or_writes() -> None:
    network = compact_network("rsc")
    trunk = network.get_submodule("forward_trunk")
    blocks = list(trunk.blocks)  # type: ignore[arg-type, union-attr]
    plan = network.plan
    assert plan is not None
    names = [f"forward_trunk.blocks.{index}.{conv}" for index in range(2) for conv in ("conv1.input", "conv2")]
    touched = set().union(*(plan.kept[name] for name in names))
    assert active_channels(blocks, 8) == sorted(touched)  # of 8 channels every count is on the grid
    padded = active_channels(blocks, 64)
    assert touched <= set(padded)
    assert len(padded) == 8


def test_the_fastest_form_and_format_are_chosen() -> None:
    network = compact_network("rsc")
    seen: list[BlockShape] = []
    wanted = ("gather", "whole")

    def timer(call: Callable[[], object]) -> float:
        module = call.func  # type: ignore[attr-defined]
        if isinstance(module, FrozenBlock):
            read = "whole" if module.read is None else "gather"
            write = "whole" if module.written is None else "scatter"
            return 1.0 if (read, write) == wanted else 2.0
        assert isinstance(module, FrozenBasicVSR)
        seen.append(BlockShape(0, 0, 0, 0))
        return 5.0 - len(seen)  # the second is faster

    frozen, name = freeze(network, torch.rand(1, 2, 3, 8, 8, dtype=torch.float64), timer)
    assert name == list(FORMATS)[1]
    for branch in ("forward_trunk", "backward_trunk"):
        for block in frozen.get_submodule(branch).blocks:  # type: ignore[union-attr]
            assert block.written is None
            assert block.read is not None


@pytest.mark.parametrize("precision", ["bf16", "16"])
def test_fewer_bits_compute_the_same_up_to_their_rounding(precision: str) -> None:
    frozen = FrozenBasicVSR(compact_network("rsc").float(), lambda shape: Form())
    clip_NTCHW = torch.rand(1, 3, 3, 18, 22)
    full_NTCHW = frozen(clip_NTCHW)
    few_NTCHW = in_precision(frozen, PRECISIONS[precision])(clip_NTCHW)
    error = float((few_NTCHW.float() - full_NTCHW).abs().max())
    assert 0 < error < 0.02 * float(full_NTCHW.abs().max())


@pytest.mark.parametrize("rule", RULES)
def test_forms_are_chosen_in_fewer_bits_too(rule: str) -> None:
    clip_NTCHW = torch.rand(1, 2, 3, 18, 22)
    network, seen = compact_network(rule).float(), []

    def time(call: Callable[[], object]) -> float:
        seen.append(call())
        return 1.0

    frozen, _ = freeze(network, clip_NTCHW, time, torch.bfloat16)
    blocks = [module for module in frozen.modules() if isinstance(module, FrozenBlock)]  # type: ignore[attr-defined]
    assert {block.weight1.dtype for block in blocks} == {torch.bfloat16}
    # After the blocks come the two networks, and then the flow net, plain and joined, which take and give float32.
    assert {value.dtype for value in seen[: -len(FORMATS) - 2]} == {torch.bfloat16}  # type: ignore[attr-defined]


@pytest.mark.slow
def test_two_and_three_frames_run_what_was_compiled_once() -> None:
    """Of a unidirectional network: the flow net, the first step, the step, and the upsampler."""
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    frozen = FrozenBasicVSR(compact_network("rsc", bidirectional=False).float(), lambda shape: Form())
    compiled = Compiled(frozen, torch.device("cpu"))
    seen = []
    for length in (2, 3, 5):
        clip_NTCHW = torch.rand(1, length, 3, 12, 16)
        torch.testing.assert_close(compiled(clip_NTCHW), reference(frozen, clip_NTCHW), rtol=1e-4, atol=1e-5)
        seen.append(counters["stats"]["unique_graphs"])
    assert seen[0] == seen[1] == seen[2]
    assert seen[0] >= 4


def reference(frozen: FrozenBasicVSR, clip_NTCHW: torch.Tensor) -> torch.Tensor:
    """Without torch.compile."""
    compiling, frozen.call = frozen.call, direct
    output_NTCHW: torch.Tensor = frozen(clip_NTCHW)
    frozen.call = compiling
    return output_NTCHW


@pytest.mark.slow
@pytest.mark.parametrize("kernels", [PLAIN, "compiled, cudnn"])
def test_compiled_equals_frozen(kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch._dynamo.reset()  # after many compilations of a function the next ones are run as they are
    frozen = FrozenBasicVSR(compact_network("rsc").float(), lambda shape: Form(kernels=kernels), kernels)
    clip_NTCHW = torch.rand(1, 2, 3, 12, 16)
    with torch.inference_mode():
        compiled_NTCHW = Compiled(frozen, torch.device("cpu"))(clip_NTCHW)
    use_on_cpu(monkeypatch)  # from here on: what is compiled as a whole must not need what a card alone has
    torch.testing.assert_close(compiled_NTCHW, reference(frozen, clip_NTCHW), rtol=1e-4, atol=1e-5)
