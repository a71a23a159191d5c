"""Checkpoints of a stage under way, with checksums: Lightning loads a flipped bit silently."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytorch_lightning as pl

from vsrprune.store.atomic import write_atomically
from vsrprune.store.store import sha256

KEPT = 2  # the newest, and the one to fall back on


class Checkpoints:
    """step-<n>.ckpt files of one working folder, each with its checksum beside it."""

    def __init__(self, folder: Path, say: Callable[[str], None] = print) -> None:
        self._folder, self._say = folder, say

    def save(self, trainer: pl.Trainer) -> None:
        """Write the trainer's state; older checkpoints than the last two are dropped.

        Weights, optimiser, scheduler and step are in it. The penalty's weight, the order of the data and the random
        numbers of a step follow from the step itself.
        """
        path = self._folder / f"step-{trainer.global_step}.ckpt"
        trainer.save_checkpoint(path, weights_only=False)  # all ranks must call it; the first writes
        if not trainer.is_global_zero:
            return
        # The checksum comes last: a checkpoint without one was cut off, and does not count.
        write_atomically(_checksum(path), sha256(path))
        for old in self._by_step()[KEPT:]:
            _checksum(old).unlink(missing_ok=True)
            old.unlink()

    def newest_sound(self) -> Path | None:
        """The newest checkpoint that passes its checksum; those that fail are set aside and named."""
        for path in self._by_step():
            if not _checksum(path).is_file():
                continue  # the process died between the two files
            if _checksum(path).read_bytes() == sha256(path).encode():
                return path
            aside = path.rename(path.with_suffix(".damaged"))
            self._say(f"  warning: the checkpoint {path.name} is damaged; set aside as {aside}, an older one is used")
        return None

    def _by_step(self) -> list[Path]:
        return sorted(self._folder.glob("step-*.ckpt"), key=lambda path: -int(path.stem.removeprefix("step-")))


def _checksum(path: Path) -> Path:
    return path.with_suffix(".sha256")
