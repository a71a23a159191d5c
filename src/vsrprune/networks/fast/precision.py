"""A frozen network in fewer bits: its weights are converted once, and nothing runs under autocast.

Autocast remembers the casts of weights that ask for gradients alone, so that of a frozen network it would cast every
weight in every call.
"""

from __future__ import annotations

from functools import partial
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

# By name the type of a frozen network's weights and features; flows, positions and frames stay in 32 bits. `tf32` is
# `32` with the device's leave to round the factors of convolutions to 10 bits.
PRECISIONS = {"32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "16": torch.float16}

# By precision the number of channels of which Tensor cores take blocks, the last of them filled up with zeros.
MULTIPLES = {"32": 4, "tf32": 4, "bf16": 8, "16": 8}

SomeFrozen = TypeVar("SomeFrozen")


def in_precision(frozen: SomeFrozen, dtype: torch.dtype) -> SomeFrozen:
    """`frozen` itself, its weights in `dtype`; call it outside of autocast, with frames in float32.

    The flow net keeps its weights, and so do constants (which the state dict does not hold). A layer casts what it
    reads to the type of its weights where that differs: frames, mostly. Outputs are float32 or `dtype`.
    """
    network = cast(nn.Module, frozen)
    flow = {id(value) for net in _flow_nets(network) for value in net.state_dict(keep_vars=True).values()}
    state = {name: value for name, value in network.state_dict(keep_vars=True).items() if value.is_floating_point()}
    if all(value.dtype == dtype for value in state.values()):
        return frozen  # nothing to convert, and no input to cast
    for name, value in state.items():
        if id(value) not in flow:
            owner, _, leaf = name.rpartition(".")
            converted = value.detach().to(dtype)
            kept = nn.Parameter(converted, requires_grad=False) if isinstance(value, nn.Parameter) else converted
            setattr(network.get_submodule(owner), leaf, kept)
    for module in network.modules():
        kinds = [value.dtype for value in module.state_dict().values() if value.is_floating_point()]
        # Layers alone: what they are put together of decides for itself what to cast.
        if kinds and not list(module.children()):
            module.register_forward_pre_hook(partial(_cast_input, kinds[0]))
    return frozen


def _flow_nets(network: nn.Module) -> list[nn.Module]:
    nets = [getattr(module, "flow_net", None) for module in network.modules()]
    return [net for net in nets if isinstance(net, nn.Module)]


def _cast_input(dtype: torch.dtype, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """A hook: the layer's first input in its weights' type."""
    first, *others = inputs
    if isinstance(first, Tensor) and first.is_floating_point() and first.dtype != dtype:
        return (first.to(dtype), *others)
    return inputs
