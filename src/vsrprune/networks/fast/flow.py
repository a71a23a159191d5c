"""Flow nets of frozen networks: convolutions that a ReLU follows run as one, where that is faster."""

from __future__ import annotations

import copy
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from vsrprune.networks.fast.blocks import Timer
from vsrprune.networks.fast.fused import KERNELS, PLAIN, available, time_unless_it_fails
from vsrprune.networks.fast.graphs import recorder_of, time_unlaunched
from vsrprune.networks.parts.flow import SPyNet


class ConvReLU(nn.Module):
    """A same-padded convolution and its ReLU, by kernels of `fused.KERNELS`."""

    def __init__(self, conv: nn.Conv2d, kernels: str) -> None:
        super().__init__()
        self.weight, self.bias, self._kernels = conv.weight, cast(nn.Parameter, conv.bias), kernels

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, out, H, W)."""
        return KERNELS[self._kernels].conv_relu(x_NCHW, self.weight, self.bias)


def joined(net: SPyNet, kernels: str) -> SPyNet:
    """A copy of a flow net in whose levels each convolution and the ReLU after it are one module."""
    net = copy.deepcopy(net)
    net.levels = nn.ModuleList(_joined_level(list(cast(nn.Sequential, level)), kernels) for level in net.levels)
    return net


def use_fastest_flow(frozen: nn.Module, frame_NCHW: Tensor, time: Timer) -> None:
    """Give a frozen network its flow net in the form that is fastest on frames (N, 3, H, W) like this one.

    A network without a flow net, and one on a device without fused kernels, stays as it is.
    """
    owners = [module for module in frozen.modules() if isinstance(getattr(module, "flow_net", None), SPyNet)]
    names = available(frame_NCHW.device, frame_NCHW.dtype) if owners else ()
    if not names:
        return
    plain, record = cast(SPyNet, owners[0].flow_net), recorder_of(frame_NCHW.device)
    nets = {PLAIN: plain, **{name: joined(plain, name) for name in names}}
    times = {}
    with torch.inference_mode():
        for name, net in nets.items():
            measure = partial(time_unlaunched, partial(net, frame_NCHW, frame_NCHW), time, record)
            times[name] = time_unless_it_fails(name, measure)
    for owner in owners:
        owner.flow_net = nets[min(times, key=lambda name: times[name])]


def _joined_level(modules: list[nn.Module], kernels: str) -> nn.Sequential:
    found: list[nn.Module] = []
    for module in modules:
        last = found[-1] if found else None
        if isinstance(module, nn.ReLU) and isinstance(last, nn.Conv2d):
            found[-1] = ConvReLU(last, kernels)
        else:
            found.append(module)
    return nn.Sequential(*found)
