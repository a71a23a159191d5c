"""Frames per second of `src/upscale.py` end to end, dense and pruned, in every engine that is installed; in turns.

    python benchmarks/upscaling_engines.py JOB [--store STORE] [--sizes 90x160 180x320] [--frames 60] [--rounds 3]

JOB is a finished job's folder. The video shows noise that drifts (`benchmarks/upscaling.py`). Rounds go through all
networks and engines; the fastest counts. What a command spends before its network is ready is left out, as it is in
what the command says.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch
from rich import box
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.upscaling import make_video, size_of
from vsrprune.engines.extras import installed
from vsrprune.results.measured import TORCH
from vsrprune.use.load import STAGES
from vsrprune.use.streaming import Pieces
from vsrprune.use.upscaling import UpscalingRequest, upscale


def main() -> None:
    """Print a row per size, network and engine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", type=Path)
    parser.add_argument("--store", type=Path, default=Path("store"))
    parser.add_argument("--sizes", nargs="+", type=size_of, default=[(90, 160), (180, 320)])
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    engines = [TORCH, *installed()]
    table = Table(title=f"frames per second, end to end, {torch.get_num_threads()} CPU threads", box=box.SIMPLE_HEAD)
    for heading in ("input", "network", *engines, "pruned over dense"):
        table.add_column(heading, justify="right")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in given.sizes:
            source = make_video(folder / "in.mp4", given.frames, size)
            rates = dict.fromkeys(((which, engine) for which in STAGES for engine in engines), 0.0)
            for _ in range(given.rounds):
                for which, engine in rates:
                    told: list[str] = []
                    request = UpscalingRequest(
                        source, folder / "out.mp4", given.job, given.store, Pieces(30, 5), which=which, device="cpu",
                        overwrite=True, engine=engine,
                    )  # fmt: skip
                    upscale(request, told.append)
                    rate = float(told[-1].split(", ")[-1].split()[0])
                    rates[which, engine] = max(rates[which, engine], rate)
            for which in STAGES:
                row = [rates[which, engine] for engine in engines]
                gain = max(row) / max(rates["dense", engine] for engine in engines)
                table.add_row(f"{size[0]}x{size[1]}", which, *(f"{rate:.2f}" for rate in row), f"{gain:.2f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
