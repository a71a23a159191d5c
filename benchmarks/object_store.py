"""What a store in object storage costs beside one in a folder: a sweep in each, in turns, and once more when finished.

python benchmarks/object_store.py s3://BUCKET/PREFIX [--rounds 1] [OVERRIDE ...]

Overrides are those of the sweep, by themselves the six jobs of the demo. Each sweep begins with nothing: a new prefix,
a new folder and a new cache. Of several rounds the fastest counts. `fetched` is the finished sweep on a machine that
has nothing of it yet. The bucket must be there; nothing in it is deleted.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

RUN = Path(__file__).parents[1] / "src" / "run.py"
SIX = ["rsc=true,false", "ratio=0.3,0.5,0.7"]
KINDS = ("the sweep", "called again", "fetched")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="a bucket and a prefix")
    parser.add_argument("--rounds", type=int, default=1, help="turns of folder and bucket")
    parser.add_argument("overrides", nargs="*", default=SIX, help="of the sweep")
    given = parser.parse_args()
    took: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        for number in range(given.rounds):
            folder = Path(name, str(number))
            places = {"folder": str(folder / "store"), "bucket": f"{given.url.rstrip('/')}/{uuid.uuid4().hex[:8]}"}
            for where, place in places.items():
                for kind in KINDS:
                    # Whoever fetches has results and a cache of its own.
                    machine = folder / where / ("other" if kind == "fetched" else "first")
                    took.setdefault((where, kind), []).append(_seconds(place, machine, given.overrides))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("seconds", "folder", "bucket", "ratio"):
        table.add_column(heading, justify="left" if heading == "seconds" else "right")
    for kind in KINDS:
        local, remote = min(took["folder", kind]), min(took["bucket", kind])
        table.add_row(kind, f"{local:.1f}", f"{remote:.1f}", f"{remote / local:.3f}")
    Console().print(table)


def _seconds(store: str, machine: Path, overrides: list[str]) -> float:
    own = [f"store_dir={store}", f"store.cache_dir={machine / 'cache'}", f"runs_dir={machine / 'runs'}"]
    command = [sys.executable, str(RUN), "-m", *overrides, *own, "tracking.to=[]"]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
