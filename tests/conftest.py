"""How the whole suite runs: the long files first, and how many examples a property is tried on."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
from multiprocessing.util import Finalize
from pathlib import Path

import pytest
from hypothesis import settings

# The tests are of the CPU, on machines with a card too, unless somebody names one.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

# Folders and files whose tests are long (the marker `long`: `make test` leaves them to `make test-long`), and the sweep
# of the README, which goes through every stage in the quick tests too.
LONG_RUNS = ("integration", "devices", "test_exporting", "test_exporting_networks", "test_report_browser")
QUICK_SWEEP = "test_six_jobs"
ORDER = ("integration", "devices", "analysis", "unit")
# Those of unit/ that take 5 s or longer: what comes last should be short, so that no worker waits for the other.
LONG = (
    "test_networks", "test_exporting", "test_replayed_steps", "test_conf_files", "test_study",
    "test_exporting_networks", "test_fit", "test_timed", "test_own_network", "test_surgery", "test_cost",
    "test_edvr", "test_gpu_check", "test_flow", "test_deformable", "test_lease", "test_documented_commands",
    "test_units", "test_spec", "test_jobs", "test_probe", "test_half_precision", "test_house", "test_carried",
    "test_basicvsr_pp",
)  # fmt: skip

# The same examples every time: whoever runs the suite twice, or on another machine, sees the same.
settings.register_profile("quick", max_examples=25, deadline=None, derandomize=True, database=None)
settings.register_profile("thorough", max_examples=100, deadline=None, derandomize=True, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


MEMORY, ENOUGH = Path("/dev/shm"), 2**31  # bytes


def pytest_configure() -> None:
    """Temporary folders in memory where there is enough: stores and studies wait for the disk at every write.

    Each process of the tests has a folder of its own for what programs find by TMPDIR: among that are the locks by
    which a measurement makes the other jobs of a machine pause, and nobody here compares times.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells start what runs in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.disable()  # until everything is imported: a fifth of the time that this takes
    memory = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ENOUGH
    if memory:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
    folder = tempfile.mkdtemp(prefix="vsrprune-tests-", dir=MEMORY if memory else None)
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    # Speeds that are timed while tests keep the machine busy must not reach the user; workers share the first's.
    os.environ.setdefault("XDG_CACHE_HOME", folder)
    os.environ.pop("XDG_RUNTIME_DIR", None)  # where locks would be those of the user's own jobs
    # After what multiprocessing removes there itself, at -100.
    Finalize(None, shutil.rmtree, args=(folder,), kwargs={"ignore_errors": True}, exitpriority=-200)


def pytest_collection_finish() -> None:
    """What was imported stays: no collection of garbage need look through it again."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first: workers take whole files (their fixtures are sweeps), and none should end with a long one."""
    for item in items:
        if {folder_of(item.path), item.path.stem} & set(LONG_RUNS) and item.path.stem != QUICK_SWEEP:
            item.add_marker("long")
    items.sort(key=lambda item: (ORDER.index(folder_of(item.path)), place_of(item.path)))


def place_of(path: Path) -> int:
    """A file's place in LONG, or the one after its end."""
    return LONG.index(path.stem) if path.stem in LONG else len(LONG)


def folder_of(path: Path) -> str:
    """integration, devices, unit or analysis."""
    return path.relative_to(Path(__file__).parent).parts[0]
