"""Splitting clips, and recognising whether their content changed."""

import errno
import json
import os
import shutil

import av
import numpy as np
import pytest
from PIL import Image

from vsrprune.data import sources
from vsrprune.data.folder import find_folder
from vsrprune.data.sources import (
    ClipSource,
    clips_identity,
    demo_photo,
    photos_identity,
    set_aside,
    split_clips,
)
from vsrprune.errors import UserError


def write_frames(folder, count=2, seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        pixels = np.random.default_rng((seed, index)).integers(0, 256, (8, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:04d}.png")


def write_video(path, frames=3, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=24)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        for index in range(frames):
            pixels = np.random.default_rng((seed, index)).integers(0, 256, (16, 32, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def clips_named(*names):
    return [ClipSource(name, ()) for name in names]


def names_of(clips):
    return [clip.name for clip in clips]


# split_clips


def test_split_by_both_names_keeps_the_given_order():
    clips = clips_named("a", "b", "c", "d")
    train, val = split_clips(clips, ["d", "a"], ["c"], 0.5, 0)
    assert (names_of(train), names_of(val)) == (["d", "a"], ["c"])


def test_split_by_one_side_takes_the_rest():
    clips = clips_named("a", "b", "c", "d")
    train, val = split_clips(clips, [], ["c"], 0.5, 0)
    assert (names_of(train), names_of(val)) == (["a", "b", "d"], ["c"])
    train, val = split_clips(clips, ["b"], [], 0.5, 0)
    assert (names_of(train), names_of(val)) == (["b"], ["a", "c", "d"])


@pytest.mark.parametrize(
    ("count", "share", "held_out"), [(2, 0.01, 1), (2, 0.99, 1), (10, 0.2, 2), (10, 0.99, 9), (7, 0.5, 4), (3, 0.2, 1)]
)
def test_split_by_share(count, share, held_out):
    clips = clips_named(*"abcdefghij"[:count])
    train, val = split_clips(clips, [], [], share, 0)
    assert len(val) == held_out
    assert sorted(names_of(train) + names_of(val)) == names_of(clips)


def test_split_by_share_depends_on_the_seed_alone():
    clips = clips_named(*"abcdefghij")
    splits = {seed: tuple(names_of(split_clips(clips, [], [], 0.3, seed)[1])) for seed in range(20)}
    again = {seed: tuple(names_of(split_clips(clips, [], [], 0.3, seed)[1])) for seed in range(20)}
    assert splits == again
    assert len(set(splits.values())) > 10


def test_overlap_is_refused_by_name():
    clips = clips_named("a", "b", "c")
    with pytest.raises(UserError, match=r"data\.train and data\.val share b, c; a held-out clip is never trained on"):
        split_clips(clips, ["a", "b", "c"], ["c", "b"], 0.5, 0)


@pytest.mark.parametrize(("train", "val", "knob"), [(["x"], [], "data.train"), ([], ["x"], "data.val")])
def test_an_unknown_name_lists_what_exists(train, val, knob):
    with pytest.raises(UserError) as caught:
        split_clips(clips_named("a", "b"), train, val, 0.5, 0)
    assert str(caught.value) == f"{knob} names the unknown clip 'x'; there are: a, b"


@pytest.mark.parametrize(
    ("names", "train", "val"), [("a", [], []), ("a", ["a"], []), ("a", [], ["a"]), ("ab", ["a", "b"], [])]
)
def test_an_empty_side_is_refused(names, train, val):
    with pytest.raises(UserError, match="at least one clip to train on and one held out"):
        split_clips(clips_named(*names), train, val, 0.5, 0)


# clips_identity


@pytest.fixture
def material(tmp_path):
    write_frames(tmp_path / "one" / "walk")
    write_video(tmp_path / "one" / "sea.mp4")
    for file in (tmp_path / "one").rglob("*.*"):
        os.utime(file, (1_000_000_000, 1_000_000_000))  # whatever is written later has another time
    return tmp_path / "one"


def identity(folder, cache):
    return clips_identity(find_folder(str(folder)).clips, cache)


def test_a_cache_in_a_store_that_may_only_be_read_is_done_without(material, tmp_path, monkeypatch):
    expected = identity(material, tmp_path / "cache.json")

    def refuse(path, text):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("vsrprune.store.atomic.write_atomically", refuse)
    assert identity(material, tmp_path / "store" / "cache.json") == expected


def test_identity_ignores_the_folder_and_times(material, tmp_path):
    before = identity(material, tmp_path / "cache.json")
    shutil.copytree(material, tmp_path / "deep" / "two", copy_function=shutil.copyfile)
    os.utime(tmp_path / "deep" / "two" / "sea.mp4", (1, 1))
    assert identity(tmp_path / "deep" / "two", tmp_path / "other.json") == before
    material.rename(tmp_path / "moved")
    assert identity(tmp_path / "moved", tmp_path / "cache.json") == before


def flip_last_byte(file):
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: flip_last_byte(folder / "sea.mp4"),
        lambda folder: flip_last_byte(folder / "walk" / "0001.png"),
        lambda folder: write_frames(folder / "walk", count=3),
        lambda folder: (folder / "walk" / "0001.png").unlink(),
        lambda folder: (folder / "walk" / "0001.png").rename(folder / "walk" / "0002.png"),
        lambda folder: (folder / "sea.mp4").rename(folder / "ocean.mp4"),
        lambda folder: (folder / "walk").rename(folder / "wander"),
        lambda folder: write_video(folder / "sky.mp4"),
    ],
    ids=["video", "frame", "more frames", "fewer frames", "frame name", "video name", "clip name", "more clips"],
)
def test_identity_changes_with_the_content(material, tmp_path, change):
    cache = tmp_path / "cache.json"
    before = identity(material, cache)
    change(material)
    assert identity(material, cache) != before


@pytest.mark.parametrize("position", [0, 100_000, 199_999])
def test_identity_samples_begin_middle_and_end_of_large_files(tmp_path, position):
    file = tmp_path / "large.mp4"
    file.write_bytes(bytes(200_000))
    clip = [ClipSource("large", (file,))]
    before = clips_identity(clip, tmp_path / "cache.json")
    data = bytearray(200_000)
    data[position] = 1
    file.write_bytes(data)
    os.utime(file, ns=(0, 0))  # another time than before, however coarse the file system's clock
    assert clips_identity(clip, tmp_path / "cache.json") != before


def test_the_cache_is_reused(material, tmp_path, monkeypatch):
    cache = tmp_path / "store" / "cache.json"
    before = identity(material, cache)
    written = cache.read_bytes()

    def refuse(file, size):
        raise AssertionError(f"{file} was read again")

    monkeypatch.setattr(sources, "_sampled_hash", refuse)
    assert identity(material, cache) == before
    assert cache.read_bytes() == written
    os.utime(material / "sea.mp4", (1, 1))
    with pytest.raises(AssertionError, match=r"sea\.mp4 was read again"):
        identity(material, cache)


def test_the_cache_keeps_what_other_clips_left(material, tmp_path):
    cache = tmp_path / "cache.json"
    identity(material, cache)
    before = json.loads(cache.read_text())["hashes"]
    write_frames(tmp_path / "two" / "fly")
    identity(tmp_path / "two", cache)
    after = json.loads(cache.read_text())["hashes"]
    assert len(before) == 3
    assert len(after) == 5
    assert before.items() <= after.items()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"cut off',
        b"[]",
        b"null",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"sha256": "0", "hashes": {}}',
    ],
)
def test_a_corrupt_cache_is_ignored_and_mended(material, tmp_path, content):
    cache = tmp_path / "cache.json"
    before = identity(material, cache)
    good = json.loads(cache.read_text())
    cache.write_bytes(content)
    assert identity(material, cache) == before
    assert json.loads(cache.read_text()) == good


def test_a_hash_that_was_changed_is_not_believed(material, tmp_path):
    cache = tmp_path / "cache.json"
    before = identity(material, cache)
    content = json.loads(cache.read_text())
    entry = next(iter(content["hashes"]))
    content["hashes"][entry] = "0" * 16
    cache.write_text(json.dumps(content))
    assert identity(material, cache) == before


# demo photographs


def test_demo_photographs_are_found():
    assert demo_photo("chelsea").is_file()
    assert demo_photo("rocket").suffix == ".jpg"
    with pytest.raises(UserError, match="the photograph 'nothing' is not in"):
        demo_photo("nothing")


def test_identity_of_videos_alone_changes_with_how_they_are_decoded(material, tmp_path, monkeypatch):
    def identities():
        clips = find_folder(str(material)).clips
        return [
            clips_identity([c for c in clips if c.is_video == video], tmp_path / "cache") for video in (True, False)
        ]

    video, images = identities()
    monkeypatch.setattr("vsrprune.data.sources.VIDEO_DECODING", 999)
    other, same = identities()
    assert other != video
    assert same == images


def test_photos_identity_depends_on_content_and_order():
    assert photos_identity(["chelsea", "rocket"]) == photos_identity(["chelsea", "rocket"])
    identities = {photos_identity(names) for names in (["chelsea"], ["rocket"], ["chelsea", "rocket"])}
    assert len(identities) == 3


# set_aside


def test_test_clips_are_set_aside_before_the_others_are_split():
    test, rest = set_aside(clips_named("a", "b", "c", "d"), ["c", "a", "c"], ["b"])
    assert (names_of(test), names_of(rest)) == (["c", "a"], ["b", "d"])
    assert set_aside(clips_named("a"), [], []) == ([], clips_named("a"))


def test_test_clips_leave_some_to_train_on_and_to_hold_out():
    with pytest.raises(
        UserError, match=r"^data\.test sets aside 2 of 3 clips; at least two must be left, one to train"
    ):
        set_aside(clips_named("a", "b", "c"), ["a", "b"], [])


@pytest.mark.parametrize(("test", "message"), [
    (["x"], "data.test names the unknown clip 'x'; there are: a, b"),
    (["b"], "data.test names b, which is in data.train or data.val too; a test clip is neither trained on nor chosen"
     " by"),
])  # fmt: skip
def test_test_clips_that_are_unknown_or_chosen_by_are_refused(test, message):
    with pytest.raises(UserError) as caught:
        set_aside(clips_named("a", "b"), test, ["b"])
    assert str(caught.value) == message
