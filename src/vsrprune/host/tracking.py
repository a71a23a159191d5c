"""The only file that knows wandb. Files are the truth, Weights & Biases a mirror: it never fails or stalls a job."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vsrprune.results.measured import MEASURED, Measured
from vsrprune.results.result import CROP_KINDS, CROP_PLACES, METRICS, Layer, Result
from vsrprune.results.settings import flatten
from vsrprune.store.atomic import parse_json, read_json

ONLINE_TIMEOUT_S = 8  # without it a missing network costs half a minute
LONGEST_TAG = 64  # W&B refuses a run with a longer one
CLIPS_SHOWN = 4
WANDB = "wandb"  # the folder that wandb makes in a job's
RUN_ID = "run_id"


@dataclass(frozen=True)
class RunLabel:
    """How a run is found in W&B: its name, the group it is listed under, its kind of work, the project and its owner.

    `job_type` is a job's method, `search` or `trial`. `entity` is the project's owner, empty for the user. `tags` are
    cut to the length that W&B takes; empty and repeated ones are left out. `run_id` is the run's own name in W&B: a run
    that is started again under it goes on; empty for WANDB_RUN_ID, or a new one.
    """

    name: str
    group: str
    job_type: str
    project: str
    entity: str = ""
    tags: tuple[str, ...] = ()
    run_id: str = ""


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


class Tracker(Protocol):
    """Where a job's curves and results are mirrored."""

    def row(self, row: Mapping[str, Any]) -> None:
        """One row of metrics.jsonl, as soon as it is written."""

    def finished(self, result: Result, folder: Path) -> None:
        """The job's result; `folder` holds what was written beside it."""


class NoTracker:
    """tracking=none."""

    def row(self, row: Mapping[str, Any]) -> None:
        """Nothing."""

    def finished(self, result: Result, folder: Path) -> None:
        """Nothing."""


class WandbTracker:
    """One wandb run: curves prefixed by stage, the configuration, a summary, layers as table and picture, crops.

    Each of these is mirrored on its own: what goes wrong inside wandb is said once, costs that part alone, and the run
    is finished in any case.
    """

    def __init__(self, run: Any, warn: Callable[[str], None]) -> None:
        self._run, self._warn = run, warn
        self._stages: set[str] = set()
        self._logged: set[tuple[str, int]] = set()  # stages and steps
        self._before: dict[str, Any] = {}  # the last step of each stage that an earlier process sent to W&B
        self._lost: set[str] = set()
        self._said: set[str] = set()
        if getattr(run, "resumed", False):
            self._mirror("steps of before", lambda: self._before.update(run.summary))

    def row(self, row: Mapping[str, Any]) -> None:
        """Log a row under its stage's name, against that stage's own steps."""
        self._mirror("curves", lambda: self._log_row(row))

    def finished(self, result: Result, folder: Path) -> None:
        """Write the rest of the curves, the summary, PSNR against MACs, the layers and the crops."""
        self._mirror("curves", lambda: self._log_rest(folder))
        self._mirror("summary", lambda: self._log_summary(result, folder))
        self._mirror("trade-off", lambda: self._log_tradeoff(result))
        self._mirror("table of layers", lambda: self._log_layers(result))
        self._mirror("heatmap of layers", lambda: self._log_heatmap(result))
        self._mirror("crops", lambda: self._log_crops(folder))
        if not self._lost:
            self._mirror("older files", lambda: self._drop_older(folder))

    def close(self, failed: bool) -> None:
        """End the run."""
        self._mirror("end of the run", lambda: self._run.finish(exit_code=int(failed)))

    def _mirror(self, part: str, call: Callable[[], None]) -> None:
        if part in self._lost:
            return
        try:
            call()
        except Exception as error:  # wandb raises many kinds; none is worth a job
            self._lost.add(part)
            reason = one_line(error)
            if reason not in self._said:  # once wandb's own process is gone, every part fails for the same reason
                self._said.add(reason)
                self._warn(f"tracking: wandb did not take the {part} ({reason}); going on without")

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
        path = folder / METRICS
        for line in path.read_text().splitlines() if path.is_file() else []:
            self._log_row(parse_json(line))

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
        measured = Measured.load(folder) if (folder / MEASURED).is_file() else None
        self._run.summary.update(summary_of(result, measured))

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


def summary_of(result: Result, measured: Measured | None) -> dict[str, float]:
    """The numbers that dashboards sort, filter and plot runs by; latencies only if they were measured."""
    dense, pruned = result.cost["dense"], result.cost["pruned"]
    named = {result.baseline_name if name == "baseline" else name: value for name, value in result.quality.items()}
    temporal = {
        f"{measure}/{name}": value
        for measure in ("tof", "warping_error")
        for name, quality in named.items()
        if (value := getattr(quality, measure)) is not None
    }
    values = {
        **{f"psnr/{name}": quality.psnr for name, quality in named.items()},
        **{f"psnr_test/{name}": quality.psnr for name, quality in result.test.items()},
        **{f"ssim/{name}": quality.ssim for name, quality in named.items()},
        **temporal,
        "psnr/lost": result.quality["dense"].psnr - result.quality["finetuned"].psnr,
        "macs_kept": result.macs_kept,
        "units_cut": result.units_cut,
        "macs": pruned.macs,
        "parameters": pruned.parameters,
        "parameters_kept": pruned.parameters / dense.parameters,
    }
    if result.equivalence is not None:
        values["equivalence/float64"] = result.equivalence.float64
    if measured is not None:
        values |= {
            "latency_ms": measured.pruned_ms,
            "latency_ms_dense": measured.dense_ms,
            "speed_up": measured.speed_up,
        }
    return values


def crop_files(folder: Path) -> dict[str, Path]:
    """Pictures of a few clips, those of one clip side by side, by caption."""
    path = folder / CROP_PLACES
    clips = [place["clip"] for place in read_json(path)] if path.is_file() else []
    pictures = {f"{clip}: {kind}": folder / f"{clip}_{kind}.png" for clip in clips[:CLIPS_SHOWN] for kind in CROP_KINDS}
    return {caption: picture for caption, picture in pictures.items() if picture.is_file()}


CUT, BRIGHT, DARK = (213, 94, 0), (240, 244, 250), (20, 50, 110)  # red for the colour-blind too; blues
CELL_HEIGHT, LABEL_GAP = 12, 4  # pixels


def layer_heatmap(result: Result) -> Image.Image:
    """A row per layer in network order: its name, and a cell per unit, the darker the more important; red if cut.

    Where the method ranks nothing, all units that stay have one shade.
    """
    width = max(layer.total for layer in result.layers)
    cells_YXC = np.full((len(result.layers), width, 3), 255, np.uint8)
    for row, layer in enumerate(result.layers):
        cells_YXC[row, : layer.total] = np.asarray(BRIGHT) + _importance(result, layer) * (
            np.asarray(DARK) - np.asarray(BRIGHT)
        )
        cells_YXC[row, list(result.plan.cut(layer.name))] = CUT
    cell_width = max(2, min(CELL_HEIGHT, 640 // width))
    cells_YXC = cells_YXC.repeat(CELL_HEIGHT, axis=0).repeat(cell_width, axis=1)
    font = ImageFont.load_default()
    labels = [f"{layer.name}  {layer.kept}/{layer.total}" for layer in result.layers]
    margin = round(max(map(font.getlength, labels))) + 2 * LABEL_GAP
    image = Image.new("RGB", (margin + cells_YXC.shape[1], cells_YXC.shape[0]), "white")
    image.paste(Image.fromarray(cells_YXC), (margin, 0))
    draw = ImageDraw.Draw(image)
    for row, label in enumerate(labels):
        draw.text((LABEL_GAP, row * CELL_HEIGHT), label, fill="black", font=font)
    return image


def _importance(result: Result, layer: Layer) -> NDArray[np.float64]:
    """Scores of a layer's units as shares of the largest, [units, 1]; one half where there are none."""
    if result.scores is None:
        return np.full((layer.total, 1), 0.5)
    scores_X1 = np.asarray(result.scores[layer.name], float)[:, None]
    # A layer may have no score above zero, at the end of a long sparsification for instance.
    share_X1: NDArray[np.float64] = (scores_X1 / max(scores_X1.max(), 1e-12)).clip(0, 1)
    return share_X1


@contextlib.contextmanager
def tracked(
    mode: str, label: RunLabel, config: Mapping[str, Any], folder: Path, warn: Callable[[str], None]
) -> Iterator[Tracker]:
    """A tracker for one job. `online` falls back to offline, and says so, where W&B cannot be reached."""
    run = start_run(mode, label, config, folder, warn)
    if run is None:
        yield NoTracker()
        return
    # Failed until the body has come to its end: Ctrl-C and SystemExit are no Exception, and count too.
    tracker, failed = WandbTracker(run, warn), True
    try:
        yield tracker
        failed = False
    finally:
        tracker.close(failed)


def start_run(mode: str, label: RunLabel, config: Mapping[str, Any], folder: Path, warn: Callable[[str], None]) -> Any:
    """A wandb run in `folder`; None for mode `none`, or where wandb cannot start, which is said."""
    if mode == "none":
        return None
    # setdefault: whoever sets it to false sees wandb's own lines.
    os.environ.setdefault("WANDB_SILENT", "true")
    logging.raiseExceptions = False  # wandb's own log would print tracebacks on a full disk
    import wandb

    folder.mkdir(parents=True, exist_ok=True)

    def start(mode: str) -> Any:
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
        return start(mode)
    except (wandb.errors.Error, OSError) as error:
        if mode != "online":
            warn(f"tracking: wandb could not start ({one_line(error)}); going on without it")
            return None
        warn(f"tracking=online: W&B cannot be reached ({one_line(error)}); this run is kept offline in {folder}/wandb")
        return start("offline")


def is_tracked(folder: Path) -> bool:
    """Whether a wandb run was written for the job in `folder`."""
    return any((folder / WANDB).glob("*run-*"))


def one_line(error: BaseException) -> str:
    """The first line of an error's text, or its kind."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
