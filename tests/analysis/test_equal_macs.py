"""Settings compared at equal MACs: over replicates, by knob, and what is said where they have none in common."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.comparisons import equal_macs_table, series_gaps
from analysis.runs import Runs, load_runs
from vsrprune.results.curves import gap_over_replicates

MakeRun = Callable[..., Path]
T_975 = 12.706  # Student's t at one degree of freedom, 0.975


@pytest.fixture
def lines(tmp_path: Path, make_run: MakeRun) -> Runs:
    """Two rules on straight lines of 2 dB over all MACs, rsc 0.1 and 0.2 dB higher in two replicates 1 dB apart.

    They keep other MACs at each ratio, and have 50 to 70 % in common. Ratio 0.3 of replicate 1 is missing for rsc.
    """
    kept = {(True, 0.3): 0.9, (True, 0.5): 0.7, (True, 0.7): 0.5, (False, 0.3): 0.7, (False, 0.5): 0.5}
    for (rsc, ratio), replicate in itertools.product(kept, (0, 1)):
        if (rsc, ratio, replicate) == (True, 0.3, 1):
            continue
        share = kept[rsc, ratio]
        psnr = 28 + 2 * share + replicate + (0.1 + 0.1 * replicate) * rsc
        make_run(tmp_path, f"{rsc}{ratio}{replicate}", rsc=rsc, ratio=ratio, replicate=replicate,
                 macs=round(8000 * share), psnr=psnr)  # fmt: skip
    return load_runs([str(tmp_path)])


def test_a_gap_is_paired_by_replicate(lines: Runs) -> None:
    rules = {rule: [run for run in lines.finished if run.knobs["rule"] == rule] for rule in ("rsc", "aligned")}
    gap = gap_over_replicates([(rules["rsc"], rules["aligned"])])
    assert gap is not None
    assert (gap.psnr.count, gap.low, gap.high) == (2, pytest.approx(0.5), pytest.approx(0.7))
    assert gap.psnr.mean == pytest.approx(0.15)
    assert gap.psnr.half_width == pytest.approx(T_975 * 0.05, rel=1e-4)
    assert gap.text == "+0.150 ± 0.635"
    assert gap.range_text == "50 to 70 % of the MACs"


def test_knobs_are_compared_at_equal_macs(lines: Runs) -> None:
    """At equal ratio rsc keeps 20 % more of the MACs, which are 0.4 dB that it does not win."""
    (row,) = equal_macs_table(lines).to_dict("records")
    assert (row["knob"], row["reference"], row["value"], row["equal"]) == ("rule", "aligned", "rsc", True)
    assert row["difference"] == pytest.approx(0.15)
    assert row["verdict"] == "within noise"
    assert {name: gap.psnr.mean for name, gap in series_gaps(lines).items() if gap} == {"rsc": pytest.approx(0.15)}


def test_without_macs_in_common_the_rows_of_each_cut_say_so(tmp_path: Path, make_run: MakeRun) -> None:
    for rsc, replicate in itertools.product((True, False), (0, 1)):
        make_run(tmp_path, f"{rsc}{replicate}", rsc=rsc, replicate=replicate, macs=6000 if rsc else 4000,
                 psnr=30 + 0.5 * rsc)  # fmt: skip
    runs = load_runs([str(tmp_path)])
    (row,) = equal_macs_table(runs).to_dict("records")
    assert (row["equal"], row["verdict"], row["cut"]) == (False, "unequal MACs", "50 % of the units cut")
    assert row["difference"] == pytest.approx(0.5)
    assert row["macs"] == pytest.approx(0.25)
    assert series_gaps(runs) == {"rsc": None}
