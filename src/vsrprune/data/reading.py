"""Frames from PNG folders and video files, as RGB uint8; every error names the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from vsrprune.data.clips import Clip, ClipSet, make_clip
from vsrprune.data.sources import ClipSource
from vsrprune.errors import UserError

MOST_FRAMES = 0.9  # of those a video announces; containers are a little vague about the number

RgbFrame = NDArray[np.uint8]  # (H, W, 3)


def read_clips(
    train: Sequence[ClipSource], val: Sequence[ClipSource], scale: int, max_frames: int, halve: bool
) -> ClipSet:
    """Read clips from disk.

    max_frames: only the first so many frames of each clip; 0 for all. halve: average 2x2 pixels first, so that the
    artefacts of compressed video do not pass for detail.
    """
    notes: list[str] = []

    def read(source: ClipSource) -> Clip:
        clip, note = make_clip(source.name, read_frames(source, max_frames, halve), scale)
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
        yield from ((source.files[0], frame) for frame in _video_frames(source.files[0]))
    else:
        yield from ((file, _read_png(file)) for file in source.files)


def _video_frames(file: Path) -> Iterator[RgbFrame]:
    try:
        with av.open(str(file)) as container:
            if not container.streams.video:
                raise UserError(f"{file}: no video stream in this file")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            announced = stream.frames
            if not announced and len(container.streams) == 1:  # else the sound may be what is longer
                announced = int((container.duration or 0) / av.time_base * (stream.average_rate or 0))
            decoded = 0
            for packet in container.demux(stream):
                if packet.is_corrupt:  # a file that lost its end would else pass for a shorter clip
                    raise UserError(f"{file}: cannot decode this video (it is cut off or damaged)")
                for frame in packet.decode():
                    decoded += 1
                    yield frame.to_ndarray(format="rgb24")
            if decoded < MOST_FRAMES * announced:
                raise UserError(
                    f"{file}: cannot decode this video (it announces {announced} frames, but {decoded} can be read; it"
                    " is cut off or damaged)"
                )
    except av.error.FFmpegError as error:
        raise UserError(f"{file}: cannot decode this video ({error})") from error


def _read_png(file: Path) -> RgbFrame:
    """Grey becomes RGB and an opaque alpha channel is dropped; 16-bit and transparent images are refused."""
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
