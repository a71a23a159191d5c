"""A result, its measurements and its crops, made by hand for those who show them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from vsrprune.channels.plan import PrunePlan
from vsrprune.results.measured import Measured, Timing
from vsrprune.results.result import Cost, Equivalence, Layer, Quality, Result
from vsrprune.selection.budget import Budget

KINDS = ("lr", "bicubic", "dense", "pruned", "truth", "frame")


def small_result() -> Result:
    psnr = {"baseline": 20.0, "dense": 30.0, "before_cut": 29.5, "after_cut": 25.0, "finetuned": 29.0}
    return Result(
        knobs={"task": {"name": "sr"}},
        rule="rsc",
        scale=4,
        quality={name: Quality(value, value / 100, {}, {}) for name, value in psnr.items()},
        cost={"dense": Cost(100, 110, 1000, 1100, (180, 320)), "pruned": Cost(60, 70, 500, 600, (180, 320))},
        layers=[Layer("trunk.conv1", "trunk", "filter", 2, 4), Layer("tail", "tail", "input", 2, 2)],
        budget=Budget("units", 6, 4, 4),
        gates=None,
        equivalence=Equivalence(1e-15, 1e-7),
        hidden_error={},
        scores={"trunk.conv1": [0.0, 1.0, 2.0, 4.0], "tail": [0.0, 0.0]},
        plan=PrunePlan("rsc", {"trunk.conv1": 4, "tail": 2}, {"trunk.conv1": (2, 3), "tail": (0, 1)}),
        stages={},
        steps=190,
        notes=[],
    )


def small_measured() -> Measured:
    return Measured(
        latency_ms={"dense": Timing(12.0, 11.0, 13.0, 10.0, "nchw"), "pruned": Timing(8.0, 7.0, 9.0, 6.0, "nhwc")},
        peak_memory_mib={"dense": 30.0, "pruned": None},
        precision="32",
        compiled=False,
        frame_size=(180, 320),
        frames=5,
        repeats=3,
        threads=2,
        device="cpu",
        host="here",
        processor="some processor",
        git_commit="",
        versions={"torch": "2.9"},
    )


def write_crops(folder: Path, clips: Sequence[str]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "places.json").write_text(json.dumps([{"clip": clip} for clip in clips]))
    for clip in clips:
        for kind in KINDS:
            Image.new("RGB", (4, 4)).save(folder / f"{clip}_{kind}.png")
