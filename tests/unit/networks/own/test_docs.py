"""The program in docs/networks.md runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from forked import run_script

DOCS = Path(__file__).parents[4] / "docs" / "networks.md"


@pytest.mark.long
def test_the_program_on_the_page_runs(tmp_path: Path) -> None:
    network, use = re.findall(r"```python\n(.*?)```", DOCS.read_text(), flags=re.DOTALL)
    (tmp_path / "my_net.py").write_text(network)
    (tmp_path / "use.py").write_text(use)
    done = run_script([tmp_path / "use.py"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "up2: 16 channels in group up2" in done.stdout
    (error,) = re.findall(r"float64: (\S+)", done.stdout)
    assert float(error) <= 1e-12
    dense, pruned = (float(value) for value in re.findall(r"([\d.]+) G MACs", done.stdout))
    assert abs(pruned / dense - 0.5) < 0.03  # a channel of the upsampler is 3.5 % of the MACs
