"""What shared stages save: the sweep rsc x ratio x tf_weight (18 jobs), and what its jobs would cost one by one.

python benchmarks/sharing.py [--runs FOLDER] [OVERRIDE ...]

The sweep runs for real, on the demo's schedule unless overrides say otherwise. The cost without sharing is the sum of
what every job would have to do alone: its stages' seconds as the store recorded them, and the start of a process. To
show that this sum is honest, one job is also run for real with an empty store.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUN = Path(__file__).parents[1] / "src" / "run.py"
AXES = ["rsc=true,false", "ratio=0.3,0.5,0.7", "tf_weight=0,1,10"]
BAR = 2.5


def main() -> None:
    """Run, add up, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="folder for store and runs; kept (default: a temporary one)")
    parser.add_argument("overrides", nargs="*", help="further overrides of run.py")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.runs or Path(temporary)
        shared = timed("-m", *AXES, *arguments.overrides, *places(folder))
        measured = [json.loads(path.read_text()) for path in sorted(folder.glob("runs/**/measured.json"))]
        assert len(measured) == 18, f"{len(measured)} jobs have results"
        start = timed("until=pretrain", *arguments.overrides, *places(folder))  # all is there: a start, and no more
        alone = [sum(values["stage_seconds"].values()) + start for values in measured]
        with tempfile.TemporaryDirectory() as empty:
            one = timed("tf_weight=1", *arguments.overrides, *places(Path(empty)))
    ratio = sum(alone) / shared
    print(f"18 jobs, shared:               {shared:8.0f} s (measured)")
    print(f"18 jobs, each for itself:      {sum(alone):8.0f} s (sum of {start:.1f} s of start and recorded stages)")
    print(f"one job with an empty store:   {one:8.0f} s (measured), {sum(alone) / 18:.0f} s on average in that sum")
    print(f"sharing is {ratio:.1f} times cheaper (bar {BAR}: {'met' if ratio >= BAR else 'MISSED'})")


def places(folder: Path) -> list[str]:
    """Overrides that keep store and runs in `folder`."""
    return [f"store_dir={folder / 'store'}", f"runs_dir={folder / 'runs'}"]


def timed(*overrides: str) -> float:
    """Seconds of `python src/run.py` with these overrides."""
    started = time.perf_counter()
    subprocess.run([sys.executable, str(RUN), *overrides], check=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
