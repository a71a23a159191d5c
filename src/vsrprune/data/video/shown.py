"""What of a video is shown, and when: what its packets and its container say, without decoding."""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from vsrprune.errors import UserError

MOV, MATROSKA, AVI = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi"  # FFmpeg's names of containers
MOST_FRAMES = 0.9  # the share of announced frames that must be found; containers are a little vague about the number


def is_shown(packet: Any) -> bool:
    """Whether what a packet holds is played.

    An edit list marks packets that only serve to decode others: phones trim clips so, without encoding them again.
    """
    # The packet that flushes a decoder has no content.
    return bool(packet.size) and not packet.is_discard


def refuse_corrupt(file: Path, packet: Any) -> None:
    """Raise UserError for a packet that lacks a piece: a file that lost its end would pass for a shorter one."""
    if packet.is_corrupt:
        raise UserError(f"{file}: cannot decode this video (it is cut off or damaged)")


class Shown:
    """The frames of a video stream, counted and timed as its packets pass.

    frames: how many were shown so far. end: when the last of them ends, in ticks of the stream. rate: frames per
    second, on average.
    """

    def __init__(self, file: Path, container: Any, stream: Any) -> None:
        self.frames = self.end = 0
        # Once its container is closed, asking a stream reads memory that is no longer its own.
        self.rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
        self._file, self._container, self._stream = file, container, stream
        # AVI gives each frame a slot of equal length in the order of decoding, and no time of presentation: frames come
        # in order out of the decoder, and take the slots in order. A slot without a packet repeats the last picture.
        self._slotted = container.format.name == AVI
        self._slots: deque[int] = deque()
        self._first: Any = None  # packet in a slot
        # In MPEG-4 packets may say that a picture repeats, and no frame comes out; but its frames say when they are.
        self._timed = not self._slotted or stream.codec_context.codec.canonical_name == "mpeg4"
        self._last = -1

    def see(self, packet: Any) -> None:
        """Take note of a packet of the stream; raises UserError if it is damaged."""
        refuse_corrupt(self._file, packet)
        if not is_shown(packet):
            return
        step = round(1 / (self.rate * self._stream.time_base))
        when = self.frames * step if packet.pts is None else packet.pts  # raw streams carry no times
        if self._slotted and packet.dts is not None:
            when = packet.dts
            self._slots.append(when)
            self._first = self._first or packet
        self.frames += 1
        self._last, self.end = max(self._last, when), max(self.end, when + (packet.duration or step))

    def time(self, frame: Any) -> int | None:
        """When a decoded frame is shown, in ticks; None if nothing tells. Frames come in the order of presentation."""
        if not self._timed:
            return self._slots.popleft() if self._slots else None
        if frame.pts is None:
            return None
        # Where frames are reordered, the first is shown one slot after it is decoded, but the sound begins at once.
        ahead = self._first.pts - self._first.dts if self._first is not None and self._first.pts is not None else 0
        return int(frame.pts - ahead)

    @property
    def start(self) -> Fraction:
        """Where the file's time begins, in seconds."""
        return max(Fraction(0), Fraction(self._container.start_time or 0, av.time_base))

    @property
    def seconds(self) -> float:
        """How long the file says that it is, from its start."""
        announced = Fraction(self._container.duration or 0, av.time_base)
        # Matroska says when it ends.
        return float(announced - (self.start if self._container.format.name == MATROSKA else 0))

    def whole_end(self) -> int:
        """When the last frame ends, in ticks, once all packets have passed: a picture may stand still at the end."""
        stream, container = self._stream, self._container
        if container.format.name in (MOV, AVI) and stream.duration:
            # The packets of MP4 say how far apart they are decoded, not how long the last frame is shown.
            stated = (stream.start_time or 0) + stream.duration
            return int(stated) if stated > self._last else self.end
        if container.format.name == MATROSKA and len(container.streams) == 1 and container.duration:
            # The length of the file; with sound, that may be what is longer.
            return max(self.end, int((self.start + Fraction(self.seconds)) / stream.time_base))
        return self.end

    def refuse_short(self, frames: int, seconds: float, reached: float) -> None:
        """Raise UserError if the file holds less than it announces.

        frames: how many were found. seconds: the announced duration. reached: when the last packet found ends, in
        seconds. The number of frames decides where the file states one; with a variable frame rate the time does not
        tell it.
        """
        promised, found = self._announced(), f"{frames} can be read"
        if promised:
            # Slots that repeat a picture are no loss.
            there = self._last - self._first.dts + 1 if self._first else frames
            short, announced = there < MOST_FRAMES * promised, f"{promised} frames"
        else:
            reached += float(1 / self.rate)
            short, announced = reached < MOST_FRAMES * seconds, f"{seconds:.2f} seconds"
            found = f"{frames} frames in {reached:.2f} seconds can be read"
        if short:
            raise UserError(
                f"{self._file}: cannot decode this video (it announces {announced}, but {found}; it is cut off or"
                " damaged)"
            )

    def _announced(self) -> int:
        """How many frames (in AVI: slots) the container announces that are shown; 0 if it does not say."""
        if self._container.format.name == MOV and self._stream.frames:
            # The number of frames counts hidden ones; the index knows them, and lists all frames before any is read.
            return sum(not entry.is_discard for entry in self._stream.index_entries)
        return int(self._stream.frames)
