"""What the data doctor prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from vsrprune.data.doctor.doctor import (
    SEVERITIES,
    ClipFacts,
    DoctorSettings,
    Finding,
    all_findings,
    examine_clip,
    exit_code,
    fitting_degradations,
    side_differences,
)
from vsrprune.data.sources import ClipSource
from vsrprune.host.progress import StageProgress

MOST_PRINTED = 50  # findings of one severity
COLOURS = {"error": "red", "warning": "yellow", "note": "dim"}


def check_data(
    train: Sequence[ClipSource],
    test: Sequence[ClipSource],
    settings: DoctorSettings,
    said: Sequence[Finding],
    console: Console,
) -> int:
    """Examine all clips and print a report; the exit code: 0 for notes at most, 1 for warnings, 2 for errors.

    said: what was found while the clips were looked for.
    """
    sides = [("train", source) for source in train] + [("test", source) for source in test]
    clips = []
    with StageProgress("examine", len(sides)) as progress:
        for done, (side, source) in enumerate(sides, start=1):
            clips.append(examine_clip(source, side, settings))
            progress.update(done)
    findings = [*all_findings(clips, settings), *said]
    console.print(_clips_table(clips))
    for side in ("train", "test"):
        of_side = [facts for facts in clips if facts.side == side]
        if of_side and settings.scale > 1:
            _print_degradations(side, of_side, settings, console)
    print_findings(findings, console)
    return exit_code(findings)


def _clips_table(clips: Sequence[ClipFacts]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("side", "clips", "frames", "shortest", "longest", "sizes"):
        table.add_column(heading, justify="left" if heading in ("side", "sizes") else "right")
    for side in ("train", "test"):
        of_side = [facts for facts in clips if facts.side == side]
        if not of_side:
            continue
        lengths = [facts.frames for facts in of_side]
        sizes = Counter(f"{facts.size[1]}x{facts.size[0]}" for facts in of_side if facts.frames)
        shown = ", ".join(f"{size} ({count})" for size, count in sizes.most_common(4))
        table.add_row(
            side,
            str(len(of_side)),
            f"{sum(lengths):,}",
            str(min(lengths)),
            str(max(lengths)),
            shown + (", ..." if len(sizes) > 4 else ""),
        )
    return table


def _print_degradations(side: str, clips: Sequence[ClipFacts], settings: DoctorSettings, console: Console) -> None:
    """Say by which degradation the stored low-resolution frames were made."""
    stored = [facts for facts in clips if facts.low]
    if not stored:
        made = " or ".join(settings.degradations[:1])
        console.print(f"{side}: no low-resolution frames on disk; they are made ({made})", highlight=False)
        return
    fitting = fitting_degradations(stored)
    words = " or ".join(fitting) if fitting else "none of these"
    console.print(f"{side}: low-resolution frames on disk, made by [bold]{words}[/bold]", highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("degradation", "mean", "largest difference, levels"):
        table.add_column(heading, justify="left" if heading == "degradation" else "right")
    for name, (mean, largest) in side_differences(stored).items():
        table.add_row(name, f"{mean:.3f}", f"{largest:.0f}")
    console.print(table)


def print_findings(findings: Sequence[Finding], console: Console) -> None:
    """A line per finding, the worst first, and the totals."""
    for severity in reversed(SEVERITIES):
        of_kind = [finding for finding in findings if finding.severity == severity]
        for finding in of_kind[:MOST_PRINTED]:
            advice = f" -> {finding.advice}" if finding.advice else ""
            # An error of reading names its file already.
            where = "" if finding.what.startswith(finding.where) else f"{finding.where}: "
            console.print(f"[{COLOURS[severity]}]{severity}[/] ", end="")
            console.print(f"{where}{finding.what}{advice}", highlight=False, markup=False, soft_wrap=True)
        if len(of_kind) > MOST_PRINTED:
            console.print(f"... and {len(of_kind) - MOST_PRINTED} more of severity {severity}", highlight=False)
    counts = Counter(finding.severity for finding in findings)
    total = ", ".join(f"{counts[name]} {name}{'' if counts[name] == 1 else 's'}" for name in reversed(SEVERITIES))
    console.print(f"{total}; exit code {exit_code(findings)}", highlight=False)
