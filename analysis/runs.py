"""Folders of runs as tidy tables: a row per job, layer, frame, unit or training step. Reads files only, never torch."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.int8 import int8_cells
from analysis.output import check_runs
from vsrprune.config.method import MethodConfig
from vsrprune.config.quantise import INT8, NONE
from vsrprune.errors import UserError
from vsrprune.host.failures import CARD, STATE, FailureCard
from vsrprune.methods.table import METHODS
from vsrprune.results.measured import MEASURED, Measured
from vsrprune.results.replicates import final_psnr
from vsrprune.results.result import METRICS, RESULT, Result, check_files, network_order, time_caveats_of
from vsrprune.results.settings import CONTROLS, SEEDS, flatten, setting_of
from vsrprune.selection.controls import UNITS

# Knobs that tell settings apart in figures and tables, in the order in which labels name them.
KNOBS = ("model", "data", "task", "schedule", "method", "quantise", "rule", "scope", "score", "normalise", "rank",
         "order", "units", "tf_weight", "target", "round_to", "min_kept", "rounds", "parts", "ratios",
         "ratio")  # fmt: skip

# Of knobs, set by a file; a label says the file's name.
GROUPS = ("model", "data", "task", "schedule", "method", "quantise")
LEADERS = ("method", "model")  # groups whose files set flat knobs too
FREE = ("method",)  # groups whose name does not say the values inside: any of them goes with any method
# What methods do not read that rank no units, or cut none, by how they decide on the shape of the network.
OF_UNITS = ("score", "normalise", "rank", "order", "units", "parts", "rounds", "method.sparsify")
UNREAD = {
    "ranked": (),
    "narrow": OF_UNITS,
    "masked": OF_UNITS,
    "whole": (*OF_UNITS, "rule", "scope", "target_ms", "round_to", "min_kept", "ratios"),
}
DEFAULTS = {f"method.{name}": value for name, value in asdict(MethodConfig()).items()}
CUT_BY = ("target", "ratio", "target_ms")  # how much is cut, which no file of a group sets
# Values inside a group are told by its file's name, and these by another's too.
TOLD_BY = {"model.upscale_factors": ("model", "task")}
# `rule` stands for the first two, `method` for the last, and a job without a result is not shown.
NOT_SHOWN = ("rsc", "residual", "until", "method.name")
ALL_PARTS = "all parts"
# What reading a damaged file of a job raises: one must not hide the results of the other jobs.
UNREADABLE = (UserError, OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
REASONS_SHOWN = 3  # of jobs that were left out, where none is left to show

# The order of values in figures and tables; the first is an ablation's reference. Others follow in ascending order.
VALUES = {
    "rule": ("aligned", "inner", "rsc"),
    "scope": ("global", "local", "kind", "part", "per_layer"),
    "score": ("l1", "l1_first", "l2", "gate", "fpgm", "lamp", "taylor", "fisher", "activation", "random"),
    "normalise": ("none", "layer", "kind", "lamp"),
    "rank": ("score", "per_mac", "per_param"),
    "method": ("ssl", "ssl_distill", "best", "assl", "srp", "l1", "random", "lite", "distill", "unstructured", "dense"),
    "parts": (ALL_PARTS,),
    "task": ("sr", "denoise", "deblur"),
    "order": ("min", "max"),
    "units": UNITS,
    "quantise": (NONE, INT8),
}


@dataclass(frozen=True)
class Run:
    """A finished job: its name, unlike any other's here, its folder, and what it found."""

    name: str
    folder: Path
    result: Result
    measured: Measured

    @cached_property
    def knobs(self) -> dict[str, Any]:
        """The knobs by the names of KNOBS, then others; groups by their files, values inside them as GROUP.NAME.

        `parts` are written as one word. Given `ratios` are told apart by a few digits; the text is empty without them.
        """
        values = self.result.knobs
        inside = {name: value for name, value in flatten(values).items() if "." in name}
        flat = {name: values[name] for name in (*KNOBS, *SEEDS) if name not in (*GROUPS, "rule")}
        others = {name: value for name, value in values.items() if not isinstance(value, dict)}
        return {
            # pandas groups by knobs, and lists are not hashable.
            **{name: str(value) if isinstance(value, list) else value for name, value in {**inside, **others}.items()},
            **flat,
            # A job without an int8 network says nothing of one.
            **{name: values[name]["name"] for name in GROUPS if name in values},
            "quantise": values.get("quantise", {"name": NONE})["name"],
            "rule": self.result.rule,
            "parts": "+".join(values["parts"]) or ALL_PARTS,
            "ratios": _digits(values["ratios"]),
        }

    @cached_property
    def setting(self) -> str:
        """The same for jobs that differ by their seeds alone."""
        return setting_of(self.result)

    @cached_property
    def curves(self) -> pd.DataFrame:
        """Rows of metrics.jsonl: stage, step, losses and gates; empty if there are none.

        Raises UserError where the file is damaged.
        """
        path = self.folder / METRICS
        try:
            return pd.DataFrame([json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else [])
        except (ValueError, OSError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{path} cannot be read: {error}") from error


@dataclass(frozen=True)
class LeftOut:
    """A job that has no result to show, and why."""

    name: str
    folder: Path
    reason: str
    card: FailureCard | None = None
    same_as: str = ""  # name of the run that counts in its place


@dataclass(frozen=True)
class Runs:
    """Everything below some folders."""

    finished: list[Run]
    left_out: list[LeftOut]

    @cached_property
    def varying(self) -> list[str]:
        """The knobs in which the finished jobs differ, but seeds; inside a group where its name does not say it."""
        names = dict.fromkeys(name for run in self.finished for name in run.knobs)
        others = [name for name in names if name not in (*KNOBS, *SEEDS, *NOT_SHOWN)]
        order = [*KNOBS, *sorted(others, key=lambda name: "." in name)]
        return [knob for knob in order if self._differ_within(self._told_by(knob), knob)]

    def _told_by(self, knob: str) -> Sequence[str]:
        group, dot, _ = knob.partition(".")
        return TOLD_BY.get(knob, (group,)) if dot and group not in FREE else ()

    @cached_property
    def axes(self) -> list[str]:
        """Those of `varying` that are compared by themselves; the others differ along with the method or the network.

        A method comes with a rule or a scope of its own, say: labels name these, and no table sets them apart from it.
        """
        return [
            knob
            for knob in self.varying
            if self._told_by(knob) or knob in (*GROUPS, *CUT_BY) or self._differ_within(LEADERS, knob)
        ]

    @cached_property
    def following(self) -> list[str]:
        """Those of `varying` that differ along with the method or the network alone."""
        return [knob for knob in self.varying if knob not in self.axes]

    def _differ_within(self, groups: Sequence[str], knob: str) -> bool:
        """Whether jobs that agree in these groups differ in a knob."""
        alike: dict[tuple[str, ...], list[Run]] = {}
        for run in self.finished:
            alike.setdefault(tuple(str(run.knobs.get(group)) for group in groups), []).append(run)
        return any(self._differ(jobs, knob) for jobs in alike.values())

    def _differ(self, jobs: Sequence[Run], knob: str) -> bool:
        return len({str(run.knobs.get(knob)) for run in jobs}) > 1

    def label(self, run: Run, without: Sequence[str] = ()) -> str:
        """What tells a job's setting from the others', in few words."""
        words = [
            _word(knob, run.knobs[knob])
            for knob in self.varying
            if knob not in without and knob in run.knobs and not self._goes_without_saying(knob, run)
        ]
        return ", ".join(words) or str(run.knobs["rule"])

    def _goes_without_saying(self, knob: str, run: Run) -> bool:
        """Whether the method's name says it: a default of the methods, or what this method does not read."""
        method = METHODS.get(run.knobs["method"])
        unread = UNREAD[method.plan] if method else ()
        return knob in self.following and (knob in unread or DEFAULTS.get(knob) == run.knobs[knob])


def _digits(ratios: object) -> str:
    """Six digits that tell given ratios from others; empty where none are given."""
    return hashlib.sha256(json.dumps(ratios, sort_keys=True).encode()).hexdigest()[:6] if ratios else ""


def _word(knob: str, value: Any) -> str:
    if (knob, value) in CONTROLS:
        return CONTROLS[knob, value]
    if knob in ("rule", "method", "model", "data", "scope", "schedule", "parts", "task"):
        return str(value)
    written = str(value).lower() if isinstance(value, bool) else value  # as on the command line
    return f"{knob}={value:g}" if isinstance(value, float) else f"{knob}={written}"


def load_runs(folders: Sequence[str]) -> Runs:
    """All jobs below the folders. Raises UserError for a missing folder, and if no job has a result."""
    roots = [check_runs(folder) for folder in folders]
    finished: list[Run] = []
    left_out: list[LeftOut] = []
    found: dict[tuple[str, ...], str] = {}
    for name, folder in _named(_job_folders(roots)).items():
        try:
            if not (folder / RESULT).is_file():
                left_out.append(_unfinished(name, folder))
                continue
            run = Run(name, folder, Result.load(folder), Measured.load(folder))
            check_files(folder)
            _show_alone(run)
            same = found.setdefault(_identity(run), name)
            if same == name:
                finished.append(run)
            else:
                left_out.append(LeftOut(name, folder, f"the same run as {same}, counted once", same_as=same))
        except UNREADABLE as error:
            left_out.append(LeftOut(name, folder, f"cannot be read: {error!s}".replace("\n", " ")))
    finished.sort(key=_place)
    if not finished:
        reasons = [f"; left out: {item.name}: {item.reason}" for item in left_out]
        more = f"; and {len(reasons) - REASONS_SHOWN} others" if len(reasons) > REASONS_SHOWN else ""
        raise UserError(
            f"no {RESULT} below {', '.join(folders)}; give folders that run.py wrote, such as runs/"
            f"{''.join(reasons[:REASONS_SHOWN])}{more}"
        )
    return Runs(finished, left_out)


def _show_alone(run: Run) -> None:
    """Make what tables and figures show of a run, which raises one of UNREADABLE where a file of it is damaged."""
    _place(run)
    hash(tuple(run.knobs.values()))  # pandas groups by them
    job_table(Runs([run], []))


def _identity(run: Run) -> tuple[str, ...]:
    """The same for the same run found twice: its setting and the keys of all its stages, whatever its seeds are."""
    return (run.setting, json.dumps(run.result.stages, sort_keys=True))


def _place(run: Run) -> list[tuple[int, float, str]]:
    """Sorts settings: by each knob in turn, values in the order of VALUES, or ascending."""
    places = []
    for knob in (*KNOBS, *SEEDS):
        value = run.knobs[knob]
        known = VALUES.get(knob, ())
        rank = known.index(value) if value in known else len(known)
        places.append((rank, float(value) if isinstance(value, int | float) else 0.0, str(value)))
    return places


def _job_folders(roots: Sequence[Path]) -> list[Path]:
    files = (path for root in roots for name in (RESULT, MEASURED, CARD, STATE) for path in root.rglob(name))
    return sorted({path.parent for path in files})


def _named(folders: Sequence[Path]) -> dict[str, Path]:
    """Folders by their own names, with as many of those above as it takes to tell them apart."""
    # Sweeps of one day often have jobs of the same name, so that folders above tell them apart.
    for depth in range(1, max((len(folder.parts) for folder in folders), default=0) + 1):
        names = ["/".join(folder.parts[-depth:]) for folder in folders]
        if len(set(names)) == len(names):
            break
    return (
        {
            folder.name if [other.name for other in folders].count(folder.name) == 1 else name: folder
            for name, folder in zip(names, folders, strict=True)
        }
        if folders
        else {}
    )


def _unfinished(name: str, folder: Path) -> LeftOut:
    card = FailureCard.load(folder)
    if card is not None:
        return LeftOut(name, folder, f"failed in {card.stage}, step {card.step}: {card.cause}", card)
    return LeftOut(name, folder, "has no result yet")


def job_table(runs: Runs) -> pd.DataFrame:
    """A row per job: knobs, PSNR (dB) and SSIM, MACs (per frame, and the share kept), latency (ms per frame).

    time_kept: the share of the dense network's time, which was measured in turns with the pruned one's.
    """
    return pd.DataFrame([_job_row(runs, run) for run in runs.finished])


def _job_row(runs: Runs, run: Run) -> dict[str, Any]:
    result, measured = run.result, run.measured
    return {
        "job": run.name,
        "label": runs.label(run),
        "series": runs.label(run, without=CUT_BY),
        "setting": run.setting,
        "baseline": result.baseline_name,
        **run.knobs,
        **{f"psnr_{name}": quality.psnr for name, quality in result.quality.items()},
        "psnr": final_psnr(run),
        "psnr_test": result.test["finetuned"].psnr if result.test else math.nan,
        "ssim": result.quality["finetuned"].ssim,
        **int8_cells(result, measured),
        "parameters": result.cost["pruned"].parameters,
        "macs": result.cost["pruned"].macs,
        "macs_kept": result.macs_kept,
        "units_cut": result.units_cut,
        "steps": result.steps,
        "latency_ms": measured.pruned_ms,
        "latency_ms_dense": measured.dense_ms,
        "time_kept": measured.pruned_ms / measured.dense_ms,
        "speed_up": measured.speed_up,
        "equivalence": math.nan if result.equivalence is None else result.equivalence.float64,
        "seconds": sum(measured.stage_seconds.values()),
    }


def ratio_table(runs: Runs) -> pd.DataFrame:
    """Share of units cut, mean over seeds: layers in network order (part, kind, layer) x settings.

    Settings that share their plans, such as those of tf_weight, are one column. NaN where a rule has no such layer.
    """
    same = _without_effect_on_plans(runs)
    rows = [
        {
            "label": runs.label(run, without=same),
            "part": layer.part,
            "kind": layer.kind,
            "layer": layer.name,
            "cut": 1 - layer.kept / layer.total,
        }
        for run in runs.finished
        for layer in run.result.layers
    ]
    wide = pd.DataFrame(rows).pivot_table(index=["part", "kind", "layer"], columns="label", values="cut")
    order = [(layer.part, layer.kind, layer.name) for layer in network_order([run.result for run in runs.finished])]
    index = pd.MultiIndex.from_tuples(order, names=["part", "kind", "layer"])
    labels = dict.fromkeys(runs.label(run, without=same) for run in runs.finished)
    return wide.reindex(index).reindex(columns=list(labels))


def _without_effect_on_plans(runs: Runs) -> list[str]:
    """The knobs that vary while everything else and the stage that selects stay the same."""
    # Plans are the same where the stage that selects is: its key says so, whatever the knobs are called.
    found: list[str] = []
    for knob in runs.varying:
        alike: dict[tuple[object, ...], list[Run]] = {}
        for run in runs.finished:
            rest = (runs.label(run, without=[*found, knob]), *(run.knobs[seed] for seed in SEEDS))
            alike.setdefault(rest, []).append(run)
        vary = any(len({str(run.knobs.get(knob)) for run in group}) > 1 for group in alike.values())
        if vary and all(len({run.result.stages["select"] for run in group}) == 1 for group in alike.values()):
            found.append(knob)
    return found


def time_caveats(runs: Runs) -> list[str]:
    """Why what the runs say of time may mean little, each reason once."""
    return time_caveats_of([run.result for run in runs.finished])


def score_table(run: Run) -> pd.DataFrame:
    """A row per unit of one job: part, kind, layer, its score, and whether it is kept; empty if nothing is ranked."""
    scores = run.result.scores or {}
    rows = [
        (layer.part, layer.kind, layer.name, score, unit in kept)
        for layer in run.result.layers
        for kept in [set(run.result.plan.kept[layer.name])]
        for unit, score in enumerate(scores.get(layer.name, ()))
    ]
    return pd.DataFrame(rows, columns=["part", "kind", "layer", "score", "kept"])


def gate_table(run: Run) -> pd.DataFrame:
    """A row per layer and logged step of sparsify: mean |gamma| of its cut units, and lambda; empty for one-shot."""
    curves = run.curves
    if "lambda" not in curves:
        return pd.DataFrame(columns=["step", "layer", "part", "gate", "lambda"])
    rows = curves[curves["stage"] == "sparsify"]
    names = [column.removeprefix("gate/") for column in rows.columns if column.startswith("gate/")]
    parts = {layer.name: layer.part for layer in run.result.layers}
    long = rows.melt(
        id_vars=["step", "lambda"], value_vars=[f"gate/{name}" for name in names], var_name="layer", value_name="gate"
    )
    long["layer"] = long["layer"].str.removeprefix("gate/")
    long["part"] = long["layer"].map(parts)
    return long.dropna(subset=["gate"])
