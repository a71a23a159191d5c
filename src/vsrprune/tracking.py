"""The only file that knows wandb. Files are the truth, Weights & Biases a mirror: it never fails or stalls a job."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from vsrprune.results import Result

ONLINE_TIMEOUT_S = 8  # without it a missing network costs half a minute


class Tracker(Protocol):
    """Where a job's curves and results are mirrored."""

    def row(self, row: Mapping[str, Any]) -> None:
        """One row of metrics.jsonl, as soon as it is written."""

    def finished(self, result: Result) -> None:
        """The job's result."""


class NoTracker:
    """tracking=none."""

    def row(self, row: Mapping[str, Any]) -> None:
        """Nothing."""

    def finished(self, result: Result) -> None:
        """Nothing."""


class WandbTracker:
    """One wandb run: curves prefixed by stage, the configuration, a summary, and per-layer ratios as a table.

    Whatever goes wrong inside wandb is said once; the job goes on without it.
    """

    def __init__(self, run: Any, warn: Callable[[str], None]) -> None:
        self._run, self._warn = run, warn
        self._stages: set[str] = set()
        self._broken = False

    def row(self, row: Mapping[str, Any]) -> None:
        """Log a row under its stage's name, against that stage's own steps."""
        self._mirror(lambda: self._log_row(row))

    def finished(self, result: Result) -> None:
        """Write the summary and the table of per-layer ratios."""
        self._mirror(lambda: self._log_result(result))

    def close(self, failed: bool) -> None:
        """End the run."""
        self._mirror(lambda: self._run.finish(exit_code=int(failed)))

    def _mirror(self, call: Callable[[], None]) -> None:
        if self._broken:
            return
        try:
            call()
        except Exception as error:  # wandb raises many kinds; none is worth a job
            self._broken = True
            self._warn(f"tracking: wandb stopped working ({_line(error)}); going on without it")

    def _log_row(self, row: Mapping[str, Any]) -> None:
        stage = row["stage"]
        if stage not in self._stages:
            self._run.define_metric(f"{stage}/step")
            self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
            self._stages.add(stage)
        self._run.log({f"{stage}/{name}": value for name, value in row.items() if name != "stage"})

    def _log_result(self, result: Result) -> None:
        import wandb

        self._run.summary.update(
            {
                **{f"psnr/{name}": quality.psnr for name, quality in result.quality.items()},
                **{f"ssim/{name}": quality.ssim for name, quality in result.quality.items()},
                "macs_kept": result.macs_kept,
                "units_cut": result.units_cut,
                "equivalence/float64": result.equivalence["float64"],
            }
        )
        rows: list[Iterable[Any]] = [
            [layer.name, layer.part, layer.kind, layer.kept, layer.total, 1 - layer.kept / layer.total]
            for layer in result.layers
        ]
        columns: list[str | int] = ["layer", "part", "kind", "kept", "total", "ratio"]
        self._run.log({"layers": wandb.Table(columns=columns, data=rows)})


@contextlib.contextmanager
def tracked(
    mode: str,
    *,
    project: str,
    entity: str,
    name: str,
    group: str,
    method: str,
    config: Mapping[str, Any],
    folder: Path,
    warn: Callable[[str], None],
) -> Iterator[Tracker]:
    """A tracker for one job. `online` falls back to offline, and says so, where W&B cannot be reached."""
    if mode == "none":
        yield NoTracker()
        return
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    folder.mkdir(parents=True, exist_ok=True)

    def start(mode: str) -> Any:
        return wandb.init(
            mode=mode,  # type: ignore[arg-type]
            project=project,
            entity=entity or None,
            name=name,
            group=group,
            job_type=method,
            config=dict(_flattened(config)),
            dir=str(folder),
            settings=wandb.Settings(init_timeout=ONLINE_TIMEOUT_S, console="off", x_disable_meta=False),
        )

    try:
        run = start(mode)
    except (wandb.errors.Error, OSError) as error:
        if mode != "online":
            warn(f"tracking: wandb could not start ({_line(error)}); going on without it")
            yield NoTracker()
            return
        warn(f"tracking=online: W&B cannot be reached ({_line(error)}); this run is kept offline in {folder}/wandb")
        run = start("offline")
    tracker, failed = WandbTracker(run, warn), True
    try:
        yield tracker
        failed = False
    finally:
        tracker.close(failed)


def is_tracked(folder: Path) -> bool:
    """Whether a wandb run was written for the job in `folder`."""
    return any((folder / "wandb").glob("*run-*"))


def _flattened(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """model.channels: 16 instead of model: {channels: 16}, so that a dashboard can filter and group by it."""
    for name, value in config.items():
        if isinstance(value, Mapping) and name != "ratios":
            yield from _flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
