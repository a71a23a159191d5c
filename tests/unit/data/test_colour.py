"""YUV against the equations of ITU-R BT.601, BT.709 and BT.2020, in both directions."""

from __future__ import annotations

import av
import numpy as np
import pytest

from vsrprune.data.video.colour import BT470BG, BT709, BT2020, SMPTE170M, conventional_matrix, from_rgb, to_rgb

RED_BLUE = {BT709: (0.2126, 0.0722), BT470BG: (0.299, 0.114), SMPTE170M: (0.299, 0.114), BT2020: (0.2627, 0.0593)}
UNSPECIFIED, LIMITED, FULL = 2, 1, 2
COLOURS = [(50, 50, 50), (200, 100, 50), (30, 180, 90), (60, 70, 210), (235, 235, 235), (0, 0, 0), (255, 255, 255)]


def yuv_of(rgb, matrix, full):
    """Y, U, V of 8 bits as real numbers."""
    red, blue = RED_BLUE[matrix]
    r, g, b = (value / 255 for value in rgb)
    y = red * r + (1 - red - blue) * g + blue * b
    u, v = (b - y) / (2 * (1 - blue)), (r - y) / (2 * (1 - red))
    return (255 * y, 255 * u + 128, 255 * v + 128) if full else (219 * y + 16, 224 * u + 128, 224 * v + 128)


def flat_frame(values, pixel_format, height=18, width=34):
    """An av.VideoFrame with the same Y, U and V everywhere."""
    frame = av.VideoFrame(width, height, pixel_format)
    deep = pixel_format.endswith("10le")
    for plane, value in zip(frame.planes, values, strict=True):
        level = np.round(np.clip(value, 0, 255) * (4 if deep else 1))
        plane.update(np.full(plane.buffer_size // (2 if deep else 1), level, "<u2" if deep else "u1").tobytes())
    return frame


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", RED_BLUE)
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le"])
def test_decoded_colours_are_right(pixel_format: str, matrix: int, full: bool) -> None:
    for rgb in COLOURS:
        frame = flat_frame(yuv_of(rgb, matrix, full), pixel_format)
        frame.colorspace, frame.color_range = matrix, FULL if full else LIMITED
        pixels = to_rgb(frame)
        assert pixels.shape == (18, 34, 3)
        assert pixels.dtype == np.uint8
        # 8-bit YUV rounds by up to half a level, which the matrix can more than double.
        assert np.abs(pixels.astype(int) - rgb).max() <= 2


@pytest.mark.parametrize(
    ("height", "width", "matrix"), [(480, 720, SMPTE170M), (720, 1280, BT709), (576, 720, BT470BG)]
)
def test_an_unspecified_matrix_follows_the_size_and_the_range_is_limited(height: int, width: int, matrix: int) -> None:
    frame = flat_frame(yuv_of((200, 100, 50), matrix, full=False), "yuv420p", height, width)
    frame.colorspace, frame.color_range = UNSPECIFIED, 0
    assert np.abs(to_rgb(frame)[100, 100].astype(int) - (200, 100, 50)).max() <= 2


def test_the_formats_of_full_range_are() -> None:
    frame = flat_frame(yuv_of((200, 100, 50), SMPTE170M, full=True), "yuvj420p")
    frame.colorspace, frame.color_range = UNSPECIFIED, 0
    assert np.abs(to_rgb(frame)[5, 5].astype(int) - (200, 100, 50)).max() <= 2


@pytest.mark.parametrize("pixel_format", ["rgb24", "gbrp", "bgr0"])
def test_rgb_passes_unchanged(pixel_format: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pixel_format)
    np.testing.assert_array_equal(to_rgb(frame), pixels)


@pytest.mark.parametrize("matrix", [BT709, SMPTE170M, BT2020])
def test_encoded_colours_are_right_and_tagged(matrix: int) -> None:
    for rgb in COLOURS:
        frame = from_rgb(np.full((18, 34, 3), rgb, np.uint8), "yuv420p", matrix)
        assert (frame.colorspace, frame.color_range) == (matrix, LIMITED)
        levels = [np.frombuffer(plane, np.uint8)[2] for plane in frame.planes]
        assert np.abs(np.array(levels) - yuv_of(rgb, matrix, full=False)).max() <= 1


@pytest.mark.parametrize("matrix", [BT709, SMPTE170M, BT2020])
def test_there_and_back_again(matrix: int) -> None:
    """A picture with detail, smooth enough for chroma of half the resolution, odd in size."""
    y, x = np.mgrid[:33, :51] / 50
    pixels = (np.stack([x, y, 1 - x], axis=-1) * 200 + 20).astype(np.uint8)
    returned = to_rgb(from_rgb(pixels, "yuv420p", matrix))
    assert returned.shape == pixels.shape
    assert np.abs(returned.astype(int) - pixels)[1:-1, 1:-1].max() <= 8
    assert np.abs(returned.astype(float) - pixels).mean() <= 1.5


def test_the_convention_is_that_of_players() -> None:
    sizes = [(480, 854), (576, 720), (577, 720), (720, 1280), (544, 1280), (2160, 3840)]
    assert [conventional_matrix(*size) == BT709 for size in sizes] == [False, False, True, True, True, True]
