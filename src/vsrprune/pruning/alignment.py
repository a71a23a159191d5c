"""Sparsity structure alignment (ASSL): layers that must lose the same channels learn to agree on which."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vsrprune.channels.layout import ChannelLayout
from vsrprune.pruning.gates import PrunableNetwork


def alignment_loss(gates_LC: Tensor, kept: int) -> Tensor:
    """Minus the mean of M M^T (L, L) over L layers of C shared channels, M = sigmoid(s - threshold) their soft masks.

    Zhang et al., Aligned Structured Sparsity Learning, NeurIPS 2021. The threshold is each layer's own: the smallest s
    of the `kept` channels that it would keep by itself. It falls as the layers come to agree.
    """
    # Detached: the gates are to agree, not to lower the bar that they are measured by.
    threshold_L1 = gates_LC.detach().topk(kept, dim=1).values[:, -1:]
    masks_LC = torch.sigmoid(gates_LC - threshold_L1)
    return -(masks_LC @ masks_LC.T).mean()


def shared_gates(network: PrunableNetwork, layout: ChannelLayout) -> list[tuple[str, Tensor]]:
    """(name, gates (L, C)) of every group whose C channels L > 1 convolutions write."""
    found = []
    for group in layout.groups:
        # ASSL has no input gates: the layers that read a stream have no say in what it loses.
        written = [gate.parameter for gate in group.gates if gate.side == "output"]
        if len(written) > 1:
            found.append((group.name, torch.stack([network.get_parameter(name) for name in written])))
    return found


def agreement(gates: Sequence[Tensor], kept: Sequence[int]) -> float:
    """Mean overlap (intersection over union) of what two layers that share channels would keep, in [0, 1].

    1 where no layers share any, as under rsc and inner.
    """
    overlaps = []
    for gates_LC, count in zip(gates, kept, strict=True):
        chosen = torch.zeros_like(gates_LC).scatter_(1, gates_LC.topk(count, dim=1).indices, 1.0)
        both = chosen @ chosen.T
        union = 2 * count - both
        one, other = torch.triu_indices(len(both), len(both), 1, device=both.device)  # each pair once, none with itself
        overlaps.append((both / union)[one, other].mean())
    return float(torch.stack(overlaps).mean()) if overlaps else 1.0
