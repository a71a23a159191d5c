"""PSNR against MACs as curves, and two of them compared in one number: at equal MACs, without extrapolation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vsrprune.results.intervals import Interval, interval
from vsrprune.results.replicates import HasResult, Name, by_network, final_psnr, replicate_names

EQUAL_MACS = 0.01  # of the dense network's: MACs that lie closer count as equal

Point = tuple[float, float]  # share of the MACs kept, PSNR (dB)


@dataclass(frozen=True)
class Gap:
    """PSNR of a curve minus another's (dB), the mean over the MACs that both have; and that range as shares kept.

    low and high are equal where a curve has one point, or where the two only come near each other.
    """

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class CurveGap:
    """The `Gap` of two settings' curves over their common replicates. low and high are means over these."""

    psnr: Interval
    low: float
    high: float

    @property
    def text(self) -> str:
        """Such as `+0.213 ± 0.020`, in dB; without an interval where one replicate is common."""
        return f"{self.psnr.mean:+.3f}" + (f" ± {self.psnr.half_width:.3f}" if self.psnr.count > 1 else "")

    @property
    def range_text(self) -> str:
        """The range of MACs that it is over, such as `53 to 86 % of the MACs`."""
        low, high = f"{100 * self.low:.0f}", f"{100 * self.high:.0f}"
        return f"{low if low == high else f'{low} to {high}'} % of the MACs"


def curve_gap(points: Sequence[Point], reference: Sequence[Point]) -> Gap | None:
    """What a curve is above another, the mean over their common range; None where they have none.

    Between its points a curve is straight, so that the mean is exact; beyond its ends it is not continued.
    Bjontegaard's mean (VCEG-M33, 2001) fits a cubic over the logarithm instead, which noise on few points bends.
    """
    curve, other = _curve(points), _curve(reference)
    low, high = max(curve[0][0], other[0][0]), min(curve[0][-1], other[0][-1])
    if low - high > EQUAL_MACS:
        return None
    if low >= high:
        place = (low + high) / 2
        # `np.interp` takes the end where a curve ends less than EQUAL_MACS before the place.
        return Gap(float(np.interp(place, *curve) - np.interp(place, *other)), place, place)
    knots = np.unique([low, high, *(x for x in (*curve[0], *other[0]) if low < x < high)])
    above = np.interp(knots, *curve) - np.interp(knots, *other)
    return Gap(float(np.trapezoid(above, knots) / (high - low)), float(low), float(high))


def _curve(points: Sequence[Point]) -> tuple[np.ndarray, np.ndarray]:
    """MACs in ascending order and PSNR at each, the mean where several points have the same MACs."""
    macs, places = np.unique([x for x, _ in points], return_inverse=True)
    sums = np.bincount(places, weights=[y for _, y in points])
    return macs, sums / np.bincount(places)


def curves_by_replicate(
    jobs: Iterable[HasResult], names: Mapping[str, Name], value: Callable[[HasResult], float] = final_psnr
) -> dict[object, list[Point]]:
    """The curve of one setting at several cuts, by replicate: a point per cut that was asked for, the mean of its runs.

    names: see `replicate_names`, of these jobs and more.
    """
    found: dict[object, dict[tuple[object, ...], list[Point]]] = {}
    for network, runs in by_network(jobs).items():
        for run in runs:
            knobs = run.result.knobs
            asked = (knobs["target"], knobs["ratio"], knobs.get("target_ms"))
            of_replicate = found.setdefault(names[network], {})
            of_replicate.setdefault(asked, []).append((run.result.macs_kept, value(run)))
    return {
        name: [(float(np.mean([x for x, _ in of])), float(np.mean([y for _, y in of]))) for of in cuts.values()]
        for name, cuts in found.items()
    }


def gap_over_replicates(
    pairs: Iterable[tuple[Sequence[HasResult], Sequence[HasResult]]],
    value: Callable[[HasResult], float] = final_psnr,
) -> CurveGap | None:
    """The first jobs' curve minus the second's, over the replicates that both have; None where nothing is common.

    Several pairs, whose jobs differ in what is not compared, are averaged inside each replicate.
    """
    known = [(list(jobs), list(reference)) for jobs, reference in pairs]
    names = replicate_names([job for pair in known for side in pair for job in side])
    found: dict[object, list[Gap]] = {}
    for jobs, reference in known:
        curves, others = curves_by_replicate(jobs, names, value), curves_by_replicate(reference, names, value)
        for name in curves.keys() & others.keys():
            gap = curve_gap(curves[name], others[name])
            if gap is not None:
                found.setdefault(name, []).append(gap)
    if not found:
        return None
    gaps = [gap for of in found.values() for gap in of]
    return CurveGap(
        interval([float(np.mean([gap.mean for gap in of])) for _, of in sorted(found.items(), key=str)]),
        float(np.mean([gap.low for gap in gaps])),
        float(np.mean([gap.high for gap in gaps])),
    )
