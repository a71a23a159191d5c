"""The commands by name, the scripts that they are, and how messages name them: as the user typed them.

Every command is a script of its own, `python src/run.py`. Who installs the package has no such file at hand, so the
wheel carries the scripts and what they read in `vsrprune/checkout`, and the command `vsrprune` runs them from there.
Text in the code names the scripts; what is printed goes through `typed`.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

CARRIED = Path(__file__).parent / "checkout"  # in an installed package, by setup.py; there is none in a checkout
IS_CARRIED = CARRIED.is_dir()
ROOT = CARRIED if IS_CARRIED else Path(__file__).parents[2]
CONF, SWEEPS = ROOT / "conf", ROOT / "sweeps"
# A variable, since it reaches what the command starts: jobs of a sweep, on any machine, and the ranks of a training.
TYPED = "VSRPRUNE_TYPED"
SCRIPTS = {
    "run": "src/run.py",
    "search": "sweeps/search_ratios.py",
    "upscale": "src/upscale.py",
    "export": "src/export.py",
    "evaluate": "src/evaluate.py",
    "page": "src/page.py",
    "figures": "analysis/figures.py",
    "tables": "analysis/tables.py",
    "report": "analysis/report.py",
    "diff": "analysis/diff.py",
    "keep": "analysis/keep.py",
    "watch": "analysis/watch.py",
    "search-figures": "analysis/search_figures.py",
    "dashboard": "analysis/wandb_dashboard.py",
}
_NAMES = {Path(script).name: name for name, script in SCRIPTS.items()}
_FILES = "|".join(map(re.escape, _NAMES))
# A sweep of the project, or any script, with its folder or without; not the end of a longer path.
_SPELLED = re.compile(
    r"(?<![\w./=-])"
    r"(?:(?P<sweep>python src/run\.py -cd sweeps -cn)\b"
    rf"|(?:python )?(?:(?:src|sweeps|analysis)/)?(?P<file>{_FILES})\b(?!:))"
)
_COLUMN = re.compile(r"\S {2,}(?=\S)")


def typed(text: str) -> str:
    """`text` with the scripts' names as the user typed them; columns to the right of them stay where they are."""
    command = os.environ.get(TYPED)
    if not command:
        return text
    return "\n".join(_typed_line(line, command) for line in text.split("\n"))


def _typed_line(line: str, command: str) -> str:
    def name(spelled: re.Match[str]) -> str:
        return f"{command} sweep" if spelled["sweep"] else f"{command} {_NAMES[spelled['file']]}"

    changed = _SPELLED.sub(name, line)
    saved = len(line) - len(changed)
    first = _SPELLED.search(line)
    gap = _COLUMN.search(changed, first.start()) if first and saved > 0 else None
    return changed if gap is None else f"{changed[: gap.end()]}{' ' * saved}{changed[gap.end() :]}"


def typed_command(script: str) -> str:
    """Such as `vsrprune run` for the path of a script; empty where the scripts themselves were typed."""
    command, name = os.environ.get(TYPED), _NAMES.get(Path(script).name)
    return f"{command} {name}" if command and name else ""


def end_unread() -> NoReturn:
    """End quietly, since the reader of the output, such as `head`, has what it wants."""
    # Python would complain again as it ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(128 + signal.SIGPIPE)


class CommandParser(argparse.ArgumentParser):
    """argparse's, whose pages name the commands as the user typed them."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(prog=typed_command(sys.argv[0]) or None, **settings)

    def format_help(self) -> str:
        """The page of `--help`."""
        return typed(super().format_help())
