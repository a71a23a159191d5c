"""Where a command of analysis reads and writes, looked at before it reads: reading many runs takes a while."""

from __future__ import annotations

import os
from pathlib import Path

from vsrprune.errors import UserError
from vsrprune.store.atomic import check_makeable


def check_runs(folder: str | Path) -> Path:
    """A folder of runs by its own name: of a link, such as runs/latest, what it leads to.

    Raises UserError where there is no such folder.
    """
    path = Path(folder)
    if not path.is_dir():
        raise UserError(f"there is no folder {folder}; give folders that run.py wrote, such as runs/")
    # One step by hand, so that a path stays as short as it was typed.
    return Path(os.path.normpath(path.parent / os.readlink(path))) if path.is_symlink() else path


def folder_for(out: str | Path) -> Path:
    """The folder that --out names, which need not be there yet. Raises UserError where none can be made."""
    folder = Path(out)
    check_makeable("--out", folder)
    if folder.exists() and not os.access(folder, os.W_OK):
        raise UserError(f"--out={out}: no permission to write into it; name another folder")
    return folder


def file_for(out: str | Path) -> Path:
    """The file that --out names. Raises UserError where it cannot be written."""
    file = Path(out)
    if file.is_dir():
        raise UserError(f"cannot write {out}: it is a folder; name a file in it")
    if not file.parent.is_dir():
        wrong = "is a file where a folder is needed" if file.parent.exists() else "is no folder that is there"
        raise UserError(f"cannot write {out}: {file.parent} {wrong}; make it, or name another file")
    if not os.access(file.parent, os.W_OK):
        raise UserError(f"cannot write {out}: no permission to write into {file.parent}; name another file")
    return file
