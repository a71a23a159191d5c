"""Pretrain the network of the evidence on a card for some minutes, and leave what later runs go on from.

python benchmarks/gpu_evidence.py CLIPS --minutes 8 [--out gpu_evidence] [--store ARCHIVE] [OVERRIDE ...]

CLIPS is a folder of videos; OVERRIDE are knobs of src/run.py (data.train=[...], seed=1, trainer=cpu). The job runs in
OUT/store until its pretraining is done or the time is up; then it is asked to stop, writes a checkpoint, and the store
is packed into OUT/store.tar (without decoded clips). SIGTERM and Ctrl-C do the same earlier. The same command goes on
from OUT/store, and with `--store` from such an archive of another machine; so does src/run.py with store_dir=OUT/store
and the same knobs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
KNOBS = (
    "model=basicvsr_slim",
    "schedule=evidence",
    "data=folder",
    "data.halve=true",
    "tracking=none",
    "until=pretrain",
)
MOST_MIB = 16
ENDS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
STOPS_IN = 30  # seconds that a job has for its last checkpoint


def main() -> None:
    """Run, stop in time, pack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--out", type=Path, default=Path("gpu_evidence"))
    parser.add_argument("--store", type=Path, help="an archive that this script left elsewhere")
    parser.add_argument("overrides", nargs="*", default=[], help="further knobs of src/run.py")
    given = parser.parse_intermixed_args()  # knobs may stand behind options
    if not given.clips.is_dir():
        parser.error(f"{given.clips}: no such folder; give the folder of the training videos")
    if not 0 < given.minutes < float("inf"):
        parser.error(f"--minutes {given.minutes:g}: must be above 0")
    if given.store and not given.store.is_file():
        parser.error(f"--store {given.store}: no such file; give an archive that this script left elsewhere")
    out = given.out.resolve()
    store = out / "store"
    if given.store and not store.is_dir():
        try:
            unpack(given.store, store)
        except (tarfile.TarError, EOFError):
            parser.error(f"--store {given.store}: not an archive, or not whole; copy it once more")
    places = (f"data.path={given.clips.resolve()}", f"store_dir={store}", f"runs_dir={out / 'runs'}")
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with signals_noted() as noted:
        code = run_for(given.minutes * 60, [sys.executable, "src/run.py", *KNOBS, *places, *given.overrides], noted)
        size = pack(store, out / "store.tar")
    reached = "a finished pretraining" if code == 0 else newest_step(store)
    print(f"{time.monotonic() - began:.0f} s, {reached}, {out / 'store.tar'}: {size / 2**20:.1f} MiB")
    if size > MOST_MIB * 2**20:
        sys.exit(f"the archive is larger than {MOST_MIB} MiB")
    stopped = -code == signal.SIGTERM or code == 128 + signal.SIGTERM
    sys.exit(128 + noted[0] if noted else 0 if stopped else code)


def unpack(archive: Path, store: Path) -> None:
    """Make a store of an archive: whole, or not at all. Raises TarError or EOFError for an archive that is broken."""
    store.parent.mkdir(parents=True, exist_ok=True)
    partial = store.with_name(f".unpacking-{os.getpid()}")
    try:
        partial.mkdir()
        with tarfile.open(archive) as packed:
            packed.extractall(partial, filter="data")
        partial.rename(store)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def signals_noted() -> Iterator[list[int]]:
    """Signals that ask for an end are put into this list, so that the job can be stopped and the store be packed."""
    noted: list[int] = []
    before = {number: signal.signal(number, lambda number, _: noted.append(number)) for number in ENDS}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_for(seconds: float, command: Sequence[str], noted: Sequence[int] = ()) -> int:
    """Run a job for at most so many seconds or until a signal is noted, then ask it to stop; its exit code."""
    # A session of its own: Ctrl-C and the signals of `timeout` go to whole groups, and the job is to be asked once.
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    until = time.monotonic() + seconds
    while process.poll() is None and not noted and time.monotonic() < until:
        time.sleep(0.1)
    if process.poll() is None:
        process.terminate()
    try:
        return process.wait(STOPS_IN)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.wait()


def newest_step(store: Path) -> str:
    """In words the newest checkpoint of pretraining; where it has none, that of the flow stage before it."""
    for stage, words in (("pretrain", "pretraining"), ("flow", "stage flow; pretraining has none yet")):
        files = (store / "unfinished").glob(f"{stage}-*/**/step-*.ckpt")
        steps = max((int(re.findall(r"\d+", file.stem)[0]) for file in files), default=0)
        if steps:
            return f"a checkpoint at step {steps} of {words}"
    return "no checkpoint yet"


def pack(store: Path, archive: Path) -> int:
    """Pack finished and unfinished stages, without the older of two checkpoints; the archive's size in bytes."""
    newest = {folder: newest_checkpoint(folder) for folder in {file.parent for file in store.rglob("step-*.ckpt")}}
    partial = archive.with_suffix(".part")
    with tarfile.open(partial, "w") as packed:
        for file in sorted(path for path in store.rglob("*") if path.is_file()):
            is_old = file.parent in newest and file.stem.startswith("step-") and file.stem != newest[file.parent]
            if file.relative_to(store).parts[0] != "cache" and not is_old:
                packed.add(file, arcname=str(file.relative_to(store)))
    partial.replace(archive)
    return archive.stat().st_size


def newest_checkpoint(folder: Path) -> str:
    """The name, without its ending, of the newest checkpoint in a folder."""
    return max((file.stem for file in folder.glob("step-*.ckpt")), key=lambda name: int(name.removeprefix("step-")))


if __name__ == "__main__":
    main()
