"""A search where it is tracked: in W&B one run per study, or one per trial. The files of the search are the truth."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vsrprune.config.machine import TrackingConfig
from vsrprune.host.tracking.table import tracked
from vsrprune.host.tracking.tracker import RunLabel, one_line
from vsrprune.host.tracking.wandb_runs import new_run_id, start_run

Start = Callable[[RunLabel], Any]  # makes a wandb run of that label, or None where there is none
OnRow = Callable[[Mapping[str, Any]], None]


class StudyMirror:
    """Trials as they end, then the outcome, in the run that `label` names, and with per_trial in a run for each trial.

    `on_row` is what other trackers are told: a row per trial, whose step is the trial's number.
    Whatever goes wrong inside wandb is said once; the search goes on without it, and its run is finished in any case.
    """

    def __init__(
        self, start: Start, label: RunLabel, per_trial: bool, warn: Callable[[str], None], on_row: OnRow
    ) -> None:
        self._on_row = on_row
        self._start, self._label, self._per_trial, self._warn = start, label, per_trial, warn
        self._broken = False
        self._run: Any = None
        self._mirror(self._begin)

    def trial(self, row: Mapping[str, Any]) -> None:
        """A trial that has ended, as it stands in search.json."""
        self._on_row({"stage": "trial", "step": row["number"], **_values(row), **_ratios(row)})
        self._mirror(lambda: self._log_trial(row))

    def finished(self, found: Mapping[str, Any]) -> None:
        """The content of search.json: best plan, references, front, full runs."""
        self._mirror(lambda: self._log_outcome(found))

    def close(self, failed: bool) -> None:
        """End the study's run."""
        self._broken = self._run is None
        # Tried after a failure too: a run that is never finished looks as if it went on.
        self._mirror(lambda: self._run.finish(exit_code=int(failed)))

    def _begin(self) -> None:
        self._run = self._start(self._label)
        self._broken = self._run is None

    def _mirror(self, call: Callable[[], None]) -> None:
        if self._broken:
            return
        try:
            call()
        except Exception as error:  # wandb raises many kinds; none is worth a search
            self._broken = True
            self._warn(f"tracking: wandb stopped working ({one_line(error)}); going on without it")

    def _log_trial(self, row: Mapping[str, Any]) -> None:
        values, ratios = {**_values(row), "state": row["state"]}, _ratios(row)
        if not self._per_trial:
            self._run.log({"trial/number": row["number"], **{f"trial/{key}": value for key, value in values.items()}})
            return
        name = f"{self._label.name}-{row['number']}"
        run = self._start(replace(self._label, name=name, job_type="trial", run_id=new_run_id()))
        run.config.update({"trial": row["number"], **ratios})
        for rung, psnr in enumerate(row["psnr"], start=1):
            run.log({"rung": rung, "psnr": psnr})
        run.summary.update(values)
        run.finish()

    def _log_outcome(self, found: Mapping[str, Any]) -> None:
        import wandb

        summary: dict[str, Any] = {f"final/{run['name']}/{run['seed']}": run["psnr"] for run in found["finals"]}
        summary |= {f"reference/{row['name']}@{row['budget']:.0%}": row["psnr"][-1] for row in found["references"]}
        plans = found.get("front") or [found["best"]]
        summary |= {"best/psnr": max(row["psnr"][-1] for row in plans)}
        self._run.summary.update(summary)
        rows: list[Iterable[Any]] = [[row["number"], row["share"], row["psnr"][-1]] for row in plans]
        self._run.log({"front": wandb.Table(columns=["trial", "share", "psnr"], data=rows)})


def _values(row: Mapping[str, Any]) -> dict[str, float]:
    return {"psnr": row["psnr"][-1], "share": row["share"], "rungs": len(row["psnr"])}


def _ratios(row: Mapping[str, Any]) -> dict[str, Any]:
    return {f"ratio/{name}": value for name, value in row["params"].items()}


@contextlib.contextmanager
def mirrored(
    tracking: TrackingConfig, label: RunLabel, config: Mapping[str, Any], folder: Path, warn: Callable[[str], None]
) -> Iterator[StudyMirror]:
    """A mirror of one search in the trackers `tracking.to`; without any it does nothing."""

    def start(label: RunLabel) -> Any:
        return start_run(tracking.mode, label, config, folder, warn) if "wandb" in tracking.to else None

    others = [name for name in tracking.to if name != "wandb"]
    with tracked(others, tracking.mode, label, config, folder, warn) as tracker:
        mirror, failed = StudyMirror(start, label, tracking.per_trial, warn, tracker.row), True
        try:
            yield mirror
            failed = False
        finally:
            mirror.close(failed)
