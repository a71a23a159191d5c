"""Times on the card: networks, training steps, upscaling; from the benchmarks that anybody can run alone."""

from __future__ import annotations

from typing import Any

from benchmarks.card.runner import Bar, Check, Found

# The plans of 27 % of the MACs must be at least so much faster than the dense network in float16.
SPEED_UP = 2.0
PENALTY_COST = 1.05  # a sparsify step against a plain one
BUSY = 0.9  # share of a training step in which the card computes
LATENCIES = (  # size, precision, shares of the MACs that go
    ("180x320", "16", "0.5,0.73"),
    ("180x320", "tf32", "0.73"),
    ("720x1280", "16", "0.73"),
)


def latency(check: Check, found: Found) -> None:
    """Dense against pruned, each in its fastest form: counts in eights, and counts by the times of this card."""
    for size, precision, ratios in LATENCIES[: 1 if check.rehearsed else None]:
        file = str(check.own / f"latency-{size}-{precision}.json")
        height, width = size.split("x")
        options: tuple[str, ...] = (
            f"sizes=[[{height},{width}]]",
            f"precisions=[{precision}]",
            f"ratios=[{ratios}]",
            "roundings=[8,auto]",
        )
        if check.rehearsed:
            options = ("dry=true", "roundings=[8,auto]")
        found |= check.benchmark("latency", "table=precisions", *options, f"json={file}", file=file, limit=150)
        check.save()
    rows: dict[str, Any] = found.get("180x320 16", {})
    bars = {
        name: Bar(row["speed_up"], at_least=SPEED_UP).as_json()
        for name, row in rows.items()
        if name.startswith("0.73 round_to=auto")
    }
    found["bars"] = bars


def training(check: Check, found: Found) -> None:
    """A step of each kind, launched and replayed, at the published size."""
    size: tuple[str, ...] = ("--patch", "16", "--frames", "3", "--batch", "1", "--rounds", "2")
    if not check.rehearsed:
        size = ("--model", "basicvsr", "--patch", "64", "--frames", "15", "--batch", "4", "--rounds", "2")
    file = str(check.own / "training.json")
    found |= check.benchmark("training", *size, "--json", file, file=file, limit=150)
    bars = {"sparsify against plain": Bar(found["sparsify"]["ms"] / found["plain"]["ms"], at_most=PENALTY_COST)}
    graphed = {name: row for name, row in found.items() if name.endswith(", graphed") and row["busy"]}
    bars |= {f"card busy: {name}": Bar(row["busy"], at_least=BUSY) for name, row in graphed.items()}
    found["bars"] = {name: bar.as_json() for name, bar in bars.items()}


def upscaling(check: Check, found: Found) -> None:
    """Frames per second of the command, and of its parts alone."""
    file = str(check.own / "upscaling.json")
    options = ("--device", check.device, "--frames", "8" if check.rehearsed else "40", "--rounds", "1")
    found |= check.benchmark("upscaling", *options, "--json", file, file=file, limit=150)
