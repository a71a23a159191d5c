"""What cutting before a pixel shuffle costs: whole groups of r*r filters, against filters one by one.

python benchmarks/pixel_shuffle.py JOB_FOLDER --val CLIP.mp4 [CLIP.mp4 ...] [--train CLIP.mp4 ... --steps 300]

A pixel shuffle makes one channel of r*r consecutive filters. Both ways take away the same number of filters of
`upconv1` and `upconv2` of the job's dense network, those of the least mean |weight|, and leave networks of the same
shape, which are fine-tuned alike:
- groups: whole channels go; what is left is as it was;
- filters: the filters that are left move up, so that they stand for other sub-pixels and other channels; the next
  convolution loses the channels that lost most filters;
- filters, zeroed: the same filters at zero, nothing moved: what their loss alone would cost, with no speed-up.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vsrprune.channels.layout import ConvLayer
from vsrprune.channels.plan import PrunePlan
from vsrprune.data.clips import Clip, make_clip
from vsrprune.data.reading import read_frames
from vsrprune.data.sampling import PatchDataset
from vsrprune.data.sources import ClipSource
from vsrprune.metrics.quality import frame_quality
from vsrprune.networks.network import Network
from vsrprune.pruning.losses import charbonnier
from vsrprune.pruning.surgery import compact
from vsrprune.stages.quality import restored
from vsrprune.use.load import load_trained

CPU = torch.device("cpu")


def main() -> None:
    """Print a row per share and way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", type=Path)
    parser.add_argument("--store", type=Path, default=Path("store"))
    parser.add_argument("--val", type=Path, nargs="+", required=True)
    parser.add_argument("--train", type=Path, nargs="*", default=[])
    parser.add_argument("--steps", type=int, default=0, help="of fine-tuning")
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.25, 0.5])
    given = parser.parse_args()
    if given.steps and not given.train:
        parser.error("--steps needs clips to train on: --train")
    dense = load_trained(given.job, given.store, print, which="dense")
    val = [clip_of(file, given.frames, dense.arguments.scale) for file in given.val]
    train = [clip_of(file, given.frames, dense.arguments.scale) for file in given.train]
    print(f"dense: {psnr(dense, val):.2f} dB (PSNR on Y)")
    print("filters cut | way | one shot, dB | after fine-tuning, dB")
    for share in given.shares:
        groups, filters, zeroed = variants(dense, share)
        for name, network in (("groups", groups), ("filters", filters), ("filters, zeroed", zeroed)):
            before = f"{psnr(network, val):.2f}"
            after = "-"
            if given.steps and network is not zeroed:
                fine_tune(network, train, given.steps)
                after = f"{psnr(network, val):.2f}"
            print(f"{share:.0%} | {name} | {before} | {after}", flush=True)


def clip_of(file: Path, frames: int, scale: int) -> Clip:
    """The clip halved, as compressed videos are, and its low-resolution frames."""
    return make_clip(file.stem, read_frames(ClipSource(file.stem, (file,)), frames, halve=True), scale)[0]


def psnr(network: Network, clips: Sequence[Clip]) -> float:
    """PSNR on Y, mean over clips (dB)."""
    network.eval()
    means = [np.mean(frame_quality(restored(network, clip, CPU), clip.high_TCHW, "y", 0).psnr) for clip in clips]
    return float(np.mean(means))


@torch.no_grad()
def variants(dense: Network, share: float) -> tuple[Network, Network, Network]:
    """The dense network cut by groups, by single filters, and with these filters at zero."""
    layout = dense.channel_layout("aligned")
    convs = [conv for conv in layout.convs if conv.filters_per_unit > 1]
    whole_groups: dict[str, list[int]] = {}
    struck_channels: dict[str, list[int]] = {}
    survivors: dict[str, Tensor] = {}
    for conv in convs:
        size, per_unit = conv.output.size, conv.filters_per_unit
        cut = round(size * share)
        score = dense.get_submodule(conv.name).weight.abs().mean(dim=(1, 2, 3))  # type: ignore[operator]
        whole_groups[conv.name] = score.view(size, per_unit).mean(dim=1).argsort()[:cut].tolist()
        order = score.argsort()
        survivors[conv.name] = order[cut * per_unit :].sort().values
        losses = torch.bincount(order[: cut * per_unit] // per_unit, minlength=size)
        struck_channels[conv.name] = losses.argsort(descending=True, stable=True)[:cut].tolist()
    groups = compact(dense, PrunePlan.cutting("aligned", layout, whole_groups))
    filters = compact(dense, PrunePlan.cutting("aligned", layout, struck_channels))
    for conv in convs:
        _take_filters(dense, filters, conv, struck_channels, survivors[conv.name])
    zeroed = compact(dense, PrunePlan.keep_all("aligned", layout))
    for name, kept in survivors.items():
        module = zeroed.get_submodule(name)
        for values in (module.weight, module.bias):
            gone = torch.ones(len(values), dtype=torch.bool)  # type: ignore[arg-type]
            gone[kept] = False
            values[gone] = 0  # type: ignore[operator]
    return groups, filters, zeroed


def _take_filters(
    dense: Network,
    filters: Network,
    conv: ConvLayer,
    struck: dict[str, list[int]],
    kept: Tensor,
) -> None:
    """Give `filters` the surviving filters of a convolution of `dense`, in order, with the inputs that are left."""
    source, target = dense.get_submodule(conv.name), filters.get_submodule(conv.name)
    gone = {channel for slot in conv.inputs if slot.group in struck for channel in struck[slot.group]}
    inputs = [channel for channel in range(source.in_channels) if channel not in gone]  # type: ignore[arg-type]
    target.weight.copy_(source.weight[kept][:, inputs])  # type: ignore[operator, index]
    target.bias.copy_(source.bias[kept])  # type: ignore[operator, index]


def fine_tune(network: Network, clips: Sequence[Clip], steps: int) -> None:
    """Adam on random patches, the same for every network, its rate falling to nothing along a cosine."""
    data = PatchDataset(clips, frames=7, patch=24, scale=network.arguments.scale, seed=0)
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        items = [data[3 * step + item].floats() for item in range(3)]
        low, high = (torch.stack(frames) for frames in zip(*items, strict=True))
        optimizer.zero_grad()
        charbonnier(network(low).frames_NTCHW, high).backward()
        optimizer.step()
        schedule.step()


if __name__ == "__main__":
    main()
