"""A first look at a clip: the size and number of its frames as its file says, with nothing decoded. Without torch."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vsrprune.data.sources import FRAME_SUFFIX, ClipSource
from vsrprune.errors import UserError

_PNG = b"\x89PNG\r\n\x1a\n"
_HEADER = 24  # signature 8, length and name of IHDR 8, then width and height


@dataclass(frozen=True)
class Look:
    """size: height and width; a picture that is turned may have them the other way round. frames: 0 if not known."""

    size: tuple[int, int]
    frames: int


def input_size(look: Look, scale: int, halved: bool) -> tuple[int, int]:
    """Height and width of the input that is made of such frames; scale: 1 where they are the input themselves."""
    height, width = (side // (2 if halved else 1) // scale for side in look.size)
    return height, width


def first_look(source: ClipSource) -> Look | None:
    """What a clip's file says; None where it cannot be read, which is said where it is."""
    if source.is_video:
        return _video(source.files[0])
    size = _picture(source.files[0])
    return size and Look(size, len(source.files))


def too_short(clip: str, frames: int, needed: int, knob: str) -> UserError:
    """What is to be said of a clip of fewer frames than training takes of it; knob: by which it was asked for them."""
    return UserError(
        f"clip {clip} has {frames} frames, but training takes {needed} at a time; use longer clips or {knob}={frames}"
        " or less"
    )


@cache
def _picture(file: Path) -> tuple[int, int] | None:
    try:
        if file.suffix.lower() == FRAME_SUFFIX:
            with file.open("rb") as stream:
                header = stream.read(_HEADER)
            if len(header) < _HEADER or not header.startswith(_PNG):
                return None
            width, height = struct.unpack(">II", header[-8:])
            return height, width
        from PIL import Image  # for JPEGs alone, whose size stands at no fixed place

        with Image.open(file) as image:
            return image.height, image.width
    except (OSError, ValueError, SyntaxError):
        return None


@cache
def _video(file: Path) -> Look | None:
    # Takes a tenth of a second, for folders that have videos.
    import av

    from vsrprune.data.video.decoding import video_stream

    try:
        with av.open(str(file.absolute())) as container:
            stream = video_stream(file, container)
            seconds = float((container.duration or 0) / av.time_base)
            frames = stream.frames or round(seconds * float(stream.average_rate or 0))
            # 0 where libav knows no size before it decodes.
            return Look((stream.height, stream.width), frames) if stream.height and stream.width else None
    except (av.error.FFmpegError, OSError, ValueError, UserError):
        return None
