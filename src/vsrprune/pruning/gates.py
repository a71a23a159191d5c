"""Gates (scaling factors) of a network, addressed by the units of a plan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from vsrprune.channels.layout import ChannelGroup, ChannelLayout
from vsrprune.channels.plan import PrunePlan


@runtime_checkable
class Foldable(Protocol):
    """A convolution that carries gates."""

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias with the gates multiplied in."""


class PrunableNetwork(Protocol):
    """What pruning asks of a network; any module that offers this can be pruned."""

    def __call__(self, frames_NTCHW: Tensor) -> Any:
        """What `frames_NTCHW` of is the restored clip."""

    def channel_layout(self, rule: str) -> ChannelLayout:
        """Channel groups and convolutions under a residual rule."""

    def with_plan(self, plan: PrunePlan) -> Any:
        """A compact network of the plan's shape."""

    def stream_channels(self, branch: str) -> tuple[int, ...] | None:
        """The channels of the dense hidden state that are still there; None for all."""

    def get_submodule(self, target: str) -> nn.Module:
        """The module of that name."""

    def get_parameter(self, target: str) -> nn.Parameter:
        """The parameter of that name."""


def folded(conv: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution, with its gates multiplied in where it has any."""
    # By what it can do and not by its class: this room knows no network.
    if isinstance(conv, Foldable):
        return conv.folded()
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    return conv.weight, conv.bias


def group_gates(network: PrunableNetwork, group: ChannelGroup) -> list[nn.Parameter]:
    """The gate vectors of a group, each of the group's size."""
    return [network.get_parameter(gate.parameter) for gate in group.gates]


def cut_gates(network: PrunableNetwork, plan: PrunePlan) -> Iterator[tuple[str, nn.Parameter, Tensor]]:
    """(group, gate vector, indices of its cut units) for every gate of every group that loses units."""
    for group in network.channel_layout(plan.rule).groups:
        cut = plan.cut(group.name)
        if not cut:
            continue
        for gate in group_gates(network, group):
            yield group.name, gate, torch.tensor(cut, device=gate.device)


def zero_cut_gates(network: PrunableNetwork, plan: PrunePlan) -> None:
    """Set the gates of all cut units to zero, in place."""
    with torch.no_grad():
        for _, gate, cut in cut_gates(network, plan):
            gate[cut] = 0.0
