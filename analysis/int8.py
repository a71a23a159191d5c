"""What tables show of int8 networks."""

from __future__ import annotations

import math

from vsrprune.results.measured import Measured
from vsrprune.results.result import Result


def int8_cells(result: Result, measured: Measured) -> dict[str, float]:
    """PSNR, SSIM, megabytes of its graphs, milliseconds in its engine, in turns; NaN where a job made none.

    engine_ms: of the same network in 32 bits.
    """
    int8, ms = result.int8, measured.engine_ms
    return {
        "psnr_int8": int8.quality.psnr if int8 else math.nan,
        "ssim_int8": int8.quality.ssim if int8 else math.nan,
        "megabytes_int8": int8.size / 1e6 if int8 else math.nan,
        "engine_ms": ms.get("float32", math.nan),
        "engine_ms_int8": ms.get("int8", math.nan),
        "int8_speed_up": ms["float32"] / ms["int8"] if ms else math.nan,
    }
