"""Locks between processes (flock) that nobody else can hold, and a word on whom one waits for."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from vsrprune.errors import UserError

SAID_AFTER = 30.0  # seconds of waiting
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


def private_folder(path: Path) -> Path:
    """A folder that nobody but this user can enter, made if it is not there.

    Raises UserError for what somebody else has put in its place.
    """
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "no folder"
        raise UserError(
            f"{path} must be a folder of yours that nobody else can enter; it is {kind} of user {found.st_uid}, mode"
            f" {stat.S_IMODE(found.st_mode):03o}: remove it, chmod 700 it if it is yours, or set TMPDIR to a folder of"
            " your own"
        )
    return path


@contextlib.contextmanager
def opened(path: Path, mode: int = 0o600) -> Iterator[int]:
    """A descriptor of a file to lock, which is made if it is not there; no link is followed.

    Whoever can open a file can lock it for ever: of a file of one's own the mode is brought to `mode`.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise UserError(f"{path} is a link where a file of locks is needed; remove it") from None
    try:
        found = os.fstat(handle)
        if found.st_uid == os.getuid() and stat.S_IMODE(found.st_mode) != mode:
            with contextlib.suppress(OSError):  # a file system without modes
                os.fchmod(handle, mode)
        yield handle
    finally:
        os.close(handle)


def try_lock(handle: int, kind: int, path: Path) -> bool:
    """Take the lock of an open file if nobody stands against it. Raises UserError where there are no locks."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise _without_locks(error, path) from error
    return True


def wait_for_lock(handle: int, kind: int, path: Path, without: str) -> None:
    """Take the lock of an open file; after SAID_AFTER seconds stderr names those who hold it.

    without: what a user can do who does not want to wait. Raises UserError where there are no locks.
    """
    if try_lock(handle, kind, path):
        return

    def say() -> None:
        whom = ", ".join(holders(handle)) or "another process"
        print(f"waits for {whom} since {SAID_AFTER:.0f} s, by the lock {path}; {without}", file=sys.stderr, flush=True)

    # The kernel hands the lock over at once and in turn, which looking again and again would not.
    reminder = threading.Timer(SAID_AFTER, say)
    reminder.daemon = True
    reminder.start()
    try:
        fcntl.flock(handle, kind)
    finally:
        reminder.cancel()
        reminder.join()  # it looks at the file, which the caller closes


def holders(handle: int) -> list[str]:
    """Processes that hold a lock of an open file, with their commands; empty where the system does not tell."""
    inode = str(os.fstat(handle).st_ino)
    found = set()
    with contextlib.suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            # proc(5): number, kind, ADVISORY, READ or WRITE, process, major:minor:inode; "->" where one waits
            words = line.split()
            if words[1] == "FLOCK" and words[5].rpartition(":")[2] == inode:
                found.add(int(words[4]))
    return [_shown(number) for number in sorted(found)]


def _shown(number: int) -> str:
    try:
        folder = Path(f"/proc/{number}")
        command = " ".join(folder.joinpath("cmdline").read_bytes().decode(errors="replace").split("\0")).strip()[:100]
        # The name in parentheses may hold spaces: the state is the first field after the last of them.
        state = folder.joinpath("stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return f"process {number}"
    stopped = f", which is stopped: kill -CONT {number} lets it go on" if state in "Tt" else ""
    return f"process {number} ({command}{stopped})"


def _without_locks(error: OSError, path: Path) -> Exception:
    if error.errno not in NO_LOCKS:
        return error
    mount = path.resolve()
    while not mount.is_mount():
        mount = mount.parent
    return UserError(
        f"{path}: the file system mounted at {mount} has no locks ({error.strerror}); mount it with locks (NFS: its"
        " lock service; Lustre: -o flock), or name a folder on another: store_dir=..., for the machine's locks TMPDIR"
    )
