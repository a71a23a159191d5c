"""What windows and tiles cost beside super-resolving a whole sequence at once: dB lost, by overlap.

python benchmarks/seams.py NETWORK_FOLDER CLIP.mp4 [CLIP.mp4 ...]

Clips are halved, then shrunk for the network; PSNR in RGB is that against the halved frames. A pair of numbers is
the mean loss and that of the worst frame (its absolute value), in dB.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from vsrprune.data.clips import make_clip
from vsrprune.data.reading import read_frames
from vsrprune.data.sources import ClipSource
from vsrprune.metrics.latency import fastest_milliseconds
from vsrprune.networks.fast.fastest import freeze
from vsrprune.networks.fast.frozen import Frozen
from vsrprune.use.load import load_trained
from vsrprune.use.streaming import Pieces, upscaled_frames

WHOLE = Pieces(window=1_000_000, overlap=0)


def main() -> None:
    """Print a line per clip and piece."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--window", type=int, default=30)
    parser.add_argument("--overlaps", type=int, nargs="*", default=[0, 1, 2, 3, 5, 10])
    parser.add_argument("--tile", type=int, default=32)
    parser.add_argument("--tile-overlaps", type=int, nargs="*", default=[0, 4, 8, 16, 24])
    given = parser.parse_args()
    network = load_trained(given.model, Path("store"), print)
    for file in given.clips:
        frames_TCHW = read_frames(ClipSource(file.stem, (file,)), given.frames, halve=True)
        clip, _ = make_clip(file.stem, frames_TCHW, network.arguments.scale)
        frames = [frame_CHW[None].float() / 255 for frame_CHW in clip.low_TCHW]
        frozen, _ = freeze(network, frames[0][None], partial(fastest_milliseconds, device=torch.device("cpu")))
        whole = psnr(frozen, frames, clip.high_TCHW, WHOLE)
        height, width = clip.low_TCHW.shape[-2:]
        print(f"{file.stem}, {width}x{height}, {len(frames)} frames: {float(whole.mean()):.3f} dB at once")
        for overlap in given.overlaps:
            lost = whole - psnr(frozen, frames, clip.high_TCHW, Pieces(given.window, overlap))
            report(f"window {given.window}, overlap {overlap}", lost)
        for overlap in given.tile_overlaps:
            lost = whole - psnr(frozen, frames, clip.high_TCHW, Pieces(WHOLE.window, 0, given.tile, overlap))
            report(f"tile {given.tile}, overlap {overlap}", lost)


def psnr(network: Frozen, frames: list[Tensor], truth_TCHW: Tensor, pieces: Pieces) -> Tensor:
    """PSNR of every frame, in dB."""
    errors = [
        ((high_NCHW[0].clamp(0, 1) * 255).round() - truth_CHW).square().mean()
        for high_NCHW, truth_CHW in zip(upscaled_frames(network, frames, pieces), truth_TCHW, strict=True)
    ]
    return 10 * torch.log10(255**2 / torch.stack(errors))


def report(what: str, lost_T: Tensor) -> None:
    """One line."""
    print(f"  {what}: {float(lost_T.mean()):.5f}, {float(lost_T.abs().max()):.5f}", flush=True)


if __name__ == "__main__":
    main()
