"""What a CUDA card does to the platform, in at most fifteen minutes: correctness, resume, speed, upscaling.

python benchmarks/gpu_check.py [--device cuda|cpu] [--out gpu_check] [--seconds 900] [--only NAME,NAME] [--again]

OUT/gpu_check.json and OUT/gpu_check.md hold what is known, from the first section on. What fails is recorded with its
traceback and the next section runs; the same command goes on where it was broken off, `--again` starts anew. Bars that
are missed and sections that were not run are listed at the end, and the exit code is then 1. `--device cpu` rehearses
all of it at tiny sizes.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import signal
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from benchmarks.card import jobs, networks, speed
from benchmarks.card.page import markdown
from benchmarks.card.runner import RESULTS, ROOT, Check, Found, Section, missed, run_sections, say

SHOWN = 9000  # characters of the page that are printed


def environment(check: Check, found: Found) -> None:
    """Card, driver and versions: times of different cards do not compare."""
    found |= {"python": platform.python_version(), "torch": str(torch.__version__)}
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    found |= {"commit": commit.stdout.strip(), "shm_mib": shutil.disk_usage("/dev/shm").total >> 20}
    found |= {"cudnn_tf32": torch.backends.cudnn.allow_tf32, "matmul_tf32": torch.backends.cuda.matmul.allow_tf32}
    if not check.rehearsed:
        card = torch.cuda.get_device_properties(0)
        found |= {"card": card.name, "capability": f"{card.major}.{card.minor}", "cuda": str(torch.version.cuda)}
        found |= {"memory_gib": card.total_memory / 2**30, "cudnn": torch.backends.cudnn.version()}


SECTIONS = {
    "environment": Section("which card is this?", 0, environment),
    "devices": Section("does every network compute here what it computes on the CPU?", 80, networks.devices),
    "latency": Section("is a pruned network faster here?", 60, speed.latency),
    "training": Section("what does a training step take?", 40, speed.training),
    "six_jobs": Section("do the six jobs of the README run?", 240, jobs.six_jobs),
    "against_cpu": Section("do they end as on the CPU?", 40, jobs.against_cpu),
    "resume": Section("does a killed training go on to the same end?", 60, jobs.resume),
    "upscaling": Section("how many frames per second?", 40, speed.upscaling),
    "determinism": Section("do two equal trainings end equal?", 10, networks.determinism),
    "sharing": Section("are cards shared and refused rightly?", 30, jobs.sharing),
    "memory": Section("is a lack of memory explained?", 40, jobs.out_of_memory),
}


def main() -> None:
    """Run what is wanted and print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--out", type=Path, default=Path("gpu_check"))
    parser.add_argument("--seconds", type=float, default=900.0)
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, in the order in which they are to run")
    parser.add_argument("--again", action="store_true", help="forget what is known")
    given = parser.parse_args()
    wanted = given.only.split(",")
    unknown = [name for name in wanted if name not in SECTIONS]
    if unknown:
        parser.error(f"--only {','.join(unknown)}: the sections are {', '.join(SECTIONS)}")
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch finds no CUDA card here; --device cpu rehearses the check")
    out = given.out.resolve()
    if given.again:
        shutil.rmtree(out / "work", ignore_errors=True)
    (out / "work").mkdir(parents=True, exist_ok=True)
    known = {} if given.again or not (out / RESULTS).is_file() else json.loads((out / RESULTS).read_text())
    check = Check(given.device, out, out / "work", given.seconds, results=known)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # through the ends of all commands
    try:
        run_sections(check, SECTIONS, wanted)
    except KeyboardInterrupt:
        say("interrupted; the same command goes on with the section that was cut")
        sys.exit(130)
    say(markdown(check.results)[-SHOWN:])
    failures = missed(check.results)
    say("missed: " + "; ".join(failures) if failures else "every bar that was tried is met")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
