"""The frames of a video file; a file that is cut off or damaged is refused, not taken for a shorter one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

from vsrprune.errors import UserError

MOST_FRAMES = 0.9  # of those a video announces; containers are a little vague about the number


def video_stream(file: Path, container: Any) -> Any:
    """The first video stream that is not a cover picture; raises UserError if there is none."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    raise UserError(f"{file}: no video stream in this file")


def decoded(file: Path) -> Iterator[Any]:
    """Every av.VideoFrame of a file, as it was coded; raises UserError for a file that cannot be read to its end."""
    try:
        with av.open(str(file)) as container:
            stream = video_stream(file, container)
            stream.thread_type = "AUTO"
            announced = stream.frames
            if not announced and len(container.streams) == 1:  # else the sound may be what is longer
                announced = int((container.duration or 0) / av.time_base * (stream.average_rate or 0))
            frames = 0
            for packet in container.demux(stream):
                refuse_corrupt(file, packet)
                for frame in packet.decode():
                    frames += 1
                    yield frame
            if frames < MOST_FRAMES * announced:
                raise UserError(
                    f"{file}: cannot decode this video (it announces {announced} frames, but {frames} can be read; it"
                    " is cut off or damaged)"
                )
    except av.error.FFmpegError as error:
        raise UserError(f"{file}: cannot decode this video ({error})") from error


def refuse_corrupt(file: Path, packet: Any) -> None:
    """Raise UserError for a packet with a piece missing: a file that lost its end would else pass for a shorter one."""
    if packet.is_corrupt:
        raise UserError(f"{file}: cannot decode this video (it is cut off or damaged)")
