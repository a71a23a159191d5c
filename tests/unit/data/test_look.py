"""The size of a clip as its file says, before anything is decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vsrprune.data.look import Look, first_look
from vsrprune.data.sources import ClipSource


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_the_size_of_pictures_stands_in_their_header(tmp_path: Path, suffix: str) -> None:
    files = [tmp_path / f"{index}{suffix}" for index in range(3)]
    Image.fromarray(np.zeros((12, 34, 3), dtype=np.uint8)).save(files[0])
    assert first_look(ClipSource("clip", files)) == Look((12, 34), 3)


@pytest.mark.parametrize("name", ["cut.png", "cut.jpg", "cut.mp4", "missing.png"])
def test_of_what_cannot_be_read_nothing_is_said(tmp_path: Path, name: str) -> None:
    if name.startswith("cut"):
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n0000")
    assert first_look(ClipSource("clip", [tmp_path / name])) is None


def test_a_video_says_its_size_and_length(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height = 64, 48
        for _ in range(7):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), dtype=np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert first_look(ClipSource("clip", [tmp_path / "clip.mp4"])) == Look((48, 64), 7)
