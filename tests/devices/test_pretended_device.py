"""Nothing mixes tensors of two devices, and a training step does not make a card wait; on a pretended one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from vsrprune.channels.layout import RULES

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NETWORKS = sorted(file.stem for file in (ROOT / "conf" / "model").glob("*_tiny.yaml"))
# A network and a rule each: recurrent with states of fewer channels, without a flow net, without states.
FAST = [("basicvsr_tiny", "aligned"), ("rrn_tiny", "rsc"), ("edsr_tiny", "inner")]
EVERY = [
    pytest.param(network, rule, marks=() if (network, rule) in FAST else pytest.mark.slow)
    for network in NETWORKS
    for rule in RULES
]
COPIES, READS = "copies to the device", "values read on the host"


@cache
def printed(*arguments: str) -> list[dict[str, Any]]:
    """What cases.py prints, in a process of its own: the pretended device changes PyTorch for good."""
    paths = os.pathsep.join((str(ROOT / "src"), str(HERE)))
    done = subprocess.run(
        [sys.executable, str(HERE / "cases.py"), *arguments],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def lines(network: str = "", rule: str = "") -> list[dict[str, Any]]:
    """Those of a network under a rule, or of the planted mistakes; what is quick runs in one process."""
    quick = not network or (network, rule) in FAST
    found = printed("planted", *map(":".join, FAST)) if quick else printed(f"{network}:{rule}")
    return [line for line in found if (line["network"], line["rule"]) == (network, rule)]


@pytest.mark.parametrize(("network", "rule"), EVERY)
def test_no_operation_mixes_devices(network: str, rule: str) -> None:
    found = lines(network, rule)
    assert len(found) > 20
    assert [f"{line['case']}: {line['error']}" for line in found if line["error"]] == []


@pytest.mark.parametrize(("network", "rule"), EVERY)
def test_a_training_step_copies_nothing_to_the_device_and_reads_nothing_from_it(network: str, rule: str) -> None:
    steps = [line for line in lines(network, rule) if "reads of monitors" in line]
    assert len(steps) > 8
    assert [line for line in steps if line[COPIES] or line[READS]] == []


@pytest.mark.parametrize(("network", "rule"), EVERY)
def test_what_is_logged_is_read_in_at_most_two_pieces(network: str, rule: str) -> None:
    steps = [line for line in lines(network, rule) if "reads of monitors" in line]
    assert [line for line in steps if line["copies of monitors"] or line["reads of monitors"] > 2] == []


def test_planted_mistakes_are_found() -> None:
    found = {line["case"]: line for line in lines()}
    assert {case for case, line in found.items() if line["error"]} == {"mixed", "mixed index_select"}
    assert all("same device" in line["error"] for line in found.values() if line["error"])
    copies = {case for case, line in found.items() if line.get(COPIES)}
    assert copies == {"index from a list", "index on the CPU", "tensor from a list"}
    assert {case for case, line in found.items() if line.get(READS)} == {"read", "moved back", "mask"}
    assert not found["nothing wrong"][COPIES] + found["nothing wrong"][READS]
