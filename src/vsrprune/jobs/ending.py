"""What a run or a sweep says at its end: where its best network lies, and what can be done next."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from vsrprune.commands import typed
from vsrprune.results.terminal import Row

USUAL_STORE = "store"  # of src/upscale.py


def ending(rows: Sequence[Row], root: Path, folders: Sequence[Path], store: Path) -> list[str]:
    """Lines for the jobs of a folder `root`; none where no job is finished.

    folders: those of the rows, in their order.
    """
    if not rows:
        return []
    best = max(range(len(rows)), key=lambda number: rows[number].result.quality["finetuned"].psnr)
    result, folder = rows[best].result, shortest(folders[best])
    lines = []
    if len(rows) > 1:
        psnr = result.quality["finetuned"].psnr
        lines.append(f"highest PSNR: #{best + 1}, {psnr:.2f} dB at {result.macs_kept:.1%} of the MACs")
    network = shortest(store / "finetune" / result.stages["finetune"]) if "finetune" in result.stages else ""
    lines += [f"its network: {network}"] if network else []
    where = "" if shortest(store) == USUAL_STORE else f" --store {shlex.quote(shortest(store))}"
    next_commands = {
        f"python analysis/report.py {shlex.quote(shortest(root))}": "writes report.html here: table, curves, pictures",
        f"python src/upscale.py VIDEO NEW.mp4 --model {shlex.quote(folder)}{where}": "enlarges a video with it",
    }
    lines.append("next:")
    for command, purpose in next_commands.items():
        lines += [f"  {typed(command)}", f"      {purpose}"]
    return lines


def shortest(path: Path) -> str:
    """A path as one would type it: relative to this folder where it lies below it."""
    try:
        return str(path.absolute().relative_to(os.getcwd()))
    except ValueError:
        return str(path)
