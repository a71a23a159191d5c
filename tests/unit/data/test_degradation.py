"""MATLAB's antialiased bicubic: weights worked out by hand, invariants, and values of an independent implementation."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vsrprune.data.degradation import bicubic_uint8, imresize, to_uint8

GOLDEN = Path(__file__).parents[2] / "goldens" / "imresize_x4.npz"  # see the README.md beside it


def resize_weights(length, scale):
    """(output, length): what every input sample adds to every output sample, read off one impulse per sample."""
    impulses_LH1 = torch.eye(length, dtype=torch.float64)[:, :, None]
    return imresize(impulses_LH1, scale)[:, :, 0].T


# Keys' kernel with a = -0.5 at the distances .25, .75, 1.25, 1.75 is 222, 58, -18, -6 (in 1/256); shrinking by two
# spreads it over distances .5 .. 3.5 and halves it.
HALVED = [-3, -9, 29, 111, 111, 29, -9, -3]
DOUBLED_EVEN = [-6, 58, 222, -18]
DOUBLED_ODD = [-18, 222, 58, -6]


def test_weights_of_halving_by_hand():
    weights = resize_weights(16, 0.5) * 256
    for output in range(2, 6):  # centre at 2 * output + 0.5, taps from 2 * output - 3
        expected = torch.zeros(16, dtype=torch.float64)
        expected[2 * output - 3 : 2 * output + 5] = torch.tensor(HALVED, dtype=torch.float64)
        torch.testing.assert_close(weights[output], expected, atol=1e-12, rtol=0)


def test_borders_are_mirrored_by_hand():
    weights = resize_weights(16, 0.5) * 256
    # Taps at -3, -2, -1 fall on samples 2, 1, 0: 111 + 29, 111 - 9, 29 - 3.
    expected = torch.tensor([140, 102, 26, -9, -3] + 11 * [0], dtype=torch.float64)
    torch.testing.assert_close(weights[0], expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(weights[-1], expected.flip(0), atol=1e-12, rtol=0)


def test_weights_of_shrinking_by_three_by_hand():
    # Distances 0, 1/3, 2/3, 1, 4/3, 5/3 give 1, 7/9, 1/3, 0, -2/27, -1/27; their sum over both sides is 3.
    weights = resize_weights(18, 1 / 3) * 81
    expected = torch.zeros(18, dtype=torch.float64)
    expected[5:16] = torch.tensor([-1, -2, 0, 9, 21, 27, 21, 9, 0, -2, -1], dtype=torch.float64)
    torch.testing.assert_close(weights[3], expected, atol=1e-12, rtol=0)


def test_weights_of_doubling_by_hand():
    weights = resize_weights(8, 2) * 256
    for output, first, taps in ((6, 1, DOUBLED_EVEN), (7, 2, DOUBLED_ODD)):
        expected = torch.zeros(8, dtype=torch.float64)
        expected[first : first + 4] = torch.tensor(taps, dtype=torch.float64)
        torch.testing.assert_close(weights[output], expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("scale", [1 / 4, 1 / 3, 1 / 2, 0.7, 1, 2, 3, 4])
@pytest.mark.parametrize("length", [1, 3, 5, 16, 37])
def test_rows_sum_to_one_and_sides_round_up(length, scale):
    weights = resize_weights(length, scale)
    assert weights.shape == (int(np.ceil(length * scale)), length)
    torch.testing.assert_close(weights.sum(1), torch.ones(len(weights), dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize("scale", [1 / 4, 1 / 3, 2, 4])
@pytest.mark.parametrize("value", [0, 1, 127, 255])
def test_constants_are_preserved(value, scale):
    frames_TCHW = torch.full((2, 3, 12, 24), value, dtype=torch.uint8)
    resized = bicubic_uint8(frames_TCHW, scale)
    assert resized.shape == (2, 3, round(12 * scale), round(24 * scale))
    assert resized.unique().tolist() == [value]


def test_linear_ramps_are_reproduced_inside():
    ramp_HW = torch.arange(48, dtype=torch.float64)[:, None] * 3 + torch.arange(64, dtype=torch.float64)
    small_HW = imresize(ramp_HW, 0.25)
    # Output j stands at 4 j + 1.5; its kernel reaches 8 samples to either side.
    place = 4 * torch.arange(16, dtype=torch.float64) + 1.5
    expected = place[:12, None] * 3 + place
    torch.testing.assert_close(small_HW[2:-2, 2:-2], expected[2:-2, 2:-2], atol=1e-9, rtol=0)


def test_a_scale_of_one_changes_nothing():
    image_HW = torch.rand(9, 14, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(imresize(image_HW, 1), image_HW, atol=1e-12, rtol=0)


def test_axes_are_resized_independently():
    image_HW = torch.rand(12, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    by_hand = resize_weights(12, 0.25) @ image_HW @ resize_weights(20, 0.25).T
    torch.testing.assert_close(imresize(image_HW, 0.25), by_hand)
    torch.testing.assert_close(imresize(image_HW.T, 0.25), by_hand.T)


def test_halves_are_rounded_up_and_values_clipped():
    images = torch.tensor([-0.3, 0.0, 0.5 / 255, 0.49 / 255, 2.5 / 255, 253.5 / 255, 1.0, 1.7], dtype=torch.float64)
    assert to_uint8(images).tolist() == [0, 0, 1, 0, 3, 254, 255, 255]
    assert to_uint8(images).dtype == torch.uint8


def test_overshoot_at_an_edge_is_clipped_not_wrapped():
    frames_TCHW = torch.zeros(1, 1, 16, 32, dtype=torch.uint8)
    frames_TCHW[..., 16:] = 255
    unclipped = imresize(frames_TCHW.double(), 0.5)
    assert unclipped.min() < -1
    assert unclipped.max() > 256
    # Left of the edge, at 12.5 and 14.5: the taps beyond it weigh -3 and 29 - 9 - 3 of 256.
    assert unclipped[0, 0, 4, 6:8].tolist() == pytest.approx([255 * -3 / 256, 255 * 17 / 256])
    row = bicubic_uint8(frames_TCHW, 0.5)[0, 0, 4].tolist()
    assert row == [0] * 7 + [17, 238] + [255] * 7


def test_golden_float():
    golden = np.load(GOLDEN)
    high_CHW = torch.from_numpy(golden["hr_uint8"]).permute(2, 0, 1).double() / 255
    low_CHW = imresize(high_CHW, 0.25)
    up_CHW = imresize(torch.from_numpy(golden["lr_x4_float"]).permute(2, 0, 1), 4)
    assert np.abs(low_CHW.permute(1, 2, 0).numpy() - golden["lr_x4_float"]).max() <= 1e-5
    assert np.abs(up_CHW.permute(1, 2, 0).numpy() - golden["up_x4_float"]).max() <= 1e-5


def test_golden_uint8_is_exact():
    golden = np.load(GOLDEN)
    low_CHW = bicubic_uint8(torch.from_numpy(golden["hr_uint8"]).permute(2, 0, 1), 0.25)
    assert (low_CHW.permute(1, 2, 0).numpy() == golden["lr_x4_uint8"]).all()
