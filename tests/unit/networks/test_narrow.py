"""A convolution to few channels gives the same numbers, however many pixels of a row it makes at a time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from vsrprune.networks.fast.kernels import is_channels_last
from vsrprune.networks.fast.narrow import along_rows, one_by_one, pixels_at_once, pixels_of, spread_out
from vsrprune.networks.fast.onednn import BY_ONEDNN


@pytest.mark.parametrize(
    ("outputs", "pixels"),
    [(1, 4), (3, 4), (4, 4), (5, 2), (8, 2), (9, 1), (12, 1), (16, 1), (17, 2), (24, 2), (25, 1), (32, 1), (64, 1)],
)
def test_as_many_pixels_as_fill_sixteen_channels_best(outputs: int, pixels: int) -> None:
    """8 channels: 16 of 3x3 for one pixel, 16 of 3x4 for two; 12: 16 of 3x3 for one, 32 of 3x4 for two."""
    assert pixels_at_once(outputs, 3) == pixels
    assert pixels_at_once(outputs, 1) == 1


def test_the_kernel_stands_at_the_place_of_each_pixel() -> None:
    weight, bias = along_rows(torch.arange(9.0).view(1, 1, 3, 3), torch.ones(1))
    assert weight.shape == (4, 1, 3, 6)
    assert torch.equal(bias, torch.ones(4))
    for place in range(4):
        assert torch.equal(weight[place, 0], F.pad(torch.arange(9.0).view(3, 3), (place, 3 - place)))


@given(
    st.integers(1, 5),
    st.integers(1, 26),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 2),
    st.sampled_from((1, 3, 5)),
)
def test_frames_of_every_size_are_those_of_the_convolution(
    inputs: int, outputs: int, height: int, width: int, batch: int, kernel: int
) -> None:
    weight = torch.randn(outputs, inputs, kernel, kernel, dtype=torch.float64)
    bias, x_NCHW = (
        torch.randn(outputs, dtype=torch.float64),
        torch.randn(batch, inputs, height, width, dtype=torch.float64),
    )
    expected = F.conv2d(x_NCHW, weight, bias, padding=kernel // 2)
    made = along_rows(weight, bias)
    assert pixels_of(made[0]) == pixels_at_once(outputs, kernel)
    assert all(torch.equal(*pair) for pair in zip(one_by_one(*made), (weight, bias), strict=True))
    # The library's own operations take single precision, in which the same weights give nearly the same.
    for dtype, bound in ((torch.float64, 1e-12), (torch.float32, 1e-4)):
        x, *given_by = (tensor.to(dtype) for tensor in (x_NCHW, *made))
        torch.testing.assert_close(BY_ONEDNN.conv(x, *given_by).double(), expected, rtol=bound, atol=bound)
        torch.testing.assert_close(BY_ONEDNN.conv_relu(x, *given_by).double(), F.relu(expected), rtol=bound, atol=bound)
        torch.testing.assert_close(
            BY_ONEDNN.conv_leaky(x, *given_by, 0.1).double(), F.leaky_relu(expected, 0.1), rtol=bound, atol=bound
        )


def test_what_is_spread_out_is_not_copied() -> None:
    pixels_NCHW = torch.randn(1, 16, 3, 4).contiguous(memory_format=torch.channels_last)
    spread = spread_out(pixels_NCHW, 2)
    assert spread.data_ptr() == pixels_NCHW.data_ptr()
    assert spread.shape == (1, 8, 3, 8)
    assert is_channels_last(spread)
