"""Networks in engines as calls to be timed: of an engine's time shapes decide, and not what weights or frames are."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial

import torch
from torch import Tensor

from vsrprune.engines.models import EngineModels, Models
from vsrprune.engines.network import EngineNetwork
from vsrprune.engines.quantising import Calibration, quantised
from vsrprune.networks.network import Network

FLOAT32, INT8 = "32", "int8"
Way = tuple[str, str]  # an engine, and one of these precisions
CALIBRATED_SIDE = 64  # pixels of the random frames that ranges are found on


def restoring(network: EngineNetwork, clip_NTCHW: Tensor) -> Callable[[], None]:
    """A call that restores a clip (1, T, 3, H, W) frame by frame."""
    return partial(_restore, network, list(clip_NTCHW.unbind(1)))


@torch.inference_mode()
def calls_of(network: Network, clip_NTCHW: Tensor, ways: Collection[Way]) -> dict[Way, Callable[[], None]]:
    """Calls that restore the clip by a compact network; in int8 all its convolutions are.

    Raises UserError where no graph of the network serves clips of any length.
    """
    graphs = EngineModels.of(network.cpu().eval())
    models: dict[str, Models] = {FLOAT32: {}}
    if any(precision == INT8 for _, precision in ways):
        models[INT8] = _of_random_ranges(graphs)
    return {way: restoring(graphs.run(models[way[1]], way[0]), clip_NTCHW.cpu()) for way in ways}


def _of_random_ranges(graphs: EngineModels) -> Models:
    """The models in int8, by ranges that random frames give: as fast as calibrated ones."""
    calibrations = {name: Calibration(model, "minmax") for name, model in graphs.models.items()}
    exact = graphs.run({})
    watched = {name: calibrations[name].beside(runner) for name, runner in exact.runners.items()}
    side = max(CALIBRATED_SIDE, graphs.network.arguments.smallest_side)
    _restore(EngineNetwork(exact.arguments, graphs.graphs, watched), list(torch.rand(2, 1, 3, side, side)))
    return {name: quantised(calibration, calibration.ranges()) for name, calibration in calibrations.items()}


def _restore(network: EngineNetwork, frames: list[Tensor]) -> None:
    for _ in network.restore_window(frames, range(len(frames)), None):
        pass
