"""The frames of a video file. A file that is cut off or damaged is refused, and not taken for a shorter one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

from vsrprune.errors import UserError

MOST_FRAMES = 0.9  # the share of announced frames that must be found; containers are a little vague about the number


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
            # The duration is the container's: with other streams, the sound may be what is longer.
            seconds = 0.0 if len(container.streams) > 1 else (container.duration or 0) / av.time_base
            start = max(0, container.start_time or 0) / av.time_base
            frames, reached = 0, 0.0
            for packet in container.demux(stream):
                refuse_corrupt(file, packet)
                for frame in packet.decode():
                    frames += 1
                    if frame.pts is not None:
                        reached = max(reached, float((frame.pts + frame.duration) * frame.time_base) - start)
                    yield frame
            refuse_short(file, stream, frames, seconds, reached)
    except av.error.FFmpegError as error:
        raise UserError(f"{file}: cannot decode this video ({error})") from error


def refuse_corrupt(file: Path, packet: Any) -> None:
    """Raise UserError for a packet that lacks a piece: a file that lost its end would pass for a shorter one."""
    if packet.is_corrupt:
        raise UserError(f"{file}: cannot decode this video (it is cut off or damaged)")


def refuse_short(file: Path, stream: Any, frames: int, seconds: float, reached: float) -> None:
    """Raise UserError if a file holds less than it announces.

    frames: how many were found. seconds: the announced duration. reached: when the last frame found ends, in seconds.
    The number of frames decides where the file states one; with a variable frame rate the time does not tell it.
    """
    found = f"{frames} can be read"
    if stream.frames:
        short, announced = frames < MOST_FRAMES * stream.frames, f"{stream.frames} frames"
    else:
        reached += float(1 / (stream.average_rate or 25))
        short, announced = reached < MOST_FRAMES * seconds, f"{seconds:.2f} seconds"
        found = f"{frames} frames in {reached:.2f} seconds can be read"
    if short:
        raise UserError(
            f"{file}: cannot decode this video (it announces {announced}, but {found}; it is cut off or damaged)"
        )
