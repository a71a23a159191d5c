"""The benchmark of fused kernels, tried without a card."""

from __future__ import annotations

from conftest import ROOT
from forked import run_script


def test_its_dry_run_times_every_form() -> None:
    done = run_script([ROOT / "benchmarks" / "fused.py", "--precisions", "tf32", "--kept", "64", "7"], ROOT)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("tf32")]
    # 64 of 64 channels: plain and three fused; 7: one plain, three fused and one in eights, each in four ways.
    assert len([line for line in lines if line[1] == "64"]) == 4
    assert len([line for line in lines if line[1] == "7"]) == 1 + 4 * 4
