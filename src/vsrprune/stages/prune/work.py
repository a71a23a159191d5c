"""Make the compact network, and prove on a real clip that it equals the masked one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from vsrprune.networks.files import save_network
from vsrprune.networks.network import Network
from vsrprune.pruning.gates import zero_cut_gates
from vsrprune.pruning.masking import mask_smallest
from vsrprune.pruning.surgery import compact, equivalence_errors
from vsrprune.results.result import Equivalence, Quality
from vsrprune.stages.bench import Bench
from vsrprune.stages.flow.work import give_flow
from vsrprune.stages.prune.recipe import Inputs, Pruned
from vsrprune.stages.saved import SavedNetwork

PRECISIONS = (torch.float64, torch.float32)
TOLERANCE = 1e-10  # float64, relative to max |output|
SIZE = (37, 45)  # odd, and no multiple of anything the network divides by
LENGTHS = (1, 2, 5)  # frames

Smaller = tuple[Network, Quality | None, Equivalence | None]  # with the quality before the cut


def make(bench: Bench, inputs: Inputs) -> Pruned:
    """The compact network of the job's method."""
    smaller, before, equivalence = STARTS[bench.method.start](bench, inputs)
    save_network(smaller, bench.folder)
    after = bench.quality(smaller, inputs.dense)
    return Pruned(SavedNetwork(bench.folder), before or after, after, equivalence)


def _cut(bench: Bench, inputs: Inputs) -> Smaller:
    """The trained network without the cut units."""
    network, plan = _trained(inputs), inputs.selection.plan
    bench.progress.does("proves the cut")
    # Proven on the network as it was trained, before gates are set to zero in place.
    equivalence = _equivalence(bench, network, inputs)
    before = bench.quality(network, inputs.dense)
    zero_cut_gates(network, plan)
    return compact(network.cpu(), plan), before, equivalence


def _new(bench: Bench, inputs: Inputs) -> Smaller:
    """New weights in the plan's shape; there is nothing that they could equal."""
    torch.manual_seed(bench.config.pruning_seed)
    network = bench.new_network().with_plan(inputs.selection.plan)
    give_flow(bench, network, inputs.flow)
    return network, None, None


def _masked(bench: Bench, inputs: Inputs) -> Smaller:
    """The dense network without its smallest weights."""
    dense, config = _trained(inputs), bench.config
    masked = compact(_trained(inputs), inputs.selection.plan)
    mask_smallest(masked, bench.job.layout, config.ratio, config.target)
    return masked, bench.quality(dense), _equivalence(bench, dense.cpu(), inputs)


STARTS: Mapping[str, Callable[[Bench, Inputs], Smaller]] = {"cut": _cut, "scratch": _new, "masked": _masked}


def _trained(inputs: Inputs) -> Network:
    assert inputs.trained is not None, "only a network from scratch starts from none"
    return inputs.trained.network.load()


def _equivalence(bench: Bench, network: Network, inputs: Inputs) -> Equivalence:
    clips, plan = real_frames(bench), inputs.selection.plan
    errors = (max(equivalence_errors(network, plan, clips, dtype)) for dtype in PRECISIONS)
    equivalence = Equivalence(*errors)
    # Not `>`: NaN must fail too. In float32 rounding alone differs, so that figure is reported and not judged.
    if not equivalence.float64 <= TOLERANCE:
        raise AssertionError(
            f"surgery changed the network: compact and masked outputs differ by {equivalence.float64:.2e}"
            f" (float64, relative), more than {TOLERANCE:g}"
        )
    return equivalence


def real_frames(bench: Bench) -> list[Tensor]:
    """Pieces (1, T, 3, H, W) of the first held-out clip, of several lengths and an odd size, in [0, 1]."""
    low_TCHW = bench.clips.val[0].low_TCHW.float() / 255
    height, width = SIZE
    lengths = sorted({min(length, low_TCHW.shape[0]) for length in LENGTHS})
    return [low_TCHW[None, :length, :, :height, :width] for length in lengths]
