"""Run one training stage: Lightning's trainer with exact resume, metrics as rows, and a progress bar."""

from __future__ import annotations

import copy
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.callbacks import Callback

from vsrprune.data.clips import Clip
from vsrprune.data.sampling import (
    PREFETCH,
    Batch,
    BesideUnlabelled,
    PatchDataset,
    Patches,
    StepSampler,
    patch_loader,
)
from vsrprune.errors import TrainingDivergedError, UserError
from vsrprune.host.progress import Told, Unshown
from vsrprune.stages.training.callbacks import (
    Bar,
    GivesWay,
    Logs,
    Resume,
    Saves,
    Stops,
    StopsIfNothingTrains,
    is_finite,
)
from vsrprune.stages.training.checkpoints import Checkpoints
from vsrprune.stages.training.graphs import uses_graphs
from vsrprune.stages.training.hardware import Hardware, computing, memory_format, precision_plugin
from vsrprune.stages.training.module import TrainingStage
from vsrprune.stages.training.ranks import ranks
from vsrprune.stages.training.rows import ROWS, OnRow, Rows

SHARED_MEMORY = Path("/dev/shm")
MIB = 2**20
UNLABELLED_SEEDS = 2**64  # beyond those of trainings and scores: places are drawn apart from those of the other clips


@dataclass(frozen=True)
class Sampling:
    """Batches of `batch` clips, `frames` x `patch` x `patch` at low resolution, drawn by `seed`, perhaps mirrored."""

    batch: int
    patch: int
    frames: int
    seed: int
    mirror: bool = False

    def batch_bytes(self, scale: int) -> int:
        """Of a batch as it travels to the device: input and truth, uint8 RGB, where the truth is larger by `scale`."""
        frames = self.frames * (2 if self.mirror else 1)
        return self.batch * frames * 3 * self.patch**2 * (1 + scale**2)


@dataclass(frozen=True)
class Session:
    """Where a training keeps its checkpoints, on what it runs, and whom it tells.

    workdir: the folder of checkpoints and rows; a training goes on from what it finds there.
    log_every, checkpoint_every: steps between rows and between checkpoints.
    on_row: called with every row as it is logged. between_steps: called after every step. progress: is told how far the
    training is.
    """

    workdir: Path
    log_every: int
    checkpoint_every: int
    hardware: Hardware = field(default_factory=Hardware)
    on_row: OnRow = lambda row: None
    between_steps: Callable[[], None] = lambda: None
    progress: Told = field(default_factory=Unshown)


def fit(
    module: TrainingStage,
    clips: Sequence[Clip],
    sampling: Sampling,
    session: Session,
    unlabelled: Sequence[Clip] = (),
) -> list[dict[str, Any]]:
    """Train `module` for its steps and return its metric rows.

    unlabelled: clips without truth, of which every batch has as many behind those of `clips`.

    Goes on from the newest sound checkpoint in the session's workdir, to the same end as without the break: on a CPU
    to the same bits, on a card within what two unbroken runs differ by. Raises TrainingDivergedError if the loss is not
    finite, and UserError if the batches under way do not fit into shared memory.
    """
    workdir, hardware = session.workdir, session.hardware
    if hardware.workers and SHARED_MEMORY.is_dir():
        free = shutil.disk_usage(SHARED_MEMORY).free
        # Of what has no truth the input alone travels: the bound is not tight.
        needed = sampling.batch_bytes(module.network.arguments.scale) * (2 if unlabelled else 1)
        check_shared_memory(needed, hardware.workers, free)
    workdir.mkdir(parents=True, exist_ok=True)
    module.log_every = session.log_every
    layout = memory_format(hardware)
    module.network.to(memory_format=layout)  # type: ignore[call-overload]
    # A teacher on a CPU stays as it came: in another format its states would be rounded otherwise than results have it.
    if hardware.device != "cpu":
        module.teacher_format = layout
    rows = Rows(workdir / ROWS, module.stage, session.on_row)
    checkpoint = Checkpoints(workdir).newest_sound()
    if checkpoint is None:
        rows.put_back("")  # without those of a try that ended before its first checkpoint
    task = _Task(module, clips, unlabelled, sampling, hardware, workdir, checkpoint, session.checkpoint_every)
    session.progress.count(module.steps)
    with ranks(hardware.count, _follow, task):
        try:
            _train(task, rows, [Bar(session.progress), GivesWay(session.between_steps)])
        except SystemExit as error:  # Lightning turns a second Ctrl-C into this
            raise KeyboardInterrupt from error
    module.network.cpu()
    with torch.no_grad():
        output_NTCHW = module.network(task.dataset()[0].floats().low_NTCHW[None]).frames_NTCHW
    if not (is_finite(module) and bool(torch.isfinite(output_NTCHW).all())):
        raise TrainingDivergedError(
            f"{module.stage}: the last step left a network whose output is not finite; try a lower"
            f" schedule.{module.stage.partition('_')[0]}.lr"  # of a round: sparsify_1
        )
    return rows.read()


def check_shared_memory(batch_bytes: int, workers: int, free: int) -> None:
    """Raise UserError unless the batches that `workers` processes keep ready fit into `free` bytes of /dev/shm.

    A process that writes beyond them dies of SIGBUS in the middle of the training. The ranks of a data-parallel
    training have as many workers each, for their part of every batch.
    """
    needed = batch_bytes * workers * PREFETCH
    if needed > free:
        raise UserError(
            f"trainer.workers={workers} keep {needed / MIB:.0f} MiB of batches in {SHARED_MEMORY}, which has"
            f" {free / MIB:.0f} MiB free; use trainer.workers={free // (batch_bytes * PREFETCH)}, or give the container"
            " more (docker run --shm-size=2g)"
        )


@dataclass(frozen=True)
class _Task:
    """The training of one stage, as every rank needs to know it."""

    module: TrainingStage
    clips: Sequence[Clip]
    unlabelled: Sequence[Clip]
    sampling: Sampling
    hardware: Hardware
    workdir: Path
    checkpoint: Path | None
    checkpoint_every: int

    def dataset(self) -> PatchDataset | BesideUnlabelled:
        """The data set of training patches."""
        drawn, scale = self.sampling, self.module.network.arguments.scale
        patches = PatchDataset(self.clips, drawn.frames, drawn.patch, scale, drawn.seed, drawn.mirror)
        if not self.unlabelled:
            return patches
        seed = UNLABELLED_SEEDS + drawn.seed
        return BesideUnlabelled(
            patches, PatchDataset(self.unlabelled, drawn.frames, drawn.patch, scale, seed, drawn.mirror)
        )

    def example(self) -> Batch:
        """The first batch, on the CPU."""
        batches = patch_loader(self.dataset(), StepSampler(1, self.sampling.batch), workers=0)
        patches: Patches = next(iter(batches))
        return patches.floats()


def _follow(task: _Task) -> None:
    """Train as a rank that is not the first, on a copy: a module that was sent to a process shares its memory."""
    _train(replace(task, module=copy.deepcopy(task.module)), None, [])


def _train(task: _Task, rows: Rows | None, callbacks: Sequence[Callback]) -> None:
    """Run Lightning's trainer; on every rank at once."""
    _quiet()
    module, hardware = task.module, task.hardware
    rank = int(os.environ.get("LOCAL_RANK", "0")) if hardware.count > 1 else 0
    sampler = StepSampler(module.steps, task.sampling.batch, rank, hardware.count)
    stops = Stops(Checkpoints(task.workdir))
    saves = Saves(stops.checkpoints, task.checkpoint_every)
    trainer = pl.Trainer(
        accelerator=hardware.device,
        devices=hardware.count,
        strategy="ddp" if hardware.count > 1 else "auto",
        # Named, since Lightning would take a batch job of SLURM, of one task, for one that srun started.
        plugins=[LightningEnvironment(), precision_plugin(hardware.arithmetic, hardware.device)],
        max_steps=module.steps,
        max_epochs=-1,
        logger=False,
        callbacks=[Resume(sampler, rows), saves, Logs(rows), *callbacks, StopsIfNothingTrains(), stops],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=task.workdir,
    )
    loader = patch_loader(task.dataset(), sampler, hardware.workers, pinned=hardware.device == "cuda")
    module.to_capture = task.example if uses_graphs(hardware, module.network) else None
    with computing(hardware), stops.listening():
        try:
            trainer.fit(module, loader, ckpt_path=task.checkpoint, weights_only=True)
        finally:
            module.release_graphs()


def _quiet() -> None:
    """Silence Lightning's adverts and its warnings about choices made here on purpose."""
    for name in ("pytorch_lightning", "pytorch_lightning.utilities.rank_zero", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*You're resuming from a checkpoint that ended before the epoch.*")
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists.*")
    warnings.filterwarnings("ignore", message=".*treespec.*")
    # fp16's scaler may drop the first steps, and the schedule goes on all the same.
    warnings.filterwarnings("ignore", message=".*Detected call of `lr_scheduler.step\\(\\)` before `optimizer.step.*")
    warnings.filterwarnings("ignore", message=".*`srun` command is available.*")
    warnings.filterwarnings("ignore", message="GPU available but not used.*")  # it advises what is no knob here
    # Steps replayed from CUDA graphs: PyTorch keeps the nodes of the captured pass, which are its capture stream's.
    warnings.filterwarnings("ignore", message=".*AccumulateGrad node's stream does not match.*")
