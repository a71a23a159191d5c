"""What is on disk of a job at any moment at which it may be killed."""

from __future__ import annotations

import threading
from pathlib import Path

from vsrprune.host.failures import JobState, read_state


def test_a_state_is_never_seen_half_written(tmp_path: Path) -> None:
    state = JobState(tmp_path)
    state.stage("pretrain")
    seen: set[str] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.add(read_state(tmp_path)[0])

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(2000):
        state.stage("pretrain")
    done.set()
    watcher.join()
    assert seen == {"pretrain"}
