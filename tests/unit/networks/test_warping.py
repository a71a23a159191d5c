"""Warps of frozen networks give what `warp` gives, and stay in the memory format that convolutions read."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vsrprune.networks.fast import warping
from vsrprune.networks.fast.kernels import is_channels_last
from vsrprune.networks.fast.warping import LEAST_CHANNELS, warped
from vsrprune.networks.parts.layers import warp


def state(height: int, width: int, channels: int = LEAST_CHANNELS, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    made = torch.randn(1, channels, height, width, generator=draw)
    return made.contiguous(memory_format=torch.channels_last)


def flow(height: int, width: int, size: float, seed: int = 0) -> Tensor:
    return size * torch.randn(1, 2, height, width, generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from((0.0, 0.3, 2.0, 40.0)), st.integers(0, 99))
def test_every_flow_gives_what_grid_sample_gives(height: int, width: int, size: float, seed: int) -> None:
    state_NCHW, flow_N2HW = state(height, width, seed=seed), flow(height, width, size, seed)
    with torch.inference_mode():
        found, expected = warped(state_NCHW, flow_N2HW), warp(state_NCHW, flow_N2HW)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_whole_pixels_move_states_and_nothing_comes_from_outside() -> None:
    """Along x by -1, along y by 2: what lies beyond the frame is 0."""
    state_NCHW = state(5, 6)
    flow_N2HW = torch.tensor([-1.0, 2.0]).view(1, 2, 1, 1).expand(1, 2, 5, 6)
    with torch.inference_mode():
        found = warped(state_NCHW, flow_N2HW)
    expected = torch.zeros_like(state_NCHW)
    expected[:, :, :3, 1:] = state_NCHW[:, :, 2:, :5]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_the_memory_format_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warping, "warp", lambda *given: pytest.fail("grid_sample would leave it"))
    with torch.inference_mode():
        assert is_channels_last(warped(state(6, 7), flow(6, 7, 1.0)))


@pytest.mark.parametrize("extreme", [math.nan, math.inf, -math.inf, 1e30, -1e30])
def test_a_flow_that_points_nowhere_ends_no_process(extreme: float) -> None:
    flow_N2HW = flow(6, 7, 1.0)
    flow_N2HW[0, :, 2, 3] = extreme
    with torch.inference_mode():
        found, expected = warped(state(6, 7), flow_N2HW), warp(state(6, 7), flow_N2HW)
    others = torch.ones(6, 7, dtype=torch.bool)
    others[2, 3] = False
    torch.testing.assert_close(found[..., others], expected[..., others], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "given_NCHW",
    [
        state(6, 7, channels=LEAST_CHANNELS - 1),
        state(6, 7).contiguous(),
        state(6, 7).double(),
        torch.cat([state(6, 7), state(6, 7, seed=1)]).contiguous(memory_format=torch.channels_last),
    ],
    ids=["few channels", "the other format", "float64", "a batch"],
)
def test_what_it_is_not_made_for_goes_through_grid_sample(given_NCHW: Tensor) -> None:
    flow_N2HW = flow(6, 7, 1.0).to(given_NCHW.dtype).expand(len(given_NCHW), -1, -1, -1)
    with torch.inference_mode():
        assert torch.equal(warped(given_NCHW, flow_N2HW), warp(given_NCHW, flow_N2HW))


def test_gradients_go_through_grid_sample() -> None:
    """Nobody trains a frozen network, but whoever asks for a gradient gets the right one."""
    flow_N2HW = flow(6, 7, 1.0).requires_grad_()
    warped(state(6, 7), flow_N2HW).sum().backward()
    assert flow_N2HW.grad is not None
