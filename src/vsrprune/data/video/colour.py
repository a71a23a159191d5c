"""Conversion between the YUV of video frames and RGB, by the matrix and range that a frame or convention states."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from numpy.typing import NDArray

RgbFrame = NDArray[np.uint8]  # (H, W, 3)
Colour = tuple[int, int, int]  # red, green and blue, each from 0 to 255
OPAQUE = 255

# swscale is fast instead of exact by default: flat 4:2:0 colours come out a level too dark.
EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP

# AVColorSpace, which is what streams and frames carry (ITU-T H.273), and swscale's name for it.
BT709, BT470BG, SMPTE170M, BT2020 = 1, 5, 6, 9
SWSCALE = {
    BT709: Colorspace.ITU709,
    4: Colorspace.FCC,
    BT470BG: Colorspace.ITU601,
    SMPTE170M: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    BT2020: Colorspace.BT2020,
}


def conventional_matrix(height: int, width: int) -> int:
    """BT.709 for high definition, BT.601 below: what players assume where a video states no matrix."""
    return BT709 if height > 576 or width >= 1280 else SMPTE170M


def matrix_of(frame: Any) -> int:
    """The matrix of an av.VideoFrame; the conventional one where it is unknown or not stated."""
    if frame.colorspace in SWSCALE:
        return int(frame.colorspace)
    return conventional_matrix(frame.height, frame.width)


def is_full_range(frame: Any) -> bool:
    """Whether black is 0 and not 16: only where the frame or its pixel format (yuvj...) says so."""
    return bool(frame.color_range == ColorRange.JPEG) or frame.format.name.startswith("yuvj")


def has_alpha(frame: Any) -> bool:
    """Whether the pixels of an av.VideoFrame may be transparent."""
    return frame.format.has_palette or any(component.is_alpha for component in frame.format.components)


def is_transparent(frame: Any) -> bool:
    """Whether a pixel of an av.VideoFrame is not opaque."""
    return has_alpha(frame) and bool((_converted(frame, "rgba")[..., 3] < OPAQUE).any())


def to_rgb(frame: Any, background: Colour | None = None) -> RgbFrame:
    """An av.VideoFrame of any pixel format as RGB of 8 bits (H, W, 3), over a background where it is transparent."""
    if background is not None and has_alpha(frame):
        return over(_converted(frame, "rgba"), background)
    return _converted(frame, "rgb24")


def over(pixels_HW4: RgbFrame, background: Colour) -> RgbFrame:
    """RGB (H, W, 3) of RGBA pixels (H, W, 4), whose colours are not multiplied by alpha, over a colour."""
    alpha = pixels_HW4[..., 3:].astype(np.uint16)
    blended = pixels_HW4[..., :3] * alpha + np.array(background, np.uint16) * (OPAQUE - alpha)
    rounded: RgbFrame = ((blended + OPAQUE // 2) // OPAQUE).astype(np.uint8)
    return rounded


def _converted(frame: Any, pixel_format: str) -> RgbFrame:
    # Both are set, since swscale would take what is not stated for BT.601 of limited range, whatever the size.
    if not frame.format.is_rgb:
        frame.color_range = ColorRange.JPEG if is_full_range(frame) else ColorRange.MPEG
        frame.colorspace = matrix_of(frame)
    pixels: RgbFrame = frame.reformat(
        format=pixel_format,
        interpolation=EXACT,
        # By name: a number would be read as swscale's, which counts differently.
        src_colorspace=None if frame.format.is_rgb else SWSCALE[frame.colorspace],
    ).to_ndarray()
    return pixels


def from_rgb(pixels_HW3: RgbFrame, pixel_format: str, matrix: int) -> Any:
    """An av.VideoFrame of limited range in `pixel_format`, with `matrix`, one of SWSCALE."""
    frame = av.VideoFrame.from_ndarray(pixels_HW3, format="rgb24")
    frame.color_range = ColorRange.JPEG
    return frame.reformat(
        format=pixel_format, interpolation=EXACT, dst_colorspace=SWSCALE[matrix], dst_color_range=ColorRange.MPEG
    )
