"""What a run or a sweep says of networks that were to make so many frames per second (target=realtime)."""

from __future__ import annotations

from collections.abc import Sequence

from vsrprune.results.measured import AUTO, TORCH, Way
from vsrprune.results.terminal import Row
from vsrprune.selection.budget import REALTIME

INT8 = "int8"
LISTED = 8  # networks that are spoken of one by one


def in_time(rows: Sequence[Row]) -> list[str]:
    """How many frames per second each makes, and which of several is the best that is in time."""
    asked = [(number, row) for number, row in enumerate(rows, start=1) if row.result.budget.target == REALTIME]
    lines = [_rates(f"#{number}" if len(rows) > 1 else "it", row) for number, row in asked][:LISTED]
    if len(asked) < 2 or len({(row.result.budget.wanted, row.measured.frame_size) for _, row in asked}) > 1:
        return lines
    # PSNR to the truth, where every job saw it, or else to the dense network in all of them.
    if len({row.result.sees_truth for _, row in asked}) > 1:
        return lines
    best = [(number, row, way) for number, row in asked for way in [best_way(row)] if _is_in_time(row, way)]
    if best:
        number, row, way = max(best, key=lambda found: _psnr(found[1], found[2]))
        lines.append(f"highest PSNR in time: #{number}, {_psnr(row, way):.2f} dB{_in_words(way)}")
    else:
        number, row = min(asked, key=lambda found: best_way(found[1]).ms)
        lines.append(f"none is in time; #{number} comes nearest, with {_rate(best_way(row).ms)} frames per second")
    return lines


def best_way(row: Row) -> Way:
    """The way of the highest PSNR in which the network is in time, the faster of two; the fastest where none is."""
    ways = row.measured.ways(_engine(row))
    return max((way for way in ways if _is_in_time(row, way)), key=lambda way: _psnr(row, way), default=ways[0])


def flags(way: Way) -> str:
    """What `src/upscale.py` is told for it."""
    precision = f" --precision {INT8}" if way.precision == INT8 else ""
    return "" if way.engine == TORCH else f" --engine {way.engine}{precision}"


def _rates(who: str, row: Row) -> str:
    height, width = row.measured.frame_size
    way, dense = best_way(row), row.measured.ways(_engine(row), dense=True)[0]
    return (
        f"{who} makes {_rate(way.ms)} frames of {width}x{height} per second{_in_words(way)}, flow net included"
        f" ({way.ms:.1f} ms), of {_rate(row.result.budget.wanted)} asked for; the dense network"
        f" {_rate(dense.ms)}{_in_words(dense)}"
    )


def _engine(row: Row) -> str:
    return str(row.result.knobs["evaluate"].get("engine", AUTO))  # results of before it came have none


def _is_in_time(row: Row, way: Way) -> bool:
    return way.ms <= row.result.budget.wanted


def _psnr(row: Row, way: Way) -> float:
    if way.precision == INT8 and row.result.int8 is not None:
        return row.result.int8.quality.psnr
    change = row.measured.psnr_change_db if way.engine == TORCH else None
    return row.result.quality["finetuned"].psnr + (change or 0.0)


def _in_words(way: Way) -> str:
    precision = "" if way.precision == "32" else f" in {way.precision}"
    return precision if way.engine == TORCH else f" in {way.engine}{precision}"


def _rate(ms: float) -> str:
    """Three digits, and none of them in a power of ten, as :.3g has it from 1000 on."""
    per_second = 1000 / ms
    return f"{per_second:.3g}" if per_second < 100 else f"{per_second:.0f}"
