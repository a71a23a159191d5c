"""Times of networks in the engines that people deploy with: dense, fine-tuned and perhaps int8, in turns."""

from __future__ import annotations

from collections.abc import Callable

import torch

from vsrprune.channels.plan import PrunePlan
from vsrprune.config.quantise import INT8
from vsrprune.engines.models import EngineModels, kept
from vsrprune.engines.timed import restoring
from vsrprune.metrics.latency import in_turns
from vsrprune.stages.bench import Bench
from vsrprune.stages.quantise.recipe import FLOAT32, Quantised


@torch.inference_mode()
def in_engines(bench: Bench, quantised: Quantised | None, plan: PrunePlan) -> dict[str, dict[str, float]]:
    """Of `Measured`: milliseconds per frame of each network, by engine."""
    clip_NTCHW = bench.stand.clip_NTCHW.cpu()
    dense_plan = PrunePlan.keep_all(bench.config.rule, bench.job.layout)
    compact = bench.new_network().with_plan(plan).eval()
    bench.progress.does("writes the networks' graphs")
    written = EngineModels.of(compact) if quantised is None else None
    # A network that is not cut is the dense one, whatever its weights.
    cuts = plan.kept_counts != dense_plan.kept_counts
    dense = EngineModels.of(bench.new_network().with_plan(dense_plan).eval()) if cuts else None
    calls: dict[tuple[str, str], Callable[[], None]] = {}
    for engine in bench.job.engines:
        if quantised is not None:
            networks = {name: kept(compact, quantised.folder / name, engine) for name in (FLOAT32, INT8)}
        elif written is not None:
            networks = {FLOAT32: written.run({}, engine)}
        networks = {"dense": networks[FLOAT32] if dense is None else dense.run({}, engine), **networks}
        calls |= {(engine, name): restoring(network, clip_NTCHW) for name, network in networks.items()}
    bench.progress.does(f"times the networks in {' and '.join(bench.job.engines)}")
    found: dict[str, dict[str, float]] = {}
    for (engine, name), ms in in_turns(calls, bench.config.evaluate.latency_repeats).items():
        found.setdefault(engine, {})[name] = round(ms / clip_NTCHW.shape[1], 6)
    return found
