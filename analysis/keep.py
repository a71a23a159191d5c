"""Keep finished jobs as small files, for a repository or a paper's supplement.

    python analysis/keep.py RUNS [RUNS ...] --out docs/evidence

Tables, differences, curves over MACs and errors over time are made of them as of the runs themselves, and those that
rest on PSNR, MACs and times to the byte. Left out are checkpoints, curves of training, crops and scores of units, the
name of the machine, and the paths of clips and weights before their last names. What is there already stays: the
same run is kept once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # the package of this file, wherever the command is called

from analysis.output import folder_for
from analysis.runs import Run, load_runs
from vsrprune.cli import explained
from vsrprune.commands import CommandParser
from vsrprune.results.measured import MEASURED
from vsrprune.results.result import RESULT
from vsrprune.store.atomic import write_atomically
from vsrprune.store.sealed import SEAL, checksum_of

DIGITS = 4  # significant ones, of what is kept for every frame: figures show it, and no table rests on it
BY_FRAME = ("frames", "hidden_error")
PATHS = ("path", "train_path", "unlabelled")  # knobs of data: where clips lie
FILES = ("pretrained", "pretrained_flow")  # knobs: where networks lie


def kept_result(run: Run) -> dict[str, Any]:
    """The values of a run's result.json that are kept."""
    values = {**run.result.to_json(), "scores": None}
    data = dict(values["knobs"].get("data", {}))
    data |= {name: PurePath(data[name]).name for name in PATHS if data.get(name)}
    knobs = {**values["knobs"], "data": data}
    knobs |= {name: PurePath(knobs[name]).name for name in FILES if knobs.get(name)}
    kept: dict[str, Any] = _rounded({**values, "knobs": knobs})
    return kept


def kept_measured(run: Run) -> dict[str, Any]:
    """The values of a run's measured.json that are kept."""
    return {**run.measured.to_json(), "host": ""}


def keep(run: Run, folder: Path) -> Path:
    """Write a run's files into a folder of its own below `folder`; returns it."""
    result, measured = (
        json.loads(json.dumps(values, allow_nan=False)) for values in (kept_result(run), kept_measured(run))
    )
    # Named by what the run found, which is the same wherever it ran: sweeps name jobs by what varies among theirs.
    words = (run.knobs["method"], run.knobs["rule"], run.knobs["replicate"], checksum_of(result)[:8])
    place = folder / "-".join(map(str, words))
    place.mkdir(parents=True, exist_ok=True)
    for name, values in ((RESULT, result), (MEASURED, measured)):
        # On one line: indented, each number would take a line of its own.
        write_atomically(place / name, json.dumps({SEAL: checksum_of(values), **values}, separators=(",", ":")) + "\n")
    return place


def _rounded(values: Any, by_frame: bool = False) -> Any:
    """The values, with numbers of frames rounded."""
    if isinstance(values, dict):
        return {name: _rounded(value, by_frame or name in BY_FRAME) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_rounded(value, by_frame) for value in values]
    return float(f"{values:.{DIGITS}g}") if by_frame and isinstance(values, float) else values


def main(arguments: Sequence[str] | None = None) -> int:
    """Keep the runs, and say how many and how large."""
    parser = CommandParser(description="Keep finished jobs as small files")
    parser.add_argument("runs", nargs="+", help="folders below which run.py wrote its jobs")
    parser.add_argument("--out", required=True, help="folder to keep them in, which need not be there")
    given = parser.parse_args(arguments)
    with explained():
        _keep_all(given.runs, folder_for(given.out))
    return 0


def _keep_all(folders: Sequence[str], out: Path) -> None:
    runs = load_runs(folders)
    places = [keep(run, out) for run in runs.finished]
    size = sum(path.stat().st_size for place in places for path in place.iterdir())
    print(f"{out}: {len(places)} runs in {size / 1e6:.1f} MB")
    for left in runs.left_out:
        print(f"left out: {left.name}: {left.reason}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
