"""What tables show of int8 networks, and of times in engines."""

from __future__ import annotations

import math

from vsrprune.results.measured import Measured
from vsrprune.results.result import Result


def int8_cells(result: Result, measured: Measured) -> dict[str, float]:
    """PSNR, SSIM, megabytes of its graphs; NaN where a job made none.

    engine_ms, engine_ms_int8: milliseconds per frame in 32 bits and in int8, each in the fastest engine of those that
    were timed.
    """
    int8 = result.int8
    float_ms, int8_ms = (
        math.nan if way is None else way.ms for way in map(measured.fastest_in_engines, ("float32", "int8"))
    )
    return {
        "psnr_int8": int8.quality.psnr if int8 else math.nan,
        "ssim_int8": int8.quality.ssim if int8 else math.nan,
        "megabytes_int8": int8.size / 1e6 if int8 else math.nan,
        "engine_ms": float_ms,
        "engine_ms_int8": int8_ms,
        "int8_speed_up": float_ms / int8_ms,
    }
