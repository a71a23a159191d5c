"""What SSL leaves of every network and task: a row per job of `sweeps/networks.yaml`, timed again in turns.

    python benchmarks/networks.py RUNS --store STORE [--size 90 160] [--repeats 9]

PSNR is that of result.json. Times are the fastest of the repeats, dense and pruned in turns, each in its fastest form,
flow net included; quotient: the time kept over the MACs kept (flow net included), 1 where a network gets faster as its
MACs fall.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import torch

from vsrprune.metrics.latency import compare_latency, fastest_milliseconds
from vsrprune.networks.fast.fastest import freeze
from vsrprune.results.result import RESULT, Result
from vsrprune.use.load import load_trained

FRAMES = 3


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--store", type=Path, default=Path("store"))
    parser.add_argument("--size", type=int, nargs=2, default=(90, 160))
    parser.add_argument("--repeats", type=int, default=9)
    given = parser.parse_args()
    print("| task | network | input, dB | dense, dB | pruned, dB | MACs kept | speed-up | quotient | equivalence |")
    print("|---|---|---|---|---|---|---|---|---|")
    for file in sorted(given.runs.rglob(RESULT), key=lambda file: _order(file.parent)):
        print(_row(file.parent, given.store, tuple(given.size), given.repeats), flush=True)


def _order(folder: Path) -> tuple[str, str]:
    knobs = Result.load(folder).knobs
    return knobs["task"]["name"], knobs["model"]["name"]


def _row(folder: Path, store: Path, size: tuple[int, int], repeats: int) -> str:
    result = Result.load(folder)
    clip_NTCHW = torch.rand(1, FRAMES, 3, *size)
    timer = partial(fastest_milliseconds, device=torch.device("cpu"))
    frozen = {
        which: freeze(load_trained(folder, store, print, which), clip_NTCHW, timer)[0] for which in ("dense", "pruned")
    }
    times = compare_latency(frozen, clip_NTCHW, repeats)
    faster = times["dense"].ms_fastest / times["pruned"].ms_fastest
    cost = result.cost
    kept_with_flow = cost["pruned"].macs_with_flow / cost["dense"].macs_with_flow
    psnr = " | ".join(f"{result.quality[name].psnr:.2f}" for name in ("baseline", "dense", "finetuned"))
    return (
        f"| {result.knobs['task']['name']} | {result.knobs['model']['name']} | {psnr} |"
        f" {100 * result.macs_kept:.1f} % | {faster:.2f} | {1 / faster / kept_with_flow:.2f} |"
        f" {'' if result.equivalence is None else f'{result.equivalence.float64:.0e}'} |"
    )


if __name__ == "__main__":
    main()
