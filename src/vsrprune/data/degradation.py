"""How low-resolution frames are made: MATLAB's bicubic (BI in the literature), and blur and decimation (BD).

Published numbers depend on details that papers leave out. Released code rounds in two ways and blurs in two ways; all
are here by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
from torch import Tensor

from vsrprune.errors import one_of

# Output samples per product. A tile of a banded matrix reads a few inputs more than it needs, a whole matrix reads all
# (0.25 to 0.43 of the time for decoding the PNG frame, against 0.77 to 1.24).
TILE = 16


def imresize(images_NCHW: Tensor, scale: float) -> Tensor:
    """Resize float images (..., H, W) by a factor, as MATLAB's bicubic `imresize` does.

    Shrinking widens the kernel by 1/scale (antialiasing); borders are mirrored. The result is not clipped or rounded.
    Sides become ceil(side * scale).
    """
    height, width = images_NCHW.shape[-2:]
    return _both(images_NCHW, _resize_bands(height, scale), _resize_bands(width, scale), images_NCHW.dtype)


def bicubic_uint8(frames_TCHW: Tensor, scale: float) -> Tensor:
    """`imresize` of 8-bit frames, clipped and rounded once to 8 bits: MATLAB on an image that im2double made."""
    height, width = frames_TCHW.shape[-2:]
    # float64: sums of 8-bit values times dyadic weights are exact, so a half is a half, as in MATLAB.
    resized = _both(frames_TCHW, _resize_bands(height, scale), _resize_bands(width, scale), torch.float64)
    return _rounded(resized, "half_up")


def bicubic_uint8_passes(frames_TCHW: Tensor, scale: float) -> Tensor:
    """`imresize` of 8-bit frames as MATLAB resizes images of class uint8: clipped and rounded after each dimension.

    MATLAB begins with the dimension of the smaller scale, and its sort is stable: with one scale for both it takes the
    first dimension, so the height shrinks first. The order matters because the rounded heights are what is resized.
    """
    height, width = frames_TCHW.shape[-2:]
    # A pass at 1/4 sums 8-bit values times multiples of 2^-12: exact in float32, so that halves are seen as halves.
    flat_TCHW = _rounded(_rows(frames_TCHW, _resize_bands(height, scale), torch.float32), "half_up")
    return _rounded(_columns(flat_TCHW, _resize_bands(width, scale), torch.float32), "half_up")


@dataclass(frozen=True)
class BlurDown:
    """A Gaussian blur, then every n-th pixel.

    kernel: how many taps a side has; tap (kernel - 1) // 2 is at the sampled pixel, for even kernels too, as in
    MATLAB's imfilter. sigma: the standard deviation in high-resolution pixels. padding: a name in PADDINGS. phase: the
    first row and column that is sampled. rounding: a name in ROUNDINGS, by which 8 bits are reached. Raises UserError
    for an unknown padding or rounding.
    """

    kernel: int
    sigma: float
    padding: str
    phase: int
    rounding: str = "half_up"

    def __post_init__(self) -> None:
        one_of("padding", self.padding, PADDINGS)
        one_of("rounding", self.rounding, ROUNDINGS)


# Which pixel inside a side of `length` pixels replaces one outside (index -> index). As in MATLAB's padarray,
# `symmetric` repeats the border pixel; `reflect` does not.
PADDINGS: Mapping[str, Callable[[Tensor, int], Tensor]] = {
    "replicate": lambda index, length: index.clamp(0, length - 1),
    "symmetric": lambda index, length: _folded(index, 2 * length, 2 * length - 1),
    "reflect": lambda index, length: _folded(index, max(2 * length - 2, 1), 2 * length - 2),
}
# MATLAB's uint8(), NumPy's and torch's round(), and a bare cast to an integer type.
ROUNDINGS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "half_up": lambda values: (values + 0.5).floor(),
    "half_even": torch.round,
    # The tolerance is for sums of weights that miss 1 by 1e-16: a flat 5 would become 4.
    "floor": lambda values: (values + 1e-9).floor(),
}

# BD_degradation.m, released with BasicVSR, at x4: a kernel of ceil(3 sigma) * 2 + 2 = 12 taps, imfilter's `replicate`,
# rows and columns 2, 6, 10 ... of MATLAB. The even kernel's centre is half a pixel after its anchor: the samples stand
# in the middle of their 4x4 pixels, where bicubic puts them too.
BD_BASICVSR = BlurDown(kernel=12, sigma=1.6, padding="replicate", phase=1)
# DUF's DownSample: 13 taps of 0.4 * scale, reflected borders. It pads 6 + 2 * 4 pixels, convolves without padding and
# leaves out two samples at every border: what is left are the pixels 0, 4, 8 ..., a pixel and a half before BasicVSR's.
# DUF never rounds; half_even is what code does that stores its frames. A network that learned one of the two phases
# loses more than 7 dB on the other (open-mmlab/mmagic issues 318, 803).
BD_DUF = BlurDown(kernel=13, sigma=1.6, padding="reflect", phase=0, rounding="half_even")
# The low-resolution frames that DUF's authors gave out (blur4 of UDM10 and Vid4) are not what DownSample makes.
BD_DUF_FRAMES = BlurDown(kernel=9, sigma=1.6, padding="replicate", phase=0, rounding="floor")


def blur_down(frames_TCHW: Tensor, scale: int, blur: BlurDown) -> Tensor:
    """8-bit frames (..., H, W) blurred and sampled at `phase`, `phase` + `scale`, ..., in 8 bits again."""
    height, width = frames_TCHW.shape[-2:]
    rows, columns = _blur_bands(height, scale, blur), _blur_bands(width, scale, blur)
    return _rounded(_both(frames_TCHW, rows, columns, torch.float64), blur.rounding)


# Name -> 8-bit frames (T, C, H, W) and the factor by which they shrink -> 8-bit frames.
DEGRADATIONS: Mapping[str, Callable[[Tensor, int], Tensor]] = {
    "bicubic": lambda frames_TCHW, scale: bicubic_uint8(frames_TCHW, 1 / scale),
    "bicubic_uint8_passes": lambda frames_TCHW, scale: bicubic_uint8_passes(frames_TCHW, 1 / scale),
    "bd_basicvsr": partial(blur_down, blur=BD_BASICVSR),
    "bd_duf": partial(blur_down, blur=BD_DUF),
    "bd_duf_frames": partial(blur_down, blur=BD_DUF_FRAMES),
}


def degrade(frames_TCHW: Tensor, scale: int, name: str) -> Tensor:
    """Low-resolution 8-bit frames, smaller by `scale`. Raises UserError for an unknown degradation."""
    one_of("data.degradation", name, DEGRADATIONS)
    return DEGRADATIONS[name](frames_TCHW, scale)


def to_uint8(images: Tensor) -> Tensor:
    """Clip [0, 1] images and round them to 8 bits, halves up."""
    return _rounded(images * 255, "half_up")


def _folded(index: Tensor, period: int, last: int) -> Tensor:
    """Mirror an index that repeats with `period`: `last` falls on 0."""
    index = index % period
    return torch.minimum(index, last - index)


def _rounded(values: Tensor, rounding: str) -> Tensor:
    """Values in 8-bit steps as uint8."""
    return ROUNDINGS[rounding](values.clamp(0, 255)).to(torch.uint8)


# A banded matrix by tiles of rows: first input, and the weights (rows of the tile, inputs) from there on.
Bands = list[tuple[int, Tensor]]


def _both(images: Tensor, rows: Bands, columns: Bands, dtype: torch.dtype) -> Tensor:
    """Multiply every image by a banded matrix from the left (rows) and by one from the right (columns)."""
    return _columns(_rows(images, rows, dtype), columns, dtype)


def _rows(images: Tensor, bands: Bands, dtype: torch.dtype) -> Tensor:
    """A banded matrix (H', H) times every image (..., H, W), in `dtype`."""
    flat_NHW = images.reshape(-1, *images.shape[-2:])
    products = []
    for first, weights in bands:
        inputs_NHW = flat_NHW[:, first : first + weights.shape[1]].to(dtype)  # here, where it stays in the cache
        products.append(torch.bmm(weights.to(inputs_NHW).expand(len(inputs_NHW), -1, -1), inputs_NHW))
    return torch.cat(products, dim=1).reshape(*images.shape[:-2], -1, images.shape[-1])


def _columns(images: Tensor, bands: Bands, dtype: torch.dtype) -> Tensor:
    """Every image (..., H, W) times the transpose of a banded matrix (W', W), in `dtype`."""
    return _rows(images.mT, bands, dtype).mT


def _bands(matrix: Tensor) -> Bands:
    """Tiles without the zeros to their left and right: a tile of a long side reads a few of its pixels, not all."""
    bands = []
    for top in range(0, len(matrix), TILE):
        tile = matrix[top : top + TILE]
        used = tile.any(dim=0).nonzero()
        first, last = int(used[0]), int(used[-1])
        bands.append((first, tile[:, first : last + 1]))
    return bands


@lru_cache(maxsize=64)
def _resize_bands(length: int, scale: float) -> Bands:
    """(ceil(length * scale), length) float64 weights of bicubic; every row sums to 1."""
    output = math.ceil(length * scale)
    stretch = min(scale, 1.0)
    centre = (torch.arange(output, dtype=torch.float64) + 0.5) / scale - 0.5
    # Keys' kernel reaches 2 pixels to each side, widened by 1/stretch; two more taps for where it falls, as imresize.
    taps = math.ceil(4 / stretch) + 2
    index = (centre - 2 / stretch).floor()[:, None] + torch.arange(taps, dtype=torch.float64)
    weight = _cubic((centre[:, None] - index) * stretch)
    return _bands(_matrix(index.long(), weight, "symmetric", length))


@lru_cache(maxsize=64)
def _blur_bands(length: int, scale: int, blur: BlurDown) -> Bands:
    """(samples, length) float64 weights of a blur and its sampling; every row sums to 1."""
    tap = torch.arange(blur.kernel)
    distance = tap.double() - (blur.kernel - 1) / 2
    # The Gaussian is centred on the kernel, the anchor is tap (kernel - 1) // 2: for an even kernel they are half a
    # pixel apart, and the samples move by as much.
    index = torch.arange(blur.phase, length, scale)[:, None] + tap - (blur.kernel - 1) // 2
    weight = torch.exp(-(distance**2) / (2 * blur.sigma**2)).expand(index.shape)
    return _bands(_matrix(index, weight, blur.padding, length))


def _matrix(index: Tensor, weight: Tensor, padding: str, length: int) -> Tensor:
    """Weights (outputs, taps) of the inputs `index`, some of them outside, as a matrix (outputs, length)."""
    weight = weight / weight.sum(dim=1, keepdim=True)
    # Taps outside fall on pixels inside, some of them on the same one, hence the sum (scatter_add).
    inside = PADDINGS[padding](index, length)
    return torch.zeros(len(index), length, dtype=torch.float64).scatter_add_(1, inside, weight)


def _cubic(x: Tensor) -> Tensor:
    """Cubic convolution kernel with a = -0.5 (Keys 1981), as in MATLAB; PyTorch's bicubic has a = -0.75."""
    x = x.abs()
    inner = 1.5 * x**3 - 2.5 * x**2 + 1
    outer = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return torch.where(x <= 1, inner, torch.where(x < 2, outer, torch.zeros_like(x)))
