"""What a person reads after a run or a sweep: one table of results, and the per-layer ratios behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from vsrprune.jobs import Job
from vsrprune.results import Quality, Result
from vsrprune.store import Store

LAYERS_SHOWN = 32  # more than these are summed up by part and kind


@dataclass(frozen=True)
class Row:
    """A finished job: its label, result.json and measured.json."""

    label: str
    result: Result
    measured: dict[str, Any]


def print_results(rows: Sequence[Row], console: Console) -> None:
    """The jobs beside the dense network and bicubic, with what each costs."""
    console.print(_results_table(rows))
    for note in _footnotes(rows):
        console.print(f"[dim]{note}[/dim]", highlight=False)


def _results_table(rows: Sequence[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("job", no_wrap=True)
    for heading in (
        "PSNR\ncut",
        "PSNR\ntuned",
        "over\nbicubic",
        "SSIM",
        "params\nK",
        "MACs\nG",
        "MACs\nkept",
        "ms per\nframe",
        "speed-\nup",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    seen: set[str] = set()
    for row in rows:
        reference = row.result.stages["reference"]
        if reference not in seen:
            seen.add(reference)
            _add_references(table, row, rows)
        _add_job(table, row)
    return table


def _add_references(table: Table, row: Row, rows: Sequence[Row]) -> None:
    """Bicubic and the dense network of the jobs that follow."""
    result = row.result
    same = [other for other in rows if other.result.stages["reference"] == result.stages["reference"]]
    dense_ms = sorted(other.measured["latency_ms"]["dense"]["ms"] for other in same)[len(same) // 2]
    bicubic, dense, cost = result.quality["bicubic"], result.quality["dense"], result.cost["dense"]
    table.add_row("bicubic", "", f"{bicubic.psnr:.2f}", "", f"{bicubic.ssim:.4f}")
    table.add_row(
        f"dense {result.knobs['model']['name']}",
        "",
        f"{dense.psnr:.2f}",
        f"{dense.psnr - bicubic.psnr:+.2f}",
        f"{dense.ssim:.4f}",
        f"{cost.parameters / 1e3:.1f}",
        f"{cost.macs / 1e9:.2f}",
        "100 %",
        f"{dense_ms:.1f}",
        "1.00",
        end_section=True,
    )


def _add_job(table: Table, row: Row) -> None:
    result, cost = row.result, row.result.cost["pruned"]
    latency = row.measured["latency_ms"]
    tuned, cut, bicubic = (result.quality[name] for name in ("finetuned", "after_cut", "bicubic"))
    table.add_row(
        row.label,
        f"{cut.psnr:.2f}",
        f"{tuned.psnr:.2f}",
        f"{tuned.psnr - bicubic.psnr:+.2f}",
        f"{tuned.ssim:.4f}",
        f"{cost.parameters / 1e3:.1f}",
        f"{cost.macs / 1e9:.2f}",
        f"{result.macs_kept:.1%}".replace("%", " %"),
        f"{latency['pruned']['ms']:.1f}",
        f"{latency['dense']['ms'] / latency['pruned']['ms']:.2f}",
    )


def _footnotes(rows: Sequence[Row]) -> list[str]:
    first = rows[0]
    measured, result = first.measured, first.result
    data = result.knobs["data"]
    cost = result.cost["dense"]
    quality: Quality = result.quality["dense"]
    height, width = measured["frame_size"]
    flow = (cost.macs_with_flow - cost.macs) / 1e9
    notes = [
        f"PSNR in dB and SSIM on {data['channel'].upper()}, mean over {len(quality.clips)} held-out clips; `cut` is"
        " before fine-tuning, `tuned` after it.",
        f"params and MACs without the flow net, MACs per {cost.size[1]}x{cost.size[0]} low-resolution frame; the flow"
        f" net adds {flow:.2f} G.",
        f"ms: median per {width}x{height} frame, flow net included, {measured['threads']} threads on"
        f" {measured['device']}; speed-up against the dense network timed in turns with it.",
    ]
    if all(row.result.knobs["target"] == "units" for row in rows):
        notes.append(
            "Equal ratio is not equal cost: `ratio` is a share of units, and rules remove different shares of the"
            " MACs with it. Compare rules at equal MACs: target=macs."
        )
    return notes + sorted({f"warning: {note}" for row in rows for note in row.result.notes})


def print_layers(rows: Sequence[Row], console: Console) -> None:
    """Share of units cut: by layer for a small network, by part and kind for a large one."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="Share of units cut, per layer", title_justify="left")
    table.add_column("layer", no_wrap=True)
    shares = [_shares(row.result) for row in rows]
    for row in rows:
        table.add_column("\n".join(row.label.split()), justify="right")
    names: dict[str, None] = {}
    for share in shares:
        names.update(dict.fromkeys(share))
    for name in names:
        table.add_row(name, *(f"{share[name]:.2f}" if name in share else "·" for share in shares))
    console.print(table)


def _shares(result: Result) -> dict[str, float]:
    detailed = len(result.layers) <= LAYERS_SHOWN
    totals: dict[str, tuple[int, int]] = {}
    for layer in result.layers:
        name = layer.name if detailed else f"{layer.part} {layer.kind}"
        kept, total = totals.get(name, (0, 0))
        totals[name] = (kept + layer.kept, total + layer.total)
    return {name: 1 - kept / total for name, (kept, total) in totals.items()}


def print_plan(jobs: Sequence[tuple[str, Job]], store: Store, console: Console) -> None:
    """dry_run: which stages every job runs, which of them exist, and what sharing saves. Nothing is computed."""
    stages = list(dict.fromkeys(stage.stage for _, job in jobs for stage in job.stages))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("job", no_wrap=True)
    for stage in stages:
        table.add_column(stage, no_wrap=True)
    to_do: set[str] = set()
    shared = 0
    for name, job in jobs:
        cells = {}
        for stage in job.stages:
            if store.exists(stage.stage, stage.key):
                cells[stage.stage] = "exists"
            elif stage.key in to_do:
                cells[stage.stage] = "shared"
                shared += 1
            else:
                cells[stage.stage] = "to do"
                to_do.add(stage.key)
        table.add_row(name, *(cells.get(stage, "·") for stage in stages))
    console.print(table)
    console.print(
        f"{len(jobs)} jobs, {len(to_do)} stages to do; {shared} more are shared between jobs. Nothing was run:"
        " dry_run=true."
    )
