"""The only file of jobs that knows wandb: a run of Weights & Biases for each of them."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from vsrprune.host.tracking.shown import crop_files, layer_heatmap, measured_in, summary_of
from vsrprune.host.tracking.tracker import Parts, RunLabel, one_line, written_rows
from vsrprune.results.result import Result
from vsrprune.results.settings import flatten

ONLINE_TIMEOUT_S = 8  # without it a missing network costs half a minute
LONGEST_TAG = 64  # W&B refuses a run with a longer one
WANDB = "wandb"  # the folder that wandb makes in a job's
RUN_ID = "run_id"


def new_run_id() -> str:
    """An id that no other run has."""
    return secrets.token_hex(4)


def lasting_run_id(folder: Path, in_sweep: bool) -> str:
    """The id of the run of the job in `folder`: the same one whenever the job is taken up again.

    WANDB_RUN_ID names a single run. In a sweep every job has an id of its own: under one id W&B would merge them.
    """
    path = folder / WANDB / RUN_ID
    given = "" if in_sweep else os.environ.get("WANDB_RUN_ID", "")
    known = path.read_text(errors="replace").strip() if path.is_file() else ""
    sound = known.isascii() and known.isprintable()
    run_id = given or (known if sound else "") or new_run_id()
    with contextlib.suppress(OSError):  # then the job has another id when it is taken up again
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{run_id}\n")
    return run_id


class WandbTracker:
    """One wandb run: curves prefixed by stage, the configuration, a summary, layers as table and picture, crops.

    Each of these is mirrored on its own: what goes wrong inside wandb is said once, costs that part alone, and the run
    is finished in any case.
    """

    def __init__(self, run: Any, warn: Callable[[str], None]) -> None:
        self._run, self._parts = run, Parts("wandb", warn)
        self._stages: set[str] = set()
        self._logged: set[tuple[str, int]] = set()  # stages and steps
        self._before: dict[str, Any] = {}  # the last step of each stage that an earlier process sent to W&B
        if getattr(run, "resumed", False):
            self._parts.call("steps of before", lambda: self._before.update(run.summary))

    def row(self, row: Mapping[str, Any]) -> None:
        """Log a row under its stage's name, against that stage's own steps."""
        self._parts.call("curves", lambda: self._log_row(row))

    def finished(self, result: Result, folder: Path) -> None:
        """Write the rest of the curves, the summary, PSNR against MACs, the layers and the crops."""
        self._parts.call("curves", lambda: self._log_rest(folder))
        self._parts.call("summary", lambda: self._log_summary(result, folder))
        self._parts.call("trade-off", lambda: self._log_tradeoff(result))
        self._parts.call("table of layers", lambda: self._log_layers(result))
        self._parts.call("heatmap of layers", lambda: self._log_heatmap(result))
        self._parts.call("crops", lambda: self._log_crops(folder))
        if not self._parts.lost:
            self._parts.call("older files", lambda: self._drop_older(folder))

    def close(self, failed: bool) -> None:
        """End the run."""
        self._parts.call("end of the run", lambda: self._run.finish(exit_code=int(failed)))

    def _log_row(self, row: Mapping[str, Any]) -> None:
        stage, step = row["stage"], row.get("step", 0)
        if (stage, step) in self._logged or step <= self._before.get(f"{stage}/step", -1):
            return
        self._logged.add((stage, step))
        if stage not in self._stages:
            # Every stage counts its steps from 0, while wandb's own counter only grows: without an axis of its own a
            # stage would be drawn to the right of those before.
            self._run.define_metric(f"{stage}/step")
            self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
            self._stages.add(stage)
        self._run.log({f"{stage}/{name}": value for name, value in row.items() if name != "stage"})

    def _log_rest(self, folder: Path) -> None:
        """The curves of stages, and of parts of stages, that another job or an earlier process trained."""
        for row in written_rows(folder):
            self._log_row(row)

    def _drop_older(self, folder: Path) -> None:
        """Offline, wandb cannot go on with a run's files: it writes new ones, which now have all that the older had."""
        found = list((folder / WANDB).glob("offline-run-*"))
        own = Path(self._run.dir).parent.resolve() if len(found) > 1 else None
        if own not in [path.resolve() for path in found]:  # the only one, or this run is online
            return
        for path in found:
            if path.resolve() != own and path.name.endswith(f"-{self._run.id}"):
                shutil.rmtree(path)

    def _log_summary(self, result: Result, folder: Path) -> None:
        self._run.summary.update(summary_of(result, measured_in(folder)))

    def _log_tradeoff(self, result: Result) -> None:
        """Two points, pruned and dense, of a curve of PSNR against the share of the MACs."""
        # The last point of the two is the dense network's, which would stand in the summary as if it were the run's.
        self._run.define_metric("tradeoff/macs_kept", summary="none")
        self._run.define_metric("tradeoff/psnr", step_metric="tradeoff/macs_kept", summary="none")
        for macs_kept, name in ((result.macs_kept, "finetuned"), (1.0, "dense")):
            self._run.log({"tradeoff/macs_kept": macs_kept, "tradeoff/psnr": result.quality[name].psnr})

    def _log_layers(self, result: Result) -> None:
        import wandb

        rows: list[Iterable[Any]] = [
            [layer.name, layer.part, layer.kind, layer.kept, layer.total, 1 - layer.kept / layer.total]
            for layer in result.layers
        ]
        columns: list[str | int] = ["layer", "part", "kind", "kept", "total", "ratio"]
        self._run.log({"layers": wandb.Table(columns=columns, data=rows)})

    def _log_heatmap(self, result: Result) -> None:
        import wandb

        caption = "units; red: cut" if result.scores is None else "units by importance; red: cut"
        self._run.log({"layers/heatmap": wandb.Image(layer_heatmap(result), caption=caption)})

    def _log_crops(self, folder: Path) -> None:
        import wandb

        crops = [wandb.Image(str(path), caption=caption) for caption, path in crop_files(folder / "crops").items()]
        if crops:
            self._run.log({"crops": crops})


def start_wandb(
    mode: str, label: RunLabel, config: Mapping[str, Any], folder: Path, warn: Callable[[str], None]
) -> WandbTracker | None:
    """The tracker of one job. `online` falls back to offline, and says so, where W&B cannot be reached."""
    run = start_run(mode, label, config, folder, warn)
    return None if run is None else WandbTracker(run, warn)


def start_run(mode: str, label: RunLabel, config: Mapping[str, Any], folder: Path, warn: Callable[[str], None]) -> Any:
    """A wandb run in `folder`; None where wandb cannot start, which is said."""
    # setdefault: whoever sets it to false sees wandb's own lines.
    os.environ.setdefault("WANDB_SILENT", "true")
    logging.raiseExceptions = False  # wandb's own log would print tracebacks on a full disk
    import wandb

    folder.mkdir(parents=True, exist_ok=True)

    def begin(mode: str) -> Any:
        return wandb.init(
            mode=mode,  # type: ignore[arg-type]
            project=label.project,
            entity=label.entity or None,
            name=label.name,
            group=label.group,
            job_type=label.job_type,
            id=label.run_id or None,
            resume="allow" if label.run_id and mode == "online" else None,  # offline, wandb takes none
            tags=[tag[:LONGEST_TAG] for tag in dict.fromkeys(label.tags) if tag],
            config=flatten(config),  # so that a dashboard can filter and group by model.channels
            dir=str(folder),
            reinit="create_new",  # a search's run stays open while its full runs have theirs
            settings=wandb.Settings(init_timeout=ONLINE_TIMEOUT_S, console="off", x_disable_meta=False),
        )

    try:
        return begin(mode)
    except (wandb.errors.Error, OSError) as error:
        if mode != "online":
            warn(f"tracking: wandb could not start ({one_line(error)}); going on without it")
            return None
        warn(f"tracking.mode=online: W&B cannot be reached ({one_line(error)}); it is kept offline in {folder}/wandb")
        return begin("offline")
