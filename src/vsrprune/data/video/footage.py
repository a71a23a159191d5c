"""The video file or folder of PNG frames that is to be super-resolved, looked over before any work starts."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from PIL import Image

from vsrprune.data.folder import frame_files
from vsrprune.data.reading import picture_format, read_picture
from vsrprune.data.video.colour import BT2020, RgbFrame, conventional_matrix, to_rgb
from vsrprune.data.video.decoding import decoded, refuse_corrupt, refuse_short, video_stream
from vsrprune.errors import UserError

PRIMARIES_UNSPECIFIED = TRANSFER_UNSPECIFIED = 2  # ITU-T H.273


class TimedFrame(NamedTuple):
    """A frame and its time.

    pixels_HW3: RGB of 8 bits, upright. pts: when it is shown, in ticks of the footage's time base from its start.
    """

    pixels_HW3: RgbFrame
    pts: int


@dataclass(frozen=True)
class Footage:
    """Frames on disk, and what is known of them without decoding all.

    files: one video, or PNG frames in order. height, width: the size of upright frames, in pixels. frames: how many
    packets or files there are. rate: frames per second on average. time_base: seconds per tick. start: where the
    file's time begins, in seconds. aspect: width of a pixel over its height. primaries, transfer: the colour primaries
    and the transfer function, by ITU-T H.273 (2: unspecified). wide_gamut: whether the YUV has the matrix of BT.2020.
    """

    files: tuple[Path, ...]
    is_video: bool
    height: int
    width: int
    frames: int
    rate: Fraction
    time_base: Fraction
    start: Fraction = Fraction(0)
    aspect: Fraction = Fraction(1)
    primaries: int = PRIMARIES_UNSPECIFIED
    transfer: int = TRANSFER_UNSPECIFIED
    wide_gamut: bool = False

    def read(self) -> Generator[TimedFrame, None, None]:
        """The frames in order of time; raises UserError for what cannot be decoded, and frames of another size."""
        last = -1
        for file, pixels_HW3, pts in self._timed():
            height, width, _ = pixels_HW3.shape
            if (height, width) != (self.height, self.width):
                raise UserError(
                    f"{file}: frame {last + 1} is {width}x{height}, but the first is {self.width}x{self.height}; all"
                    " frames must have one size"
                )
            last = max(pts, last + 1)  # two frames at one time would stop the encoder
            yield TimedFrame(pixels_HW3, last)

    def _timed(self) -> Iterator[tuple[Path, RgbFrame, int]]:
        if not self.is_video:
            yield from ((file, read_picture(file), index) for index, file in enumerate(self.files))
            return
        # Time starts at the file's start, not at the first frame: the sound keeps its distance to the pictures.
        step = round(1 / (self.rate * self.time_base))
        start = round(self.start / self.time_base)
        pts = -step
        for frame in decoded(self.files[0]):
            pts = pts + step if frame.pts is None else frame.pts - start  # raw streams carry no times
            yield self.files[0], _upright(to_rgb(frame), frame.rotation), pts

    def matrix(self, height: int, width: int) -> int:
        """The matrix for this footage's colours in a video of another size."""
        return BT2020 if self.wide_gamut else conventional_matrix(height, width)


def look_over(path: Path, rate: Fraction) -> Footage:
    """Footage of a file or a folder.

    rate: frames per second of PNG frames. Raises UserError if there is nothing to read, frames differ in size, or a
    video is cut off or damaged, as far as its packets tell.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; give a video, or a folder of PNG frames")
    return _pngs(path, rate) if path.is_dir() else _video(path)


def _pngs(folder: Path, rate: Fraction) -> Footage:
    files = frame_files(folder)
    if not files:
        raise UserError(f"{folder}: no PNG frames or JPEGs in this folder")
    height, width, _ = read_picture(files[0]).shape
    for file in files:
        with Image.open(file, formats=[picture_format(file)]) as image:  # reads the header only
            if image.size != (width, height):
                raise UserError(
                    f"{file}: the frame is {image.size[0]}x{image.size[1]}, but {files[0].name} is {width}x{height};"
                    " all frames must have one size"
                )
    return Footage(files, False, height, width, len(files), rate, 1 / rate)


def _video(file: Path) -> Footage:
    """Footage of a video. All packets are read and one frame is decoded: seconds for an hour of video."""
    first = next(decoded(file), None)
    if first is None:
        raise UserError(f"{file}: no frame in this video can be decoded")
    try:
        with av.open(str(file)) as container:
            stream = video_stream(file, container)
            frames, end = _packets(file, container, stream)
            start = max(Fraction(0), Fraction(container.start_time or 0, av.time_base))
            refuse_short(file, stream, frames, (container.duration or 0) / av.time_base, float(end - start))
            rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
            aspect = Fraction(stream.sample_aspect_ratio or 1)
            time_base = Fraction(stream.time_base)
    except av.error.FFmpegError as error:
        raise UserError(f"{file}: cannot read this video ({error})") from error
    height, width = first.height, first.width
    # A phone's upright video is stored lying, with a rotation; PyAV states it per frame.
    if first.rotation % 180 == 90:
        height, width, aspect = width, height, 1 / aspect
    return Footage(
        (file,),
        True,
        height,
        width,
        frames,
        rate,
        time_base,
        start,
        aspect,
        first.color_primaries,
        first.color_trc,
        first.colorspace == BT2020,
    )


def _packets(file: Path, container: Any, video: Any) -> tuple[int, Fraction]:
    """How many packets the video has, and when the last packet of any stream ends."""
    frames, end = 0, Fraction(0)
    for packet in container.demux():
        if packet.size == 0:  # the packet that flushes a decoder has no content
            continue
        refuse_corrupt(file, packet)
        frames += packet.stream_index == video.index
        if packet.pts is not None:
            end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
    return frames, end


def _upright(pixels_HW3: RgbFrame, rotation: int) -> RgbFrame:
    """The frame turned by `rotation` (degrees, counterclockwise, as the container asks) to the nearest quarter turn."""
    return np.ascontiguousarray(np.rot90(pixels_HW3, round(rotation / 90) % 4))
