"""The reconstruction loss, and the temporal loss that keeps a pruned network's hidden states with the dense ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

# Added to the squared difference, so that the root has a gradient at 0; the loss of equal tensors is its root, 1e-6.
# The value of the code that BasicVSR (arXiv 2012.02181) was released with.
CHARBONNIER_EPSILON = 1e-12


def charbonnier(a: Tensor, b: Tensor) -> Tensor:
    """Mean of sqrt((a - b)^2 + 1e-12), the loss with which BasicVSR is trained; in float32 for tensors of 16 bits."""
    # In fp16 1e-12 is 0 and so is the square of a difference of 1e-4: the root would have no finite gradient there, and
    # GradScaler would drop every step.
    wide = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    return torch.sqrt((a.to(wide) - b.to(wide)).square() + CHARBONNIER_EPSILON).mean()


def temporal_loss(
    student: Mapping[str, Sequence[Tensor]],
    teacher: Mapping[str, Sequence[Tensor]],
    kept: Mapping[str, Tensor | None],
) -> Tensor:
    """L_tf: mean over branches and frames of the Charbonnier distance between hidden states (N, C, H, W), relative.

    Temporal Finetuning (arXiv 2206.07687, section 3.5) keeps the error of pruning from building up along the
    sequence. The paper gives the idea; this is the exact form used here. Differences are in units of the teacher's mean
    |h| over a branch of the same clip, so that a weight means the same for every network, whatever the scale of its
    states, and a clip the same in every batch; where a teacher's states are all 0, in those of the states themselves.

    kept: indices of the channels of the dense state that the student still has, by branch, None for all. Under the RSC
    rule the student has all; under the aligned rule the kept channels are compared.
    """
    terms = []
    for branch, states in student.items():
        channels = kept[branch]
        targets = [state if channels is None else state.index_select(1, channels) for state in teacher[branch]]
        unit = _mean_magnitude(targets)
        terms += [
            charbonnier(state.to(unit.dtype) / unit, target.to(unit.dtype) / unit)
            for state, target in zip(states, targets, strict=True)
        ]
    return torch.stack(terms).mean()


def _mean_magnitude(states: Sequence[Tensor]) -> Tensor:
    """Mean |h| over all states of each clip (N, 1, 1, 1), in float32 for tensors of 16 bits, without gradients.

    It is 1 for a clip whose states are all 0. Over a whole batch it would depend on how many processes share it.
    """
    dtype = torch.promote_types(states[0].dtype, torch.float32)
    mean = torch.stack([state.detach().abs().mean((1, 2, 3), keepdim=True, dtype=dtype) for state in states]).mean(0)
    # Chosen on the device: a number that Python looked at would be a wait, and could not be replayed.
    return torch.where(mean > 0, mean, torch.ones_like(mean))
