"""What the report shows, as tidy tables: runs, settings, configurations, layers, training curves, crops. No HTML."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.comparisons import replicate_table
from analysis.groups import Group, grouped
from analysis.runs import CUT_BY, Run, Runs, job_table
from vsrprune.errors import UserError
from vsrprune.results.replicates import by_network
from vsrprune.results.result import CROP_KINDS, CROP_PLACES, Result, network_order
from vsrprune.results.settings import SEEDS, flatten
from vsrprune.store.atomic import read_json

POINTS = 300  # of one training curve
POINTS_OF_ALL = 40_000  # of one loss of all runs together, so that a thousand runs make no large file
LEAST_POINTS = 40
# Results in measured.json; the rest of it describes the machine.
MEASUREMENTS = ("latency_ms", "peak_memory_mib", "reserved_memory_mib", "psnr_change_db", "stage_seconds", "engine_ms")
MOST_DIGITS = 9


@dataclass(frozen=True)
class Measure:
    """A number of a run. digits: after the point; None for powers of ten. best: the better end, "" if neither is.

    label: `{baseline}` stands for what outputs are better than. compared: whether a difference of two runs says
    anything; milliseconds also differ by what else the machine did.
    """

    name: str
    label: str
    unit: str
    digits: int | None
    best: str
    compared: bool = True


MEASURES = (
    Measure("psnr_baseline", "PSNR {baseline}", "dB", 2, ""),
    Measure("psnr_dense", "PSNR dense", "dB", 2, "high"),
    Measure("psnr_before_cut", "PSNR sparsified", "dB", 2, "high"),
    Measure("psnr_after_cut", "PSNR cut", "dB", 2, "high"),
    Measure("psnr", "PSNR tuned", "dB", 2, "high"),
    Measure("psnr_test", "PSNR tuned, test clips", "dB", 2, "high"),
    Measure("gain", "gain over {baseline}", "dB", 2, "high"),
    Measure("ssim", "SSIM", "", 4, "high"),
    Measure("psnr_int8", "PSNR int8", "dB", 2, "high"),
    Measure("ssim_int8", "SSIM int8", "", 4, "high"),
    Measure("megabytes_int8", "size int8", "MB", 2, "low"),
    Measure("engine_ms", "latency in the fastest engine, 32 bits", "ms per frame", 2, "low", compared=False),
    Measure("engine_ms_int8", "latency in the fastest engine, int8", "ms per frame", 2, "low", compared=False),
    Measure("int8_speed_up", "speed-up of int8", "\N{MULTIPLICATION SIGN}", 2, "high"),
    Measure("parameters_k", "parameters", "k", 1, "low"),
    Measure("parameters_percent", "parameters kept", "%", 1, "low"),
    Measure("macs_g", "MACs per frame", "G", 2, "low"),
    Measure("macs_percent", "MACs kept", "%", 1, "low"),
    Measure("units_percent", "units cut", "%", 1, ""),
    Measure("time_percent", "time kept", "%", 1, "low"),
    Measure("latency_ms", "latency", "ms per frame", 2, "low", compared=False),
    Measure("latency_ms_dense", "latency of the dense", "ms per frame", 2, "", compared=False),
    Measure("speed_up", "speed-up", "\N{MULTIPLICATION SIGN}", 2, "high"),
    Measure("peak_memory_mib", "peak memory", "MiB", 0, "low"),
    Measure("equivalence", "equivalence error", "relative", None, "low"),
    Measure("temporal_gain", "worth of other frames", "dB", 2, "high"),
    Measure("flow_photometric", "flow error", "of no motion", 2, "low"),
    Measure("hidden_error_cut", "hidden-state error, cut", "relative", 3, "low"),
    Measure("made_here_cut", "made here, cut", "relative", 3, "low"),
    Measure("propagated_cut", "propagated, cut", "relative", 3, "low"),
    Measure("hidden_error", "hidden-state error, tuned", "relative", 3, "low"),
    Measure("made_here", "made here, tuned", "relative", 3, "low"),
    Measure("propagated", "propagated, tuned", "relative", 3, "low"),
    Measure("max_cut", "largest cut gate", "|gate|", 3, "low"),
    Measure("steps", "training steps", "after pretraining", 0, ""),
    Measure("seconds", "time of all stages", "s", 1, "low", compared=False),
)
TABLE_MEASURES = ("psnr_after_cut", "psnr", "gain", "ssim", "parameters_k", "macs_percent", "time_percent", "speed_up",
                  "steps", "equivalence")  # fmt: skip


def measure(name: str) -> Measure:
    """The measure of that name."""
    return next(item for item in MEASURES if item.name == name)


def baselines(runs: Runs) -> str:
    """What outputs are better than: bicubic, at scale 1 the input."""
    return " or ".join(dict.fromkeys(run.result.baseline_name for run in runs.finished))


def measure_label(item: Measure, runs: Runs) -> str:
    """A measure in words."""
    return item.label.format(baseline=baselines(runs))


def run_table(runs: Runs) -> pd.DataFrame:
    """A row per run: `job_table` with every measure."""
    jobs = job_table(runs)
    results = [run.result for run in runs.finished]
    return jobs.assign(
        gain=jobs["psnr"] - jobs["psnr_baseline"],
        parameters_k=jobs["parameters"] / 1e3,
        parameters_percent=[
            100 * result.cost["pruned"].parameters / result.cost["dense"].parameters for result in results
        ],
        peak_memory_mib=[_number(run.measured.peak_memory_mib["pruned"]) for run in runs.finished],
        macs_g=jobs["macs"] / 1e9,
        macs_percent=100 * jobs["macs_kept"],
        time_percent=100 * jobs["time_kept"],
        units_percent=100 * jobs["units_cut"],
        **{
            name + ending: [_mean_error(result, point, part) for result in results]
            for point, ending in (("after_cut", "_cut"), ("finetuned", ""))
            for name, part in (("hidden_error", "total"), ("made_here", "made_here"), ("propagated", "propagated"))
        },
        temporal_gain=[_number(result.temporal_gain) for result in results],
        flow_photometric=[_number(result.flow_photometric) for result in results],
        max_cut=[math.nan if result.gates is None else result.gates.max_cut for result in results],
    )  # fmt: skip


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _mean_error(result: Result, point: str, part: str) -> float:
    """Mean over branches and frames; NaN where it is not known."""
    errors = (getattr(error, part) for error in result.hidden_error.get(point, {}).values())
    return _mean([value for values in errors for value in values or ()])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Nested values as text by dotted names; what is no text already as JSON."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in flatten(values).items()}


def shown_digits(item: Measure, values: Sequence[float]) -> int | None:
    """Digits after the point that leave the largest of the values two significant ones; None for powers of ten."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if item.digits is None or not largest:
        return item.digits
    return min(max(item.digits, 1 - math.floor(math.log10(largest))), MOST_DIGITS)


def configuration(run: Run) -> dict[str, str]:
    """Everything that was set: the rule and the knobs."""
    return {"rule": run.result.rule, **texts(run.result.knobs)}


def machine(run: Run) -> dict[str, str]:
    """What a run's times were measured on, and how, under `measured`; no measurement is among it."""
    values = {name: value for name, value in run.measured.to_json().items() if name not in MEASUREMENTS}
    return texts({"measured": values})


def differing(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """The names whose values are not the same in all rows, in the order of their first row."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [name for name in names if len({row.get(name) for row in rows}) > 1]


def setting_table(groups: Sequence[Group], runs: Runs) -> pd.DataFrame:
    """The rows of `replicate_table` with macs_percent, time_percent and the place of their group.

    Names say what tells settings of one group apart: one group is shown at a time. Series stand together, each from its
    highest cost down.
    """
    settings = replicate_table(runs)
    group = {run.name: number for number, group in enumerate(groups) for run in group.runs.finished}
    firsts = [runs.finished[jobs[0]] for jobs in settings["jobs"]]
    settings = settings.assign(
        label=[groups[group[run.name]].runs.label(run) for run in firsts],
        series=[groups[group[run.name]].runs.label(run, without=CUT_BY) for run in firsts],
    )
    place = {name: number for number, name in enumerate(dict.fromkeys(settings["series"]))}
    settings = settings.assign(
        place=settings["series"].map(place),
        macs_percent=100 * settings["macs_kept"],
        time_percent=100 * settings["time_kept"],
        group=[group[run.name] for run in firsts],
    )
    order = ["place", "macs_percent"]
    return settings.sort_values(order, ascending=[True, False], kind="stable", ignore_index=True).drop(columns="place")


def reference_table(groups: Sequence[Group]) -> pd.DataFrame:
    """A row per group: PSNR of its dense network and of the baseline, means over replicates, and the dense latency.

    name: network, data set and task in words. group: its place.
    """
    rows = []
    for place, group in enumerate(groups):
        results = [jobs[0].result for jobs in by_network(group.runs.finished).values()]
        first = group.runs.finished[0]
        task = "" if first.knobs["task"] == "sr" else f", {first.knobs['task']}"
        rows.append(
            {
                "name": f"{first.knobs['model']}, {first.knobs['data']}{task}",
                "group": place,
                "baseline": first.result.baseline_name,
                # Where no truth was seen it is compared with itself.
                "psnr_dense": group.dense_psnr if first.result.sees_truth else math.nan,
                "psnr_baseline": _mean([result.quality["baseline"].psnr for result in results]),
                "latency_ms_dense": _mean([run.measured.dense_ms for run in group.runs.finished]),
            }
        )
    return pd.DataFrame(rows)


def layer_table(runs: Runs, settings: pd.DataFrame) -> pd.DataFrame:
    """A row per layer (in network order) and setting that has it: part, kind, total units, kept units by job."""
    results = [run.result for run in runs.finished]
    by_name = [{layer.name: layer for layer in result.layers} for result in results]
    rows = []
    for layer in network_order(results):
        for number, jobs in enumerate(settings["jobs"]):
            found = [by_name[job][layer.name] for job in jobs if layer.name in by_name[job]]
            if found:
                rows.append(
                    {
                        "layer": layer.name,
                        "part": layer.part,
                        "kind": layer.kind,
                        "setting": number,
                        "total": found[0].total,
                        "kept": [item.kept for item in found],
                        "cut": 1 - _mean([item.kept / item.total for item in found]),
                    }
                )
    return pd.DataFrame(rows)


def points_of(runs: int) -> int:
    """How many points of each curve the page keeps for so many runs."""
    return min(POINTS, max(LEAST_POINTS, POINTS_OF_ALL // runs))


def thinned(length: int, points: int) -> list[int]:
    """At most so many places of a curve of some length, evenly spread, the first and the last among them."""
    if length <= points:
        return list(range(length))
    return [int(place) for place in np.unique(np.linspace(0, length - 1, points).round())]


def curve_table(run: Run, points: int = POINTS) -> pd.DataFrame:
    """A row per stage, loss and step of a run, thinned to `points` steps; empty where metrics.jsonl is not readable."""
    try:
        curves = run.curves
    except UserError:
        curves = pd.DataFrame()
    if not {"stage", "step"} <= set(curves.columns):
        curves = pd.DataFrame(columns=["stage", "step"])
    # A step may stand there more than once; its last row counts.
    once = curves.drop_duplicates(["stage", "step"], keep="last")
    losses = [str(name) for name in once.columns if str(name).startswith("loss_")]
    parts = [pd.DataFrame(columns=["stage", "loss", "step", "value"])]
    for stage, rows in once.groupby("stage", sort=False):
        for loss in losses:
            values = rows[["step", loss]].dropna().sort_values("step")
            values = values.iloc[thinned(len(values), points)]
            parts.append(values.rename(columns={loss: "value"}).assign(stage=stage, loss=loss.removeprefix("loss_")))
    return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)


def crop_table(run: Run, most: int) -> pd.DataFrame:
    """A row per place and kind of a run's crops, of `most` places: their files. Whole frames are left out."""
    files = {path.stem: path for path in sorted((run.folder / "crops").glob("*.png"))}
    found = [(*stem.rpartition("_")[::2], path) for stem, path in files.items()]
    places = list(dict.fromkeys(place for place, kind, _ in found if kind in CROP_KINDS))[:most]
    rows = [row for kind in CROP_KINDS for row in found if row[0] in places and row[1] == kind]
    table = pd.DataFrame(rows, columns=["place", "kind", "path"])
    return table.sort_values("place", kind="stable", ignore_index=True)


def whole_frames(run: Run, places: Iterable[str]) -> dict[str, Path]:
    """The file of the truth's whole frame, by place, of those that are there."""
    files = {place: run.folder / "crops" / f"{place}_frame.png" for place in places}
    return {place: path for place, path in files.items() if path.is_file()}


def place_boxes(run: Run) -> dict[str, dict[str, int]]:
    """Where each place lies in its clip: frame, x, y and side in pixels; empty for runs that do not say."""
    try:
        places = read_json(run.folder / "crops" / CROP_PLACES)
        return {str(at["clip"]): {name: int(at[name]) for name in ("frame", "x", "y", "side")} for at in places}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def note_table(runs: Runs) -> pd.DataFrame:
    """A row per note that jobs carry: its text, and the jobs."""
    jobs: dict[str, list[str]] = {}
    for run in runs.finished:
        for note in run.result.notes:
            jobs.setdefault(note, []).append(run.name)
    return pd.DataFrame({"note": list(jobs), "jobs": list(jobs.values())})


@dataclass(frozen=True)
class RunColumn:
    """A column of the table of runs: a knob (text as it was set) or a measure."""

    name: str
    label: str
    measure: Measure | None = None


@dataclass(frozen=True)
class Tables:
    """Everything that the page shows."""

    runs: Runs
    groups: list[Group]
    jobs: pd.DataFrame
    settings: pd.DataFrame
    columns: list[RunColumn]
    configurations: list[dict[str, str]]
    machines: list[dict[str, str]]

    @cached_property
    def varying(self) -> list[str]:
        """Configuration values that are not the same in all runs."""
        return differing(self.configurations)

    @cached_property
    def machines_differ(self) -> list[str]:
        """What is not the same of all machines."""
        return differing(self.machines)


def make_tables(runs: Runs) -> Tables:
    """The tables of some runs."""
    groups = grouped(runs)
    configurations, machines = ([make(run) for run in runs.finished] for make in (configuration, machine))
    return Tables(runs, groups, run_table(runs), setting_table(groups, runs), columns(runs), configurations, machines)


def columns(runs: Runs) -> list[RunColumn]:
    """What the table of runs shows: the knobs that vary, the replicate, seeds that vary, and the measures."""
    seeds = [name for name in SEEDS if name == "replicate" or len({run.knobs[name] for run in runs.finished}) > 1]
    knobs = [*runs.varying, *seeds]
    names = [*TABLE_MEASURES, *(["psnr_test"] if any(run.result.test for run in runs.finished) else [])]
    measures = [RunColumn(name, measure_label(measure(name), runs), measure(name)) for name in names]
    return [*(RunColumn(name, name) for name in knobs), *measures]


def knob_value(run: Run, name: str) -> Any:
    """A knob as a label names it, or as the configuration does; None if the run has none of that name."""
    return run.knobs[name] if name in run.knobs else flatten(run.result.knobs).get(name)
