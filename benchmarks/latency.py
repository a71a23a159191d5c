"""How fast a pruned network is beside its MACs, measured in turns with the dense one.

    python benchmarks/latency.py [model=basicvsr] ['ratios=[0.3,0.5,0.73]'] ['sizes=[[64,64],[180,320]]'] [OVERRIDE ...]
    python benchmarks/latency.py table=precisions ['precisions=[32,tf32,bf16,16]'] ['roundings=[1,8,16,auto]'] [...]
    python benchmarks/latency.py [dry=true] [json=FILE] [...]     # json: the rows as numbers too

With table=precisions, the default on a GPU: whole networks in every precision, each in its fastest form there (launched
or replayed as CUDA graphs), the dense one and plans whose counts are rounded to 1, 8, 16 or by times, with the peak of
the memory. dry=true tries the same on a small network and small frames.

With table=parts, for every size and ratio (share of the MACs that is removed) two plans: `free`, a global ranking per
MAC (round_to=1), and `auto`, counts chosen by the times of this device (round_to=auto). Both run in their fastest form
in float32, and so does the dense network: gates folded, blocks in place, memory format by timing. `gather` is the free
plan run as the released code of the method does it, gather + convolution + index-add in every block.

quotient: (1 / MACs kept) / speed-up; 1 means that the time falls as the MACs do.

The network is not trained. Its scores are drawn as uneven as taylor's are on a trained network (see SPREAD).
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from omegaconf import OmegaConf
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from vsrprune.channels.layout import ChannelLayout
from vsrprune.channels.operations import TimeTable
from vsrprune.channels.plan import PrunePlan
from vsrprune.cli import preset
from vsrprune.errors import UserError, one_of
from vsrprune.host.allocator import keep_freed_memory
from vsrprune.host.devices import clocks
from vsrprune.host.machine import measuring
from vsrprune.host.progress import StageProgress
from vsrprune.metrics.latency import Latency, compare_latency, fastest_milliseconds, milliseconds
from vsrprune.metrics.memory import Peak, bytes_of, peak_memory
from vsrprune.metrics.tf32 import tf32
from vsrprune.networks.basicvsr.frozen import FrozenBasicVSR
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.basicvsr.spec import RGB, BasicVSRArguments, trunk
from vsrprune.networks.fast.blocks import Form
from vsrprune.networks.fast.device_operations import FORMATS, time_tables
from vsrprune.networks.fast.fastest import forget_graphs, freeze
from vsrprune.networks.fast.precision import MULTIPLES, PRECISIONS
from vsrprune.selection.asked import Asked
from vsrprune.selection.frontier import timed_operations
from vsrprune.selection.timed import TimedSelection
from vsrprune.selection.units import select

DEFAULTS = {
    "table": "precisions" if torch.cuda.is_available() else "parts",
    "dry": False, "precisions": list(PRECISIONS), "roundings": [1, 8, 16, "auto"], "model": "basicvsr",
    "ratios": [0.3, 0.5, 0.73], "sizes": [[64, 64], [180, 320]], "repeats": 7, "rule": "rsc", "json": "",
}  # fmt: skip
DRY = {"model": "basicvsr_tiny", "ratios": [0.5], "sizes": [[16, 24]], "repeats": 1, "precisions": ["32", "bf16"]}
MODELS = tuple(f"basicvsr{size}" for size in ("", "_slim", "_small", "_tiny", "_uni", "_uni_tiny"))
WIDTH = 140  # of tables that are written to a file
PARTS = ("trunk", "upsampler", "flow", "whole")
# Logarithms of taylor's scores on the demo's trained network: deviation within a layer (stream channels 0.7, others 1),
# of the layers' means 0.2, correlation 0.3 between the blocks of a branch in how they rank the channels of its stream.
SPREAD = {"stream": 0.7, "middle": 1.0, "layers": 0.2, "shared": 0.3}
LEVELS = {"backward": 1.7e-5, "forward": 1.6e-6, "upsampler": 4.2e-5}  # means by part, in units of the loss


@dataclass(frozen=True)
class Times:
    """Milliseconds per frame of each part: fastest, median and slowest of the repeats."""

    fastest: dict[str, float]
    median: dict[str, float]
    slowest: dict[str, float]


def main() -> None:
    """Measure and print."""
    try:
        given, arguments = asked_for(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    numbers: dict[str, Any] = {}
    keep_freed_memory()  # as jobs and upscaling do
    with measuring(lambda: console.print("waits until other jobs of this machine pause")):
        for size in given.sizes:
            if given.table == "parts":
                compare(arguments, given.rule, tuple(size), list(given.ratios), given.repeats, device, console)
                continue
            clip = torch.rand(1, 3, RGB, *size, device=device)
            for precision in map(str, given.precisions):
                wishes = Wishes(given.rule, list(given.ratios), list(given.roundings))
                rows = precision_rows(arguments, wishes, clip, precision, given.repeats)
                print_precision(rows, f"{size[1]}x{size[0]}, {precision}, ms per frame", console)
                if device.type == "cuda":
                    console.print(clocks(f"GPU-{torch.cuda.get_device_properties(device).uuid}"))
                numbers[f"{size[0]}x{size[1]} {precision}"] = as_numbers(rows)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    console.print(f"{given.model}, {device} ({name}), {torch.get_num_threads()} threads, {given.repeats} repeats")
    if given.json:
        Path(given.json).write_text(json.dumps(numbers))


def asked_for(words: list[str]) -> tuple[Any, BasicVSRArguments]:
    """Options over their defaults, and the network's arguments. Raises UserError for what is unknown."""
    own = OmegaConf.from_cli(words)
    given: Any = OmegaConf.merge(DEFAULTS, DRY if own.get("dry") else {}, own)
    one_of("table", given.table, ("precisions", "parts"))
    for name in ("precisions", "roundings", "ratios", "sizes"):
        if not OmegaConf.is_list(given[name]):
            raise UserError(f"{name} must be a list, like {name}={DEFAULTS[name]}; got {given[name]!r}")
    for precision in map(str, given.precisions):
        one_of("precisions", precision, PRECISIONS)
    one_of("model", given.model, MODELS)
    arguments = cast(BasicVSRArguments, preset(given.model).arguments)
    asked = {str(name): value for name, value in given.items() if name not in DEFAULTS}
    for name in asked:
        one_of("an option (NAME=VALUE)", name, [*DEFAULTS, *(field.name for field in fields(arguments))])
    return given, replace(arguments, **asked)


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")


@torch.inference_mode()
def compare(
    arguments: BasicVSRArguments, rule: str, size: tuple[int, int], ratios: list[float], repeats: int,
    device: torch.device, console: Console,
) -> None:  # fmt: skip
    """One table for one frame size."""
    dense = BasicVSR(arguments)
    layout = dense.channel_layout(rule)
    scores = spread_scores(layout)
    timed = TimedSelection(layout, scores, tables_of(layout, size, device), Asked(rule=rule, rank="per_mac"))
    clip = torch.rand(1, 3, RGB, *size, device=device)
    networks = {("dense", 0.0): frozen(arguments, PrunePlan.keep_all(rule, layout), clip)}
    plans: dict[tuple[str, float], PrunePlan] = {}
    for ratio in ratios:
        plans["free", ratio] = select(layout, scores, Asked(rule=rule, ratio=ratio, target="macs", rank="per_mac"))
        networks["free", ratio] = frozen(arguments, plans["free", ratio], clip)
        networks["gather", ratio] = gathering(arguments, plans["free", ratio], clip)
        try:
            plans["auto", ratio] = timed.for_amount("macs", ratio)[0]
        except UserError as error:
            console.print(f"ratio {ratio:g}: {error}")
            continue
        networks["auto", ratio] = frozen(arguments, plans["auto", ratio], clip)
    times = measure(networks, clip, repeats)
    peaks = {name: peak_memory(partial(network, clip), device) for name, network in networks.items()}
    memory = {name: None if peak is None else peak.held for name, peak in peaks.items()}
    print_table(layout, plans, times, memory, size, console)


@dataclass(frozen=True)
class Wishes:
    """Which plans are made: their rule, the shares of the MACs that go, and what counts are rounded to."""

    rule: str
    ratios: Sequence[float]
    roundings: Sequence[int | str]


@dataclass(frozen=True)
class Row:
    """A network in one precision: its plan, the MACs that it keeps, its form, times, and memory."""

    plan: str
    kept: float
    form: str
    latency: Latency
    memory: Peak | None


def precision_rows(
    arguments: BasicVSRArguments, wishes: Wishes, clip: Tensor, precision: str, repeats: int
) -> list[Row]:
    """The dense network and every plan, in turns, each in its fastest form in this precision."""
    device, dtype, size = clip.device, PRECISIONS[precision], (clip.shape[-2], clip.shape[-1])
    dense = BasicVSR(arguments)
    layout = dense.channel_layout(wishes.rule)
    whole = layout.macs_per_pixel()
    with tf32(precision != "32"):
        plans = {
            "dense": PrunePlan.keep_all(wishes.rule, layout),
            **rounded_plans(layout, wishes, size, device, precision),
        }
        forms = {}
        for name, plan in plans.items():
            network = BasicVSR(arguments).with_plan(plan).to(device).eval()
            forms[name] = freeze(network, clip, partial(fastest_milliseconds, device=device), dtype)
        times = compare_latency({name: form for name, (form, _) in forms.items()}, clip, repeats)
        memory = {}
        for name, (form, _) in forms.items():
            forget_graphs(form)
            memory[name] = peak_memory(partial(form, clip), device, bytes_of(form))
    return [
        Row(name, layout.macs_per_pixel(plan.kept_counts) / whole, forms[name][1], times[name], memory[name])
        for name, plan in plans.items()
    ]


def rounded_plans(
    layout: ChannelLayout, wishes: Wishes, size: tuple[int, int], device: torch.device, precision: str
) -> dict[str, PrunePlan]:
    """By name the plans that can be made."""
    scores, plans = spread_scores(layout), {}
    timed = None
    if "auto" in wishes.roundings:
        tables = tables_of(layout, size, device, PRECISIONS[precision])
        timed = TimedSelection(layout, scores, tables, Asked(rule=wishes.rule, rank="per_mac"), MULTIPLES[precision])
    for ratio, rounding in itertools.product(wishes.ratios, wishes.roundings):
        try:
            if rounding == "auto" and timed is not None:
                name = f"{ratio:g} round_to=auto" + ("" if timed.falls else ", flat times")
                plan = timed.for_amount("macs", ratio)[0]
            else:
                name = f"{ratio:g} round_to={rounding}"
                plan = select(layout, scores, Asked(wishes.rule, ratio, "macs", round_to=rounding, rank="per_mac"))
        except UserError as error:
            print(f"{ratio:g} round_to={rounding}: {error}")
            continue
        plans[name] = plan
    return plans


def print_precision(rows: Sequence[Row], title: str, console: Console) -> None:
    """Times, speed-ups and quotients against the dense network of the same precision."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    headings = ("plan", "MACs kept", "ms", "fastest-slowest", "without flow", "speed-up", "quotient", "MiB", "reserved")
    for heading in (*headings, "form"):
        table.add_column(heading, justify="left" if heading in ("plan", "form") else "right")
    dense = rows[0].latency
    for row in rows:
        found, speed_up = row.latency, dense.ms / row.latency.ms
        held, reserved = (row.memory.held, row.memory.reserved) if row.memory else (None, None)
        table.add_row(
            row.plan, f"{row.kept:.1%}", f"{found.ms:.3f}", f"{found.ms_fastest:.3f}-{found.ms_slowest:.3f}",
            f"{found.ms_without_flow:.3f}", f"{speed_up:.2f}", f"{1 / row.kept / speed_up:.2f}",
            f"{held / 2**20:.0f}" if held else "", f"{reserved / 2**20:.0f}" if reserved else "", row.form,
        )  # fmt: skip
    console.print(table)


def as_numbers(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """By plan: share of the MACs, milliseconds per frame, speed-up against the dense network, MiB, form."""
    dense = rows[0].latency
    return {
        row.plan: {
            "macs_kept": row.kept,
            "ms": row.latency.ms,
            "ms_without_flow": row.latency.ms_without_flow,
            "speed_up": dense.ms / row.latency.ms,
            "speed_up_without_flow": dense.ms_without_flow / row.latency.ms_without_flow,
            "mib": row.memory.held / 2**20 if row.memory else None,
            "form": row.form,
        }
        for row in rows
    }


def spread_scores(layout: ChannelLayout, seed: int = 0) -> dict[str, np.ndarray]:
    """Scores of every unit, log-normal, as uneven as taylor's of a trained network, and as additive."""
    draw = np.random.default_rng(seed)
    streams: dict[str, np.ndarray] = {}
    scores = {}
    for group in layout.groups:
        own = draw.standard_normal(group.size)
        deviation = SPREAD["middle"]
        if group.kind in ("input", "output"):
            common = streams.setdefault(group.part, draw.standard_normal(group.size))
            own = np.sqrt(SPREAD["shared"]) * common + np.sqrt(1 - SPREAD["shared"]) * own
            deviation = SPREAD["stream"]
        scores[group.name] = LEVELS[group.part] * np.exp(SPREAD["layers"] * draw.standard_normal() + deviation * own)
    return scores


def tables_of(
    layout: ChannelLayout, size: tuple[int, int], device: torch.device, dtype: torch.dtype = torch.float32
) -> dict[str, TimeTable]:
    """The times of all operations that a plan may need, by memory format."""
    operations = timed_operations(layout)
    timer = partial(fastest_milliseconds, device=device)
    with StageProgress("timing", len(operations) * len(FORMATS)) as progress:
        return time_tables(operations, size, device, timer, progress.update, dtype)


def frozen(arguments: BasicVSRArguments, plan: PrunePlan, clip: Tensor) -> FrozenBasicVSR:
    """A network of this plan in its fastest form."""
    network = BasicVSR(arguments).with_plan(plan).to(clip.device).eval()
    return cast(FrozenBasicVSR, freeze(network, clip, partial(fastest_milliseconds, device=clip.device))[0])


def gathering(arguments: BasicVSRArguments, plan: PrunePlan, clip: Tensor) -> FrozenBasicVSR:
    """A network of this plan with gather and index-add in every block, in the better memory format."""
    network = BasicVSR(arguments).with_plan(plan).to(clip.device).eval()
    candidates: list[FrozenBasicVSR] = [
        FrozenBasicVSR(network, lambda shape: Form()).to(memory_format=memory_format)  # type: ignore[call-overload]
        for memory_format in FORMATS.values()
    ]
    return min(candidates, key=lambda network: fastest_milliseconds(partial(network, clip[:, :1]), clip.device))


def measure(networks: Mapping[Any, FrozenBasicVSR], clip: Tensor, repeats: int) -> dict[Any, Times]:
    """Every repeat runs each part of each network once, in turn."""
    calls = {name: parts(network, clip) for name, network in networks.items()}
    found: dict[Any, dict[str, list[float]]] = {name: {part: [] for part in PARTS} for name in networks}
    for turn in range(repeats + 1):  # the first warms up
        for name, part in itertools.product(networks, PARTS):
            ms = milliseconds(calls[name][part], clip.device)
            if turn > 0:
                found[name][part].append(ms / (clip.shape[1] if part == "whole" else 1))
    return {
        name: Times(*({part: how(values) for part, values in row.items()} for how in (min, statistics.median, max)))
        for name, row in found.items()
    }


def parts(network: FrozenBasicVSR, clip: Tensor) -> dict[str, Callable[[], object]]:
    """One frame of each part, and the whole clip without the flow net."""
    frame = clip[:, 0]
    flows = network.flows(clip)
    branches = network.arguments.branches
    trunks = {branch: network.get_submodule(trunk(branch)) for branch in branches}
    states = {branch: network.states(branch, clip, flows[branch])[0] for branch in branches}

    def propagate() -> None:
        for branch in branches:
            trunks[branch].step(frame, states[branch], flows[branch][:, 0])  # type: ignore[operator]

    def flow() -> None:
        for _ in branches:
            network.flow_net(frame, clip[:, 1])

    return {
        "trunk": propagate,
        "upsampler": lambda: network.upsample(list(states.values()), frame),
        "flow": flow,
        "whole": lambda: network(clip, flows),
    }


def part_macs(layout: ChannelLayout, plan: PrunePlan, part: str) -> float:
    """MACs per low-resolution pixel of a part."""
    in_trunk = {conv.name for conv in layout.convs if "_trunk." in conv.name}
    convs = [conv for conv in layout.convs if part == "whole" or (conv.name in in_trunk) == (part == "trunk")]
    return sum(conv.scale**2 * conv.weights(plan.kept_counts) for conv in convs)


def print_table(
    layout: ChannelLayout, plans: Mapping[tuple[str, float], PrunePlan], times: Mapping[tuple[str, float], Times],
    memory: Mapping[tuple[str, float], int | None], size: tuple[int, int], console: Console,
) -> None:  # fmt: skip
    """MACs kept, times, speed-up and quotient."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=f"{size[1]}x{size[0]}, ms per frame", title_justify="left")
    for heading in ("part", "ratio", "plan", "MACs kept", "ms", "fastest-slowest", "speed-up", "quotient", "MiB"):
        table.add_column(heading, justify="left" if heading in ("part", "plan") else "right")
    rule = next(iter(plans.values())).rule if plans else "rsc"
    whole = PrunePlan.keep_all(rule, layout)
    base = times["dense", 0.0]
    for part in PARTS:
        rows = [
            key for key in times if key[0] == "dense" or (part != "flow" and (key[0] != "gather" or part == "trunk"))
        ]
        for kind, ratio in rows:
            found = times[kind, ratio]
            plan = plans.get(("free" if kind == "gather" else kind, ratio), whole)
            kept = part_macs(layout, plan, part) / part_macs(layout, whole, part) if part != "flow" else 1.0
            speed_up = base.median[part] / found.median[part]
            peak = memory[kind, ratio] if part == "whole" else None
            table.add_row(
                part, f"{ratio:g}" if ratio else "", kind, f"{kept:.1%}", f"{found.median[part]:.1f}",
                f"{found.fastest[part]:.1f}-{found.slowest[part]:.1f}", f"{speed_up:.2f}",
                f"{1 / kept / speed_up:.2f}" if kind != "dense" else "", f"{peak / 2**20:.0f}" if peak else "",
            )  # fmt: skip
        table.add_section()
    console.print(table)


if __name__ == "__main__":
    main()
