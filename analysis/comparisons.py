"""Settings compared: means over replicates with intervals, differences of an ablation, the Pareto front."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files
from typing import Any

import pandas as pd

from analysis.cuts import columns_of, cuts
from analysis.naming import untold
from analysis.runs import CUT_BY, KNOBS, LEADERS, Run, Runs, job_table
from vsrprune.results.curves import CurveGap, gap_over_replicates
from vsrprune.results.intervals import interval
from vsrprune.results.protocols import BLUR
from vsrprune.results.replicates import (
    HasResult,
    Name,
    behind,
    compared,
    final_psnr,
    means_by_replicate,
    psnr_over_networks,
    replicate_names,
)
from vsrprune.results.settings import by_setting

PUBLISHED_SCALE = 4
# Column of published.csv that a held-out set, channel and kind of low-resolution frames can be compared with.
PUBLISHED = {
    ("reds4", "rgb", "bi"): "reds4_rgb_psnr",
    ("reds", "rgb", "bi"): "reds4_rgb_psnr",
    **{(name, "y", low): f"{name}_{low}_y_psnr" for name in ("vid4", "vimeo90k") for low in ("bi", "bd")},
    ("udm10", "y", "bd"): "udm10_bd_y_psnr",
}


MEANS = ("psnr_after_cut", "psnr_dense", "psnr_baseline", "ssim", "parameters", "macs", "macs_kept", "units_cut",
         "latency_ms", "latency_ms_dense", "time_kept", "speed_up")  # fmt: skip


def replicate_table(runs: Runs) -> pd.DataFrame:
    """A row per setting, its replicates together: means, and half the 95 % interval of PSNR (NaN for one network).

    networks, plans and runs: how many different ones stand behind the row.

    jobs: the places of the setting's jobs among the finished ones, which are the rows of `job_table`.
    """
    table = job_table(runs)
    rows = []
    for setting, places in by_setting_places(runs).items():
        jobs = table.iloc[places]
        psnr = psnr_over_networks([runs.finished[place] for place in places])
        first = jobs.iloc[0]
        rows.append(
            {
                **{name: first[name] for name in ("label", "series", "baseline", *KNOBS)},
                "setting": setting,
                "networks": psnr.networks,
                "plans": psnr.plans,
                "runs": psnr.runs,
                "psnr": psnr.mean,
                "half_width": psnr.over_networks.half_width,
                "behind": behind([psnr]),
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
    """A row per knob, value and share cut: PSNR (dB) minus that of the knob's first value, alike in everything else.

    Where other knobs vary too, their jobs are averaged inside each replicate; `replicates` counts those in common.
    Verdicts are by Holm's correction over all rows. Knobs that make the MACs differ are compared at unequal cost, which
    `macs` (difference of the share kept) shows.
    """
    names = replicate_names(runs.finished)
    rows, differences = [], []
    for knob, reference, value in _knobs_compared(runs):
        for cut in cuts(runs.finished):
            pairs = _pairs(runs, knob, (reference, value), cut)
            psnr = _differences(pairs, names, final_psnr)
            if psnr:
                macs = _differences(pairs, names, lambda run: run.result.macs_kept)
                first = pairs[0]
                rows.append(
                    {
                        "knob": knob,
                        "reference": _value_text(runs, first[0][0], knob),
                        "value": _value_text(runs, first[1][0], knob),
                        "cut": cut,
                        "replicates": len(psnr),
                        "macs": sum(macs) / len(macs),
                    }
                )
                differences.append(interval(psnr))
    judged = compared(differences)
    return pd.DataFrame(
        [
            {**row, "difference": psnr.mean, "half_width": psnr.half_width, "verdict": words.verdict}
            for row, psnr, words in zip(rows, differences, judged, strict=True)
        ]
    )


def equal_macs_table(runs: Runs) -> pd.DataFrame:
    """A row per knob and value: PSNR (dB) minus that of the knob's first value, at equal MACs.

    It is the mean over the share of the MACs that both curves have, low to high; see `curve_gap`. Values whose curves
    have none in common have the rows of `difference_table` instead, one for each cut, whose `equal` is False and whose
    verdict says so. Other columns: see `difference_table`; verdicts are by Holm's correction over the equal rows.
    """
    by_cut = difference_table(runs)
    rows: list[dict[str, object]] = []
    gaps: list[CurveGap | None] = []
    for knob, reference, value in _knobs_compared(runs):
        pairs = _pairs(runs, knob, (reference, value))
        gap = gap_over_replicates([(chosen, before) for before, chosen in pairs])
        words = {"knob": knob}
        if pairs:
            words |= {"reference": _value_text(runs, pairs[0][0][0], knob)}
            words |= {"value": _value_text(runs, pairs[0][1][0], knob)}
        if gap is not None:
            rows.append({**words, "cut": gap.range_text, "replicates": gap.psnr.count, "macs": 0.0, "low": gap.low,
                         "high": gap.high, "difference": gap.psnr.mean, "half_width": gap.psnr.half_width,
                         "equal": True})  # fmt: skip
            gaps.append(gap)
        elif pairs and not by_cut.empty:
            alike = by_cut[[all(row[name] == text for name, text in words.items()) for _, row in by_cut.iterrows()]]
            rows += [
                {**{str(name): of for name, of in row.items()}, "equal": False} for row in alike.to_dict("records")
            ]
            gaps += [None] * len(alike)
    judged = compared([None if gap is None else gap.psnr for gap in gaps])
    return pd.DataFrame(
        [
            {**row, "verdict": words.verdict if row["equal"] else "unequal MACs"}
            for row, words in zip(rows, judged, strict=True)
        ]
    )


def series_gaps(runs: Runs) -> dict[str, CurveGap | None]:
    """By series (a setting at all its cuts): its curve minus that of the first, at equal MACs.

    None where no replicate and range of MACs is common; the first series is left out.
    """
    series: dict[str, list[Run]] = {}
    without = [*CUT_BY, *untold(runs)]
    for run in runs.finished:
        series.setdefault(runs.label(run, without=without), []).append(run)
    first, *others = series
    return {name: gap_over_replicates([(series[name], series[first])]) for name in others}


def _knobs_compared(runs: Runs) -> Iterator[tuple[str, Any, Any]]:
    """Every knob that is compared by itself, with its first value and each other one."""
    # Tasks and their options have inputs of their own, on which a difference says nothing.
    incomparable = (*CUT_BY, "model", "data", "schedule")
    for knob in (name for name in runs.axes if name not in incomparable and name.split(".")[0] != "task"):
        values = list(dict.fromkeys(run.knobs[knob] for run in runs.finished if knob in run.knobs))
        yield from ((knob, values[0], value) for value in values[1:])


def _pairs(
    runs: Runs, knob: str, values: tuple[object, object], cut: str | None = None
) -> list[tuple[list[Run], list[Run]]]:
    """Jobs of the first and of the second value that are alike in all else but seeds; of one cut, or of all."""
    others = [name for name in runs.varying if name != knob and name not in (*CUT_BY, *_along(runs, knob))]
    found: dict[tuple[str, ...], dict[object, list[Run]]] = {}
    for run in runs.finished:
        if (cut is None or cut in columns_of(run, [cut])) and knob in run.knobs:
            rest = tuple(str(run.knobs.get(name)) for name in others)
            found.setdefault(rest, {}).setdefault(run.knobs[knob], []).append(run)
    return [(jobs[values[0]], jobs[values[1]]) for jobs in found.values() if jobs.keys() >= set(values)]


def _differences(
    pairs: list[tuple[list[Run], list[Run]]], names: Mapping[str, Name], measure: Callable[[HasResult], float]
) -> list[float]:
    """The difference of the second jobs to the first by replicate, each a mean over the pairs that have it."""
    found: dict[object, list[float]] = {}
    for reference, chosen in pairs:
        before, after = (means_by_replicate(jobs, names, measure) for jobs in (reference, chosen))
        for name in before.keys() & after.keys():
            found.setdefault(name, []).append(after[name] - before[name])
    return [sum(values) / len(values) for values in found.values()]


def _along(runs: Runs, knob: str) -> list[str]:
    """The knobs that differ along with this one, and are no reason to compare nothing."""
    return runs.following if knob in LEADERS else []


def _value_text(runs: Runs, run: Run, knob: str) -> str:
    """A knob's value, with what differs along with it where that is short."""
    if along := _along(runs, knob):
        named = {knob, *along} - set(untold(runs))
        return runs.label(run, without=[name for name in runs.varying if name not in named])
    value = run.knobs[knob]
    return f"{value:g}" if isinstance(value, float) else str(value)


def published_table(runs: Runs) -> pd.DataFrame:
    """Published methods with PSNR on the same held-out frames and channel; empty if there are none.

    Columns: method, psnr (dB), ssim, macs_kept (share of BasicVSR's), parameters (without the flow net), source; NaN
    where one is not published.
    """
    names = ["method", "psnr", "ssim", "macs_kept", "parameters", "source"]
    columns = {_published_column(run) for run in runs.finished}
    # Runs on several held-out sets share no axis on which a published number would have one place.
    column = next(iter(columns)) if len(columns) == 1 else None
    if column is None:
        return pd.DataFrame(columns=names)
    table = pd.read_csv(str(files("vsrprune") / "published.csv"))
    dense = float(table.loc[table["method"] == "BasicVSR", "macs_g_180x320_without_flow"].iloc[0])
    table = table.assign(
        psnr=table[column],
        ssim=table[column.replace("psnr", "ssim")],
        macs_kept=table["macs_g_180x320_without_flow"] / dense,
        parameters=1e6 * table["params_m_without_flow"],
    )
    return table[names].dropna(subset="psnr")


def _published_column(run: Run) -> str | None:
    """The column of published.csv that compares the same frames; None if there is none."""
    if run.result.scale != PUBLISHED_SCALE:
        return None
    data = run.result.knobs["data"]
    blurred = data["low"] == "bd" or data["degradation"] in BLUR
    return PUBLISHED.get((data["name"], data["channel"], "bd" if blurred else "bi"))
