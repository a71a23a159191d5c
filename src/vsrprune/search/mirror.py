"""A search in Weights & Biases: one run per study, or one per trial. The files of the search are the truth."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from vsrprune.host.tracking import one_line, start_run


class StudyMirror:
    """Trials as they end, then the outcome. start: makes a wandb run of that name and kind, or None.

    Whatever goes wrong inside wandb is said once; the search goes on without it.
    """

    def __init__(self, start: Callable[..., Any], name: str, per_trial: bool, warn: Callable[[str], None]) -> None:
        self._start, self._name, self._per_trial, self._warn = start, name, per_trial, warn
        self._broken = False
        self._run: Any = None
        self._mirror(self._begin)

    def trial(self, row: Mapping[str, Any]) -> None:
        """A trial that has ended, as it stands in search.json."""
        self._mirror(lambda: self._log_trial(row))

    def finished(self, found: Mapping[str, Any]) -> None:
        """The content of search.json: best plan, references, front, full runs."""
        self._mirror(lambda: self._log_outcome(found))

    def close(self, failed: bool) -> None:
        """End the study's run."""
        self._mirror(lambda: self._run.finish(exit_code=int(failed)))

    def _begin(self) -> None:
        self._run = self._start(name=self._name, job_type="search")
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
        values = {"psnr": row["psnr"][-1], "share": row["share"], "rungs": len(row["psnr"]), "state": row["state"]}
        ratios = {f"ratio/{name}": value for name, value in row["params"].items()}
        if not self._per_trial:
            self._run.log({"trial/number": row["number"], **{f"trial/{key}": value for key, value in values.items()}})
            return
        run = self._start(name=f"{self._name}-{row['number']}", job_type="trial")
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
        rows = [[row["number"], row["share"], row["psnr"][-1]] for row in plans]
        self._run.log({"front": wandb.Table(columns=["trial", "share", "psnr"], data=rows)})


@contextlib.contextmanager
def mirrored(
    mode: str,
    *,
    project: str,
    entity: str,
    name: str,
    per_trial: bool,
    config: Mapping[str, Any],
    folder: Path,
    warn: Callable[[str], None],
) -> Iterator[StudyMirror]:
    """A mirror of one search; with mode `none` it does nothing."""
    start = partial(
        start_run,
        mode,
        project=project,
        entity=entity,
        group=name,
        config=config,
        folder=folder,
        warn=warn,
    )
    mirror, failed = StudyMirror(start, name, per_trial, warn), True
    try:
        yield mirror
        failed = False
    finally:
        mirror.close(failed)
