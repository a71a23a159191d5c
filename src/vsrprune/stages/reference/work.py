"""Compare the baseline and the dense network with the truth, and cut the pictures of it all.

Where there is no truth, the dense network's output stands in for it: what is told of the baseline is its distance.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from torch import Tensor

from vsrprune.data.clips import Clip
from vsrprune.stages.background import beside, each_on_its_thread
from vsrprune.stages.bench import Bench
from vsrprune.stages.pictures import bicubic, choose_crops, inputs_shown, save_crop, save_png
from vsrprune.stages.quality import QualityMeter, cost_of
from vsrprune.stages.reference.recipe import CropPlace, Inputs, Reference
from vsrprune.stages.reference.time import flow_photometric, psnr_alone


def make(bench: Bench, inputs: Inputs) -> Reference:
    """Quality of the baseline and the dense network, and the pictures beside which pruned networks are shown."""
    dense = inputs.dense.network.load().to(bench.device).eval()
    scale = bench.job.arguments.scale
    places = choose_crops(bench.judged(bench.clips.val, dense), scale, bench.config.evaluate.crops)
    with each_on_its_thread() as each, beside(bench.device) as later:
        meters, test = (
            {name: QualityMeter(bench.config.comparison, bench.device, each) for name in ("baseline", "dense")}
            for _ in range(2)
        )
        for clip in bench.clips.val:
            outputs = {"baseline": bicubic(clip, scale), "dense": bench.restored(dense, clip)}
            judged = clip.judged_by(outputs["dense"])
            later(partial(bench.compare, list(meters.values()), judged, list(outputs.values()), each))
            _show(bench, clip, places, outputs)
        for clip in bench.clips.test:
            outputs = {"baseline": bicubic(clip, scale), "dense": bench.restored(dense, clip)}
            judged = clip.judged_by(outputs["dense"])
            later(partial(bench.compare, list(test.values()), judged, list(outputs.values()), each))
    quality, alone = meters["dense"].quality(), psnr_alone(bench, dense)
    return Reference(
        baseline=meters["baseline"].quality(),
        dense=quality,
        cost=cost_of(dense),
        temporal_gain=None if alone is None else quality.psnr - alone,
        flow_photometric=flow_photometric(bench, dense),
        crops=tuple(places),
        notes=tuple(bench.clips.notes),
        test={name: meter.quality() for name, meter in test.items()} if bench.clips.test else {},
    )


def _show(bench: Bench, clip: Clip, places: Sequence[CropPlace], outputs: dict[str, Tensor]) -> None:
    shown = {
        **({"truth": clip.high_TCHW} if clip.has_truth else {}),
        **inputs_shown(clip, bench.job.arguments.scale, outputs["baseline"]),
        "dense": outputs["dense"],
    }
    for place in (place for place in places if place.clip == clip.name):
        _save_pictures(clip.judged_by(outputs["dense"]), place, shown, bench.folder / "crops")


def _save_pictures(clip: Clip, place: CropPlace, shown: dict[str, Tensor], folder: Path) -> None:
    save_png(clip.high_TCHW[place.frame], folder / f"{place.clip}_frame.png")
    for name, frames_TCHW in shown.items():
        save_crop(frames_TCHW, place, folder / f"{place.clip}_{name}.png")
