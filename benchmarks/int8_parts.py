"""What int8 costs and saves in the parts of a network: PSNR on held-out clips, and time in onnxruntime, in turns.

    python benchmarks/int8_parts.py JOB [--store STORE] [--size 90 160] [--repeats 5] [--clips 8]

JOB is the folder of a finished job on the demo's clips. Each row has integers in other convolutions; rows of another
calibration have them everywhere.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from vsrprune.config.data import DataConfig
from vsrprune.data.clips import Clip
from vsrprune.data.demo import demo_clips
from vsrprune.engines.models import EngineModels, Models
from vsrprune.engines.network import EngineNetwork
from vsrprune.engines.quantising import METHODS, Calibration, convolutions_of, quantised
from vsrprune.engines.timed import restoring
from vsrprune.metrics.latency import in_turns
from vsrprune.networks.graph import random_clip
from vsrprune.results.protocols import Comparison
from vsrprune.results.result import Quality
from vsrprune.stages.quality import QualityMeter, frames_shown, restored
from vsrprune.stages.quantise.work import InEngine
from vsrprune.use.load import load_trained

CPU = torch.device("cpu")
FRAMES = 2  # of the clip that is timed
Chosen = Callable[[str, str], bool]  # of a graph and a layer: whether it has integers
PARTS: Mapping[str, Chosen] = {
    "everywhere": lambda graph, layer: True,
    "all but the flow net": lambda graph, layer: not layer.startswith("flow_net"),
    "flow net alone": lambda graph, layer: layer.startswith("flow_net"),
    "trunks alone": lambda graph, layer: "trunk." in layer,
    "upsampler alone": lambda graph, layer: "trunk." not in layer and not layer.startswith("flow_net"),
}


def main() -> None:
    """Print a row for each part, then for each other calibration."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", type=Path)
    parser.add_argument("--store", type=Path, default=Path("store"))
    parser.add_argument("--size", type=int, nargs=2, default=(90, 160))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clips", type=int, default=8)
    given = parser.parse_args()
    models = EngineModels.of(load_trained(given.job, given.store, print))
    engines = {"none": models.run({})}
    calibrations = {method: _calibrated(models, method, given.clips) for method in METHODS}
    for name, chosen in PARTS.items():
        engines[name] = models.run(_int8(models, calibrations["minmax"], chosen))
    for method in [method for method in METHODS if method != "minmax"]:
        engines[f"everywhere, {method}"] = models.run(_int8(models, calibrations[method], PARTS["everywhere"]))
    clip_NTCHW = random_clip(FRAMES, tuple(given.size))
    times = in_turns({name: restoring(engine, clip_NTCHW) for name, engine in engines.items()}, given.repeats)
    height, width = given.size
    table = Table(title=f"int8, {width}x{height}, {torch.get_num_threads()} threads", box=box.SIMPLE_HEAD)
    for heading in ("integers in", "PSNR", "SSIM", "ms", "speed-up"):
        table.add_column(heading, justify="right")
    for name, engine in engines.items():
        found = _quality(engine)
        row = (f"{found.psnr:.3f}", f"{found.ssim:.4f}", f"{times[name] / FRAMES:.1f}")
        table.add_row(name, *row, f"{times['none'] / times[name]:.2f}")
    Console(width=100).print(table)


@cache
def _clips(side: str) -> list[Clip]:
    data = DataConfig()
    made = demo_clips(
        4, data.demo_seed, data.demo_train_per_photo, data.demo_val_per_photo, data.demo_frames, data.degradation
    )
    return list(getattr(made, side))


def _calibrated(models: EngineModels, method: str, count: int) -> dict[str, Calibration]:
    calibrations = {name: Calibration(model, method) for name, model in models.models.items()}
    exact = models.run({})
    watched = {name: calibrations[name].beside(runner) for name, runner in exact.runners.items()}
    engine = EngineNetwork(exact.arguments, models.graphs, watched)
    for clip in _clips("train")[:count]:
        restoring(engine, frames_shown(clip, CPU))()
    return calibrations


def _int8(models: EngineModels, calibrations: Mapping[str, Calibration], chosen: Chosen) -> Models:
    stay = {
        name: [conv.node for conv in convolutions_of(name, model) if not chosen(name, conv.layer)]
        for name, model in models.models.items()
    }
    return {name: quantised(item, item.ranges(), stay[name]) for name, item in calibrations.items()}


def _quality(engine: EngineNetwork) -> Quality:
    meter = QualityMeter(Comparison("y", 0))
    for clip in _clips("val"):
        meter.add(clip, restored(InEngine(engine), clip, CPU))
    return meter.quality()


if __name__ == "__main__":
    main()
