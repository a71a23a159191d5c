"""The pages that users read: README.md, CONTRIBUTING.md and docs/, their blocks of code and the commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


class Block(NamedTuple):
    """A fenced block: the page, the language that it states, its text."""

    page: Path
    language: str
    text: str


class Shown(NamedTuple):
    """A command as a page shows it, in words."""

    page: Path
    words: list[str]


def blocks(page: Path) -> Iterator[Block]:
    for language, text in re.findall(r"^ *```(\w*)\n(.*?)^ *```$", page.read_text(), flags=re.DOTALL | re.MULTILINE):
        yield Block(page, language, text)


def shown_commands() -> Iterator[Shown]:
    """Every command of every block in bash, without comments and the place of its Python."""
    for page in PAGES:
        for block in blocks(page):
            if block.language == "bash":
                for line in block.text.replace("\\\n", " ").splitlines():
                    words = shlex.split(line, comments=True)
                    if words:
                        yield Shown(page, [words[0].removeprefix(".venv/bin/"), *words[1:]])
