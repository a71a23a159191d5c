"""What is on disk of a job at any moment at which it may be killed."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from vsrprune.errors import UserError
from vsrprune.host.failures import CARD, FailureCard, JobState, card_of_error, read_state


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


@pytest.mark.parametrize(
    ("number", "cause", "advice"),
    [
        (errno.ENOSPC, "the disk is full while writing store/x", "free some space"),
        (errno.EDQUOT, "your disk quota is used up while writing store/x", "ask for a larger quota"),
        (errno.EACCES, "no permission for store/x", "folders to write into are chosen by store_dir=..."),
        (errno.EROFS, "no permission for store/x", "folders to write into are chosen by store_dir=..."),
    ],
)
def test_the_advice_of_a_card_is_that_of_the_cause(tmp_path: Path, number: int, cause: str, advice: str) -> None:
    card = card_of_error(OSError(number, os.strerror(number), "store/x"), tmp_path, "python src/run.py")
    assert card.cause == cause
    assert card.advice.startswith(advice) or advice in card.advice
    assert ("space" in card.advice) == (number == errno.ENOSPC)


def test_a_damaged_card_is_named(tmp_path: Path) -> None:
    card = FailureCard("pretrain", 10, "the loss is not finite", "lower it", "python src/run.py")
    card.save(tmp_path)
    assert FailureCard.load(tmp_path) == card
    path = tmp_path / CARD
    path.write_text(path.read_text().replace("10", "11"))
    with pytest.raises(UserError, match=r"failure\.json is damaged \(it fails its checksum\)"):
        FailureCard.load(tmp_path)
