"""The benchmark of latency, tried without a card."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.slow
@pytest.mark.parametrize("table", ["precisions", "parts"])
def test_its_dry_mode_prints_every_row(table: str) -> None:
    command = [sys.executable, "benchmarks/latency.py", "dry=true", f"table={table}", "roundings=[1,4,auto]"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "COLUMNS": "140"})
    assert done.returncode == 0, done.stderr
    if table == "parts":
        assert len(re.findall(r"^ whole +(?:0\.5)? +(?:dense|free|auto) ", done.stdout, re.MULTILINE)) >= 2
        return
    for precision in ("32", "bf16"):
        assert f"24x16, {precision}, ms per frame" in done.stdout
    for row in ("dense", "0.5 round_to=1", "0.5 round_to=4", "0.5 round_to=auto"):
        assert len(re.findall(rf"^ {re.escape(row)}.* \d+\.\d\d ", done.stdout, re.MULTILINE)) == 2, row
