"""How large a report of many runs is, and how long a browser takes to open it. Its runs are made by hand.

    python benchmarks/large_report.py [--runs 1000] [--out FOLDER]

The runs are as large as real ones: losses at 300 steps and more, errors at 100 frames, crops of two places. Times are
of Chromium on this machine, from the address to the last figure, several times. What a reader then does is timed too:
a filter and a budget, from the key to the table that follows.
"""

from __future__ import annotations

import argparse
import json
import runpy
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice, product
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))

from analysis.report import report_page
from vsrprune.results.result import METRICS, HiddenError, Result

HAND_MADE = Path(__file__).parents[1] / "tests" / "analysis" / "conftest.py"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
RULES, SCORES = ((True, "aligned"), (False, "aligned"), (False, "inner")), ("l1", "l2", "gate", "fpgm", "taylor")
RATIOS, REPLICATES = [round(0.04 * step, 2) for step in range(1, 24)], range(3)
STEPS, FRAMES, SIDE, FRAME_SIZE = 400, 100, 96, (720, 1280)
OPENINGS = 5


def make_runs(folder: Path, count: int) -> None:
    """So many runs of settings with three replicates each."""
    write_run = runpy.run_path(str(HAND_MADE))["write_run"]
    random = np.random.default_rng(0)
    every = product(RULES, SCORES, RATIOS, REPLICATES)
    for (rsc, residual), score, ratio, replicate in islice(every, count):
        name = f"rule={'rsc' if rsc else residual},score={score},ratio={ratio},replicate={replicate}"
        job = write_run(
            folder, name, rsc=rsc, residual=residual, score=score, ratio=ratio, replicate=replicate, steps=STEPS,
            psnr=31 + 0.2 * rsc - 1.5 * ratio**2 + random.normal(0, 0.05), macs=int(8e9 * (1 - ratio)),
            latency=4 - 2 * ratio, side=SIDE,
        )  # fmt: skip
        _enlarge(job, random)


def _enlarge(job: Path, random: np.random.Generator) -> None:
    """Errors at every frame of a long clip, losses and crops that differ from run to run, and a large whole frame."""
    result = Result.load(job)
    errors = {
        point: {branch: HiddenError(*(list(random.random(FRAMES)) for _ in range(3))) for branch in of}
        for point, of in result.hidden_error.items()
    }
    rows = [json.loads(line) for line in (job / METRICS).read_text().splitlines()]
    for row in rows:
        if row["stage"] != "pretrain":  # which all runs of a dense network share
            row |= {name: value * random.uniform(0.9, 1.1) for name, value in row.items() if name.startswith("loss_")}
    (job / METRICS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    crops = job / "crops"
    truth_HWC = np.asarray(Image.open(crops / "the_walk_truth.png"), float)
    for kind in ("lr", "bicubic", "dense", "truth"):
        shutil.copy(crops / f"the_walk_{kind}.png", crops / f"a_street_{kind}.png")
    for place in ("the_walk", "a_street"):
        noisy_HWC = np.clip(truth_HWC + random.normal(0, 4, truth_HWC.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy_HWC).save(crops / f"{place}_pruned.png")
    height, width = FRAME_SIZE
    Image.open(crops / "the_walk_truth.png").resize((width, height)).save(crops / "the_walk_frame.png")
    replace(result, hidden_error=errors).save(job)


def opened(page: Page, path: Path) -> float:
    """Seconds from the address to the last figure of the page."""
    start = time.perf_counter()
    page.goto(path.as_uri())
    page.wait_for_selector("#layer-plot .main-svg")
    return time.perf_counter() - start


def answered(page: Page, field: str, text: str) -> float:
    """Seconds that the page computes and draws for an entry in one of its fields."""
    return float(
        page.evaluate(
            "([field, text]) => { const start = performance.now(); const input = document.getElementById(field);"
            " input.value = text; input.dispatchEvent(new Event('input')); document.body.offsetHeight;"
            " return (performance.now() - start) / 1000; }",
            [field, text],
        )
    )


def show(name: str, seconds: Sequence[float]) -> None:
    """A line of the result: the median, the fastest and the slowest."""
    print(f"{name}: {statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})")


def time_page(path: Path) -> None:
    """Print how long the page takes in a browser without a network."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"none of {', '.join(BROWSERS)} is on the PATH")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        page = chromium.new_page(viewport={"width": 1400, "height": 900})
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        show("opened", [opened(page, path) for _ in range(OPENINGS)])
        show("filtered", [answered(page, "filter", text) for text in ("rsc", "macs<60", "-l1", "", "seed=0")])
        show("budget", [answered(page, "budget", text) for text in ("60", "50", "", "30", "70")])
        chromium.close()
    if complaints:
        sys.exit(f"the page's script failed: {complaints[0]}")


def main() -> None:
    """Make the runs and their report, and time it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=1000, help="how many runs to make, at most 1035 (default: 1000)")
    parser.add_argument("--out", type=Path, help="a new folder to keep runs and report.html in (default: none is kept)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.out or Path(scratch)
        make_runs(folder / "runs", arguments.runs)
        start = time.perf_counter()
        page = report_page([str(folder / "runs")]).encode()
        print(f"{arguments.runs} runs: {len(page) / 1e6:.1f} MB, made in {time.perf_counter() - start:.1f} s")
        path = folder / "report.html"
        path.write_bytes(page)
        time_page(path)


if __name__ == "__main__":
    main()
