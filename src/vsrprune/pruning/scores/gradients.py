"""Scores of gradients: what the loss changes by when a unit's gates go to zero, estimated on batches.

They are in units of the loss, or its square, so that layers of any kind compare; and a gate times its gradient does not
depend on how a layer splits its scale between gate and weight.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from vsrprune.channels.layout import ChannelLayout
from vsrprune.pruning.gates import PrunableNetwork, group_gates
from vsrprune.pruning.losses import charbonnier
from vsrprune.pruning.scores.batches import Batch, accumulated
from vsrprune.selection.scores import Scores


def taylor_scores(network: PrunableNetwork, layout: ChannelLayout, batches: Iterable[Batch]) -> Scores:
    """Mean over the batches of |sum over the unit's gates of gamma dL/dgamma|, L the reconstruction loss of a batch.

    To first order, the change of L when these gates go to zero together (Molchanov et al., CVPR 2019). Theirs is the
    mean of the squares; ranked by the mean of the magnitudes, a network kept more (docs/decisions/pruning.md).
    """
    return accumulated(
        layout,
        ({name: change.abs() for name, change in first_order(network, layout, *batch).items()} for batch in batches),
    )


def fisher_scores(network: PrunableNetwork, layout: ChannelLayout, batches: Iterable[Batch]) -> Scores:
    """Half the mean over the batches' clips of (sum over the unit's gates of gamma dL/dgamma)^2, L the loss of a clip.

    The rise of the loss to second order where the first-order term is zero, with Fisher's information in place of the
    curvature (Theis et al., arXiv 1801.05787). Gradients of clips, since those of a batch cancel.
    """
    clips = ((low[None], high[None]) for batch in batches for low, high in zip(*batch, strict=True))
    return accumulated(
        layout,
        ({name: change.square() / 2 for name, change in first_order(network, layout, *clip).items()} for clip in clips),
    )


def first_order(
    network: PrunableNetwork, layout: ChannelLayout, low_NTCHW: Tensor, high_NTCHW: Tensor
) -> Mapping[str, Tensor]:
    """By group, sum over a unit's gates of gamma dL/dgamma: minus what L changes by, to first order, without them."""
    frames_NTCHW = network(low_NTCHW).frames_NTCHW
    gates = [gate for group in layout.groups for gate in group_gates(network, group)]
    found = iter(torch.autograd.grad(charbonnier(frames_NTCHW, high_NTCHW), gates, allow_unused=True))
    return {
        group.name: torch.stack(list(_products(group_gates(network, group), found))).sum(dim=0)
        for group in layout.groups
    }


def _products(gates: Iterable[Tensor], gradients: Iterator[Tensor | None]) -> Iterator[Tensor]:
    for gate in gates:
        gradient = next(gradients)
        # None: nothing that this gate scales reaches the output.
        yield torch.zeros_like(gate) if gradient is None else gate.detach() * gradient
