"""Pretrain the network of the evidence on a card for some minutes, and leave what later runs go on from.

python benchmarks/gpu_evidence.py CLIPS --minutes 8 [--out gpu_evidence] [--store ARCHIVE] [OVERRIDE ...]

CLIPS is a folder of videos; OVERRIDE are knobs of src/run.py (data.train=[...], seed=1, trainer=cpu). The job runs in
OUT/store until its pretraining is done or the time is up; then it is asked to stop, writes a checkpoint, and the store
is packed into OUT/store.tar (without decoded clips). The same command goes on from OUT/store, and with `--store` from
such an archive of another machine; so does src/run.py with store_dir=OUT/store and the same knobs.
"""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
import tarfile
import time
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
STOPS_IN = 30  # seconds that a job has for its last checkpoint


def main() -> None:
    """Run, stop in time, pack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--out", type=Path, default=Path("gpu_evidence"))
    parser.add_argument("--store", type=Path, help="an archive that this script left elsewhere")
    parser.add_argument("overrides", nargs="*", help="further knobs of src/run.py")
    given = parser.parse_intermixed_args()  # knobs may stand behind options
    if not given.clips.is_dir():
        parser.error(f"{given.clips}: no such folder; give the folder of the training videos")
    out = given.out.resolve()
    store = out / "store"
    if given.store and not store.is_dir():
        store.mkdir(parents=True)
        with tarfile.open(given.store) as archive:
            archive.extractall(store, filter="data")
    places = (f"data.path={given.clips.resolve()}", f"store_dir={store}", f"runs_dir={out / 'runs'}")
    began = time.monotonic()
    code = run_for(given.minutes * 60, [*KNOBS, *places, *given.overrides])
    size = pack(store, out / "store.tar")
    steps = max((int(re.findall(r"\d+", file.stem)[0]) for file in store.rglob("step-*.ckpt")), default=0)
    reached = (
        f"a checkpoint at step {steps}" if steps else "a finished pretraining" if code == 0 else "no checkpoint yet"
    )
    print(f"{time.monotonic() - began:.0f} s, {reached}, {out / 'store.tar'}: {size / 2**20:.1f} MiB")
    if size > MOST_MIB * 2**20:
        sys.exit(f"the archive is larger than {MOST_MIB} MiB")
    stopped = -code == signal.SIGTERM or code == 128 + signal.SIGTERM
    sys.exit(0 if stopped else code)


def run_for(seconds: float, knobs: list[str]) -> int:
    """Run a job for at most so many seconds, then ask it to stop; its exit code."""
    process = subprocess.Popen([sys.executable, "src/run.py", *knobs], cwd=ROOT)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.terminate()
    try:
        return process.wait(STOPS_IN)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def pack(store: Path, archive: Path) -> int:
    """Pack finished and unfinished stages, without the older of two checkpoints; the archive's size in bytes."""
    newest = {folder: newest_checkpoint(folder) for folder in {file.parent for file in store.rglob("step-*.ckpt")}}
    with tarfile.open(archive, "w") as packed:
        for file in sorted(path for path in store.rglob("*") if path.is_file()):
            is_old = file.parent in newest and file.stem.startswith("step-") and file.stem != newest[file.parent]
            if file.relative_to(store).parts[0] != "cache" and not is_old:
                packed.add(file, arcname=str(file.relative_to(store)))
    return archive.stat().st_size


def newest_checkpoint(folder: Path) -> str:
    """The name, without its ending, of the newest checkpoint in a folder."""
    return max((file.stem for file in folder.glob("step-*.ckpt")), key=lambda name: int(name.removeprefix("step-")))


if __name__ == "__main__":
    main()
