"""Temporal consistency: does an output move as the truth does, and does it keep still where the truth does?

Two measures, both zero at best, on pairs of consecutive frames. Flow is Farneback's, by OpenCV with the arguments of
the code that defines tOF, so that numbers compare with published ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Flow = NDArray[np.float32]  # (H, W, 2), x then y, in pixels: what is at p is at p + flow(p) one frame later
Frame = NDArray[np.uint8]  # (H, W, 3)

FARNEBACK = (0.5, 3, 15, 3, 5, 1.2, 0)  # scale between levels, levels, window, iterations, and its polynomials
BORDER, MULTIPLE = 8, 32  # tOF leaves out at least BORDER pixels a side, and keeps a multiple of MULTIPLE
cv2.setNumThreads(1)  # more gain nothing in Farneback's flow, and would ignore a job's share of the threads

# Calls a function for every item, like `map`; a thread pool's `map` takes pairs side by side, since OpenCV leaves the
# interpreter's lock while it computes.
Each = Callable[..., Iterable[Any]]


@dataclass(frozen=True)
class TruthMotion:
    """The motion of a true clip, for some of its pairs (t, t + 1), in order.

    starts: t of each pair. flows: from t to t + 1. visible: the pixels of frame t that are seen in both (see
    `seen_in_both`). warping_errors: of the true frames themselves.
    """

    starts: Sequence[int]
    flows: list[Flow]
    visible: list[NDArray[np.bool_]]
    warping_errors: list[float]

    @property
    def nbytes(self) -> int:
        """The memory that it takes."""
        return sum(array.nbytes for array in (*self.flows, *self.visible))


@dataclass(frozen=True)
class TemporalQuality:
    """Means over the pairs of a clip.

    tof: length of the difference between the output's flow and the truth's, in pixels (Chu et al. 2020). warping_error:
    mean square difference of an output frame and the next one warped back by the *truth's* flow, RGB in [0, 1], over
    the pixels that are seen in both (Lai et al. 2018). warping_error_truth: the same of the true frames. Below it lies
    what is smoother than the truth, not what is better.
    """

    tof: float
    warping_error: float
    warping_error_truth: float


def truth_motion(truth_TCHW: Tensor, most: int, each: Each = map) -> TruthMotion:
    """Motion of a true clip (uint8 RGB) at no more than `most` pairs, evenly spread over it; at all pairs if 0."""
    starts = spread_pairs(len(truth_TCHW), most)
    pairs = list(each(partial(_motion_of_pair, truth_TCHW), starts))
    flows, visible, errors = ([pair[place] for pair in pairs] for place in range(3))
    return TruthMotion(starts, flows, visible, errors)


def _motion_of_pair(truth_TCHW: Tensor, t: int) -> tuple[Flow, NDArray[np.bool_], float]:
    """The flow from frame t to t + 1, what is seen in both, and the warping error of the true frames."""
    first, second = _frame(truth_TCHW, t), _frame(truth_TCHW, t + 1)
    forth, back = _flow(first, second), _flow(second, first)
    visible = seen_in_both(forth, back)
    return forth, visible, _warping_error(first, second, forth, visible)


def temporal_quality(output_TCHW: Tensor, motion: TruthMotion, each: Each = map) -> TemporalQuality | None:
    """Compare a uint8 RGB clip with the motion of its truth; None for a clip of a single frame."""
    if not motion.starts:
        return None
    pairs = each(partial(_pair_quality, output_TCHW), motion.starts, motion.flows, motion.visible)
    lengths, errors = zip(*pairs, strict=True)
    return TemporalQuality(float(np.mean(lengths)), float(np.mean(errors)), float(np.mean(motion.warping_errors)))


def _pair_quality(output_TCHW: Tensor, t: int, flow: Flow, visible: NDArray[np.bool_]) -> tuple[float, float]:
    """The length of the flows' difference and the warping error of the frames t and t + 1."""
    first, second = _frame(output_TCHW, t), _frame(output_TCHW, t + 1)
    difference = _inner(_flow(first, second)) - _inner(flow)
    length = float(np.linalg.norm(difference.astype(np.float64), axis=-1).mean())
    # By the truth's flow: an output that invents motion of its own must not be excused by it.
    return length, _warping_error(first, second, flow, visible)


def spread_pairs(frames: int, most: int) -> Sequence[int]:
    """First frames of at most `most` (0: all) of the pairs of a clip, the first and the last pair among them."""
    pairs = max(frames - 1, 0)
    if most == 0 or pairs <= most:
        return list(range(pairs))
    return [int(t) for t in np.linspace(0, pairs - 1, most).round()]


def seen_in_both(forth: Flow, back: Flow) -> NDArray[np.bool_]:
    """(H, W): pixels of the first frame that stay inside, and come back where they were.

    |forth(p) + back(p + forth(p))|^2 <= 0.01 (|forth|^2 + |back|^2) + 0.5 (Sundaram et al. 2010).
    """
    height, width = forth.shape[:2]
    back = _warped(back, forth)
    place = _places(forth)
    inside = (place >= 0).all(-1) & (place[..., 0] <= width - 1) & (place[..., 1] <= height - 1)
    apart, reach = np.square(forth + back).sum(-1), np.square(forth).sum(-1) + np.square(back).sum(-1)
    return np.asarray(inside & (apart <= 0.01 * reach + 0.5))


def _frame(frames_TCHW: Tensor, t: int) -> Frame:
    return np.ascontiguousarray(frames_TCHW[t].permute(1, 2, 0).cpu().numpy())


def _flow(first: Frame, second: Frame) -> Flow:
    greys = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (first, second)]
    return np.asarray(cv2.calcOpticalFlowFarneback(*greys, None, *FARNEBACK))  # type: ignore[call-overload]


def _inner(flow: Flow) -> Flow:
    """What tOF compares: the largest middle of sides in multiples of 32 that leaves 8 pixels at every border.

    A side that is too short for any such middle is compared whole.
    """
    spans = []
    for side in flow.shape[:2]:
        kept = max((side - 2 * BORDER) // MULTIPLE * MULTIPLE, 0) or side
        spans.append(slice((side - kept) // 2, (side - kept) // 2 + kept))
    return flow[spans[0], spans[1]]


def _warping_error(first: Frame, second: Frame, flow: Flow, visible: NDArray[np.bool_]) -> float:
    difference = _warped(_unit(second), flow) - _unit(first)
    seen = difference[visible]
    return float(np.square(seen, dtype=np.float64).mean()) if seen.size else 0.0


def _unit(frame: Frame) -> NDArray[np.float32]:
    """In [0, 1]."""
    return frame.astype(np.float32) / np.float32(255)


def _warped(image: NDArray[np.float32], flow: Flow) -> NDArray[np.float32]:
    """The image at p + flow(p), interpolated bilinearly; outside, its border pixels are repeated."""
    place = _places(flow)
    return np.asarray(cv2.remap(image, place[..., 0], place[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def _places(flow: Flow) -> Flow:
    height, width = flow.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return np.stack((x, y), axis=-1) + flow
