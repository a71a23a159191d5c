"""How far the hidden states of a pruned network are from the dense network's."""

from __future__ import annotations

import numpy as np

from vsrprune.networks.network import Network
from vsrprune.stages.quality import Hidden


class HiddenError:
    """RMS difference between pruned and dense hidden states over the dense RMS, by branch and frame index."""

    def __init__(self) -> None:
        self._difference: dict[str, dict[int, list[float]]] = {}

    def add(self, pruned: Hidden, dense: Hidden, network: Network) -> None:
        """Take in one clip's states; only the channels that the pruned network has are compared."""
        for branch, states in pruned.items():
            kept = network.stream_channels(branch)
            for t, (state, target) in enumerate(zip(states, dense[branch], strict=True)):
                if kept is not None:
                    target = target[:, list(kept)]
                error = float((state - target).square().mean().sqrt() / target.square().mean().sqrt())
                self._difference.setdefault(branch, {}).setdefault(t, []).append(error)

    def per_frame(self) -> dict[str, list[float]]:
        """Mean over the clips that reach a frame index."""
        return {
            branch: [round(float(np.mean(errors[t])), 8) for t in sorted(errors)]
            for branch, errors in self._difference.items()
        }
