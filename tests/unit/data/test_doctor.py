"""The data doctor finds every planted fault, names it, and says nothing of a healthy data set."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from videos import make_video

from vsrprune.data.degradation import DEGRADATIONS, degrade
from vsrprune.data.doctor.doctor import (
    DoctorSettings,
    Finding,
    all_findings,
    examine_clip,
    exit_code,
    fitting_degradations,
    perceptual_hash,
)
from vsrprune.data.doctor.report import check_data
from vsrprune.data.sources import ClipSource

HEIGHT, WIDTH, SCALE = 48, 64, 4


def settings(**changes: Any) -> DoctorSettings:
    values = {
        "scale": SCALE,
        "halve": False,
        "frames": 3,
        "patch": 8,
        "skip_errors": False,
        "degradations": ("bicubic",),
    }
    return DoctorSettings(**{**values, **changes})


def scene(seed: int, frames: int = 6, height: int = HEIGHT, width: int = WIDTH) -> list[Any]:
    """Pictures of blobs of their own, drifting, with a little noise; the same scene at any size."""
    draw = np.random.default_rng(seed)
    places, colours = draw.random((14, 3)), draw.integers(0, 256, (14, 3))
    y, x = np.mgrid[:height, :width] / (height, width)[0]
    pictures = []
    for index in range(frames):
        picture = np.full((height, width, 3), 90.0)
        for (row, column, size), colour in zip(places, colours, strict=True):
            near = (y - row) ** 2 + (x - column * width / height - index * 0.01) ** 2 < (0.05 + 0.2 * size) ** 2
            picture[near] = colour
        noise = np.random.default_rng((seed, index)).normal(0, 2, picture.shape)
        pictures.append(np.clip(picture + noise, 0, 255).astype(np.uint8))
    return pictures


def write(folder: Path, pictures: Sequence[Any]) -> tuple[Path, ...]:
    folder.mkdir(parents=True)
    files = tuple(folder / f"{index:03d}.png" for index in range(len(pictures)))
    for file, picture in zip(files, pictures, strict=True):
        Image.fromarray(picture).save(file)
    return files


def clip(folder: Path, name: str, pictures: Sequence[Any], low: str = "") -> ClipSource:
    """A clip of PNG frames; low: a degradation to store its low-resolution frames by."""
    files = write(folder / "high" / name, pictures)
    if not low:
        return ClipSource(name, files)
    high_TCHW = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    made = degrade(high_TCHW, SCALE, low).permute(0, 2, 3, 1).numpy()
    return ClipSource(name, files, write(folder / "low" / name, list(made)))


def findings(train: Sequence[ClipSource], test: Sequence[ClipSource], **changes: Any) -> list[Finding]:
    wanted = settings(**changes)
    facts = [examine_clip(source, "train", wanted) for source in train]
    facts += [examine_clip(source, "test", wanted) for source in test]
    return all_findings(facts, wanted)


def test_at_scale_1_nothing_is_said_of_low_resolution(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, test = (clip(tmp_path, f"walk{seed}", scene(seed)) for seed in (0, 7))
    wanted = settings(scale=1, patch=HEIGHT)
    assert check_data([train], [test], wanted, [], Console(width=200)) == 0
    assert "low-resolution" not in capsys.readouterr().out


def the_one(found: Sequence[Finding]) -> Finding:
    assert len(found) == 1, found
    return found[0]


def test_nothing_is_said_of_a_healthy_set(tmp_path: Path) -> None:
    train = [clip(tmp_path, f"walk{seed}", scene(seed), "bicubic") for seed in range(3)]
    test = [clip(tmp_path, f"city{seed}", scene(seed), "bicubic") for seed in (7, 8)]
    assert findings(train, test) == []
    console = Console(record=True, width=80)
    assert check_data(train, test, settings(), [Finding("note", "data", "a note of the reader", "")], console) == 0
    text = console.export_text()
    assert "made by bicubic" in text
    assert "a note of the reader" in text
    assert "64x48 (3)" in text
    assert "0 errors, 0 warnings, 1 note; exit code 0" in text


@pytest.mark.parametrize(("skip", "severity"), [(False, "error"), (True, "warning")])
def test_a_truncated_png_is_named_and_the_others_are_read(tmp_path: Path, skip: bool, severity: str) -> None:
    source = clip(tmp_path, "walk", scene(0))
    for index in (2, 4):
        content = source.files[index].read_bytes()
        source.files[index].write_bytes(content[: len(content) // 2])
    found = findings([source], [], skip_errors=skip)
    assert [(finding.severity, finding.where) for finding in found] == [
        (severity, str(source.files[index])) for index in (2, 4)
    ]


def test_a_truncated_video_is_named(tmp_path: Path) -> None:
    path = make_video(tmp_path / "walk.mp4", scene(0, frames=40))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    other = make_video(tmp_path / "other.mp4", scene(1))
    found = the_one(findings([ClipSource("walk", (path,)), ClipSource("other", (other,))], []))
    assert found.severity == "error"
    assert found.what.startswith(str(path))


def test_a_frame_of_another_size_is_named(tmp_path: Path) -> None:
    source = clip(tmp_path, "walk", scene(0))
    Image.fromarray(scene(0, 1, 40, 64)[0]).save(source.files[3])
    found = the_one(findings([source], []))
    assert (found.severity, found.where) == ("error", str(source.files[3]))
    assert "64x40, but the clip began with 64x48" in found.what


def test_a_low_resolution_frame_of_the_wrong_size_is_named(tmp_path: Path) -> None:
    source = clip(tmp_path, "walk", scene(0), "bicubic")
    Image.fromarray(scene(0, 1, 12, 15)[0]).save(source.low_files[1])
    found = the_one(findings([source], []))
    assert (found.severity, found.where) == ("error", str(source.low_files[1]))
    assert "15x12, but 1/4 of the other frame is 16x12" in found.what


@pytest.mark.parametrize("made", DEGRADATIONS)
@pytest.mark.parametrize("taken", ["bicubic", "bd_basicvsr"])
def test_the_degradation_of_stored_frames_is_found(tmp_path: Path, made: str, taken: str) -> None:
    train, test = clip(tmp_path, "walk", scene(0), made), clip(tmp_path, "city", scene(7), made)
    families = {
        "bicubic": ("bicubic", "bicubic_uint8_passes"),
        "bd_basicvsr": ("bd_basicvsr", "bd_duf", "bd_duf_frames"),
    }
    found = findings([train], [test], degradations=families[taken])
    if made in families[taken]:
        assert found == []
    else:
        assert [(finding.severity, finding.where) for finding in found] == [("warning", "train"), ("warning", "test")]
        assert f"made by {made}, not by {taken}" in found[0].what


@pytest.mark.parametrize(("made", "alike"), [
    (("bd_basicvsr", "bd_duf_frames"), False),
    (("bd_duf", "bd_duf_frames"), True),
    (("bicubic", "bicubic_uint8_passes"), True),
    (("", "bd_basicvsr"), True),  # the settings' first makes what is not stored
    (("bd_duf", ""), False),
])  # fmt: skip
def test_training_on_one_degradation_and_testing_on_another_is_told(
    tmp_path: Path, made: tuple[str, str], alike: bool
) -> None:
    train, test = (clip(tmp_path, name, scene(seed), low) for name, seed, low in zip("ab", (0, 7), made, strict=True))
    taken = ("bd_basicvsr", *(name for name in DEGRADATIONS if name != "bd_basicvsr"))
    found = findings([train], [test], degradations=taken)
    if alike:
        assert found == []
    else:
        told = the_one(found)
        assert (told.severity, told.where) == ("warning", "test")
        expected = {"bd_basicvsr": ("bd_duf_frames", "bd_basicvsr"), "bd_duf": ("bd_basicvsr", "bd_duf")}[made[0]]
        assert told.what == "the low-resolution frames are of {}, but those to train on are of {}".format(*expected)


def test_frames_that_no_degradation_made_are_told(tmp_path: Path) -> None:
    source = clip(tmp_path, "walk", scene(0), "bicubic")
    for file in source.low_files:
        with Image.open(file) as image:
            image.point(lambda level: min(level + 9, 255)).save(file)
    found = the_one(findings([source], []))
    assert found.severity == "warning"
    assert "made by no degradation known here; nearest is bicubic" in found.what


def test_frozen_pictures_are_counted(tmp_path: Path) -> None:
    pictures = scene(0)
    found = the_one(findings([clip(tmp_path, "walk", [*pictures[:3], pictures[2], *pictures[3:], pictures[-1]])], []))
    assert found.severity == "warning"
    assert "2 frames are copies of the one before: 3, 7" in found.what


def test_the_same_clip_twice_is_told(tmp_path: Path) -> None:
    first = clip(tmp_path, "walk", scene(0))
    shutil.copytree(tmp_path / "high/walk", tmp_path / "high/again")
    again = ClipSource("again", tuple(sorted((tmp_path / "high/again").iterdir())))
    found = the_one(findings([first, again, clip(tmp_path, "other", scene(1))], []))
    assert (found.severity, found.where, found.what) == ("warning", "again", "the same pixels as walk")


@pytest.mark.parametrize("change", ["as it is", "recompressed", "rescaled", "a part of it"])
def test_a_test_clip_in_the_training_set_is_found(tmp_path: Path, change: str) -> None:
    train = [clip(tmp_path, f"walk{seed}", scene(seed, 12)) for seed in range(4)]
    if change == "recompressed":
        leak = ClipSource("leak", (make_video(tmp_path / "leak.mp4", scene(2, 12), options={"crf": "33"}),))
    elif change == "rescaled":
        leak = clip(tmp_path, "leak", [np.asarray(Image.fromarray(p).resize((96, 72))) for p in scene(2, 12)])
    else:
        leak = clip(tmp_path, "leak", scene(2, 12)[4:9] if change == "a part of it" else scene(2, 12))
    found = the_one(findings(train, [leak, clip(tmp_path, "clean", scene(9))]))
    assert (found.severity, found.where) == ("error", "leak")
    assert "also stand in the training clip walk2" in found.what


def test_flat_pictures_are_like_nothing(tmp_path: Path) -> None:
    black = [np.zeros((HEIGHT, WIDTH, 3), np.uint8) + index for index in range(4)]
    assert perceptual_hash(black[0]) == 0
    assert findings([clip(tmp_path, "dark", black)], [clip(tmp_path, "night", [p + 5 for p in black])]) == []


def test_clips_that_training_cannot_take_are_told(tmp_path: Path) -> None:
    found = findings([clip(tmp_path, "walk", scene(0))], [], frames=9, patch=20)
    assert [finding.advice.split(", or ")[1] for finding in found] == ["schedule.frames=6", "schedule.patch=12"]
    assert {finding.severity for finding in found} == {"error"}
    halved = the_one(findings([clip(tmp_path / "b", "walk", scene(0))], [], patch=8, halve=True))
    assert "its input has 6 pixels a side" in halved.what


def test_a_patch_that_halved_frames_cannot_hold_is_told_with_what_would_do(tmp_path: Path) -> None:
    source = clip(tmp_path, "walk", scene(0, 3, 480, 640))
    found = the_one(findings([source], [], patch=64, halve=True))
    assert (found.severity, found.what) == ("error", "its input has 60 pixels a side, but a training patch has 64")
    assert found.advice == "leave it out, or schedule.patch=60, or data.halve=false"


def test_frames_smaller_than_the_scale_are_not_to_be_cured_by_patches_of_nothing(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((3, 3, 3), np.uint8)).save(tmp_path / "0.png")
    findings = examine_clip(ClipSource("dot", (tmp_path / "0.png",)), "train", settings(frames=1, patch=8)).findings
    assert [finding.advice for finding in findings if finding.severity == "error"] == ["leave it out"]


def test_what_is_cropped_is_told(tmp_path: Path) -> None:
    source = clip(tmp_path, "walk", scene(0, 3, 50, 67))
    found = the_one(findings([source], []))
    assert (found.severity, found.where) == ("note", "walk")
    assert found.what == "its 67x50 pixels are cropped to 64x48, a multiple of the scale 4"
    halved = the_one(findings([source], [], halve=True, patch=4))
    assert halved.what == "its 33x25 pixels are cropped to 32x24, a multiple of the scale 4"


def test_a_test_clip_of_which_too_little_is_compared_is_told(tmp_path: Path) -> None:
    source = clip(tmp_path, "walk", scene(0, 3))
    assert findings([], [source], crop=18) == []
    found = the_one(findings([], [source], crop=19))
    assert found.severity == "error"
    assert "data.crop=19 leaves less than 11x11 pixels" in found.what
    assert findings([source], [], crop=19) == []


def test_only_the_frames_that_are_read_are_examined(tmp_path: Path) -> None:
    source = clip(tmp_path, "walk", scene(0, 12), "bicubic")
    for file in (source.files[5], source.low_files[6]):
        file.write_bytes(b"")
    for file in source.low_files[4:]:
        with Image.open(file) if file != source.low_files[6] else Image.new("RGB", (16, 12)) as image:
            image.point(lambda level: 255 - level).save(file)
    facts = examine_clip(source, "train", settings(max_frames=4))
    assert (facts.frames, facts.findings) == (4, [])
    assert fitting_degradations([facts]) == ["bicubic"]
    assert "4 frames, but a training step takes 5" in the_one(findings([source], [], max_frames=4, frames=5)).what
    video = ClipSource("video", (make_video(tmp_path / "walk.mp4", scene(0, 12)),))
    assert examine_clip(video, "train", settings(max_frames=4)).frames == 4


def test_exit_codes_are_those_of_the_worst() -> None:
    kinds = [Finding(severity, "walk", "what", "advice") for severity in ("note", "warning", "error")]
    assert [exit_code(kinds[:count]) for count in range(4)] == [0, 0, 1, 2]
