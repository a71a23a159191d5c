"""Small real videos, made and read back by PyAV."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np

TICKS = Fraction(1, 90000)
SOUND_RATE = 44100


def pictures(count: int, height: int = 16, width: int = 24, seed: int = 0) -> list[Any]:
    """Smooth random pictures (H, W, 3) that drift: what codecs keep nearly unchanged."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    phases = draw.random(3) * 6
    return [
        np.stack([120 + 80 * np.sin(phase + (x + index) / 9 + y / 7) for phase in phases], axis=-1).astype(np.uint8)
        for index in range(count)
    ]


def make_video(
    path: Path,
    images: Sequence[Any],
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    pts: Sequence[int] | None = None,
    ticks: Fraction = TICKS,
    sound: str | None = None,
    subtitles: str | None = None,
    rotation: int = 0,
    options: dict[str, str] | None = None,
    tags: dict[str, int] | None = None,
) -> Path:
    """Encode images, shown at `pts` ticks (25 per second if not given), with a sine tone and subtitles if asked.

    sound: an audio encoder. subtitles: a subtitle encoder's name in a template file (subrip).
    """
    height, width, _ = images[0].shape
    pts = pts or [round(index / 25 / ticks) for index in range(len(images))]
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.codec_context.time_base = ticks
        for name, value in (tags or {}).items():
            setattr(stream.codec_context, name, value)
        if rotation:
            stream.set_display_rotation(rotation)
        tone = container.add_stream(sound, rate=SOUND_RATE if sound != "libopus" else 48000) if sound else None
        source = av.open(str(_srt(path))) if subtitles else None
        text = container.add_stream_from_template(source.streams.subtitles[0]) if source else None
        for image, when in zip(images, pts, strict=True):
            # In more threads, swscale now and then leaves a wrong pixel of 10 bits where two of them meet.
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixel_format, threads=1)
            frame.pts, frame.time_base = when, ticks
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if tone:
            _encode_tone(container, tone, float(pts[-1] * ticks))
        if source:
            for packet in source.demux():
                if packet.size:
                    packet.stream = text
                    container.mux(packet)
            source.close()
    return path


def _srt(path: Path) -> Path:
    file = path.with_suffix(".srt")
    file.write_text("1\n00:00:00,040 --> 00:00:00,200\nOne line.\n\n2\n00:00:00,240 --> 00:00:00,300\nAnother.\n")
    return file


def _encode_tone(container: Any, stream: Any, seconds: float) -> None:
    rate = stream.rate
    times = np.arange(max(1024, int(seconds * rate)) // 1024 * 1024) / rate
    samples = (np.sin(times * 2 * np.pi * 440) * 9000).astype(np.int16)
    for start in range(0, len(samples), 1024):
        frame = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], format="s16", layout="mono")
        frame.sample_rate, frame.pts = rate, start
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def packets(path: Path, kind: str) -> list[tuple[float, bytes]]:
    """Seconds and content of the packets of a file's first stream of a kind (audio, subtitle)."""
    with av.open(str(path)) as container:
        stream = next(stream for stream in container.streams if stream.type == kind)
        return [
            (float(packet.pts * packet.time_base), bytes(packet)) for packet in container.demux(stream) if packet.size
        ]


def times(path: Path) -> list[float]:
    """Seconds at which the frames of a video are shown."""
    with av.open(str(path)) as container:
        return [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]


def last_for(path: Path, codec: str, pts: Sequence[int], length: int, options: dict[str, str] | None = None) -> Path:
    """A video of frames at `pts` milliseconds, each shown until the next, and the last for `length`."""
    lengths = dict(zip(pts, [after - before for before, after in pairwise(pts)] + [length], strict=True))
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt = 24, 16, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        coded = []
        for image, when in zip(pictures(len(pts)), pts, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p", threads=1)
            frame.pts, frame.time_base = when, Fraction(1, 1000)
            coded += stream.encode(frame)
        for packet in [*coded, *stream.encode()]:
            packet.duration = lengths[packet.pts]
            container.mux(packet)
    return path


def trim(source: Path, target: Path, first: int, frames: int | None = None) -> Path:
    """Hide the frames (25 per second) before `first`, and those after `frames` more, by the edit list of an MP4."""
    with av.open(str(source)) as whole, av.open(str(target), "w", options={"movflags": "faststart"}) as container:
        tracks = {stream.index: container.add_stream_from_template(stream) for stream in whole.streams}
        for packet in whole.demux():
            if packet.size:
                # The muxer writes an edit list for what lies before 0.
                shift = round(Fraction(first, 25) / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = tracks[packet.stream_index]
                container.mux(packet)
    if frames is not None:
        content = bytearray(target.read_bytes())
        # Box elst of the video: version and flags, number of entries; duration in ms, first tick, rate of each.
        entries = content.index(b"elst") + 8
        (count,) = struct.unpack(">I", content[entries : entries + 4])
        place = entries + 4 + 12 * (count - 1)
        content[place : place + 4] = struct.pack(">I", frames * 40)
        target.write_bytes(content)
    return target
