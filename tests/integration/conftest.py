"""The smallest schedule on which every stage really runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from forked import run_script

from vsrprune.config.composing import with_knobs
from vsrprune.config.job import Config
from vsrprune.data.clips import Clip, ClipSet
from vsrprune.data.demo import demo_clips
from vsrprune.stages import clips

ROOT = Path(__file__).parents[2]
RUN_PY = ROOT / "src" / "run.py"
MINIMAL = {
    "model.channels": 4,
    "model.blocks": 1,
    "model.upsampler_channels": 4,
    "model.flow_levels": 2,
    "model.flow_widths": [4],
    "data.demo_frames": 5,
    "data.demo_train_per_photo": 1,
    "data.demo_val_per_photo": 1,
    "schedule.batch": 2,
    "schedule.patch": 8,
    "schedule.frames": 3,
    "schedule.log_every": 1,
    "schedule.checkpoint_every": 2,
    "schedule.flow.steps": 2,
    "schedule.pretrain.steps": 4,
    "schedule.sparsify.growth": 0.05,
    "schedule.sparsify.growth_interval": 1,
    "schedule.sparsify.hold_steps": 2,
    "schedule.finetune.steps": 4,
    "evaluate.latency_size": [16, 16],
    "evaluate.latency_frames": 2,
    "evaluate.latency_repeats": 1,
    "evaluate.crops": 1,
    "evaluate.temporal_pairs": 1,
}
CORNER = (96, 128)  # pixels of the demo's frames that `small_frames` shows: as many as a crop needs
# Seconds, of any machine: of a Speed but its sizes.
SPEED = {
    "start": 1.0,
    "step": 0.1,
    "narrow_step": 0.05,
    "frame": 0.01,
    "compare": 0.01,
    "motion": 0.01,
    "output_motion": 0.01,
    "parameters": 1000.0,
}


def minimal_overrides(folder: Path) -> list[str]:
    """The minimal schedule as command line, with store and runs in `folder`."""
    values = [f"{name}={str(value).replace(' ', '')}" for name, value in MINIMAL.items()]
    return [*values, f"store_dir={folder / 'store'}", f"runs_dir={folder / 'runs'}"]


def last_of_each(arguments: Sequence[object]) -> list[str]:
    """A command in which what is given later replaces what was given before, which a command itself may not say."""
    given = {str(item).partition("=")[0]: str(item) for item in arguments if "=" in str(item)}
    return [item for item in map(str, arguments) if given.get(item.partition("=")[0], item) == item]


def minimal_config(folder: Path, **changes: Any) -> Config:
    """The minimal schedule as a configuration; `changes` name fields with __ for dots."""
    config = Config(store_dir=str(folder / "store"), runs_dir=str(folder / "runs"))
    config.tracking.to = []
    return with_knobs(config, {name.replace("__", "."): value for name, value in {**MINIMAL, **changes}.items()})


def run_py(*arguments: str, cwd: Path = ROOT, path: Sequence[Path] = ()) -> subprocess.CompletedProcess[str]:
    """`python src/run.py ...` as a user runs it; with `path` in front of the module search path it starts from nothing.

    A sweep's jobs start as fast as the sweep itself (`forked`); those of `test_faults.start` start from nothing.
    """
    command = [str(RUN_PY), *last_of_each(arguments)]
    if not path:
        return run_script(command, cwd, {"COLUMNS": "80"})
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "80", "PYTHONPATH": os.pathsep.join(map(str, path))},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture(scope="session", autouse=True)
def _rendered_once() -> Iterator[None]:
    """Jobs in this process render the demo's clips once: the same arguments give the same clips."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vsrprune.stages.clips.demo_clips", lru_cache(maxsize=8)(demo_clips))
        yield


@pytest.fixture(scope="session", autouse=True)
def _timed_before() -> Iterator[None]:
    """Dry runs in this process know how fast the machine is; those in processes of their own have it timed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vsrprune.jobs.speed.run_probe", lambda probe, job: SPEED)
        yield


@pytest.fixture(scope="module")
def small_frames(_rendered_once: None) -> Iterator[None]:
    """Jobs in this process see a third of each of the demo's frames, and surgery is proven on a tenth of them.

    For files with a job for each of many settings; tests/integration/test_pipeline.py sees the whole frames.
    """
    whole = clips.demo_clips

    @lru_cache(maxsize=8)
    def cut(scale: int, *arguments: Any) -> ClipSet:
        found = whole(scale, *arguments)
        train, val = ([_corner(clip, scale) for clip in side] for side in (found.train, found.val))
        return replace(found, train=train, val=val)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clips, "demo_clips", cut)
        patch.setattr("vsrprune.stages.prune.work.SIZE", (13, 17))
        yield


def _corner(clip: Clip, scale: int) -> Clip:
    height, width = (side // scale for side in CORNER)
    return Clip(
        clip.name,
        clip.high_TCHW[..., : height * scale, : width * scale].contiguous(),
        clip.low_TCHW[..., :height, :width].contiguous(),
    )


@pytest.fixture
def no_torch(tmp_path: Path) -> Path:
    """A folder that makes `import torch` fail when it stands on the module search path."""
    folder = tmp_path / "no_torch"
    folder.mkdir()
    (folder / "torch.py").write_text('raise ImportError("torch is not to be imported here")\n')
    return folder


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One thread for each command: faster beside other tests, and the same everywhere in a file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
