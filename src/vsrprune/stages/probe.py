"""Time a few training steps, frames and comparisons of one network on this machine: what `dry_run=true` rests on.

A process of its own, `python -m vsrprune.stages.probe`, since who plans imports no torch. It reads a pickled `Probe`
from its standard input and writes a JSON object of seconds to its standard output.
"""

from __future__ import annotations

import contextlib
import json
import pickle
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch

from vsrprune.data.clips import Clip
from vsrprune.host.allocator import keep_freed_memory
from vsrprune.metrics.temporal import temporal_quality, truth_motion
from vsrprune.networks.network import Network
from vsrprune.networks.table import build
from vsrprune.stages.bench import finish, hardware_of
from vsrprune.stages.flow.module import FlowTraining
from vsrprune.stages.pretrain.module import Pretrain
from vsrprune.stages.probing import Probe
from vsrprune.stages.quality import QualityMeter, restored
from vsrprune.stages.training.fit import Sampling, Session, fit
from vsrprune.stages.training.module import TrainingStage

RATE = 1e-6  # nothing is learnt
PAIRS = 1  # of frames, between which motion is looked for
BORDER = 8  # pixels around a patch, so that patches are drawn as in a training


def main() -> None:
    """Answer the question on standard input."""
    probe: Probe = pickle.load(sys.stdin.buffer)
    started = time.time() - probe.asked_at
    answer = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        seconds = measured(probe)
    json.dump({**seconds, "start": started}, answer)


def measured(probe: Probe) -> dict[str, float]:
    """Seconds by what takes them, and the number of parameters with those of the flow net."""
    keep_freed_memory()
    if probe.threads:
        torch.set_num_threads(probe.threads)
    torch.manual_seed(0)
    device = torch.device(probe.device)
    dense, narrow = build(probe.arguments), build(probe.arguments).with_plan(probe.narrow)
    steps = partial(_step_seconds, probe, device)
    found = {"parameters": float(sum(parameter.numel() for parameter in dense.parameters()))}
    if probe.arguments.trains_flow_alone and probe.frames > 1:
        # A network of its own: afterwards nothing but its flow net trains.
        found["flow_step"] = steps(FlowTraining(build(probe.arguments), probe.steps, RATE, "constant"))
    found["step"] = steps(Pretrain(dense, probe.steps, RATE, "constant"))
    found["narrow_step"] = steps(Pretrain(narrow, probe.steps, RATE, "constant"))
    return found | _evaluated(probe, dense.to(device).eval(), device)


def _step_seconds(probe: Probe, device: torch.device, module: TrainingStage) -> float:
    """Of one step of a real training, data and callbacks included."""
    ends: list[float] = []

    def ended() -> None:
        finish(device)
        ends.append(time.perf_counter())

    side = probe.patch + BORDER
    clips = [_clip(probe.frames, side, side, probe.arguments.scale)]
    module.network.checkpoint_frames = probe.trainer.checkpoint_frames
    with tempfile.TemporaryDirectory() as work:
        session = Session(
            Path(work),
            log_every=probe.steps,
            checkpoint_every=10**9,
            hardware=hardware_of(probe.trainer, device),
            between_steps=ended,
        )
        fit(module, clips, Sampling(probe.batch, probe.patch, probe.frames, seed=0), session)
    # The first step sets things up: buffers, oneDNN's and cuDNN's choices, CUDA graphs.
    return statistics.median(after - before for before, after in pairwise(ends))


def _evaluated(probe: Probe, network: Network, device: torch.device) -> dict[str, float]:
    """Of a frame that is restored, of one that is compared, and of the motion of a pair of frames."""
    height, width = probe.shown
    clip = _clip(probe.shown_frames, height, width, probe.arguments.scale)
    pair = Clip("pair", clip.high_TCHW[:2], clip.low_TCHW[:2])
    output_TCHW = restored(network, pair, device)
    meter = QualityMeter(probe.comparison, device)
    motion = truth_motion(pair.high_TCHW, PAIRS)
    return {
        "frame": _seconds(lambda: restored(network, clip, device)) / clip.frames,
        "compare": _seconds(lambda: meter.add(pair, output_TCHW)) / pair.frames,
        "motion": _seconds(lambda: truth_motion(pair.high_TCHW, PAIRS)),
        "output_motion": _seconds(lambda: temporal_quality(output_TCHW, motion)),
    }


def _seconds(call: Callable[[], object]) -> float:
    """Of the faster of two calls: the first may set things up."""
    taken = []
    for _ in range(2):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return min(taken)


def _clip(frames: int, height: int, width: int, scale: int) -> Clip:
    """Noise: times depend on shapes alone."""
    high, low = ((frames, 3, height * side, width * side) for side in (scale, 1))
    return Clip("noise", *(torch.randint(256, shape, dtype=torch.uint8) for shape in (high, low)))


if __name__ == "__main__":
    main()
