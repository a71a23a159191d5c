"""The sound and the subtitles of a video, copied into the file of its new pictures, and what its file says of them."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
from av.stream import Discard, Disposition

from vsrprune.data.video.about import TECHNICAL, carry_file, carry_track
from vsrprune.data.video.decoding import video_stream
from vsrprune.data.video.shown import is_shown
from vsrprune.data.video.sound import LAST_RESORT, encoded_as
from vsrprune.errors import UserError

WITH_ATTACHMENTS = ".mkv"
UNKNOWN_KIND = "application/octet-stream"  # Matroska wants one of every attachment


class TrackCopier:
    """Copies packets of a file's sound and subtitles into an open container, a stretch of time at a time.

    Packets are copied where the container takes their codec. Where it does not, sound is encoded again, and subtitles
    and streams of other kinds are left out; `say` gets a sentence for each. A track never costs the pictures: what of
    it cannot be read or written is left out too. Chapters, metadata and attachments are copied at once. The container
    has its video stream already. Use it as a context manager.
    """

    def __init__(self, file: Path, start: Fraction, output: Any, suffix: str, say: Callable[[str], None]) -> None:
        self._file, self._start, self._output, self._say = file, start, output, say
        # A second reader of the file: the pictures stay a plain iterator, and no packet waits for them in memory.
        self._container = av.open(str(file.absolute()))
        self._copied: dict[int, Any] = {}
        self._encoded: dict[int, Any] = {}
        self._before: dict[int, Any] = {}  # of copied tracks: the last packet that is not played itself
        self._ends: dict[int, int] = {}  # of encoded tracks: when their last frame ends, in its own ticks
        self._lost: Counter[int] = Counter()
        carry_file(self._container, output, start)
        pictures = video_stream(file, self._container)
        carry_track(pictures, output.streams.video[0])
        for stream in self._container.streams:
            if stream.index != pictures.index:
                self._take(stream, suffix)
        taken = [self._container.streams[index] for index in (*self._copied, *self._encoded)]
        self._packets: Iterator[Any] = self._container.demux(*taken) if taken else iter(())
        self._next = self._read()

    def _take(self, stream: Any, suffix: str) -> None:
        """Add a stream like this one to the output, or say why not."""
        if stream.type == "attachment" and suffix == WITH_ATTACHMENTS:
            name, kind = stream.metadata.get("filename", "attachment"), stream.mimetype or UNKNOWN_KIND
            self._output.add_attachment(name, kind, stream.data)
            return
        if stream.type in ("audio", "subtitle") and self._output_takes(stream):
            self._copied[stream.index] = self._output.add_stream_from_template(stream)
        elif stream.type == "audio" and stream.codec_context and (sound := encoded_as(stream, suffix)):
            track = self._output.add_stream(sound.encoder, rate=sound.rate, layout=sound.layout)
            self._encoded[stream.index] = track
            mixed = f" in {sound.layout}" if sound.layout == LAST_RESORT != stream.layout.name else ""
            self._say(
                f"note: {_name(stream)} is encoded again as {sound.encoder}{mixed}: {suffix} does not take it as it is"
            )
        else:
            # FFmpeg hides the track in which MP4 keeps chapters, and gives them as chapters.
            if stream.discard != Discard.all:
                self._say(f"note: {_name(stream)} is left out: {_reason(stream, suffix)}")
            return
        carry_track(stream, self._copied.get(stream.index) or self._encoded[stream.index])

    def _output_takes(self, stream: Any) -> bool:
        """Whether a file of the output's kind with this track alone can be begun and ended; some fail only then."""
        if stream.codec_context is None:
            return False
        with io.BytesIO() as memory, av.open(str(self._file.absolute())) as source:
            try:
                with av.open(memory, "w", format=self._output.format.name) as trial:
                    track = trial.add_stream_from_template(stream)
                    trial.start_encoding()
                    # Subtitles may begin an hour later, and no container looks into them.
                    packets = source.demux(source.streams[stream.index]) if stream.type == "audio" else iter(())
                    if (packet := next(packets, None)) is not None and packet.size:
                        packet.stream = track
                        trial.mux(packet)
            except (av.error.FFmpegError, ValueError):  # PyAV's own for a codec that it knows not to fit
                return False
        return True

    def write_until(self, seconds: Fraction | None) -> None:
        """Write all packets up to a moment, in seconds from the start of the file; the rest if None."""
        while self._next is not None and (seconds is None or self._time(self._next) <= seconds):
            self._put(self._next)
            self._next = self._read()
        if seconds is None:
            for index, stream in self._encoded.items():
                # Some decoders keep the end of the sound back until they are told that nothing follows.
                self._attempt(index, partial(self._encode_frames, index, self._container.streams[index].decode))
                self._attempt(index, partial(self._encode, stream, None))
            for index, count in self._lost.items():
                name = _name(self._container.streams[index])
                self._say(f"note: {name}: {count} packets cannot be read or written, and are left out")

    def _put(self, packet: Any) -> None:
        index = packet.stream_index
        if index in self._encoded:
            self._attempt(index, partial(self._encode_frames, index, packet.decode))
        elif not is_shown(packet):
            self._before[index] = packet
        else:
            # A decoder of sound needs one packet before those that are played; what else was cut off stays off.
            before = self._before.pop(index, None)
            for one in (packet,) if before is None else (before, packet):
                self._attempt(index, partial(self._copy, one))

    def _attempt(self, index: int, write: Callable[[], None]) -> None:
        """Write a piece of a track, or count it as lost."""
        try:
            write()
        except OSError:  # of the disk: the pictures meet it too
            raise
        except (av.error.FFmpegError, ValueError):  # PyAV's own for sound that changes its layout
            self._lost[index] += 1

    def _copy(self, packet: Any) -> None:
        # The new file begins at 0; its pictures were moved by the same time.
        shift = round(self._start / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts - shift
        packet.dts = None if packet.dts is None else packet.dts - shift
        packet.stream = self._copied[packet.stream_index]
        self._output.mux(packet)

    def _encode_frames(self, index: int, decode: Callable[[], list[Any]]) -> None:
        for frame in decode():
            if frame.pts is None:  # kept back by the decoder
                frame.pts, frame.time_base = self._ends.get(index), self._container.streams[index].time_base
            else:
                frame.pts -= round(self._start / frame.time_base)
            if frame.pts is not None:
                self._ends[index] = frame.pts + round(Fraction(frame.samples, frame.sample_rate) / frame.time_base)
            self._encode(self._encoded[index], frame)

    def _encode(self, track: Any, frame: Any) -> None:
        """Encode a frame of sound; None for what the encoder has kept back."""
        self._output.mux(track.encode(frame))

    def _read(self) -> Any:
        """The next packet that has content, None after the last."""
        try:
            return next((packet for packet in self._packets if packet.size and packet.dts is not None), None)
        except av.error.FFmpegError as error:
            raise UserError(f"{self._file}: cannot read the sound or subtitles of this video ({error})") from error

    def _time(self, packet: Any) -> Fraction:
        return Fraction(packet.dts * packet.time_base) - self._start

    def __enter__(self) -> TrackCopier:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()


def not_in_pictures(file: Path, rate: Fraction) -> str:
    """A sentence about what a video has, and a folder of its frames has not; rate: its frames per second."""
    with av.open(str(file.absolute())) as container:
        pictures = video_stream(file, container).index
        parts = [_name(stream) for stream in container.streams if stream.index != pictures]
        parts += ["chapters"] if container.chapters() else []
        parts += sorted(key.lower() for key in container.metadata if key.lower() not in TECHNICAL)
    left = f", and {', '.join(parts)} left out" if parts else ""
    return f"PNG frames have no times ({file} has {float(rate):.5g} frames per second on average){left}"


def _name(stream: Any) -> str:
    codec = None if stream.codec_context is None else stream.codec_context.codec.canonical_name
    return f"{stream.type} stream {stream.index} ({codec or 'no codec'})"


def _reason(stream: Any, suffix: str) -> str:
    if stream.type != "video":
        return f"{suffix} does not take it"
    if stream.disposition & Disposition.attached_pic:
        return "it is a cover picture"
    return "only one video stream is super-resolved, the one marked default or the first"
