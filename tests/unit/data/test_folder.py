"""Which clips a folder has, what of it is left out, and that all of this is said."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from videos import pictures

from vsrprune.config.job import Config
from vsrprune.data.folder import VIDEO_SUFFIXES, find_folder, frame_files, holes
from vsrprune.data.reading import read_frames
from vsrprune.data.sources import ClipSource
from vsrprune.errors import UserError
from vsrprune.jobs.planning import plan_job
from vsrprune.stages.clips import job_clips


def write(folder: Path, *names: str, size: tuple[int, int] = (8, 12)) -> Path:
    """A folder of pictures of smooth noise, in the format that each name asks for."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in zip(names, pictures(len(names), *size), strict=True):
        Image.fromarray(picture).save(folder / name)
    return folder


def frames(folder: Path, count: int = 2) -> Path:
    return write(folder, *(f"{index:04d}.png" for index in range(count)))


def video(path: Path, container: str | None = None) -> Path:
    with av.open(str(path), "w", format=container) as written:
        stream = written.add_stream(
            {"mpeg": "mpeg2video", "asf": "wmv2", "3gp": "mpeg4"}.get(container, "libx264"), rate=25
        )
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        for image in pictures(20, 16, 32):
            written.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        written.mux(stream.encode())
    return path


def names_of(clips: Sequence[ClipSource]) -> list[str]:
    return [clip.name for clip in clips]


def test_finds_folders_of_frames_and_videos_by_name(tmp_path: Path) -> None:
    frames(tmp_path / "walk", count=3)
    frames(tmp_path / "city")
    video(tmp_path / "sea.mp4")
    video(tmp_path / "Bay.MKV", "matroska")
    (tmp_path / "notes.txt").write_text("not a clip")
    (tmp_path / "empty").mkdir()
    found = find_folder(str(tmp_path))
    assert names_of(found.clips) == ["Bay", "city", "sea", "walk"]
    assert [clip.is_video for clip in found.clips] == [True, False, True, False]
    assert found.clips[2].files == (tmp_path / "sea.mp4",)
    assert found.clips[3].files == tuple(tmp_path / "walk" / f"{index:04d}.png" for index in range(3))
    assert found.warnings == ()
    assert found.notes == ("left out notes.txt, empty: neither frames nor videos",)


def test_a_folder_of_frames_is_one_clip(tmp_path: Path) -> None:
    frames(tmp_path / "walk", count=2)
    (tmp_path / "walk" / "0002.PNG").write_bytes((tmp_path / "walk" / "0001.png").read_bytes())
    (clip,) = find_folder(str(tmp_path / "walk")).clips
    assert clip.name == "walk"
    assert [file.name for file in clip.files] == ["0000.png", "0001.png", "0002.PNG"]
    assert not clip.is_video


def test_a_clip_in_the_current_folder_is_named_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames(tmp_path / "walk")
    monkeypatch.chdir(tmp_path / "walk")
    assert names_of(find_folder(".").clips) == ["walk"]


def test_a_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames(tmp_path / "clips" / "walk")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert names_of(find_folder("~/clips").clips) == ["walk"]


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no clips found; expected video files \(\.mp4.*sub-folders of PNG") as caught:
        find_folder(str(tmp_path))
    assert str(tmp_path) in str(caught.value)


def test_no_folder_at_all_is_answered_with_what_to_type() -> None:
    with pytest.raises(UserError, match=r"data\.path is empty: name the folder .* such as data\.path=CLIPS"):
        find_folder("")


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_what_is_no_folder_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").write_text("")
    path = str(tmp_path / kind)
    with pytest.raises(UserError, match=r"data\.path must be a folder") as caught:
        find_folder(path)
    assert repr(path) in str(caught.value)


@pytest.mark.parametrize("others", [("sea.mp4", "sea.mkv"), ("sea.mp4", "sea")])
def test_two_clips_of_one_name_are_refused(tmp_path: Path, others: Sequence[str]) -> None:
    for other in others:
        if "." in other:
            video(tmp_path / other)
        else:
            frames(tmp_path / other)
    with pytest.raises(UserError, match="two clips are called 'sea'; rename one"):
        find_folder(str(tmp_path))


# Names that are no data


def test_names_of_the_system_are_neither_clips_nor_frames(tmp_path: Path) -> None:
    for name in ("a", ".thumbnails", ".ipynb_checkpoints", "__MACOSX"):
        frames(tmp_path / name)
    (tmp_path / "a" / "._0000.png").write_bytes(b"resource fork")
    video(tmp_path / "b.mp4")
    (tmp_path / "._b.mp4").write_bytes(b"resource fork")
    found = find_folder(str(tmp_path))
    assert names_of(found.clips) == ["a", "b"]
    assert [file.name for file in found.clips[0].files] == ["0000.png", "0001.png"]
    assert (found.warnings, found.notes) == ((), ())


# JPEGs, and videos by any name


def test_jpeg_frames_are_read_in_order_among_pngs_and_this_is_said(tmp_path: Path) -> None:
    write(tmp_path / "a", "9.png", "10.jpg", "11.JPEG", size=(32, 48))
    found = find_folder(str(tmp_path))
    assert [file.name for file in found.clips[0].files] == ["9.png", "10.jpg", "11.JPEG"]
    assert found.notes == (
        "frames are JPEGs in a: what the compression did to them counts as detail, unless data.halve=true averages it",
    )
    read_THWC = read_frames(found.clips[0]).permute(0, 2, 3, 1).numpy()
    for name, frame, picture in zip(("9.png", "10.jpg", "11.JPEG"), read_THWC, pictures(3, 32, 48), strict=True):
        with Image.open(tmp_path / "a" / name) as image:
            assert np.array_equal(frame, np.asarray(image))
        assert np.array_equal(frame, picture) == (name == "9.png")


def test_a_jpeg_beside_a_png_of_the_same_name_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "a", "0.png", "0.jpg", "1.png", "1.jpg")
    found = find_folder(str(tmp_path))
    assert [file.name for file in found.clips[0].files] == ["0.png", "1.png"]
    assert found.warnings == ("a: left out 0.jpg, 1.jpg: JPEGs beside PNGs of the same names",)


def test_posters_beside_videos_are_no_clip(tmp_path: Path) -> None:
    video(tmp_path / "a.mp4")
    write(tmp_path, "a.jpg")
    found = find_folder(str(tmp_path))
    assert names_of(found.clips) == ["a"]
    assert found.warnings == ("left out a.jpg: JPEG pictures beside clips",)


FORMATS = {".m4v": "mp4", ".ts": "mpegts", ".mts": "mpegts", ".wmv": "asf", ".mpg": "mpeg", ".unheard_of": "matroska"}


@pytest.mark.parametrize("suffix", [*FORMATS, ".flv", ".3gp", ".nut"])
def test_videos_of_every_suffix_that_libav_opens_are_clips(tmp_path: Path, suffix: str) -> None:
    video(tmp_path / f"sea{suffix}", FORMATS.get(suffix, suffix.removeprefix(".")))
    (clip,) = find_folder(str(tmp_path)).clips
    assert (clip.name, clip.is_video) == ("sea", True)
    assert read_frames(clip).shape[1:] == (3, 16, 32)


@pytest.mark.parametrize(
    "content", [b"", b"export const answer = 42\n", bytes(range(256)) * 20, b'{"clips": []}'], ids=len
)
def test_files_that_are_no_videos_are_left_out_and_this_is_said(tmp_path: Path, content: bytes) -> None:
    frames(tmp_path / "a")
    (tmp_path / "b.ts").write_bytes(content)
    Image.fromarray(pictures(1)[0]).save(tmp_path / "c.bmp")
    found = find_folder(str(tmp_path))
    assert names_of(found.clips) == ["a"]
    assert found.notes == ("left out b.ts: neither frames nor videos",)
    assert found.warnings == (f"{tmp_path.name}: left out c.bmp: pictures that are neither PNG nor JPEG",)


def test_every_suffix_is_lower_case() -> None:
    assert all(suffix == suffix.lower() for suffix in VIDEO_SUFFIXES)


# What is left out


def test_everything_that_is_left_out_of_a_clip_is_said(tmp_path: Path) -> None:
    folder = frames(tmp_path / "a", 3)
    (folder / "0003.png").symlink_to(tmp_path / "gone.png")
    write(folder, "0004.bmp")
    video(folder / "preview.mp4")
    frames(folder / "depth")
    (folder / "empty").mkdir()
    found = find_folder(str(tmp_path))
    assert [file.name for file in found.clips[0].files] == ["0000.png", "0001.png", "0002.png"]
    assert found.warnings == (
        "a: left out 0003.png: links to nothing",
        "a: left out 0004.bmp: pictures that are neither PNG nor JPEG",
        "a: left out preview.mp4: videos in a folder of frames",
        "a: left out depth: folders in a folder of frames",
    )


def test_clips_one_folder_deeper_are_named(tmp_path: Path) -> None:
    frames(tmp_path / "a")
    for name in ("x", "y"):
        frames(tmp_path / "day1" / name)
    (tmp_path / "day2").mkdir()
    video(tmp_path / "day2" / "z.mp4")
    found = find_folder(str(tmp_path))
    assert names_of(found.clips) == ["a"]
    assert found.warnings == (
        "day1: left out, its clips lie one folder deeper (x, y); data.path=.../day1 reads them",
        "day2: left out, its clips lie one folder deeper (z.mp4); data.path=.../day2 reads them",
    )


def test_a_folder_that_has_clips_deeper_alone_is_refused_by_their_place(tmp_path: Path) -> None:
    for name in ("GT", "BIx4"):
        frames(tmp_path / name / "calendar")
    with pytest.raises(
        UserError, match=r"GT: left out, its clips lie one folder deeper \(calendar\); data.train_path="
    ):
        find_folder(str(tmp_path), "data.train_path")


def test_folders_of_frames_in_another_format_are_named(tmp_path: Path) -> None:
    frames(tmp_path / "a")
    write(tmp_path / "b", *(f"{index}.tif" for index in range(7)))
    found = find_folder(str(tmp_path))
    assert found.warnings == (
        "b: left out, no PNG or JPEG frames in it (0.tif, 1.tif, 2.tif, 3.tif, 4.tif, ... (7 in all))",
    )


# Holes in the numbering


@pytest.mark.parametrize(("numbers", "expected"), [
    ([0, 1, 2, 4, 5], [(2, 4)]),
    ([0, 1, 3], [(1, 3)]),
    ([7, 8, 9], []),
    ([0, 2, 4, 6], []),  # every second frame was kept
    ([0, 2, 4, 8], [(4, 8)]),
    ([0, 33, 67, 100, 133], []),  # milliseconds
    ([5], []),
    ([0, 5], []),
])  # fmt: skip
def test_a_hole_is_where_the_numbers_jump_further_than_elsewhere(
    numbers: list[int], expected: list[tuple[int, int]]
) -> None:
    found = holes([Path(f"clip_2_{number:03d}.png") for number in numbers])
    assert [(int(before.stem[-3:]), int(after.stem[-3:])) for before, after in found] == expected


def test_names_without_numbers_in_order_have_no_holes() -> None:
    assert holes([Path(name) for name in ("a1_x.png", "a9_x.png", "b.png")]) == []
    assert holes([Path(name) for name in ("a_1_2.png", "a_2_2.png", "a_9_2.png")]) == []


def test_a_hole_is_said_with_the_names_of_its_neighbours(tmp_path: Path) -> None:
    frames(tmp_path / "a", 6)
    (tmp_path / "a" / "0003.png").unlink()
    assert find_folder(str(tmp_path)).warnings == (
        "a: the numbers jump from 0002.png to 0004.png; these frames count as neighbours",
    )


def test_many_holes_are_counted(tmp_path: Path) -> None:
    write(tmp_path / "a", "000.png", *(f"{3 * index + 1:03d}.png" for index in range(8)))
    (sentence,) = find_folder(str(tmp_path)).warnings
    assert sentence.startswith("a: the numbers jump from 001.png to 004.png, from 004.png to 007.png, from ")
    assert sentence.endswith("from 013.png to 016.png and 2 times more; these frames count as neighbours")


# What training says


def test_training_says_what_was_left_out(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / "clips" / name, *(f"{index}.png" for index in range(6)), size=(48, 48))
    (tmp_path / "clips" / "a" / "4.png").unlink()
    (tmp_path / "clips" / "list.json").write_text("{}")
    config = Config()
    config.store_dir, config.data.name, config.data.path = str(tmp_path / "store"), "folder", str(tmp_path / "clips")
    config.schedule.patch, config.schedule.frames = 8, 3
    said: list[str] = []
    notes = job_clips(plan_job(config), said.append).notes
    expected = [
        "left out list.json: neither frames nor videos",
        "a: the numbers jump from 3.png to 5.png; these frames count as neighbours",
    ]
    assert list(notes) == expected
    assert said == [f"  note: {note}" for note in expected]
    assert list(job_clips(plan_job(config), pytest.fail, noted=True).notes) == expected


# Frames that cannot be read


def damaged(tmp_path: Path) -> list[Path]:
    good = np.asarray(pictures(1, 32, 48)[0])
    made = []
    for suffix in (".png", ".jpg"):
        whole = tmp_path / f"whole{suffix}"
        Image.fromarray(good).save(whole)
        content = whole.read_bytes()
        for kind, damage in {
            "empty": b"",
            "cut": content[: len(content) // 2],
            "head": content[:12],
            "other": b"<html>404</html>",
            "zeros": bytes(len(content)),
        }.items():
            made.append(tmp_path / f"{kind}{suffix}")
            made[-1].write_bytes(damage)
    return made


def test_every_unreadable_frame_is_one_line_with_its_name(tmp_path: Path) -> None:
    for file in damaged(tmp_path):
        with pytest.raises(UserError) as caught:
            read_frames(ClipSource("walk", (file,)))
        text = str(caught.value)
        kind = "PNG" if file.suffix == ".png" else "JPEG"
        assert text.startswith(f"{file}: cannot read this {kind} (")
        assert "\n" not in text


def test_a_picture_too_large_for_pillow_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "0.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(UserError, match=r"0\.png: cannot read this PNG \(Image size"):
        read_frames(ClipSource("walk", (tmp_path / "0.png",)))


def test_a_jpeg_in_the_colours_of_print_is_refused(tmp_path: Path) -> None:
    Image.fromarray(pictures(1)[0]).convert("CMYK").save(tmp_path / "0.jpg")
    with pytest.raises(UserError, match=r"0\.jpg: the frame has the colours of print"):
        read_frames(ClipSource("walk", (tmp_path / "0.jpg",)))


def test_frame_files_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    write(tmp_path, "10.png", "9.png", "1.jpg")
    assert [file.name for file in frame_files(tmp_path)] == ["1.jpg", "9.png", "10.png"]


def test_a_name_that_is_no_text_is_refused_in_one_line(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4")).touch()  # as Latin-1 writes it
    with pytest.raises(UserError) as caught:
        find_folder(str(tmp_path))
    assert str(caught.value) == f"{tmp_path}: the name b'caf\\xe9.mp4' in it is not UTF-8; rename it"
