"""Two learning rates within one tensor: some of a layer's gates are driven to zero, the others only train on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def share_updates(optimizer: Optimizer, vectors: Sequence[nn.Parameter], shares: Tensor) -> None:
    """From now on, every number of `vectors` moves by its share of the update that each step makes.

    shares: for all numbers, one vector (C,) after the other, on the optimiser's device. For Adam without weight decay,
    a share of the update is the update at that share of the rate. (A share of the gradient would change nothing: Adam
    divides by its size.) A share of 1 leaves the bits as they are.
    """
    before, sizes = torch.empty_like(shares), [vector.numel() for vector in vectors]

    @torch.no_grad()
    def remember(*_: Any) -> None:
        torch.cat(list(vectors), out=before)

    @torch.no_grad()
    def share(*_: Any) -> None:
        moved = torch.lerp(before, torch.cat(list(vectors)), shares)
        for vector, values in zip(vectors, moved.split(sizes), strict=True):
            vector.copy_(values)

    optimizer.register_step_pre_hook(remember)
    optimizer.register_step_post_hook(share)
