"""Super-resolve the held-out clips whole, and compare with the truth and with the dense network."""

from __future__ import annotations

from functools import partial

from vsrprune.networks.network import Network
from vsrprune.pruning.masking import zero_costs
from vsrprune.results.result import Cost
from vsrprune.stages.background import beside, each_on_its_thread
from vsrprune.stages.bench import Bench
from vsrprune.stages.evaluate.hidden import HiddenError
from vsrprune.stages.evaluate.recipe import Evaluation, Inputs
from vsrprune.stages.pictures import save_crop
from vsrprune.stages.quality import COST_SIZE, QualityMeter, See, cost_of, nothing_seen


def make(bench: Bench, inputs: Inputs) -> Evaluation:
    """Quality, hidden-state error and cost of the compact network, and its pictures."""
    pruned = inputs.finetuned.network.load().to(bench.device).eval()
    dense = inputs.dense.network.load().to(bench.device).eval()
    error = HiddenError(pruned, bench.device)
    with each_on_its_thread() as each, beside(bench.device) as later:
        meter, test = (QualityMeter(bench.config.comparison, bench.device, each) for _ in range(2))
        for clip in bench.clips.val:
            see: See = nothing_seen
            if bench.method.start != "scratch":  # states of networks that share no weights are not alike
                # Both networks go frame by frame: no more states are in memory than they need themselves.
                see = error.beside(bench.hidden_states(dense, clip))
            frames_TCHW = bench.restored(pruned, clip, see)
            later(partial(bench.compare, [meter], clip, [frames_TCHW], each))
            for place in (place for place in inputs.reference.crops if place.clip == clip.name):
                save_crop(frames_TCHW, place, bench.folder / "crops" / f"{place.clip}_pruned.png")
        for clip in bench.clips.test:
            later(partial(bench.compare, [test], clip, [bench.restored(pruned, clip)], each))
    tested = test.quality() if bench.clips.test else None
    return Evaluation(meter.quality(), error.per_frame(), _cost(bench, pruned.cpu()), tested)


def _cost(bench: Bench, network: Network) -> Cost:
    """Products with zeros that are held count for nothing, though a dense convolution computes them."""
    cost = cost_of(network)
    if bench.method.start != "masked":
        return cost
    macs, parameters = zero_costs(network, bench.job.layout)
    return cost.without(macs * COST_SIZE[0] * COST_SIZE[1], parameters)
