"""Quantise the fine-tuned network, keep in 32 bits what int8 costs too much in, and measure what comes out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from vsrprune.config.quantise import INT8
from vsrprune.data.clips import Clip
from vsrprune.engines.models import EngineModels, Models
from vsrprune.engines.network import EngineNetwork
from vsrprune.engines.quantising import Calibration, Convolution, convolutions_of, quantised
from vsrprune.errors import UserError
from vsrprune.metrics.quality import CPU
from vsrprune.networks.network import Flows, FrameOutput, Network
from vsrprune.results.result import HiddenError, Int8, Quality
from vsrprune.stages.background import each_on_its_thread
from vsrprune.stages.bench import Bench
from vsrprune.stages.quality import QualityMeter, frames_shown, restored
from vsrprune.stages.quantise.drift import Drift
from vsrprune.stages.quantise.recipe import FLOAT32, Inputs, Quantised
from vsrprune.stages.quantise.sensitivity import fewest, most_sensitive

BACKWARD = "backward"  # the branch that goes from the last frame to the first
TOLERANCE = 1e-4  # largest |difference| of the float graphs to PyTorch
PIECE, PIECE_FRAMES = 64, 5  # side and frames of the piece of a clip on which convolutions are tried one by one


class InEngine(Network):
    """A network in an engine where a network is asked for its frames; engines run on the CPU."""

    def __init__(self, engine: EngineNetwork) -> None:
        super().__init__()
        self.arguments, self.engine = engine.arguments, engine

    def frame_by_frame(self, frames_NTCHW: Tensor, flows: Flows | None = None) -> Iterator[FrameOutput]:
        """The frames alone."""
        frames = list(frames_NTCHW.unbind(1))
        for high_NCHW, _ in self.engine.restore_window(frames, range(len(frames)), None):
            yield FrameOutput(high_NCHW, {})


def make(bench: Bench, inputs: Inputs) -> Quantised:
    """The graphs in 32 bits and in int8, and what int8 costs."""
    bench.progress.does("writes the network's graphs")
    graphs = EngineModels.of(inputs.finetuned.network.load().eval())
    dense = inputs.dense.network.load().to(bench.device).eval() if inputs.dense else None
    clips = list(bench.judged(_drawn(bench), dense))
    exact = InEngine(graphs.run({}))
    calibrations, ranges = _calibrated(graphs, exact, clips, bench)
    rough = partial(_rough, graphs, calibrations, ranges)
    everywhere, kept, loss = _kept_float(bench, graphs, exact, rough, clips)
    models = rough(kept)
    bench.progress.does("compares int8 with the truth")
    network = InEngine(graphs.run(models))
    found = Int8(
        quality=_quality(bench, network, bench.judged(bench.clips.val, dense)),
        test=_quality(bench, network, bench.judged(bench.clips.test, dense)) if bench.clips.test else None,
        hidden_error=_hidden_error(bench, exact.engine, network.engine),
        convolutions=len(_every(graphs)),
        kept_float=[conv.name for conv in kept],
        loss_all_int8=round(everywhere, 6),
        loss=round(loss, 6),
        size=graphs.save(models, bench.folder / INT8),
        size_float32=graphs.save(graphs.models, bench.folder / FLOAT32),
    )
    stay = f", {len(kept)} of {found.convolutions} convolutions in 32 bits" if kept else ""
    bench.say(f"  {bench.plan.name:<10} int8 costs {loss:+.3f} dB on the calibration clips{stay}")
    return Quantised(bench.folder, found)


def _drawn(bench: Bench) -> list[Clip]:
    """The first frames of training clips that are drawn by seed."""
    asked, clips = bench.config.quantise, bench.clips.train
    draw = np.random.default_rng(bench.config.pruning_seed)
    places = sorted(draw.choice(len(clips), min(asked.clips, len(clips)), replace=False).tolist())
    return [
        replace(clip, high_TCHW=clip.high_TCHW[: asked.frames], low_TCHW=clip.low_TCHW[: asked.frames])
        for clip in (clips[place] for place in places)
    ]


def _calibrated(
    graphs: EngineModels, exact: InEngine, clips: Sequence[Clip], bench: Bench
) -> tuple[dict[str, Calibration], dict[str, object]]:
    """Ranges of all graphs, from what they read while the network in 32 bits restores the clips."""
    method = bench.config.quantise.calibration
    calibrations = {name: Calibration(model, method) for name, model in graphs.models.items()}
    watched = {name: calibrations[name].beside(runner) for name, runner in exact.engine.runners.items()}
    network = InEngine(EngineNetwork(exact.arguments, graphs.graphs, watched))
    for number, clip in enumerate(clips, start=1):
        bench.progress.does(f"calibrates on {clip.name}")
        frames_NTCHW = frames_shown(clip, CPU)
        outputs = [output.frame_NCHW for output in network.frame_by_frame(frames_NTCHW)]
        if number == 1:
            _check_same(graphs.network, frames_NTCHW, torch.stack(outputs, dim=1))
        bench.give_way()
    return calibrations, {name: calibration.ranges() for name, calibration in calibrations.items()}


@torch.inference_mode()
def _check_same(network: Network, frames_NTCHW: Tensor, output_NTCHW: Tensor) -> None:
    error = float((network(frames_NTCHW).frames_NTCHW - output_NTCHW).abs().max())
    if not error <= TOLERANCE:  # also NaN
        raise UserError(
            f"quantise=int8: the exported graphs differ from PyTorch by {error:.1e}, more than {TOLERANCE:g}"
        )


def _rough(
    graphs: EngineModels,
    calibrations: Mapping[str, Calibration],
    ranges: Mapping[str, object],
    kept_float: Collection[Convolution],
) -> Models:
    """The models in int8, but for these convolutions."""
    nodes = {name: {conv.node for conv in kept_float if conv.graph == name} for name in graphs.models}
    return {name: quantised(calibrations[name], ranges[name], nodes[name]) for name in graphs.models}


def _every(graphs: EngineModels) -> list[Convolution]:
    return [conv for name, model in graphs.models.items() for conv in convolutions_of(name, model)]


Rough = Callable[[Collection[Convolution]], Models]


def _kept_float(
    bench: Bench, graphs: EngineModels, exact: InEngine, rough: Rough, clips: Sequence[Clip]
) -> tuple[float, list[Convolution], float]:
    """What int8 costs everywhere, the convolutions that stay in 32 bits, and what int8 costs then; PSNR, dB.

    Held-out clips have no say in it.
    """
    largest, best = bench.config.quantise.largest_loss, _psnr(bench, exact, clips)

    def loss(kept: Collection[Convolution]) -> float:
        bench.progress.does(f"compares int8 with {len(kept)} convolutions in 32 bits")
        bench.give_way()
        return best - _psnr(bench, InEngine(graphs.run(rough(kept))), clips)

    everywhere = loss([])
    if everywhere <= largest:
        return everywhere, [], everywhere
    return everywhere, *fewest(most_sensitive(_errors(graphs, exact, rough, clips[0], bench)), loss, largest)


@torch.inference_mode()
def _errors(graphs: EngineModels, exact: InEngine, rough: Rough, clip: Clip, bench: Bench) -> dict[Convolution, float]:
    """By convolution the RMS change of the output frames if it alone is int8, through the recurrence of a piece."""
    height, width = clip.size
    side = max(PIECE, graphs.network.arguments.smallest_side)
    top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
    piece_NTCHW = frames_shown(clip, CPU)[:, :PIECE_FRAMES, :, top : top + side, left : left + side].contiguous()
    target_NTCHW = _frames(exact, piece_NTCHW)
    every, errors = _every(graphs), {}
    for number, conv in enumerate(every, start=1):
        bench.progress.does(f"tries convolution {number} of {len(every)} alone")
        others = [other for other in every if other is not conv]
        network = InEngine(graphs.run({conv.graph: rough(others)[conv.graph]}))
        errors[conv] = float((_frames(network, piece_NTCHW) - target_NTCHW).square().mean().sqrt())
        bench.give_way()
    return errors


def _frames(network: InEngine, frames_NTCHW: Tensor) -> Tensor:
    return torch.stack([output.frame_NCHW for output in network.frame_by_frame(frames_NTCHW)], dim=1)


def _psnr(bench: Bench, network: InEngine, clips: Sequence[Clip]) -> float:
    compared = bench.config.comparison
    meter = QualityMeter(compared)
    for clip in clips:
        meter.add(clip, restored(network, clip, CPU, compared.centre))
    return meter.quality().psnr


def _quality(bench: Bench, network: InEngine, clips: Iterable[Clip]) -> Quality:
    """As that of the network that it was made of, temporal consistency with it."""
    compared = bench.config.comparison
    with each_on_its_thread() as each:
        meter = QualityMeter(compared, CPU, each)
        for clip in clips:
            bench.compare([meter], clip, [restored(network, clip, CPU, compared.centre)], each)
            bench.give_way()
    return meter.quality()


def _hidden_error(bench: Bench, exact: EngineNetwork, rough: EngineNetwork) -> dict[str, HiddenError]:
    drifts = {
        branch: Drift(partial(exact.state, branch), partial(rough.state, branch), goes_back=branch == BACKWARD)
        for branch in exact.arguments.branches
    }
    for clip in bench.clips.val:
        frames = list(frames_shown(clip, CPU).unbind(1))
        for drift in drifts.values():
            drift.add(frames)
        bench.give_way()
    return {branch: drift.error() for branch, drift in drifts.items()}
