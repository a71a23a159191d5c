"""What a person reads after a network was compared with the truth on a test set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from vsrprune.results.protocols import Comparison
from vsrprune.results.result import Quality

MOST_CLIPS = 40  # rows; Vimeo-90K has 7,824


@dataclass(frozen=True)
class SetQuality:
    """Quality on a test set.

    low: where the low-resolution frames are from, in words. network: what the second column is of; empty without one.
    quality: by what was compared, bicubic first.
    """

    data: str
    protocol: str
    comparison: Comparison
    low: str
    network: str
    quality: Mapping[str, Quality]


def print_compared(compared: SetQuality, console: Console) -> None:
    """A line about how was compared, and a table: a row per clip, and their mean."""
    console.print(_caption(compared), highlight=False, markup=False, soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("clip")
    for name in compared.quality:
        table.add_column(f"{name}\nPSNR", justify="right")
        table.add_column("\nSSIM", justify="right")
    if len(compared.quality) > 1:
        table.add_column("gain\ndB", justify="right")
    clips = list(next(iter(compared.quality.values())).clips)
    for clip in clips if len(clips) <= MOST_CLIPS else []:
        table.add_row(
            clip, *_cells([(of.clips[clip]["psnr"], of.clips[clip]["ssim"]) for of in compared.quality.values()])
        )
    table.add_section()
    table.add_row("mean of the clips", *_cells([(of.psnr, of.ssim) for of in compared.quality.values()]))
    console.print(table)


def _caption(compared: SetQuality) -> str:
    quality, how = next(iter(compared.quality.values())), compared.comparison
    frames = sum(map(len, quality.frames.values()))
    what = {"y": "luma (Y)", "rgb": "RGB"}[how.channel]
    border = f", {how.crop} border pixels left out" if how.crop else ""
    only = ", of every clip its middle frame" if how.centre else ""
    network = f"network: {compared.network}; " if compared.network else ""
    return (
        f"{network}{compared.data}: {len(quality.clips)} clips, {frames} frames compared in {what}{border}{only}"
        f" (evaluate.protocol={compared.protocol}); low-resolution frames {compared.low}"
    )


def _cells(scores: list[tuple[float, float]]) -> list[str]:
    """PSNR and SSIM of every column, and what the last gains over the first."""
    cells = [cell for psnr, ssim in scores for cell in (f"{psnr:.3f}", f"{ssim:.4f}")]
    return cells if len(scores) == 1 else [*cells, f"{scores[-1][0] - scores[0][0]:+.3f}"]
