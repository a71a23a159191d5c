"""How far the hidden states of a pruned network are from the dense network's."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from vsrprune.networks.network import Network
from vsrprune.stages.quality import See, States


class HiddenError:
    """RMS difference between pruned and dense hidden states over the dense RMS, by branch and frame index."""

    def __init__(self, network: Network, device: torch.device) -> None:
        """network: the pruned one; only the channels that it has are compared."""
        self._network, self._device = network, device
        self._kept: dict[str, Tensor | None] = {}
        self._errors: dict[str, dict[int, list[Tensor]]] = {}

    def add(self, t: int, pruned: States, dense: States) -> None:
        """Take in the states of frame t of a clip."""
        for branch, state in pruned.items():
            target, kept = dense[branch], self._kept_channels(branch)
            if kept is not None:
                target = target[:, kept]
            error = (state - target).square().mean().sqrt() / target.square().mean().sqrt()
            # It stays on the device until the end: to read it now would wait for everything that is queued there.
            self._errors.setdefault(branch, {}).setdefault(t, []).append(error)

    def beside(self, dense: Iterator[States]) -> See:
        """A function that takes in a frame's pruned states, beside the next of the dense network's."""
        return lambda t, pruned: self.add(t, pruned, next(dense))

    def _kept_channels(self, branch: str) -> Tensor | None:
        if branch not in self._kept:
            kept = self._network.stream_channels(branch)
            self._kept[branch] = None if kept is None else torch.tensor(kept, device=self._device)
        return self._kept[branch]

    def per_frame(self) -> dict[str, list[float]]:
        """Mean over the clips that reach a frame index."""
        return {
            branch: [round(float(np.mean([float(error) for error in errors[t]])), 8) for t in sorted(errors)]
            for branch, errors in self._errors.items()
        }
