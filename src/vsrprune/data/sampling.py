"""Training patches, drawn from (seed, position): the same for any number of workers, and after a resume."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from vsrprune.data.clips import Clip, Window

PREFETCH = 2  # batches that each loading process keeps ready
STOPS = (signal.SIGTERM, signal.SIGINT)
OUTLIVES_SECONDS = 60  # of a loading process that is asked to stop: more than a step and a checkpoint take


class Batch(NamedTuple):
    """low_NTCHW: inputs, high_NTCHW: the truth of the first of them, which is as many as have one; RGB in [0, 1]."""

    low_NTCHW: Tensor
    high_NTCHW: Tensor


class Patches(NamedTuple):
    """low_NTCHW and high_NTCHW: the patches of a Batch as they travel to the device, uint8 RGB."""

    low_NTCHW: Tensor
    high_NTCHW: Tensor

    def floats(self) -> Batch:
        """The same in [0, 1], computed where the patches are: the way there is a quarter as long for uint8."""
        return Batch(*map(_unit_range, self))


def _unit_range(levels: Tensor) -> Tensor:
    # By a tensor on the device: for a Python number CUDA multiplies with the reciprocal, which rounds some levels
    # differently than a CPU does.
    return levels.float().div_(torch.full((), 255.0, device=levels.device))


class PatchDataset(Dataset[Patches]):
    """Item i is a random patch sequence that depends on `seed` and i alone.

    mirror: whether every sequence is followed by itself backwards, which doubles its frames.
    """

    def __init__(
        self, clips: Sequence[Clip], frames: int, patch: int, scale: int, seed: int, mirror: bool = False
    ) -> None:
        self._clips, self._frames, self._patch, self._scale, self._seed = clips, frames, patch, scale, seed
        self._mirror = mirror

    def __getitem__(self, index: int) -> Patches:
        """A clip, a start, a place, and one of 16 orientations (flips, transpose, time reversal), all uniform."""
        # A generator per item and none that lives on: a resume, more workers or more ranks draw the same patches, and
        # checkpoints need no state of random numbers.
        draw = np.random.default_rng((self._seed, index))
        clip = self._clips[int(draw.integers(len(self._clips)))]
        height, width = clip.size
        start = int(draw.integers(clip.frames - self._frames + 1))
        y, x = int(draw.integers(height - self._patch + 1)), int(draw.integers(width - self._patch + 1))
        flips = draw.integers(2, size=4).tolist()
        pair = clip.patch(Window(start, self._frames, y, x, self._patch), self._scale, draw)
        low_TCHW, high_TCHW = (_oriented(part_TCHW, flips) for part_TCHW in pair)
        return Patches(_mirrored(low_TCHW), _mirrored(high_TCHW)) if self._mirror else Patches(low_TCHW, high_TCHW)


class BesideUnlabelled(Dataset[Patches]):
    """Item i is that of `labelled`; a batch has as many patches of `unlabelled` behind those of its items."""

    def __init__(self, labelled: PatchDataset, unlabelled: PatchDataset) -> None:
        self._labelled, self._unlabelled = labelled, unlabelled

    def __getitem__(self, index: int) -> Patches:
        """A patch with its truth."""
        return self._labelled[index]

    def __getitems__(self, indices: Sequence[int]) -> list[Patches]:
        """PyTorch's way to a whole batch."""
        return [side[index] for side in (self._labelled, self._unlabelled) for index in indices]


def _oriented(video_TCHW: Tensor, flips: Sequence[int]) -> Tensor:
    axes = [axis for axis, flip in zip((0, 2, 3), flips[:3], strict=True) if flip]
    video_TCHW = video_TCHW.flip(axes)
    return video_TCHW.transpose(2, 3).contiguous() if flips[3] else video_TCHW.contiguous()


def _mirrored(video_TCHW: Tensor) -> Tensor:
    return torch.cat((video_TCHW, video_TCHW.flip(0)))


class StepSampler(Sampler[list[int]]):
    """The batches of steps `start`..`steps`; set `start` to go on where a checkpoint ended.

    rank, ranks: which process of how many this is, in data-parallel training. Each takes its part of every batch, so
    that together they train on what one process would.
    """

    def __init__(self, steps: int, batch: int, rank: int = 0, ranks: int = 1) -> None:
        self.steps, self.batch, self.start = steps, batch, 0
        self._part = slice(rank * batch // ranks, (rank + 1) * batch // ranks)

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.start, self.steps):
            yield list(range(step * self.batch, (step + 1) * self.batch))[self._part]

    def __len__(self) -> int:
        return self.steps


def patch_loader(
    dataset: Dataset[Patches], sampler: StepSampler, workers: int, pinned: bool = False
) -> DataLoader[Patches]:
    """Batches of stacked patches, uint8.

    workers: processes that load, each of which has up to PREFETCH batches ready. pinned: in page-locked memory, from
    which copies to a card run beside its computation.
    """
    return _Loader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=_stack,
        worker_init_fn=_outlive_a_stop if workers else None,
        persistent_workers=workers > 0,
        prefetch_factor=PREFETCH if workers else None,
        pin_memory=pinned,
    )


class _Loader(DataLoader[Patches]):
    """Its processes start with signals held back until they know what to do with them, and free nothing of this one."""

    def __iter__(self) -> Any:
        """As DataLoader's."""
        if not self.num_workers:
            return super().__iter__()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
        # A decoder of videos that is freed waits for its threads, which a forked process does not have: it would wait
        # for ever. So garbage goes before the fork, and what is left is out of the collector's reach in the new ones.
        gc.collect()
        gc.freeze()
        try:
            return super().__iter__()
        finally:
            gc.unfreeze()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _outlive_a_stop(worker: int) -> None:
    """Have a process that loads data go on for a while when it is asked to stop.

    `timeout`, batch systems and Ctrl-C ask whole groups of processes. The training ends its step and writes a
    checkpoint then, which it cannot if what feeds it dies first.
    """
    for number in STOPS:
        signal.signal(number, lambda number, frame: signal.alarm(OUTLIVES_SECONDS))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)


def _stack(items: Sequence[Patches]) -> Patches:
    truths = [item.high_NTCHW for item in items if item.high_NTCHW.numel()]  # of the first items, if of any
    high_NTCHW = torch.stack(truths) if truths else items[0].high_NTCHW[None][:0]
    return Patches(torch.stack([item.low_NTCHW for item in items]), high_NTCHW)
