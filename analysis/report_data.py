"""What the report shows, as tidy tables: runs, settings, configurations, layers, training curves, crops. No HTML."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from runs import SEEDS, Run, Runs, job_table

from vsrprune.results.intervals import interval, paired_difference
from vsrprune.results.result import CROP_PLACES, network_order

POINTS = 300  # of one training curve
CROP_KINDS = ("lr", "bicubic", "input", "dense", "pruned", "truth")
MEASURED_LATER = ("latency_ms", "stage_seconds")  # results in measured.json; the rest of it describes the machine


@dataclass(frozen=True)
class Measure:
    """A number of a run. digits: after the point; None for powers of ten. best: the better end, "" if neither is.

    label: `{baseline}` stands for what outputs are better than.
    """

    name: str
    label: str
    unit: str
    digits: int | None
    best: str


MEASURES = (
    Measure("psnr_bicubic", "PSNR {baseline}", "dB", 2, ""),
    Measure("psnr_dense", "PSNR dense", "dB", 2, "high"),
    Measure("psnr_before_cut", "PSNR sparsified", "dB", 2, "high"),
    Measure("psnr_after_cut", "PSNR cut", "dB", 2, "high"),
    Measure("psnr", "PSNR tuned", "dB", 2, "high"),
    Measure("gain", "gain over {baseline}", "dB", 2, "high"),
    Measure("ssim", "SSIM", "", 4, "high"),
    Measure("parameters_k", "parameters", "k", 1, "low"),
    Measure("macs_g", "MACs per frame", "G", 2, "low"),
    Measure("macs_percent", "MACs kept", "%", 1, "low"),
    Measure("units_percent", "units cut", "%", 1, ""),
    Measure("latency_ms", "latency", "ms per frame", 2, "low"),
    Measure("latency_ms_dense", "latency of the dense", "ms per frame", 2, ""),
    Measure("speed_up", "speed-up", "\N{MULTIPLICATION SIGN}", 2, "high"),
    Measure("equivalence", "equivalence error", "relative", None, "low"),
    Measure("hidden_error", "hidden-state error", "relative", 3, "low"),
    Measure("max_cut", "largest cut gate", "|gate|", 3, "low"),
    Measure("seconds", "time of all stages", "s", 1, "low"),
)
TABLE_MEASURES = ("psnr_after_cut", "psnr", "gain", "ssim", "parameters_k", "macs_percent", "latency_ms", "speed_up",
                  "equivalence")  # fmt: skip


def measure(name: str) -> Measure:
    """The measure of that name."""
    return next(item for item in MEASURES if item.name == name)


def baselines(runs: Runs) -> str:
    """What outputs are better than: bicubic, at scale 1 the input."""
    return " or ".join(dict.fromkeys(run.result.baseline for run in runs.finished))


def measure_label(item: Measure, runs: Runs) -> str:
    """A measure in words."""
    return item.label.format(baseline=baselines(runs))


def run_table(runs: Runs) -> pd.DataFrame:
    """A row per run: `job_table` with every measure."""
    jobs = job_table(runs)
    results = [run.result for run in runs.finished]
    return jobs.assign(
        gain=jobs["psnr"] - jobs["psnr_bicubic"],
        parameters_k=jobs["parameters"] / 1e3,
        macs_g=jobs["macs"] / 1e9,
        macs_percent=100 * jobs["macs_kept"],
        units_percent=100 * jobs["units_cut"],
        hidden_error=[_mean([error for branch in result.hidden_error.values() for error in branch])
                      for result in results],
        max_cut=[result.gates.get("max_cut", math.nan) for result in results],
    )  # fmt: skip


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested values as text by dotted names; lists stay whole."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value if isinstance(value, str) else json.dumps(value)
    return flat


def configuration(run: Run) -> dict[str, str]:
    """Everything that was set: the knobs and, under `measured`, the machine."""
    machine = {name: value for name, value in run.measured.items() if name not in MEASURED_LATER}
    return {"rule": run.result.rule, **flatten(run.result.knobs), **flatten({"measured": machine})}


def differing(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """The names whose values are not the same in all rows, in the order of their first row."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [name for name in names if len({row.get(name) for row in rows}) > 1]


def setting_table(table: pd.DataFrame) -> pd.DataFrame:
    """A row per setting, its seeds together: number of seeds, mean PSNR and half its 95 % interval, mean costs, jobs.

    Series stand together, each from its highest cost to its lowest. `table` is a run_table.
    """
    rows = []
    for setting, jobs in table.groupby("setting", sort=False):
        psnr = interval(list(jobs["psnr"]))
        first = jobs.iloc[0]
        rows.append(
            {
                **{name: first[name] for name in ("series", "label", "rule")},
                "setting": setting,
                "seeds": psnr.count,
                "psnr": psnr.mean,
                "half_width": psnr.half_width,
                "macs_percent": float(jobs["macs_percent"].mean()),
                "latency_ms": float(jobs["latency_ms"].mean()),
                "jobs": list(jobs.index),
            }
        )
    settings = pd.DataFrame(rows)
    place = {name: number for number, name in enumerate(dict.fromkeys(settings["series"]))}
    settings = settings.assign(place=settings["series"].map(place))
    order = ["place", "macs_percent"]
    return settings.sort_values(order, ascending=[True, False], kind="stable", ignore_index=True).drop(columns="place")


def reference_table(table: pd.DataFrame) -> pd.DataFrame:
    """A row per dense network, data set and task: mean PSNR of it and of the baseline, and its latency.

    name: all three in words. `table` is a run_table.
    """
    columns = ["psnr_dense", "psnr_bicubic", "latency_ms_dense"]
    means = table.groupby(["model", "data", "task", "baseline"], sort=False, as_index=False)[columns].mean()
    tasks = means["task"].map(lambda task: "" if task == "sr" else f", {task}")
    return means.assign(name=means["model"] + ", " + means["data"] + tasks)


def pair_table(table: pd.DataFrame, settings: pd.DataFrame) -> pd.DataFrame:
    """A row per two settings with two seeds or more in common: PSNR of the second minus the first, paired over seeds.

    first, second: rows of `settings`; difference, half_width: in dB.
    """
    by_seeds = [_psnr_by_seeds(table.loc[jobs]) for jobs in settings["jobs"]]
    rows = []
    for first, second in combinations(range(len(by_seeds)), 2):
        if len(by_seeds[first].keys() & by_seeds[second].keys()) >= 2:
            psnr = paired_difference(by_seeds[second], by_seeds[first])
            assert psnr is not None
            rows.append((first, second, psnr.count, psnr.mean, psnr.half_width))
    return pd.DataFrame(rows, columns=["first", "second", "seeds", "difference", "half_width"])


def _psnr_by_seeds(jobs: pd.DataFrame) -> dict[object, float]:
    return {tuple(row[name] for name in SEEDS): float(row["psnr"]) for _, row in jobs.iterrows()}


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
        curves = run.curves()
    except (ValueError, OSError):
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
        places = json.loads((run.folder / "crops" / CROP_PLACES).read_text())
        return {
            str(at["clip"]): f"frame {at['frame']}, {at['side']} by {at['side']} pixels from ({at['x']}, {at['y']})"
            for at in places
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}


@dataclass(frozen=True)
class Picture:
    """A crop: what tells it from others, its RGB pixels, and itself for an `img` (lossless WebP)."""

    key: str
    pixels_HWC: np.ndarray
    uri: str


class Pictures:
    """Every picture once, however many files hold the same bytes."""

    def __init__(self) -> None:
        self._by_key: dict[str, Picture] = {}

    def read(self, path: Path) -> Picture | None:
        """The picture in a file; None if it cannot be read."""
        try:
            data = path.read_bytes()
            key = hashlib.sha256(data).hexdigest()[:16]
            if key not in self._by_key:
                self._by_key[key] = _picture(key, data)
            return self._by_key[key]
        except (OSError, ValueError, SyntaxError):  # Pillow raises the last for a broken PNG
            return None

    def uris(self) -> dict[str, str]:
        """Data URIs by key."""
        return {key: picture.uri for key, picture in self._by_key.items()}


def _picture(key: str, data: bytes) -> Picture:
    with Image.open(io.BytesIO(data)) as image:
        rgb = image.convert("RGB")
    stream = io.BytesIO()
    rgb.save(stream, "WEBP", lossless=True, quality=50, method=4)  # a quarter smaller than PNG
    uri = "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
    return Picture(key, np.asarray(rgb), uri)


def psnr(image_HWC: np.ndarray, truth_HWC: np.ndarray) -> float:
    """PSNR over red, green and blue in dB; infinite for equal images, NaN for different sizes."""
    if image_HWC.shape != truth_HWC.shape:
        return math.nan
    error = float(np.mean((image_HWC.astype(np.float64) - truth_HWC.astype(np.float64)) ** 2))
    return 10 * math.log10(255**2 / error) if error else math.inf


def note_table(runs: Runs) -> pd.DataFrame:
    """A row per note that jobs carry: its text, and the jobs."""
    jobs: dict[str, list[str]] = {}
    for run in runs.finished:
        for note in run.result.notes:
            jobs.setdefault(note, []).append(run.name)
    return pd.DataFrame({"note": list(jobs), "jobs": list(jobs.values())})
