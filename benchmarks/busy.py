"""How long a training step takes while other processes keep the cores busy, by how its threads wait for one another.

    python benchmarks/busy.py [--model basicvsr_tiny] [--busy 0 2 4] [--seconds 10] [--rounds 2]

Rows: one thread; all cores with threads that spin at barriers, as OpenMP has it by default; the same with passive ones.
They take turns, each as a process of its own, since OpenMP reads its settings once. Busy processes count without end.
The median of all steps of all rounds is printed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from rich import box
from rich.console import Console
from rich.table import Table

SRC = Path(__file__).parents[1] / "src"
CORES = len(os.sched_getaffinity(0))
# Name -> threads and OMP_WAIT_POLICY; an empty one is what OpenMP does by itself.
ROWS = {"one thread": (1, "passive"), f"{CORES} that spin": (CORES, ""), f"{CORES} passive": (CORES, "passive")}
STEPS = """
import sys, time
import torch
sys.path.insert(0, sys.argv[1])
from vsrprune.cli import preset
from vsrprune.networks.table import build
torch.set_num_threads(int(sys.argv[2]))
network = build(preset(sys.argv[3]).arguments)
optimizer = torch.optim.Adam(network.parameters())
low, high = torch.rand(4, 5, 3, 24, 24), torch.rand(4, 5, 3, 24 * network.arguments.scale, 24 * network.arguments.scale)
end = time.monotonic() + float(sys.argv[4])
step = 0
while step < 2 or time.monotonic() < end:
    began = time.monotonic()
    optimizer.zero_grad()
    (network(low).frames_NTCHW - high).abs().mean().backward()
    optimizer.step()
    if step: print(time.monotonic() - began, flush=True)
    step += 1
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="basicvsr_tiny")
    parser.add_argument("--busy", type=int, nargs="+", default=[0, CORES, 2 * CORES], help="busy processes beside it")
    parser.add_argument("--seconds", type=float, default=10, help="of every row in every round, after its first step")
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    table = Table(box=box.SIMPLE_HEAD, title=f"milliseconds per training step of {given.model}, {CORES} cores")
    table.add_column("busy processes")
    for name in ROWS:
        table.add_column(name, justify="right")
    for busy in given.busy:
        seconds: dict[str, list[float]] = {name: [] for name in ROWS}
        with beside(busy):
            for _ in range(given.rounds):
                for name, (threads, policy) in ROWS.items():
                    seconds[name] += steps(given.model, threads, policy, given.seconds)
        table.add_row(str(busy), *(f"{1000 * median(taken):.0f}" for taken in seconds.values()))
    Console().print(table)


def steps(model: str, threads: int, policy: str, seconds: float) -> list[float]:
    """Seconds of each training step of a new process, without its first."""
    unset = ("OMP_WAIT_POLICY", "OMP_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    command = [sys.executable, "-c", STEPS, str(SRC), str(threads), model, str(seconds)]
    if policy:
        environment["OMP_WAIT_POLICY"] = policy
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return [float(line) for line in done.stdout.split()]


@contextlib.contextmanager
def beside(number: int) -> Iterator[None]:
    """So many processes that keep a core busy each."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    time.sleep(1)
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
