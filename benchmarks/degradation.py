"""What a degradation costs beside decoding the PNG frames that it shrinks.

python benchmarks/degradation.py [--frames 4] [--rounds 15] [--size 720 1280]

The frames are photographs of the demo, enlarged to `size`. Decoding and degradations take turns, and the fastest round
counts for each; a quotient below 1 means that the disk decides how fast clips are there.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich import box
from rich.console import Console
from rich.table import Table

from vsrprune.data.degradation import DEGRADATIONS, degrade
from vsrprune.data.demo_photos import TRAIN_PHOTOS
from vsrprune.data.reading import read_frames
from vsrprune.data.sources import ClipSource, demo_photo
from vsrprune.host.machine import measuring
from vsrprune.metrics.latency import milliseconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--size", type=int, nargs=2, default=(720, 1280), metavar=("HEIGHT", "WIDTH"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, measuring():
        clip = write_frames(Path(folder), given.frames, tuple(given.size))
        frames_TCHW = read_frames(clip)
        calls: dict[str, Callable[[], object]] = {"read_frames": partial(read_frames, clip)}
        calls |= {name: partial(degrade, frames_TCHW, 4, name) for name in DEGRADATIONS}
        times: dict[str, list[float]] = {name: [] for name in calls}
        for turn in range(given.rounds + 1):  # the first warms up
            for name, call in calls.items():
                ms = milliseconds(call, torch.device("cpu"))
                times[name] += [ms] if turn > 0 else []
    print_table({name: min(values) / given.frames for name, values in times.items()})


def write_frames(folder: Path, number: int, size: tuple[int, int]) -> ClipSource:
    """A clip of PNG frames of (height, width), each from another photograph."""
    height, width = size
    files = tuple(folder / f"{index:03d}.png" for index in range(number))
    for index, file in enumerate(files):
        with Image.open(demo_photo(TRAIN_PHOTOS[index % len(TRAIN_PHOTOS)])) as photo:
            enlarged = np.asarray(photo.convert("RGB").resize((width, height), Image.Resampling.BICUBIC))
        Image.fromarray(enlarged).save(file)
    return ClipSource("photographs", files)


def print_table(ms: dict[str, float]) -> None:
    """Milliseconds per frame, and over those of decoding."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("", "ms per frame", "over decoding"):
        table.add_column(column, justify="left" if not column else "right")
    for name, value in ms.items():
        table.add_row(name, f"{value:.1f}", f"{value / ms['read_frames']:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
