"""Time operations."""

from __future__ import annotations

from functools import partial

from vsrprune.metrics.latency import fastest_milliseconds
from vsrprune.networks.fast.device_operations import FORMATS, time_tables
from vsrprune.networks.fast.precision import PRECISIONS
from vsrprune.selection.frontier import timed_operations
from vsrprune.stages.bench import Bench
from vsrprune.stages.timing.recipe import Inputs, Times


def make(bench: Bench, inputs: Inputs) -> Times:
    """Every operation that a plan may need, in every memory format."""
    evaluate = bench.config.evaluate
    height, width = evaluate.latency_size
    operations = timed_operations(bench.job.layout, bench.config.min_kept)
    timer = partial(fastest_milliseconds, device=bench.device)
    bench.progress.count(len(operations) * len(FORMATS))
    with bench.stand.precision:
        dtype = PRECISIONS[evaluate.precision]
        return Times(time_tables(operations, (height, width), bench.device, timer, bench.progress.update, dtype))
