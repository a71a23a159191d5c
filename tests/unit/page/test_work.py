"""One comparison at a time: refused, cancelled, failed, and what is left of it."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from typing import Any, cast

import pytest

from vsrprune.errors import UserError
from vsrprune.page.work import Worker
from vsrprune.use.beside import Beside, BesideRequest, Report


def request(folder: Path) -> BesideRequest:
    return BesideRequest(Path("clip"), Path("job"), Path("store"), folder)


def ended(worker: Worker) -> Any:
    assert worker._thread is not None
    worker._thread.join()
    assert worker.run is not None
    return worker.run


def test_a_second_comparison_is_refused_until_the_first_is_cancelled(tmp_path: Path) -> None:
    reached = Event()

    def compare(asked: BesideRequest, report: Report) -> Beside:
        (asked.folder / "picture.png").touch()
        while True:
            report("working", 1, 2)
            reached.set()

    worker = Worker(tmp_path, compare)
    worker.start("job", "clip", request)
    reached.wait()
    with pytest.raises(UserError, match="another comparison is running"):
        worker.start("job", "clip", request)
    assert worker.run is not None
    assert (worker.run.state, worker.run.stage, worker.run.done, worker.run.total) == ("running", "working", 1, 2)
    worker.cancel()
    assert ended(worker).state == "cancelled"
    assert list(tmp_path.iterdir()) == []
    worker.start("job", "clip", request)
    worker.close()
    assert worker.run.state == "cancelled"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UserError("clip.mp4: cannot\nbe read"), "clip.mp4: cannot be read"),
        (RuntimeError("CUDA out of memory. Tried\nmore"), "out of memory: CUDA out of memory. Tried; take a clip of"),
        (OSError(28, "No space left on device", "a.png"), "a.png: No space left on device"),
        (ZeroDivisionError("division by zero"), "this is a defect, and the terminal shows where: division by zero"),
    ],
)
def test_an_error_is_one_line_and_the_worker_goes_on(
    error: Exception, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def compare(asked: BesideRequest, report: Report) -> Beside:
        raise error

    worker = Worker(tmp_path, compare)
    worker.start("job", "clip", request)
    assert ended(worker).state == "failed"
    assert ended(worker).error.startswith(words)
    assert "\n" not in ended(worker).error
    assert ("Traceback" in capsys.readouterr().err) == isinstance(error, ZeroDivisionError)
    worker.start("job", "clip", request)
    worker.close()


def test_the_next_comparison_removes_what_the_last_one_made(tmp_path: Path) -> None:
    def compare(asked: BesideRequest, report: Report) -> Beside:
        (asked.folder / "picture.png").touch()
        return cast("Beside", None)

    worker = Worker(tmp_path, compare)
    first = worker.start("job", "clip", request)
    ended(worker)
    assert (tmp_path / first.name / "picture.png").is_file()
    second = worker.start("job", "clip", request)
    assert ended(worker).state == "done"
    assert [folder.name for folder in tmp_path.iterdir()] == [second.name]
