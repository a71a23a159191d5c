"""The demo clips: what they show is checked on photographs that are replaced by ramps and plain colours."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vsrprune.data import demo
from vsrprune.data.degradation import bicubic_uint8
from vsrprune.data.demo import FRAME, demo_clips
from vsrprune.data.demo_photos import TRAIN_PHOTOS, VAL_PHOTOS
from vsrprune.data.sources import demo_photo, photos_identity

SCALE, FRAMES = 4, 3


@pytest.fixture(scope="module")
def clips():
    return demo_clips(SCALE, seed=0, train_per_photo=1, val_per_photo=1, frames=FRAMES)


def replace_photos(monkeypatch, folder: Path, pixels_HWC: dict[str, np.ndarray]) -> None:
    """Show the given uint8 images in place of the photographs of those names."""
    for name, pixels in pixels_HWC.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    monkeypatch.setattr(demo, "demo_photo", lambda name: folder / f"{name}.png")


def plain(colour, size=(300, 360)):
    return np.broadcast_to(np.array(colour, dtype=np.uint8), (*size, 3)).copy()


def test_shapes_names_and_dtype(clips):
    assert [clip.name for clip in clips.train] == [f"{name}_0" for name in TRAIN_PHOTOS]
    assert [clip.name for clip in clips.val] == [f"{name}_0" for name in VAL_PHOTOS]
    assert list(clips.notes) == []
    for clip in (*clips.train, *clips.val):
        assert clip.high_TCHW.shape == (FRAMES, 3, *FRAME)
        assert clip.low_TCHW.shape == (FRAMES, 3, FRAME[0] // SCALE, FRAME[1] // SCALE)
        assert clip.high_TCHW.dtype == clip.low_TCHW.dtype == torch.uint8
        assert clip.frames == FRAMES
        assert clip.high_TCHW.float().std() > 5  # a picture, not a plain area


def test_low_resolution_is_the_shrunk_high_resolution(clips):
    for clip in (clips.train[0], clips.val[0]):
        assert torch.equal(clip.low_TCHW, bicubic_uint8(clip.high_TCHW, 1 / SCALE))


def test_the_same_seed_gives_the_same_clips_and_another_seed_others(clips, tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (300, 360, 3), dtype=np.uint8)
    replace_photos(monkeypatch, tmp_path, dict.fromkeys((*TRAIN_PHOTOS, *VAL_PHOTOS), noise))
    first, again, other = (demo_clips(SCALE, seed, 1, 1, 2) for seed in (3, 3, 4))
    for part in ("train", "val"):
        for one, two, three in zip(getattr(first, part), getattr(again, part), getattr(other, part), strict=True):
            assert one.name == two.name == three.name
            assert torch.equal(one.high_TCHW, two.high_TCHW)
            assert not torch.equal(one.high_TCHW, three.high_TCHW)


def test_real_photographs_are_rendered_the_same_twice(clips):
    again = demo_clips(SCALE, seed=0, train_per_photo=1, val_per_photo=1, frames=FRAMES)
    for one, two in zip((*clips.train, *clips.val), (*again.train, *again.val), strict=True):
        assert torch.equal(one.high_TCHW, two.high_TCHW)


def test_longer_clips_begin_with_the_same_frames(clips):
    longer = demo_clips(SCALE, seed=0, train_per_photo=1, val_per_photo=1, frames=FRAMES + 1)
    for short, long in zip(clips.val, longer.val, strict=True):
        assert torch.equal(short.high_TCHW, long.high_TCHW[:FRAMES])


def test_clips_per_photo(tmp_path, monkeypatch):
    replace_photos(monkeypatch, tmp_path, dict.fromkeys((*TRAIN_PHOTOS, *VAL_PHOTOS), plain((9, 9, 9))))
    clips = demo_clips(SCALE, seed=0, train_per_photo=2, val_per_photo=3, frames=1)
    assert [clip.name for clip in clips.train] == [f"{name}_{n}" for n in range(2) for name in TRAIN_PHOTOS]
    assert [clip.name for clip in clips.val] == [f"{name}_{n}" for n in range(3) for name in VAL_PHOTOS]


def test_held_out_photographs_are_never_shown_in_training(tmp_path, monkeypatch):
    assert not set(TRAIN_PHOTOS) & set(VAL_PHOTOS)
    photos = {name: plain((200, 0, 0)) for name in TRAIN_PHOTOS} | {name: plain((0, 0, 200)) for name in VAL_PHOTOS}
    replace_photos(monkeypatch, tmp_path, photos)
    clips = demo_clips(SCALE, seed=1, train_per_photo=2, val_per_photo=2, frames=2)
    for part, seen, unseen in ((clips.train, 0, 2), (clips.val, 2, 0)):
        for clip in part:
            assert clip.high_TCHW[:, seen].unique().tolist() == [200]
            assert clip.high_TCHW[:, unseen].max() == 0


def test_every_photograph_is_another_picture():
    names = (*TRAIN_PHOTOS, *VAL_PHOTOS)
    assert len({photos_identity([name]) for name in names}) == len(names)
    for name in names:
        with Image.open(demo_photo(name)) as image:
            assert min(image.size) >= FRAME[0]


def test_consecutive_frames_differ_but_not_by_much(clips):
    for clip in (*clips.train, *clips.val):
        frames = clip.high_TCHW.float()
        step = (frames[1:] - frames[:-1]).abs().mean(dim=(1, 2, 3))
        # Shuffled in both directions a frame keeps its colours and loses its places: an upper bound on differences.
        unrelated = (frames[0] - frames[0].roll((FRAME[0] // 2, FRAME[1] // 2), dims=(1, 2))).abs().mean()
        assert step.min() > 0.1
        assert step.max() < 0.6 * unrelated


RAMP_SIZE = (600, 760)


def ramp():
    """Red rises with x and green with y, from 0 to 255, so that a colour tells a place; blue is 0."""
    pixels = np.zeros((*RAMP_SIZE, 3))
    pixels[..., 0] = np.linspace(0, 255, RAMP_SIZE[1])
    pixels[..., 1] = np.linspace(0, 255, RAMP_SIZE[0])[:, None]
    return pixels.round().astype(np.uint8)


@pytest.fixture
def ramp_videos(tmp_path, monkeypatch):
    """Clips whose background is the ramp and whose oval is plain blue."""
    photos = {name: ramp() if n % 2 == 0 else plain((0, 0, 255)) for n, name in enumerate(TRAIN_PHOTOS)}
    replace_photos(monkeypatch, tmp_path, photos | {name: plain((0, 0, 0)) for name in VAL_PHOTOS})
    clips = demo_clips(SCALE, seed=0, train_per_photo=1, val_per_photo=1, frames=6)
    return [clip.high_TCHW.double() for clip in clips.train[::2]]


def test_the_camera_moves_smoothly_at_subpixel_speed(ramp_videos):
    speeds = []
    for video_TCHW in ramp_videos:
        for before_CHW, after_CHW in pairwise(video_TCHW):
            background = (before_CHW[2] == 0) & (after_CHW[2] == 0)
            for channel, side in ((0, RAMP_SIZE[1]), (1, RAMP_SIZE[0])):
                levels = (after_CHW[channel] - before_CHW[channel])[background].mean().item()
                speeds.append(levels * (side - 1) / 255)
    speed = np.abs(speeds)
    assert speed.max() < 4  # pixels per frame
    assert np.median(speed) > 0.25
    assert (np.abs(speeds - np.round(speeds)) > 0.05).mean() > 0.7  # hardly ever a whole number of pixels


def test_the_camera_turns_and_zooms(ramp_videos):
    for video_TCHW in ramp_videos:
        # Along a row of a camera that only pans, green (the photograph's y) is constant.
        tops = video_TCHW[:, 1, 0, -1] - video_TCHW[:, 1, 0, 0]
        assert tops.abs().max() > 1
        widths = video_TCHW[:, 0, 0, -1] - video_TCHW[:, 0, 0, 0]
        assert widths.min() > 0
        assert widths.unique().numel() > 1


def test_an_object_moves_in_front_of_the_background(ramp_videos):
    for video_TCHW in ramp_videos:
        centres = []
        for frame_CHW in video_TCHW:
            y, x = torch.where(frame_CHW[2] > 127)
            assert 0 < len(y) <= FRAME[0] * FRAME[1] // 9  # the oval spans a third of each side
            centres.append((y.double().mean().item(), x.double().mean().item()))
        steps = np.hypot(*np.diff(centres, axis=0).T)
        assert steps.max() < 8
        assert steps.mean() > 0.5
