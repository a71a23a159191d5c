"""The report's tables and cards as HTML. Everything that comes from files passes through `text`."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.naming import truth_caveats
from analysis.report_data import Measure, RunColumn, differing, note_table
from analysis.runs import LeftOut, Runs, time_caveats
from vsrprune.host.failures import retry_line

MISSING = "\N{EN DASH}"


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


def table_heading(items: Sequence[RunColumn]) -> str:
    """The head of the table of settings, whose body the script makes."""
    against = '<th scope="col" title="The best within the budget, and what is within noise of it">against the best</th>'
    cells = [_heading("setting", "setting", "", ""), against]
    for item in items:
        unit = item.measure.unit if item.measure else ""
        cells.append(_heading(item.name, item.label, unit, "num" if item.measure else ""))
    return (
        '<thead><tr><th scope="col" class="pick"><span class="badge a">A</span></th>'
        f'<th scope="col" class="pick"><span class="badge b">B</span></th>{"".join(cells)}</tr></thead>'
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


def time_html(runs: Runs) -> str:
    """What no truth was seen of, and why what is said of time may mean little; empty if there is no reason."""
    return "".join(f"<p>Note: {text(caveat)}.</p>" for caveat in (*truth_caveats(runs), *time_caveats(runs)))


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
        # Focusable, so that a table that is wider than the page can be scrolled by keyboard.
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
        f"<dt>cause</dt><dd>{text(card.cause)}</dd><dt>advice</dt><dd>{text(card.advice)}</dd>"
        f"<dt>retry</dt><dd>{text(retry_line(item.folder.absolute()))}</dd></dl>"
        f'<div class="command"><code>{html.escape(card.command)}</code>'
        f'<button type="button" class="copy">Copy<span class="away"> the command that retries {text(item.name)}</span>'
        f"</button></div>{trace if card.trace else ''}</article>"
    )


def _count(number_of: int, noun: str) -> str:
    return f"{number_of} {noun}{'' if number_of == 1 else 's'}"


def summary_line(runs: Runs, folders: Sequence[str]) -> str:
    """The line below the title."""
    failed = sum(item.card is not None for item in runs.left_out)
    others = len(runs.left_out) - failed
    parts = [f"{_count(len(runs.finished), 'run')} from {_count(len(folders), 'folder')}: {', '.join(folders)}"]
    parts += [f"{failed} failed"] if failed else []
    parts += [f"{others} left out"] if others else []
    return text(" · ".join(parts))
