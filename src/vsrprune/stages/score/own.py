"""A score of the user's own, FILE.py:FUNCTION, without torch: its file is read, and nothing of it is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vsrprune.errors import UserError
from vsrprune.networks.own.sources import Source, read_source


@dataclass(frozen=True)
class OwnScore:
    """A function in a file; asked: the knob's value, for messages."""

    asked: str
    source: Source
    function: str

    @property
    def identity(self) -> str:
        """The content of the file, and of what it imports from its folder, and the function's name."""
        return f"{self.source.content}:{self.function}"

    def check_unchanged(self, identity: str) -> None:
        """Raise UserError if the file holds something else than when the job was planned."""
        if self.identity != identity:
            raise UserError(f"score={self.asked}: the file changed since the job was planned; run the command again")


def own_score(score: str) -> OwnScore:
    """The function that FILE.py:FUNCTION names. Raises UserError, one line, where there is none."""
    file, _, function = score.rpartition(":")
    try:
        source = read_source(Path(file))
    except UserError as error:
        raise UserError(f"score={score}: {error}") from error
    names = list(_names(ast.parse(source.file.read_bytes())))
    if function not in names:
        raise UserError(f"score={score}: there is no {function} in it; there are {', '.join(names) or 'no functions'}")
    return OwnScore(score, source, function)


def _names(module: ast.Module) -> Iterator[str]:
    """The names that a module defines or imports at its top, where functions may be among them."""
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)
