"""Super-resolve the held-out clips whole, and compare with the truth and with the dense network."""

from __future__ import annotations

from vsrprune.networks.network import Network
from vsrprune.pruning.masking import zero_costs
from vsrprune.results.result import Cost
from vsrprune.stages.bench import Bench
from vsrprune.stages.evaluate.hidden import HiddenError
from vsrprune.stages.evaluate.recipe import Evaluation, Inputs
from vsrprune.stages.pictures import save_crop
from vsrprune.stages.quality import COST_SIZE, QualityMeter, cost_of


def make(bench: Bench, inputs: Inputs) -> Evaluation:
    """Quality, hidden-state error and cost of the compact network, and its pictures."""
    pruned = inputs.finetuned.network.load().to(bench.device).eval()
    dense = inputs.dense.network.load().to(bench.device).eval()
    error, meter = HiddenError(), QualityMeter(bench.config.comparison)
    # Clip by clip, both networks at once: the hidden states of one clip are in memory at a time.
    for clip in bench.clips.val:
        frames_TCHW, hidden = bench.super_resolve(pruned, clip)
        meter.add(clip, frames_TCHW, bench.motion(clip))
        if bench.method.start != "scratch":  # states of networks that share no weights are not alike
            error.add(hidden, bench.super_resolve(dense, clip)[1], pruned)
        for place in (place for place in inputs.reference.crops if place.clip == clip.name):
            save_crop(frames_TCHW, place, bench.folder / "crops" / f"{place.clip}_pruned.png")
    return Evaluation(meter.quality(), error.per_frame(), _cost(bench, pruned.cpu()))


def _cost(bench: Bench, network: Network) -> Cost:
    """Products with zeros that are held count for nothing, though a dense convolution computes them."""
    cost = cost_of(network)
    if bench.method.start != "masked":
        return cost
    macs, parameters = zero_costs(network, bench.job.layout)
    return cost.without(macs * COST_SIZE[0] * COST_SIZE[1], parameters)
