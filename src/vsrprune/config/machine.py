"""The groups that differ between machines: `trainer`, `launcher`, `sweep`, `tracking`.

They change no result beyond its rounding, for which `trainer.precision` and `trainer.tf32` are in the keys of stages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vsrprune.errors import UserError
from vsrprune.knobs import Limits, knob

TRACKERS = ("wandb", "tensorboard", "csv")
BATCH_SYSTEMS = ("slurm", "pbs", "sge")
THREADS: Limits = {"at_least": 0, "at_most": 1024}


@dataclass
class TrainerConfig:
    """What the stages run on."""

    name: str = knob("auto", "The name of the file in conf/trainer.")
    accelerator: str = knob(
        "auto",
        "What the stages run on: `gpu` an NVIDIA GPU, `auto` one if there is one. Results on a GPU differ from those on"
        " a CPU by rounding, and share their stages.",
        choices=("cpu", "gpu", "auto"),
    )
    devices: int = knob(
        1,
        "Devices of one job; more than one train data-parallel. A GPU each; more than there are is refused.",
        at_least=1,
        at_most=1024,
    )
    precision: str = knob(
        "32-true",
        "The precision of training. bf16-mixed and 16-mixed compute under autocast: 16-mixed on CUDA devices alone,"
        " bf16-mixed also on a CPU, and on a card of the Ampere generation or a later one.",
        choices=("32-true", "16-mixed", "bf16-mixed"),
    )
    tf32: bool = knob(
        True,
        "A card's convolutions and matrix products in training round the factors of float32 to 10 bits, on Tensor"
        " cores. PyTorch's own default does so for convolutions alone.",
    )
    benchmark: bool = knob(
        True, "On a card, cuDNN tries its algorithms at the first step of a training and keeps the fastest."
    )
    deterministic: bool = knob(
        False,
        "On a card, PyTorch takes deterministic algorithms, which are slower, and trainer.benchmark is off. PyTorch has"
        " none for the backward pass of grid_sample, with which networks with a flow net warp, and warns; two runs of"
        " such a network differ all the same.",
    )
    memory_format: str = knob(
        "auto",
        "How the network lies in memory while it trains. auto: channels_last, but contiguous on a card that computes in"
        " 32 bits without TF32.",
        choices=("auto", "channels_last", "contiguous"),
    )
    graphs: bool | str = knob(
        "auto",
        "On a card, a training step is captured as CUDA graphs and replayed, so that it waits for no launches. auto: on"
        " one device, in 32-true and bf16-mixed, without checkpoint_frames. A step that cannot be captured is run as"
        " usual, and a note says so.",
        choices=("auto",),
        spelled="auto, true or false",
    )
    threads: int = knob(0, "CPU threads of PyTorch; 0: PyTorch chooses.", **THREADS)
    workers: int = knob(0, "Processes that load data, beside each device's own.", at_least=0, at_most=256)
    checkpoint_frames: bool = knob(
        False, "Long clips in less memory: a frame is computed again when its gradients are due."
    )


@dataclass
class TrackingConfig:
    """Where runs are tracked, beside their own files: Weights & Biases, TensorBoard, a CSV file, several or none."""

    to: list[str] = knob(
        ["wandb"],
        "The trackers of a run: any of wandb, tensorboard and csv, or [] for none.",
        choices=TRACKERS,
        spelled=f"a list of any of {', '.join(TRACKERS)}",
    )
    mode: str = knob(
        "offline",
        "Weights & Biases offline, which writes real wandb files without account or network, or online.",
        choices=("offline", "online"),
    )
    project: str = knob("vsrprune", "The project of the runs in W&B.")
    entity: str = knob("", "The account or team of the project in W&B; empty: one's own.")
    group: str = knob("", "The group of the runs; a sweep sets it.")
    per_trial: bool = knob(False, "A search makes a run in W&B per trial, instead of one for its study.")


@dataclass
class LauncherConfig:
    """How a sweep's jobs are run."""

    name: str = knob(
        "local", "Processes of this machine, or jobs on others.", choices=("local", "dask", "ray", *BATCH_SYSTEMS)
    )
    jobs: int = knob(1, "At most so many jobs at a time.", at_least=1, at_most=1024)
    threads: int = knob(0, "Threads of each job's training; 0 divides this machine's among the jobs.", **THREADS)
    address: str = knob("", "The address of a running scheduler (dask) or cluster (ray).")
    options: dict[str, Any] | None = knob(
        {},
        "Options of one batch job (slurm, pbs, sge), as dask-jobqueue names them: launcher.options.queue=gpu. With an"
        " address: of dask TLS, as distributed.Security names it (launcher.options.tls_ca_file=ca.pem); of ray its"
        " runtime_env (launcher.options.working_dir=.).",
    )


@dataclass
class SweepConfig:
    """A sweep as a whole; a single job has none."""

    name: str | None = knob(
        None,
        "The sweep's folder in runs_dir. null: what varies and eight digits of its jobs, such as rsc-by-ratio-cf018d18;"
        " the same command always finds the same folder.",
        spelled="a name for a folder, or null",
    )


def check_launcher(launcher: LauncherConfig) -> None:
    """Raise UserError for settings that the launcher does not read, and for those that a batch system lacks."""
    if launcher.address and launcher.name not in ("dask", "ray"):
        raise UserError(
            f"launcher.address is given, but launcher={launcher.name} does not read it; use launcher=dask or ray"
        )
    batch = launcher.name in BATCH_SYSTEMS
    if launcher.options and not batch and not (launcher.name in ("dask", "ray") and launcher.address):
        raise UserError(
            f"launcher.options are given, but launcher={launcher.name} does not read them; use launcher=slurm, pbs, sge"
        )
    # dask-jobqueue describes no batch job without them.
    if batch and not {"cores", "memory"} <= set(launcher.options or {}):
        raise UserError(f"launcher={launcher.name} needs launcher.options.cores and launcher.options.memory of one job")
