"""Where a stage's work is done: its folder, its configuration, and what the stages of a job share."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from vsrprune.config.job import Config
from vsrprune.config.machine import TrainerConfig
from vsrprune.data.clips import Clip, ClipSet
from vsrprune.host.devices import busy_percent
from vsrprune.host.progress import Told, Unshown
from vsrprune.methods.method import Method
from vsrprune.methods.table import METHODS
from vsrprune.metrics.latency import fastest_milliseconds
from vsrprune.metrics.temporal import Each, TruthMotion, truth_motion
from vsrprune.metrics.tf32 import tf32
from vsrprune.networks.fast.fastest import freeze
from vsrprune.networks.fast.frozen import Frozen
from vsrprune.networks.fast.precision import PRECISIONS
from vsrprune.networks.files import save_network
from vsrprune.networks.network import Flows, Network
from vsrprune.networks.table import build
from vsrprune.pruning.reparametrisation import bake
from vsrprune.results.result import METRICS, Quality
from vsrprune.stages.clips import job_clips
from vsrprune.stages.job import Job
from vsrprune.stages.quality import QualityMeter, See, frames_shown, nothing_seen, restored
from vsrprune.stages.recipe import StagePlan
from vsrprune.stages.saved import SavedNetwork, Trained
from vsrprune.stages.training.fit import Sampling, Session, fit
from vsrprune.stages.training.hardware import Arithmetic, Hardware
from vsrprune.stages.training.module import TrainingStage
from vsrprune.store.atomic import write_atomically

RGB = 3
QUIET_SECONDS = 1.0  # the driver's figure is of the last second at most
MOTION_BYTES = 2**29  # of the motion of clips that is kept for later stages


class Witness(Protocol):
    """Whoever is told how far a stage is."""

    def begun(self, stage: str, steps: int = 0) -> None:
        """A stage begins, which trains so many steps."""

    def row(self, stage: str, row: dict[str, Any]) -> None:
        """The losses of a step of a stage."""


class Shared:
    """What the stages of a job share: its clips, its device, and whom they tell what."""

    def __init__(self, job: Job, witness: Witness, say: Callable[[str], None]) -> None:
        self.job, self.witness, self.say = job, witness, say
        self.progress: Told = Unshown()  # of the stage under way
        self.clips_noted = False  # whether what is to be known of the clips was told by another job
        self._motions: dict[str, TruthMotion] = {}

    @cached_property
    def clips(self) -> ClipSet:
        """Training and held-out clips, read when the first stage wants them."""
        self.progress.does("makes the clips" if self.job.sources is None else "reads the clips")
        return job_clips(self.job, self.say, self.clips_noted)

    @cached_property
    def device(self) -> torch.device:
        """Where the job computes."""
        return job_device(self.job)

    @cached_property
    def disturbance(self) -> int:
        """Percent of the time in which the job's card is busy while all jobs of this user pause; asked for once."""
        time.sleep(QUIET_SECONDS)
        cards = self.job.place.cards
        return (busy_percent(cards[0]) if cards else None) or 0

    def motion(self, clip: Clip, each: Each) -> TruthMotion:
        """The motion of a held-out clip, which several stages compare outputs with."""
        if clip.name in self._motions:
            return self._motions[clip.name]
        motion = truth_motion(clip.high_TCHW, self.job.config.evaluate.temporal_pairs, each)
        # The motion of all of Vimeo-90K's test set would take 48 GB.
        if motion.nbytes + sum(known.nbytes for known in self._motions.values()) <= MOTION_BYTES:
            self._motions[clip.name] = motion
        return motion


def job_device(job: Job) -> torch.device:
    """Where a job computes; planning has settled what `auto` stands for."""
    return torch.device("cuda" if job.config.trainer.accelerator == "gpu" else "cpu")


def finish(device: torch.device) -> None:
    """Wait for all that the device was asked to compute."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True)
class Bench:
    """One stage under way.

    `folder` is the artifact's folder, `work` the one for checkpoints, which outlive a crash. `give_way` is called
    between two training steps, and waits while another job measures.
    """

    plan: StagePlan
    folder: Path
    work: Path
    shared: Shared
    give_way: Callable[[], None] = lambda: None

    @property
    def job(self) -> Job:
        """The job that the stage belongs to."""
        return self.shared.job

    @property
    def config(self) -> Config:
        """The job's configuration, with the share of `ratio` that goes in this round."""
        config = self.job.config
        # Stages that are not repeated belong to the last round, by whose end all of `ratio` is cut.
        return config.in_round(self.plan.cut_round or config.rounds)

    @property
    def method(self) -> Method:
        """The job's pruning method."""
        return METHODS[self.config.method.name]

    @property
    def device(self) -> torch.device:
        """Where the stage computes."""
        return self.shared.device

    @property
    def clips(self) -> ClipSet:
        """Training and held-out clips."""
        return self.shared.clips

    @property
    def say(self) -> Callable[[str], None]:
        """Print a line."""
        return self.shared.say

    @property
    def progress(self) -> Told:
        """Who is told how far the stage is."""
        return self.shared.progress

    def note(self, text: str) -> None:
        """Print a note."""
        self.say(f"  note: {text}")

    def new_network(self) -> Network:
        """A dense network with gates, newly initialised."""
        return build(self.job.arguments)

    @cached_property
    def stand(self) -> Stand:
        """Where networks are timed."""
        evaluate = self.config.evaluate
        height, width = evaluate.latency_size
        return Stand((evaluate.latency_frames, height, width), evaluate.precision, self.device)

    def train(self, module: TrainingStage, seed: int, frames: int = 0) -> SavedNetwork:
        """Train, and leave the network and its curves in the artifact's folder.

        frames: of a clip in a batch; 0: as many as schedule.frames says.
        """
        schedule, trainer, name = self.config.schedule, self.config.trainer, self.plan.name
        module.network.checkpoint_frames = trainer.checkpoint_frames
        self.shared.witness.begun(name, module.steps)
        rows = fit(
            module,
            self.clips.train,
            Sampling(schedule.batch, schedule.patch, frames or schedule.frames, seed, self.config.data.mirror),
            Session(
                workdir=self.work,
                hardware=hardware_of(trainer, self.device),
                log_every=schedule.log_every,
                checkpoint_every=schedule.checkpoint_every,
                on_row=partial(self.shared.witness.row, name),
                between_steps=self.give_way,
                progress=self.progress,
            ),
            self.clips.unlabelled if module.teacher else (),
        )
        # Reparametrised weights become plain ones first, so that no other stage needs to know how they were trained.
        bake(module.network)
        save_network(module.network, self.folder)
        write_atomically(self.folder / METRICS, "".join(json.dumps(row) + "\n" for row in rows))
        return SavedNetwork(self.folder)

    def restored(self, network: Network, clip: Clip, see: See = nothing_seen, flows: Flows | None = None) -> Tensor:
        """The clip's uint8 output frames (T, 3, H, W); `see` is told every frame's hidden states."""
        self.progress.does(f"restores {clip.name}")
        return restored(network, clip, self.device, self.config.comparison.centre, see, flows)

    def frames_shown(self, clip: Clip) -> Tensor:
        """The frames that networks are shown of a clip; `flows` of `restored` are of these."""
        return frames_shown(clip, self.device, self.config.comparison.centre)

    def judged(self, clips: Sequence[Clip], dense: Network | None) -> Iterator[Clip]:
        """Clips with what outputs are compared with: the truth, or what the dense network makes of a clip without."""
        for clip in clips:
            if clip.has_truth:
                yield clip
            else:
                assert dense is not None, "a stage that compares has the dense network where there is no truth"
                yield clip.judged_by(self.restored(dense, clip))

    def quality(self, network: Network, dense: Trained | None = None) -> Quality:
        """Quality on the held-out clips, without temporal consistency; dense: see `judged`."""
        network, meter = network.to(self.device).eval(), QualityMeter(self.config.comparison, self.device)
        whole = None if dense is None else dense.network.load().to(self.device).eval()
        for clip in self.judged(self.clips.val, whole):
            meter.add(clip, self.restored(network, clip))
        return meter.quality()

    def compare(self, meters: Sequence[QualityMeter], clip: Clip, outputs: Sequence[Tensor], each: Each) -> None:
        """Give every meter its output of a clip, and the clip's motion if temporal consistency is asked for."""
        self.progress.does(f"compares {clip.name}")
        motion = self.shared.motion(clip, each) if self.config.evaluate.temporal else None
        for meter, output_TCHW in zip(meters, outputs, strict=True):
            meter.add(clip, output_TCHW, motion)


def hardware_of(trainer: TrainerConfig, device: torch.device) -> Hardware:
    """On what the job's trainings run, and how they compute there."""
    arithmetic = Arithmetic(
        precision=trainer.precision,
        tf32=trainer.tf32,
        benchmark=trainer.benchmark,
        deterministic=trainer.deterministic,
        memory_format=trainer.memory_format,
    )
    return Hardware(device.type, trainer.devices, trainer.workers, arithmetic, trainer.graphs)


class Stand:
    """Where networks are timed: a clip of the asked size, and the asked precision.

    size: frames, height and width at low resolution.
    """

    def __init__(self, size: tuple[int, int, int], precision: str, device: torch.device) -> None:
        frames, height, width = size
        # Random, since times depend on shapes and not on what a clip shows.
        self.clip_NTCHW = torch.rand(1, frames, RGB, height, width, device=device)
        self._precision, self._device = precision, device

    @property
    def precision(self) -> AbstractContextManager[None]:
        """The context in which networks that `fastest_form` made compute as asked.

        The flow net stays in float32, and beside sixteen bits TF32 is exact enough for it.
        """
        return tf32(self._precision != "32")

    def fastest_form(self, network: Network) -> tuple[Frozen, str]:
        """A compact network in the asked precision, in the form that is fastest here, and the form's name."""
        timer = partial(fastest_milliseconds, device=self._device)
        return freeze(network.to(self._device), self.clip_NTCHW, timer, PRECISIONS[self._precision])
