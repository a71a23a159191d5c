"""Training patches: what an item depends on, that its two resolutions match, and the order of batches."""

import gc
import itertools
import os

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vsrprune.data.clips import Clip, make_clip
from vsrprune.data.degradation import imresize
from vsrprune.data.sampling import PatchDataset, Patches, StepSampler, patch_loader

SCALE = 4


def textured_clip(name, frames, height, width, seed):
    """A clip of smooth noise, so that low resolution carries detail and no two places look alike."""
    generator = torch.Generator().manual_seed(seed)
    video_TCHW = torch.rand(frames, 3, height * SCALE, width * SCALE, generator=generator)
    video_TCHW = F.avg_pool2d(video_TCHW, 5, stride=1, padding=2, count_include_pad=False)
    video_TCHW = (video_TCHW - 0.2) / 0.6  # some of it clips to black and white
    return make_clip(name, (video_TCHW.clamp(0, 1) * 255).round().to(torch.uint8), SCALE)[0]


@pytest.fixture(scope="module")
def clips():
    return [textured_clip("wide", 7, 14, 22, 0), textured_clip("high", 5, 20, 12, 1)]


def dataset_of(clips, seed=0, frames=3, patch=10):
    return PatchDataset(clips, frames=frames, patch=patch, scale=SCALE, seed=seed)


def same(one, two):
    return torch.equal(one.low_NTCHW, two.low_NTCHW) and torch.equal(one.high_NTCHW, two.high_NTCHW)


def test_shapes_dtype_and_range(clips):
    item = dataset_of(clips)[0]
    assert item.low_NTCHW.shape == (3, 3, 10, 10)
    assert item.high_NTCHW.shape == (3, 3, 40, 40)
    for frames in item:
        assert frames.dtype == torch.uint8
        assert 0 <= frames.min() < frames.max() <= 255


def test_an_item_depends_on_seed_and_index_alone(clips):
    indices = [5, 0, 123_456, 3]
    first = [dataset_of(clips, seed=7)[index] for index in indices]
    torch.manual_seed(99)
    np.random.seed(99)  # the global state is what must not matter
    used = dataset_of(clips, seed=7)
    again = {index: used[index] for index in reversed([*range(6), *indices])}
    for index, item in zip(indices, first, strict=True):
        assert same(item, again[index])


def test_other_seeds_and_indices_give_other_items(clips):
    items = [dataset_of(clips, seed)[index] for seed, index in itertools.product(range(4), range(8))]
    distinct = {item.low_NTCHW.numpy().tobytes() for item in items}
    assert len(distinct) == len(items)


def test_low_and_high_resolution_patches_match(clips):
    dataset = dataset_of(clips)
    for index in range(40):
        item = dataset[index]
        # The kernel reaches two low-resolution pixels: further inside, the patch's own border does not matter.
        shrunk = imresize(item.high_NTCHW.double(), 1 / SCALE).clamp(0, 255)[..., 2:-2, 2:-2]
        error = (shrunk - item.low_NTCHW.double()[..., 2:-2, 2:-2]).abs().max().item()
        assert error <= 0.5 + 1e-4  # half a level from rounding to 8 bits


def test_a_mirrored_sequence_runs_forth_and_back(clips):
    for index in range(8):
        plain, mirrored = PatchDataset(clips, 3, 10, 4, 0)[index], PatchDataset(clips, 3, 10, 4, 0, mirror=True)[index]
        for once, twice in zip(plain, mirrored, strict=True):
            assert twice.shape[0] == 6
            assert torch.equal(twice[:3], once)
            assert torch.equal(twice[3:], once.flip(0))


@pytest.mark.parametrize("mirror", [False, True])
def test_floats_have_the_same_bits_before_and_after_the_journey(clips, mirror):
    """The division is exact for every level, and goes with every orientation, the mirrored way back and the stack."""
    dataset = PatchDataset(clips, frames=3, patch=10, scale=SCALE, seed=5, mirror=mirror)
    (after,) = (batch.floats() for batch in patch_loader(dataset, StepSampler(steps=1, batch=32), workers=0))
    before = [[part.float() / 255 for part in dataset[index]] for index in range(32)]
    for part, items in zip(after, zip(*before, strict=True), strict=True):
        assert part.dtype == torch.float32
        assert torch.equal(part, torch.stack(items))
    assert after.low_NTCHW.min() >= 0
    assert after.high_NTCHW.max() <= 1


def test_every_level_is_the_float_nearest_to_its_share_of_255():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 1, 16, 16)
    expected = (np.arange(256, dtype=np.float64) / 255).astype(np.float32)
    for part in Patches(levels, levels).floats():
        assert np.array_equal(part.numpy().ravel(), expected)


def orientations(video_TCHW):
    """The 16 ways to see a clip: every combination of time reversal, both flips and a transpose."""
    for count in range(4):
        for axes in itertools.combinations((0, 2, 3), count):
            flipped = video_TCHW.flip(axes)
            yield from (flipped, flipped.transpose(2, 3))


def test_all_sixteen_orientations_are_drawn_about_equally():
    clip = textured_clip("square", 3, 10, 10, 2)
    views = list(orientations(clip.low_TCHW))
    dataset = dataset_of([clip])  # frames and patch take the whole clip: only the orientation is left to draw
    seen = [0] * 16
    for index in range(320):
        low = dataset[index].low_NTCHW
        (view,) = (number for number, expected in enumerate(views) if torch.equal(low, expected))
        seen[view] += 1
    assert min(seen) >= 8  # 20 expected of each
    assert sum(seen) == 320


def coordinate_clip(frames, height, width):
    """Low resolution tells its own place: time in red, y in green, x in blue."""
    grid = torch.meshgrid(torch.arange(frames), torch.arange(height), torch.arange(width), indexing="ij")
    low_TCHW = torch.stack(grid, dim=1).to(torch.uint8)
    return Clip("places", F.interpolate(low_TCHW, scale_factor=SCALE, mode="nearest"), low_TCHW)


def test_patches_are_contiguous_in_space_and_time_and_reach_every_place():
    dataset = dataset_of([coordinate_clip(6, 7, 8)], frames=3, patch=5)
    corners = set()
    for index in range(400):
        low, high = dataset[index]
        assert torch.equal(high, F.interpolate(low, scale_factor=SCALE, mode="nearest"))
        start, y, x = (int(low[:, channel].min()) for channel in range(3))
        for channel, least, length in ((0, start, 3), (1, y, 5), (2, x, 5)):
            values = low[:, channel].unique().tolist()
            assert values == list(range(least, least + length))
        corners.add((start, y, x))
    assert corners == set(itertools.product(range(4), range(3), range(4)))


def test_every_clip_is_drawn():
    clips = [coordinate_clip(3, 5, 5)]
    clips.append(Clip("white", torch.full_like(clips[0].high_TCHW, 255), torch.full_like(clips[0].low_TCHW, 255)))
    dataset = dataset_of(clips, patch=5)
    white = sum(int(dataset[index].low_NTCHW.min() == 255) for index in range(100))
    assert 30 <= white <= 70


def test_batches_of_a_sampler_count_through_the_items():
    assert list(StepSampler(steps=3, batch=2)) == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize("start", [0, 1, 4, 5])
def test_a_sampler_goes_on_where_it_is_told(start):
    whole = list(StepSampler(steps=5, batch=3))
    resumed = StepSampler(steps=5, batch=3)
    resumed.start = start
    assert list(resumed) == whole[start:]
    assert list(resumed) == whole[start:]  # and again: iterating uses nothing up


def batches(clips, workers, start=0):
    sampler = StepSampler(steps=5, batch=2)
    sampler.start = start
    return list(patch_loader(dataset_of(clips, seed=3), sampler, workers))


def test_batches_stack_items_in_order(clips):
    dataset = dataset_of(clips, seed=3)
    loaded = batches(clips, workers=0)
    assert len(loaded) == 5
    for step, batch in enumerate(loaded):
        assert batch.low_NTCHW.shape == (2, 3, 3, 10, 10)
        assert batch.high_NTCHW.shape == (2, 3, 3, 40, 40)
        for place in range(2):
            item = dataset[2 * step + place]
            assert torch.equal(batch.low_NTCHW[place], item.low_NTCHW)
            assert torch.equal(batch.high_NTCHW[place], item.high_NTCHW)


def test_the_number_of_workers_does_not_matter(clips):
    alone, helped = batches(clips, workers=0), batches(clips, workers=2)
    assert len(alone) == len(helped) == 5
    assert all(same(one, two) for one, two in zip(alone, helped, strict=True))


class Garbage:
    """An object that only the collector frees, and that says in which process."""

    def __init__(self, log):
        self.log, self.itself = log, self

    def __del__(self):
        with self.log.open("a") as stream:
            stream.write(f"{os.getpid()}\n")


class Collecting(PatchDataset):
    def __getitem__(self, index):
        gc.collect()
        return super().__getitem__(index)


def test_processes_that_load_free_nothing_of_the_one_that_started_them(clips, tmp_path):
    """A decoder of videos waits, when it is freed, for threads that no fork has."""
    log, dataset = tmp_path / "log", Collecting.__new__(Collecting)
    dataset.__dict__.update(dataset_of(clips, seed=3).__dict__)
    gc.disable()  # so that nobody frees it before the other process could
    try:
        Garbage(log)
        assert list(patch_loader(dataset, StepSampler(steps=3, batch=2), workers=1))
    finally:
        gc.enable()
    assert log.read_text() == f"{os.getpid()}\n"


def test_a_resumed_loader_yields_the_rest(clips):
    whole, rest = batches(clips, workers=0), batches(clips, workers=2, start=3)
    assert len(rest) == 2
    assert all(same(one, two) for one, two in zip(whole[3:], rest, strict=True))
