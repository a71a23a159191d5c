"""Run one training stage: Lightning's trainer with exact resume, metrics as rows, and a progress bar."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers.logger import Logger

from vsrprune.data.clips import Clip
from vsrprune.data.sampling import PatchDataset, StepSampler, patch_loader
from vsrprune.errors import PreemptedError, TrainingDivergedError
from vsrprune.host.progress import StageProgress
from vsrprune.stages.training.checkpoints import Checkpoints
from vsrprune.stages.training.module import TrainingStage
from vsrprune.stages.training.ranks import ranks
from vsrprune.store.atomic import write_atomically

ROWS = "metrics.jsonl"

OnRow = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Hardware:
    """On what to train; see TrainerConfig."""

    accelerator: str = "cpu"
    devices: int = 1
    precision: str = "32-true"
    workers: int = 0


@dataclass(frozen=True)
class Sampling:
    """Batches of `batch` clips, `frames` x `patch` x `patch` at low resolution, drawn by `seed`, perhaps mirrored."""

    batch: int
    patch: int
    frames: int
    seed: int
    mirror: bool = False


@dataclass(frozen=True)
class Session:
    """Where a training keeps its checkpoints, on what it runs, and whom it tells.

    workdir: the folder of checkpoints and rows; a training goes on from what it finds there.
    log_every, checkpoint_every: steps between rows and between checkpoints.
    on_row: called with every row as it is logged. between_steps: called after every step.
    """

    workdir: Path
    log_every: int
    checkpoint_every: int
    hardware: Hardware = Hardware()
    on_row: OnRow = lambda row: None
    between_steps: Callable[[], None] = lambda: None


def fit(module: TrainingStage, clips: Sequence[Clip], sampling: Sampling, session: Session) -> list[dict[str, Any]]:
    """Train `module` for its steps and return its metric rows.

    Goes on from the newest sound checkpoint in the session's workdir, to the same end as without the break. Raises
    TrainingDivergedError if the loss is not finite.
    """
    workdir, hardware = session.workdir, session.hardware
    workdir.mkdir(parents=True, exist_ok=True)
    module.log_every = session.log_every
    # A training step of the tiny network on a CPU is a fifth faster so.
    module.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    rows = RowLogger(workdir / ROWS, module.stage, session.on_row)
    checkpoint = Checkpoints(workdir).newest_sound()
    if checkpoint is None:
        rows.forget_from(0)  # of a try that ended before its first checkpoint
    task = _Task(module, clips, sampling, hardware, workdir, checkpoint, session.checkpoint_every)
    with StageProgress(module.stage, module.steps) as progress, ranks(hardware.devices, _follow, task):
        try:
            _train(task, rows, [_Bar(progress), _GivesWay(session.between_steps)])
        except SystemExit as error:  # Lightning turns a second Ctrl-C into this
            raise KeyboardInterrupt from error
    module.network.cpu()
    with torch.no_grad():
        output_NTCHW = module.network(task.dataset()[0].low_NTCHW[None]).frames_NTCHW
    if not (_is_finite(module) and bool(torch.isfinite(output_NTCHW).all())):
        raise TrainingDivergedError(
            f"{module.stage}: the last step left a network whose output is not finite; try a lower"
            f" schedule.{module.stage}.lr"
        )
    return rows.read()


@dataclass(frozen=True)
class _Task:
    """The training of one stage, as every rank needs to know it."""

    module: TrainingStage
    clips: Sequence[Clip]
    sampling: Sampling
    hardware: Hardware
    workdir: Path
    checkpoint: Path | None
    checkpoint_every: int

    def dataset(self) -> PatchDataset:
        """The data set of training patches."""
        drawn, scale = self.sampling, self.module.network.arguments.scale
        return PatchDataset(self.clips, drawn.frames, drawn.patch, scale, drawn.seed, drawn.mirror)


def _follow(task: _Task) -> None:
    """Train as a rank that is not the first, on a copy: a module that was sent to a process shares its memory."""
    _train(replace(task, module=copy.deepcopy(task.module)), None, [])


def _train(task: _Task, rows: RowLogger | None, callbacks: Sequence[Callback]) -> None:
    """Run Lightning's trainer; on every rank at once."""
    _quiet()
    module, hardware = task.module, task.hardware
    rank = int(os.environ.get("LOCAL_RANK", "0")) if hardware.devices > 1 else 0
    sampler = StepSampler(module.steps, task.sampling.batch, rank, hardware.devices)
    stops = _Stops(Checkpoints(task.workdir))
    trainer = pl.Trainer(
        accelerator=hardware.accelerator,
        devices=hardware.devices,
        strategy="ddp" if hardware.devices > 1 else "auto",
        precision=hardware.precision,  # type: ignore[arg-type]
        # Named, since Lightning would take a batch job of SLURM, of one task, for one that srun started.
        plugins=[LightningEnvironment()],
        max_steps=module.steps,
        max_epochs=-1,
        logger=rows or False,
        log_every_n_steps=1,  # the module logs at its own steps; Lightning's count is off by one after some resumes
        callbacks=[_Resume(sampler, rows), _Saves(stops.checkpoints, task.checkpoint_every), *callbacks, stops],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=task.workdir,
    )
    loader = patch_loader(task.dataset(), sampler, hardware.workers)
    with stops.listening():
        trainer.fit(module, loader, ckpt_path=task.checkpoint, weights_only=True)


class RowLogger(Logger):
    """A Lightning logger that appends {"stage", "step", ...} rows to a JSON-lines file and hands them on."""

    def __init__(self, path: Path, stage: str, on_row: OnRow) -> None:
        super().__init__()
        self._path, self._stage, self._on_row = path, stage, on_row
        self._last: int | None = None

    @property
    def name(self) -> str:
        """The stage; Lightning requires a name."""
        return self._stage

    @property
    def version(self) -> str:
        """Empty; Lightning requires a version."""
        return ""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one row; `step` counts optimiser steps from 0.

        Between the steps that the module logs, Lightning hands on the last values again: they are no new row.
        """
        if step == self._last:
            return
        self._last = step
        values = {name: round(float(value), 8) for name, value in metrics.items() if name != "epoch"}
        row = {"stage": self._stage, "step": step, **values}
        with self._path.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        self._on_row(row)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the hyperparameters are in the store's manifest."""

    def read(self) -> list[dict[str, Any]]:
        """All rows so far; a line that a crash tore is no row."""
        rows = []
        for line in self._path.read_text().splitlines() if self._path.is_file() else []:
            with contextlib.suppress(json.JSONDecodeError):
                rows.append(json.loads(line))
        return rows

    def forget_from(self, step: int) -> None:
        """Drop the rows at and after `step`: a resumed run writes them again."""
        if not self._path.is_file():
            return
        lines = [json.dumps(row) for row in self.read() if row["step"] < step]
        write_atomically(self._path, "".join(f"{line}\n" for line in lines))


class _Resume(Callback):
    """Puts the data order and the metrics back to the checkpoint's step."""

    def __init__(self, sampler: StepSampler, rows: RowLogger | None) -> None:
        self._sampler, self._rows = sampler, rows

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        step = int(checkpoint["global_step"])
        self._sampler.start = step
        if self._rows is not None:
            self._rows.forget_from(step)


class _Saves(Callback):
    """Writes a checkpoint every so many steps; never a network that holds NaN.

    It does so at the start of the next step: only then has Lightning logged the last one.
    """

    def __init__(self, checkpoints: Checkpoints, every: int) -> None:
        self._checkpoints, self._every = checkpoints, every

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._first = trainer.global_step  # needs no checkpoint at 0, and has one after a resume

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        if trainer.global_step % self._every == 0 and trainer.global_step > self._first:
            _save_if_finite(self._checkpoints, trainer)


class _Stops(Callback):
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
    if _is_finite(trainer.lightning_module):
        checkpoints.save(trainer)


class _GivesWay(Callback):
    """Pauses between two steps while another process of this machine takes times."""

    def __init__(self, give_way: Callable[[], None]) -> None:
        self._give_way = give_way

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        self._give_way()


class _Bar(Callback):
    def __init__(self, progress: StageProgress) -> None:
        self._progress = progress

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        self._progress.update(trainer.global_step)


def _is_finite(module: pl.LightningModule) -> bool:
    return all(bool(torch.isfinite(parameter).all()) for parameter in module.parameters())


def _quiet() -> None:
    """Silence Lightning's adverts and its warnings about choices made here on purpose."""
    for name in ("pytorch_lightning", "pytorch_lightning.utilities.rank_zero", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*You're resuming from a checkpoint that ended before the epoch.*")
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists.*")
    warnings.filterwarnings("ignore", message=".*treespec.*")
    warnings.filterwarnings("ignore", message=".*`srun` command is available.*")
    warnings.filterwarnings("ignore", message="GPU available but not used.*")  # it advises what is no knob here
