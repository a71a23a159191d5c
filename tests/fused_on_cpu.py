"""What stands on a CPU for the kernels that only a card has."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vsrprune.networks.fast import fused


def cudnn_stand_in(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """What torch.cudnn_convolution_relu returns."""
    return F.relu(F.conv2d(x, weight, bias, tuple(stride), tuple(padding), tuple(dilation), groups))


def use_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """cuDNN's convolution as above, and functions as they are where torch.compile would take seconds for each."""

    def as_it_is(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return function

    monkeypatch.setattr(torch, "cudnn_convolution_relu", cudnn_stand_in)
    monkeypatch.setattr(fused, "compiled", as_it_is)
