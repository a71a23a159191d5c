"""An outside control: one dense network pruned by Torch-Pruning (pip install -e '.[control]'), and by our one-shot L1.

python benchmarks/outside_control.py JOB_FOLDER --val CLIP.mp4 [CLIP.mp4 ...]

Both cut once, the same share of every layer that they can cut, and no gate or fine-tuning has touched the network.
Torch-Pruning runs as its authors show it in the first example of its README (1.6.1): `BasePruner` with
`GroupMagnitudeImportance(p=2)`, which is the mean over a dependency group of the L2 norms of its weights, over the mean
of the group; all else is the library's default (no ranking over all layers, one step). The README's `round_to=8`, which
it recommends for the speed of GPUs, is left out: it would leave layers of 16 channels two choices. `pruning_ratio` is
the least number of hundredths that removes the MACs asked for.

Torch-Pruning finds the dependencies by tracing, and must be helped: it takes a pixel shuffle for an elementwise
operation, so the convolutions before one keep all their filters, and it loses the offset of a hidden state that is
concatenated to a frame, so the first convolution of a branch is split in two that are added. With one frame there would
be no recurrence to see: it traces two.
"""

from __future__ import annotations

import argparse
import sys
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsrprune.cli import complain

try:
    import torch_pruning
except ImportError as error:
    sys.exit(complain(f"{error}; pip install -e '.[control]'"))

sys.path.insert(0, str(Path(__file__).parents[1]))  # the benchmark that this one shares its clips with

from benchmarks.pixel_shuffle import clip_of, psnr
from vsrprune.metrics.cost import network_cost
from vsrprune.metrics.latency import compare_latency
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.basicvsr.spec import RGB, trunk
from vsrprune.networks.parts.layers import warp
from vsrprune.pruning.scores.table import score_units
from vsrprune.pruning.surgery import compact
from vsrprune.selection.asked import Asked
from vsrprune.selection.units import select
from vsrprune.use.load import load_trained

SIZE = (64, 64)


def main() -> None:
    """Print a row per tool: MACs kept, latency, PSNR without fine-tuning."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", type=Path)
    parser.add_argument("--store", type=Path, default=Path("store"))
    parser.add_argument("--val", type=Path, nargs="+", required=True)
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--ratio", type=float, default=0.3, help="of the MACs that are cut")
    given = parser.parse_args()
    dense = load_dense(given.job, given.store)
    val = [clip_of(file, given.frames, dense.arguments.scale) for file in given.val]
    networks = {
        "dense": dense,
        "Torch-Pruning": cut_by_tracing(lambda: load_dense(given.job, given.store), given.ratio),
    }
    reached = 1 - network_cost(networks["Torch-Pruning"], SIZE).macs / network_cost(dense, SIZE).macs
    for rule in ("aligned", "rsc"):
        networks[f"ours, {rule}"] = cut_by_groups(load_gated(given.job, given.store), rule, reached)
    frames_NTCHW = torch.rand(1, 2, RGB, *SIZE, generator=torch.Generator().manual_seed(0))
    times = compare_latency(networks, frames_NTCHW, repeats=15)
    whole = network_cost(dense, SIZE).macs
    print(f"{torch_pruning.__version__=}; {torch.get_num_threads()} threads, frames {SIZE[1]}x{SIZE[0]}")
    print("tool | MACs kept | ms per frame | speed-up | PSNR on Y, dB")
    for name, network in networks.items():
        ms = times[name].ms
        share = network_cost(network, SIZE).macs / whole
        print(f"{name} | {share:.1%} | {ms:.1f} | {times['dense'].ms / ms:.2f} | {psnr(network, val):.2f}")


class SplitFirst(nn.Module):
    """A branch's first convolution as the sum of one over the frame and one over the hidden state."""

    def __init__(self, first: nn.Conv2d) -> None:
        super().__init__()
        outputs = first.out_channels
        self.frame = nn.Conv2d(RGB, outputs, 3, padding=1)
        self.state = nn.Conv2d(first.in_channels - RGB, outputs, 3, padding=1, bias=False)
        with torch.no_grad():
            self.frame.weight.copy_(first.weight[:, :RGB])
            self.frame.bias.copy_(first.bias)  # type: ignore[union-attr, arg-type]
            self.state.weight.copy_(first.weight[:, RGB:])

    @property
    def out_channels(self) -> int:
        """Channels of the hidden state, however many the tool has left."""
        return self.frame.out_channels


def _split_step(branch: nn.Module, first: SplitFirst, slope: float) -> object:
    def step(frame_NCHW: Tensor, state_NCHW: Tensor, flow_N2HW: Tensor | None) -> Tensor:
        x_NCHW = first.frame(frame_NCHW)
        if flow_N2HW is not None:  # the state before the first frame is zero: nothing to add
            x_NCHW = x_NCHW + first.state(warp(state_NCHW, flow_N2HW))
        refined_NCHW: Tensor = branch.blocks(F.leaky_relu(x_NCHW, slope))  # type: ignore[operator]
        return refined_NCHW

    return step


def cut_by_tracing(load: Callable[[], BasicVSR], ratio: float) -> BasicVSR:
    """The network that Torch-Pruning leaves at the least share of channels that removes `ratio` of the MACs."""
    most = network_cost(load(), SIZE).macs * (1 - ratio)
    # The MACs fall with the share, so their negatives ascend.
    hundredths = range(1, 100)
    place = bisect_left(hundredths, -most, key=lambda share: -network_cost(traced(load(), share / 100), SIZE).macs)
    if place == len(hundredths):
        raise SystemExit(f"Torch-Pruning cannot remove {ratio:.0%} of the MACs of this network; use a smaller --ratio")
    return traced(load(), hundredths[place] / 100)


def traced(network: BasicVSR, share: float) -> BasicVSR:
    """Let Torch-Pruning cut a share of the channels of every layer that it can cut, in place."""
    for branch in network.arguments.branches:
        module = network.get_submodule(trunk(branch))
        module.first = SplitFirst(module.first)  # type: ignore[arg-type]
        module.step = _split_step(module, module.first, network.arguments.slope)  # type: ignore[assignment]
    shuffles = [network.get_submodule(f"upconv{i + 1}") for i in range(len(network.arguments.upscale_factors))]
    torch_pruning.pruner.BasePruner(
        network,
        torch.rand(1, 2, RGB, *SIZE),
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=share,
        ignored_layers=[*shuffles, network.conv_last, network.flow_net],
        forward_fn=lambda model, frames: model(frames).frames_NTCHW,
        output_transform=lambda output: output,
    ).step()
    return network


def load_dense(job: Path, store: Path) -> BasicVSR:
    """The job's dense network, which must be a BasicVSR: the tracing tool is told the names of its layers."""
    dense = load_trained(job, store, print, which="dense")
    assert isinstance(dense, BasicVSR), f"{job} is of {type(dense).__name__}; this benchmark needs a BasicVSR"
    return dense


def load_gated(job: Path, store: Path) -> BasicVSR:
    """The job's dense network as the rules need it: with gates, all one."""
    dense = load_dense(job, store)
    gated = BasicVSR(dense.arguments)
    gated.load_state_dict({**gated.state_dict(), **dense.state_dict()})
    return gated


def cut_by_groups(network: BasicVSR, rule: str, ratio: float) -> BasicVSR:
    """Our one-shot L1 cut of that share of the MACs, the same share of every layer, as method=l1 does it."""
    layout = network.channel_layout(rule)
    asked = Asked(rule=rule, ratio=ratio, target="macs", scope="local")
    return compact(network, select(layout, score_units(network, layout, "l1"), asked))


if __name__ == "__main__":
    main()
