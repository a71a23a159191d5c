"""How fast exported networks are in other engines, dense and pruned, all in turns.

    python benchmarks/engines.py [--size 90 160] [--channels 32] [--blocks 5] [--ratio 0.5] [--bidirectional]

The network is not trained and its scores are random; a random flow net makes motion. `pytorch` is its fastest form
there (gates folded, blocks in place, memory format and gathers by timing). OpenVINO is timed if it is installed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table

from vsrprune.channels.plan import PrunePlan
from vsrprune.engines.network import Runner
from vsrprune.engines.onnx_files import onnxruntime_runner, openvino_runner
from vsrprune.host.machine import measuring
from vsrprune.metrics.cost import network_cost
from vsrprune.metrics.latency import fastest_milliseconds, milliseconds
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.basicvsr.spec import BasicVSRArguments
from vsrprune.networks.fast.fastest import freeze
from vsrprune.networks.files import save_network
from vsrprune.networks.graph import random_clip
from vsrprune.pruning.surgery import compact
from vsrprune.selection.asked import Asked
from vsrprune.selection.units import select
from vsrprune.use.export.export import export
from vsrprune.use.export.request import Request

CPU = torch.device("cpu")
RUNNERS = {"onnxruntime": onnxruntime_runner, "openvino": openvino_runner}
MOTION = 0.02  # deviation of the random flow net's weights: an untrained one finds none


def main() -> None:
    """Export, verify, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(90, 160))
    for name, default in (("channels", 32), ("blocks", 5), ("frames", 5), ("repeats", 9)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--ratio", type=float, default=0.5)
    parser.add_argument("--bidirectional", action="store_true")
    given = parser.parse_args()
    size = tuple(given.size)
    shaped = BasicVSRArguments(given.channels, given.blocks, given.channels, given.bidirectional)
    networks = made(shaped, given.ratio)
    clip_NTCHW = random_clip(given.frames, size)
    with tempfile.TemporaryDirectory() as folder:
        runners = {name: exported(network, Path(folder, name)) for name, network in networks.items()}
    times = measure(networks, runners, clip_NTCHW, given.repeats)
    console = Console()
    table = Table("network", "engine", "ms", "fastest-slowest", "speed-up", "MACs kept, no flow", box=box.SIMPLE)
    macs = {name: network_cost(network, size).macs for name, network in networks.items()}
    for (name, engine), values in times.items():
        median = statistics.median(values)
        quicker = statistics.median(times["dense", engine]) / median
        spread = f"{min(values):.1f}-{max(values):.1f}"
        table.add_row(name, engine, f"{median:.1f}", spread, f"{quicker:.2f}", f"{macs[name] / macs['dense']:.1%}")
    console.print(f"{size[1]}x{size[0]}, {given.frames} frames, {torch.get_num_threads()} threads, ms per frame")
    console.print(table)


def made(shaped: BasicVSRArguments, ratio: float) -> dict[str, BasicVSR]:
    """Dense, and with this share of the units cut under `rsc`."""
    torch.manual_seed(0)
    network = BasicVSR(shaped)
    with torch.no_grad():
        for parameter in network.flow_net.parameters():
            parameter.add_(MOTION * torch.randn_like(parameter))
    layout = network.channel_layout("rsc")
    draw = np.random.default_rng(0)
    plan = select(
        layout, {group.name: draw.random(group.size) for group in layout.groups}, Asked(rule="rsc", ratio=ratio)
    )
    plans = {"dense": PrunePlan.keep_all("rsc", layout), "pruned": plan}
    return {name: compact(network, plan).eval() for name, plan in plans.items()}


def exported(network: BasicVSR, folder: Path) -> dict[str, Runner]:
    """Its clip.onnx, verified, in every engine that is there."""
    folder.mkdir()
    save_network(network, folder)
    file = export(Request(folder, "onnx", folder / "onnx", repeats=0, openvino=_has_openvino()), print) / "clip.onnx"
    engines = ["onnxruntime", *["openvino"] * _has_openvino()]
    return {engine: RUNNERS[engine](file, torch.get_num_threads()) for engine in engines}


def _has_openvino() -> bool:
    return find_spec("openvino") is not None


def measure(
    networks: dict[str, BasicVSR], runners: dict[str, dict[str, Runner]], clip_NTCHW: torch.Tensor, repeats: int
) -> dict[tuple[str, str], list[float]]:
    """Milliseconds per frame by (network, engine); every repeat runs each once."""
    array = clip_NTCHW.numpy()
    with measuring(lambda: print("waiting for other measurements of this machine")):
        calls: dict[tuple[str, str], Callable[[], object]] = {}
        for name, network in networks.items():
            frozen, _ = freeze(network, clip_NTCHW, partial(fastest_milliseconds, device=CPU))
            calls[name, "pytorch"] = partial(frozen, clip_NTCHW)
            calls |= {(name, engine): partial(run, [array]) for engine, run in runners[name].items()}
        for call in calls.values():
            call()  # warm
        times: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
        for _ in range(repeats):
            for key, call in calls.items():
                times[key].append(milliseconds(call, CPU) / clip_NTCHW.shape[1])
    return times


if __name__ == "__main__":
    main()
