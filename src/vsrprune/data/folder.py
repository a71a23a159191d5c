"""Clips in a folder of one's own, and what lies in it and is left out. Without torch, so that keys stay cheap."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from vsrprune.data.sources import COMPRESSED_SUFFIXES, FRAME_SUFFIX, FRAME_SUFFIXES, ClipSource
from vsrprune.errors import UserError

# Videos by their names alone. Files of other names are opened to see: .ts may be a stream or a program's text.
VIDEO_SUFFIXES = (
    *(".mp4", ".mkv", ".mov", ".y4m", ".avi", ".webm", ".m4v", ".wmv", ".mts", ".m2ts"),
    *(".mpg", ".mpeg", ".flv", ".3gp", ".ogv", ".vob", ".mxf"),
)
# Pictures that are no frames here. Who stored frames so wants to know that they are not read.
OTHER_PICTURES = (".bmp", ".tif", ".tiff", ".webp", ".exr", ".dpx", ".heic", ".avif", ".jp2", ".jxl", ".ppm")
MACOS = "__MACOSX"  # what macOS puts beside the content of a zip file
NAMES_LISTED = 5


@dataclass(frozen=True)
class FolderClips:
    """The clips of a folder by name. warnings: what is left out, and gaps. notes: what else a reader should know."""

    clips: list[ClipSource]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass
class Contents:
    """The entries of one folder, without those that are no data, by what they are; frames number-aware by name."""

    frames: list[Path] = field(default_factory=list)
    twins: list[Path] = field(default_factory=list)  # JPEGs beside a PNG of the same name
    broken: list[Path] = field(default_factory=list)  # links to nothing, pipes, devices
    pictures: list[Path] = field(default_factory=list)
    videos: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)


def find_folder(path: str, knob: str = "data.path") -> FolderClips:
    """Clips right under a folder: its videos, its sub-folders of PNG or JPEG frames, or its own frames.

    Clips deeper down are named and not taken: folders of folders are often a split, or the same clips at two sizes.
    Raises UserError if there is no such folder, nothing in it, or two clips of one name.
    """
    folder = Path(path).expanduser()
    if not path:
        raise UserError(
            f"{knob} is empty: name the folder of the videos, or of the folders of PNG or JPEG frames, such as"
            f" {knob}=CLIPS"
        )
    if not folder.is_dir():
        raise UserError(f"{knob} must be a folder of videos or of folders of PNG or JPEG frames; got {path!r}")
    here = contents(folder)
    videos = [*here.videos, *(file for file in here.others if _opens_as_video(file))]
    clips = [ClipSource(file.stem, (file,)) for file in videos]
    warnings, no_data = [], [entry.name for entry in here.others if entry not in videos]
    for entry in here.folders:
        inside = contents(entry)
        if inside.frames:
            clips.append(ClipSource(entry.name, tuple(inside.frames)))
            warnings += left_out(entry.name, inside)
        elif reason := _no_clip(inside, knob, entry):
            warnings.append(f"{entry.name}: left out, {reason}")
        else:
            no_data.append(entry.name)
    own = ClipSource(folder.resolve().name, tuple(here.frames))
    # A poster beside videos is no clip.
    if clips and here.frames and all(_is_compressed(file) for file in here.frames):
        warnings.append(f"left out {_some(here.frames)}: JPEG pictures beside clips")
    elif here.frames:
        clips.append(own)
    frames = here.frames if own in clips else []
    warnings += left_out(own.name, replace(here, frames=frames, videos=[], folders=[]))
    if not clips:
        expected = f"expected video files ({', '.join(VIDEO_SUFFIXES)}) or sub-folders of PNG or JPEG frames"
        raise UserError(f"{knob}={path}: no clips found; {'; '.join([expected, *warnings[:NAMES_LISTED]])}")
    for name, count in Counter(clip.name for clip in clips).items():
        if count > 1:
            raise UserError(f"{knob}={path}: two clips are called {name!r}; rename one of them")
    clips.sort(key=lambda clip: clip.name)
    return FolderClips(clips, tuple(warnings), tuple(_notes(clips, no_data)))


def frame_files(folder: Path) -> tuple[Path, ...]:
    """The PNG and JPEG files of a folder, number-aware by name: frame 2 before frame 10."""
    return tuple(contents(folder).frames)


def is_no_data(entry: Path) -> bool:
    """Whether an entry of a folder is the system's: `.thumbnails`, `._000.png`, `__MACOSX`."""
    return entry.name.startswith(".") or entry.name == MACOS


def _is_text(name: str) -> bool:
    """Whether the bytes of a name are UTF-8: old archives bring others, for which Python has half letters."""
    return name.isascii() or not any("\udc80" <= letter <= "\udcff" for letter in name)


def contents(folder: Path) -> Contents:
    """What lies in a folder. Raises UserError for a name that is no text."""
    found = Contents()
    # What an entry is stands in the listing already: asking for each of 27,000 frames again would take seconds.
    with os.scandir(folder) as listing:
        kinds = {folder / entry.name: (entry.is_dir(), entry.is_file()) for entry in listing}
    for entry in kinds:
        if not _is_text(entry.name):  # it would be printed, hashed, and written into results
            raise UserError(f"{folder}: the name {os.fsencode(entry.name)!r} in it is not UTF-8; rename it")
    for entry in sorted((entry for entry in kinds if not is_no_data(entry)), key=_number_aware):
        suffix, (is_folder, is_file) = entry.suffix.lower(), kinds[entry]
        if is_folder:
            found.folders.append(entry)
        elif not is_file:
            found.broken.append(entry)
        elif suffix in FRAME_SUFFIXES:
            found.frames.append(entry)
        elif suffix in VIDEO_SUFFIXES:
            found.videos.append(entry)
        else:
            (found.pictures if suffix in OTHER_PICTURES else found.others).append(entry)
    # The same frame in two formats is one frame, and the PNG is what the JPEG was made of.
    lossless = {entry.stem for entry in found.frames if entry.suffix.lower() == FRAME_SUFFIX}
    found.twins = [entry for entry in found.frames if entry.suffix.lower() != FRAME_SUFFIX and entry.stem in lossless]
    found.frames = [entry for entry in found.frames if entry not in found.twins] if found.twins else found.frames
    return found


def left_out(name: str, found: Contents) -> list[str]:
    """A sentence for everything in a folder of frames that is not read, and one for holes in the numbering."""
    nested = [entry for entry in found.folders if _holds_clips(contents(entry))]
    kinds = (
        ([entry for entry in found.broken if entry.is_symlink()], "links to nothing"),
        ([entry for entry in found.broken if not entry.is_symlink()], "pipes or devices"),
        (found.twins, "JPEGs beside PNGs of the same names"),
        (found.pictures, "pictures that are neither PNG nor JPEG"),
        (found.videos, "videos in a folder of frames"),
        (nested, "folders in a folder of frames"),
    )
    sentences = [f"{name}: left out {_some(entries)}: {what}" for entries, what in kinds if entries]
    jumps = [f"{before.name} to {after.name}" for before, after in holes(found.frames)]
    if jumps:
        more = f" and {len(jumps) - NAMES_LISTED} times more" if len(jumps) > NAMES_LISTED else ""
        listed = ", from ".join(jumps[:NAMES_LISTED])
        sentences.append(f"{name}: the numbers jump from {listed}{more}; these frames count as neighbours")
    return sentences


def holes(frames: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Neighbours between whose numbers others are missing, by the smallest step of the clip: 0, 2, 4 has no hole."""
    # The last number of a name: im1.png, 00000000.png, clip_2_frame_007.png.
    numbers = [int(digits[-1]) for frame in frames if (digits := re.findall(r"\d+", frame.stem))]
    steps = [after - before for before, after in pairwise(numbers)]
    if not steps or len(numbers) < len(frames) or min(steps) < 1:
        return []  # names that are not numbered in the order of the frames
    return [pair for pair, step in zip(pairwise(frames), steps, strict=True) if step >= 2 * min(steps)]


def _no_clip(inside: Contents, knob: str, entry: Path) -> str:
    """Why a folder that looks like one of clips or frames is none; empty for one of other things."""
    deeper = [*inside.videos, *(folder for folder in inside.folders if _holds_clips(contents(folder)))]
    if deeper:
        return f"its clips lie one folder deeper ({_some(deeper)}); {knob}=.../{entry.name} reads them"
    if inside.pictures or inside.broken:
        return f"no PNG or JPEG frames in it ({_some([*inside.pictures, *inside.broken])})"
    return ""


def _holds_clips(inside: Contents) -> bool:
    return bool(inside.frames or inside.videos)


def _notes(clips: Iterable[ClipSource], no_data: Sequence[str]) -> list[str]:
    compressed = [Path(clip.name) for clip in clips if any(map(_is_compressed, clip.files))]
    notes = [f"left out {_some(list(map(Path, no_data)))}: neither frames nor videos"] if no_data else []
    if compressed:
        notes.append(
            f"frames are JPEGs in {_some(compressed)}: what the compression did to them counts as detail, unless"
            " data.halve=true averages it"
        )
    return notes


def _is_compressed(file: Path) -> bool:
    return file.suffix.lower() in COMPRESSED_SUFFIXES


def _opens_as_video(file: Path) -> bool:
    """Whether libav finds moving pictures in a file."""
    import av  # takes a tenth of a second, for files that few folders have

    try:
        with av.open(str(file.absolute())) as container:
            # libav opens any text as the output of a terminal (tty), and pictures as videos of one frame.
            kind = container.format.name
            moving = kind != "tty" and not kind.endswith("_pipe") and "image2" not in kind
            covers = av.stream.Disposition.attached_pic
            return moving and any(video.width and not video.disposition & covers for video in container.streams.video)
    except (av.error.FFmpegError, OSError, ValueError):
        return False


def _some(entries: Sequence[Path]) -> str:
    names = ", ".join(entry.name for entry in entries[:NAMES_LISTED])
    return names if len(entries) <= NAMES_LISTED else f"{names}, ... ({len(entries)} in all)"


def _number_aware(entry: Path) -> list[tuple[int, str]]:
    """Sort key that puts frame 2 before frame 10, padded with zeros or not."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", entry.name)]
