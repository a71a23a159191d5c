"""Time how training patches are drawn: from PNG frames, a video, the cache and memory, in turns in one process.

python benchmarks/data.py --video CLIP.mp4 [--frames 100] [--batch 8] [--patch 64] [--window 15] [--rounds 3]

Prints clips (windows of `--window` frames) per second and core, the best of all rounds. The source is a real video,
whose frames are written as PNG and decoded into a cache in a temporary folder.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import torch
from PIL import Image
from rich import box
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from vsrprune.data.cache import cached_clips
from vsrprune.data.clips import Clip, make_clip
from vsrprune.data.reading import Reading, read_clips, read_frames
from vsrprune.data.sampling import PatchDataset
from vsrprune.data.sources import ClipSource
from vsrprune.host.machine import measuring

SCALE = 4


class _Decoded(Sequence[Clip]):
    """What every draw would cost without a cache: the window's frames are decoded, low resolution read or made."""

    def __init__(self, source: ClipSource, frames: int, window: int) -> None:
        self._source, self._frames, self._window, self._draws = source, frames, window, 0

    @overload
    def __getitem__(self, index: int) -> Clip: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Clip]: ...
    def __getitem__(self, index: int | slice) -> Clip | Sequence[Clip]:
        """A window; a video is decoded from its start, on average half of it."""
        self._draws += 1
        start = self._draws * 37 % (self._frames - self._window + 1)
        if self._source.is_video:
            frames_TCHW = read_frames(self._source, start + self._window)[start:]
        else:
            part = slice(start, start + self._window)
            frames_TCHW = read_frames(ClipSource("window", self._source.files[part]))
            if self._source.low_files:
                return Clip("window", frames_TCHW, read_frames(ClipSource("low", self._source.low_files[part])))
        return make_clip("window", frames_TCHW, SCALE)[0]

    def __len__(self) -> int:
        """One clip."""
        return 1


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path, required=True)
    for name, default in (("frames", 100), ("batch", 8), ("patch", 64), ("window", 15), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    torch.set_num_threads(1)
    video = ClipSource("video", (given.video,))
    frames_TCHW = read_frames(video, given.frames)
    length = len(frames_TCHW)
    with tempfile.TemporaryDirectory() as folder, measuring():
        pngs = ClipSource("pngs", write_pngs(frames_TCHW, Path(folder) / "pngs"))
        low_TCHW = make_clip("low", frames_TCHW, SCALE)[0].low_TCHW
        pairs = ClipSource("pairs", pngs.files, write_pngs(low_TCHW, Path(folder) / "low"))
        how = Reading(scale=SCALE)
        clips: dict[str, Sequence[Clip]] = {
            "memory": read_clips([pngs], [], how).train,
            "cache": cached_clips([pngs], [], how, Path(folder) / "cache", print).train,
            "PNG, both resolutions": _Decoded(pairs, length, given.window),
            "PNG, low made": _Decoded(pngs, length, given.window),
            "video": _Decoded(video, length, given.window),
        }
        best = dict.fromkeys(clips, float("inf"))
        for _ in range(given.rounds):
            for name, source in clips.items():
                dataset = PatchDataset(source, given.window, given.patch, SCALE, seed=0)
                started = time.perf_counter()
                for index in range(given.batch):
                    dataset[index]
                best[name] = min(best[name], (time.perf_counter() - started) / given.batch)
    height, width = frames_TCHW.shape[-2:]
    table = Table(title=f"{width}x{height}, {length} frames", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("source", "clips per second and core", "ms per batch", "of the cache"):
        table.add_column(heading, justify="left" if heading == "source" else "right")
    for name, seconds in best.items():
        speed, ratio = f"{1 / seconds:.1f}", f"{seconds / best['cache']:.1f}x"
        table.add_row(name, speed, f"{1000 * seconds * given.batch:.0f}", ratio)
    Console().print(table)


def write_pngs(frames_TCHW: torch.Tensor, folder: Path) -> tuple[Path, ...]:
    """Write frames as numbered files into a new folder."""
    folder.mkdir()
    files = tuple(folder / f"{index:08d}.png" for index in range(len(frames_TCHW)))
    for file, frame in zip(files, frames_TCHW.permute(0, 2, 3, 1).contiguous().numpy(), strict=True):
        Image.fromarray(frame).save(file)
    return files


if __name__ == "__main__":
    main()
