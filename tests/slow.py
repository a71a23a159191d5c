"""The slow tests file by file, so that they can be stopped and gone on with: what `make test-all` runs.

Usage: python tests/slow.py [--resume] [FILE...]

A file's end is written to .pytest_cache/slow.json at once; with --resume the files that passed there are left out.
Properties (tests by hypothesis) are tried on the thorough number of examples.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
STATE = ROOT / ".pytest_cache" / "slow.json"
MARKED = "slow or hypothesis"
NO_TESTS = 5  # pytest's exit code for a file without one of these


def slow_files() -> list[str]:
    """Files with slow tests or properties, found by collecting alone."""
    command = [sys.executable, "-m", "pytest", "-m", MARKED, "--collect-only", "-q"]  # a line for each file
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        sys.exit(listed.stdout + listed.stderr)
    return [line.split(":")[0] for line in listed.stdout.splitlines() if line.startswith("tests/")]


def run(file: str) -> int:
    """The exit code of a file's slow tests; their output goes to the terminal."""
    environment = {**os.environ, "HYPOTHESIS_PROFILE": "thorough"}
    command = [sys.executable, "-m", "pytest", "-m", MARKED, file]
    code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    return 0 if code == NO_TESTS else code


def main(arguments: Sequence[str]) -> int:
    """Run what is left, and say at the end which files failed."""
    resume = "--resume" in arguments
    codes: dict[str, int] = json.loads(STATE.read_text()) if resume and STATE.is_file() else {}
    files = [argument for argument in arguments if argument != "--resume"] or slow_files()
    STATE.parent.mkdir(exist_ok=True)
    for number, file in enumerate(files, start=1):
        if codes.get(file) == 0:
            print(f"[{number}/{len(files)}] {file}: passed before", flush=True)
            continue
        print(f"[{number}/{len(files)}] {file}", flush=True)
        began = time.monotonic()
        codes[file] = run(file)
        STATE.write_text(json.dumps(codes, indent=1))
        print(f"  {time.monotonic() - began:.0f} s", flush=True)
    failed = [file for file in files if codes[file]]
    print(f"{len(files) - len(failed)} of {len(files)} files passed" + "".join(f"\nfailed: {file}" for file in failed))
    if failed:
        print("run the failed ones alone: make test-all RESUME=1")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
