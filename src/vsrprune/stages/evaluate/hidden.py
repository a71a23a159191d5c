"""How far the hidden states of pruned networks are from the dense network's: made in a frame's step, or handed on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from vsrprune.networks.network import Flows, Network, States
from vsrprune.networks.parts.folding import folded_once
from vsrprune.results.result import HiddenError
from vsrprune.stages.quality import See

SMALLEST = 1e-30  # of a dense state's RMS: a state of zeros that is equal has no error


@dataclass
class _Errors:
    """By frame index the errors of the clips that reach it, each a number that still lies on the device."""

    total: dict[int, list[Tensor]] = field(default_factory=dict)
    made_here: dict[int, list[Tensor]] = field(default_factory=dict)
    propagated: dict[int, list[Tensor]] = field(default_factory=dict)


class StateErrors:
    """A pruned network's states beside the dense network's, of all clips."""

    def __init__(self, network: Network, device: torch.device) -> None:
        self.network = network
        branches = network.arguments.branches
        kept = {branch: network.stream_channels(branch) for branch in branches}
        self._kept = {name: None if some is None else torch.tensor(some, device=device) for name, some in kept.items()}
        self._errors = {branch: _Errors() for branch in branches}

    def narrowed(self, dense: States) -> States:
        """Of what the dense network hands on, the channels that the pruned one has."""
        kept = {name: self._kept.get(name) for name in dense}
        return {name: state if kept[name] is None else state[:, kept[name]] for name, state in dense.items()}

    def add(self, t: int, own: States, alone: States | None, dense: States) -> None:
        """Take in frame t of a clip: its own states, those of its step alone, and the dense network's."""
        for branch, errors in self._errors.items():
            target, mine = dense[branch], self._widened(branch, own, dense)
            # They stay on the device until the end: to read one now would wait for everything that is queued there.
            errors.total.setdefault(t, []).append(relative(mine - target, target))
            if alone is not None:
                made = self._widened(branch, alone, dense)
                errors.made_here.setdefault(t, []).append(relative(made - target, target))
                errors.propagated.setdefault(t, []).append(relative(mine - made, target))

    def _widened(self, branch: str, states: States, dense: States) -> Tensor:
        kept = self._kept[branch]
        return states[branch] if kept is None else torch.zeros_like(dense[branch]).index_copy(1, kept, states[branch])

    def by_branch(self) -> dict[str, HiddenError]:
        """The errors of every branch, means over the clips that reach a frame index."""
        return {
            branch: HiddenError(means(errors.total), means(errors.made_here) or None, means(errors.propagated) or None)
            for branch, errors in self._errors.items()
        }


def seen_beside(tuned: StateErrors, cut: StateErrors, dense: Network, frames_NTCHW: Tensor, flows: Flows) -> See:
    """A function that takes in the tuned network's states of a clip's frames, one after the other, for both networks.

    flows: the tuned network's.
    """
    target, for_tuned, for_cut = _readers(_handed_on(dense, frames_NTCHW), 3)
    cut_flows = cut.network.flows_in_parts(frames_NTCHW)
    own = cut.network.states_handed_on(frames_NTCHW, cut_flows or None)
    tuned_alone = _alone(tuned, frames_NTCHW, flows, for_tuned)
    cut_alone = _alone(cut, frames_NTCHW, cut_flows, for_cut)

    def see(t: int, states: States) -> None:
        dense_states = next(target)
        tuned.add(t, states, next(tuned_alone), dense_states)
        cut.add(t, next(own), next(cut_alone), dense_states)

    return see


def _readers(states: Iterator[States], count: int) -> list[Iterator[States]]:
    """So many readers of one iterator; an item is held until the last has read it."""
    # itertools.tee holds up to 57 items that all have read.
    waiting: list[deque[States]] = [deque() for _ in range(count)]

    def pull() -> bool:
        item = next(states, None)
        if item is None:
            return False
        for queue in waiting:
            queue.append(item)
        return True

    def read(queue: deque[States]) -> Iterator[States]:
        while queue or pull():
            yield queue.popleft()

    return [read(queue) for queue in waiting]


def _handed_on(network: Network, frames_NTCHW: Tensor) -> Iterator[States]:
    flows = network.flows_in_parts(frames_NTCHW)
    with folded_once(network):
        yield from network.states_handed_on(frames_NTCHW, flows or None)


def _alone(pruned: StateErrors, frames_NTCHW: Tensor, flows: Flows, dense: Iterator[States]) -> Iterator[States | None]:
    """What the steps make of dense states; None for every frame if the network cannot say."""
    alone = pruned.network.steps_alone(frames_NTCHW, flows, map(pruned.narrowed, dense))
    # It reads the states all the same: what one reader leaves is held.
    return (None for _ in dense) if alone is None else alone


def relative(difference: Tensor, target: Tensor) -> Tensor:
    """The RMS of a difference over that of what it is the difference to, on their device."""
    return difference.square().mean().sqrt() / target.square().mean().sqrt().clamp_min(SMALLEST)


def means(errors: Mapping[int, list[Tensor]]) -> list[float]:
    """Of each frame index, in order."""
    return [round(float(np.mean([float(error) for error in errors[t]])), 8) for t in sorted(errors)]
