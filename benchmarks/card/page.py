"""The results of the check as a Markdown page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CELL = 400  # characters


def markdown(results: Mapping[str, Any]) -> str:
    """One table per section, one row per finding; rows within rows are named by their path."""
    lines = ["# GPU check", ""]
    for name, found in results.items():
        lines += [f"## {name}", "", "| what | found |", "|---|---|"]
        for key, value in found.items():
            lines += _rows(key, value)
        lines.append("")
    return "\n".join(lines)


def _rows(key: str, value: Any) -> list[str]:
    if isinstance(value, dict) and value and all(isinstance(item, dict) for item in value.values()):
        return [row for name, item in value.items() for row in _rows(f"{key}: {name}", item)]
    return [f"| {key} | {_cell(value)} |"]


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key} {_cell(item)}" for key, item in value.items() if item not in ("", None))
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(map(_cell, value))[:CELL]
    return str(value).replace("\n", " / ").replace("|", "\\|")[:CELL]
