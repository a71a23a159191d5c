"""The conventions of rounding and of blurring: released scripts spelled out again, SciPy, and closed forms."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from torch.nn import functional as F

from vsrprune.config.data import DEGRADATIONS as NAMES
from vsrprune.data.clips import make_clip
from vsrprune.data.degradation import (
    BD_BASICVSR,
    BD_DUF,
    BD_DUF_FRAMES,
    DEGRADATIONS,
    PADDINGS,
    BlurDown,
    bicubic_uint8,
    bicubic_uint8_passes,
    blur_down,
    degrade,
    imresize,
)
from vsrprune.errors import UserError

NUMPY_PADDINGS = {"replicate": "edge", "symmetric": "symmetric", "reflect": "reflect"}
SCIPY_PADDINGS = {"replicate": "nearest", "symmetric": "reflect", "reflect": "mirror"}


def noise(seed, *shape):
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def gaussian(kernel, sigma):
    """fspecial('gaussian', kernel, sigma)."""
    place = np.arange(kernel) - (kernel - 1) / 2
    weight = np.exp(-(place[:, None] ** 2 + place**2) / (2 * sigma**2))
    return weight / weight.sum()


def test_the_configuration_names_every_degradation():
    assert tuple(DEGRADATIONS) == NAMES


@pytest.mark.parametrize("name", DEGRADATIONS)
@given(value=st.integers(0, 255), height=st.integers(1, 12), width=st.integers(1, 12))
def test_constants_are_preserved(name, value, height, width):
    frames_TCHW = torch.full((1, 3, 4 * height, 4 * width), value, dtype=torch.uint8)
    low_TCHW = degrade(frames_TCHW, 4, name)
    assert low_TCHW.shape == (1, 3, height, width)
    assert low_TCHW.unique().tolist() == [value]


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_frames_and_colours_do_not_touch_each_other(name):
    frames_TCHW = noise(0, 3, 3, 24, 40)
    whole = degrade(frames_TCHW, 4, name)
    for t in range(3):
        for c in range(3):
            assert (degrade(frames_TCHW[t : t + 1, c : c + 1], 4, name) == whole[t : t + 1, c : c + 1]).all()


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_long_sides_are_cut_into_tiles_without_a_seam(name):
    frames_TCHW = noise(1, 1, 1, 16, 600)
    whole = degrade(frames_TCHW, 4, name)
    part = degrade(frames_TCHW[..., 200:400], 4, name)
    assert (whole[..., 54:96] == part[..., 4:46]).all()  # but where the part's border is near


# Rounding


def passes_by_hand(image, scale):
    """MATLAB on uint8, by the weights of single impulses: rows, round, columns, round."""

    def weights(length):
        return imresize(torch.eye(length, dtype=torch.float64)[:, :, None], scale)[:, :, 0].T.numpy()

    def rounded(values):
        return np.floor(np.clip(values, 0, 255) + 0.5)

    height, width = image.shape
    return rounded(rounded(weights(height) @ image) @ weights(width).T)


@pytest.mark.parametrize("scale", [1 / 4, 1 / 3, 1 / 2, 2, 4])
def test_rounding_after_each_dimension_height_first(scale):
    frames_TCHW = noise(2, 1, 1, 36, 60)
    image = frames_TCHW[0, 0].double().numpy()
    low = bicubic_uint8_passes(frames_TCHW, scale)[0, 0].numpy()
    assert (low == passes_by_hand(image, scale)).all()
    assert (low != passes_by_hand(image.T, scale).T).any()  # width first is something else
    assert (low != bicubic_uint8(frames_TCHW, scale)[0, 0].numpy()).any()  # and so is rounding once


def test_the_order_of_the_dimensions_by_hand():
    # Halving takes 111/256 of each of the two nearest samples. Two pixels of 4 side by side: after the height
    # 4 * 111/256 = 1.7, rounded to 2; after the width 2 * 222/256 = 1.7, rounded to 2. Width first would give
    # 4 * 222/256 = 3.5, rounded to 3, then 3 * 111/256 = 1.3, rounded to 1: that is the transposed image.
    frames_TCHW = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
    frames_TCHW[..., 8, 8:10] = 4
    assert bicubic_uint8_passes(frames_TCHW, 0.5)[0, 0, 4, 4] == 2
    assert bicubic_uint8_passes(frames_TCHW.mT, 0.5)[0, 0, 4, 4] == 1


def test_dark_pixels_do_not_survive_the_first_rounding():
    # One pixel of 3 beside 0: 3 * 111/256 = 1.3 after the height, rounded to 1; 111/256 after the width, rounded to 0.
    # Rounding once: 3 * (111/256)^2 = 0.56, rounded to 1.
    frames_TCHW = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
    frames_TCHW[..., 8, 8] = 3
    assert bicubic_uint8_passes(frames_TCHW, 0.5)[0, 0, 4, 4] == 0
    assert bicubic_uint8(frames_TCHW, 0.5)[0, 0, 4, 4] == 1


@pytest.mark.parametrize(
    ("rounding", "expected"), [("half_up", [1, 2, 3]), ("half_even", [0, 2, 2]), ("floor", [0, 1, 2])]
)
def test_roundings_of_halves(rounding, expected):
    # Two taps of equal weight: the mean of neighbours.
    blur = BlurDown(kernel=2, sigma=1.0, padding="replicate", phase=0, rounding=rounding)
    rows_TCHW = torch.tensor([0, 1, 1, 2, 2, 3], dtype=torch.uint8).expand(1, 1, 6, 6)
    assert blur_down(rows_TCHW, 2, blur)[0, 0, 0].tolist() == expected


# Blurring


def basicvsr_script(image):
    """BD_degradation.m of BasicVSR: imfilter's replicate, an even kernel anchored at floor((12 + 1) / 2) of MATLAB."""
    kernel, scale = int(np.ceil(1.6 * 3) * 2 + 2), 4
    assert kernel == 12
    padded = np.pad(image, ((5, 6), (5, 6)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel))
    blurred = (windows * gaussian(kernel, 1.6)).sum((-2, -1))
    sampled = blurred[scale // 2 - 1 : image.shape[0] - scale // 2 : scale]
    return sampled[:, scale // 2 - 1 : image.shape[1] - scale // 2 : scale]


def duf_script(image):
    """DUF's DownSample: a delta blurred by SciPy, 14 reflected pixels, a strided convolution, two samples left out."""
    delta = np.zeros((13, 13))
    delta[6, 6] = 1
    weight = torch.from_numpy(ndimage.gaussian_filter(delta, 0.4 * 4))
    padded = F.pad(torch.from_numpy(image)[None, None], [14] * 4, mode="reflect")
    return F.conv2d(padded, weight[None, None], stride=4)[0, 0, 2:-2, 2:-2].numpy()


@pytest.mark.parametrize(("blur", "script"), [(BD_BASICVSR, basicvsr_script), (BD_DUF, duf_script)])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (24, 20), (64, 88)])
def test_presets_equal_the_released_scripts(blur, script, height, width):
    frames_TCHW = noise(3, 1, 1, height, width)
    expected = script(frames_TCHW[0, 0].double().numpy())
    low = blur_down(frames_TCHW, 4, blur)[0, 0].numpy()
    assert low.shape == expected.shape == (height // 4, width // 4)
    decided = np.abs(expected % 1 - 0.5) > 1e-9  # summed in another order, a half may fall to either side
    assert decided.mean() > 0.9
    assert (low == np.round(expected))[decided].all()


def test_duf_s_own_frames_are_a_blur_of_nine_taps_rounded_down():
    frames_TCHW = noise(6, 1, 1, 40, 56)
    padded = np.pad(frames_TCHW[0, 0].double().numpy(), 4, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (9, 9))[::4, ::4]
    expected = (windows * gaussian(9, 1.6)).sum((-2, -1))
    assert np.abs(expected - np.round(expected)).min() > 1e-9  # no value that summing in another order would move
    assert (blur_down(frames_TCHW, 4, BD_DUF_FRAMES)[0, 0].numpy() == np.floor(expected)).all()


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("kernel", [1, 7, 13])
@pytest.mark.parametrize("phase", [0, 1, 3])
def test_odd_kernels_equal_scipy(padding, kernel, phase):
    frames_TCHW = noise(4, 2, 3, 20, 28)
    blurred = ndimage.correlate(
        frames_TCHW.double().numpy(), gaussian(kernel, 1.6)[None, None], mode=SCIPY_PADDINGS[padding]
    )
    low = blur_down(frames_TCHW, 4, BlurDown(kernel, 1.6, padding, phase)).numpy()
    assert np.abs(low - blurred[..., phase::4, phase::4]).max() <= 0.5 + 1e-9


@given(
    padding=st.sampled_from(sorted(PADDINGS)),
    length=st.integers(1, 9),
    index=st.integers(-30, 40),
)
def test_paddings_equal_numpy_s(padding, length, index):
    side = np.arange(length)
    padded = np.pad(side, (30, 40), mode=NUMPY_PADDINGS[padding])
    assert PADDINGS[padding](torch.tensor(index), length) == padded[index + 30]


@pytest.mark.parametrize("blur", [BD_BASICVSR, BD_DUF])
def test_an_impulse_is_the_kernel_sampled_at_the_phase(blur):
    frames_TCHW = torch.zeros(1, 1, 48, 48, dtype=torch.uint8)
    frames_TCHW[..., 22, 25] = 255
    kernel, anchor = gaussian(blur.kernel, blur.sigma), (blur.kernel - 1) // 2
    expected = np.zeros((12, 12))
    for i in range(12):
        for j in range(12):
            tap_y, tap_x = 22 - (blur.phase + 4 * i) + anchor, 25 - (blur.phase + 4 * j) + anchor
            if 0 <= tap_y < blur.kernel and 0 <= tap_x < blur.kernel:
                expected[i, j] = 255 * kernel[tap_y, tap_x]
    assert (blur_down(frames_TCHW, 4, blur)[0, 0].numpy() == np.round(expected)).all()
    assert expected.max() > 5


def test_where_the_samples_stand():
    """A ramp tells the place: bicubic and BasicVSR sample the middle of every 4x4 pixels, DUF its first pixel."""
    ramp_TCHW = torch.arange(0, 240, 2, dtype=torch.uint8).expand(1, 1, 16, 120)
    inside = slice(5, 25)
    first = torch.arange(30)[inside] * 8
    assert (degrade(ramp_TCHW, 4, "bicubic")[0, 0, 2, inside] == first + 3).all()
    assert (degrade(ramp_TCHW, 4, "bd_basicvsr")[0, 0, 2, inside] == first + 3).all()
    assert (degrade(ramp_TCHW, 4, "bd_duf")[0, 0, 2, inside] == first).all()
    assert (degrade(ramp_TCHW, 4, "bd_duf_frames")[0, 0, 2, inside] == first).all()


@pytest.mark.parametrize(("wrong", "expected"), [
    ({"padding": "zero"}, "padding must be one of replicate, symmetric, reflect; got 'zero'"),
    ({"rounding": "up"}, "rounding must be one of half_up, half_even, floor; got 'up'"),
])  # fmt: skip
def test_unknown_conventions_are_refused(wrong, expected):
    with pytest.raises(UserError, match=expected):
        BlurDown(**{"kernel": 13, "sigma": 1.6, "padding": "reflect", "phase": 0, **wrong})


def test_an_unknown_degradation_is_refused():
    with pytest.raises(UserError, match=r"data\.degradation must be one of bicubic, .*bd_duf_frames; got 'bd'"):
        degrade(noise(0, 1, 1, 8, 8), 4, "bd")


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_a_clip_is_made_by_its_degradation(name):
    frames_TCHW = noise(5, 2, 3, 33, 46)
    clip, _ = make_clip("walk", frames_TCHW, 4, name)
    assert (clip.low_TCHW == degrade(frames_TCHW[..., :32, :44], 4, name)).all()
    assert (clip.high_TCHW == frames_TCHW[..., :32, :44]).all()
