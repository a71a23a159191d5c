"""How fast this machine trains a network: timed once by a short process of its own, and remembered for this user."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import math
import os
import pickle
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from vsrprune.channels.layout import ChannelLayout
from vsrprune.channels.plan import PrunePlan
from vsrprune.data.demo_photos import FRAME
from vsrprune.data.look import first_look, input_size
from vsrprune.host.devices import VISIBLE
from vsrprune.networks.table import identity_of
from vsrprune.stages.job import Job
from vsrprune.stages.probing import Probe
from vsrprune.store.atomic import read_json, write_cache
from vsrprune.store.store import content_key

VERSION = 1  # of what a probe times; raise it when that changes
# Multiply-accumulates of a step that is timed. Larger ones are timed on fewer clips, frames and pixels: on two CPU
# cores that is some 2 s a step.
MOST_MACS = {"cpu": 8e10, "cuda": 4e12}
PASSES = 3  # a training step computes what a forward pass does, and twice that for the gradients
SMALLEST_PATCH, FEWEST_FRAMES = 32, 2
MOST_STEPS, FEWEST_STEPS = 8, 3  # timed, the first of which does not count
PATIENCE_SECONDS = 300
BUDGET_SECONDS = 60.0  # of one dry run: networks beyond are scaled from those that were timed
USUAL_FRAME = (180, 320)  # low-resolution frames of REDS, where the size of the held-out ones is not known
USUAL_FRAMES = 100


@dataclass(frozen=True)
class Held:
    """Held-out clips: how many, frames of each, and the height and width of their low-resolution frames."""

    clips: int
    frames: float
    size: tuple[int, int]


@dataclass(frozen=True)
class Speed:
    """Seconds on this machine.

    start: of a process until it computes. step, narrow_step: of a training step of `pixels` low-resolution pixels (of
    all frames of all clips), by the dense network and by one with half of every group. flow_step: of the flow net
    alone, 0 without one. frame, compare, motion, output_motion: to restore and to compare a frame of `shown` pixels, to
    find the motion in a pair of them, and to judge an output's. parameters: of the dense network with its flow net.
    busy: whether other programs had more to do than this machine has cores.
    """

    start: float
    step: float
    narrow_step: float
    frame: float
    compare: float
    motion: float
    output_motion: float
    parameters: float
    pixels: float
    shown: float
    flow_step: float = 0.0
    busy: bool = False

    def scaled(self, by: float, parameters: float) -> Speed:
        """Of a network that computes so many times as much for a pixel."""
        slower = {name: getattr(self, name) * by for name in ("step", "narrow_step", "frame")}
        return replace(self, **slower, parameters=parameters)


class Speeds:
    """The speeds of jobs; each network and size of a batch is timed once, by `probe`, and remembered in `folder`.

    budget: seconds (60 unless they are given) after which those that were not timed yet are scaled from one that was.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        folder: Path | None = None,
        probe: Callable[[Probe, Job], Mapping[str, float] | str] | None = None,
        budget: float | None = None,
    ) -> None:
        self._say, self._folder, self._probe = say, folder or cache_folder(), probe or run_probe
        self._budget = BUDGET_SECONDS if budget is None else budget
        self._known: dict[str, Speed | None] = {}
        self._first: tuple[Speed, float] | None = None
        self._spent = 0.0
        self.failure = ""
        self.scaled = False

    def of(self, job: Job) -> Speed | None:
        """The speed of a job's network and batches; None where it could not be timed, which `failure` explains."""
        place = [platform.node(), job.place.device, os.cpu_count(), importlib.metadata.version("torch"), VERSION]
        probe = probe_of(job)
        asked = {"place": place, "model": identity_of(job.arguments), "narrow": job.config.rule}
        # The arguments stand for themselves by their identity, the narrow plan by the rule.
        sizes = {name: value for name, value in vars(probe).items() if name not in ("arguments", "narrow")}
        sizes |= {name: asdict(sizes[name]) for name in ("trainer", "comparison")}
        key = content_key({**asked, **sizes})
        if key not in self._known:
            self._known[key] = self._read(key, probe, job)
        return self._known[key]

    def _read(self, key: str, probe: Probe, job: Job) -> Speed | None:
        file = self._folder / f"{key}.json"
        macs = job.layout.macs_per_pixel()
        with contextlib.suppress(OSError, ValueError, TypeError):
            speed = Speed(**read_json(file))
            if is_busy() or not speed.busy:  # else it is timed again, now that the machine is its own
                self._first = self._first or (speed, macs)
                return speed
        if self.failure:
            return None
        if self._spent > self._budget and self._first:
            self.scaled = True
            speed, others = self._first
            return speed.scaled(macs / others, job.layout.parameters())
        if not self._spent:
            self._say("timing a few steps on this machine, which is done once for each network ...")
        began, busy = time.monotonic(), is_busy()
        found = self._probe(probe, job)
        self._spent += time.monotonic() - began
        if isinstance(found, str):
            self.failure = found
            return None
        pixels = probe.batch * probe.frames * probe.patch**2
        speed = Speed(**found, pixels=pixels, shown=math.prod(probe.shown), busy=busy)
        write_speed(file, speed)
        self._first = self._first or (speed, macs)
        return speed


def write_speed(file: Path, speed: Speed) -> None:
    """Remember a speed, if the folder can be written."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_cache(file, json.dumps(asdict(speed)))


def is_busy() -> bool:
    """Whether more wants to run than this machine has cores, so that nothing takes the time that it needs alone."""
    return hasattr(os, "getloadavg") and os.getloadavg()[0] > (os.cpu_count() or 1)


def cache_folder() -> Path:
    """Where speeds are remembered: in the user's cache, since a dry run leaves nothing in the store."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vsrprune" / "speed"


def held_out(job: Job) -> tuple[Held, Held]:
    """The held-out clips of a job, and its test clips, as far as their files say without being decoded."""
    data, scale = job.config.data, job.arguments.scale
    if job.sources is None:
        photos = 2 * data.demo_val_per_photo
        size = (FRAME[0] // scale, FRAME[1] // scale)
        return Held(photos, data.demo_frames, size), Held(0, 0, size)
    sides = []
    for clips in (job.sources.val, job.sources.test):
        looks = [first_look(clip) for clip in clips[:8]]  # clips of a set are alike
        sizes = [input_size(look, data.shrunk_by(scale), data.halve) for look in looks if look is not None]
        lengths = [look.frames or USUAL_FRAMES for look in looks if look is not None] or [USUAL_FRAMES]
        most = data.max_frames or max(lengths)
        frames = sum(min(length, most) for length in lengths) / len(lengths)
        sides.append(Held(len(clips), frames, sizes[0] if sizes else USUAL_FRAME))
    return sides[0], sides[1]


def probe_of(job: Job) -> Probe:
    """What is timed for a job: a step as it trains, or as much of it as takes seconds."""
    config = job.config
    schedule, trainer = config.schedule, config.trainer
    device = "cuda" if trainer.accelerator == "gpu" else "cpu"
    per_pixel = job.layout.macs_per_pixel() * PASSES
    most = MOST_MACS[device] / per_pixel  # pixels
    patch, frames = schedule.patch, schedule.frames
    batch = max(1, min(schedule.batch // trainer.devices, int(most / (frames * patch**2))))
    if frames * patch**2 > most:
        frames = max(min(frames, FEWEST_FRAMES), int(most / patch**2))
    if frames * patch**2 > most:
        patch = max(min(patch, SMALLEST_PATCH), min(patch, int(math.sqrt(most / frames))))
    steps = int(most / (batch * frames * patch**2)) + 1
    held, _ = held_out(job)
    shown_frames = int(max(2, min(held.frames, 10, most / math.prod(held.size))))
    share = min(1.0, math.sqrt(most / (shown_frames * math.prod(held.size))))
    shown = tuple(max(SMALLEST_PATCH, int(side * share)) for side in held.size)
    return Probe(
        arguments=job.arguments,
        narrow=half_of(config.rule, job.layout),
        trainer=replace(trainer, devices=1, workers=0, name=""),
        comparison=replace(config.comparison, crop=0, centre=False),
        device=device,
        threads=trainer.threads or config.launcher.threads or _share(config.launcher.jobs),
        batch=batch,
        patch=patch,
        frames=frames,
        steps=max(FEWEST_STEPS, min(MOST_STEPS, steps)),
        shown=(shown[0], shown[1]),
        shown_frames=shown_frames,
    )


def _share(jobs: int) -> int:
    """Threads of one of so many jobs at a time; 0 for PyTorch's own choice."""
    return 0 if jobs == 1 else max(1, (os.cpu_count() or 1) // jobs)


def half_of(rule: str, layout: ChannelLayout) -> PrunePlan:
    """The plan that keeps half of every group."""
    return PrunePlan.cutting(rule, layout, {group.name: range(group.size // 2) for group in layout.groups})


def run_probe(probe: Probe, job: Job) -> Mapping[str, float] | str:
    """Time in a process of its own; a sentence where that fails."""
    environment = dict(os.environ)
    if job.place.cards:
        environment[VISIBLE] = ",".join(job.place.uuids)
    command = [sys.executable, "-m", "vsrprune.stages.probe"]
    asked = pickle.dumps(replace(probe, asked_at=time.time()))
    try:
        done = subprocess.run(
            command, input=asked, capture_output=True, env=environment, timeout=PATIENCE_SECONDS, check=False
        )
        if done.returncode == 0:
            return {str(name): float(value) for name, value in json.loads(done.stdout).items()}
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        return f"{' '.join(last)} (exit code {done.returncode})"
    except (OSError, ValueError, AttributeError, subprocess.TimeoutExpired) as error:
        return " ".join(str(error).split())
