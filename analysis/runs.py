"""Folders of runs as tidy tables: a row per job, or per job and layer. Reads result files only, never torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from vsrprune.errors import UserError
from vsrprune.jobs import read_measured
from vsrprune.results import RESULT, Result, network_order

Runs = dict[str, tuple[Path, Result]]


def load_runs(folders: Sequence[str]) -> Runs:
    """Results of all jobs below the folders, by the job's name. Raises UserError if there are none."""
    paths = sorted(path.parent for folder in folders for path in Path(folder).rglob(RESULT))
    if not paths:
        raise UserError(f"no {RESULT} below {', '.join(folders)}; give folders that run.py wrote, such as runs/")
    names = [path.name for path in paths]
    return {
        path.name if names.count(path.name) == 1 else f"{path.parent.name}/{path.name}": (path, Result.load(path))
        for path in paths
    }


def job_table(runs: Runs) -> pd.DataFrame:
    """A row per job: the knobs that figures group by, PSNR (dB), MACs (share kept and per frame), latency (ms)."""
    rows = []
    for name, (folder, result) in runs.items():
        latency = read_measured(folder)["latency_ms"]
        rows.append(
            {
                "job": name,
                "method": result.knobs["method"]["name"],
                "rule": result.rule,
                "ratio": result.knobs["ratio"],
                "target": result.knobs["target"],
                "seed": result.knobs["seed"],
                "psnr": result.quality["finetuned"].psnr,
                "psnr_cut": result.quality["after_cut"].psnr,
                "psnr_dense": result.quality["dense"].psnr,
                "psnr_bicubic": result.quality["bicubic"].psnr,
                "macs": result.cost["pruned"].macs,
                "macs_kept": result.macs_kept,
                "latency_ms": latency["pruned"]["ms"],
                "latency_ms_dense": latency["dense"]["ms"],
            }
        )
    return pd.DataFrame(rows)


def ratio_table(runs: Runs) -> pd.DataFrame:
    """Share of units cut: layers in network order (part, kind, layer) x jobs; NaN where a rule has no such layer."""
    rows = [
        {"job": name, "part": layer.part, "kind": layer.kind, "layer": layer.name, "cut": 1 - layer.kept / layer.total}
        for name, (_, result) in runs.items()
        for layer in result.layers
    ]
    wide = pd.DataFrame(rows).pivot(index=["part", "kind", "layer"], columns="job", values="cut")
    order = [(layer.part, layer.kind, layer.name) for layer in network_order([result for _, result in runs.values()])]
    index = pd.MultiIndex.from_tuples(order, names=["part", "kind", "layer"])
    return wide.reindex(index).reindex(columns=list(runs))
