"""A small file system that really gets full: one line, nothing half-made, and the same end once there is space."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import minimal_overrides, run_py

from vsrprune.host.failures import read_state
from vsrprune.store.store import MANIFEST, Store

DISK = "4m"  # a finished job takes a tenth of it
STAGES = ("flow", "pretrain", "reference", "score", "select", "sparsify", "prune", "finetune", "evaluate", "measure")
SWEEP = ("seed=0,1", "-m")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Faster beside other tests, and the same everywhere in this file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, a few megabytes large."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("needs the command mount")
    if mounted.returncode:
        pytest.skip(f"needs the right to mount a file system: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, leave: int) -> Path:
    """A file that takes all space of the disk but `leave` kilobytes."""
    state = os.statvfs(disk)
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(state.f_bavail * state.f_frsize - leave * 1024))
    return ballast


def job(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_py("tracking=none", *minimal_overrides(folder), *arguments)


def outcome(folder: Path) -> dict[str, bytes]:
    """The results and curves of every job and the bytes of every network in the store."""
    files = [
        *folder.glob("runs/**/result.json"),
        *folder.glob("runs/**/metrics.jsonl"),
        *folder.glob("store/*/*/network.safetensors"),
    ]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    done = job(folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def undisturbed_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed_sweep")
    done = job(folder, *SWEEP)
    assert done.returncode == 0, done.stderr
    return folder


def complaints(stderr: str) -> list[str]:
    """What the user reads there, without the warnings of libraries."""
    return [line for line in stderr.splitlines() if line.strip() and "site-packages" not in line]


def says_the_disk_is_full(line: str) -> bool:
    return line.startswith("error: the disk is full") and "free some space and run the same command again" in line


def published(folder: Path) -> set[str]:
    """Stages in the store; each is sound, and nothing half-made stands beside it."""
    warnings: list[str] = []
    store = Store(folder / "store", warnings.append)
    stages = set()
    for stage in STAGES:
        for artifact in (folder / "store" / stage).glob("*"):
            assert (artifact / MANIFEST).is_file()
            assert store.find(stage, artifact.name) is not None
            stages.add(stage)
    assert warnings == []
    assert not any(folder.glob("store/damaged/*"))
    assert not any(folder.glob("store/leases/*.json"))
    return stages


def stages_that(verdict: str, stdout: str) -> set[str]:
    """Stages that a job reports as `done` or `reused`."""
    return {words[0] for words in map(str.split, stdout.splitlines()) if words[1:2] == [verdict]}


def litter(folder: Path) -> list[Path]:
    """What a finished job has no use for."""
    leases = [path for path in folder.glob("store/leases/*") if path.name != ".mutex"]
    return [*folder.glob("store/unfinished/*"), *folder.glob("store/damaged/*"), *leases]


def fails_on_a_full_disk_and_goes_on(disk: Path, leave: int, undisturbed: Path, *arguments: str) -> set[str]:
    """Stages that were published before the disk was full."""
    ballast = fill(disk, leave)
    failed = job(disk, *arguments)
    assert failed.returncode == 2, failed.stderr
    assert "Traceback" not in failed.stdout + failed.stderr
    (line,) = complaints(failed.stderr)
    assert says_the_disk_is_full(line), line
    named = line.removeprefix("error: the disk is full").split(";")[0].removeprefix(" while writing ")
    assert not named or Path(named).is_relative_to(disk), line
    before = published(disk)
    assert before == stages_that("done", failed.stdout)
    assert not any(disk.glob("runs/**/result.json"))
    resumed = {path.parents[1].name.split("-")[0] for path in disk.glob("store/unfinished/*/*/step-*.sha256")}
    ballast.unlink()

    done = job(disk, *arguments)
    assert done.returncode == 0, done.stderr
    assert stages_that("reused", done.stdout) == (before if before != set(STAGES) else set())
    assert stages_that("done", done.stdout) == set(STAGES) - before
    assert not any(f"  {stage:<10} 1/4" in done.stdout for stage in resumed)  # they went on from a checkpoint
    assert outcome(disk) == outcome(undisturbed)
    assert litter(disk) == []
    return before


def test_a_disk_that_is_full_from_the_start(disk: Path) -> None:
    """Not even the folder of the run can be written; Hydra makes that before the job begins."""
    fill(disk, 0)
    for arguments in ([], SWEEP):
        failed = job(disk, *arguments)
        assert failed.returncode == 2, failed.stderr
        (line,) = complaints(failed.stderr)
        assert says_the_disk_is_full(line), line


@pytest.mark.parametrize("leave", [100, 150], ids=["in a checkpoint", "while publishing"])
def test_a_job_on_a_full_disk_says_so_and_goes_on_when_there_is_space(
    disk: Path, undisturbed: Path, leave: int
) -> None:
    assert fails_on_a_full_disk_and_goes_on(disk, leave, undisturbed) == {"flow"}


@pytest.mark.slow
@pytest.mark.parametrize("leave", range(0, 430, 20))
def test_a_disk_that_gets_full_anywhere(disk: Path, undisturbed: Path, leave: int) -> None:
    fails_on_a_full_disk_and_goes_on(disk, leave, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("leave", [20, 40, 200, 330])
def test_a_tracked_job_on_a_full_disk_is_no_different(disk: Path, undisturbed: Path, leave: int) -> None:
    """W&B writes beside the result, and must add neither tracebacks nor a failure of its own."""
    fails_on_a_full_disk_and_goes_on(disk, leave, undisturbed, "tracking=wandb")


@pytest.mark.slow
def test_the_sizes_reach_every_part_of_a_job(disk: Path) -> None:
    """Guards the tests above: with their sizes the disk gets full in training, between stages and at the very end."""
    reached = set()
    for leave in (40, 170, 200, 320, 380):
        ballast = fill(disk, leave)
        assert job(disk).returncode == 2
        (folder,) = (path for path in disk.glob("runs/*") if not path.is_symlink())
        reached.add(read_state(folder)[0])
        ballast.unlink()
        for used in ("store", "runs"):
            shutil.rmtree(disk / used)
    assert {"flow", "pretrain", "sparsify", "measure"} <= reached


def test_a_read_only_disk_is_named(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for arguments in ([], SWEEP):
        failed = job(disk, *arguments)
        assert failed.returncode == 2, failed.stderr
        (line,) = complaints(failed.stderr)
        assert line.startswith(f"error: runs_dir={disk / 'runs'}: no folder can be made in {disk} (Read-only")
        assert line.endswith("; name another")


def test_a_finished_store_on_a_read_only_disk_is_used(
    disk: Path, tmp_path: Path, undisturbed: Path, no_torch: Path
) -> None:
    shutil.copytree(undisturbed / "store", disk / "store")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    elsewhere = [*minimal_overrides(disk), "tracking=none", f"runs_dir={tmp_path / 'runs'}"]
    again = run_py(*elsewhere, path=[no_torch])
    assert again.returncode == 0, again.stderr
    results = [*tmp_path.glob("runs/**/result.json"), *undisturbed.glob("runs/**/result.json")]
    assert len({path.read_bytes() for path in results}) == 1 < len(results)


@pytest.mark.slow
@pytest.mark.parametrize("engine", [(), ("launcher.jobs=2",)], ids=["one at a time", "two at a time"])
@pytest.mark.parametrize("leave", [0, 12, 40, 200, 350])
def test_a_sweep_on_a_full_disk_ends_with_its_summary_and_goes_on(
    disk: Path, undisturbed_sweep: Path, leave: int, engine: tuple[str, ...]
) -> None:
    ballast = fill(disk, leave)
    failed = job(disk, *engine, *SWEEP)
    assert failed.returncode in (1, 2), failed.stderr
    assert "Traceback" not in failed.stdout + failed.stderr
    if "job 1/2" in failed.stdout:
        assert "2 jobs: 0 done, 0 reused, 2 failed" in failed.stdout
        assert failed.stderr.count("failed: seed=") == 2
    else:
        (line,) = complaints(failed.stderr)
        assert says_the_disk_is_full(line), line
    before = published(disk)
    ballast.unlink()
    done = job(disk, *engine, *SWEEP)
    assert done.returncode == 0, done.stderr
    assert "2 jobs: 2 done, 0 reused, 0 failed" in done.stdout
    if not engine:  # otherwise the jobs write into files
        assert before <= stages_that("reused", done.stdout)
    assert outcome(disk) == outcome(undisturbed_sweep)
    assert litter(disk) == []
