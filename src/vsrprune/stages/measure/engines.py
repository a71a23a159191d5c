"""Times of networks in onnxruntime: dense, fine-tuned and int8, in turns."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from vsrprune.channels.plan import PrunePlan
from vsrprune.config.quantise import INT8
from vsrprune.engines.models import EngineModels, kept
from vsrprune.engines.network import EngineNetwork
from vsrprune.metrics.latency import milliseconds
from vsrprune.stages.bench import Bench
from vsrprune.stages.quantise.recipe import FLOAT32, Quantised

CPU = torch.device("cpu")


@torch.inference_mode()
def in_engine(bench: Bench, quantised: Quantised, plan: PrunePlan) -> dict[str, Any]:
    """Of `Measured`: the engine, and milliseconds per frame in it."""
    compact = bench.new_network().with_plan(plan).eval()
    engines = {name: kept(compact, quantised.folder / name) for name in (FLOAT32, INT8)}
    dense_plan = PrunePlan.keep_all(bench.config.rule, bench.job.layout)
    dense = engines[FLOAT32]
    if plan.kept_counts != dense_plan.kept_counts:  # one that is not cut is the dense one, whatever its weights
        bench.progress.does("writes the dense network's graphs")
        dense = EngineModels.of(bench.new_network().with_plan(dense_plan).eval()).run({})
    clip_NTCHW = bench.stand.clip_NTCHW.cpu()
    frames, count = list(clip_NTCHW.unbind(1)), clip_NTCHW.shape[1]
    calls = {name: partial(_restore, engine, frames) for name, engine in {"dense": dense, **engines}.items()}
    times = in_turns(calls, bench.config.evaluate.latency_repeats)
    return {
        "engine": f"onnxruntime {version('onnxruntime')}",
        "engine_ms": {name: round(ms / count, 6) for name, ms in times.items()},
    }


def in_turns(calls: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median milliseconds of calls on the CPU, which take turns: a machine that slows down does so for all of them."""
    for call in calls.values():
        call()  # the first is slower
    rounds = [{name: milliseconds(call, CPU) for name, call in calls.items()} for _ in range(repeats)]
    return {name: statistics.median(times[name] for times in rounds) for name in calls}


def _restore(engine: EngineNetwork, frames: list[Tensor]) -> None:
    for _ in engine.restore_window(frames, range(len(frames)), None):
        pass
