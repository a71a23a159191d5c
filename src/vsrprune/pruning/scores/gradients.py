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


def output_scores(network: PrunableNetwork, layout: ChannelLayout, batches: Iterable[Batch]) -> Scores:
    """The mean square that the output moves by without a unit, to first order: what stands for Taylor without a truth.

    The loss is then the distance to the network's own output, mean (f(gates) - f)^2, whose gradient is exactly zero: a
    Taylor score of first order ranks nothing. Its rise to second order is mean over the output of (sum over the unit's
    gates of gamma df/dgamma)^2. With v of random signs in the output's shape, that is the expectation of (sum of gamma
    d<v, f>/dgamma)^2 over the number of values in f (Hutchinson, 1989). One v for each clip: those of several clips in
    one backward pass would add to each other's noise. Signs are drawn by the clip's place, so that scores are the
    same again. The first order of what training left of a distance is not in it: it is of the network as it stands.
    """
    clips = (clip[None] for low_NTCHW, _ in batches for clip in low_NTCHW)
    return accumulated(layout, (_moves(network, layout, *clip) for clip in enumerate(clips)))


def _moves(network: PrunableNetwork, layout: ChannelLayout, seed: int, low_NTCHW: Tensor) -> Mapping[str, Tensor]:
    """By group, an estimate of the mean square that the output moves by without a unit."""
    frames_NTCHW = network(low_NTCHW).frames_NTCHW
    # On the CPU, so that the signs are the same on every device.
    signs = torch.randint(2, frames_NTCHW.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.int8)
    signs_NTCHW = (2 * signs - 1).to(frames_NTCHW)
    changes = _changes(network, layout, (signs_NTCHW * frames_NTCHW).sum())
    return {name: change.square() / frames_NTCHW.numel() for name, change in changes.items()}


def first_order(
    network: PrunableNetwork, layout: ChannelLayout, low_NTCHW: Tensor, high_NTCHW: Tensor
) -> Mapping[str, Tensor]:
    """By group, sum over a unit's gates of gamma dL/dgamma: minus what L changes by, to first order, without them."""
    return _changes(network, layout, charbonnier(network(low_NTCHW).frames_NTCHW, high_NTCHW))


def _changes(network: PrunableNetwork, layout: ChannelLayout, value: Tensor) -> Mapping[str, Tensor]:
    """By group, sum over a unit's gates of gamma dvalue/dgamma."""
    gates = [gate for group in layout.groups for gate in group_gates(network, group)]
    found = iter(torch.autograd.grad(value, gates, allow_unused=True))
    return {
        group.name: torch.stack(list(_products(group_gates(network, group), found))).sum(dim=0)
        for group in layout.groups
    }


def _products(gates: Iterable[Tensor], gradients: Iterator[Tensor | None]) -> Iterator[Tensor]:
    for gate in gates:
        gradient = next(gradients)
        # None: nothing that this gate scales reaches the output.
        yield torch.zeros_like(gate) if gradient is None else gate.detach() * gradient
