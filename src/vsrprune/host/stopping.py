"""Stopping jobs on machines that share nothing but the store: an object there asks them to."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

from vsrprune.errors import UserError
from vsrprune.store.bucket import Bucket

STOP_AT = "VSRPRUNE_STOP_AT"  # the variable: a store, and the sweep whose object asks for it
LOOK_SECONDS = 15.0


def stop_all(store: str, sweep: str) -> None:
    """Ask all jobs of a sweep to write a checkpoint and leave. Raises UserError where the storage does not answer."""
    Bucket(store, lambda text: None).write(_object(sweep), b"")


@contextlib.contextmanager
def stopping_when_asked() -> Iterator[None]:
    """Send this process SIGTERM once its sweep asks all its jobs to stop; nothing without such a sweep."""
    asked = os.environ.get(STOP_AT)
    if not asked:
        yield
        return
    store, _, sweep = asked.rpartition(" ")
    bucket, ended = Bucket(store, lambda text: None), threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_SECONDS):
            with contextlib.suppress(UserError, OSError):  # the work goes on; the next look may tell
                if bucket.read(_object(sweep)) is not None:
                    os.kill(os.getpid(), signal.SIGTERM)
                    return

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()


def _object(sweep: str) -> str:
    return f"stops/{sweep}"
