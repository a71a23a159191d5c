"""Scene cuts: found between different pictures, not within motion, fades or flashes; windows never cross one."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from vsrprune.data.demo import demo_clips
from vsrprune.data.reading import Reading, read_clips
from vsrprune.data.sources import ClipSource
from vsrprune.data.video.scenes import histogram_changes, scene_starts

SCENES = [clip.high_TCHW for clip in demo_clips(4, 0, 1, 1, 8).train[:4]]  # pans over four photographs


def test_a_change_is_the_share_of_pixels_that_differ() -> None:
    frames_TCHW = torch.zeros(3, 3, 4, 5, dtype=torch.uint8)
    frames_TCHW[1:, :, 0] = 200  # a quarter of the rows
    assert histogram_changes(frames_TCHW) == pytest.approx([0.25, 0.0])
    assert histogram_changes(torch.stack([frames_TCHW[0], frames_TCHW[0] + 255])) == pytest.approx([1.0])


def test_cuts_between_photographs_are_found_and_their_motion_is_none() -> None:
    assert scene_starts(torch.cat(SCENES), 0.2) == [0, 8, 16, 24]
    for scene_TCHW in SCENES:
        assert scene_starts(scene_TCHW, 0.2) == [0]


def test_a_flash_and_a_fade_are_no_cuts() -> None:
    flash_TCHW = SCENES[0].clone()
    flash_TCHW[4] = 255
    assert max(histogram_changes(flash_TCHW)) > 0.5
    assert scene_starts(flash_TCHW, 0.2) == [0]
    steps = torch.linspace(0, 1, 8).view(8, 1, 1, 1)
    fade_TCHW = ((1 - steps) * SCENES[0].float() + steps * SCENES[1].float()).to(torch.uint8)
    assert scene_starts(fade_TCHW, 0.2) == [0]


def test_the_threshold_decides() -> None:
    change = histogram_changes(torch.cat(SCENES[:2]))[7]
    assert 0.2 < change < 1
    assert scene_starts(torch.cat(SCENES[:2]), change - 0.01) == [0, 8]
    assert scene_starts(torch.cat(SCENES[:2]), change + 0.01) == [0]


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_cuts_in_short_order_are_all_found(length: int) -> None:
    """Else the frames around a short scene would pass for one scene, and windows cross its cuts."""
    film_TCHW = torch.cat((SCENES[0], SCENES[1][:length], SCENES[2]))
    assert scene_starts(film_TCHW, 0.2) == [0, 8, 8 + length]


def test_a_flash_of_two_frames_is_no_cut_and_hides_none() -> None:
    film_TCHW = torch.cat((SCENES[0], SCENES[1]))
    film_TCHW[3:5] = 255
    assert scene_starts(film_TCHW, 0.2) == [0, 8]


def test_one_frame_has_one_scene() -> None:
    assert scene_starts(SCENES[0][:1], 0.2) == [0]


def video(path: Path, frames_TCHW: Tensor) -> ClipSource:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=24)
        stream.height, stream.width = frames_TCHW.shape[-2:]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        for frame in frames_TCHW.permute(0, 2, 3, 1).numpy():
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return ClipSource(path.stem, (path,))


def test_a_video_becomes_its_scenes_and_short_ones_are_left_out(tmp_path: Path) -> None:
    source = video(tmp_path / "film.mp4", torch.cat((SCENES[0], SCENES[1][:4], SCENES[2])))
    clips = read_clips([source], [], Reading(scale=4, scene_cut=0.2, shortest=5))
    assert [(clip.name, clip.frames, clip.low_TCHW.shape[0]) for clip in clips.train] == [
        ("film_0", 8, 8),
        ("film_2", 8, 8),
    ]
    (note,) = clips.notes
    assert note == "clip film: 3 scenes, cut before frames 8, 12; 1 of fewer than 5 frames left out"
    whole = read_clips([source], [], Reading(scale=4)).train[0]
    assert whole.frames == 20
    assert torch.equal(clips.train[1].high_TCHW, whole.high_TCHW[12:])
    assert torch.equal(clips.train[1].low_TCHW, whole.low_TCHW[12:])
