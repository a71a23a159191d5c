"""What a run or a sweep says of networks that were to make so many frames per second (target=realtime)."""

from __future__ import annotations

from collections.abc import Sequence

from vsrprune.config.quantise import INT8
from vsrprune.results.measured import AUTO, TORCH, Way
from vsrprune.results.terminal import Row
from vsrprune.selection.budget import REALTIME

LISTED = 8  # networks that are spoken of one by one


def in_time(rows: Sequence[Row]) -> list[str]:
    """How many frames per second each makes, and which of several is the best that is in time."""
    asked = _asked(rows)
    lines = [_rates(f"#{number + 1}" if len(rows) > 1 else "it", rows[number]) for number in asked][:LISTED]
    best = best_in_time(rows)
    if best is None or len(asked) < 2:
        return lines
    row, way = rows[best], best_way(rows[best])
    if _is_in_time(row, way):
        return [*lines, f"highest PSNR in time: #{best + 1}, {_psnr(row, way):.2f} dB{_in_words(way)}"]
    return [*lines, f"none is in time; #{best + 1} comes nearest, with {_rate(way.ms)} frames per second"]


def best_in_time(rows: Sequence[Row]) -> int | None:
    """The place of the network of the highest PSNR in time, or of the fastest where none is in time.

    None where none was to be in time, or they do not compare: other frames, or another thing that PSNR is to.
    """
    asked = _asked(rows)
    grounds = {(_wanted(rows[n]), rows[n].measured.frame_size, rows[n].result.sees_truth) for n in asked}
    if len(grounds) != 1:
        return None
    ways = {number: best_way(rows[number]) for number in asked}
    fit = [number for number, way in ways.items() if _is_in_time(rows[number], way)]
    if fit:
        return max(fit, key=lambda number: _psnr(rows[number], ways[number]))
    return min(asked, key=lambda number: ways[number].ms)


def best_way(row: Row) -> Way:
    """The way of the highest PSNR in which the network is in time, the faster of two; the fastest where none is."""
    ways = row.measured.ways(_engine(row))
    return max((way for way in ways if _is_in_time(row, way)), key=lambda way: _psnr(row, way), default=ways[0])


def flags(row: Row) -> str:
    """What `src/upscale.py` is told, so that it runs the network in the way that is in time; nothing for other jobs."""
    if not _asked([row]):
        return ""
    way = best_way(row)
    engine = "" if way.engine == TORCH else f" --engine {way.engine}"
    # What is usual differs between devices.
    usual = way.precision == "32" and (way.engine != TORCH or row.measured.device == "cpu")
    return engine + ("" if usual else f" --precision {way.precision}")


def _asked(rows: Sequence[Row]) -> list[int]:
    """Places of the jobs that were to be in time; the dense control is one of them, though it cuts nothing."""
    return [number for number, row in enumerate(rows) if row.result.knobs.get("target") == REALTIME]


def _rates(who: str, row: Row) -> str:
    height, width = row.measured.frame_size
    way, dense = best_way(row), row.measured.ways(_engine(row), dense=True)[0]
    late = "" if _is_in_time(row, way) else ", which is not in time"
    return (
        f"{who} makes {_rate(way.ms)} frames of {width}x{height} per second{_in_words(way)}, flow net included"
        f" ({way.ms:.1f} ms), of {_rate(_wanted(row))} asked for{late}; the dense network"
        f" {_rate(dense.ms)}{_in_words(dense)}"
    )


def _engine(row: Row) -> str:
    named = str(row.result.knobs["evaluate"].get("engine", AUTO))
    # The engines run on the CPU, and do not count beside a GPU unless one is named.
    return TORCH if named == AUTO and row.measured.device != "cpu" else named


def _wanted(row: Row) -> float:
    return float(row.result.knobs["target_ms"])


def _is_in_time(row: Row, way: Way) -> bool:
    return way.ms <= _wanted(row)


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
