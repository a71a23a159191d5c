"""Write frames as a video with the sound of its source, or as a folder of PNGs, under a temporary name until done."""

from __future__ import annotations

import fcntl
import re
import shutil
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import av
import numpy as np
from av.video.reformatter import ColorRange
from PIL import Image

from vsrprune.data.sources import FRAME_SUFFIX
from vsrprune.data.video.about import about, not_kept
from vsrprune.data.video.colour import RgbFrame, from_rgb
from vsrprune.data.video.footage import Footage, TimedFrame
from vsrprune.data.video.tracks import TrackCopier, not_in_pictures
from vsrprune.errors import UserError, one_of

LOCK_SUFFIX = ".lock"
BY_DECODING = (".mp4", ".mov")  # containers that keep how far apart frames are decoded, not how long each is shown
FEW = 8  # frames, more than any encoder reorders
PIXEL_FORMAT = "yuv420p"  # the one format that every player shows


@dataclass(frozen=True)
class Encoder:
    """An encoder of FFmpeg.

    containers: the suffixes of files that take its codec. crf: the default constant quality, None for a lossless codec.
    worst: the largest crf (the best is 0). even: whether it takes only even sides. options: further options.
    """

    containers: tuple[str, ...]
    crf: int | None = None
    worst: int = 51
    even: bool = False
    options: tuple[tuple[str, str], ...] = ()


ENCODERS = {
    "libx264": Encoder((".mp4", ".mkv", ".mov"), 17, even=True),
    "libx265": Encoder((".mp4", ".mkv", ".mov"), 19, even=True, options=(("x265-params", "log-level=error"),)),
    "libvpx-vp9": Encoder((".webm", ".mkv", ".mp4"), 20, 63, options=(("row-mt", "1"), ("cpu-used", "4"))),
    "libsvtav1": Encoder((".webm", ".mkv", ".mp4"), 20, 63),
    "ffv1": Encoder((".mkv",)),
}
USUAL_ENCODER = {".mp4": "libx264", ".mkv": "libx264", ".mov": "libx264", ".webm": "libvpx-vp9"}


@dataclass(frozen=True)
class Encoding:
    """The name of an encoder in ENCODERS, and its constant quality: lower is better, None for lossless."""

    codec: str
    crf: int | None


def choose_encoding(target: Path, codec: str | None, crf: int | None) -> Encoding | None:
    """The encoding of `target`, whose suffix is its container; None for a folder of PNGs, which has no suffix.

    Raises UserError for an unknown suffix or codec, a quality out of range, a codec that the container does not take.
    """
    suffix = target.suffix.lower()
    if target.name.lower() in USUAL_ENCODER:
        raise UserError(f"{target}: is a suffix without a name; give a name before it")
    if not suffix:
        for knob, value in (("--codec", codec), ("--crf", crf)):
            if value is not None:
                raise UserError(f"{knob} {value} is for videos, but {target} is a folder of PNG frames; leave it out")
        return None
    if suffix not in USUAL_ENCODER:
        raise UserError(
            f"{target}: cannot write {suffix}; give one of {', '.join(USUAL_ENCODER)}, or a name without suffix for a"
            " folder of PNG frames"
        )
    codec = codec or USUAL_ENCODER[suffix]
    one_of("--codec", codec, ENCODERS)
    encoder = ENCODERS[codec]
    if suffix not in encoder.containers:
        able = [name for name, other in ENCODERS.items() if suffix in other.containers]
        raise UserError(f"{target}: {suffix} does not take --codec {codec}; give one of {', '.join(able)}")
    if crf is None or encoder.crf is None:
        if crf is not None:
            raise UserError(f"--crf {crf} does not go with {codec}, which is lossless; leave it out")
        return Encoding(codec, encoder.crf)
    if not 0 <= crf <= encoder.worst:
        raise UserError(f"--crf must be from 0 (best) to {encoder.worst} for {codec}; got {crf}")
    return Encoding(codec, crf)


class FrameWriter(Protocol):
    """Takes frames in order of time; `close` ends the file."""

    def write(self, frame: TimedFrame) -> None:
        """Write one frame."""


@contextmanager
def open_writer(
    target: Path, encoding: Encoding | None, footage: Footage, size: tuple[int, int], say: Callable[[str], None]
) -> Iterator[FrameWriter]:
    """Write frames of `size` (height, width) that replace those of `footage`.

    At the end `target` is there and whole; after an error it is as it was before. `say` is told what could not be kept
    as it was in the source. Raises UserError where FFmpeg cannot write.
    """
    with _replacing(target) as unfinished:
        if encoding is None:
            unfinished.mkdir()
            yield _PngWriter(unfinished, footage, say)
            return
        try:
            with _VideoWriter(unfinished, encoding, footage, size, say) as writer:
                yield writer
        except av.error.FFmpegError as error:
            raise UserError(f"{target}: cannot write this video ({error})") from error


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """A path beside `target` that takes its name once all went well."""
    _remove_left(target)
    # In the same folder, so that the rename stays within one file system; the suffix last, since FFmpeg goes by it.
    mark = uuid.uuid4().hex[:12]
    unfinished, former, lock = (
        target.with_name(f".{_start(target)}-{mark}{end}")
        for end in (target.suffix, f"-former{target.suffix}", f"{target.suffix}{LOCK_SUFFIX}")
    )
    with _held(lock):
        try:
            yield unfinished
            if target.is_dir():  # a folder cannot be replaced in one step: the old one steps aside first
                target.rename(former)
            unfinished.rename(target)
            shutil.rmtree(former, ignore_errors=True)
        finally:
            _remove(unfinished)


def _start(target: Path) -> str:
    """With what names beside a target begin: not all of its name, which may be as long as file systems take."""
    return target.stem[:40]


@contextmanager
def _held(lock: Path) -> Iterator[None]:
    """Hold the lock `lock`, which the kernel gives up with this process, however that ends."""
    with ExitStack() as stack:
        # Not every file system has locks; where nothing can be written, the writer says it better.
        with suppress(OSError):
            held = stack.enter_context(lock.open("w"))
            stack.callback(lock.unlink, missing_ok=True)
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _remove_left(target: Path) -> None:
    """Remove what processes that were killed while they wrote `target` have left beside it."""
    name = re.compile(re.escape(f".{_start(target)}-") + "[0-9a-f]{12}" + re.escape(target.suffix + LOCK_SUFFIX))
    for lock in [path for path in target.parent.glob(f".*{LOCK_SUFFIX}") if name.fullmatch(path.name)]:
        # Without the lock it is being written, or another file system keeps that from us.
        with suppress(OSError), lock.open() as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(lock.with_name(lock.name.removesuffix(LOCK_SUFFIX)))
            lock.unlink()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


class _PngWriter:
    """Frames as PNG files, named as those that they were made from, or by number."""

    def __init__(self, folder: Path, footage: Footage, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._names = [] if footage.is_video else [file.stem for file in footage.files]
        if footage.is_video:
            say(f"note: {not_in_pictures(footage.files[0], footage.rate)}")
        # Letter case does not tell names apart on every file system, and suffixes are no part of them.
        if len({name.lower() for name in self._names}) < len(self._names):
            say("note: frames are numbered: by their names, which differ by letter case alone, they would be one file")
            self._names = []
        self._written = 0

    def write(self, frame: TimedFrame) -> None:
        name = self._names[self._written] if self._names else f"{self._written:08d}"
        Image.fromarray(frame.pixels_HW3).save(self._folder / f"{name}{FRAME_SUFFIX}", compress_level=1)
        self._written += 1


class _VideoWriter:
    """Frames as a video, with the sound and subtitles of their source."""

    def __init__(
        self,
        file: Path,
        encoding: Encoding,
        footage: Footage,
        size: tuple[int, int],
        say: Callable[[str], None],
    ) -> None:
        self._file, self._footage, self._matrix, self._say = file, footage, footage.matrix(*size), say
        height, width = size
        encoder = ENCODERS[encoding.codec]
        self._padding = (height % 2, width % 2) if encoder.even else (0, 0)
        if any(self._padding):
            say(f"note: {encoding.codec} takes even sizes only: the last row or column of {width}x{height} is repeated")
        with ExitStack() as stack:
            self._container = stack.enter_context(av.open(str(file.absolute()), "w"))
            self._stream = self._new_stream(encoding, encoder, height + self._padding[0], width + self._padding[1])
            self._tracks: TrackCopier | None = None
            if footage.is_video:
                source, suffix = footage.files[0], file.suffix.lower()
                self._tracks = TrackCopier(source, footage.start, self._container, suffix, say)
                stack.enter_context(self._tracks)
            self._open = stack.pop_all()
        self._by_decoding = file.suffix.lower() in BY_DECODING
        self._newest: int | None = None  # the time of the last frame, in ticks
        self._lengths: dict[int, int] = {}  # by the time of a frame: for how many ticks it is shown
        self._waiting: deque[Any] = deque()  # packets, until it is known how long their frames are shown
        self._ahead: int | None = None  # by how many ticks the first frame is decoded before it is shown

    def _new_stream(self, encoding: Encoding, encoder: Encoder, height: int, width: int) -> Any:
        footage = self._footage
        options = dict(encoder.options) | ({} if encoding.crf is None else {"crf": str(encoding.crf)})
        if encoding.codec == "libx265" and footage.frames < FEW:
            # With fewer frames than it reorders, x265 gives them random times of decoding, which no container takes.
            options["x265-params"] += ":bframes=0"
        stream = self._container.add_stream(encoding.codec, rate=footage.rate, options=options)
        stream.height, stream.width, stream.pix_fmt = height, width, PIXEL_FORMAT
        stream.codec_context.time_base = footage.time_base
        stream.codec_context.sample_aspect_ratio = footage.aspect
        # What a video does not state, players guess; so all of it is stated.
        stream.codec_context.colorspace = self._matrix
        stream.codec_context.color_range = ColorRange.MPEG
        stream.codec_context.color_primaries = footage.primaries
        stream.codec_context.color_trc = footage.transfer
        return stream

    def write(self, frame: TimedFrame) -> None:
        bottom, right = self._padding
        pixels_HW3: RgbFrame = np.pad(frame.pixels_HW3, ((0, bottom), (0, right), (0, 0)), mode="edge")
        picture = from_rgb(pixels_HW3, PIXEL_FORMAT, self._matrix)
        picture.pts, picture.time_base = frame.pts, self._footage.time_base
        self._show_until(frame.pts)
        self._newest = frame.pts
        self._encode(picture)
        self._mux()
        # Interleaved: containers want packets in order of time, or a player has to seek between sound and pictures.
        if self._tracks is not None:
            self._tracks.write_until(frame.pts * self._footage.time_base)

    def _encode(self, picture: Any) -> None:
        """Encode a picture; None for what the encoder has kept back."""
        self._waiting += self._stream.encode(picture)
        if self._ahead is None and self._waiting:
            self._ahead = self._waiting[0].pts - self._waiting[0].dts

    def _show_until(self, pts: int) -> None:
        if self._newest is not None:
            self._lengths[self._newest] = max(1, pts - self._newest)

    def _mux(self) -> None:
        while self._waiting and self._waiting[0].pts in self._lengths:
            packet = self._waiting.popleft()
            packet.duration = self._lengths.pop(packet.pts)
            self._container.mux(packet)

    def _finish(self) -> None:
        self._show_until(self._footage.end)
        self._encode(None)
        if self._by_decoding and self._waiting:
            self._end_decoding(self._waiting[-1])
        self._mux()
        self._container.mux(list(self._waiting))  # none, unless an encoder changed times

    def _end_decoding(self, packet: Any) -> None:
        """Give the last packet a length with which decoding takes as long as the frames are shown.

        The edit list says how long that is, but FFmpeg takes the shorter of the two. The packet itself ends by the end.
        """
        ahead = self._ahead or 0
        packet.dts = max(packet.dts, packet.pts - ahead)
        self._lengths[packet.pts] = max(self._lengths[packet.pts], self._footage.end - ahead - packet.dts)

    def __enter__(self) -> _VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            with suppress(av.error.FFmpegError):  # the first error counts
                self._open.close()
            return
        with self._open:
            self._finish()
            if self._tracks is not None:
                self._tracks.write_until(None)
            asked = about(self._container)
        for sentence in not_kept(asked, self._file):
            self._say(f"note: {sentence}")
