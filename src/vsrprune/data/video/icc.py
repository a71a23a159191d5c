"""Colour profiles (ICC) of pictures: their pixels as sRGB, which is what networks are trained on and videos hold."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from vsrprune.data.video.colour import RgbFrame

STEP = 15  # of the grid of colours, 18 to a side, on which a profile is compared with sRGB
ROUNDING = 1  # levels


def to_srgb(pixels_HW3: RgbFrame, profile: bytes) -> RgbFrame:
    """The same colours in sRGB; the same pixels where the profile is sRGB, or says nothing of RGB."""
    transform = conversion(profile)
    if transform is None:
        return pixels_HW3
    return np.asarray(ImageCms.applyTransform(Image.fromarray(pixels_HW3), transform))


@lru_cache(maxsize=4)
def conversion(profile: bytes) -> Any:
    """What converts pixels of a profile to sRGB; None where there is nothing to convert."""
    try:
        source, target = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
        transform: Any = ImageCms.buildTransform(source, target, "RGB", "RGB")
    except (ImageCms.PyCMSError, OSError):
        return None  # a profile of grey, or a damaged one
    # Most profiles are sRGB's own under some name: converting would only round its pixels once more.
    levels = np.arange(0, 256, STEP).astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(len(levels), -1, 3)
    converted = np.asarray(ImageCms.applyTransform(Image.fromarray(grid), transform))
    same = int(np.abs(converted.astype(int) - grid).max()) <= ROUNDING
    return None if same else transform
