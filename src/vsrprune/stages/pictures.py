"""The pictures of a result: windows of the clips, side by side."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from vsrprune.data.clips import Clip
from vsrprune.data.degradation import bicubic_uint8
from vsrprune.stages.reference.recipe import CropPlace

CROP_SIDE = 96  # of the pictures, in high-resolution pixels


def bicubic(clip: Clip, scale: int) -> Tensor:
    """MATLAB's bicubic enlargement, the baseline of every table; at scale 1 the input itself, bit for bit."""
    return bicubic_uint8(clip.low_TCHW, float(scale))


def choose_crops(clips: Iterable[Clip], scale: int, count: int) -> list[CropPlace]:
    """For the first `count` clips, the window of the middle frame in which bicubic errs most."""
    places = []
    for clip in islice(clips, count):
        frame = clip.frames // 2
        truth, base = clip.high_TCHW[frame].float(), bicubic(clip, scale)[frame].float()
        side = min(CROP_SIDE, *truth.shape[-2:])
        step = max(scale, side // 4)
        error = F.avg_pool2d((truth - base).square().mean(dim=0)[None, None], side, stride=step)[0, 0]
        row, column = divmod(int(error.argmax()), error.shape[1])
        places.append(CropPlace(clip.name, frame, row * step, column * step, side))
    return places


def save_crop(frames_TCHW: Tensor, place: CropPlace, path: Path) -> None:
    """Write the window of a clip as PNG."""
    window = frames_TCHW[place.frame, :, place.y : place.y + place.side, place.x : place.x + place.side]
    save_png(window, path)


def save_png(frame_CHW: Tensor, path: Path) -> None:
    """Write a uint8 frame as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(frame_CHW.permute(1, 2, 0).contiguous().numpy()).save(path)


def inputs_shown(clip: Clip, scale: int, bicubic_TCHW: Tensor) -> dict[str, Tensor]:
    """The input beside outputs, by kind: `lr`, every pixel drawn `scale` times as large, and `bicubic`; or `input`."""
    if scale == 1:
        return {"input": clip.low_TCHW}
    nearest_TCHW = clip.low_TCHW.repeat_interleave(scale, dim=-1).repeat_interleave(scale, dim=-2)
    return {"lr": nearest_TCHW, "bicubic": bicubic_TCHW}
