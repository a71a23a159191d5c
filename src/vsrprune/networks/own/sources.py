"""The source of a network of one's own: which files it is, what they hold, and how they are imported. Without torch.

A file counts together with the modules that it imports from its own folder, and those that they import. They are found
by reading import statements; what is imported by other means does not count.
"""

from __future__ import annotations

import ast
import hashlib
import os
import shutil
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

from vsrprune.errors import UserError

PREFIX = "vsrprune.networks.own.from_"
VARIABLE = "VSRPRUNE_OWN_"  # environment variable that says, by its content, where a source lies


@dataclass(frozen=True)
class Source:
    """A file and the modules beside it that it imports: all that a network's code is.

    beside: their paths relative to the file's folder, sorted. content: a hash of all of it, as 16 hex digits.
    """

    file: Path
    beside: tuple[Path, ...]
    content: str

    @property
    def folder(self) -> Path:
        """The folder of the file, in which the other modules are looked for."""
        return self.file.parent

    def copy_to(self, folder: Path) -> None:
        """Copy all of it into a folder."""
        for path in (Path(self.file.name), *self.beside):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.folder / path, folder / path)


def read_source(file: Path) -> Source:
    """The source of a file. Raises UserError if it is not there, or holds no Python; nothing is run."""
    file = file.expanduser().absolute()
    if not file.is_file():
        raise UserError(f"{file}: there is no such file")
    found: dict[Path, bytes] = {}
    waiting = [Path(file.name)]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found[path] = (file.parent / path).read_bytes()
        waiting += _imported(found[path], file.parent, path)
    digest = hashlib.sha256(found[Path(file.name)])
    beside = tuple(sorted(path for path in found if path != Path(file.name)))
    for path in beside:
        # Zero bytes keep names and contents apart, so that moving a line from one file to the next is another source.
        digest.update(f"\0{path.as_posix()}\0".encode() + found[path])
    return Source(file, beside, digest.hexdigest()[:16])


def _imported(content: bytes, folder: Path, path: Path) -> Iterator[Path]:
    """The files in `folder` that a module there imports."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError) as error:
        place = f"{folder / path}, line {getattr(error, 'lineno', None) or 1}"
        raise UserError(f"{place}: this is no Python: {getattr(error, 'msg', error)}") from error
    package = path.parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files(folder, alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = [*above, *(node.module.split(".") if node.module else ())]
            yield from _files(folder, module)
            for alias in node.names:
                yield from _files(folder, [*module, alias.name])


def _files(folder: Path, module: Sequence[str]) -> Iterator[Path]:
    """The files of a module in `folder`: its own, and those of the packages that it stands in."""
    for depth in range(1, len(module) + 1):
        stem = Path(*module[:depth])
        for path in (stem.with_name(f"{stem.name}.py"), stem / "__init__.py"):
            if (folder / path).is_file():
                yield path


def import_source(source: Source) -> ModuleType:
    """The module of a source, imported once however many copies of it lie about.

    Modules beside it are found as if the file were run as a script: its folder goes to the front of `sys.path`. Those
    of the same names that another source has imported are imported anew. Raises what the code raises.
    """
    # Named by its content: two copies are one module, and a changed file is another.
    name = PREFIX + source.content
    if name in sys.modules:
        return sys.modules[name]
    tops = {path.parts[0].removesuffix(".py") for path in source.beside}
    for module in [module for module in sys.modules if module.split(".")[0] in tops and _is_from_a_source(module)]:
        del sys.modules[module]
    sys.path[:] = [str(source.folder), *(path for path in sys.path if path != str(source.folder))]
    os.environ[VARIABLE + source.content] = str(source.file)  # processes that this one starts inherit it
    try:
        return import_module(name)
    finally:
        # To the end: what the network imports later is still found, and nothing else is found there first.
        sys.path[:] = [*(path for path in sys.path if path != str(source.folder)), str(source.folder)]


def failure(error: BaseException, source: Source) -> str:
    """Where in a source an error arose, and which, in one line."""
    own = {str(source.folder / path) for path in (Path(source.file.name), *source.beside)}
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in own]
    place = f"in {lines[-1].filename}, line {lines[-1].lineno}: " if lines else ""
    return f"{place}{type(error).__name__}: {' '.join(str(error).split())}"


def _is_from_a_source(module: str) -> bool:
    """Whether a module lies beside some source that was imported here."""
    file = getattr(sys.modules[module], "__file__", None)
    folders = [Path(value).parent for name, value in os.environ.items() if name.startswith(VARIABLE)]
    return file is not None and any(Path(file).is_relative_to(folder) for folder in folders)


class _Finder:
    """Finds the module of a source by its name alone, where the environment says which file it is."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        file = os.environ.get(VARIABLE + name.removeprefix(PREFIX)) if name.startswith(PREFIX) else None
        if file is None:
            return None
        # As a package, so that `from .blocks import Block` finds what lies beside the file.
        return spec_from_file_location(name, file, submodule_search_locations=[str(Path(file).parent)])


def install() -> None:
    """Let Python find the modules of sources."""
    if _Finder not in sys.meta_path:
        sys.meta_path.append(_Finder)
