"""Settings compared: means over seeds with intervals, paired differences of an ablation, the Pareto front."""

from __future__ import annotations

import json
from importlib.resources import files

import pandas as pd

from analysis.runs import KNOBS, Run, Runs, job_table
from vsrprune.results.intervals import Interval, paired_difference
from vsrprune.results.protocols import BLUR
from vsrprune.results.settings import SEEDS, by_setting, psnr_over_seeds

PUBLISHED_SCALE = 4
# Column of published.csv that a held-out set, channel and kind of low-resolution frames can be compared with.
PUBLISHED = {
    ("reds4", "rgb", "bi"): "reds4_rgb_psnr",
    ("reds", "rgb", "bi"): "reds4_rgb_psnr",
    **{(name, "y", low): f"{name}_{low}_y_psnr" for name in ("vid4", "vimeo90k") for low in ("bi", "bd")},
    ("udm10", "y", "bd"): "udm10_bd_y_psnr",
}


MEANS = ("psnr_after_cut", "psnr_dense", "psnr_baseline", "ssim", "parameters", "macs", "macs_kept", "units_cut",
         "latency_ms", "latency_ms_dense", "speed_up")  # fmt: skip


def seed_table(runs: Runs) -> pd.DataFrame:
    """A row per setting, its seeds together: means, and half the 95 % interval of PSNR (NaN for one seed).

    jobs: the places of the setting's jobs among the finished ones, which are the rows of `job_table`.
    """
    table = job_table(runs)
    rows = []
    for setting, places in by_setting_places(runs).items():
        jobs = table.iloc[places]
        psnr = psnr_over_seeds([runs.finished[place] for place in places])
        first = jobs.iloc[0]
        rows.append(
            {
                **{name: first[name] for name in ("label", "series", "baseline", *KNOBS)},
                "setting": setting,
                "seeds": psnr.count,
                "psnr": psnr.mean,
                "half_width": psnr.half_width,
                **{name: float(jobs[name].mean()) for name in MEANS},
                "jobs": places,
            }
        )
    return pd.DataFrame(rows)


def by_setting_places(runs: Runs) -> dict[str, list[int]]:
    """The places of each setting's jobs among the finished ones."""
    places = {run.name: place for place, run in enumerate(runs.finished)}
    return {setting: [places[run.name] for run in jobs] for setting, jobs in by_setting(runs.finished).items()}


def pareto_front(table: pd.DataFrame, cost: str) -> pd.DataFrame:
    """The rows that no other beats: none costs as little and has a higher PSNR; from cheap to dear."""
    best, rows = float("-inf"), []
    # At equal cost the higher PSNR comes first, so that the lower is not above the best so far.
    for index, row in table.sort_values([cost, "psnr"], ascending=[True, False]).iterrows():
        if row["psnr"] > best:
            best = row["psnr"]
            rows.append(index)
    return table.loc[rows]


def difference_table(runs: Runs) -> pd.DataFrame:
    """A row per knob and value: PSNR (dB) minus that of the knob's first value, over jobs alike in everything else.

    Pairs are seeds and the other knobs; knobs that make the MACs differ are compared at unequal cost, which `macs`
    (difference of the share kept) shows.
    """
    jobs = job_table(runs)
    rows = []
    incomparable = ("ratio", "target", "model", "data", "schedule")
    # Tasks and their options have inputs of their own, on which a difference says nothing.
    for knob in (name for name in runs.varying if name not in incomparable and name.split(".")[0] != "task"):
        values = list(dict.fromkeys(jobs[knob]))
        others = [name for name in (*runs.varying, *SEEDS) if name != knob]
        reference = _by(jobs[jobs[knob] == values[0]], others)
        for value in values[1:]:
            chosen = _by(jobs[jobs[knob] == value], others)
            psnr = paired_difference(_column(chosen, "psnr"), _column(reference, "psnr"))
            macs = paired_difference(_column(chosen, "macs_kept"), _column(reference, "macs_kept"))
            if psnr is not None and macs is not None:
                rows.append(_difference_row(knob, values[0], value, psnr, macs))
    return pd.DataFrame(rows)


def _difference_row(knob: str, reference: object, value: object, psnr: Interval, macs: Interval) -> dict[str, object]:
    return {
        "knob": knob,
        "reference": _text(reference),
        "value": _text(value),
        "pairs": psnr.count,
        "difference": psnr.mean,
        "half_width": psnr.half_width,
        "verdict": psnr.verdict if psnr.count > 1 else "one pair",
        "macs": macs.mean,
    }


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _by(jobs: pd.DataFrame, names: list[str]) -> dict[str, pd.Series]:
    # Knobs may be lists, which are no keys of a dict.
    return {json.dumps([str(row[name]) for name in names]): row for _, row in jobs.iterrows()}


def _column(rows: dict[str, pd.Series], name: str) -> dict[object, float]:
    return {key: float(row[name]) for key, row in rows.items()}


def published_table(runs: Runs) -> pd.DataFrame:
    """Published methods with PSNR on the same held-out frames and channel; empty if there are none.

    Columns: method, psnr (dB), macs_kept (share of BasicVSR's; NaN where it is not published), source.
    """
    columns = {_published_column(run) for run in runs.finished}
    # Runs on several held-out sets share no axis on which a published number would have one place.
    column = next(iter(columns)) if len(columns) == 1 else None
    if column is None:
        return pd.DataFrame(columns=["method", "psnr", "macs_kept", "source"])
    table = pd.read_csv(str(files("vsrprune") / "published.csv"))
    dense = float(table.loc[table["method"] == "BasicVSR", "macs_g_180x320_without_flow"].iloc[0])
    table = table.assign(psnr=table[column], macs_kept=table["macs_g_180x320_without_flow"] / dense)
    return table[["method", "psnr", "macs_kept", "source"]].dropna(subset="psnr")


def _published_column(run: Run) -> str | None:
    """The column of published.csv that compares the same frames; None if there is none."""
    if run.result.scale != PUBLISHED_SCALE:
        return None
    data = run.result.knobs["data"]
    blurred = data["low"] == "bd" or data["degradation"] in BLUR
    return PUBLISHED.get((data["name"], data["channel"], "bd" if blurred else "bi"))
