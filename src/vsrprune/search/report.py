"""What a search found, for people: tables on the terminal, and how well cheap scores foretell dear ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from rich.console import Console
from rich.table import Table

from vsrprune.results.intervals import interval, paired_difference

FEWEST = 4  # trials for a rank correlation


def rank_correlations(psnr: Sequence[Sequence[float]], rungs: Sequence[int]) -> list[dict[str, Any]]:
    """Spearman's correlation between each rung and the next, over the trials that reached both.

    Trials stopped in between are missing from it: the correlation over all trials is likely higher.
    """
    # Imported here, since SciPy's statistics take more than half a second to import.
    from scipy.stats import spearmanr

    rows = []
    for place, (first, second) in enumerate(pairwise(rungs)):
        both = [(values[place], values[place + 1]) for values in psnr if len(values) > place + 1]
        cheap, dear = [pair[0] for pair in both], [pair[1] for pair in both]
        # A correlation needs values that differ.
        told = len(both) >= FEWEST and len(set(cheap)) > 1 and len(set(dear)) > 1
        spearman = float(spearmanr(cheap, dear).statistic) if told else None
        rows.append({"rungs": [first, second], "trials": len(both), "spearman": spearman})
    return rows


def print_search(found: Mapping[str, Any], console: Console) -> None:
    """The winner (or the front) beside the references."""
    console.print(_finals_table(found))
    for line in _verdicts(found):
        console.print(line, highlight=False)
    for row in found["rank_correlation"]:
        value = "too few trials to say" if row["spearman"] is None else f"{row['spearman']:+.2f}"
        steps = " -> ".join(map(str, row["rungs"]))
        console.print(
            f"rank correlation of PSNR after {steps} steps: {value} ({row['trials']} trials reached both)",
            highlight=False,
        )


def _finals_table(found: Mapping[str, Any]) -> Table:
    table = Table(title=f"search: {found['objective']}, {len(found['trials'])} trials")
    table.add_column("plan")
    for heading in (f"{found['cost']} kept", "scoring clips, dB", "held-out clips, dB", "seeds"):
        table.add_column(heading, justify="right")
    for name, runs in _by_name(found["finals"]).items():
        psnr = interval([run["psnr"] for run in runs])
        spread = f" ± {psnr.half_width:.2f}" if psnr.count > 1 else ""
        table.add_row(
            name,
            f"{runs[0]['share']:.1%}",
            f"{runs[0]['scoring_psnr']:.2f}",
            f"{psnr.mean:.2f}{spread}",
            str(psnr.count),
        )
    return table


def _verdicts(found: Mapping[str, Any]) -> list[str]:
    """Winner against each reference, paired over the fresh seeds: all of them go on from one dense network."""
    runs = _by_name(found["finals"])
    if "winner" not in runs:
        return []
    lines = []
    winner = {run["seed"]: run["psnr"] for run in runs["winner"]}
    for name in runs:
        difference = paired_difference(winner, {run["seed"]: run["psnr"] for run in runs[name]})
        if name == "winner" or difference is None:
            continue
        noise = "with one seed; more search.final_seeds tell it from noise"
        if difference.count > 1:
            noise = f"± {difference.half_width:.2f}, {difference.verdict} over data orders of one dense network"
        lines.append(f"winner - {name}: {difference.mean:+.2f} dB {noise}")
    return lines


def _by_name(finals: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for run in finals:
        rows.setdefault(run["name"], []).append(run)
    return rows
