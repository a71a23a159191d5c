"""What writers that were killed leave beside their files is removed by the next run, and by `store.action=clean`."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from vsrprune.config.job import Config
from vsrprune.jobs import runner
from vsrprune.jobs.collect import Collected
from vsrprune.jobs.housekeeping import clean_store
from vsrprune.jobs.planning import plan_job
from vsrprune.results.result import CROP_PLACES, METRICS, RESULT
from vsrprune.search import bench
from vsrprune.store import atomic
from vsrprune.store.store import Store


def kill_a_writer(file: Path) -> Path:
    """What is left when a process is killed right before its file is on the disk, and then lies for a day."""
    file.parent.mkdir(parents=True, exist_ok=True)
    before = set(file.parent.iterdir())
    child = os.fork()
    if not child:
        atomic.os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment, attr-defined]
        atomic.write_json(file, {"half": "made"})
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    (left,) = set(file.parent.iterdir()) - before
    os.utime(left, (0, 0))
    return left


def test_the_next_run_of_a_job_removes_what_a_killed_one_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "runs" / "job"
    left = [kill_a_writer(folder / name) for name in (RESULT, METRICS, f"crops/{CROP_PLACES}")]
    monkeypatch.setattr(runner, "needs_no_process", lambda *given: True)  # a finished job
    monkeypatch.setattr(runner, "collect", lambda *given: Collected("the result"))
    job = plan_job(Config(store_dir=str(tmp_path / "store")))
    assert runner.run_job(job, folder, print) == "the result"
    assert not [path for path in left if path.exists()]


def test_the_next_search_removes_what_a_killed_one_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [kill_a_writer(tmp_path / name) for name in ("search.json", "plan.yaml", "plans/00.yaml")]
    monkeypatch.setattr(bench, "run_job", lambda *given: None)
    monkeypatch.setattr(bench, "replace", lambda value, **changes: value)
    job: Any = SimpleNamespace(config=SimpleNamespace(tracking=None))
    search: Any = SimpleNamespace(folder=tmp_path, job=job, base=SimpleNamespace(tracking=None), say=print)
    bench.make_dense(search)
    assert not [path for path in left if path.exists()]


def test_clean_removes_what_was_left_in_the_store_too(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", print)
    left = [kill_a_writer(store.root / name) for name in ("hashes.json", "networks/0123456789abcdef.json")]
    left.append(kill_a_writer(tmp_path / "runs" / "job" / RESULT))
    (tmp_path / "runs" / "job" / RESULT).write_text('{"stages": {"pretrain": "0123456789abcdef"}}')
    clean_store(store, tmp_path / "runs", True, Console())
    assert not [path for path in left if path.exists()]
