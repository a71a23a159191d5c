"""Frames from PNG folders and video files, as RGB uint8; every error names the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from vsrprune.data.clips import Clip, ClipSet, make_clip
from vsrprune.data.colour import RgbFrame
from vsrprune.data.sources import ClipSource
from vsrprune.data.video import decoded
from vsrprune.errors import UserError


def read_clips(
    train: Sequence[ClipSource],
    val: Sequence[ClipSource],
    scale: int,
    max_frames: int,
    halve: bool,
    degradation: str = "bicubic",
) -> ClipSet:
    """Read clips from disk.

    max_frames: only the first so many frames of each clip; 0 for all. halve: average 2x2 pixels first, so that the
    artefacts of compressed video do not pass for detail. degradation: how low-resolution frames are made, a name in
    DEGRADATIONS.
    """
    notes: list[str] = []

    def read(source: ClipSource) -> Clip:
        clip, note = make_clip(source.name, read_frames(source, max_frames, halve), scale, degradation)
        notes.extend([note] if note else [])
        return clip

    return ClipSet([read(source) for source in train], [read(source) for source in val], notes)


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
    averaged = torch.nn.functional.avg_pool2d(frame_CHW[:, :height, :width].float(), 2)
    return (averaged + 0.5).floor().to(torch.uint8)


def _frames(source: ClipSource) -> Iterator[tuple[Path, RgbFrame]]:
    if source.is_video:
        yield from ((source.files[0], frame.to_ndarray(format="rgb24")) for frame in decoded(source.files[0]))
    else:
        yield from ((file, read_png(file)) for file in source.files)


def read_png(file: Path) -> RgbFrame:
    """A PNG as RGB of 8 bits; grey becomes RGB and an opaque alpha channel is dropped.

    Raises UserError for 16-bit and transparent images, and what is no PNG.
    """
    try:
        with Image.open(file, formats=["PNG"]) as image:
            image.load()
            if image.mode.startswith(("I", "F")) or _bit_depth(file) > 8:
                raise UserError(f"{file}: 16-bit frames are not supported; convert it to 8 bits per channel")
            transparent = "A" in image.getbands() or "transparency" in image.info
            if transparent and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
                raise UserError(f"{file}: the frame is transparent in places; flatten it to opaque RGB")
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{file}: cannot read this PNG ({error})") from error


def _bit_depth(file: Path) -> int:
    """Bits per channel in the header of a PNG; Pillow opens 16-bit colour as 8-bit without a word."""
    with file.open("rb") as stream:
        return stream.read(25)[24]
