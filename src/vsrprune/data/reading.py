"""Frames from folders of pictures and from video files, as RGB uint8; every error names the file."""

from __future__ import annotations

import contextlib
import itertools
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from vsrprune.commands import typed
from vsrprune.data.clips import Clip, ClipSet, input_clip, make_clip, pair_clip
from vsrprune.data.sources import COMPRESSED_SUFFIXES, ClipSource
from vsrprune.data.video.colour import OPAQUE, Colour, RgbFrame, over, to_rgb
from vsrprune.data.video.decoding import FLATTEN, decoded
from vsrprune.data.video.icc import conversion
from vsrprune.data.video.orientation import Orientation
from vsrprune.data.video.scenes import scene_starts
from vsrprune.errors import UserError

# What Pillow raises for damaged pictures, which depends on where the damage is.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
NAMED = 3  # clips by name of which the same is said


@dataclass(frozen=True)
class Reading:
    """How files become clips.

    scale: how much larger the network's output is. max_frames: how many frames of each clip are read, from its start; 0
    for all. halve: whether 2x2 pixels are averaged first, so that the artefacts of compressed video do not pass for
    detail. scene_cut: the threshold of `scene_starts`; 0 for whole clips. shortest: scenes of fewer frames are left
    out. skip_errors: whether clips that cannot be read are left out. degradation: a name in DEGRADATIONS, by which
    low-resolution frames are made where there are none. truth: whether the frames are the truth; else they are the
    input as they are, and there is none.
    """

    scale: int
    max_frames: int = 0
    halve: bool = False
    scene_cut: float = 0.0
    shortest: int = 1
    skip_errors: bool = False
    degradation: str = "bicubic"
    truth: bool = True


def read_clips(train: Sequence[ClipSource], val: Sequence[ClipSource], how: Reading) -> ClipSet:
    """Read clips from disk into memory."""
    notes = Notes()

    def read(sources: Sequence[ClipSource]) -> list[Clip]:
        clips = [clip for source in sources if (clip := read_clip(source, how, notes)) is not None]
        return [
            Clip(name, clip.high_TCHW[part], clip.low_TCHW[part])
            for clip in clips
            for name, part in scenes(clip, how, notes)
        ]

    return ClipSet(read(train), read(val), notes.lines())


class Notes:
    """What a reader of the results should know of the clips; clips left out are counted and listed."""

    def __init__(self) -> None:
        self._clips: dict[str, list[str]] = {}  # by what is said of them
        self.reasons: list[str] = []

    def add(self, clip: str, what: str) -> None:
        """What is to be known of the clip of that name."""
        self._clips.setdefault(what, []).append(clip)

    def left_out(self, reason: str) -> None:
        """A clip that cannot be read; `reason` names its file."""
        self.reasons.append(reason)

    @property
    def said(self) -> list[str]:
        """What was said, without names."""
        return list(self._clips)

    def lines(self) -> list[str]:
        """One line for all clips of which the same is said: a set of videos of one size has hundreds of them."""
        count = len(self.reasons)
        listed = [f"{count} clips left out, since they cannot be read: {'; '.join(self.reasons)}"] if count else []
        return [f"{_named(clips)}: {what}" for what, clips in self._clips.items()] + listed


def _named(clips: Sequence[str]) -> str:
    if len(clips) <= NAMED:
        return f"clip{'' if len(clips) == 1 else 's'} {', '.join(clips)}"
    return f"{len(clips)} clips ({', '.join(clips[:NAMED])}, ...)"


def read_clip(source: ClipSource, how: Reading, notes: Notes) -> Clip | None:
    """A clip with its low-resolution frames, which are made if there are none on disk; None if it is skipped."""
    try:
        frames_TCHW = read_frames(source, how.max_frames, how.halve)
        note: str | None = None
        if not how.truth:
            clip = input_clip(source.name, frames_TCHW)
        elif not source.low_files:
            clip, note = make_clip(source.name, frames_TCHW, how.scale, how.degradation)
        else:
            low_source = ClipSource(f"{source.name} (low resolution)", source.low_files)
            clip, note = pair_clip(source.name, frames_TCHW, read_frames(low_source, how.max_frames), how.scale)
    except UserError as error:
        if not how.skip_errors:
            raise
        notes.left_out(str(error))
        return None
    for what in filter(None, (note, picture_note(source))):
        notes.add(source.name, what)
    return clip


def picture_note(source: ClipSource) -> str:
    """What is to be known of a clip whose first picture is not what it is taken for; empty otherwise.

    It is empty too for a picture that cannot be read.

    Colour profiles are not converted: published sets are compared by the numbers in their files, whoever compares.
    """
    file = source.files[0]
    try:
        if source.is_video:
            with contextlib.closing(decoded(file, transparent=True)) as frames:
                fields = any(frame.interlaced_frame for frame in itertools.islice(frames, 1))
            what = "pictures are interlaced, and taken for progressive; deinterlace them first" if fields else ""
        else:
            with Image.open(file, formats=[picture_format(file)]) as image:
                profile = image.info.get("icc_profile") or b""
            other = bool(profile) and conversion(profile) is not None
            what = "colour profile ignored: numbers are taken for sRGB" if other else ""
    except (UserError, *UNREADABLE):  # which is said where it is read
        return ""
    return what


def scenes(clip: Clip, how: Reading, notes: Notes) -> list[tuple[str, slice]]:
    """Name and frames of each scene that has at least `how.shortest` frames; the whole clip if there is no cut."""
    starts = scene_starts(clip.low_TCHW, how.scene_cut) if how.scene_cut else [0]
    if len(starts) == 1:
        return [(clip.name, slice(None))]
    parts = [slice(start, stop) for start, stop in pairwise([*starts, clip.frames])]
    kept = [(index, part) for index, part in enumerate(parts) if part.stop - part.start >= how.shortest]
    notes.add(
        clip.name,
        f"{len(parts)} scenes, cut before frames {', '.join(map(str, starts[1:]))};"
        f" {len(parts) - len(kept)} of fewer than {how.shortest} frames left out",
    )
    return [(f"{clip.name}_{index}", part) for index, part in kept]


def read_frames(source: ClipSource, max_frames: int = 0, halve: bool = False) -> Tensor:
    """All frames of a clip (T, 3, H, W); raises UserError for unreadable files and frames of different sizes."""
    frames: list[Tensor] = []
    shape: tuple[int, ...] | None = None
    for file, frame in _frames(source):
        if shape is None:
            shape = frame.shape
        if frame.shape != shape:
            raise UserError(
                f"{file}: the frame is {frame.shape[1]}x{frame.shape[0]}, but the clip {source.name} began with"
                f" {shape[1]}x{shape[0]}; all frames of a clip must have one size"
            )
        frame_CHW = torch.from_numpy(np.array(frame)).permute(2, 0, 1)
        frames.append(_halved(frame_CHW) if halve else frame_CHW)
        if len(frames) == max_frames:
            break
    if not frames:
        raise UserError(f"{source.files[0]}: the clip {source.name} has no frames")
    return torch.stack(frames)


def _halved(frame_CHW: Tensor) -> Tensor:
    height, width = (side // 2 * 2 for side in frame_CHW.shape[-2:])
    # Halves up, as MATLAB rounds: torch would round them to even.
    averaged = torch.nn.functional.avg_pool2d(frame_CHW[:, :height, :width].float(), 2)
    return (averaged + 0.5).floor().to(torch.uint8)


def _frames(source: ClipSource) -> Iterator[tuple[Path, RgbFrame]]:
    if source.is_video:
        shown = Orientation()
        yield from ((source.files[0], shown.upright(to_rgb(frame), frame)) for frame in decoded(source.files[0]))
    else:
        yield from ((file, read_picture(file)) for file in source.files)


def read_picture(file: Path, background: Colour | None = None) -> RgbFrame:
    """A PNG or JPEG as RGB of 8 bits, turned as its EXIF orientation asks; grey becomes RGB, opaque alpha is dropped.

    background: what is seen through transparent pixels; None to refuse them. Raises UserError for 16-bit, transparent
    and CMYK images, and what is neither PNG nor JPEG.
    """
    kind = picture_format(file)
    try:
        with Image.open(file, formats=[kind]) as image:
            image.load()
            # Refused and not converted: the truth would change without a word.
            if image.mode.startswith(("I", "F")) or (kind == "PNG" and _bit_depth(file) > 8):
                raise UserError(f"{file}: 16-bit frames are not supported; convert it to 8 bits per channel")
            if image.mode in ("CMYK", "YCCK"):
                raise UserError(f"{file}: the frame has the colours of print (CMYK); convert it to RGB")
            upright = ImageOps.exif_transpose(image)
            if "A" in upright.getbands() or "transparency" in upright.info:
                pixels_HW4 = np.asarray(upright.convert("RGBA"))
                if background is not None:
                    return over(pixels_HW4, background)
                if pixels_HW4[..., 3].min() < OPAQUE:
                    raise UserError(f"{file}: the frame is transparent in places; {typed(FLATTEN)}")
            return np.asarray(upright.convert("RGB"))
    except UNREADABLE as error:
        raise UserError(f"{file}: cannot read this {kind} ({error})") from error


def picture_format(file: Path) -> str:
    """Pillow's name of the format that a frame's suffix announces: a JPEG called .png is refused."""
    return "JPEG" if file.suffix.lower() in COMPRESSED_SUFFIXES else "PNG"


def _bit_depth(file: Path) -> int:
    """Bits per channel in the header of a PNG; Pillow opens 16-bit colour as 8-bit without a word."""
    with file.open("rb") as stream:
        return stream.read(25)[24]  # signature 8, length and name of IHDR 8, width and height 8, then the depth
