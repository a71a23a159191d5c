"""A report of runs to look around in: one HTML file that needs no server and no network.

    python analysis/report.py RUNS [RUNS ...] [--out report.html]

The runs as a table to sort and filter, two of them compared, curves, layers, frames, and what failed. The tables come
from report_data.py, the page from report/ (template, style, script). The same runs give the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from plotly.offline import get_plotlyjs

sys.path.insert(0, str(Path(__file__).parents[1]))  # the package of this file, wherever the command is called

from analysis.groups import Group
from analysis.output import file_for
from analysis.pairs import WORDS
from analysis.pictures import Pictures, psnr
from analysis.report_data import (
    MEASURES,
    Measure,
    RunColumn,
    Tables,
    baselines,
    crop_table,
    curve_table,
    knob_value,
    layer_table,
    make_tables,
    measure_label,
    place_boxes,
    points_of,
    reference_table,
    shown_digits,
    thinned,
    whole_frames,
)
from analysis.report_html import (
    common_rows,
    left_out_html,
    notes_html,
    summary_line,
    table_heading,
    time_html,
)
from analysis.runs import KNOBS, Run, load_runs
from analysis.style import COLOURS, SPARE, colours
from vsrprune.cli import explained
from vsrprune.commands import CommandParser
from vsrprune.errors import UserError
from vsrprune.results.replicates import dense_network, replicate_names
from vsrprune.results.result import HiddenError
from vsrprune.results.settings import steps_note

ASSETS = Path(__file__).with_name("report")
OKABE_ITO = {*COLOURS.values(), *SPARE} - {"#000000"}
PLAIN = "#888888"  # seen on white and on black, unlike what style.py has for print
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross")
# Files of report/ in the order in which they make the page's one script.
SCRIPTS = ("base", "statistics", "filter", "settings", "table", "difference", "figures", "quality", "training",
           "errors", "layers", "frames", "link", "downloads", "start")  # fmt: skip
PICTURE_SIZE = 3e6  # characters of all crops; runs beyond have none
DASHES = ("solid", "dash", "dot", "dashdot")


# The data of the page: plain values that report.js draws.


def page_data(tables: Tables, places: int) -> dict[str, Any]:
    """Everything that report.js needs; `places` crops of each run."""
    common = {name: value for name, value in tables.configurations[0].items() if name not in tables.varying}
    steps, curves, plans = Pool(), Pool(), Pool()
    crops, frames = Pictures(), Pictures(lossless=False)
    cropped = _crops_of_runs(tables, crops, frames, places)
    points = points_of(len(tables.runs.finished))
    names = replicate_names_of(tables.groups)
    return {
        "measures": [_measure_data(tables, item) for item in MEASURES],
        "columns": [{"name": item.name, "best": item.measure.best if item.measure else ""} for item in tables.columns],
        "knobs": list(KNOBS),
        "common": common,
        "runs": [
            {
                **_run_data(tables, number),
                **cropped[number],
                "replicate": names[run.name],
                "plan": plans.add(run.result.plan.to_json()),
                "curves": _curves(run, steps, curves, points),
                "hidden_error": _hidden_errors(run, steps, points),
            }
            for number, run in enumerate(tables.runs.finished)
        ],
        "settings": [
            {"number": number, **{name: row[name] for name in ("label", "series", "group", "jobs")}}
            for number, row in enumerate(tables.settings.to_dict("records"))
        ],
        "series": series_styles(tables.settings),
        "references": _records(reference_table(tables.groups)),
        "groups": [
            {
                "name": group.title,
                "notes": group.timing_notes,
                "steps": steps_note([run.result for run in group.runs.finished]),
            }
            for group in tables.groups
        ],
        "words": WORDS,
        "layers": _layers(layer_table(tables.runs, tables.settings), len(tables.settings)),
        "steps": steps.items,
        "curves": curves.items,
        "pictures": crops.uris(),
        "frames": {
            picture.key: {
                "uri": picture.uri,
                "width": picture.pixels_HWC.shape[1],
                "height": picture.pixels_HWC.shape[0],
            }
            for picture in frames.all()
        },
    }


def _measure_data(tables: Tables, item: Measure) -> dict[str, Any]:
    digits = shown_digits(item, [float(value) for value in tables.jobs.get(item.name, ())])
    return {**asdict(item), "label": measure_label(item, tables.runs), "digits": digits}


def replicate_names_of(groups: Sequence[Group]) -> dict[str, str]:
    """The replicate that each run is of, by the run's name: settings are compared over those that both have."""
    names: dict[str, str] = {}
    for group in groups:
        of_network = replicate_names(group.runs.finished)
        names |= {run.name: "{} {}".format(*of_network[dense_network(run)]) for run in group.runs.finished}
    return names


class Pool:
    """Values that are the same for many runs, each kept once."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._places: dict[str, int] = {}

    def add(self, value: Any) -> int:
        """The place of the value among the items."""
        key = json.dumps(value)
        if key not in self._places:
            self._places[key] = len(self.items)
            self.items.append(value)
        return self._places[key]


def number(value: Any, digits: int = 7) -> float | int | None:
    """A number for JSON with so many significant digits; None if it is not finite."""
    if not math.isfinite(value):
        return None
    return int(value) if float(value).is_integer() else float(f"{value:.{digits}g}")


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {str(name): value if isinstance(value, str) else number(value) for name, value in row.items()}
        for row in table.to_dict("records")
    ]


def _run_data(tables: Tables, index: int) -> dict[str, Any]:
    run, row = tables.runs.finished[index], tables.jobs.iloc[index]
    setting = list(tables.settings["setting"]).index(run.setting)
    return {
        "job": run.name,
        "setting": setting,
        "group": int(tables.settings["group"].iloc[setting]),
        "values": {item.name: number(row[item.name]) for item in MEASURES if item.name in row},
        "cells": [_cell_value(run, column) for column in tables.columns],
        "config": {name: tables.configurations[index].get(name) for name in tables.varying},
        "machine": {name: tables.machines[index].get(name) for name in tables.machines_differ},
        "order": str(run.knobs["seed"]),
        "stages": run.result.stages,
        "notes": run.result.notes,
        "places": place_boxes(run),
    }


def _hidden_errors(run: Run, steps: Pool, points: int) -> dict[str, dict[str, dict[str, Any]]]:
    """By point and branch: the place of the frames in `steps`, and the error at each by its parts, or the whole."""
    return {
        point: {branch: _error_data(error, steps, points) for branch, error in of.items()}
        for point, of in run.result.hidden_error.items()
    }


def _error_data(error: HiddenError, steps: Pool, points: int) -> dict[str, Any]:
    frames = thinned(len(error.total), points)
    known = {name: values for name, values in vars(error).items() if values is not None}
    parts = {name: values for name, values in known.items() if name != "total"} or known
    return {
        "frames": steps.add(frames),
        **{name: [number(values[at], 3) for at in frames] for name, values in parts.items()},
    }


def _cell_value(run: Run, column: RunColumn) -> Any:
    if column.measure:  # among the values
        return None
    value = knob_value(run, column.name)
    try:
        return None if value is None else number(float(value))
    except (TypeError, ValueError):
        return str(value)


def series_styles(settings: pd.DataFrame) -> list[dict[str, str]]:
    """Name, colour, mark and dash of every series: the colours of the figures; marks tell those of one colour apart."""
    names = list(dict.fromkeys(settings["series"]))
    seen: dict[str, int] = {}
    styles = []
    for name, known in colours(names).items():
        colour = known if known in OKABE_ITO else PLAIN
        variant = seen[colour] = seen.get(colour, -1) + 1
        symbol, dash = SYMBOLS[variant % 6], DASHES[(variant + variant // 12) % 4]  # the first 24 are different
        styles.append({"name": name, "colour": colour, "symbol": symbol, "dash": dash})
    return styles


def _layers(table: pd.DataFrame, settings: int) -> list[dict[str, Any]]:
    """Layers in network order, each with [share cut, kept units by job, total units] by setting, or None."""
    layers: list[dict[str, Any]] = []
    for name, rows in table.groupby("layer", sort=False):
        cells: list[Any] = [None] * settings
        for _, row in rows.iterrows():
            cells[row["setting"]] = [number(row["cut"], 4), row["kept"], row["total"]]
        first = rows.iloc[0]
        layers.append({"layer": name, "part": first["part"], "kind": first["kind"], "cells": cells})
    return layers


def _curves(run: Run, steps: Pool, curves: Pool, points: int) -> dict[str, dict[str, int]]:
    """Places in `curves` of a run's losses, by stage and loss."""
    found: dict[str, dict[str, int]] = {}
    for (stage, loss), rows in curve_table(run, points).groupby(["stage", "loss"], sort=False):
        values = [number(value, 4) for value in rows["value"]]
        place = curves.add({"steps": steps.add([int(step) for step in rows["step"]]), "values": values})
        found.setdefault(str(stage), {})[str(loss)] = place
    return found


def _crops_of_runs(tables: Tables, crops: Pictures, frames: Pictures, places: int) -> list[dict[str, Any]]:
    """Crops and whole frames of every run. Those of the best settings come first where the size does not do for all."""
    runs = tables.runs.finished
    by_quality = tables.settings.sort_values("psnr", ascending=False, kind="stable")["jobs"]
    firsts = [jobs[0] for jobs in by_quality]
    found: list[dict[str, Any]] = [{"crops": {}, "frames": {}, "dropped": False} for _ in runs]
    for place in [*firsts, *(job for jobs in by_quality for job in jobs[1:])]:
        if crops.size > PICTURE_SIZE:
            found[place]["dropped"] = places > 0 and not crop_table(runs[place], places).empty
            continue
        of_run = _crops(runs[place], crops, places)
        whole = {at: frames.read(path) for at, path in whole_frames(runs[place], of_run).items()}
        keys = {at: picture.key for at, picture in whole.items() if picture is not None}
        found[place] |= {"crops": of_run, "frames": keys}
    return found


def _crops(run: Run, pictures: Pictures, most: int) -> dict[str, dict[str, dict[str, Any]]]:
    """Key and PSNR (dB; None if unknown, "same" if equal to the truth) of a run's crops, by place and kind."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for place, rows in crop_table(run, most).groupby("place", sort=False):
        read = {row["kind"]: pictures.read(row["path"]) for _, row in rows.iterrows()}
        truth = read.get("truth")
        for kind, picture in read.items():
            if picture is not None:
                value = psnr(picture.pixels_HWC, truth.pixels_HWC) if truth is not None else math.nan
                entry = {"key": picture.key, "psnr": "same" if math.isinf(value) else number(value, 5)}
                found.setdefault(str(place), {})[kind] = entry
    return found


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with every {{name}} replaced, once: what is put in is not searched again."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], template)


def embedded(data: Any) -> str:
    """JSON that may stand inside a script element, whatever its strings hold."""
    # A `</script>` in a string would end the element. NaN is no JSON, so every number passes through `number` before.
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _script_hash(script: str) -> str:
    # The page's Content-Security-Policy runs these scripts alone, whatever names and logs of runs hold.
    return "'sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() + "'"


def render(tables: Tables, folders: Sequence[str], places: int) -> str:
    """The page."""
    files = "\n".join((ASSETS / f"{name}.js").read_text("utf-8") for name in SCRIPTS)
    script, plotly = f'"use strict";\n(() => {{\n{files}}})();\n', get_plotlyjs()
    values = {
        "script_hashes": f"{_script_hash(plotly)} {_script_hash(script)}",
        "style": (ASSETS / "style.css").read_text("utf-8"),
        "summary": summary_line(tables.runs, folders),
        "heading": table_heading(tables.columns),
        "common": common_rows(
            [{**asked, **machine} for asked, machine in zip(tables.configurations, tables.machines, strict=True)]
        ),
        "points": str(points_of(len(tables.runs.finished))),
        "notes": notes_html(tables.runs),
        "time": time_html(tables.runs),
        "left_out": left_out_html(tables.runs.left_out),
        "baseline": baselines(tables.runs),
        "data": embedded(page_data(tables, places)),
        "plotly": plotly,
        "script": script,
    }
    return fill((ASSETS / "template.html").read_text("utf-8"), values)


def report_page(folders: Sequence[str], places: int = 2) -> str:
    """The report of the runs below some folders. Raises UserError if one is missing or none has a result."""
    return render(make_tables(load_runs(folders)), folders, places)


def main() -> int:
    """Write the report of the runs given."""
    parser = CommandParser(description="An HTML report of a folder of runs")
    parser.add_argument("runs", nargs="+", help="folders below which run.py wrote its jobs")
    parser.add_argument("--out", default="report.html", help="the file to write (default: report.html)")
    parser.add_argument("--places", type=int, default=2, help="places of each run whose crops go in (default: 2)")
    arguments = parser.parse_args()
    with explained():
        # Names of files that are no UTF-8 have surrogates in them, which cannot be encoded: "replace" keeps the report.
        if arguments.places < 0:
            raise UserError(f"--places must be at least 0; got {arguments.places}")
        out = file_for(arguments.out)
        page = report_page(arguments.runs, arguments.places).encode("utf-8", "replace")
        try:
            out.write_bytes(page)
        except OSError as error:
            raise UserError(f"cannot write {arguments.out}: {error.strerror}") from error
        print(f"{out} ({len(page) / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
