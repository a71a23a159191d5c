from __future__ import annotations

import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from benchmarks.gpu_evidence import ROOT, newest_step, pack, run_for, unpack

STOPPABLE = """
import pathlib, signal, sys, time
def stop(number, frame):
    pathlib.Path(sys.argv[1] + "/checkpoint").touch()
    sys.exit(128 + number)
signal.signal(signal.SIGTERM, stop)
pathlib.Path(sys.argv[1] + "/begun").touch()
time.sleep(60)
"""


def test_an_archive_holds_the_newest_checkpoint_and_no_decoded_clips(tmp_path: Path) -> None:
    folder = tmp_path / "store" / "unfinished" / "pretrain-1" / "token"
    folder.mkdir(parents=True)
    for name in ("step-900.ckpt", "step-900.sha256", "step-1000.ckpt", "step-1000.sha256"):
        (folder / name).write_text(name)
    (tmp_path / "store" / "cache").mkdir()
    (tmp_path / "store" / "cache" / "clip.npy").write_text("frames")
    pack(tmp_path / "store", tmp_path / "store.tar")
    with tarfile.open(tmp_path / "store.tar") as archive:
        assert [Path(name).name for name in archive.getnames()] == ["step-1000.ckpt", "step-1000.sha256"]


def checkpoint(store: Path, stage: str, step: int) -> None:
    folder = store / "unfinished" / f"{stage}-1" / "token"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"step-{step}.ckpt").touch()


def test_the_step_that_is_told_is_that_of_pretraining(tmp_path: Path) -> None:
    assert newest_step(tmp_path) == "no checkpoint yet"
    checkpoint(tmp_path, "flow", 2000)
    assert newest_step(tmp_path) == "a checkpoint at step 2000 of stage flow; pretraining has none yet"
    checkpoint(tmp_path, "pretrain", 900)
    checkpoint(tmp_path, "pretrain", 1000)
    assert newest_step(tmp_path) == "a checkpoint at step 1000 of pretraining"


def test_a_broken_archive_leaves_no_store(tmp_path: Path) -> None:
    checkpoint(tmp_path / "there", "pretrain", 10)
    (tmp_path / "there" / "weights").write_bytes(bytes(100_000))
    pack(tmp_path / "there", tmp_path / "whole.tar")
    (tmp_path / "cut.tar").write_bytes((tmp_path / "whole.tar").read_bytes()[:50_000])
    with pytest.raises((tarfile.TarError, EOFError)):
        unpack(tmp_path / "cut.tar", tmp_path / "here" / "store")
    assert list((tmp_path / "here").iterdir()) == []
    unpack(tmp_path / "whole.tar", tmp_path / "here" / "store")
    assert newest_step(tmp_path / "here" / "store") == "a checkpoint at step 10 of pretraining"
    assert [file.name for file in (tmp_path / "here").iterdir()] == ["store"]


def test_a_job_is_asked_to_stop_when_a_signal_is_noted(tmp_path: Path) -> None:
    class Noted(list[int]):
        """Empty until the job has begun."""

        def __bool__(self) -> bool:
            return (tmp_path / "begun").exists()

    code = run_for(60, [sys.executable, "-c", STOPPABLE, str(tmp_path)], Noted())
    assert code == 128 + signal.SIGTERM
    assert (tmp_path / "checkpoint").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_job_and_what_follows_is_still_done(tmp_path: Path, number: int) -> None:
    script = (
        "import sys; from benchmarks.gpu_evidence import run_for, signals_noted\n"
        "with signals_noted() as noted:\n"
        f"    code = run_for(60, [sys.executable, '-c', {STOPPABLE!r}, {str(tmp_path)!r}], noted)\n"
        "print(code, noted)"
    )
    asked = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    while not (tmp_path / "begun").exists() and asked.poll() is None:
        time.sleep(0.01)
    asked.send_signal(number)
    assert asked.communicate(timeout=60)[0].strip() == f"{128 + signal.SIGTERM} [{int(number)}]"
    assert (tmp_path / "checkpoint").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--store", "missing.tar"], "--store missing.tar: no such file"),
        (["--store", str(Path(__file__))], "not an archive, or not whole"),
        (["--minutes", "0"], "--minutes 0: must be above 0"),
        (["--minutes", "nan"], "--minutes nan: must be above 0"),
    ],
)
def test_what_cannot_be_used_is_refused_before_a_store_is_made(tmp_path: Path, options: list[str], told: str) -> None:
    command = [sys.executable, "benchmarks/gpu_evidence.py", str(tmp_path), "--out", str(tmp_path / "out"), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert told in done.stderr.splitlines()[-1]
    assert not list(tmp_path.rglob("store*"))
