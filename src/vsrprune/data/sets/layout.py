"""What the finders of published data sets share: folders that may be in several places, frames without gaps."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import overload

from vsrprune.data.folder import frame_files
from vsrprune.data.sources import FRAME_SUFFIX, ClipSource
from vsrprune.errors import UserError


@dataclass(frozen=True)
class FoundClips:
    """The clips of a data set to train on and those held out (either may be none), and notes for readers of results.

    warnings: what of a folder is left out, and gaps in it; notes that the doctor takes more seriously. test: clips that
    are reported beside those held out, and that no choice is made by. unlabelled: clips without truth, which are
    trained on beside the others.
    """

    train: list[ClipSource]
    val: list[ClipSource]
    notes: tuple[str, ...] = ()
    test: tuple[ClipSource, ...] = ()
    warnings: tuple[str, ...] = ()
    unlabelled: tuple[ClipSource, ...] = ()


@dataclass(frozen=True)
class NumberedFrames(Sequence[Path]):
    """Files in one folder, whose names several clips share.

    It takes a tenth of the memory of as many paths, which counts with the 91,701 clips of Vimeo-90K.
    """

    folder: Path
    names: tuple[str, ...]

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Path, ...]: ...
    def __getitem__(self, index: int | slice) -> Path | tuple[Path, ...]:
        """Paths in order of time."""
        if isinstance(index, slice):
            return tuple(self.folder / name for name in self.names[index])
        return self.folder / self.names[index]

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.names)


def first_folder(what: str, candidates: Sequence[Path]) -> Path:
    """The first of the folders that is there; raises UserError naming all places that were looked at."""
    for folder in candidates:
        if folder.is_dir():
            return folder
    raise UserError(f"{what} not found; looked for {', '.join(map(str, candidates))}")


def low_root(what: str, candidates: Sequence[Path]) -> tuple[Path | None, tuple[str, ...]]:
    """The first folder of low-resolution clips that is there, or None and a sentence about it."""
    for folder in candidates:
        if folder.is_dir():
            return folder, ()
    places = ", ".join(map(str, candidates))
    return None, (f"{what}: no low-resolution frames on disk (looked for {places}); they are made from the others",)


def png_clip(what: str, name: str, high: Path, low: Path | None) -> ClipSource:
    """A clip of numbered PNG frames, and its low-resolution frames if `low` is given.

    Raises UserError for a missing folder, gaps in the numbers, or another number of low-resolution frames.
    """
    frames = _numbered(what, name, high)
    if low is None:
        return ClipSource(name, frames)
    low_frames = _numbered(what, name, low)
    if len(low_frames) != len(frames):
        raise UserError(
            f"{what}: clip {name} has {len(low_frames)} low-resolution frames in {low}, but {len(frames)} in {high}"
        )
    return ClipSource(name, frames, low_frames)


def _numbered(what: str, name: str, folder: Path) -> tuple[Path, ...]:
    # PNG alone: published numbers are of frames without losses.
    files = frame_files(folder) if folder.is_dir() else ()
    frames = tuple(file for file in files if file.suffix.lower() == FRAME_SUFFIX)
    if not frames:
        raise UserError(f"{what}: clip {name} is missing; PNG frames are expected in {folder}")
    # The last number of a name: im1.png, 00000000.png, clip_2_frame_007.png.
    numbers = [int(digits[-1]) for frame in frames if (digits := re.findall(r"\d+", frame.stem))]
    for before, after in pairwise(numbers):
        if after != before + 1:
            raise UserError(f"{what}: clip {name} has a gap after frame {before}; the next one in {folder} is {after}")
    return frames


def check_equal_lengths(what: str, clips: Iterable[ClipSource]) -> None:
    """Raise UserError for the first clip that has fewer frames than the longest; for sets whose clips are equal."""
    clips = list(clips)
    longest = max(clips, key=lambda clip: len(clip.files))
    for clip in clips:
        if len(clip.files) < len(longest.files):
            raise UserError(
                f"{what}: clip {clip.name} has {len(clip.files)} frames in {clip.files[0].parent}, but clip"
                f" {longest.name} has {len(longest.files)}; its download is incomplete"
            )


def check_all_there(what: str, names: Sequence[str], expected: Sequence[str], places: Sequence[Path]) -> None:
    """Raise UserError naming the first of the expected clips that are not there, and where they should be."""
    missing = [name for name in expected if name not in set(names)]
    if missing:
        raise UserError(
            f"{what}: {len(missing)} of {len(expected)} clips are missing: {', '.join(missing[:5])}"
            f"{', ...' if len(missing) > 5 else ''}; looked in {', '.join(map(str, places))}"
        )
