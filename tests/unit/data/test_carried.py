"""Sound, subtitles, marks, chapters, attachments: what is copied, encoded again, or left out with a note."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from videos import make_video, packets, pictures, times

from vsrprune.data.reading import read_frames
from vsrprune.data.sources import ClipSource
from vsrprune.data.video.footage import TimedFrame, look_over
from vsrprune.data.video.writing import choose_encoding, open_writer

RATE, SOUND_RATE = Fraction(25), 48000
MARKED = Disposition.default | Disposition.comment
CHAPTERS = [("One", 0, 400), ("Two", 400, 800)]  # title, start and end in milliseconds
FONT = b"no real font" * 9


def rewrite(source: Path, target: Path) -> list[str]:
    """Every frame of `source`, as it is; what was said."""
    footage, said = look_over(source, RATE), []
    size = (footage.height, footage.width)
    with open_writer(target, choose_encoding(target, None, None), footage, size, said.append) as writer:
        for frame in footage.read():
            writer.write(TimedFrame(frame.pixels_HW3, frame.pts))
    return said


def new_video(container: Any, codec: str, pixel_format: str = "yuv420p") -> Any:
    stream = container.add_stream(codec, rate=25)
    stream.width, stream.height, stream.pix_fmt = 24, 16, pixel_format
    return stream


def encode_pictures(container: Any, stream: Any, count: int, seed: int = 0, first: int = 0) -> None:
    for index, image in enumerate(pictures(count, seed=seed), start=first):
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p", threads=1)
        frame.pts = index
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def encode_sound(container: Any, stream: Any, seconds: float, layout: str = "mono", rate: int = SOUND_RATE) -> None:
    """A sine in every channel, each an octave above the one before."""
    channels = av.AudioLayout(layout).nb_channels
    samples = np.arange(round(seconds * rate)) / rate
    waves = np.stack([np.sin(samples * 2 * np.pi * 110 * 2**channel) for channel in range(channels)])
    for start in range(0, len(samples), 1024):
        block = (waves[:, start : start + 1024] * 9000).astype(np.int16).T.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="s16", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def with_sound(file: Path, codec: str, layout: str, rate: int = SOUND_RATE, video: str = "mpeg4") -> Path:
    with av.open(str(file), "w") as container:
        stream = new_video(container, video)
        sound = container.add_stream(codec, rate=rate, layout=layout)
        encode_pictures(container, stream, 24)
        encode_sound(container, sound, 0.96, layout, rate)
    return file


def film(file: Path) -> Path:
    """Two tracks of sound, the second marked; titles, languages, chapters, metadata; in Matroska an attachment."""
    with av.open(str(file), "w") as container:
        webm = file.suffix == ".webm"
        video = new_video(container, "libvpx-vp9" if webm else "libx264")
        first, second = (container.add_stream("libopus" if webm else "aac", rate=SOUND_RATE) for _ in range(2))
        for stream, words, marks in (
            (video, {"title": "Pictures", "language": "fra"}, Disposition.default),
            (first, {"language": "eng"}, Disposition(0)),
            (second, {"language": "fra", "title": "Commentary"}, MARKED),
        ):
            stream.metadata.update(words)
            stream.disposition = marks
        container.metadata.update({"title": "Film", "artist": "Somebody", "comment": "A word"})
        container.set_chapters([
            {"id": index, "start": start, "end": end, "time_base": Fraction(1, 1000), "metadata": {"title": title}}
            for index, (title, start, end) in enumerate(CHAPTERS, start=1)
        ])  # fmt: skip
        if file.suffix == ".mkv":
            container.add_attachment("letters.ttf", "application/x-truetype-font", FONT)
        encode_pictures(container, video, 20)
        for stream in (first, second):
            encode_sound(container, stream, 0.8, "stereo")
    return file


# Sound


@pytest.mark.parametrize("target", ["out.mp4", "out.mov", "out.mkv", "out.webm"])
@pytest.mark.parametrize(("name", "codec", "layout", "rate", "expected"), [
    ("in.avi", "pcm_u8", "mono", 8000, "mono"),
    ("in.avi", "adpcm_ms", "stereo", 22050, "stereo"),
    ("in.mkv", "pcm_s16le", "6 channels", 48000, "5.1"),
])  # fmt: skip
def test_sound_whose_channels_have_no_places_gets_the_usual_ones(
    tmp_path: Path, target: str, name: str, codec: str, layout: str, rate: int, expected: str
) -> None:
    source = with_sound(tmp_path / name, codec, layout, rate)
    with av.open(str(source)) as container:
        assert "channels" in container.streams.audio[0].layout.name
        before = sum(frame.samples for frame in container.decode(audio=0)) / rate
    said = rewrite(source, tmp_path / target)
    assert len(times(tmp_path / target)) == 24
    with av.open(str(tmp_path / target)) as container:
        stream = container.streams.audio[0]
        copied = stream.codec_context.codec.canonical_name == codec
        assert said == [] if copied else "is encoded again as" in said[0]
        assert stream.layout.nb_channels == av.AudioLayout(expected).nb_channels
        assert copied or stream.layout.name == expected
        after = sum(frame.samples for frame in container.decode(audio=0)) / stream.rate
    assert after == pytest.approx(before, abs=0.03)


@pytest.mark.parametrize("target", ["out.mp4", "out.mkv", "out.webm"])
def test_what_a_decoder_keeps_back_at_the_end_is_encoded_too(tmp_path: Path, target: str) -> None:
    """Windows Media's keeps 46 ms back."""
    source = tmp_path / "in.wmv"
    with av.open(str(source), "w") as container:
        stream = new_video(container, "wmv2")
        sound = container.add_stream("wmav2", rate=44100, layout="stereo")
        sound.bit_rate = 128000
        encode_pictures(container, stream, 24)
        encode_sound(container, sound, 0.96, "stereo", 44100)
    with av.open(str(source)) as container:
        before = sum(frame.samples for frame in container.decode(audio=0)) / 44100
    rewrite(source, tmp_path / target)
    with av.open(str(tmp_path / target)) as container:
        after = sum(frame.samples for frame in container.decode(audio=0)) / container.streams.audio[0].rate
    assert before - 0.01 < after < before + 0.045  # AAC's decoder plays two frames of padding


@pytest.mark.parametrize(("target", "codec"), [("out.webm", "flac"), ("out.mov", "flac")])
def test_loudspeakers_at_the_side_become_loudspeakers_at_the_back(tmp_path: Path, target: str, codec: str) -> None:
    source = with_sound(tmp_path / "in.mkv", codec, "5.1(side)")
    (note,) = rewrite(source, tmp_path / target)
    assert "is encoded again as" in note
    with av.open(str(tmp_path / target)) as container:
        assert container.streams.audio[0].layout.name == "5.1"
        last = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)[-1]
        rate = container.streams.audio[0].rate
    loudest = np.fft.rfftfreq(len(last), 1 / rate)[np.abs(np.fft.rfft(last)).argmax()]
    assert loudest == pytest.approx(110 * 2**5, abs=5)  # the right one at the side, now at the back


def test_stereo_is_the_last_resort_and_said(tmp_path: Path) -> None:
    source = with_sound(tmp_path / "in.mkv", "flac", "2.1")
    (note,) = rewrite(source, tmp_path / "out.webm")
    assert "audio stream 1 (flac) is encoded again as libopus in stereo" in note
    with av.open(str(tmp_path / "out.webm")) as container:
        assert container.streams.audio[0].layout.name == "stereo"


def test_sound_that_cannot_be_kept_does_not_cost_the_pictures(tmp_path: Path) -> None:
    source = with_sound(tmp_path / "in.mkv", "pcm_s16le", "12 channels")
    (note,) = rewrite(source, tmp_path / "out.webm")
    assert note == "note: audio stream 1 (pcm_s16le) is left out: .webm does not take it"
    assert len(times(tmp_path / "out.webm")) == 24
    with av.open(str(tmp_path / "out.webm")) as container:
        assert len(container.streams) == 1


@pytest.mark.parametrize("target", ["out.webm", "out.mp4"])
def test_damaged_sound_does_not_cost_the_pictures(tmp_path: Path, target: str) -> None:
    """Two packets of noise in the middle; in MP4 they are copied, since nothing reads them."""
    whole = with_sound(tmp_path / "whole.mkv", "aac", "stereo", video="libx264")
    draw = np.random.default_rng(0)
    with av.open(str(whole)) as source, av.open(str(tmp_path / "in.mkv"), "w") as container:
        tracks = [container.add_stream_from_template(stream) for stream in source.streams]
        for index, packet in enumerate(packet for packet in source.demux() if packet.size):
            if packet.stream_index == 1 and index in (30, 31, 32, 33):
                noise = av.Packet(draw.integers(0, 256, 200, np.uint8).tobytes())
                noise.pts, noise.dts, noise.time_base = packet.pts, packet.dts, packet.time_base
                noise.stream = tracks[1]
                container.mux(noise)
                continue
            packet.stream = tracks[packet.stream_index]
            container.mux(packet)
    said = rewrite(tmp_path / "in.mkv", tmp_path / target)
    assert len(times(tmp_path / target)) == 24
    if target.endswith("webm"):
        assert any("audio stream 1 (aac): " in line and "packets cannot be read or written" in line for line in said)
    else:
        assert len(packets(tmp_path / target, "audio")) == len(packets(tmp_path / "in.mkv", "audio"))


# What the file says


@pytest.mark.parametrize("source", ["in.mkv", "in.mp4", "in.webm"])
@pytest.mark.parametrize("target", ["out.mkv", "out.mp4", "out.mov", "out.webm"])
def test_marks_titles_languages_chapters_and_metadata_are_carried(tmp_path: Path, source: str, target: str) -> None:
    said = rewrite(film(tmp_path / source), tmp_path / target)
    with av.open(str(tmp_path / target)) as container:
        video, first, second = [stream for stream in container.streams if stream.type in ("video", "audio")]
        about = {key.lower(): value for key, value in container.metadata.items()}
        chapters = [
            (chapter["metadata"]["title"], *(chapter[side] * chapter["time_base"] * 1000 for side in ("start", "end")))
            for chapter in container.chapters()
        ]
    assert (about["title"], about["artist"], about["comment"]) == ("Film", "Somebody", "A word")
    assert chapters == CHAPTERS
    titles = [stream.metadata.get("title", stream.metadata.get("name")) for stream in (video, first, second)]
    assert titles == ["Pictures", None, "Commentary"]
    assert [stream.metadata["language"] for stream in (video, first, second)] == ["fra", "eng", "fra"]
    assert [bool(stream.disposition & Disposition.default) for stream in (video, first, second)] == [True, False, True]
    kept = Disposition.comment & second.disposition
    with av.open(str(tmp_path / source)) as container:
        marked = any(stream.disposition & Disposition.comment for stream in container.streams.audio)
    assert bool(kept) or not marked or any(line.startswith("note: of audio stream 2, comment") for line in said)
    assert not any("data stream" in line for line in said)  # MP4's chapters are a track that FFmpeg hides


def test_what_a_container_has_no_place_for_is_said(tmp_path: Path) -> None:
    source = film(tmp_path / "in.mkv")
    with av.open(str(source)) as film_, av.open(str(tmp_path / "odd.mkv"), "w") as container:
        video = container.add_stream_from_template(film_.streams.video[0])
        video.metadata["language"] = "deu"  # MOV knows German as ger
        container.metadata["oddity"] = "kept in Matroska"
        for packet in film_.demux(video=0):
            if packet.size:
                packet.stream = video
                container.mux(packet)
    assert rewrite(tmp_path / "odd.mkv", tmp_path / "out.mkv") == []
    assert rewrite(tmp_path / "odd.mkv", tmp_path / "out.mov") == [
        "note: of the file, oddity cannot be kept: .mov has no place for it",
        "note: of video stream 0, language cannot be kept: .mov has no place for it",
    ]


def test_forced_subtitles_stay_forced(tmp_path: Path) -> None:
    plain = make_video(tmp_path / "plain.mkv", pictures(10), subtitles="subrip")
    with av.open(str(plain)) as source, av.open(str(tmp_path / "in.mkv"), "w") as container:
        tracks = [container.add_stream_from_template(stream) for stream in source.streams]
        tracks[1].disposition = Disposition.forced
        for packet in source.demux():
            if packet.size:
                packet.stream = tracks[packet.stream_index]
                container.mux(packet)
    assert rewrite(tmp_path / "in.mkv", tmp_path / "out.mkv") == []
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert container.streams.subtitles[0].disposition == Disposition.forced


def test_chapters_move_with_the_pictures_of_a_file_that_begins_later(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "in.mkv"), "w") as container:
        stream = new_video(container, "libx264")
        container.set_chapters([
            {"id": index, "start": start, "end": end, "time_base": Fraction(1, 1000), "metadata": {}}
            for index, (start, end) in enumerate([(0, 1400), (1400, 2000)], start=1)
        ])  # fmt: skip
        encode_pictures(container, stream, 25, first=25)
    rewrite(tmp_path / "in.mkv", tmp_path / "out.mkv")
    assert times(tmp_path / "out.mkv")[0] == 0
    with av.open(str(tmp_path / "out.mkv")) as container:
        moved = [
            [chapter[side] * chapter["time_base"] for side in ("start", "end")] for chapter in container.chapters()
        ]
    assert moved == [[0, Fraction(2, 5)], [Fraction(2, 5), 1]]


def test_attachments_go_from_matroska_to_matroska(tmp_path: Path) -> None:
    source = film(tmp_path / "in.mkv")
    assert rewrite(source, tmp_path / "out.mkv") == []
    with av.open(str(tmp_path / "out.mkv")) as container:
        (attached,) = [stream for stream in container.streams if stream.type == "attachment"]
        assert (attached.metadata["filename"], attached.mimetype) == ("letters.ttf", "application/x-truetype-font")
        assert attached.data == FONT
    assert any("attachment stream 3" in line and "left out" in line for line in rewrite(source, tmp_path / "out.mp4"))


# Several streams of pictures


def test_of_two_videos_the_one_marked_default_is_taken_and_the_other_named(tmp_path: Path) -> None:
    source = tmp_path / "in.mkv"
    with av.open(str(source), "w") as container:
        streams = [new_video(container, "ffv1") for _ in range(2)]
        streams[0].disposition, streams[1].disposition = Disposition(0), Disposition.default
        for seed, stream in enumerate(streams):
            encode_pictures(container, stream, 3, seed)
    plain = tmp_path / "plain.mkv"
    with av.open(str(plain), "w") as container:
        encode_pictures(container, new_video(container, "ffv1"), 3, 1)
    np.testing.assert_array_equal(read_frames(ClipSource("a", (source,))), read_frames(ClipSource("b", (plain,))))
    (note,) = rewrite(source, tmp_path / "out.mkv")
    assert note == (
        "note: video stream 0 (ffv1) is left out: only one video stream is super-resolved, the one marked default or"
        " the first"
    )


@pytest.mark.parametrize("first", [True, False])
def test_a_cover_picture_is_left_out_with_a_note(tmp_path: Path, first: bool) -> None:
    source = tmp_path / "in.mp4"
    with av.open(str(source), "w") as container:
        kinds = [("mjpeg", "yuvj420p"), ("libx264", "yuv420p")][:: 1 if first else -1]
        cover, video = [new_video(container, *kind) for kind in kinds][:: 1 if first else -1]
        cover.disposition = Disposition.attached_pic
        frame = av.VideoFrame.from_ndarray(pictures(1)[0], format="rgb24").reformat(format="yuvj420p")
        frame.pts = 0
        container.mux(cover.encode(frame))
        container.mux(cover.encode())
        encode_pictures(container, video, 5)
    (note,) = rewrite(source, tmp_path / "out.mp4")
    assert "(mjpeg) is left out: it is a cover picture" in note
    assert len(times(tmp_path / "out.mp4")) == 5
