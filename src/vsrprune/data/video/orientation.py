"""How frames of a video are turned and mirrored to be shown: phones store upright videos lying, and some mirrored."""

from __future__ import annotations

from typing import Any

import numpy as np
from av.sidedata.sidedata import Type

from vsrprune.data.video.colour import RgbFrame

Matrix = tuple[int, int, int, int]  # how far a step right leads right and down where it is shown, and a step down


class Orientation:
    """How the frames of one video are shown; each av.VideoFrame is asked in turn.

    The whole matrix is read once for every rotation that frames state: a frame whose side data were read refers to
    itself, so that its pixels are freed by the garbage collector alone, hundreds of frames later.
    """

    def __init__(self) -> None:
        self._matrices: dict[int, Matrix] = {}

    def is_lying(self, frame: Any) -> bool:
        """Whether a frame is shown with its sides exchanged."""
        across, down, _, _ = self._matrix(frame)
        return abs(down) > abs(across)

    def upright(self, pixels_HW3: RgbFrame, frame: Any) -> RgbFrame:
        """The pixels of a frame as its container asks to show them, to the nearest quarter turn."""
        x_by_x, y_by_x, x_by_y, y_by_y = self._matrix(frame)
        if self.is_lying(frame):
            pixels_HW3, x_by_x, y_by_y = pixels_HW3.swapaxes(0, 1), x_by_y, y_by_x
        return np.ascontiguousarray(pixels_HW3[:: -1 if y_by_y < 0 else 1, :: -1 if x_by_x < 0 else 1])

    def _matrix(self, frame: Any) -> Matrix:
        if frame.rotation not in self._matrices:
            self._matrices[frame.rotation] = _stated(frame)
        return self._matrices[frame.rotation]


def _stated(frame: Any) -> Matrix:
    stated = frame.side_data.get(Type.DISPLAYMATRIX)
    if stated is None:
        return 1, 0, 0, 1
    a, b, _, c, d, *_ = (int(number) for number in np.frombuffer(stated, np.int32))
    return a, b, c, d
