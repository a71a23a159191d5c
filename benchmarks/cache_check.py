"""What verifying the clip cache costs beside an epoch of training on it: the demo's clips and network, in turns.

python benchmarks/cache_check.py [--rounds 10]

An epoch draws every training clip once: of the demo 24 clips in batches of 4, which are 6 steps of pretraining with a
frozen flow net. A job verifies once, before it trains, all clips of both sides. Times are of this process on one core;
the fastest of the rounds counts.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # the benchmarks that this one shares its steps and its files with

from benchmarks.data import write_pngs
from benchmarks.training import steps
from vsrprune.cli import preset
from vsrprune.config.job import Config
from vsrprune.data.cache import cached_clips
from vsrprune.data.cache_folder import Verified, cached_folders, verify
from vsrprune.data.demo import demo_clips
from vsrprune.data.reading import Reading
from vsrprune.data.sampling import Batch
from vsrprune.data.sources import ClipSource
from vsrprune.networks.basicvsr.spec import RGB


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    config, arguments = Config(), preset("basicvsr_tiny").arguments
    data, schedule = config.data, config.schedule
    made = demo_clips(
        arguments.scale, data.demo_seed, data.demo_train_per_photo, data.demo_val_per_photo, data.demo_frames
    )
    with tempfile.TemporaryDirectory() as name:
        train, val = (
            [ClipSource(clip.name, write_pngs(clip.high_TCHW, Path(name) / clip.name)) for clip in clips]
            for clips in (made.train, made.val)
        )
        cache = Path(name) / "cache"
        cached_clips(train, val, Reading(scale=arguments.scale), cache, lambda text: None)
        folders = list(cached_folders(cache))
        size = sum(path.stat().st_size for folder in folders for path in folder.iterdir())
        low = torch.rand(schedule.batch, schedule.frames, RGB, schedule.patch, schedule.patch)
        side = schedule.patch * arguments.scale
        batch = Batch(low, torch.rand(schedule.batch, schedule.frames, RGB, side, side))
        step = steps(arguments, batch)["plain"]
        times: dict[str, list[float]] = {"verify": [], "step": []}
        for _ in range(rounds + 1):  # the first warms up
            times["verify"].append(seconds(lambda: check(folders)))
            times["step"].append(seconds(step))
    verifying, training = min(times["verify"][1:]), min(times["step"][1:])
    count = len(made.train) // schedule.batch
    print(f"verify {len(folders)} clips of {size / 1e6:.1f} MB: {1000 * verifying:.1f} ms")
    print(f"an epoch of {count} steps of {1000 * training:.0f} ms: {1000 * count * training:.0f} ms")
    print(f"verifying once costs {verifying / (count * training):.2%} of an epoch")


def check(folders: list[Path]) -> None:
    """Read every byte of the clips."""
    assert all(isinstance(verify(folder), Verified) for folder in folders)


def seconds(call: Callable[[], object]) -> float:
    """What the process computes for a call: whatever else the machine does takes no part."""
    started = time.process_time()
    call()
    return time.process_time() - started


if __name__ == "__main__":
    main()
