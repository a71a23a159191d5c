"""Files that are there whole or not at all, and one line for each error of the file system that a user can mend."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from vsrprune.errors import UserError

LEFT = re.compile(r"\..+-[0-9a-f]{32}")  # names that `write_atomically` gives to unfinished files
WRITING_S = 600  # a file that nobody has touched for so long is being written no more


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old content or the new one, never a part.

    A file that holds the text already is left as it is: a finished sweep that is called again waits for no disk.
    """
    if _holds(path, text.encode()):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.parent / f".{path.name}-{uuid.uuid4().hex}"  # not mkstemp: others may read what we write
    try:
        with beside.open("x", encoding="utf-8") as stream:
            stream.write(text)
            # The content must be on the disk before the name is: some file systems write the rename first, and a
            # power cut would leave an empty file under the final name.
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _holds(path: Path, content: bytes) -> bool:
    with contextlib.suppress(OSError):
        # A link is replaced by a file, as any other name; and a pipe would be waited for without end.
        status = path.lstat()
        return stat.S_ISREG(status.st_mode) and status.st_size == len(content) and path.read_bytes() == content
    return False


def left_by_writers(folder: Path) -> list[Path]:
    """What writers that were killed have left in a folder: files of `write_atomically` that nobody writes any more."""
    before = time.time() - WRITING_S
    return [
        path
        for path in sorted(folder.glob(".*"))
        if LEFT.fullmatch(path.name) and path.is_file() and not path.is_symlink() and path.lstat().st_mtime < before
    ]


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; NaN and infinity are refused."""
    write_atomically(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises FileNotFoundError, another OSError, or ValueError for what is no JSON.

    All JSON that may be damaged, or somebody else's, is read here.
    """
    return parse_json(read_regular(path))


def read_regular(path: Path) -> str:
    """The text of a file, in UTF-8; raises ValueError for what is none, and OSError."""
    # A named pipe would be waited for without end, and a device might never end.
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise ValueError("it is no regular file")
    return path.read_text(encoding="utf-8")


def parse_json(text: str) -> Any:
    """The value of a JSON text; raises ValueError for what is none."""
    try:
        return json.loads(text)
    except RecursionError:  # no ValueError, and so not expected by any reader
        raise ValueError("its brackets are nested too deep") from None


def check_makeable(knob: str, folder: Path) -> None:
    """Raise UserError where a folder is not there and none can be made; one that is there may be read-only.

    knob: what the user named the folder by, for the message.
    """
    above = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not above.is_dir():
        raise UserError(f"{knob}={folder}: {above} is a file where a folder is needed; name another folder")
    if above == folder:
        return
    try:
        # Tried, and not asked for by os.access: root may write everywhere, and yet no folder is made in /proc.
        Path(tempfile.mkdtemp(prefix=".", dir=above)).rmdir()
    except OSError as error:
        raise UserError(f"{knob}={folder}: no folder can be made in {above} ({error.strerror}); name another") from None


def explain_os_error(error: OSError) -> str | None:
    """One line for an error of a disk or a right that a user can mend; None for any other error."""
    mended = mend_os_error(error)
    return None if mended is None else "; ".join(mended)


def mend_os_error(error: OSError) -> tuple[str, str] | None:
    """What is the matter with a disk or a right, and what to change; None for any other error."""
    name = error.filename2 or error.filename  # filename2 is the target where a file is copied
    where = f" while writing {name}" if name else ""
    again = "run the same command again, finished stages are kept"
    if error.errno == errno.ENOSPC:
        return f"the disk is full{where}", f"free some space and {again}"
    if error.errno == errno.EDQUOT:
        return f"your disk quota is used up{where}", f"remove files of yours, or ask for a larger quota, and {again}"
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return f"{error.filename} is a file where a folder is needed", "look at store_dir and runs_dir"
    if error.errno == errno.EISDIR:
        return f"{name} is a folder where a file is needed", "move it away and run the same command again"
    if error.errno == errno.ENAMETOOLONG:
        return f"{name} is longer than names may be here", "choose a shorter one"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM) and error.filename:
        return (
            f"no permission for {error.filename}",
            "folders to write into are chosen by store_dir=... runs_dir=...; or ask its owner for the right to write",
        )
    return None


def write_cache(path: Path, text: str) -> None:
    """`write_atomically` for what may always be computed again: where it cannot be written, nothing is."""
    with contextlib.suppress(OSError):
        write_atomically(path, text)


def fsync(path: Path) -> None:
    """Wait until a file or the entries of a folder are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
