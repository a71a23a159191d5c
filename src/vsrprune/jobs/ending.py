"""What a run or a sweep says at its end: what its table shows, where its best network lies, what can be done next."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from vsrprune.commands import typed
from vsrprune.jobs.in_time import best_in_time, flags, in_time
from vsrprune.results.curves import gap_over_replicates
from vsrprune.results.grounds import by_ground
from vsrprune.results.settings import SEEDS, setting_of
from vsrprune.results.terminal import Row
from vsrprune.store.bucket import is_url

USUAL_STORE = "store"  # of src/upscale.py
NEAR_DENSE = 0.15  # dB below the dense network in which the fastest is looked for
CUT = ("ratio", "target_ms")  # how much a setting cuts
COMPARED = 8  # settings that are compared in words


def ending(rows: Sequence[Row], root: Path, folders: Sequence[Path], store: Path, place: str = "") -> list[str]:
    """Lines for the jobs of a folder `root`; none where no job is finished.

    folders: those of the rows, in their order. store, place: the store's folder, and what the user
    named it by where that is no folder.
    """
    if not rows:
        return []
    # PSNR to the truth, where any job saw it: that to the dense network, which is far higher, is no rival of it.
    judged = [number for number, row in enumerate(rows) if row.result.sees_truth] or range(len(rows))
    best = max(judged, key=lambda number: rows[number].result.quality["finetuned"].psnr)
    lines = []
    if len(rows) > 1:
        result = rows[best].result
        psnr = result.quality["finetuned"].psnr
        what = "highest PSNR" if result.sees_truth else "nearest to the dense network"
        lines.append(f"{what}: #{best + 1}, {psnr:.2f} dB at {result.macs_kept:.1%} of the MACs")
        compared = [line for ground in by_ground(rows) for line in _at_equal_macs(ground)]
        lines += [*_fastest(rows), *compared[:COMPARED]]
        if len(compared) > COMPARED:
            lines.append(f"and {len(compared) - COMPARED} more; the report compares them all")
    lines += in_time(rows)
    wanted = best_in_time(rows)  # where a time was asked for, a network that is late is of no use
    best = best if wanted is None else wanted
    result, folder = rows[best].result, shortest(folders[best])
    if "finetune" in result.stages:
        network = f"finetune/{result.stages['finetune']}"
        lines.append(
            f"its network: {network} in {place}" if is_url(place) else f"its network: {shortest(store / network)}"
        )
    named = place if is_url(place) else shortest(store)
    where = "" if named == USUAL_STORE else f" --store {shlex.quote(named)}"
    how = flags(rows[best])
    next_commands = {
        f"python analysis/report.py {shlex.quote(shortest(root))}": "writes report.html here: table, curves, pictures",
        f"python src/upscale.py VIDEO NEW.mp4 --model {shlex.quote(folder)}{where}{how}": "enlarges a video with it",
    }
    lines.append("next:")
    for command, purpose in next_commands.items():
        lines += [f"  {typed(command)}", f"      {purpose}"]
    return lines


def _fastest(rows: Sequence[Row]) -> list[str]:
    """The fastest job that is near the dense network; of one dense network, since over several the means speak.

    None where no truth was seen: no loss beside the dense network's is known then.
    """
    if len({row.result.stages["reference"] for row in rows}) > 1 or not all(row.result.sees_truth for row in rows):
        return []
    dense = rows[0].result.quality["dense"].psnr
    psnr = [row.result.quality["finetuned"].psnr for row in rows]
    near = [number for number, value in enumerate(psnr) if value >= dense - NEAR_DENSE]
    if not near:
        return [f"none is within {NEAR_DENSE} dB of the dense network ({dense:.2f} dB)"]
    best = max(near, key=lambda number: rows[number].measured.speed_up)
    return [
        f"fastest within {NEAR_DENSE} dB of the dense network ({dense:.2f}): #{best + 1}, {psnr[best]:.2f} dB,"
        f" speed-up {rows[best].measured.speed_up:.2f}"
    ]


def _at_equal_macs(rows: Sequence[Row]) -> list[str]:
    """Settings of one dense network at several cuts as curves, each against the first, over the MACs that both have."""
    series: dict[str, list[Row]] = {}
    for row in rows:
        knobs = json.loads(setting_of(row.result))
        series.setdefault(json.dumps({name: knobs[name] for name in knobs if name not in CUT}), []).append(row)
    first, *others = series.values()
    lines = []
    for group in others:
        gap = gap_over_replicates([(group, first)])
        if gap is not None and gap.high > gap.low:
            lines.append(f"at equal MACs ({gap.range_text}): {_series(group)} {gap.text} dB against {_series(first)}")
    return lines


def _series(rows: Sequence[Row]) -> str:
    return " ".join(word for word in rows[0].label.split() if word.partition("=")[0] not in (*CUT, *SEEDS))


def shortest(path: Path) -> str:
    """A path as one would type it: relative to this folder where it lies below it."""
    try:
        return str(path.absolute().relative_to(os.getcwd()))
    except ValueError:
        return str(path)
