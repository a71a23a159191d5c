"""What is done again and again in a thread of its own, while something else is under way."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Repeated:
    """Calls a function every so many seconds, first after the first of them, until it returns False or is ended."""

    def __init__(self, seconds: float, call: Callable[[], object]) -> None:
        self._seconds, self._call = seconds, call
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self) -> None:
        """End, after the call that is under way."""
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(self._seconds):
            if self._call() is False:
                return
