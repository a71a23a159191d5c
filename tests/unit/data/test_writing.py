"""Videos and PNG folders as they are written, read back by PyAV."""

from __future__ import annotations

import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from videos import make_video, packets, pictures, times

from vsrprune.data.video.colour import BT709, SMPTE170M
from vsrprune.data.video.footage import TimedFrame, look_over
from vsrprune.data.video.writing import ENCODERS, choose_encoding, open_writer
from vsrprune.errors import UserError

LIMITED = 1
RATE = Fraction(25)


def rewrite(source: Path, target: Path, codec: str | None = None, scale: int = 2) -> list[str]:
    """Every frame of `source`, `scale` times as large by repeating pixels, and what was said about it."""
    footage, said = look_over(source, RATE), []
    size = (footage.height * scale, footage.width * scale)
    with open_writer(target, choose_encoding(target, codec, None), footage, size, said.append) as writer:
        for frame in footage.read():
            writer.write(TimedFrame(frame.pixels_HW3.repeat(scale, 0).repeat(scale, 1), frame.pts))
    return said


def frames(path: Path) -> list[np.ndarray]:
    return [frame.pixels_HW3 for frame in look_over(path, RATE).read()]


def facts(path: Path) -> tuple:
    """Matrix, range, primaries, transfer, pixel aspect of a video's stream."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        tags = context.colorspace, context.color_range, context.color_primaries, context.color_trc
        return (*tags, stream.sample_aspect_ratio)


@pytest.mark.parametrize("codec", ENCODERS)
def test_every_encoder_keeps_pictures_and_times(tmp_path: Path, codec: str) -> None:
    pts = [0, 3600, 7200, 9000, 27000, 27900, 90000]
    source = make_video(tmp_path / "in.mkv", pictures(7, 64, 96), "ffv1", pts=pts)
    target = tmp_path / f"out{ENCODERS[codec].containers[0]}"
    assert rewrite(source, target, codec) == []
    np.testing.assert_allclose(times(target), np.array(pts) / 90000, atol=0.0006)
    for before, after in zip(frames(source), frames(target), strict=True):
        enlarged = before.repeat(2, 0).repeat(2, 1).astype(float)
        assert np.abs(enlarged - after).mean() < 3
    assert facts(target)[:2] == (SMPTE170M, LIMITED)


@pytest.mark.parametrize("name", ["out.mp4", "out.mov"])
def test_times_are_exact_where_the_container_counts_finely(tmp_path: Path, name: str) -> None:
    pts = [0, 3003, 6006, 9009, 30000, 30001, 95000]
    source = make_video(tmp_path / "in.mp4", pictures(7), pts=pts)
    rewrite(source, tmp_path / name)
    assert times(tmp_path / name) == pytest.approx([tick / 90000 for tick in pts], abs=1e-9)


def test_a_high_definition_output_has_its_own_matrix(tmp_path: Path) -> None:
    """480 lines of BT.601 become 960 of BT.709, and look the same."""
    colour = (200, 100, 50)
    tags = {"colorspace": SMPTE170M, "color_range": LIMITED, "color_primaries": 6, "color_trc": 6}
    source = make_video(tmp_path / "in.mp4", [np.full((480, 640, 3), colour, np.uint8)] * 2, tags=tags)
    rewrite(source, tmp_path / "out.mp4")
    assert facts(tmp_path / "out.mp4")[:4] == (BT709, LIMITED, 6, 6)
    for path in (source, tmp_path / "out.mp4"):
        assert np.abs(frames(path)[1][100, 100].astype(int) - colour).max() <= 3


def test_pixels_that_are_not_square_stay_so(tmp_path: Path) -> None:
    tags = {"sample_aspect_ratio": Fraction(16, 11)}
    rewrite(make_video(tmp_path / "in.mp4", pictures(3), tags=tags), tmp_path / "out.mp4")
    assert facts(tmp_path / "out.mp4")[4] == Fraction(16, 11)
    turned = make_video(tmp_path / "turned.mp4", pictures(3), tags=tags, rotation=90)
    rewrite(turned, tmp_path / "upright.mp4")
    assert facts(tmp_path / "upright.mp4")[4] == Fraction(11, 16)
    with av.open(str(tmp_path / "upright.mp4")) as container:
        assert {frame.rotation for frame in container.decode(video=0)} == {0}


@pytest.mark.parametrize(("codec", "size"), [("libx264", (34, 22)), ("ffv1", (33, 21)), ("libvpx-vp9", (33, 21))])
def test_odd_sizes(tmp_path: Path, codec: str, size: tuple[int, int]) -> None:
    source = make_video(tmp_path / "in.mkv", pictures(3, 11, 7), "ffv1", "bgr0")
    said = rewrite(source, tmp_path / "out.mkv", codec, scale=3)
    footage = look_over(tmp_path / "out.mkv", RATE)
    assert (footage.height, footage.width) == size
    assert len(said) == (codec == "libx264")


# Sound and subtitles


@pytest.mark.parametrize(("name", "sound", "target"), [
    ("in.mp4", "aac", "out.mp4"),
    ("in.mp4", "aac", "out.mkv"),
    ("in.mkv", "libmp3lame", "out.mp4"),
    ("in.mkv", "libopus", "out.webm"),
    ("in.mkv", "flac", "out.mkv"),
])  # fmt: skip
def test_sound_is_copied(tmp_path: Path, name: str, sound: str, target: str) -> None:
    source = make_video(tmp_path / name, pictures(30), sound=sound)
    assert rewrite(source, tmp_path / target) == []
    before, after = packets(source, "audio"), packets(tmp_path / target, "audio")
    assert len(before) > 10
    assert [content for _, content in after] == [content for _, content in before]
    shifted, shown = times(tmp_path / target)[0] - times(source)[0], len(times(tmp_path / target))
    # Where sound begins before zero, as AAC does, Matroska moves sound and pictures together.
    assert [when - shifted for when, _ in after] == pytest.approx([when for when, _ in before], abs=0.0011)
    assert 0 <= shifted < 0.03
    assert shown == 30


@pytest.mark.parametrize(("sound", "target"), [("aac", "out.webm"), ("pcm_s16le", "out.webm")])
def test_sound_that_a_container_does_not_take_is_encoded_again(tmp_path: Path, sound: str, target: str) -> None:
    source = make_video(tmp_path / "in.mkv", pictures(50), sound=sound)
    (note,) = rewrite(source, tmp_path / target)
    assert f"audio stream 1 ({sound}) is encoded again as libopus" in note
    levels = []
    for path in (source, tmp_path / target):
        with av.open(str(path)) as container:
            decoded = [frame.to_ndarray().astype(float) for frame in container.decode(audio=0)]
            rate = container.streams.audio[0].rate
        samples = np.concatenate([block.ravel() for block in decoded])
        samples = samples / 32768 if np.abs(samples).max() > 2 else samples
        levels.append((np.sqrt((samples**2).mean()), len(samples) / rate))
    assert levels[1][0] == pytest.approx(levels[0][0], rel=0.1)
    assert levels[1][1] == pytest.approx(levels[0][1], abs=0.1)


def test_subtitles_are_copied_or_left_out_with_a_word(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mkv", pictures(10), sound="aac", subtitles="subrip")
    assert rewrite(source, tmp_path / "out.mkv") == []
    assert packets(tmp_path / "out.mkv", "subtitle") == packets(source, "subtitle")
    (note,) = rewrite(source, tmp_path / "out.mp4")
    assert "subtitle stream 2 (subrip) is left out" in note
    assert len(times(tmp_path / "out.mp4")) == 10


def test_sound_keeps_its_place_when_the_file_does_not_start_at_zero(tmp_path: Path) -> None:
    pts = [90000 + 3600 * index for index in range(30)]
    source = make_video(tmp_path / "in.ts", pictures(30), sound="aac", pts=pts)
    rewrite(source, tmp_path / "out.mkv")
    offsets = [packets(path, "audio")[0][0] - times(path)[0] for path in (source, tmp_path / "out.mkv")]
    assert offsets[1] == pytest.approx(offsets[0], abs=0.002)


# PNG folders


@pytest.mark.parametrize("name", ["concat:a.mp4", "shot: 1.mp4", "%03d.mp4", "-i.mp4"])
def test_no_name_means_more_than_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    make_video(tmp_path / name, pictures(3), sound="aac")
    rewrite(Path(name), Path(f"out {name}"))
    assert len(times(tmp_path / f"out {name}")) == len(packets(tmp_path / f"out {name}", "video")) == 3
    assert packets(tmp_path / f"out {name}", "audio")


@pytest.mark.parametrize("letter", ["x", "ü"])
def test_a_name_may_be_as_long_as_the_file_system_takes(tmp_path: Path, letter: str) -> None:
    target = tmp_path / (letter * (251 // len(letter.encode())) + ".mp4")
    rewrite(make_video(tmp_path / "in.mp4", pictures(2)), target)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["in.mp4", target.name])


def test_a_folder_of_frames_from_a_video(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mkv", pictures(3), "ffv1", "bgr0", sound="aac", subtitles="subrip")
    (note,) = rewrite(source, tmp_path / "out")
    assert note == (
        f"note: PNG frames have no times ({source} has 25 frames per second on average), and audio stream 1 (aac),"
        " subtitle stream 2 (subrip) left out"
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{index:08d}.png" for index in range(3)]
    for path, image in zip(sorted((tmp_path / "out").iterdir()), pictures(3), strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(path)), image.repeat(2, 0).repeat(2, 1))


def test_frames_of_a_folder_keep_their_names(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, image in zip(("shot9", "shot10"), pictures(2), strict=True):
        Image.fromarray(image).save(tmp_path / "in" / f"{name}.png")
    rewrite(tmp_path / "in", tmp_path / "out")
    for name, image in zip(("shot9", "shot10"), pictures(2), strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / f"{name}.png"))[::2, ::2], image)
    rewrite(tmp_path / "in", tmp_path / "film.mp4")
    assert times(tmp_path / "film.mp4") == [0.0, 0.04]


# What goes wrong


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out"])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_of_a_file_that_is_not_finished(tmp_path: Path, name: str, error: type[BaseException]) -> None:
    footage = look_over(make_video(tmp_path / "in.mp4", pictures(5), sound="aac"), RATE)
    target = tmp_path / name
    if target.suffix:
        target.write_text("precious")
    else:
        target.mkdir()
        (target / "precious.png").touch()
    before = sorted(tmp_path.rglob("*"))

    def broken() -> None:
        encoding = choose_encoding(target, None, None)
        with open_writer(target, encoding, footage, (16, 24), print) as writer:
            writer.write(next(footage.read()))
            raise error

    with pytest.raises(error):
        broken()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.png").touch()
    rewrite(make_video(tmp_path / "in.mp4", pictures(2)), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["00000000.png", "00000001.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out"]


@pytest.mark.parametrize(("target", "codec", "crf", "expected"), [
    ("out.gif", None, None, "cannot write .gif; give one of .mp4, .mkv, .mov, .webm, or a name without suffix"),
    ("a/.mp4", None, None, "a/.mp4: is a suffix without a name"),
    ("out.webm", "libx264", None, ".webm does not take --codec libx264; give one of libvpx-vp9, libsvtav1"),
    ("out.mp4", "h265", None, "--codec must be one of libx264, libx265, libvpx-vp9, libsvtav1, ffv1; got 'h265'"),
    ("out.mp4", None, 52, "--crf must be from 0 (best) to 51 for libx264; got 52"),
    ("out.mkv", "ffv1", 5, "--crf 5 does not go with ffv1"),
    ("frames", None, 5, "--crf 5 is for videos"),
    ("frames", "libx264", None, "--codec libx264 is for videos"),
])  # fmt: skip
def test_wrong_encodings_are_refused(target: str, codec: str | None, crf: int | None, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        choose_encoding(Path(target), codec, crf)
    assert expected in str(caught.value)


def test_a_place_that_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", pictures(2))
    with pytest.raises(UserError, match=r"none/out\.mp4: cannot write this video"):
        rewrite(source, tmp_path / "none" / "out.mp4")


KILLED = """
import os, signal, sys
from pathlib import Path
from vsrprune.data.video.writing import _replacing
with _replacing(Path(sys.argv[1])) as unfinished:
    unfinished.write_text("half a video")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_writer_left_goes_when_the_target_is_next_written(tmp_path: Path) -> None:
    source, target = make_video(tmp_path / "in.mp4", pictures(3)), tmp_path / "out.mp4"
    others = [tmp_path / name for name in (".out-mine.mp4", ".out-0123456789ab.mp4", "out-0123456789ab.mp4.lock")]
    for other in others:
        other.write_text("of someone else")
    assert subprocess.run([sys.executable, "-c", KILLED, target], check=False).returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 6
    rewrite(source, target)
    assert sorted(tmp_path.iterdir()) == sorted([source, target, *others])


def test_two_writers_of_a_target_leave_each_other_alone(tmp_path: Path) -> None:
    source, target = make_video(tmp_path / "in.mp4", pictures(3)), tmp_path / "out"
    footage = look_over(source, RATE)
    with open_writer(target, None, footage, (footage.height, footage.width), print) as writer:
        for frame in footage.read():
            writer.write(frame)
        under_way = {path for path in tmp_path.rglob("*") if ".out-" in str(path)}
        assert len(under_way) == 5  # a folder, its frames and its lock
        rewrite(source, target)
        assert under_way < set(tmp_path.rglob("*"))
    assert sorted(tmp_path.iterdir()) == [source, target]
    assert look_over(target, RATE).height == footage.height  # of the one that ended last
