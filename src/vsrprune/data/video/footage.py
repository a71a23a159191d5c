"""The video file or folder of PNG frames that is to be super-resolved, looked over before any work starts."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
from av.sidedata.sidedata import Type
from PIL import ExifTags, Image

from vsrprune.data.folder import contents, left_out
from vsrprune.data.reading import UNREADABLE, picture_format, read_picture
from vsrprune.data.sources import FRAME_SUFFIXES
from vsrprune.data.video.colour import BT2020, Colour, RgbFrame, conventional_matrix, has_alpha, to_rgb
from vsrprune.data.video.decoding import decoded, video_stream
from vsrprune.data.video.icc import conversion, to_srgb
from vsrprune.data.video.orientation import Orientation
from vsrprune.data.video.shown import Shown, is_shown, refuse_corrupt
from vsrprune.errors import UserError

PRIMARIES_UNSPECIFIED = TRANSFER_UNSPECIFIED = 2  # ITU-T H.273
LYING = range(5, 9)  # the values of EXIF's orientation with which a picture is stored lying on its side
HDR = {
    Type.MASTERING_DISPLAY_METADATA: "mastering display",
    Type.CONTENT_LIGHT_LEVEL: "content light level",
    Type.DYNAMIC_HDR_PLUS: "HDR10+",
    Type.DYNAMIC_HDR_VIVID: "HDR Vivid",
    Type.DOVI_METADATA: "Dolby Vision",
    Type.DOVI_RPU_BUFFER: "Dolby Vision",
}


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
    frames or files are shown. rate: frames per second on average. time_base: seconds per tick. end: when the last frame
    ends, in ticks from the start. start: where the file's time begins, in seconds. aspect: width of a pixel over its
    height. primaries, transfer: the colour primaries and the transfer function, by ITU-T H.273 (2: unspecified).
    wide_gamut: whether the YUV has the matrix of BT.2020. background: what is seen through transparent frames; None to
    refuse them. notes: what is not kept of the frames, a sentence each.
    """

    files: tuple[Path, ...]
    is_video: bool
    height: int
    width: int
    frames: int
    rate: Fraction
    time_base: Fraction
    end: int
    start: Fraction = Fraction(0)
    aspect: Fraction = Fraction(1)
    primaries: int = PRIMARIES_UNSPECIFIED
    transfer: int = TRANSFER_UNSPECIFIED
    wide_gamut: bool = False
    background: Colour | None = None
    notes: tuple[str, ...] = ()

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
            for index, file in enumerate(self.files):
                yield file, _in_srgb(file, read_picture(file, self.background)), index
            return
        # Time starts at the file's start, not at the first frame: the sound keeps its distance to the pictures.
        step = round(1 / (self.rate * self.time_base))
        start = round(self.start / self.time_base)
        pts, shown = -step, Orientation()
        for frame in decoded(self.files[0], transparent=self.background is not None):
            pts = pts + step if frame.pts is None else frame.pts - start  # raw streams carry no times
            yield self.files[0], shown.upright(to_rgb(frame, self.background), frame), pts

    def matrix(self, height: int, width: int) -> int:
        """The matrix for this footage's colours in a video of another size."""
        return BT2020 if self.wide_gamut else conventional_matrix(height, width)


def look_over(path: Path, rate: Fraction, background: Colour | None = None) -> Footage:
    """Footage of a file or a folder.

    rate: frames per second of PNG frames. background: what is seen through transparent frames; None to refuse them.
    Raises UserError if there is nothing to read, frames differ in size, or a video is cut off or damaged, as far as its
    packets tell.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe would be waited for without end
        raise UserError(
            f"{path}: is neither a file nor a folder, such as a pipe or a device; write the video to a file"
        )
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; give a video, or a folder of PNG frames")
    if path.is_dir():
        found = contents(path)
        if not found.frames:
            raise UserError(f"{path}: no PNG frames or JPEGs in this folder")
        return _pngs(path, found.frames, left_out(str(path), found), rate, background)
    if path.is_file() and path.suffix.lower() in FRAME_SUFFIXES and _header(path).pictures == 1:
        return _pngs(path, [path], [], rate, background)  # by the same rules: FFmpeg knows nothing of profiles
    return _video(path, background)


class _Header(NamedTuple):
    """What a picture says of itself.

    size: (width, height), upright. pictures: more than one where it is animated. alpha: whether it may be transparent.
    """

    size: tuple[int, int]
    pictures: int
    profile: bytes
    alpha: bool


def _header(file: Path) -> _Header:
    """Reads no pixels; raises UserError for what cannot be read."""
    try:
        with Image.open(file, formats=[picture_format(file)]) as image:
            # Asking where it is not in the header would read the whole file.
            turn = image.getexif().get(ExifTags.Base.Orientation) if "exif" in image.info else None
            size = image.size[::-1] if turn in LYING else image.size
            alpha = "A" in image.getbands() or "transparency" in image.info
            # The further pictures of a JPEG are previews, depths and the like.
            pictures = getattr(image, "n_frames", 1) if image.format == "PNG" else 1
            return _Header(size, pictures, image.info.get("icc_profile") or b"", alpha)
    except UNREADABLE as error:
        raise UserError(f"{file}: cannot read this {picture_format(file)} ({error})") from error


def _pngs(path: Path, files: Sequence[Path], said: Sequence[str], rate: Fraction, background: Colour | None) -> Footage:
    """Footage of pictures that `path` holds or is; `said`: what else is to be said of it."""
    height, width, _ = read_picture(files[0], background).shape
    headers = [_header(file) for file in files]
    for file, header in zip(files, headers, strict=True):
        if header.size != (width, height):
            raise UserError(
                f"{file}: the frame is {header.size[0]}x{header.size[1]}, but {files[0].name} is {width}x{height};"
                " all frames must have one size"
            )
        if header.alpha and background is None:
            read_picture(file)  # refuses it now and not after hours
    notes = list(said)
    animated = [file for file, header in zip(files, headers, strict=True) if header.pictures > 1]
    if animated:
        notes.append(
            f"{path}: {len(animated)} frames are animated, such as {animated[0].name}, and only their first picture"
            " is taken; give such a file itself for all"
        )
    converted = sum(conversion(header.profile) is not None for header in headers if header.profile)
    if converted:
        notes.append(f"{path}: {converted} frames have a colour profile; their colours are converted to sRGB")
    return Footage(
        tuple(files),
        False,
        height,
        width,
        len(files),
        rate,
        1 / rate,
        len(files),
        background=background,
        notes=tuple(notes),
    )


def _in_srgb(file: Path, pixels_HW3: RgbFrame) -> RgbFrame:
    profile = _header(file).profile
    return to_srgb(pixels_HW3, profile) if profile else pixels_HW3


def _video(file: Path, background: Colour | None) -> Footage:
    """Footage of a video. All packets are read and one frame is decoded: seconds for an hour of video."""
    frames = decoded(file, transparent=background is not None)
    first = next(frames, None)
    if first is None:
        raise UserError(f"{file}: no frame in this video can be decoded")
    if has_alpha(first) and background is None:
        deque(frames, maxlen=0)  # refuses transparent ones now and not after hours
    try:
        with av.open(str(file.absolute())) as container:
            stream = video_stream(file, container)
            shown = Shown(file, container, stream)
            reached = _reached(file, container, shown, stream.index)
            shown.refuse_short(shown.frames, shown.seconds, float(reached - shown.start))
            aspect = Fraction(stream.sample_aspect_ratio or 1)
            time_base = Fraction(stream.time_base)
            start, end = shown.start, shown.whole_end() - round(shown.start / time_base)
    except av.error.FFmpegError as error:
        raise UserError(f"{file}: cannot read this video ({error})") from error
    height, width = first.height, first.width
    if Orientation().is_lying(first):
        height, width, aspect = width, height, 1 / aspect
    return Footage(
        (file,),
        True,
        height,
        width,
        shown.frames,
        shown.rate,
        time_base,
        end,
        start,
        aspect,
        first.color_primaries,
        first.color_trc,
        first.colorspace == BT2020,
        background,
        _left_out(file, first),
    )


def _reached(file: Path, container: Any, shown: Shown, video: int) -> Fraction:
    """When the last packet of any stream ends, in seconds; `shown` sees those of the stream `video`."""
    reached = Fraction(0)
    for packet in container.demux():
        if packet.stream_index == video:
            shown.see(packet)
        refuse_corrupt(file, packet)
        if is_shown(packet) and packet.pts is not None:
            reached = max(reached, (packet.pts + (packet.duration or 0)) * packet.time_base)
    return reached


def _left_out(file: Path, frame: Any) -> tuple[str, ...]:
    kinds = dict.fromkeys(name for kind, name in HDR.items() if kind in frame.side_data)
    hdr = f"{file}: HDR metadata ({', '.join(kinds)}) is left out: it is of pictures of 10 bits" if kinds else ""
    fields = f"{file}: the pictures are interlaced, and taken for progressive; deinterlace them first"
    return tuple(filter(None, (hdr, fields if frame.interlaced_frame else "")))
