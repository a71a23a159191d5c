"""A frozen network in sixteen bits: no weight is cast while it runs, and it computes the same up to its rounding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from networks_made import random_clip
from test_graphs import frozen_of
from test_networks import NETWORKS
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from vsrprune.networks.basicvsr.frozen import FrozenBasicVSR
from vsrprune.networks.fast.precision import in_precision

TEN_BITS = {torch.bfloat16: 0.03, torch.float16: 0.004}  # errors, of the largest value


class Casts(TorchDispatchMode):
    """Records the tensors that are converted to another type, by their memory."""

    def __init__(self) -> None:
        super().__init__()
        self.cast: list[int] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = function(*args, **(kwargs or {}))
        if function is torch.ops.aten._to_copy.default and output.dtype != args[0].dtype:
            self.cast.append(args[0].data_ptr())
        return output


def float32_of(name: str) -> Any:
    return frozen_of(name).float()  # type: ignore[attr-defined]


def weights(frozen: nn.Module) -> set[int]:
    return {value.data_ptr() for value in (*frozen.parameters(), *frozen.buffers())}


@pytest.mark.parametrize("dtype", TEN_BITS, ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_no_weight_is_cast_and_the_output_is_right_within_the_rounding(name: str, dtype: torch.dtype) -> None:
    frozen, clip_NTCHW = float32_of(name), random_clip(3).float()
    expected = frozen(clip_NTCHW)
    few = in_precision(frozen, dtype)
    assert few is frozen
    # Not in inference mode, in which a conversion is not seen as an operation.
    with torch.no_grad(), Casts() as casts:
        output = few.compute(clip_NTCHW)
    assert casts.cast  # frames at least
    assert not weights(few) & set(casts.cast)
    error = float((output.float() - expected).abs().mean())
    assert 0 < error < TEN_BITS[dtype] * float(expected.abs().max())


def test_under_autocast_every_weight_is_cast_in_every_call() -> None:
    """The fault that the test above finds."""
    frozen, clip_NTCHW = float32_of("basicvsr"), random_clip(2).float()
    with torch.no_grad(), Casts() as casts, torch.autocast("cpu", torch.bfloat16):
        frozen.compute(clip_NTCHW)
    assert weights(frozen) & set(casts.cast)


@pytest.mark.parametrize("name", ["basicvsr", "basicvsr_pp"])
def test_the_flow_net_stays_in_float32_and_reads_frames_of_it(name: str) -> None:
    frozen, clip_NTCHW = float32_of(name), random_clip(3).float()
    flows = frozen.flows(clip_NTCHW)
    in_precision(frozen, torch.bfloat16)
    for branch, flow in frozen.flows(clip_NTCHW).items():
        assert torch.equal(flow, flows[branch])
    kinds: dict[bool, set[torch.dtype]] = {True: set(), False: set()}
    for key, value in frozen.state_dict().items():
        if value.is_floating_point():
            kinds["flow_net" in key.split(".")].add(value.dtype)
    assert kinds == {True: {torch.float32}, False: {torch.bfloat16}}


def test_in_its_own_precision_a_network_stays_as_it_is() -> None:
    frozen = float32_of("edsr")
    before = weights(frozen)
    in_precision(frozen, torch.float32)
    assert weights(frozen) == before
    assert not any(module._forward_pre_hooks for module in frozen.modules())


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_frames_are_carried_in_sixteen_bits_as_in_a_clip(memory_format: torch.memory_format) -> None:
    frozen = in_precision(float32_of("basicvsr").to(memory_format=memory_format), torch.bfloat16)
    assert isinstance(frozen, FrozenBasicVSR)
    clip_NTCHW = random_clip(3).float()
    frames = list(clip_NTCHW.unbind(1))
    restored = torch.stack([high for high, _ in frozen.restore_window(frames, range(3), None)], dim=1)
    whole: Tensor = frozen(clip_NTCHW)
    # Flows of one pair and of a batch may round differently.
    torch.testing.assert_close(restored, whole, rtol=0.03, atol=0.01)
    assert whole.dtype == torch.float32  # what is added to the frame is not rounded with it
    state = frozen.advance("forward", frames[0], None).state_NCHW
    assert state.dtype == torch.bfloat16
