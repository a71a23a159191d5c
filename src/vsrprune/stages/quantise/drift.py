"""Whether what integers change adds up in a hidden state from frame to frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vsrprune.networks.fast.frozen import Carried, Moment
from vsrprune.results.result import HiddenError
from vsrprune.stages.evaluate.hidden import means, relative

Step = Callable[[Tensor, Carried], Tensor]  # a frame (1, 3, H, W) and where the branch stands to its state (1, C, H, W)


class Drift:
    """The states of a branch in int8 beside those in 32 bits, of all clips that are shown."""

    def __init__(self, exact: Step, rough: Step, goes_back: bool) -> None:
        self._exact, self._rough, self._goes_back = exact, rough, goes_back
        self._errors: dict[str, dict[int, list[Tensor]]] = {"total": {}, "made_here": {}, "propagated": {}}

    @torch.inference_mode()
    def add(self, frames: Sequence[Tensor]) -> None:
        """Take in a clip of frames (1, 3, H, W); no more than a state of each is held."""
        exact: Carried = None
        rough: Carried = None
        for t in reversed(range(len(frames))) if self._goes_back else range(len(frames)):
            target, alone = self._exact(frames[t], exact), self._rough(frames[t], exact)
            own = self._rough(frames[t], rough)
            differences = {"total": own - target, "made_here": alone - target, "propagated": own - alone}
            for name, difference in differences.items():
                self._errors[name].setdefault(t, []).append(relative(difference, target))
            exact, rough = Moment(frames[t], target), Moment(frames[t], own)

    def error(self) -> HiddenError:
        """By frame index, means over the clips that reach it; a branch that goes back ends at frame 0."""
        return HiddenError(**{name: means(errors) for name, errors in self._errors.items()})
