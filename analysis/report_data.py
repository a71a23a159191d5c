"""What the report shows, as tidy tables: runs, settings, configurations, layers, training curves, crops. No HTML."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from analysis.comparisons import replicate_table
from analysis.groups import Group, grouped
from analysis.runs import Run, Runs, job_table
from vsrprune.errors import UserError
from vsrprune.results.replicates import by_network, psnr_difference
from vsrprune.results.result import CROP_KINDS, CROP_PLACES, Result, network_order
from vsrprune.results.settings import SEEDS, flatten
from vsrprune.store.atomic import read_json

POINTS = 300  # of one training curve
MEASURED_LATER = ("latency_ms", "stage_seconds")  # results in measured.json; the rest of it describes the machine


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
    Measure("parameters_k", "parameters", "k", 1, "low"),
    Measure("macs_g", "MACs per frame", "G", 2, "low"),
    Measure("macs_percent", "MACs kept", "%", 1, "low"),
    Measure("units_percent", "units cut", "%", 1, ""),
    Measure("time_percent", "time kept", "%", 1, "low"),
    Measure("latency_ms", "latency", "ms per frame", 2, "low", compared=False),
    Measure("latency_ms_dense", "latency of the dense", "ms per frame", 2, "", compared=False),
    Measure("speed_up", "speed-up", "\N{MULTIPLICATION SIGN}", 2, "high"),
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


def configuration(run: Run) -> dict[str, str]:
    """Everything that was set: the knobs and, under `measured`, the machine."""
    machine = {name: value for name, value in run.measured.to_json().items() if name not in MEASURED_LATER}
    return {"rule": run.result.rule, **texts(run.result.knobs), **texts({"measured": machine})}


def differing(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """The names whose values are not the same in all rows, in the order of their first row."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [name for name in names if len({row.get(name) for row in rows}) > 1]


def setting_table(groups: Sequence[Group], runs: Runs) -> pd.DataFrame:
    """The rows of `replicate_table` with macs_percent, time_percent and the place of their group.

    Series stand together, each from its highest cost down.
    """
    settings = replicate_table(runs)
    place = {name: number for number, name in enumerate(dict.fromkeys(settings["series"]))}
    group = {run.name: number for number, group in enumerate(groups) for run in group.runs.finished}
    settings = settings.assign(
        place=settings["series"].map(place),
        macs_percent=100 * settings["macs_kept"],
        time_percent=100 * settings["time_kept"],
        group=[group[runs.finished[jobs[0]].name] for jobs in settings["jobs"]],
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
                "psnr_dense": group.dense_psnr,
                "psnr_baseline": _mean([result.quality["baseline"].psnr for result in results]),
                "latency_ms_dense": _mean([run.measured.dense_ms for run in group.runs.finished]),
            }
        )
    return pd.DataFrame(rows)


def pair_table(runs: Runs, settings: pd.DataFrame) -> pd.DataFrame:
    """A row per two settings with two replicates or more in common: PSNR of the second minus the first, over them.

    `first` and `second` are places of rows in `settings`, of one group; `difference` and `half_width` are in dB.
    """
    jobs = [[runs.finished[place] for place in places] for places in settings["jobs"]]
    rows = []
    for first, second in combinations(range(len(jobs)), 2):
        if settings["group"].iloc[first] != settings["group"].iloc[second]:
            continue
        psnr = psnr_difference(jobs[second], jobs[first])
        # One common replicate gives a difference without an interval.
        if psnr is not None and psnr.count >= 2:
            rows.append((first, second, psnr.count, psnr.mean, psnr.half_width, psnr.verdict))
    return pd.DataFrame(rows, columns=["first", "second", "replicates", "difference", "half_width", "verdict"])


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


def curve_table(run: Run) -> pd.DataFrame:
    """A row per stage, loss and step of a run, thinned to POINTS steps; empty where metrics.jsonl is not readable."""
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
            values = _thin(rows[["step", loss]].dropna().sort_values("step"))
            parts.append(values.rename(columns={loss: "value"}).assign(stage=stage, loss=loss.removeprefix("loss_")))
    return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)


def _thin(rows: pd.DataFrame) -> pd.DataFrame:
    """At most POINTS of the rows, evenly spread, the first and the last among them."""
    if len(rows) <= POINTS:
        return rows
    return rows.iloc[np.unique(np.linspace(0, len(rows) - 1, POINTS).round().astype(int))]


def crop_table(run: Run, most: int) -> pd.DataFrame:
    """A row per place and kind of a run's crops, of `most` places: their files. Whole frames are left out."""
    files = {path.stem: path for path in sorted((run.folder / "crops").glob("*.png"))}
    found = [(*stem.rpartition("_")[::2], path) for stem, path in files.items()]
    places = list(dict.fromkeys(place for place, kind, _ in found if kind in CROP_KINDS))[:most]
    rows = [row for kind in CROP_KINDS for row in found if row[0] in places and row[1] == kind]
    table = pd.DataFrame(rows, columns=["place", "kind", "path"])
    return table.sort_values("place", kind="stable", ignore_index=True)


def place_captions(run: Run) -> dict[str, str]:
    """Where each place lies in its clip, in words; empty for runs that do not say."""
    try:
        places = read_json(run.folder / "crops" / CROP_PLACES)
        return {
            str(at["clip"]): f"frame {at['frame']}, {at['side']} by {at['side']} pixels from ({at['x']}, {at['y']})"
            for at in places
        }
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

    @cached_property
    def varying(self) -> list[str]:
        """Configuration values that are not the same in all runs."""
        return differing(self.configurations)


def make_tables(runs: Runs) -> Tables:
    """The tables of some runs."""
    groups = grouped(runs)
    settings, configurations = setting_table(groups, runs), [configuration(run) for run in runs.finished]
    return Tables(runs, groups, run_table(runs), settings, columns(runs), configurations)


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
