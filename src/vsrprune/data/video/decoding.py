"""The frames of a video file. A file that is cut off or damaged is refused, and not taken for a shorter one."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition

from vsrprune.commands import typed
from vsrprune.data.video.colour import has_alpha, is_transparent
from vsrprune.data.video.shown import AVI, Shown
from vsrprune.errors import UserError

# FFmpeg's own decoders drop the transparency that WebM keeps beside the pictures; those of libvpx read it.
WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
TEXT = ("ansi", "bintext", "xbin", "idf")  # decoders of FFmpeg that draw letters as pictures
FLATTEN = "flatten it to opaque RGB (src/upscale.py does so with --background COLOUR)"


def video_stream(file: Path, container: Any) -> Any:
    """The video stream marked default, or the first; no cover picture. Raises UserError if none can be decoded."""
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams:
        raise UserError(f"{file}: no video stream in this file")
    chosen = next((stream for stream in streams if stream.disposition & Disposition.default), streams[0])
    if chosen.codec_context is None:
        raise UserError(f"{file}: cannot decode this video (it is damaged, or of a codec that FFmpeg does not decode)")
    if chosen.codec_context.name in TEXT:
        raise UserError(f"{file}: is text, which FFmpeg would draw; give a video, or pictures in PNG or JPEG")
    return chosen


def decoded(file: Path, transparent: bool = False) -> Generator[Any, None, None]:
    """Every av.VideoFrame of a file that is shown, as it was coded; its `pts` is when, None if nothing tells.

    transparent: whether frames may be so. Raises UserError for a frame that is and may not, and for a file that cannot
    be read to its end.
    """
    try:
        # Here and elsewhere absolute: FFmpeg takes a name such as concat:a.mp4 for a protocol.
        with av.open(str(file.absolute())) as container:
            stream = video_stream(file, container)
            decoder = _decoder(stream)
            shown, frames, reached = Shown(file, container, stream), 0, 0.0
            padded = container.format.name == AVI and stream.codec_context.name == "rawvideo"
            for packet in container.demux(stream):
                shown.see(packet)
                for coded in decoder.decode(packet):
                    frame = _without_padding(coded) if padded and has_alpha(coded) else coded
                    if not transparent and is_transparent(frame):
                        raise UserError(f"{file}: frame {frames} is transparent in places; {typed(FLATTEN)}")
                    frames += 1
                    frame.pts = shown.time(frame)
                    if frame.pts is not None:
                        reached = max(reached, float((frame.pts + frame.duration) * frame.time_base - shown.start))
                    yield frame
            # The duration is the container's: with other streams, the sound may be what is longer.
            shown.refuse_short(frames, 0.0 if len(container.streams) > 1 else shown.seconds, reached)
    except av.error.FFmpegError as error:
        raise UserError(f"{file}: cannot decode this video ({error})") from error


def _without_padding(frame: Any) -> Any:
    """A frame of BGRA as BGR: uncompressed AVI has a fourth byte that means nothing, and is mostly 0."""
    plain = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame.to_ndarray()[..., :3]), format="bgr24")
    plain.pts, plain.time_base, plain.duration = frame.pts, frame.time_base, frame.duration
    return plain


def _decoder(stream: Any) -> Any:
    """The decoder of a stream, with its transparency."""
    name = stream.codec_context.codec.canonical_name
    marks = {key.lower(): value for key, value in stream.metadata.items()}
    if marks.get("alpha_mode") == "1" and name in WITH_ALPHA:
        return av.CodecContext.create(WITH_ALPHA[name], "r")
    stream.thread_type = "AUTO"
    return stream.codec_context
