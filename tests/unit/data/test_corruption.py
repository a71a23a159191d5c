"""Inputs made from the truth: measured noise, means by hand, and what is drawn anew and what never changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vsrprune.config.task import TASKS, TaskConfig
from vsrprune.data.cache import LOW, cached_clips
from vsrprune.data.clips import Clip, ClipSet, make_clip
from vsrprune.data.corruption import CORRUPTIONS, MeanOfFrames, Noise, corrupted
from vsrprune.data.degradation import bicubic_uint8
from vsrprune.data.demo import demo_clips
from vsrprune.data.folder import find_folder
from vsrprune.data.reading import Reading, read_clips
from vsrprune.data.sampling import PatchDataset, StepSampler, patch_loader
from vsrprune.stages.pictures import save_png

OPTIONS = {"denoise": {"sigma": 25.0}, "deblur": {"blur_frames": 3}}
every_task = pytest.mark.parametrize("task", CORRUPTIONS)


def draw(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def grey(*levels: int, side: int = 2) -> Tensor:
    """A frame per level."""
    return torch.tensor(levels, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, side, side).contiguous()


def textured(frames: int = 6, height: int = 20, width: int = 24, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (frames, 3, height, width), generator=generator, dtype=torch.uint8)


def clips_of(task: str, *videos: Tensor, **options: float) -> Sequence[Clip]:
    clips = [make_clip(f"clip{index}", video_TCHW, 1)[0] for index, video_TCHW in enumerate(videos)]
    return corrupted(ClipSet(clips, clips), task, options or OPTIONS[task]).val


def test_there_is_a_corruption_for_every_task_of_scale_1_that_takes_its_options() -> None:
    assert set(CORRUPTIONS) == set(TASKS) - {"sr"}
    for task, make in CORRUPTIONS.items():
        make(**TaskConfig(name=task).options)


def test_super_resolution_is_left_alone() -> None:
    clips = demo_clips(4, 0, 1, 1, 3)
    assert corrupted(clips, "sr", {}) is clips


# Noise


@pytest.mark.parametrize("sigma", [1.0, 10.0, 25.0])
def test_noise_has_its_standard_deviation_and_no_bias(sigma: float) -> None:
    frames_TCHW = grey(128, 128, side=200)
    added = Noise(sigma)(frames_TCHW, draw()).double() - 128
    # 240,000 pixels; rounding adds 1/12 of a squared step, and clipping at five sigma nothing.
    assert float(added.std()) == pytest.approx((sigma**2 + 1 / 12) ** 0.5, rel=0.01)
    assert abs(float(added.mean())) < 5 * sigma / 240_000**0.5
    first, second = added.flatten()[:-1], added.flatten()[1:]
    assert abs(float((first * second).mean())) < 0.01 * sigma**2 + 0.01  # neighbours know nothing of each other


def test_noise_is_clipped_to_eight_bits() -> None:
    for level in (0, 255):
        noisy_TCHW = Noise(50.0)(grey(level, side=100), draw())
        assert noisy_TCHW.dtype == torch.uint8
        assert 0.49 < float((noisy_TCHW == level).double().mean()) < 0.53  # half of it leads outside


def test_the_noise_of_a_clip_follows_from_its_name_and_sigma() -> None:
    video_TCHW = textured()
    one, other = clips_of("denoise", video_TCHW, video_TCHW)
    (again,) = clips_of("denoise", video_TCHW)
    (weaker,) = clips_of("denoise", video_TCHW, sigma=10.0)
    assert torch.equal(one.low_TCHW, again.low_TCHW)
    assert not torch.equal(one.low_TCHW, other.low_TCHW)
    assert not torch.equal(one.low_TCHW, weaker.low_TCHW)
    assert torch.equal(one.high_TCHW, video_TCHW)


# Blur


def test_means_of_three_frames_by_hand() -> None:
    blurred_TCHW = MeanOfFrames(3)(grey(10, 21, 200), draw())
    # (10 + 21) / 2 = 15.5 up to 16; (10 + 21 + 200) / 3 = 77; (21 + 200) / 2 = 110.5 up to 111
    assert blurred_TCHW[:, 0, 0, 0].tolist() == [16, 77, 111]
    assert blurred_TCHW.dtype == torch.uint8
    assert blurred_TCHW.shape == (3, 3, 2, 2)


def test_a_window_longer_than_the_clip_is_cut_off_at_both_ends() -> None:
    assert MeanOfFrames(7)(grey(0, 100, 50), draw())[:, 0, 0, 0].tolist() == [50, 50, 50]
    assert MeanOfFrames(5)(grey(0, 0, 0, 3, 255), draw())[:, 0, 0, 0].tolist() == [0, 1, 52, 65, 86]
    assert MeanOfFrames(3)(grey(255), draw()).unique().tolist() == [255]


# Patches


def dataset(clips: Sequence[Clip], seed: int = 0, mirror: bool = False) -> PatchDataset:
    return PatchDataset(clips, frames=3, patch=8, scale=1, seed=seed, mirror=mirror)


def test_patches_have_fresh_noise_that_seed_and_index_decide() -> None:
    clips = clips_of("denoise", textured(3, 8, 8))  # one place only: what differs is orientation and noise
    items = [dataset(clips, seed)[index] for seed in (0, 1) for index in range(20)]
    assert len({(item.low_NTCHW.int() - item.high_NTCHW).numpy().tobytes() for item in items}) == 40
    assert torch.equal(dataset(clips, 1)[7].low_NTCHW, items[27].low_NTCHW)
    for item in items:
        assert item.low_NTCHW.dtype == torch.uint8
        assert 15 < float((item.low_NTCHW.float() - item.high_NTCHW).std()) < 30  # 25, but for clipping and chance


def test_a_blurred_patch_is_that_of_the_blurred_clip() -> None:
    clips = clips_of("deblur", textured(6, 8, 8), blur_frames=5)
    views = {}
    for start in range(4):
        for seen, pixels in (("low", clips[0].low_TCHW), ("high", clips[0].high_TCHW)):
            views[start, seen] = sorted(pixels[start : start + 3].flatten().tolist())
    starts = set()
    for index in range(40):
        item = dataset(clips)[index]
        low, high = (sorted(part.flatten().tolist()) for part in item)
        (start,) = (start for start in range(4) if views[start, "high"] == high)
        assert views[start, "low"] == low
        starts.add(start)
    assert starts == {0, 1, 2, 3}  # at the clip's ends, too


@every_task
def test_batches_go_on_where_they_stopped_with_any_number_of_workers(task: str) -> None:
    clips = clips_of(task, textured(5), textured(4, seed=1))
    whole = list(patch_loader(dataset(clips), StepSampler(steps=4, batch=2), workers=0))
    resumed = StepSampler(steps=4, batch=2)
    resumed.start = 2
    for again, batch in zip(patch_loader(dataset(clips), resumed, workers=2), whole[2:], strict=True):
        assert torch.equal(again.low_NTCHW, batch.low_NTCHW)
        assert torch.equal(again.high_NTCHW, batch.high_NTCHW)


@every_task
def test_a_mirrored_sequence_shows_the_same_input_twice(task: str) -> None:
    item = dataset(clips_of(task, textured()), mirror=True)[0]
    assert torch.equal(item.low_NTCHW[3:], item.low_NTCHW[:3].flip(0))


def test_training_never_corrupts_a_whole_clip() -> None:
    clips = clips_of("denoise", textured())
    opened = clips[0]
    assert opened.size == (20, 24)
    dataset([opened])[0]
    assert "low_TCHW" not in vars(opened)


# Where clips come from


@every_task
def test_demo_clips(task: str) -> None:
    plain = demo_clips(1, 0, 1, 1, 4)
    made = corrupted(plain, task, OPTIONS[task])
    for before, after in zip(plain.val, made.val, strict=True):
        assert torch.equal(before.low_TCHW, before.high_TCHW)
        assert torch.equal(after.high_TCHW, before.high_TCHW)
        assert after.low_TCHW.shape == after.high_TCHW.shape
        assert after.low_TCHW.dtype == torch.uint8
        assert not torch.equal(after.low_TCHW, after.high_TCHW)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, seed in (("a", 0), ("b", 1)):
        for index, frame_CHW in enumerate(textured(4, seed=seed)):
            save_png(frame_CHW, tmp_path / "clips" / name / f"{index}.png")
    return tmp_path


def test_a_cache_holds_the_truth_alone_and_serves_every_task(folder: Path) -> None:
    train, val = ([clip] for clip in find_folder(str(folder / "clips")).clips)
    how = Reading(scale=1)
    said: list[str] = []
    cached = cached_clips(train, val, how, folder / "cache", said.append)
    assert not list((folder / "cache").rglob(LOW))
    again = cached_clips(train, val, how, folder / "cache", said.append)
    assert len(said) == 1  # nothing was decoded twice
    plain = read_clips(train, val, how)
    for task in CORRUPTIONS:
        for sigma in (5.0, 50.0) if task == "denoise" else (None,):
            options = {"sigma": sigma} if sigma else OPTIONS[task]
            for read in (cached, again):
                for ours, theirs in zip((read, plain), (plain, read), strict=True):
                    one, other = (corrupted(clips, task, options) for clips in (ours, theirs))
                    assert torch.equal(one.val[0].low_TCHW, other.val[0].low_TCHW)
                    assert torch.equal(dataset(one.train)[3].low_NTCHW, dataset(other.train)[3].low_NTCHW)
                assert len(corrupted(read, task, options).train[:1]) == 1


def test_scenes_are_cut_in_the_truth_and_blurred_apart(folder: Path) -> None:
    video_TCHW = torch.cat((textured(4) // 4, 255 - textured(4) // 4))
    for index, frame_CHW in enumerate(video_TCHW):
        save_png(frame_CHW, folder / "cut" / "film" / f"{index}.png")
    clips = read_clips(find_folder(str(folder / "cut")).clips, [], Reading(scale=1, scene_cut=0.5))
    made = corrupted(clips, "deblur", {"blur_frames": 7}).train
    assert [clip.frames for clip in made] == [4, 4]
    assert int(made[0].low_TCHW.max()) < 64
    assert int(made[1].low_TCHW.min()) > 190


def test_bicubic_at_scale_1_is_the_input_bit_for_bit() -> None:
    frames_TCHW = textured(2, 37, 45)
    assert torch.equal(bicubic_uint8(frames_TCHW, 1.0), frames_TCHW)
