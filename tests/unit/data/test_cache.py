"""The cache of decoded clips: the same clips as from memory, made once and whole, mapped instead of read."""

from __future__ import annotations

import json
import os
import pickle
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vsrprune.data.cache import CachedClips, cached_clips
from vsrprune.data.clips import Clip
from vsrprune.data.demo import demo_clips
from vsrprune.data.reading import Reading, read_clips
from vsrprune.data.sampling import PatchDataset, StepSampler, patch_loader
from vsrprune.data.sources import ClipSource
from vsrprune.errors import UserError

HOW = Reading(scale=4)


def source(folder: Path, name: str, low: bool = False, frames: int = 3, size: tuple[int, int] = (18, 24)) -> ClipSource:
    def write(part: Path, height: int, width: int) -> list[Path]:
        part.mkdir(parents=True)
        files = [part / f"{index:04d}.png" for index in range(frames)]
        for file in files:
            pixels = np.random.default_rng(len(str(file)) + len(name)).integers(0, 256, (height, width, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(file)
        return files

    height, width = size
    return ClipSource(name, write(folder / name, height, width), write(folder / "low" / name, 4, 6) if low else ())


@pytest.fixture
def sources(tmp_path: Path) -> list[ClipSource]:
    return [source(tmp_path / "clips", "walk"), source(tmp_path / "clips", "run", low=True)]


def same(a: Sequence[Clip], b: Sequence[Clip]) -> bool:
    return len(a) == len(b) and all(
        x.name == y.name and torch.equal(x.high_TCHW, y.high_TCHW) and torch.equal(x.low_TCHW, y.low_TCHW)
        for x, y in zip(a, b, strict=True)
    )


def inodes(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_ino for path in folder.rglob("*.npy")}


def test_cached_clips_equal_those_in_memory_and_are_made_once(sources: list[ClipSource], tmp_path: Path) -> None:
    said: list[str] = []
    folder = tmp_path / "cache"
    for _ in range(2):
        cached = cached_clips(sources[:1], sources[1:], HOW, folder, said.append)
        plain = read_clips(sources[:1], sources[1:], HOW)
        assert same(cached.train, plain.train)
        assert same(cached.val, plain.val)
        assert list(cached.notes) == list(plain.notes)
        assert len(plain.notes) == 1  # 18 rows are cropped to 16
        assert all(source.name in plain.notes[0] for source in sources)
        made = inodes(folder)
        assert len(made) == 4
    assert inodes(folder) == made
    (line,) = said  # nothing to say the second time
    assert "decodes 2 of 2 clips" in line
    assert "GB are free" in line


def test_cached_clips_without_truth_are_their_input_alone(sources: list[ClipSource], tmp_path: Path) -> None:
    how, folder = Reading(scale=4, truth=False), tmp_path / "cache"
    for _ in range(2):
        cached, plain = cached_clips(sources[:1], [], how, folder, print), read_clips(sources[:1], [], how)
        assert same(cached.train, plain.train)
        assert not cached.train[0].has_truth
        assert [Path(path).name for path in inodes(folder)] == ["low.npy"]
    assert same(cached_clips(sources[:1], [], HOW, folder, print).train, read_clips(sources[:1], [], HOW).train)


def test_clips_stay_on_disk(sources: list[ClipSource], tmp_path: Path) -> None:
    clips = cached_clips(sources, [], HOW, tmp_path / "cache", print).train
    assert isinstance(clips, CachedClips)
    mapped, file = clips[0], next((tmp_path / "cache").glob("*/high.npy"))
    both = [mapped.high_TCHW, clips[1].high_TCHW]
    assert len(pickle.dumps(clips)) < 2000  # what another process is sent
    assert same(pickle.loads(pickle.dumps(clips)), clips)
    assert [clip.name for clip in clips[1:]] == ["run"]
    with file.open("r+b") as stream:  # what is on disk when it is touched is what is read
        stream.seek(-1000, os.SEEK_END)
        stream.write(bytes(1000))
    assert sum(not video.flatten()[-1000:].any() for video in both) == 1


def test_training_draws_the_same_batches(tmp_path: Path, sources: list[ClipSource]) -> None:
    lists = [read_clips(sources, [], HOW).train, cached_clips(sources, [], HOW, tmp_path / "cache", print).train]
    for workers in (0, 2):
        one, two = (
            list(patch_loader(PatchDataset(clips, 2, 4, 4, seed=3), StepSampler(2, 4), workers)) for clips in lists
        )
        for a, b in zip(one, two, strict=True):
            assert torch.equal(a.low_NTCHW, b.low_NTCHW)
            assert torch.equal(a.high_NTCHW, b.high_NTCHW)


def test_other_files_and_other_readings_have_folders_of_their_own(sources: list[ClipSource], tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    before = cached_clips(sources, [], HOW, folder, print).train[1].high_TCHW.clone()
    cached_clips(sources, [], Reading(scale=4, max_frames=2), folder, print)
    assert len(inodes(folder)) == 8
    file = sources[1].files[0]
    Image.fromarray(np.zeros((18, 24, 3), np.uint8)).save(file)
    os.utime(file, ns=(1, 1))
    after = cached_clips(sources, [], HOW, folder, print).train[1].high_TCHW
    assert not torch.equal(before[0], after[0])
    assert torch.equal(before[1:], after[1:])
    low_file = sources[1].low_files[0]
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(low_file)
    os.utime(low_file, ns=(1, 1))
    assert not cached_clips(sources, [], HOW, folder, print).train[1].low_TCHW[0].any()


def rewritten(change: Callable[[bytearray], object]) -> Callable[[Path], object]:
    """Change the bytes of high.npy."""

    def damage(folder: Path) -> None:
        content = bytearray((folder / "high.npy").read_bytes())
        change(content)
        (folder / "high.npy").write_bytes(content)

    return damage


def described(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "clip.json").write_text(text)


def without(name: str) -> Callable[[Path], object]:
    """Forget an entry of the description, as an editor might."""

    def damage(folder: Path) -> None:
        about = json.loads((folder / "clip.json").read_text())
        del about[name]
        (folder / "clip.json").write_text(json.dumps(about))

    return damage


def in_its_place(make: Callable[[Path], object]) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        (folder / "high.npy").unlink()
        make(folder / "high.npy")

    return damage


DAMAGES: dict[str, Callable[[Path], object]] = {
    "half": rewritten(lambda content: content.__delitem__(slice(500, None))),
    "cut by a byte": rewritten(lambda content: content.pop()),
    "longer by a byte": rewritten(lambda content: content.append(0)),
    "other pixels": rewritten(lambda content: content.__setitem__(slice(200, 300), bytes(100))),
    "one bit of a pixel": rewritten(lambda content: content.__setitem__(-1, content[-1] ^ 1)),
    "the magic": rewritten(lambda content: content.__setitem__(1, content[1] ^ 128)),
    "the shape in the header": rewritten(lambda content: content.__setitem__(70, content[70] ^ 2)),
    "gone": lambda folder: (folder / "high.npy").unlink(),
    "input gone": lambda folder: (folder / "low.npy").unlink(),
    "a folder in its place": in_its_place(lambda path: path.mkdir()),
    "a link to nothing": in_its_place(lambda path: path.symlink_to(path.parent / "nothing")),
    "no description": lambda folder: (folder / "clip.json").unlink(),
    "torn description": described("{"),
    "empty description": described(""),
    "list for a description": described("[1]"),
    "deep description": described("[" * 100_000),
    "no notes": without("notes"),
    "no shape": without("high.npy"),
    "no checksums": without("sha256"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_made_again(sources: list[ClipSource], tmp_path: Path, damage: str) -> None:
    folder, said = tmp_path / "cache", []
    cached_clips(sources, [], HOW, folder, print)
    broken = next(folder.glob("*/high.npy")).parent
    DAMAGES[damage](broken)
    assert same(cached_clips(sources, [], HOW, folder, said.append).train, read_clips(sources, [], HOW).train)
    assert not list(folder.glob(".*"))
    (warning,) = (line for line in said if "warning" in line)
    assert "is damaged: " in warning
    assert "\n" not in warning
    (aside,) = (folder / "damaged").iterdir()
    assert str(aside) in warning
    said.clear()
    cached_clips(sources, [], HOW, folder, said.append)
    assert said == []


def test_a_clip_that_changes_while_it_is_used_is_not_used_further(sources: list[ClipSource], tmp_path: Path) -> None:
    clips = cached_clips(sources, [], HOW, tmp_path / "cache", print).train
    plain = read_clips(sources, [], HOW).train
    file = next(path for path in (tmp_path / "cache").glob("*/high.npy") if len(list(path.parent.iterdir())) == 3)
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content)  # another process decoded it again: another file, the same pixels
    assert same(clips, plain)
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match=r"high\.npy: this cached clip was changed or removed while it was used"):
        [clip.name for clip in clips]
    file.unlink()
    with pytest.raises(UserError, match=r"changed or removed"):
        [clip.name for clip in pickle.loads(pickle.dumps(clips))]


def test_a_process_that_died_leaves_nothing_that_passes_for_a_clip(sources: list[ClipSource], tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    cached_clips(sources, [], HOW, folder, print)
    done = next(folder.glob("[!.]*"))
    done.rename(folder / f".{done.name}-half")
    assert same(cached_clips(sources, [], HOW, folder, print).train, read_clips(sources, [], HOW).train)


def test_clips_that_cannot_be_read(sources: list[ClipSource], tmp_path: Path) -> None:
    sources[0].files[1].write_bytes(b"no PNG")
    with pytest.raises(UserError, match=r"walk/0001\.png: cannot read this PNG"):
        cached_clips(sources, [], HOW, tmp_path / "cache", print)
    for _ in range(2):  # it is tried again, and listed again
        clips = cached_clips(sources, [], Reading(scale=4, skip_errors=True), tmp_path / "cache", print)
        assert [clip.name for clip in clips.train] == ["run"]
        assert any("1 clips left out" in note and str(sources[0].files[1]) in note for note in clips.notes)


def test_a_place_where_nothing_can_be_written_is_one_line(
    sources: list[ClipSource], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    for folder, reason in ((Path("/proc/x"), "No such file"), (tmp_path / "file" / "cache", "Not a directory")):
        with pytest.raises(UserError, match=f"data.cache_dir={folder}: nothing can be written there .{reason}"):
            cached_clips(sources, [], HOW, folder, print)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UserError, match=r"no permission\); name another folder, or use data\.cache=false"):
        cached_clips(sources, [], HOW, tmp_path / "cache", print)


def test_no_room_is_said_before_anything_is_decoded(sources: list[ClipSource], tmp_path: Path) -> None:
    """A header that announces 9000x9000 pixels, for a hundred thousand frames: 24 million GB."""
    content = bytearray(sources[0].files[0].read_bytes())
    content[16:24] = (9000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    sources[0].files[0].write_bytes(content)
    huge = ClipSource("huge", [sources[0].files[0]] * 100_000)
    with pytest.raises(UserError, match=r"no room to decode 2 clips \(258\d\d\.\d GB, .*data\.cache=false"):
        cached_clips([huge, sources[1]], [], HOW, tmp_path / "cache", print)
    assert not list((tmp_path / "cache").iterdir())


def test_scenes_of_a_cached_video_are_mapped_too(tmp_path: Path) -> None:
    scenes = [clip.high_TCHW for clip in demo_clips(4, 0, 1, 1, 5).train[:2]]
    folder = tmp_path / "film"
    folder.mkdir()
    files = []
    for index, frame in enumerate(torch.cat(scenes).permute(0, 2, 3, 1).numpy()):
        files.append(folder / f"{index}.png")
        Image.fromarray(frame).save(files[-1])
    film = ClipSource("film", files)
    how = Reading(scale=4, scene_cut=0.2, shortest=4)
    cached, plain = cached_clips([film], [], how, tmp_path / "cache", print), read_clips([film], [], how)
    assert [clip.name for clip in cached.train] == ["film_0", "film_1"]
    assert same(cached.train, plain.train)
    assert list(cached.notes) == list(plain.notes)


def test_the_description_names_the_clip(sources: list[ClipSource], tmp_path: Path) -> None:
    cached_clips(sources, [], HOW, tmp_path / "cache", print)
    abouts = [json.loads(path.read_text()) for path in (tmp_path / "cache").glob("*/clip.json")]
    assert sorted((about["clip"], about["high.npy"]) for about in abouts) == [
        ("run", [3, 3, 16, 24]),
        ("walk", [3, 3, 16, 24]),
    ]
