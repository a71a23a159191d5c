"""Demo clips: the real photographs inside the scikit-image wheel, seen through a moving camera.

Each clip pans, zooms and turns smoothly over one photograph at sub-pixel speed, while an oval cut from another one
moves across it on a path of its own. Training and held-out clips come from different photographs. Everything follows
from the seed; nothing is downloaded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from vsrprune.data.clips import Clip, ClipSet, make_clip
from vsrprune.data.demo_photos import FRAME, TRAIN_PHOTOS, VAL_PHOTOS
from vsrprune.data.sources import demo_photo

HALVED_ABOVE = 800  # pixels of the short side; larger photographs are halved, which makes them sharp


def demo_clips(
    scale: int, seed: int, train_per_photo: int, val_per_photo: int, frames: int, degradation: str = "bicubic"
) -> ClipSet:
    """Train and held-out clips of `frames` frames each, shrunk by `degradation`."""
    shrink = partial(make_clip, scale=scale, degradation=degradation)
    return ClipSet(
        _render_all(TRAIN_PHOTOS, train_per_photo, frames, shrink, np.random.default_rng((seed, 0))),
        _render_all(VAL_PHOTOS, val_per_photo, frames, shrink, np.random.default_rng((seed, 1))),
    )


def _render_all(
    names: Sequence[str],
    per_photo: int,
    frames: int,
    shrink: Callable[[str, Tensor], tuple[Clip, str | None]],
    generator: np.random.Generator,
) -> list[Clip]:
    photos = [_load(name) for name in names]
    clips = []
    for number in range(per_photo):
        for index, name in enumerate(names):
            other = photos[(index + 1 + number) % len(photos)]
            video_TCHW = _render(photos[index], other, frames, generator)
            clip, _ = shrink(f"{name}_{number}", video_TCHW)
            clips.append(clip)
    return clips


def _load(name: str) -> Tensor:
    """Photograph as (3, H, W) float in [0, 1]."""
    with Image.open(demo_photo(name)) as image:
        pixels = np.asarray(image.convert("RGB"), dtype=np.float32) / 255
    photo_CHW = torch.from_numpy(pixels).permute(2, 0, 1)
    if min(photo_CHW.shape[-2:]) > HALVED_ABOVE:
        photo_CHW = F.avg_pool2d(photo_CHW[None], 2)[0]
    return photo_CHW


def _render(photo_CHW: Tensor, other_CHW: Tensor, frames: int, generator: np.random.Generator) -> Tensor:
    """(T, 3, H, W) uint8."""
    camera = _Path(generator, photo_CHW.shape[-2:], FRAME, speed=3.0)
    oval = (FRAME[0] // 3, FRAME[1] // 3)
    inside = _Path(generator, other_CHW.shape[-2:], oval, speed=0.5)
    mover = _Path(generator, FRAME, oval, speed=5.0)
    rendered = []
    for t in range(frames):
        frame_CHW = _sample(photo_CHW, FRAME, camera, t)
        object_CHW = _sample(other_CHW, FRAME, inside, t, centre=mover.centre(t))
        alpha_HW = _oval_mask(mover.centre(t), oval)
        rendered.append(torch.lerp(frame_CHW, object_CHW, alpha_HW))
    return (torch.stack(rendered).clamp(0, 1) * 255).round().to(torch.uint8)


class _Path:
    """A smooth path of a window's centre (y, x), angle and zoom inside a larger image."""

    def __init__(
        self, generator: np.random.Generator, size: Sequence[int], window: Sequence[int], speed: float
    ) -> None:
        # Room for the window to move in, less a quarter of the window for its rotation and zoom.
        slack = [max(outer - 1.25 * inner, 2.0) / 2 for outer, inner in zip(size, window, strict=True)]
        self._middle = [outer / 2 + generator.uniform(-0.3, 0.3) * s for outer, s in zip(size, slack, strict=True)]
        self._reach = [0.7 * s for s in slack]
        # Speed is in pixels per frame at the middle of the swing.
        self._rate = [generator.uniform(0.4, 1.0) * speed / reach for reach in self._reach]
        self._phase = generator.uniform(0, 2 * math.pi, size=4)
        self._turn = generator.uniform(0.02, 0.06)
        self._zoom = generator.uniform(0.03, 0.08)

    def centre(self, t: int) -> tuple[float, float]:
        y, x = (
            middle + reach * math.sin(rate * t + phase)
            for middle, reach, rate, phase in zip(self._middle, self._reach, self._rate, self._phase[:2], strict=True)
        )
        return y, x

    def angle(self, t: int) -> float:
        return float(self._turn * math.sin(0.3 * t + self._phase[2]))

    def zoom(self, t: int) -> float:
        return float(1.08 + self._zoom * math.sin(0.25 * t + self._phase[3]))


def _sample(
    photo_CHW: Tensor,
    window: tuple[int, int],
    path: _Path,
    t: int,
    centre: tuple[float, float] | None = None,
) -> Tensor:
    """The photograph at frame `t`, placed so that the path's centre falls on `centre` (default: the window's)."""
    height, width = window
    centre_y, centre_x = centre or (height / 2, width / 2)
    # Where each pixel of the window comes from: the inverse of the camera's rotation and zoom.
    cosine, sine = math.cos(path.angle(t)) / path.zoom(t), math.sin(path.angle(t)) / path.zoom(t)
    y, x = torch.meshgrid(torch.arange(height) - centre_y + 0.5, torch.arange(width) - centre_x + 0.5, indexing="ij")
    photo_y, photo_x = path.centre(t)
    source_y = photo_y + cosine * y + sine * x
    source_x = photo_x - sine * y + cosine * x
    photo_height, photo_width = photo_CHW.shape[-2:]
    grid_HW2 = torch.stack((2 * source_x / photo_width - 1, 2 * source_y / photo_height - 1), dim=-1)
    return F.grid_sample(
        photo_CHW[None], grid_HW2[None].float(), mode="bicubic", padding_mode="reflection", align_corners=False
    )[0]


def _oval_mask(centre: tuple[float, float], size: tuple[int, int]) -> Tensor:
    """(H, W) in [0, 1], one inside the oval, with an edge about two pixels soft."""
    y, x = torch.meshgrid(torch.arange(FRAME[0]) + 0.5, torch.arange(FRAME[1]) + 0.5, indexing="ij")
    radius_y, radius_x = size[0] / 2, size[1] / 2
    distance = torch.sqrt(((y - centre[0]) / radius_y) ** 2 + ((x - centre[1]) / radius_x) ** 2)
    return ((1 - distance) * min(radius_y, radius_x) + 0.5).clamp(0, 1).float()
