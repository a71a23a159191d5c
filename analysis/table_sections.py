"""The tables of several groups of runs below each other, in one format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from analysis.escaping import for_latex, for_markdown
from analysis.evidence import Evidence, evidence_csv, evidence_latex, evidence_markdown
from analysis.main_table import MainTable, main_csv, main_latex, main_markdown
from analysis.table_formats import Table, comma_separated, latex, markdown


@dataclass(frozen=True)
class GroupTables:
    """The tables of one group of runs that can be compared. name: of the group, empty where there is no other.

    whole: what is printed in place of `table`, if given.
    """

    name: str
    table: Table
    evidence: list[Evidence]
    whole: MainTable | None = None


def together(found: Sequence[GroupTables], ending: str) -> tuple[str, str]:
    """Both tables of all sections in one format, each below the name of its section."""
    if ending == "csv":
        return _lines_once([_first_csv(item) for item in found]), _lines_once(
            [evidence_csv(_named_evidence(item)) for item in found]
        )
    render_evidence = evidence_markdown if ending == "md" else evidence_latex
    heads = [_heading(item.name, ending) for item in found]
    tables = [head + _first(item, ending) for head, item in zip(heads, found, strict=True)]
    evidence = [head + render_evidence(item.evidence) for head, item in zip(heads, found, strict=True)]
    return "\n".join(tables), "\n".join(evidence)


def _first(item: GroupTables, ending: str) -> str:
    if item.whole:
        return main_markdown(item.whole) if ending == "md" else main_latex(item.whole)
    return markdown(item.table) if ending == "md" else latex(item.table)


def _first_csv(item: GroupTables) -> str:
    return main_csv(item.whole, item.name) if item.whole else comma_separated(_named(item))


def _heading(name: str, ending: str) -> str:
    if not name:
        return ""
    return f"## {for_markdown(name)}\n\n" if ending == "md" else f"% {for_latex(name)}\n"


def _lines_once(texts: Sequence[str]) -> str:
    """Tables of the same columns as one: the headings stand there once."""
    return texts[0] + "".join(text.partition("\n")[2] for text in texts[1:])


def _named(item: GroupTables) -> Table:
    """The table with the section before the names of its groups of rows."""
    rows = [(_joined(item.name, group), name, cells) for group, name, cells in item.table.rows]
    return replace(item.table, rows=rows)


def _named_evidence(item: GroupTables) -> list[Evidence]:
    return [replace(row, group=_joined(item.name, row.group)) for row in item.evidence]


def _joined(section: str, group: str) -> str:
    return "; ".join(name for name in (section, group) if name)
