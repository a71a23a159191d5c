"""Super-resolve clips whole, and compare what comes out with the truth."""

from __future__ import annotations

from dataclasses import asdict, fields

import numpy as np
import torch
from torch import Tensor

from vsrprune.data.clips import Clip
from vsrprune.data.degradation import to_uint8
from vsrprune.metrics.cost import network_cost
from vsrprune.metrics.quality import FrameQuality, frame_quality
from vsrprune.metrics.temporal import TemporalQuality, TruthMotion, temporal_quality
from vsrprune.networks.network import Network
from vsrprune.results.protocols import Comparison
from vsrprune.results.result import Cost, Quality

COST_SIZE = (180, 320)  # low-resolution frame for which the literature counts MACs

Hidden = dict[str, list[Tensor]]


class QualityMeter:
    """Quality of outputs (uint8 frames), taken in clip by clip, so that never more than one output is in memory.

    PSNR and SSIM: mean over frames per clip, then over clips; PSNR per frame too. Temporal consistency, where a clip's
    motion is given: per clip, and mean over the clips that have more than one frame.
    """

    def __init__(self, compared: Comparison) -> None:
        self._compared = compared
        # Scores alone are kept: the outputs of the whole Vimeo-90K test set would take 19 GB.
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
        """The quality of the clips taken in so far."""
        clips = {
            name: {"psnr": float(np.mean(score.psnr)), "ssim": float(np.mean(score.ssim))}
            for name, score in self._scores.items()
        }
        measured = {name: asdict(temporal) for name, temporal in self._temporal.items()}
        names = [item.name for item in fields(TemporalQuality)] if measured else []
        return Quality(
            psnr=float(np.mean([values["psnr"] for values in clips.values()])),
            ssim=float(np.mean([values["ssim"] for values in clips.values()])),
            clips={name: {**values, **measured.get(name, {})} for name, values in clips.items()},
            frames={name: [round(value, 6) for value in score.psnr] for name, score in self._scores.items()},
            **{name: float(np.mean([values[name] for values in measured.values()])) for name in names},
        )


@torch.inference_mode()
def super_resolve(network: Network, clip: Clip, device: torch.device, mirrored: bool = False) -> tuple[Tensor, Hidden]:
    """The clip's uint8 output frames and the network's hidden states; the whole sequence at once.

    mirrored: the network sees the clip forth and back, and both outputs of a frame are averaged, as Network does with
    the seven frames of Vimeo-90K; hidden states are those of the way forth.
    """
    # Clips stay in 8 bits until here, where one of them at a time becomes float32.
    low_TCHW = torch.cat((clip.low_TCHW, clip.low_TCHW.flip(0))) if mirrored else clip.low_TCHW
    output = network(low_TCHW[None].to(device).float() / 255)
    frames_TCHW = output.frames_NTCHW[0].float()  # under autocast it has sixteen bits
    if mirrored:
        forth_TCHW, back_TCHW = frames_TCHW.chunk(2)
        frames_TCHW = (forth_TCHW + back_TCHW.flip(0)) / 2
    hidden = {branch: states[: clip.frames] for branch, states in output.hidden.items()}
    # Clipped and rounded before anything is compared, as in all published tables.
    return to_uint8(frames_TCHW).cpu(), hidden


def cost_of(network: Network) -> Cost:
    """What a network costs per frame of the size for which the literature counts MACs."""
    return network_cost(network, COST_SIZE)
