"""Scores of what flows through a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from vsrprune.channels.layout import ChannelLayout, Gate
from vsrprune.pruning.gates import PrunableNetwork
from vsrprune.pruning.scores.batches import Batch, accumulated
from vsrprune.selection.scores import Scores


def activation_scores(network: PrunableNetwork, layout: ChannelLayout, batches: Iterable[Batch]) -> Scores:
    """Mean |activation| of a unit, the mean over its gates, on batches.

    Of an output gate, what its convolution puts out, before the activation function (of r*r filters before a pixel
    shuffle, their mean); of an input gate, what the convolution reads, times the gate.
    """
    rows = (_means_of(network, layout, low_NTCHW) for low_NTCHW, _ in batches)
    return accumulated(layout, rows)


@torch.no_grad()
def _means_of(network: PrunableNetwork, layout: ChannelLayout, low_NTCHW: Tensor) -> Mapping[str, Tensor]:
    seen: dict[Gate, list[Tensor]] = {gate: [] for group in layout.groups for gate in group.gates}
    with ExitStack() as hooks:
        for gate, means in seen.items():
            scales = network.get_parameter(gate.parameter).detach().abs()
            watch = _reads(means, scales) if gate.side == "input" else _writes(means, len(scales))
            hooks.callback(network.get_submodule(gate.conv).register_forward_hook(watch).remove)
        network(low_NTCHW)
    # A convolution is called for every frame; all calls count alike.
    by_gate = {gate: torch.stack(calls).mean(dim=0) for gate, calls in seen.items()}
    return {group.name: torch.stack([by_gate[gate] for gate in group.gates]).mean(dim=0) for group in layout.groups}


Watch = Callable[[nn.Module, tuple[Any, ...], Tensor], None]


def _reads(means: list[Tensor], scales: Tensor) -> Watch:
    def watch(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        means.append(inputs[0].abs().mean(dim=(0, 2, 3)) * scales)

    return watch


def _writes(means: list[Tensor], units: int) -> Watch:
    def watch(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        means.append(output.abs().mean(dim=(0, 2, 3)).view(units, -1).mean(dim=1))

    return watch
