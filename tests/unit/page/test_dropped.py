"""Clips that were dropped: names, sizes, what is removed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image

from vsrprune.data.demo_photos import FRAME
from vsrprune.errors import UserError
from vsrprune.page import dropped
from vsrprune.page.dropped import DEMO, DEMO_FRAMES, Clips


def add(clips: Clips, clip: str, name: str, *parts: bytes) -> None:
    async def arriving() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    asyncio.run(clips.add(clip, name, arriving()))


def test_one_file_is_the_clip_and_several_are_a_folder(tmp_path: Path) -> None:
    clips = Clips(tmp_path)
    clip = clips.new()
    with pytest.raises(UserError, match="has no files"):
        clips.source(clip)
    add(clips, clip, "a.png", b"12", b"34")
    assert clips.source(clip) == tmp_path / clip / "a.png"
    assert clips.source(clip).read_bytes() == b"1234"
    add(clips, clip, "b.png", b"5")
    assert clips.source(clip) == tmp_path / clip


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\films\\a.mp4", "a.mp4"),
        (".hidden.mp4", "hidden.mp4"),
        ("..", "clip"),
        ("a\0b.mp4", "ab.mp4"),
        ("x" * 300 + ".mp4", "x" * 60 + "x" * 56 + ".mp4"),
    ],
)
def test_a_name_stays_in_its_folder(name: str, kept: str, tmp_path: Path) -> None:
    clips = Clips(tmp_path)
    clip = clips.new()
    add(clips, clip, name, b"1")
    assert [file.name for file in (tmp_path / clip).iterdir()] == [kept]


def test_a_new_clip_replaces_those_before_but_for_the_one_in_use(tmp_path: Path) -> None:
    clips = Clips(tmp_path)
    first, second = clips.new(), None
    second = clips.new(keep=first)
    assert {entry.name for entry in tmp_path.iterdir()} == {first, second}
    third = clips.new()
    assert [entry.name for entry in tmp_path.iterdir()] == [third]
    for gone in (first, "..", "/etc", "demo:none"):
        with pytest.raises(UserError, match="no longer here"):
            clips.source(gone)


def test_a_clip_that_is_too_large_is_refused_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropped, "MOST_BYTES", 10)
    clips = Clips(tmp_path)
    clip = clips.new()
    add(clips, clip, "a.png", b"1" * 8)
    with pytest.raises(UserError, match=r"b\.png: clips of more than"):
        add(clips, clip, "b.png", b"1" * 2, b"1")
    assert [file.name for file in (tmp_path / clip).iterdir()] == ["a.png"]


def test_the_demo_is_there_for_who_has_no_clip(tmp_path: Path) -> None:
    clips = Clips(tmp_path)
    sources = [clips.source(name) for name in DEMO]
    for source in sources:
        frames = sorted(source.iterdir())
        assert len(frames) == DEMO_FRAMES
        assert Image.open(frames[0]).size == FRAME[::-1]
    clips.new()
    assert all(source.is_dir() for source in sources)
