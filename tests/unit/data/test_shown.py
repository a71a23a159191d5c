"""What of a video is shown, when, and for how long, whatever its container announces."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from videos import last_for, make_video, packets, pictures, times, trim

from vsrprune.data.doctor.doctor import DoctorSettings, examine_clip
from vsrprune.data.reading import read_frames
from vsrprune.data.sources import ClipSource
from vsrprune.data.video.footage import TimedFrame, look_over
from vsrprune.data.video.shown import Shown
from vsrprune.data.video.writing import choose_encoding, open_writer
from vsrprune.errors import UserError

RATE = Fraction(25)
STILL = [0, 200, 400, 600, 800]  # milliseconds; then the picture stands still


def clip(file: Path) -> ClipSource:
    return ClipSource("clip", (file,))


def rewrite(source: Path, target: Path, codec: str | None = None) -> list[str]:
    """Every frame of `source`, as it is; what was said."""
    footage, said = look_over(source, RATE), []
    size = (footage.height, footage.width)
    with open_writer(target, choose_encoding(target, codec, None), footage, size, said.append) as writer:
        for frame in footage.read():
            writer.write(TimedFrame(frame.pixels_HW3, frame.pts))
    return said


def length(file: Path) -> float:
    """How long a video's pictures are shown, in seconds, as its file says."""
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        if stream.duration is None or "matroska" in container.format.name:
            hours, minutes, seconds = stream.metadata["DURATION"].split(":")
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        return float(stream.duration * stream.time_base)


def test_the_rate_is_not_asked_of_a_file_that_is_closed(tmp_path: Path) -> None:
    """Which ended the process, now and then, by a segmentation fault."""
    codec = SimpleNamespace(codec=SimpleNamespace(canonical_name="h264"))
    stream = SimpleNamespace(average_rate=Fraction(24), guessed_rate=None, codec_context=codec)
    shown = Shown(tmp_path / "in.mp4", SimpleNamespace(format=SimpleNamespace(name="mov")), stream)
    del stream.average_rate
    assert shown.rate == 24


# Clips that were trimmed without encoding them again


@pytest.mark.parametrize("sound", [None, "aac"])
@pytest.mark.parametrize(("frames", "count"), [(None, 46), (30, 30)])
def test_of_a_trimmed_clip_what_is_shown_is_read(
    tmp_path: Path, frames: int | None, count: int, sound: str | None
) -> None:
    long = make_video(tmp_path / "long.mp4", pictures(96), sound=sound)
    short = trim(long, tmp_path / "short.mp4", 50, frames)
    footage = look_over(short, RATE)
    assert footage.frames == count
    assert [frame.pts * footage.time_base for frame in footage.read()] == [index / RATE for index in range(count)]
    assert footage.end * footage.time_base == count / RATE
    np.testing.assert_array_equal(read_frames(clip(short)), read_frames(clip(long))[50 : 50 + count])


def test_the_doctor_finds_nothing_wrong_with_a_trimmed_clip(tmp_path: Path) -> None:
    short = trim(make_video(tmp_path / "long.mp4", pictures(96)), tmp_path / "short.mp4", 50)
    facts = examine_clip(clip(short), "train", DoctorSettings(2, False, 15, 8, False, ("bicubic",)))
    assert (facts.frames, facts.findings) == (46, [])


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.webm"])
def test_a_trimmed_clip_keeps_its_length_and_the_sound_that_belongs_to_it(tmp_path: Path, name: str) -> None:
    short = trim(make_video(tmp_path / "long.mp4", pictures(96), sound="aac"), tmp_path / "short.mp4", 50)
    rewrite(short, tmp_path / name)
    found = times(tmp_path / name)
    assert np.array(found) - found[0] == pytest.approx(np.arange(46) / 25, abs=1e-3)
    sound = [when for when, _ in packets(tmp_path / name, "audio")]
    # A decoder of AAC needs the packet before, 23 ms; Matroska moves it and the pictures to 0.
    assert -0.03 < sound[0] <= 0.001
    assert sound[-1] == pytest.approx(found[-1], abs=0.05)


def test_a_trimmed_clip_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    short = trim(make_video(tmp_path / "long.mp4", pictures(96), "mpeg4", ticks=RATE**-1), tmp_path / "short.mp4", 50)
    short.write_bytes(short.read_bytes()[: int(short.stat().st_size * 0.8)])
    for read in (lambda: look_over(short, RATE), lambda: read_frames(clip(short))):
        with pytest.raises(UserError, match="cannot decode this video"):
            read()


# Durations


@pytest.mark.parametrize("source", ["in.mp4", "in.mkv"])
@pytest.mark.parametrize(("target", "codec"), [
    ("out.mp4", None),
    ("out.mp4", "libx265"),
    ("out.mov", None),
    ("out.mkv", None),
    ("out.mkv", "ffv1"),
    ("out.webm", None),
    ("out.webm", "libsvtav1"),
])  # fmt: skip
def test_a_picture_that_stands_still_at_the_end_is_shown_as_long(
    tmp_path: Path, source: str, target: str, codec: str | None
) -> None:
    still = last_for(tmp_path / source, "libx264", STILL, 5000, {"bf": "0"})
    assert length(still) == pytest.approx(5.8)
    rewrite(still, tmp_path / target, codec)
    assert length(tmp_path / target) == pytest.approx(5.8, abs=1e-3)
    assert times(tmp_path / target) == pytest.approx([when / 1000 for when in STILL], abs=1e-3)
    footage = look_over(tmp_path / target, RATE)
    assert float(footage.end * footage.time_base) == pytest.approx(5.8, abs=1e-3)


@pytest.mark.parametrize("pts", [
    [0, 40, 55, 300, 310, 1000],
    [0, 40, 80, 120, 5000, 5040, 5080, 60000],
    [0, 1000, 2000, 2040, 2080, 2120],
    [0, 40, 540, 3540, 3550, 3590, 3591, 3631, 4134, 4174, 4715, 4765],
])  # fmt: skip
@pytest.mark.parametrize("last", [10, 700])
@pytest.mark.parametrize(("name", "codec"), [("out.mp4", "libx264"), ("out.mov", "libx265")])
def test_reordered_frames_at_uneven_times_last_as_long(
    tmp_path: Path, name: str, codec: str, last: int, pts: list[int]
) -> None:
    rewrite(last_for(tmp_path / "in.mkv", "libx264", pts, last), tmp_path / name, codec)
    assert length(tmp_path / name) == pytest.approx((pts[-1] + last) / 1000, abs=1e-3)
    assert times(tmp_path / name) == pytest.approx([when / 1000 for when in pts], abs=1e-3)


@pytest.mark.parametrize("pts", [[0], [0, 7]])
def test_a_video_of_a_frame_or_two_is_written_by_an_encoder_that_reorders(tmp_path: Path, pts: list[int]) -> None:
    """Which failed in one try of ten."""
    still = last_for(tmp_path / "in.mkv", "libx264", pts, 700)
    for _ in range(8):
        rewrite(still, tmp_path / "out.mp4", "libx265")
        assert length(tmp_path / "out.mp4") == pytest.approx((pts[-1] + 700) / 1000, abs=1e-3)


@pytest.mark.parametrize(("name", "codec"), [("out.mkv", "libx264"), ("out.webm", "libvpx-vp9")])
def test_every_frame_keeps_its_duration_where_the_container_has_one_for_each(
    tmp_path: Path, name: str, codec: str
) -> None:
    pts = [0, 40, 80, 1080, 1100, 1140]
    rewrite(last_for(tmp_path / "in.mkv", "libx264", pts, 700), tmp_path / name, codec)
    with av.open(str(tmp_path / name)) as container:
        assert [frame.duration for frame in container.decode(video=0)] == [40, 40, 1000, 20, 40, 700]


@pytest.mark.parametrize("name", ["out.mp4", "out.mov", "out.mkv", "out.webm"])
@pytest.mark.parametrize("sound", [None, "aac"])
def test_a_steady_video_does_not_become_longer(tmp_path: Path, name: str, sound: str | None) -> None:
    rewrite(make_video(tmp_path / "in.mp4", pictures(25), sound=sound), tmp_path / name)
    footage = look_over(tmp_path / name, RATE)
    first = next(footage.read()).pts
    assert float((footage.end - first) * footage.time_base) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9", "libsvtav1", "ffv1"])
def test_a_raw_stream_lasts_as_long_as_its_rate_says(tmp_path: Path, codec: str) -> None:
    source, target = make_video(tmp_path / "in.h264", pictures(20, 64, 96)), tmp_path / "out.mkv"
    rewrite(source, target, codec)
    assert times(target) == pytest.approx([index / 25 for index in range(20)], abs=1e-3)
    assert length(target) == pytest.approx(0.8, abs=1e-3)


def test_png_frames_last_as_long_as_their_rate_says(tmp_path: Path) -> None:
    rewrite(make_video(tmp_path / "in.mkv", pictures(5), "ffv1", "bgr0"), tmp_path / "frames")
    footage = look_over(tmp_path / "frames", Fraction(10))
    with open_writer(
        tmp_path / "out.mp4", choose_encoding(tmp_path / "out.mp4", None, None), footage, (16, 24), print
    ) as writer:
        for frame in footage.read():
            writer.write(frame)
    assert length(tmp_path / "out.mp4") == pytest.approx(0.5)


# AVI keeps no times of presentation


def test_b_frames_in_avi_are_shown_at_equal_steps_from_the_start_of_the_sound(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.avi", pictures(24), ticks=Fraction(1, 25), sound="libmp3lame")
    with av.open(str(source)) as container:
        stated = [frame.pts for frame in container.decode(video=0)]
    assert stated != sorted(stated)  # what libav makes of them jumps
    rewrite(source, tmp_path / "out.mp4")
    assert times(tmp_path / "out.mp4") == pytest.approx([index / 25 for index in range(24)])
    assert packets(tmp_path / "out.mp4", "audio")[0][0] == pytest.approx(packets(source, "audio")[0][0], abs=1e-3)
    assert length(tmp_path / "out.mp4") == pytest.approx(0.96)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].average_rate == 25


def test_pictures_that_an_avi_leaves_out_are_gaps_and_no_damage(tmp_path: Path) -> None:
    pts = [0, 1, 2, 10, 11, 12]
    source = make_video(tmp_path / "in.avi", pictures(6), "mpeg4", pts=pts, ticks=Fraction(1, 25))
    with av.open(str(source)) as container:
        assert container.streams.video[0].frames == 13
    rewrite(source, tmp_path / "out.mp4")
    assert times(tmp_path / "out.mp4") == pytest.approx([when / 25 for when in pts])
    assert read_frames(clip(source)).shape[0] == 6


def not_coded(index: int) -> bytes:
    """A packet of MPEG-4, 25 ticks per second, that repeats the last picture."""
    bits = f"0101{index:05b}10" + "01111"  # VOP of type P, in this second, its tick, not coded; padding
    return b"\0\0\1\xb6" + int(bits, 2).to_bytes(2, "big")


def test_pictures_that_mpeg4_repeats_are_gaps(tmp_path: Path) -> None:
    """Nothing comes out of the decoder for them, so that counting would let the pictures run ahead of the sound."""
    whole = make_video(tmp_path / "whole.avi", pictures(12), "mpeg4", ticks=1 / RATE)
    with av.open(str(whole)) as source, av.open(str(tmp_path / "in.avi"), "w") as container:
        track = container.add_stream_from_template(source.streams.video[0])
        for index, packet in enumerate(packet for packet in source.demux() if packet.size):
            written = av.Packet(not_coded(index)) if index in (5, 6, 9) else packet
            written.pts, written.dts, written.time_base = packet.pts, packet.dts, packet.time_base
            written.stream = track
            container.mux(written)
    footage = look_over(tmp_path / "in.avi", RATE)
    assert [frame.pts * footage.time_base * 25 for frame in footage.read()] == [0, 1, 2, 3, 4, 7, 8, 10, 11]


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_reordered_frames_in_avi_start_at_zero(tmp_path: Path, codec: str) -> None:
    source = tmp_path / "in.avi"
    with av.open(str(source), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 24, 16, "yuv420p"
        for index, image in enumerate(pictures(12)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p", threads=1)
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with av.open(str(source)) as container:
        assert any(packet.pts != packet.dts for packet in container.demux(video=0))
    footage = look_over(source, RATE)
    assert [frame.pts * footage.time_base * 25 for frame in footage.read()] == list(range(12))
    assert footage.end * footage.time_base == Fraction(12, 25)


@pytest.mark.parametrize("sound", [None, "libmp3lame"])
def test_an_avi_that_is_cut_off_is_refused(tmp_path: Path, sound: str | None) -> None:
    source = make_video(tmp_path / "in.avi", pictures(60), "mpeg4", ticks=Fraction(1, 25), sound=sound)
    source.write_bytes(source.read_bytes()[: int(source.stat().st_size * 0.7)])
    with pytest.raises(UserError, match="cannot decode this video"):
        look_over(source, RATE)
