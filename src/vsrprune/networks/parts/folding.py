"""Gates are multiplied into the weights once for a call of a network, and not once for each of its frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

Folded = tuple[Tensor, Tensor]  # weight (out, in, k, k) and bias (out,)
Held = tuple[Folded, Folded | None]


class Gated(nn.Module):
    """A convolution that carries gates.

    held: while its network is called, what it folded to at the start, and under autocast the same, cast.
    """

    gate: nn.Parameter
    input_gate: nn.Parameter | None
    held: Held | None = None

    def folded(self) -> Folded:
        """Weight and bias with the gates multiplied in."""
        raise NotImplementedError

    def present(self) -> Folded:
        """What `folded` returns, or returned when the call of the network began."""
        if self.held is None:
            return self.folded()
        folded, cast = self.held
        return folded if cast is None or not torch.is_autocast_enabled(self.gate.device.type) else cast

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles, in which no call is under way."""
        return {name: value for name, value in vars(self).items() if name != "held"}


@contextmanager
def _holding(held: Mapping[Gated, Held]) -> Iterator[None]:
    for conv, folded in held.items():
        conv.held = folded
    try:
        yield
    finally:
        for conv in held:
            conv.held = None


def folded_once(network: nn.Module) -> AbstractContextManager[None]:
    """While it is entered, every gated convolution of the network keeps the weights that it folds to at the start.

    Gradients reach gates and weights as ever. Inside another call of the same network nothing is folded again.
    """
    convs = [module for module in network.modules() if isinstance(module, Gated) and module.held is None]
    return _holding({conv: _folded_and_cast(conv) for conv in convs})


def _folded_and_cast(conv: Gated) -> Held:
    (weight, bias), kind = conv.folded(), conv.gate.device.type
    cast = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    if not cast or weight.dtype != torch.float32:
        return (weight, bias), None
    # autocast caches casts of parameters alone: it would cast a folded weight anew for every frame.
    dtype = torch.get_autocast_dtype(kind)
    return (weight, bias), (weight.to(dtype), bias.to(dtype))


def recomputed(network: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """`context_fn` of torch.utils.checkpoint: what is computed again uses the weights that the first pass used.

    It runs in the backward pass, when the call of the network has ended.
    """
    convs = (module for module in network.modules() if isinstance(module, Gated))
    return nullcontext(), _holding({conv: conv.held for conv in convs if conv.held is not None})
