"""What a sweep prints at its end."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from vsrprune.host.failures import FailureCard, retry_line
from vsrprune.jobs.collect import read_measured
from vsrprune.jobs.ending import ending
from vsrprune.results.result import RESULT, Result
from vsrprune.results.terminal import Row, print_layers, print_replicates, print_results
from vsrprune.store.store import Store

DONE, REUSED, FAILED, STOPPED = "done", "reused", "failed", "stopped"


def print_summary(outcomes: Mapping[str, str], root: Path, store: Store, console: Console) -> None:
    """Print the sweep's table from the result files, and what became of every job, whatever happened."""
    folders = [
        root / name
        for name, outcome in outcomes.items()
        if outcome in (DONE, REUSED) and (root / name / RESULT).is_file()
    ]
    rows = [Row(" ".join(folder.name.split(",")), Result.load(folder), read_measured(folder)) for folder in folders]
    if rows:
        print_results(rows, console)
        print_replicates(rows, console)
        print_layers(rows, console)
    for name, outcome in outcomes.items():
        card = FailureCard.load(root / name) if outcome == FAILED else None
        if card is not None:
            print(f"failed: {name} in {card.stage}, step {card.step}: {card.cause}", file=sys.stderr)
            print(f"  what to change: {card.advice}\n  retry it alone: {retry_line(root / name)}", file=sys.stderr)
        elif outcome == FAILED:
            print(f"failed: {name}; see what it printed above", file=sys.stderr)
    kinds = (DONE, REUSED, FAILED) + ((STOPPED,) if STOPPED in outcomes.values() else ())
    counts = [f"{list(outcomes.values()).count(outcome)} {outcome}" for outcome in kinds]
    print(f"{len(outcomes)} jobs: {', '.join(counts)}; files: {root}", flush=True)
    for line in ending(rows, root, folders, store.root, store.place):
        print(line, flush=True)
