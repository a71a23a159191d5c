"""Names of settings and data sets as text of LaTeX, CSV and Markdown: they come from files and may hold anything."""

from __future__ import annotations

MISSING = "\N{EN DASH}"  # a number that is not known or does not apply, in Markdown and LaTeX; CSV has nothing there

LATEX = {
    **{letter: rf"\{letter}" for letter in "_%&#${}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "\N{DAGGER}": r"$\dagger$",
    "\N{EN DASH}": "--",
}
FORMULAS = ("=", "+", "-", "@")  # what a cell begins with that spreadsheets compute


def for_latex(text: str) -> str:
    """Text that LaTeX prints as it is, on one line: in a comment, a second line would be no comment."""
    return "".join(LATEX.get(letter, letter) for letter in _one_line(text))


def for_csv(text: str) -> str:
    """Text that no spreadsheet takes for a formula: an apostrophe goes before it."""
    line = _one_line(text)
    return f"'{line}" if line.lstrip().startswith(FORMULAS) else line


def for_markdown(text: str) -> str:
    """Text of one cell of GitHub's tables, without marks, links and HTML of its own."""
    return "".join(f"\\{letter}" if letter in "\\`*|<>[]" else letter for letter in _one_line(text))


def _one_line(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)
