"""A convolution to few channels gives the same, whether it makes one pixel at a time or four."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from vsrprune.networks.fast import few_outputs
from vsrprune.networks.fast.few_outputs import FEW, FewOutputs, fits, of_four


@given(st.integers(1, 5), st.integers(1, FEW), st.integers(1, 9), st.integers(1, 9), st.integers(1, 2))
def test_frames_of_every_size_are_those_of_the_convolution(
    inputs: int, outputs: int, height: int, width: int, batch: int
) -> None:
    conv = nn.Conv2d(inputs, outputs, 3, padding=1).double()
    x_NCHW = torch.randn(batch, inputs, height, width, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(FewOutputs(conv)(x_NCHW), conv(x_NCHW), rtol=1e-12, atol=1e-12)


def test_frames_of_even_sides_are_made_four_pixels_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[torch.Size] = []

    def noted(*given: torch.Tensor) -> torch.Tensor:
        called.append(given[0].shape)
        return torch.zeros(())

    monkeypatch.setattr(few_outputs, "four_at_once", noted)
    conv = FewOutputs(nn.Conv2d(2, 3, 3, padding=1))
    for height, width in ((4, 6), (4, 5), (3, 6)):
        conv(torch.rand(1, 2, height, width))
    assert called == [(1, 2, 4, 6)]


def test_each_of_four_pixels_has_the_kernel_at_its_place() -> None:
    weight = torch.arange(9.0).view(1, 1, 3, 3)
    kernels = of_four(weight)
    assert kernels.shape == (4, 1, 4, 4)
    assert torch.equal(kernels[1, 0], F.pad(weight[0, 0], (1, 0, 0, 1))), "the pixel to the right of the first"
    assert torch.equal(kernels[2, 0], F.pad(weight[0, 0], (0, 1, 1, 0))), "the pixel below it"


@pytest.mark.parametrize(("outputs", "kernel", "whether"), [(3, 3, True), (FEW + 1, 3, False), (3, 1, False)])
def test_wide_or_pointwise_convolutions_stay_as_they_are(outputs: int, kernel: int, whether: bool) -> None:
    assert fits(torch.zeros(outputs, 8, kernel, kernel)) is whether
