"""What scores of training data read, and their means over it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from vsrprune.channels.layout import ChannelLayout
from vsrprune.selection.scores import Scores

# low_NTCHW and high_NTCHW: RGB in [0, 1], on the network's device; without a truth high_NTCHW has no clips.
Batch = tuple[Tensor, Tensor]


def accumulated(layout: ChannelLayout, rows: Iterable[Mapping[str, Tensor]]) -> Scores:
    """The mean of scores by group, read from the device once. Raises ValueError where there are none."""
    total: dict[str, Tensor] = {}
    count = 0
    for row in rows:
        count += 1
        for name, values in row.items():
            total[name] = total[name] + values.detach().double() if name in total else values.detach().double()
    if not count:
        raise ValueError("there is no batch to compute scores from")
    sizes = [group.size for group in layout.groups]
    together = torch.cat([total[group.name] for group in layout.groups]).cpu() / count
    return {group.name: part.numpy() for group, part in zip(layout.groups, together.split(sizes), strict=True)}
