"""The sound and the subtitles of a video, copied into the file of its new pictures."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from vsrprune.errors import UserError

SOUND_CODECS = {".webm": ("libopus", 48000)}  # encoder and rate where the container cannot take the source's sound
USUAL_SOUND = ("aac", 48000)


class TrackCopier:
    """Copies packets of a file's sound and subtitles into an open container, a stretch of time at a time.

    Packets are copied where the container takes their codec. Where it does not, sound is encoded again, and subtitles
    and streams of other kinds are left out; `notes` has a sentence for each. Use it as a context manager.
    """

    def __init__(self, file: Path, start: Fraction, output: Any, suffix: str) -> None:
        self._file, self._start, self._output = file, start, output
        # A second reader of the file: the pictures stay a plain iterator, and no packet waits for them in memory.
        self._container = av.open(str(file))
        self.notes: list[str] = []
        self._copied: dict[int, Any] = {}
        self._encoded: dict[int, Any] = {}
        for stream in self._container.streams:
            if stream.type != "video":
                self._take(stream, suffix)
        taken = [self._container.streams[index] for index in (*self._copied, *self._encoded)]
        self._packets: Iterator[Any] = self._container.demux(*taken) if taken else iter(())
        self._next = self._read()

    def _take(self, stream: Any, suffix: str) -> None:
        codec = None if stream.codec_context is None else stream.codec_context.codec.canonical_name
        name = f"{stream.type} stream {stream.index} ({codec or 'no codec'})"
        if stream.type in ("audio", "subtitle") and codec in self._output.supported_codecs:
            self._copied[stream.index] = self._output.add_stream_from_template(stream)
        elif stream.type == "audio" and codec:
            encoder, rate = SOUND_CODECS.get(suffix, USUAL_SOUND)
            self._encoded[stream.index] = self._output.add_stream(encoder, rate=rate, layout=stream.layout.name)
            self.notes.append(f"{name} is encoded again as {encoder}: {suffix} does not take it as it is")
        else:
            self.notes.append(f"{name} is left out: {suffix} does not take it")
            return
        taken = self._copied.get(stream.index) or self._encoded[stream.index]
        taken.metadata.update({key: value for key, value in stream.metadata.items() if key in ("language", "title")})

    def write_until(self, seconds: Fraction | None) -> None:
        """Write all packets up to a moment, in seconds from the start of the file; the rest if None."""
        while self._next is not None and (seconds is None or self._time(self._next) <= seconds):
            packet = self._next
            if packet.stream_index in self._encoded:
                self._encode(packet)
            else:
                # The new file begins at 0; its pictures were moved by the same time.
                shift = round(self._start / packet.time_base)
                packet.pts = None if packet.pts is None else packet.pts - shift
                packet.dts = None if packet.dts is None else packet.dts - shift
                packet.stream = self._copied[packet.stream_index]
                self._output.mux(packet)
            self._next = self._read()
        if seconds is None:
            for stream in self._encoded.values():
                self._output.mux(stream.encode(None))

    def _encode(self, packet: Any) -> None:
        stream = self._encoded[packet.stream_index]
        for frame in self._decode(packet):
            if frame.pts is not None:
                frame.pts -= round(self._start / frame.time_base)
            self._output.mux(stream.encode(frame))

    def _decode(self, packet: Any) -> list[Any]:
        try:
            return list(packet.decode())
        except av.error.FFmpegError as error:
            raise self._unreadable(error) from error

    def _read(self) -> Any:
        """The next packet that has content, None after the last."""
        try:
            return next((packet for packet in self._packets if packet.size and packet.dts is not None), None)
        except av.error.FFmpegError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> UserError:
        return UserError(f"{self._file}: cannot read the sound or subtitles of this video ({error})")

    def _time(self, packet: Any) -> Fraction:
        return Fraction(packet.dts * packet.time_base) - self._start

    def __enter__(self) -> TrackCopier:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()
