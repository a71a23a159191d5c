"""The slow tests file by file, so that they can be stopped and gone on with: what `make test-all` runs.

Usage: python tests/slow.py [--resume] [FILE...]

Two files run side by side, one thread each, and print when they end. A file's end is written to
.pytest_cache/slow.json at once; with --resume the files that passed there are left out. Properties (tests by
hypothesis) are tried on the thorough number of examples.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

ROOT = Path(__file__).parents[1]
STATE = ROOT / ".pytest_cache" / "slow.json"
MARKED = "slow or hypothesis"
NO_TESTS = 5  # pytest's exit code for a file without one of these
SIDE_BY_SIDE = 2


def slow_files() -> list[str]:
    """Files with slow tests or properties, found by collecting alone."""
    command = [sys.executable, "-m", "pytest", "-m", MARKED, "--collect-only", "-q"]  # a line for each file
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        sys.exit(listed.stdout + listed.stderr)
    return [line.split(":")[0] for line in listed.stdout.splitlines() if line.startswith("tests/")]


def run(file: str) -> tuple[int, float, str]:
    """The exit code of a file's slow tests, their seconds, and what they printed."""
    environment = {**os.environ, "HYPOTHESIS_PROFILE": "thorough", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-m", MARKED, "--durations", "3", file]
    began = time.monotonic()
    ended = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    code = 0 if ended.returncode == NO_TESTS else ended.returncode
    return code, time.monotonic() - began, ended.stdout


def main(arguments: Sequence[str]) -> int:
    """Run what is left, and say at the end which files failed."""
    resume = "--resume" in arguments
    codes: dict[str, int] = json.loads(STATE.read_text()) if resume and STATE.is_file() else {}
    files = [argument for argument in arguments if argument != "--resume"] or slow_files()
    STATE.parent.mkdir(exist_ok=True)
    left = [file for file in files if codes.get(file) != 0]
    if len(left) < len(files):
        print(f"{len(files) - len(left)} of {len(files)} files passed before", flush=True)
    began = time.monotonic()
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        running = {pool.submit(run, file): file for file in left}
        for number, ended in enumerate(as_completed(running), start=1):
            file = running[ended]
            codes[file], seconds, printed = ended.result()
            STATE.write_text(json.dumps(codes, indent=1))
            print(f"{printed}[{number}/{len(left)}] {file}: exit code {codes[file]}, {seconds:.0f} s", flush=True)
    print(f"{time.monotonic() - began:.0f} s in all")
    failed = [file for file in files if codes[file]]
    print(f"{len(files) - len(failed)} of {len(files)} files passed" + "".join(f"\nfailed: {file}" for file in failed))
    if failed:
        print("run the failed ones alone: make test-all RESUME=1")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
