"""What happens between the steps of a training: rows, checkpoints, signals, and a stop where nothing trains."""

# ruff: noqa: D102 (the hooks are Lightning's)

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from vsrprune.data.sampling import StepSampler
from vsrprune.errors import PreemptedError, TrainingDivergedError
from vsrprune.host.progress import Told
from vsrprune.stages.training.checkpoints import Checkpoints
from vsrprune.stages.training.module import TrainingStage
from vsrprune.stages.training.rows import ROWS, Rows
from vsrprune.stages.training.watch import steps_between_reads

DROPPED = 10  # steps in a row


class Resume(Callback):
    """Puts the data order and the metrics back to the checkpoint's step.

    The metrics so far are in the checkpoint, whose checksum vouches for them too; the file of them has none.
    """

    def __init__(self, sampler: StepSampler, rows: Rows | None) -> None:
        self._sampler, self._rows = sampler, rows

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._sampler.start = int(checkpoint["global_step"])
        if self._rows is not None:
            self._rows.put_back(checkpoint[ROWS])

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self._rows is not None:
            checkpoint[ROWS] = self._rows.text()


class Logs(Callback):
    """Hands on the row of a step that is logged; of several ranks, the mean of their losses.

    Not Lightning's logging, which reads the last values from the device again at every step.
    """

    def __init__(self, rows: Rows | None) -> None:
        self._rows = rows

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        logged = cast(TrainingStage, pl_module).take_logged()
        if logged is None:
            return
        means = cast(torch.Tensor, trainer.strategy.reduce(logged.losses, reduce_op="mean")).tolist()
        if self._rows is not None:
            losses = {f"loss_{name}": mean for name, mean in zip(logged.names, means, strict=True)}
            self._rows.add(logged.step, {**losses, **logged.others})


class Saves(Callback):
    """Writes a checkpoint every so many steps; never a network that holds NaN.

    It does so at the start of the next step: only then has Lightning counted the last one.
    """

    def __init__(self, checkpoints: Checkpoints, every: int) -> None:
        self._checkpoints, self._every = checkpoints, every

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._first = trainer.global_step  # needs no checkpoint at 0, and has one after a resume

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        if trainer.global_step % self._every == 0 and trainer.global_step > self._first:
            _save_if_finite(self._checkpoints, trainer)


class Stops(Callback):
    """On SIGTERM or Ctrl-C, all ranks write a checkpoint after the step under way, and leave.

    Lightning's own handler broadcasts inside the signal, while other ranks wait in collectives.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.checkpoints, self._signal = checkpoints, 0

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Restore the signal handlers of before at the end."""
        numbers = (signal.SIGTERM, signal.SIGINT)
        if threading.current_thread() is not threading.main_thread():
            yield  # Python runs signal handlers in the main thread only
            return
        before = {number: signal.getsignal(number) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the handlers only now, since Lightning sets its own just before."""
        if trainer.received_sigterm:
            self._signal = signal.SIGTERM
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._asked)
            signal.signal(signal.SIGINT, self._asked)

    def _asked(self, number: int, frame: FrameType | None) -> None:
        if self._signal == signal.SIGINT == number:
            raise KeyboardInterrupt  # a second Ctrl-C means at once
        self._signal = number

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        self._leave_if_asked(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave here if the signal came during the last step."""
        self._leave_if_asked(trainer)

    def _leave_if_asked(self, trainer: pl.Trainer) -> None:
        # A signal may reach some ranks a step earlier than others; they decide together, or those that go on would wait
        # for the rest for ever.
        if not trainer.strategy.reduce_boolean_decision(bool(self._signal), all=False):
            return
        _save_if_finite(self.checkpoints, trainer)
        number = signal.Signals(self._signal or signal.SIGTERM)
        raise PreemptedError(
            f"asked to stop ({number.name}) at step {trainer.global_step} of {trainer.max_steps}; a checkpoint is"
            " written, the same command goes on from it",
            number,
        )


def _save_if_finite(checkpoints: Checkpoints, trainer: pl.Trainer) -> None:
    module = cast(TrainingStage, trainer.lightning_module)
    module.refuse_bad_losses()
    if is_finite(module):
        checkpoints.save(trainer)


class StopsIfNothingTrains(Callback):
    """Raises TrainingDivergedError when fp16's scaler has dropped DROPPED steps in a row.

    A dropped step leaves the weights as they are while every loss is finite, so nothing else would tell. A few such
    steps are usual at the start, where the scaler looks for its scale.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._scaler = getattr(trainer.precision_plugin, "scaler", None)
        self._read_at, self._dropped = trainer.global_step, 0
        self._scale = self._scaler.get_scale() if self._scaler else 1.0

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Every dropped step halves the scale, and it grows after 2000 good ones: it tells how many were dropped."""
        steps = trainer.global_step - self._read_at
        if self._scaler is None or steps < steps_between_reads(pl_module.device):
            return
        scale = self._scaler.get_scale()
        all_dropped = scale <= self._scale * self._scaler.get_backoff_factor() ** steps
        self._dropped = self._dropped + steps if all_dropped else 0
        self._read_at, self._scale = trainer.global_step, scale
        if self._dropped >= DROPPED:
            raise TrainingDivergedError(
                f"{cast(TrainingStage, pl_module).stage}: trainer.precision=16-mixed trains nothing: the last"
                f" {self._dropped} steps, up to step {trainer.global_step - 1}, had gradients that fp16 cannot hold and"
                " were dropped; use trainer.precision=bf16-mixed or 32-true"
            )


class GivesWay(Callback):
    """Pauses between two steps while another process of this machine takes times."""

    def __init__(self, give_way: Callable[[], None]) -> None:
        self._give_way = give_way

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        self._give_way()


class Bar(Callback):
    """Tells the step that is done."""

    def __init__(self, progress: Told) -> None:
        self._progress = progress

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._progress.start_at(trainer.global_step)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        self._progress.update(trainer.global_step)


def is_finite(module: torch.nn.Module) -> bool:
    """Whether all parameters are finite numbers."""
    return bool(torch.stack([torch.isfinite(parameter).all() for parameter in module.parameters()]).all())
