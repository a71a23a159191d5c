"""Super-resolve the held-out clips whole, and compare with the truth, if there is one, and with the dense network."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from vsrprune.data.clips import Clip
from vsrprune.networks.network import Network
from vsrprune.pruning.masking import zero_costs
from vsrprune.results.result import Cost, HiddenErrors
from vsrprune.stages.background import beside, each_on_its_thread
from vsrprune.stages.bench import Bench
from vsrprune.stages.evaluate.hidden import StateErrors, seen_beside
from vsrprune.stages.evaluate.recipe import Evaluation, Inputs
from vsrprune.stages.pictures import save_crop
from vsrprune.stages.quality import COST_SIZE, QualityMeter, cost_of


def make(bench: Bench, inputs: Inputs) -> Evaluation:
    """Quality, hidden-state error and cost of the compact network, and its pictures."""
    pruned = inputs.finetuned.network.load().to(bench.device).eval()
    states = _States(bench, inputs, pruned)
    dense = inputs.dense.network.load().to(bench.device).eval() if bench.config.data.truth == "none" else None
    with each_on_its_thread() as each, beside(bench.device) as later:
        meter, test = (QualityMeter(bench.config.comparison, bench.device, each) for _ in range(2))
        for clip in bench.judged(bench.clips.val, dense):
            frames_TCHW = states.restored(clip)
            later(partial(bench.compare, [meter], clip, [frames_TCHW], each))
            for place in (place for place in inputs.reference.crops if place.clip == clip.name):
                save_crop(frames_TCHW, place, bench.folder / "crops" / f"{place.clip}_pruned.png")
        for clip in bench.judged(bench.clips.test, dense):
            later(partial(bench.compare, [test], clip, [bench.restored(pruned, clip)], each))
    tested = test.quality() if bench.clips.test else None
    return Evaluation(meter.quality(), states.errors(), _cost(bench, pruned.cpu()), tested)


class _States:
    """The networks whose hidden states are compared, while the pruned one restores clips."""

    def __init__(self, bench: Bench, inputs: Inputs, pruned: Network) -> None:
        self._bench, self._pruned = bench, pruned
        self._compared: dict[str, StateErrors] = {}
        # States of networks that share no weights are not alike.
        if bench.method.start != "scratch" and pruned.arguments.branches:
            cut, self._dense = (
                trained.network.load().to(bench.device).eval() for trained in (inputs.cut, inputs.dense)
            )
            self._compared = {
                "after_cut": StateErrors(cut, bench.device),
                "finetuned": StateErrors(pruned, bench.device),
            }

    @torch.inference_mode()
    def restored(self, clip: Clip) -> Tensor:
        """The pruned network's output frames; the states of all networks are taken in."""
        if not self._compared:
            return self._bench.restored(self._pruned, clip)
        frames_NTCHW = self._bench.frames_shown(clip)
        # All networks go frame by frame, side by side: no more states are in memory than they need themselves.
        flows = self._pruned.flows_in_parts(frames_NTCHW)
        see = seen_beside(self._compared["finetuned"], self._compared["after_cut"], self._dense, frames_NTCHW, flows)
        return self._bench.restored(self._pruned, clip, see, flows or None)

    def errors(self) -> HiddenErrors:
        """Of both points; empty where nothing is compared."""
        return {point: compared.by_branch() for point, compared in self._compared.items()}


def _cost(bench: Bench, network: Network) -> Cost:
    """Products with zeros that are held count for nothing, though a dense convolution computes them."""
    cost = cost_of(network)
    if bench.method.start != "masked":
        return cost
    macs, parameters = zero_costs(network, bench.job.layout)
    return cost.without(macs * COST_SIZE[0] * COST_SIZE[1], parameters)
