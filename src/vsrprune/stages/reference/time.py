"""Whether the dense network uses time at all: what other frames are worth to it, and what its flows are worth."""

from __future__ import annotations

import torch

from vsrprune.data.clips import Clip
from vsrprune.networks.network import Network
from vsrprune.stages.bench import Bench
from vsrprune.stages.flow.photometric import photometric_errors, shared_shift
from vsrprune.stages.quality import QualityMeter, restored

STILL = 1e-5  # RGB in [0, 1]; Charbonnier makes 1e-6 of equal frames
ONE_FRAME = (0, 0)  # the reach of a network whose output depends on the frame itself alone


def psnr_alone(bench: Bench, network: Network) -> float | None:
    """PSNR (dB) on the held-out clips where every frame is a clip of its own; None if the network does so anyway.

    None too where no clip has a truth: it would tell how much other frames change, and not what they are worth.
    """
    if network.arguments.reach == ONE_FRAME or not bench.clips.val[0].has_truth:
        return None
    meter = QualityMeter(bench.config.comparison, bench.device)
    for clip in bench.clips.val:
        bench.progress.does(f"restores the frames of {clip.name} one by one")
        # Read once: the frames of some clips are corrupted or decoded whenever they are asked for.
        low_TCHW, high_TCHW = clip.low_TCHW, clip.high_TCHW
        frames = [Clip(clip.name, high_TCHW[t : t + 1], low_TCHW[t : t + 1]) for t in range(clip.frames)]
        # Never mirrored: a frame seen twice would have a state.
        outputs = [restored(network, frame, bench.device) for frame in frames]
        meter.add(clip, torch.cat(outputs))
    return meter.quality().psnr


def flow_photometric(bench: Bench, network: Network) -> float | None:
    """Photometric error of the flows over that of no motion, each summed over the held-out clips.

    The shift that all flows share is taken off first. None where the flow net is none that frames judge, and where
    nothing moves.
    """
    flow_net = network.flow_net
    if flow_net is None or not network.arguments.trains_flow_alone:
        return None
    shift_2 = shared_shift(flow_net, (clip.low_TCHW for clip in bench.clips.val), bench.device)
    errors = [photometric_errors(flow_net, clip.low_TCHW, bench.device, shift_2) for clip in bench.clips.val]
    warped, still = (sum(values) for values in zip(*errors, strict=True))
    return warped / still if still > STILL * len(errors) else None
