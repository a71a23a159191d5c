"""Stage 6: super-resolve held-out clips whole, and compare with the truth and with the dense network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from vsrprune.data.clips import Clip
from vsrprune.data.degradation import bicubic_uint8, to_uint8
from vsrprune.metrics.quality import FrameQuality, frame_quality
from vsrprune.metrics.temporal import TemporalQuality, TruthMotion, temporal_quality
from vsrprune.networks.network import Network
from vsrprune.results.protocols import Comparison
from vsrprune.results.result import Quality

CROP_SIDE = 96  # of the pictures, in high-resolution pixels

Hidden = dict[str, list[Tensor]]


@dataclass(frozen=True)
class CropPlace:
    """Where a picture is cut: frame index and top left corner in high-resolution pixels."""

    clip: str
    frame: int
    y: int
    x: int
    side: int


class QualityMeter:
    """Quality of outputs (uint8 frames), taken in clip by clip, so that never more than one output is in memory.

    PSNR and SSIM: mean over frames per clip, then over clips; PSNR per frame too. Temporal consistency, where a clip's
    motion is given: per clip, and mean over the clips that have more than one frame.
    """

    def __init__(self, compared: Comparison) -> None:
        self._compared = compared
        self._scores: dict[str, FrameQuality] = {}
        self._temporal: dict[str, TemporalQuality] = {}

    def add(self, clip: Clip, output_TCHW: Tensor, motion: TruthMotion | None = None) -> None:
        """Compare an output with the truth; `motion` is that of the truth."""
        counts = slice(clip.frames // 2, clip.frames // 2 + 1) if self._compared.centre else slice(None)
        self._scores[clip.name] = frame_quality(
            output_TCHW[counts], clip.high_TCHW[counts], self._compared.channel, self._compared.crop
        )
        temporal = temporal_quality(output_TCHW, motion) if motion else None
        if temporal is not None:
            self._temporal[clip.name] = temporal

    def quality(self) -> Quality:
        """The quality of all outputs so far."""
        quality = quality_of(self._scores)
        measured = {name: asdict(temporal) for name, temporal in self._temporal.items()}
        names = [item.name for item in fields(TemporalQuality)] if measured else []
        means = {name: float(np.mean([values[name] for values in measured.values()])) for name in names}
        tof, warping, of_truth = (means.get(name) for name in ("tof", "warping_error", "warping_error_truth"))
        clips = {name: {**values, **measured.get(name, {})} for name, values in quality.clips.items()}
        return replace(quality, clips=clips, tof=tof, warping_error=warping, warping_error_truth=of_truth)


def quality_of(scores: dict[str, FrameQuality]) -> Quality:
    """Means over frames, then over clips, of PSNR and SSIM."""
    per_clip = {
        name: {"psnr": float(np.mean(quality.psnr)), "ssim": float(np.mean(quality.ssim))}
        for name, quality in scores.items()
    }
    return Quality(
        psnr=float(np.mean([values["psnr"] for values in per_clip.values()])),
        ssim=float(np.mean([values["ssim"] for values in per_clip.values()])),
        clips=per_clip,
        frames={name: [round(value, 6) for value in quality.psnr] for name, quality in scores.items()},
    )


@torch.inference_mode()
def super_resolve(network: Network, clip: Clip, device: torch.device, mirrored: bool = False) -> tuple[Tensor, Hidden]:
    """The clip's uint8 output frames and the network's hidden states; the whole sequence at once.

    mirrored: the network sees the clip forth and back, and both outputs of a frame are averaged, as Network does with
    the seven frames of Vimeo-90K; hidden states are those of the way forth.
    """
    low_TCHW = torch.cat((clip.low_TCHW, clip.low_TCHW.flip(0))) if mirrored else clip.low_TCHW
    output = network(low_TCHW[None].to(device).float() / 255)
    frames_TCHW = output.frames_NTCHW[0].float()  # under autocast it has sixteen bits
    if mirrored:
        forth_TCHW, back_TCHW = frames_TCHW.chunk(2)
        frames_TCHW = (forth_TCHW + back_TCHW.flip(0)) / 2
    hidden = {branch: states[: clip.frames] for branch, states in output.hidden.items()}
    return to_uint8(frames_TCHW).cpu(), hidden


def bicubic(clip: Clip, scale: int) -> Tensor:
    """MATLAB's bicubic enlargement, the baseline of every table; at scale 1 the input itself, bit for bit."""
    return bicubic_uint8(clip.low_TCHW, float(scale))


class HiddenError:
    """RMS difference between pruned and dense hidden states over the dense RMS, by branch and frame index."""

    def __init__(self) -> None:
        self._difference: dict[str, dict[int, list[float]]] = {}

    def add(self, pruned: Hidden, dense: Hidden, network: Network) -> None:
        """Take in one clip's states; only the channels that the pruned network has are compared."""
        for branch, states in pruned.items():
            kept = network.stream_channels(branch)
            for t, (state, target) in enumerate(zip(states, dense[branch], strict=True)):
                if kept is not None:
                    target = target[:, list(kept)]
                error = float((state - target).square().mean().sqrt() / target.square().mean().sqrt())
                self._difference.setdefault(branch, {}).setdefault(t, []).append(error)

    def per_frame(self) -> dict[str, list[float]]:
        """Mean over the clips that reach a frame index."""
        return {
            branch: [round(float(np.mean(errors[t])), 8) for t in sorted(errors)]
            for branch, errors in self._difference.items()
        }


def choose_crops(clips: Iterable[Clip], scale: int, count: int) -> list[CropPlace]:
    """For the first `count` clips, the window of the middle frame in which bicubic errs most."""
    places = []
    for clip, _ in zip(clips, range(count), strict=False):
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


def place_json(place: CropPlace) -> dict[str, Any]:
    """Plain values for a JSON file."""
    return asdict(place)
