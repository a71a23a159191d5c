"""A report of runs to look around in: one HTML file that needs no server and no network.

    python analysis/report.py RUNS [RUNS ...] [--out report.html]

The runs as a table to sort and filter, two of them compared, curves, layers, frames, and what failed. The tables come
from report_data.py, the page from report/ (template, style, script). The same runs give the same bytes.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import html
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from plotly.offline import get_plotlyjs
from report_data import (
    MEASURES,
    TABLE_MEASURES,
    Measure,
    Pictures,
    baselines,
    configuration,
    crop_table,
    curve_table,
    differing,
    flatten,
    layer_table,
    measure,
    measure_label,
    note_table,
    pair_table,
    place_captions,
    psnr,
    reference_table,
    run_table,
    setting_table,
)
from runs import KNOBS, LeftOut, Run, Runs, load_runs
from style import COLOURS, SPARE, colours

from vsrprune.errors import UserError

ASSETS = Path(__file__).with_name("report")
MISSING = "\N{EN DASH}"
OKABE_ITO = {*COLOURS.values(), *SPARE} - {"#000000"}
PLAIN = "#888888"  # seen on white and on black, unlike what style.py has for print
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross")
DASHES = ("solid", "dash", "dot", "dashdot")


@dataclass(frozen=True)
class Column:
    """A column of the table of runs: a knob (text as it was set) or a measure."""

    name: str
    label: str
    measure: Measure | None = None


@dataclass(frozen=True)
class Tables:
    """Everything that the page shows."""

    runs: Runs
    jobs: pd.DataFrame
    settings: pd.DataFrame
    columns: list[Column]
    configurations: list[dict[str, str]]

    @cached_property
    def varying(self) -> list[str]:
        """Configuration values that are not the same in all runs."""
        return differing(self.configurations)


def make_tables(runs: Runs) -> Tables:
    """The tables of some runs."""
    jobs = run_table(runs)
    return Tables(runs, jobs, setting_table(jobs), columns(runs), [configuration(run) for run in runs.finished])


def columns(runs: Runs) -> list[Column]:
    """What the table of runs shows: the knobs that vary, the seeds, and the measures."""
    pretrain = ["pretrain_seed"] if len({run.knobs["pretrain_seed"] for run in runs.finished}) > 1 else []
    knobs = [*runs.varying, "seed", *pretrain]
    return [*(Column(name, name) for name in knobs),
            *(Column(name, measure_label(measure(name), runs), measure(name)) for name in TABLE_MEASURES)]  # fmt: skip


# The data of the page: plain values that report.js draws.


def page_data(tables: Tables, places: int) -> dict[str, Any]:
    """Everything that report.js needs; `places` crops of each run."""
    common = {name: value for name, value in tables.configurations[0].items() if name not in tables.varying}
    steps, curves, pictures = Pool(), Pool(), Pictures()
    return {
        "measures": [{**asdict(item), "label": measure_label(item, tables.runs)} for item in MEASURES],
        "columns": [{"name": item.name, "best": item.measure.best if item.measure else ""} for item in tables.columns],
        "knobs": list(KNOBS),
        "common": common,
        "runs": [
            {
                **_run_data(tables, number),
                "curves": _curves(run, steps, curves),
                "crops": _crops(run, pictures, places),
            }
            for number, run in enumerate(tables.runs.finished)
        ],
        "settings": [_setting_data(row) for _, row in tables.settings.iterrows()],
        "series": series_styles(tables.settings),
        "references": _records(reference_table(tables.jobs)),
        "pairs": pair_table(tables.jobs, tables.settings).map(number).to_numpy().tolist(),
        "layers": _layers(layer_table(tables.runs, tables.settings), len(tables.settings)),
        "steps": steps.items,
        "curves": curves.items,
        "pictures": pictures.uris(),
    }


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
        {name: value if isinstance(value, str) else number(value) for name, value in row.items()}
        for row in table.to_dict("records")
    ]


def _run_data(tables: Tables, index: int) -> dict[str, Any]:
    run, row = tables.runs.finished[index], tables.jobs.iloc[index]
    settings = list(tables.settings["setting"])
    return {
        "job": run.name,
        "label": row["label"],
        "setting": settings.index(run.setting),
        "values": {item.name: number(row[item.name]) for item in MEASURES if item.name in row},
        "cells": [_cell_value(run, row, column) for column in tables.columns],
        "config": {name: tables.configurations[index].get(name) for name in tables.varying},
        "stages": run.result.stages,
        "notes": run.result.notes,
        "places": place_captions(run),
    }


def _knob(run: Run, name: str) -> Any:
    return run.knobs[name] if name in run.knobs else flatten(run.result.knobs).get(name)


def _cell_value(run: Run, row: pd.Series, column: Column) -> Any:
    if column.measure:
        return number(row[column.name]) if column.name in row else None
    value = _knob(run, column.name)
    try:
        return None if value is None else number(float(value))
    except (TypeError, ValueError):
        return str(value)


def _setting_data(row: pd.Series) -> dict[str, Any]:
    return {
        **{name: row[name] for name in ("label", "series", "jobs")},
        **{name: number(row[name]) for name in ("seeds", "psnr", "half_width", "macs_percent", "latency_ms")},
    }


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


def _curves(run: Run, steps: Pool, curves: Pool) -> dict[str, dict[str, int]]:
    """Places in `curves` of a run's losses, by stage and loss."""
    found: dict[str, dict[str, int]] = {}
    for (stage, loss), rows in curve_table(run).groupby(["stage", "loss"], sort=False):
        values = [number(value, 4) for value in rows["value"]]
        place = curves.add({"steps": steps.add([int(step) for step in rows["step"]]), "values": values})
        found.setdefault(str(stage), {})[str(loss)] = place
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


# HTML. Everything that comes from files passes through `text`.


def text(value: Any) -> str:
    """Escaped for HTML, with a place to break long names after commas and slashes."""
    return re.sub(r"([,/])(?=\S)", r"\1<wbr>", html.escape(str(value)))


def format_number(value: float | None, item: Measure) -> str:
    """A measure's value as the table shows it."""
    if value is None or not math.isfinite(value):
        return MISSING
    if item.digits is None:
        return f"{value:.1e}".replace("-", "\N{MINUS SIGN}") if value else "0"
    shown = f"{value:,.{item.digits}f}"
    return shown.replace("-", "\N{MINUS SIGN}")


def run_rows(tables: Tables) -> str:
    """Head and body of the table of runs."""
    body = "\n".join(_run_row(tables, index) for index in range(len(tables.runs.finished)))
    return f"<thead>{_run_heading(tables.columns)}</thead>\n<tbody>\n{body}\n</tbody>"


def _run_heading(items: Sequence[Column]) -> str:
    cells = [_heading("job", "job", "", "")]
    for item in items:
        unit = item.measure.unit if item.measure else ""
        cells.append(_heading(item.name, item.label, unit, "num" if item.measure else ""))
    return (
        '<tr><th scope="col" class="pick"><span class="badge a">A</span></th>'
        f'<th scope="col" class="pick"><span class="badge b">B</span></th>{"".join(cells)}</tr>'
    )


def _heading(name: str, label: str, unit: str, style: str) -> str:
    unit_html = f' <span class="unit">{text(unit)}</span>' if unit else ""
    return (
        f'<th scope="col" class="{style}" aria-sort="none" data-column="{html.escape(name)}"><button type="button">'
        f'{_unbroken(label)}{unit_html}<span class="arrow" aria-hidden="true"></span></button></th>'
    )


def _unbroken(label: str) -> str:
    """A heading that may break at spaces and after the dots of a knob's name, not at hyphens."""
    return text(label).replace("-", "&#8209;").replace(".", ".<wbr>")


def _run_row(tables: Tables, index: int) -> str:
    run, row = tables.runs.finished[index], tables.jobs.iloc[index]
    picks = "".join(
        f'<td class="pick"><input type="radio" name="{side}" value="{index}"'
        f' aria-label="{side.upper()}: {html.escape(run.name)}"></td>'
        for side in ("a", "b")
    )
    cells = "".join(_run_cell(run, row, column) for column in tables.columns)
    return f'<tr data-run="{index}">{picks}<th scope="row" class="job">{text(run.name)}</th>{cells}</tr>'


def _run_cell(run: Run, row: pd.Series, column: Column) -> str:
    if column.measure is None:
        return f"<td>{text(_knob_text(_knob(run, column.name)))}</td>"
    value = row.get(column.name)
    return f'<td class="num">{format_number(value, column.measure)}</td>'


def _knob_text(value: Any) -> str:
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def setting_rows(settings: pd.DataFrame) -> str:
    """Head and body of the table behind the curves."""
    quality, latency = measure("psnr"), measure("latency_ms")
    rows = []
    for _, row in settings.iterrows():
        half = f" ± {row['half_width']:.2f}" if math.isfinite(row["half_width"]) else ""
        rows.append(
            f'<tr><th scope="row">{text(row["label"])}</th><td class="num">{row["seeds"]}</td>'
            f'<td class="num">{format_number(row["psnr"], quality)}{half}</td>'
            f'<td class="num">{format_number(row["macs_percent"], measure("macs_percent"))}</td>'
            f'<td class="num">{format_number(row["latency_ms"], latency)}</td></tr>'
        )
    units = ("runs", "PSNR tuned (dB)", "MACs kept (%)", "latency (ms per frame)")
    heading = "".join(f'<th scope="col" class="num">{unit}</th>' for unit in units)
    return f'<thead><tr><th scope="col">setting</th>{heading}</tr></thead>\n<tbody>{"".join(rows)}</tbody>'


def common_rows(configurations: Sequence[Mapping[str, str]]) -> str:
    """Rows of the configuration that all runs share."""
    varying = set(differing(configurations))
    return "".join(
        f'<tr><th scope="row">{text(name)}</th><td>{text(value) or MISSING}</td></tr>'
        for name, value in configurations[0].items()
        if name not in varying
    )


def notes_html(runs: Runs) -> str:
    """What jobs say a reader of their numbers must know; empty if there is nothing."""
    items = "".join(
        f"<li>{text(row['note'])} <span class='quiet'>{_count(len(row['jobs']), 'run')}:"
        f" {text(', '.join(row['jobs'][:5]))}{' and others' if len(row['jobs']) > 5 else ''}</span></li>"
        for _, row in note_table(runs).iterrows()
    )
    if not items:
        return ""
    return f'<details><summary>Notes that the runs carry</summary><ul class="notes">{items}</ul></details>'


def left_out_html(items: Sequence[LeftOut]) -> str:
    """Cards of the jobs that failed, and a list of those without a result."""
    failed = "".join(_card(item) for item in items if item.card)
    others = "".join(
        f'<tr><th scope="row">{text(item.name)}</th><td>{text(item.reason)}</td></tr>'
        for item in items
        if not item.card
    )
    if not failed and not others:
        return '<p class="quiet">Nothing failed, and nothing was left out.</p>'
    table = (
        '<h3>Left out</h3><div class="scroll" role="region" tabindex="0" aria-label="Jobs left out"><table>'
        '<thead><tr><th scope="col">job</th><th scope="col">reason</th></tr></thead>'
        f"<tbody>{others}</tbody></table></div>"
    )
    return (f'<h3>Failed</h3><div class="cards">{failed}</div>' if failed else "") + (table if others else "")


def _card(item: LeftOut) -> str:
    card = item.card
    assert card is not None
    trace = f"<details><summary>Trace</summary><pre tabindex='0'>{html.escape(card.trace)}</pre></details>"
    return (
        f'<article class="card failed"><h4>{text(item.name)}</h4><dl>'
        f"<dt>stage</dt><dd>{text(card.stage)}, step {text(card.step)}</dd>"
        f"<dt>cause</dt><dd>{text(card.cause)}</dd><dt>advice</dt><dd>{text(card.advice)}</dd></dl>"
        f'<div class="command"><code>{html.escape(card.command)}</code>'
        f'<button type="button" class="copy">Copy<span class="away"> the command that retries {text(item.name)}</span>'
        f"</button></div>{trace if card.trace else ''}</article>"
    )


def _count(number_of: int, noun: str) -> str:
    return f"{number_of} {noun}{'' if number_of == 1 else 's'}"


def summary(runs: Runs, folders: Sequence[str]) -> str:
    """The line below the title."""
    failed = sum(item.card is not None for item in runs.left_out)
    others = len(runs.left_out) - failed
    parts = [f"{_count(len(runs.finished), 'run')} from {_count(len(folders), 'folder')}: {', '.join(folders)}"]
    parts += [f"{failed} failed"] if failed else []
    parts += [f"{others} left out"] if others else []
    return text(" · ".join(parts))


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with every {{name}} replaced, once: what is put in is not searched again."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], template)


def embedded(data: Any) -> str:
    """JSON that may stand inside a script element, whatever its strings hold."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _script_hash(script: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() + "'"


def render(tables: Tables, folders: Sequence[str], places: int) -> str:
    """The page."""
    assets = {path.stem: path.read_text("utf-8") for path in (ASSETS / "style.css", ASSETS / "report.js")}
    script, plotly = assets["report"], get_plotlyjs()
    values = {
        "script_hashes": f"{_script_hash(plotly)} {_script_hash(script)}",
        "style": assets["style"],
        "summary": summary(tables.runs, folders),
        "runs": run_rows(tables),
        "settings": setting_rows(tables.settings),
        "common": common_rows(tables.configurations),
        "notes": notes_html(tables.runs),
        "left_out": left_out_html(tables.runs.left_out),
        "baseline": baselines(tables.runs),
        "data": embedded(page_data(tables, places)),
        "plotly": plotly,
        "script": script,
    }
    return fill((ASSETS / "template.html").read_text("utf-8"), values)


def build(folders: Sequence[str], places: int = 2) -> str:
    """The report of the runs below some folders. Raises UserError if one is missing or none has a result."""
    for folder in folders:
        if not Path(folder).is_dir():
            raise UserError(f"{folder} is not a folder; give folders that run.py wrote, such as runs/")
    return render(make_tables(load_runs(folders)), folders, places)


def main() -> int:
    """Write the report of the runs given."""
    parser = argparse.ArgumentParser(description="An HTML report of a folder of runs")
    parser.add_argument("runs", nargs="+", help="folders below which run.py wrote its jobs")
    parser.add_argument("--out", default="report.html", help="the file to write (default: report.html)")
    parser.add_argument("--places", type=int, default=2, help="places of each run whose crops go in (default: 2)")
    arguments = parser.parse_args()
    try:
        page = build(arguments.runs, arguments.places).encode("utf-8", "replace")
        out = Path(arguments.out)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(page)
    except UserError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: cannot write {arguments.out}: {error.strerror}", file=sys.stderr)
        return 2
    print(f"{out} ({len(page) / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
