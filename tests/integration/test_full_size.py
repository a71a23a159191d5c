"""The published network, 64 channels and 30 blocks: cut, proven, saved, loaded, and a full disk."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from conftest import minimal_overrides, run_py

from vsrprune.metrics.cost import network_cost
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.basicvsr.spec import BasicVSRArguments
from vsrprune.networks.files import load_network, save_network
from vsrprune.pruning.scores.table import score_units
from vsrprune.pruning.surgery import compact, equivalence_error
from vsrprune.selection.asked import Asked
from vsrprune.selection.units import select


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["rsc", "aligned", "inner"])
def test_the_published_network_is_cut_without_a_trace(rule: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = BasicVSR(BasicVSRArguments())
    layout = network.channel_layout(rule)
    plan = select(layout, score_units(network, layout, "random"), Asked(rule=rule, ratio=0.5, target="macs"))
    frames = torch.rand(1, 2, 3, 13, 17)
    assert equivalence_error(network, plan, frames, torch.float64) <= 1e-10
    smaller = compact(network, plan)
    assert network_cost(smaller, (180, 320)).macs == layout.macs_per_pixel(plan.kept_counts) * 180 * 320
    save_network(smaller, tmp_path)
    with torch.no_grad():
        assert torch.equal(load_network(tmp_path)(frames).frames_NTCHW, smaller(frames).frames_NTCHW)


@pytest.mark.slow
def test_a_full_disk_is_said_in_one_line_and_loses_nothing(tmp_path: Path) -> None:
    """A real file system of 300 KB: too small for the network, large enough to start."""
    small = tmp_path / "small"
    small.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small tmpfs needs root")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(small)], check=False)
    if mounted.returncode != 0:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        arguments = [item for item in minimal_overrides(tmp_path) if not item.startswith("store_dir")]
        done = run_py(*arguments, "model.channels=48", "tracking=none", f"store_dir={small}")
        assert done.returncode == 2, done.stdout + done.stderr
        assert "the disk is full" in done.stderr
        assert "Traceback" not in done.stderr
        assert not list(small.glob("*/*/manifest.json"))
    finally:
        subprocess.run(["umount", str(small)], check=True)
