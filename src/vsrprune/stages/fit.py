"""Run one training stage: Lightning's trainer with exact resume, metrics as rows, and a progress bar."""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities.exceptions import SIGTERMException

from vsrprune.data.clips import Clip
from vsrprune.data.sampling import PatchDataset, StepSampler, patch_loader
from vsrprune.errors import PreemptedError, TrainingDivergedError
from vsrprune.progress import StageProgress
from vsrprune.stages.checkpoints import Checkpoints
from vsrprune.stages.training import TrainingStage
from vsrprune.store import write_atomically

ROWS = "metrics.jsonl"

OnRow = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Hardware:
    """What to train on; see TrainerConfig."""

    accelerator: str = "cpu"
    devices: int = 1
    precision: str = "32-true"
    workers: int = 0


@dataclass(frozen=True)
class Sampling:
    """Batches of `batch` clips, `frames` x `patch` x `patch` at low resolution, drawn by `seed`."""

    batch: int
    patch: int
    frames: int
    seed: int


def fit(
    module: TrainingStage,
    clips: Sequence[Clip],
    sampling: Sampling,
    *,
    workdir: Path,
    hardware: Hardware,
    log_every: int,
    checkpoint_every: int,
    on_row: OnRow,
) -> list[dict[str, Any]]:
    """Train `module` for its steps and return its metric rows.

    Goes on from the newest sound checkpoint in `workdir`, to the same end as without the break. Raises
    TrainingDivergedError if the loss is not finite.
    """
    _quiet()
    module.log_every = log_every
    # A training step of the tiny network on a CPU is a fifth faster so.
    module.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    dataset = PatchDataset(clips, sampling.frames, sampling.patch, module.network.arguments.scale, sampling.seed)
    sampler = StepSampler(module.steps, sampling.batch)
    rows = RowLogger(workdir / ROWS, module.stage, on_row)
    checkpoints = Checkpoints(workdir)
    checkpoint = checkpoints.newest_sound()
    if checkpoint is None:
        rows.forget_from(0)  # of a try that ended before its first checkpoint
    with StageProgress(module.stage, module.steps) as progress:
        trainer = pl.Trainer(
            accelerator=hardware.accelerator,
            devices=hardware.devices,
            precision=hardware.precision,  # type: ignore[arg-type]
            max_steps=module.steps,
            max_epochs=-1,
            logger=rows,
            log_every_n_steps=log_every,
            callbacks=[_Resume(sampler, rows), _Saves(checkpoints, checkpoint_every), _Bar(progress)],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            default_root_dir=workdir,
        )
        loader = patch_loader(dataset, sampler, hardware.workers)
        try:
            trainer.fit(module, loader, ckpt_path=checkpoint, weights_only=True)
        except SIGTERMException as error:
            raise PreemptedError(
                f"asked to stop (SIGTERM) at step {trainer.global_step} of {module.steps}; a checkpoint is written, the"
                " same command goes on from it"
            ) from error
        except SystemExit as error:  # Lightning turns Ctrl-C into this
            raise KeyboardInterrupt from error
    module.network.cpu()
    with torch.no_grad():
        output_NTCHW = module.network(dataset[0].low_NTCHW[None]).frames_NTCHW
    if not (_is_finite(module) and bool(torch.isfinite(output_NTCHW).all())):
        raise TrainingDivergedError(
            f"{module.stage}: the last step left a network whose output is not finite; try a lower"
            f" schedule.{module.stage}.lr"
        )
    return rows.read()


class RowLogger(Logger):
    """A Lightning logger that appends {"stage", "step", ...} rows to a JSON-lines file and hands them on."""

    def __init__(self, path: Path, stage: str, on_row: OnRow) -> None:
        super().__init__()
        self._path, self._stage, self._on_row = path, stage, on_row

    @property
    def name(self) -> str:
        """Lightning asks for it."""
        return self._stage

    @property
    def version(self) -> str:
        """Lightning asks for it."""
        return ""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one row; `step` counts optimiser steps from 0."""
        values = {name: round(float(value), 8) for name, value in metrics.items() if name != "epoch"}
        row = {"stage": self._stage, "step": step, **values}
        with self._path.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        self._on_row(row)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Hyperparameters stand in the store's manifest."""

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

    def __init__(self, sampler: StepSampler, rows: RowLogger) -> None:
        self._sampler, self._rows = sampler, rows

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        step = int(checkpoint["global_step"])
        self._sampler.start = step
        self._rows.forget_from(step)


class _Saves(Callback):
    """Writes a checkpoint every so many steps; never a network that holds NaN."""

    def __init__(self, checkpoints: Checkpoints, every: int) -> None:
        self._checkpoints, self._every = checkpoints, every

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        if trainer.global_step % self._every == 0 and trainer.global_step < trainer.max_steps:
            self._save(trainer, pl_module)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Asked to stop: Lightning raises this between two steps."""
        if isinstance(exception, SIGTERMException):
            self._save(trainer, pl_module)

    def _save(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if _is_finite(pl_module):
            self._checkpoints.save(trainer)


class _Bar(Callback):
    def __init__(self, progress: StageProgress) -> None:
        self._progress = progress

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        self._progress.update(trainer.global_step)


def _is_finite(module: pl.LightningModule) -> bool:
    return all(bool(torch.isfinite(parameter).all()) for parameter in module.parameters())


def _quiet() -> None:
    """Silence Lightning's adverts and its warnings about choices made here on purpose."""
    for name in ("pytorch_lightning", "pytorch_lightning.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*You're resuming from a checkpoint that ended before the epoch.*")
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists.*")
    warnings.filterwarnings("ignore", message=".*treespec.*")
