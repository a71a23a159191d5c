"""Temporal consistency: motions known by hand, tOF spelled out as its authors' code does, SciPy for warping."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from vsrprune.data.demo import demo_clips
from vsrprune.data.sources import demo_photo
from vsrprune.metrics.temporal import seen_in_both, spread_pairs, temporal_quality, truth_motion

HEIGHT, WIDTH = 96, 128


def photo(dy=0, dx=0):
    """A window of a photograph, (3, H, W), moved down and to the right by whole pixels."""
    with Image.open(demo_photo("chelsea")) as image:
        pixels = np.asarray(image.convert("RGB"))
    top, left = 80 - dy, 120 - dx
    return torch.from_numpy(pixels[top : top + HEIGHT, left : left + WIDTH].copy()).permute(2, 0, 1)


def moving(frames, dy, dx):
    return torch.stack([photo(t * dy, t * dx) for t in range(frames)])


def constant(*values):
    return torch.stack([torch.full((3, HEIGHT, WIDTH), value, dtype=torch.uint8) for value in values])


def flow(dx, dy):
    return np.broadcast_to(np.array([dx, dy], np.float32), (8, 10, 2)).copy()


@given(frames=st.integers(0, 60), most=st.integers(0, 70))
def test_pairs_are_spread_over_the_clip(frames, most):
    starts = list(spread_pairs(frames, most))
    pairs = max(frames - 1, 0)
    assert len(starts) == (min(pairs, most) if most else pairs)
    assert starts == sorted(set(starts))
    assert all(0 <= t < pairs for t in starts)
    if len(starts) > 1:
        assert (starts[0], starts[-1]) == (0, pairs - 1)


def test_eight_pairs_of_a_hundred_frames_by_hand():
    assert spread_pairs(100, 8) == [0, 14, 28, 42, 56, 70, 84, 98]


def test_the_flow_of_a_known_motion():
    motion = truth_motion(moving(3, dy=1, dx=2), 0)
    assert motion.starts == [0, 1]
    for found in motion.flows:
        inside = found[20:-20, 20:-20]
        assert np.median(inside[..., 0]) == pytest.approx(2, abs=0.05)
        assert np.median(inside[..., 1]) == pytest.approx(1, abs=0.05)
    assert all(visible[20:-20, 20:-20].mean() > 0.9 for visible in motion.visible)


def test_the_truth_itself_is_at_its_best():
    truth = moving(4, dy=0, dx=1)
    quality = temporal_quality(truth, truth_motion(truth, 0))
    assert quality.tof == 0
    assert quality.warping_error == quality.warping_error_truth < 1e-3


def test_an_output_that_keeps_still_misses_the_motion():
    truth = moving(3, dy=3, dx=4)
    still = truth[:1].expand(3, -1, -1, -1)
    quality = temporal_quality(still, truth_motion(truth, 0))
    assert quality.tof == pytest.approx(5, abs=0.5)  # sqrt(3^2 + 4^2)
    assert quality.warping_error > 10 * quality.warping_error_truth


def test_flicker_over_a_still_truth_by_hand():
    quality = temporal_quality(constant(100, 110, 100), truth_motion(photo().expand(3, -1, -1, -1), 0))
    assert quality.warping_error == pytest.approx((10 / 255) ** 2)
    assert quality.warping_error_truth == pytest.approx(0, abs=1e-6)
    assert quality.tof == pytest.approx(0, abs=1e-4)


def test_pairs_that_are_left_out_do_not_count():
    truth = photo().expand(6, -1, -1, -1)
    flicker = constant(100, 110, 110, 110, 110, 100)
    assert temporal_quality(flicker, truth_motion(truth, 2)).warping_error == pytest.approx((10 / 255) ** 2)
    assert temporal_quality(flicker, truth_motion(truth, 0)).warping_error == pytest.approx(2 / 5 * (10 / 255) ** 2)


def test_pixels_that_leave_the_frame_are_not_seen_in_both():
    visible = seen_in_both(flow(3, -2), flow(-3, 2))
    expected = np.ones((8, 10), bool)
    expected[:, -3:] = False
    expected[:2] = False
    assert (visible == expected).all()


@pytest.mark.parametrize(("back", "seen"), [(-3.0, True), (-2.3, True), (-2.2, False), (0.0, False)])
def test_pixels_that_do_not_come_back_are_not_seen_in_both(back, seen):
    # (3 - 2.3)^2 = 0.49 is below 0.01 * (9 + 5.29) + 0.5 = 0.643; (3 - 2.2)^2 = 0.64 above 0.01 * (9 + 4.84) + 0.5.
    visible = seen_in_both(flow(3, 0), flow(back, 0))
    assert visible[:, :-3].all() == visible[:, :-3].any() == seen


def test_what_a_moving_object_covers_is_not_seen_in_both():
    forth, back = flow(0, 0), flow(0, 0)
    forth[2:6, 2:5, 0] = 3  # an object of three columns moves by three
    back[2:6, 5:8, 0] = -3
    expected = np.ones((8, 10), bool)
    expected[2:6, 5:8] = False  # background that the object will cover
    assert (seen_in_both(forth, back) == expected).all()


def test_warping_equals_scipy_s():
    truth = demo_clips(4, 0, 1, 1, 2).val[0].high_TCHW
    motion = truth_motion(truth, 0)
    first, second = (frame.permute(1, 2, 0).double().numpy() / 255 for frame in truth)
    y, x = np.indices(first.shape[:2])
    place = [y + motion.flows[0][..., 1], x + motion.flows[0][..., 0]]
    warped = np.stack([ndimage.map_coordinates(second[..., c], place, order=1, mode="nearest") for c in range(3)], -1)
    expected = np.square(warped - first)[motion.visible[0]].mean()
    assert 0 < expected < 0.01
    assert motion.warping_errors == [pytest.approx(expected, rel=0.05)]  # OpenCV rounds places to 1/32 pixel


def released_tof(outputs, truths):
    """The measure as TecoGAN's metrics.py computes it, over all pairs of frames (H, W, 3)."""

    def crop_8x8(image):
        height, width = (side // 32 * 32 for side in image.shape[:2])
        while height > image.shape[0] - 16:
            height -= 32
        while width > image.shape[1] - 16:
            width -= 32
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        return image[top : top + height, left : left + width]

    values = []
    for t in range(1, len(outputs)):
        of = []
        for frames in (truths, outputs):
            before, after = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames[t - 1 : t + 1])
            of.append(crop_8x8(cv2.calcOpticalFlowFarneback(before, after, None, 0.5, 3, 15, 3, 5, 1.2, 0)))
        difference = np.absolute(of[0] - of[1])
        values.append(np.sqrt(np.sum(difference * difference, axis=-1)).mean())
    return np.mean(values)


@pytest.mark.parametrize("size", [(96, 128), (79, 112), (48, 64)])
def test_tof_equals_the_released_code(size):
    clip = demo_clips(4, 0, 1, 1, 4).val[0]
    truth = clip.high_TCHW[..., : size[0], : size[1]]
    blurred = clip.low_TCHW.repeat_interleave(4, -1).repeat_interleave(4, -2)[..., : size[0], : size[1]]
    arrays = [[np.ascontiguousarray(frame.permute(1, 2, 0).numpy()) for frame in frames] for frames in (blurred, truth)]
    quality = temporal_quality(blurred, truth_motion(truth, 0))
    assert quality.tof == pytest.approx(released_tof(*arrays), rel=1e-5)
    assert quality.tof > 0.05


@pytest.mark.parametrize("side", [11, 16, 44])
def test_small_frames_are_compared_whole(side):
    truth = moving(2, 0, 2)[..., :side, :side]
    quality = temporal_quality(truth.flip(0), truth_motion(truth, 0))
    assert quality.tof > 0.2


def test_a_single_frame_has_no_motion():
    truth = photo()[None]
    assert temporal_quality(truth, truth_motion(truth, 8)) is None


def test_where_nothing_is_seen_in_both_there_is_no_error():
    truth = moving(2, 0, 1)
    motion = truth_motion(truth, 0)
    motion.visible[0][:] = False
    assert temporal_quality(constant(0, 255), motion).warping_error == 0
