"""Super-resolve clips, and compare what comes out with the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, fields

import numpy as np
import torch
from torch import Tensor

from vsrprune.data.clips import Clip
from vsrprune.data.degradation import to_uint8
from vsrprune.metrics.cost import network_cost
from vsrprune.metrics.quality import CPU, FrameQuality, frame_quality
from vsrprune.metrics.temporal import Each, TemporalQuality, TruthMotion, temporal_quality
from vsrprune.networks.network import Flows, FrameOutput, Network, States
from vsrprune.networks.parts.folding import folded_once
from vsrprune.results.protocols import Comparison
from vsrprune.results.result import Cost, Quality

COST_SIZE = (180, 320)  # low-resolution frame for which the literature counts MACs

See = Callable[[int, States], None]  # is told the index of a frame and its states


def nothing_seen(t: int, states: States) -> None:
    """For whoever wants the frames alone."""


class QualityMeter:
    """Quality of outputs (uint8 frames), taken in clip by clip, so that never more than one output is in memory.

    PSNR and SSIM: mean over frames per clip, then over clips; PSNR per frame too. Temporal consistency, where a clip's
    motion is given: per clip, and mean over the clips that have more than one frame.
    """

    def __init__(self, compared: Comparison, device: torch.device = CPU, each: Each = map) -> None:
        """PSNR and SSIM are computed on `device`; pairs of frames go through `each`, see `temporal_quality`."""
        self._compared, self._device, self._each = compared, device, each
        # Scores alone are kept: the outputs of the whole Vimeo-90K test set would take 19 GB.
        self._scores: dict[str, FrameQuality] = {}
        self._temporal: dict[str, TemporalQuality] = {}

    def add(self, clip: Clip, output_TCHW: Tensor, motion: TruthMotion | None = None) -> None:
        """Compare an output with the truth; `motion` is that of the truth."""
        counts = slice(clip.frames // 2, clip.frames // 2 + 1) if self._compared.centre else slice(None)
        self._scores[clip.name] = frame_quality(
            output_TCHW[counts], clip.high_TCHW[counts], self._compared.channel, self._compared.crop, self._device
        )
        temporal = temporal_quality(output_TCHW, motion, self._each) if motion else None
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
def restored(
    network: Network,
    clip: Clip,
    device: torch.device,
    mirrored: bool = False,
    see: See = nothing_seen,
    flows: Flows | None = None,
) -> Tensor:
    """The clip's uint8 output frames (T, 3, H, W), on the host; `see` is told the hidden states of every frame t.

    mirrored: the network sees the clip forth and back, and both outputs of a frame are averaged, as Network does with
    the seven frames of Vimeo-90K; hidden states are those of the way forth. flows: of what `frames_shown` gives, where
    they are known already.
    """
    output_TCHW: Tensor | None = None
    forth: list[Tensor] = []  # frames that wait for their second showing
    for t, (frame_NCHW, states) in enumerate(_outputs(network, frames_shown(clip, device, mirrored), flows)):
        frame_CHW, place = frame_NCHW[0].float(), t  # under autocast it has sixteen bits
        if t < clip.frames:
            see(t, states)
        if mirrored and t < clip.frames:
            forth.append(frame_CHW)
            continue
        if mirrored:
            frame_CHW = (forth.pop() + frame_CHW) / 2
            place = len(forth)
        # Clipped and rounded before anything is compared, as in all published tables.
        pixels_CHW = to_uint8(frame_CHW)
        if output_TCHW is None:
            output_TCHW = torch.empty(
                clip.frames, *pixels_CHW.shape, dtype=torch.uint8, pin_memory=device.type == "cuda"
            )
        output_TCHW[place].copy_(pixels_CHW, non_blocking=True)
    assert output_TCHW is not None, "a clip has frames"
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # the frames are on their way until then
    return output_TCHW


def frames_shown(clip: Clip, device: torch.device, mirrored: bool = False) -> Tensor:
    """The frames (1, T or, mirrored, 2T, 3, H, W) that a network is shown of a clip, in [0, 1]."""
    # Clips stay in 8 bits until here, where one of them at a time becomes float32.
    low_TCHW = clip.low_TCHW
    low_TCHW = torch.cat((low_TCHW, low_TCHW.flip(0))) if mirrored else low_TCHW
    return low_TCHW[None].to(device).float() / 255


def _outputs(network: Network, frames_NTCHW: Tensor, flows: Flows | None) -> Iterator[FrameOutput]:
    with folded_once(network):
        yield from network.frame_by_frame(frames_NTCHW, flows)


def cost_of(network: Network) -> Cost:
    """What a network costs per frame of the size for which the literature counts MACs."""
    return network_cost(network, COST_SIZE)
