"""What is read of a video and of PNG folders, and what is refused before any work starts."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from videos import make_video, pictures, times

from vsrprune.data.reading import picture_note, read_frames
from vsrprune.data.sources import ClipSource
from vsrprune.data.video.footage import look_over
from vsrprune.data.video.orientation import Orientation
from vsrprune.errors import UserError

RATE = Fraction(25)


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        look_over(path, RATE)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def write_pngs(folder: Path, images: list[np.ndarray]) -> Path:
    folder.mkdir()
    for index, image in enumerate(images, start=8):
        Image.fromarray(image).save(folder / f"{index}.png")
    return folder


@pytest.mark.parametrize("name", ["v.mp4", "v.mov", "v.mkv", "v.webm"])
def test_a_variable_frame_rate_keeps_its_times(tmp_path: Path, name: str) -> None:
    pts = [0, 3600, 7200, 9000, 27000, 27900, 90000]
    codec = "libvpx-vp9" if name.endswith("webm") else "libx264"
    footage = look_over(make_video(tmp_path / name, pictures(7), codec, pts=pts), RATE)
    frames = list(footage.read())
    assert (footage.height, footage.width, footage.frames) == (16, 24, 7)
    found = [float(frame.pts * footage.time_base) for frame in frames]
    np.testing.assert_allclose(found, np.array(pts) / 90000, atol=0.0006)  # Matroska counts milliseconds


def test_pixels_are_those_that_were_encoded(tmp_path: Path) -> None:
    images = pictures(4, 33, 35)
    footage = look_over(make_video(tmp_path / "v.mkv", images, "ffv1", "bgr0"), RATE)
    for frame, image in zip(footage.read(), images, strict=True):
        np.testing.assert_array_equal(frame.pixels_HW3, image)


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le", "yuv444p", "gray"])
def test_odd_sizes_and_ten_bits(tmp_path: Path, pixel_format: str) -> None:
    images = [np.full((33, 35, 3), 90, np.uint8)] * 3
    footage = look_over(make_video(tmp_path / "v.mkv", images, "ffv1", pixel_format), RATE)
    frames = list(footage.read())
    assert [frame.pixels_HW3.shape for frame in frames] == [(33, 35, 3)] * 3
    assert np.abs(frames[1].pixels_HW3.astype(int) - 90).max() <= 1


@pytest.mark.parametrize(("rotation", "corner"), [(90, (-1, 0)), (-90, (0, -1)), (180, (-1, -1))])
def test_frames_stand_upright(tmp_path: Path, rotation: int, corner: tuple[int, int]) -> None:
    """The corner of a picture that is white at its top left moves as the container's rotation says."""
    image = np.zeros((32, 48, 3), np.uint8)
    image[:12, :12] = 255
    footage = look_over(make_video(tmp_path / "v.mp4", [image] * 2, rotation=rotation), RATE)
    frame = next(footage.read())
    assert frame.pixels_HW3.shape == (footage.height, footage.width, 3)
    assert (footage.height, footage.width) == ((32, 48) if rotation == 180 else (48, 32))
    assert frame.pixels_HW3[corner].min() > 200
    assert frame.pixels_HW3[0, 0].max() < 50


def test_frames_are_freed_as_soon_as_nobody_holds_them(tmp_path: Path) -> None:
    """Side data that are read make an av.VideoFrame refer to itself: it would stay until garbage is collected."""
    make_video(tmp_path / "v.mp4", [np.zeros((32, 48, 3), np.uint8)] * 5, rotation=90)
    shown = Orientation()
    with av.open(str(tmp_path / "v.mp4")) as container:
        first, *others = container.decode(video=0)
    shown.upright(np.zeros((32, 48, 3), np.uint8), first)
    for frame in others:
        before = sys.getrefcount(frame)
        shown.upright(np.zeros((32, 48, 3), np.uint8), frame)
        assert sys.getrefcount(frame) == before


@pytest.mark.parametrize("turned", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [{}, {"hflip": True}, {"vflip": True}])
def test_mirrored_frames_are_shown_mirrored_in_training_too(
    tmp_path: Path, turned: int, mirrored: dict[str, bool]
) -> None:
    """By numpy's turn and mirrors, of a picture whose four corners differ."""
    image = np.zeros((32, 48, 3), np.uint8)
    image[:16, :24], image[:16, 24:], image[16:, :24] = (200, 30, 30), (30, 200, 30), (30, 30, 200)
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv444p"
        stream.set_display_rotation(turned, **mirrored)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    expected = np.rot90(image, turned // 90)
    expected = np.fliplr(expected) if "hflip" in mirrored else np.flipud(expected) if mirrored else expected
    footage = look_over(tmp_path / "v.mp4", RATE)
    assert (footage.height, footage.width) == expected.shape[:2]
    shown = next(footage.read()).pixels_HW3
    assert np.abs(shown.astype(int) - expected).mean() < 6
    (trained_CHW,) = read_frames(ClipSource("v", (tmp_path / "v.mp4",)))
    np.testing.assert_array_equal(trained_CHW.permute(1, 2, 0).numpy(), shown)


def test_interlaced_pictures_are_taken_for_progressive_and_said(tmp_path: Path) -> None:
    file = make_video(tmp_path / "v.mkv", pictures(4, 32, 48), "ffv1", "yuv420p")
    assert look_over(file, RATE).notes == ()
    with av.open(str(tmp_path / "fields.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"x264-params": "tff=1"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for image in pictures(4, 32, 48):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    (note,) = look_over(tmp_path / "fields.mkv", RATE).notes
    assert "interlaced" in note
    assert "interlaced" in picture_note(ClipSource("fields", (tmp_path / "fields.mkv",)))  # of training and the doctor
    assert picture_note(ClipSource("v", (file,))) == ""


def test_time_is_counted_from_the_start_of_the_file(tmp_path: Path) -> None:
    file = make_video(tmp_path / "v.ts", pictures(5), pts=[90000 + 3600 * index for index in range(5)])
    assert times(file)[0] >= 1.0
    footage = look_over(file, RATE)
    assert [round(frame.pts * footage.time_base * 25) for frame in footage.read()] == [0, 1, 2, 3, 4]


def test_a_raw_stream_gets_times_by_its_rate(tmp_path: Path) -> None:
    footage = look_over(make_video(tmp_path / "v.h264", pictures(5)), RATE)
    assert footage.frames == 5
    seconds = [float(frame.pts * footage.time_base) for frame in footage.read()]
    np.testing.assert_allclose(np.diff(seconds), float(1 / footage.rate), atol=1e-4)


def test_a_folder_of_png_frames(tmp_path: Path) -> None:
    """In the order of their numbers, 8, 9, 10, at the rate asked for."""
    images = pictures(3, 17, 19)
    footage = look_over(write_pngs(tmp_path / "frames", images), Fraction(30000, 1001))
    frames = list(footage.read())
    assert [float(frame.pts * footage.time_base) for frame in frames] == pytest.approx([0, 1.001 / 30, 2.002 / 30])
    for frame, image in zip(frames, images, strict=True):
        np.testing.assert_array_equal(frame.pixels_HW3, image)


def test_frames_of_two_sizes_are_refused(tmp_path: Path) -> None:
    folder = write_pngs(tmp_path / "frames", [*pictures(3), *pictures(1, 20, 20)])
    with pytest.raises(UserError, match=r"11\.png: the frame is 20x20, but 8\.png is 24x16"):
        look_over(folder, RATE)


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    assert "no such file or folder" in refusal(tmp_path / "none.mp4")
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    assert "cannot decode this video" in refusal(text)
    (tmp_path / "empty").mkdir()
    assert "no PNG frames" in refusal(tmp_path / "empty")
    sound = tmp_path / "sound.wav"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    assert "no video stream" in refusal(sound)


@pytest.mark.parametrize("sound", [None, "aac"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.85])
@pytest.mark.parametrize(
    ("name", "options"),
    [("v.mp4", {}), ("v.mp4", {"movflags": "faststart"}), ("v.mkv", {})],
    ids=["mp4", "fast", "mkv"],
)
def test_a_video_that_is_cut_off_is_refused_before_it_is_read(
    tmp_path: Path, name: str, options: dict[str, str], share: float, sound: str | None
) -> None:
    whole = make_video(tmp_path / name, pictures(60), "mpeg4", ticks=Fraction(1, 25), sound=sound, options=options)
    assert look_over(whole, RATE).frames == 60
    whole.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    refusal(whole)


def test_a_text_file_is_refused_though_ffmpeg_would_draw_it(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no video at all\n" * 100)
    with pytest.raises(UserError, match=r"notes\.txt: is text"):
        look_over(tmp_path / "notes.txt", Fraction(25))
