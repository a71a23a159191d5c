"""Pipes and devices, where files are expected, are named: nobody waits for what they may send."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vsrprune.config.job import load_ratios
from vsrprune.data.folder import find_folder
from vsrprune.data.video.footage import look_over
from vsrprune.errors import UserError


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A named pipe into which nobody writes, called like a video."""
    os.mkfifo(tmp_path / "pipe.mp4")
    return tmp_path / "pipe.mp4"


def test_a_pipe_or_a_device_is_no_video(pipe: Path) -> None:
    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(UserError, match=f"^{path}: is neither a file nor a folder") as caught:
            look_over(path, Fraction(25))
        assert "\n" not in str(caught.value)


def test_pipes_among_clips_and_frames_are_left_out_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    for clip in ("a", "b"):
        (folder / clip).mkdir(parents=True)
        for index in range(3):
            Image.fromarray(np.full((8, 8, 3), index, np.uint8)).save(folder / clip / f"{index}.png")
    os.mkfifo(folder / "c.mp4")
    os.mkfifo(folder / "a" / "3.png")
    found = find_folder(str(folder))
    assert [clip.name for clip in found.clips] == ["a", "b"]
    assert [len(clip.files) for clip in found.clips] == [3, 3]
    said = " ".join((*found.notes, *found.warnings))
    assert "left out c.mp4: pipes or devices" in said
    assert "left out 3.png: pipes or devices" in said


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_a_pipe_holds_no_ratios(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(tmp_path / f"ratios{suffix}")
    with pytest.raises(UserError, match=r"cannot read this file \(it is no regular file"):
        load_ratios(str(tmp_path / f"ratios{suffix}"))


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_ratios_nested_without_end_are_one_line(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"ratios{suffix}").write_text("[" * 100_000)
    with pytest.raises(UserError, match="cannot read this file") as caught:
        load_ratios(str(tmp_path / f"ratios{suffix}"))
    assert "\n" not in str(caught.value)
