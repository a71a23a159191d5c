"""Where a command of analysis writes, looked at before it reads: reading many runs takes a while."""

from __future__ import annotations

import os
from pathlib import Path

from vsrprune.errors import UserError


def folder_for(out: str | Path) -> Path:
    """The folder that --out names, which need not be there yet. Raises UserError where none can be made."""
    folder = Path(out)
    above = next(path for path in (folder, *folder.absolute().parents) if path.exists() or path.is_symlink())
    if not above.is_dir():
        raise UserError(f"--out={out}: {above} is a file where a folder is needed; name another folder")
    if not os.access(above, os.W_OK):
        raise UserError(f"--out={out}: no permission to write into {above}; name another folder")
    return folder


def file_for(out: str | Path) -> Path:
    """The file that --out names, whose folder need not be there yet. Raises UserError where it cannot be written."""
    if Path(out).is_dir():
        raise UserError(f"cannot write {out}: it is a folder; name a file in it")
    try:
        folder_for(Path(out).parent)
    except UserError as error:
        raise UserError(f"cannot write {out}: {error}") from error
    return Path(out)
