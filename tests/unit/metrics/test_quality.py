"""PSNR and SSIM by hand, by their definition, and against an independent implementation."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from vsrprune.errors import UserError
from vsrprune.metrics import quality
from vsrprune.metrics.quality import frame_quality

GOLDENS = Path(__file__).parents[2] / "goldens"  # see its README.md
VALUES, IMAGES = GOLDENS / "psnr_ssim_values.json", GOLDENS / "psnr_ssim_images.npz"


def constant(value, frames=1, height=16, width=20):
    return torch.full((frames, 3, height, width), value, dtype=torch.uint8)


def noise(seed, frames=1, height=16, width=20):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (frames, 3, height, width), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("difference", "psnr"),
    [(1, 48.1308036), (5, 34.1514035), (10, 28.1308036), (51, 13.9794001)],  # 10 log10(255^2 / difference^2)
)
def test_psnr_of_a_constant_difference_by_hand(difference, psnr):
    quality = frame_quality(constant(100 + difference), constant(100), "rgb", 0)
    assert quality.psnr == pytest.approx([psnr], abs=1e-6)


def test_psnr_of_one_wrong_sample_by_hand():
    output = constant(100)
    output[0, 1, 5, 7] = 110  # squared error 100 over 3 * 16 * 20 samples: MSE 100 / 960
    assert frame_quality(output, constant(100), "rgb", 0).psnr == [pytest.approx(10 * math.log10(65025 * 9.6))]


def test_frames_are_scored_one_by_one():
    truth = constant(100, frames=3)
    output = torch.cat((constant(101), constant(100), constant(110)))
    quality = frame_quality(output, truth, "rgb", 0)
    assert quality.psnr == pytest.approx([48.1308036, 100, 28.1308036], abs=1e-6)
    assert len(quality.ssim) == 3
    assert quality.ssim[1] == pytest.approx(1)
    assert quality.ssim[0] > quality.ssim[2]


@pytest.mark.parametrize("channel", ["rgb", "y"])
def test_identical_frames_score_100_db_and_1(channel):
    frames = noise(0, frames=2)
    quality = frame_quality(frames, frames.clone(), channel, 0)
    assert quality.psnr == [100, 100]
    assert quality.ssim == pytest.approx([1, 1])


def test_no_psnr_exceeds_that_of_identical_frames():
    output = torch.full((1, 3, 1000, 1000), 100, dtype=torch.uint8)
    truth = output.clone()
    output[0, 2, 0, 0] = 101  # Y differs by 24.966 / 255 in one of a million pixels: 128.3 dB
    assert frame_quality(output, truth, "y", 0).psnr == [100]


@pytest.mark.parametrize(("band", "weight"), [(0, 65.481), (1, 128.553), (2, 24.966)])
def test_luma_of_a_colour_band_by_hand(band, weight):
    output = constant(50)
    output[:, band] = 150
    difference = weight * 100 / 255
    assert frame_quality(output, constant(50), "y", 0).psnr == [pytest.approx(20 * math.log10(255 / difference))]


def test_luma_spans_the_studio_range_by_hand():
    # Y of white is 16 + 65.481 + 128.553 + 24.966 = 235, Y of black 16.
    quality = frame_quality(constant(255), constant(0), "y", 0)
    assert quality.psnr == [pytest.approx(20 * math.log10(255 / 219))]
    c1 = (0.01 * 255) ** 2
    expected = (2 * 235 * 16 + c1) / (235**2 + 16**2 + c1)
    assert quality.ssim == [pytest.approx(expected)]


def test_luma_is_not_rounded():
    output = constant(50)
    output[:, 2] = 51  # Y differs by 0.0979: rounded to 8 bits the frames would be equal
    assert frame_quality(output, constant(50), "y", 0).psnr == [pytest.approx(20 * math.log10(255 / (24.966 / 255)))]


def test_colours_of_equal_luma_differ_on_rgb_alone():
    output, truth = constant(100), constant(100)
    output[:, 0], output[:, 1] = 100 + 54, 100 - 27  # 54 * 65.481 against 27 * 128.553
    assert frame_quality(output, truth, "y", 0).psnr[0] > 50
    assert frame_quality(output, truth, "rgb", 0).psnr[0] < 20


def test_ssim_of_constant_frames_by_hand():
    c1 = (0.01 * 255) ** 2
    quality = frame_quality(constant(120), constant(100), "rgb", 0)
    assert quality.ssim == [pytest.approx((2 * 120 * 100 + c1) / (120**2 + 100**2 + c1))]


def test_ssim_of_one_window_by_definition():
    """An 11x11 frame has a single window: Gaussian means, population variances and covariance (Wang et al. 2004)."""
    output, truth = noise(1, height=11, width=11), noise(2, height=11, width=11)
    places = np.arange(-5, 6)
    weights = np.exp(-(places[:, None] ** 2 + places**2) / (2 * 1.5**2))
    weights /= weights.sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    bands = []
    for x, y in zip(output[0].double().numpy(), truth[0].double().numpy(), strict=True):
        mean_x, mean_y = (weights * x).sum(), (weights * y).sum()
        var_x, var_y = (weights * x**2).sum() - mean_x**2, (weights * y**2).sum() - mean_y**2
        covariance = (weights * x * y).sum() - mean_x * mean_y
        luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
        bands.append(luminance * (2 * covariance + c2) / (var_x + var_y + c2))
    assert frame_quality(output, truth, "rgb", 0).ssim == [pytest.approx(np.mean(bands), abs=1e-9)]


def test_quality_does_not_depend_on_which_clip_is_the_truth():
    one, two = noise(1, frames=2), noise(2, frames=2)
    forth, back = frame_quality(one, two, "y", 0), frame_quality(two, one, "y", 0)
    assert forth.psnr == pytest.approx(back.psnr)
    assert forth.ssim == pytest.approx(back.ssim)


@pytest.mark.parametrize("channel", ["rgb", "y"])
def test_crop_leaves_out_the_border(channel):
    truth = noise(0, height=24, width=28)
    output = truth.clone()
    output[..., 4:-4, 4:-4] = noise(1, height=16, width=20)
    inside = frame_quality(output[..., 4:-4, 4:-4], truth[..., 4:-4, 4:-4], channel, 0)
    assert frame_quality(output, truth, channel, 4) == inside
    border = truth.clone()
    border[..., :4, :], border[..., -4:, :], border[..., :, :4], border[..., :, -4:] = 0, 0, 0, 0
    assert frame_quality(border, truth, channel, 4).psnr == [100]
    assert frame_quality(border, truth, channel, 3).psnr[0] < 40


@pytest.mark.parametrize(("height", "width", "crop"), [(10, 30, 0), (30, 10, 0), (18, 30, 4), (8, 8, 4), (8, 8, 5)])
def test_frames_too_small_for_ssim_are_refused(height, width, crop):
    frames = constant(0, height=height, width=width)
    expected = rf"frames of {width - 2 * crop}x{height - 2 * crop} \(after cropping {crop} pixels\).*window, 11x11"
    with pytest.raises(UserError, match=expected):
        frame_quality(frames, frames, "rgb", crop)


def test_the_smallest_frame_is_accepted():
    frames = constant(9, height=19, width=19)
    assert frame_quality(frames, frames, "rgb", 4).psnr == [100]


def test_an_unknown_channel_is_refused():
    with pytest.raises(UserError, match="metric channel must be one of rgb, y; got 'Y'"):
        frame_quality(constant(0), constant(0), "Y", 0)


def test_clips_of_different_lengths_are_not_compared():
    with pytest.raises(ValueError, match="longer"):
        frame_quality(constant(0, frames=2), constant(0, frames=3), "rgb", 0)


def gradient(height, width):
    """Every band another slope, with a flat half: places where variances vanish."""
    ramp = torch.arange(width) * 255 // width
    frame = torch.stack([ramp, ramp.flip(0), ramp // 2]).to(torch.uint8)[:, None].repeat(1, height, 1)
    frame[..., : height // 2, :] = 200
    return frame[None]


def stripes(height, width):
    return (((torch.arange(height)[:, None] + torch.arange(width)) % 7 < 3) * 255).to(torch.uint8).repeat(1, 3, 1, 1)


def bordered(height, width):
    frame = constant(30, height=height, width=width)
    frame[..., 0, :], frame[..., -1, :], frame[..., 0], frame[..., -1] = 255, 0, 255, 0
    return frame


def of_scikit_image(output, truth, channel):
    images = [frames[0].double().numpy() for frames in (output, truth)]
    if channel == "y":
        images = [16 + np.tensordot((65.481, 128.553, 24.966), image, axes=1)[None] / 255 for image in images]
    return structural_similarity(
        *images, channel_axis=0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )


@pytest.mark.parametrize("channel", ["rgb", "y"])
@pytest.mark.parametrize("size", [(11, 11), (12, 40), (40, 11), (61, 83)])
def test_ssim_is_scikit_images(channel, size):
    truths = [noise(3, 1, *size), gradient(*size), stripes(*size), bordered(*size), constant(0, 1, *size)]
    outputs = [noise(4, 1, *size), *[truth.roll(1, -1) for truth in truths], *[255 - truth for truth in truths]]
    for truth in truths:
        for output in outputs:
            (ssim,) = frame_quality(output, truth, channel, 0).ssim
            assert ssim == pytest.approx(of_scikit_image(output, truth, channel), abs=1e-9)


@pytest.mark.parametrize("samples", [1, 700, 1300, 3000, 10**6])
@pytest.mark.parametrize("channel", ["rgb", "y"])
def test_how_much_is_compared_at_once_changes_nothing(monkeypatch, samples, channel):
    """One row, strips that end early, one frame, several frames, the whole clip."""
    output, truth = noise(5, 5, 23, 19), noise(6, 5, 23, 19)
    whole = frame_quality(output, truth, channel, 2)
    monkeypatch.setattr(quality, "_SAMPLES", {True: samples})
    parts = frame_quality(output, truth, channel, 2)
    assert parts.psnr == pytest.approx(whole.psnr, abs=1e-12)
    assert parts.ssim == pytest.approx(whole.ssim, abs=1e-12)


def test_golden_values():
    rows, images = json.loads(VALUES.read_text()), np.load(IMAGES)
    assert len(rows) >= 12
    for row in rows:
        output, truth = (
            torch.from_numpy(images[f"{row['image']}_{kind}_rgb"]).permute(2, 0, 1)[None] for kind in ("test", "ref")
        )
        quality = frame_quality(output, truth, row["channel"].lower(), row["crop_border"])
        assert quality.psnr == pytest.approx([row["psnr"]], abs=1e-4), row
        assert quality.ssim == pytest.approx([row["ssim"]], abs=1e-5), row
