"""How frames of a video are turned and mirrored to be shown: phones store upright videos lying, and some mirrored."""

from __future__ import annotations

from typing import Any

import numpy as np
from av.sidedata.sidedata import Type

from vsrprune.data.video.colour import RgbFrame


def is_lying(frame: Any) -> bool:
    """Whether an av.VideoFrame is shown with its sides exchanged."""
    across, down, _, _ = _matrix(frame)
    return abs(down) > abs(across)


def upright(pixels_HW3: RgbFrame, frame: Any) -> RgbFrame:
    """The pixels of an av.VideoFrame as its container asks to show them, to the nearest quarter turn."""
    x_by_x, y_by_x, x_by_y, y_by_y = _matrix(frame)
    if is_lying(frame):
        pixels_HW3, x_by_x, y_by_y = pixels_HW3.swapaxes(0, 1), x_by_y, y_by_x
    return np.ascontiguousarray(pixels_HW3[:: -1 if y_by_y < 0 else 1, :: -1 if x_by_x < 0 else 1])


def _matrix(frame: Any) -> tuple[int, int, int, int]:
    """How far a step to the right in a frame leads to the right and down where it is shown, and a step down."""
    stated = frame.side_data.get(Type.DISPLAYMATRIX)
    if stated is None:
        return 1, 0, 0, 1
    a, b, _, c, d, *_ = (int(number) for number in np.frombuffer(stated, np.int32))
    return a, b, c, d
