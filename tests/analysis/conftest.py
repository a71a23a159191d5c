"""Hand-made runs: the files that a finished job leaves, small enough to check by hand."""

from __future__ import annotations

import io
import json
import math
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vsrprune.channels.plan import PrunePlan
from vsrprune.results.measured import Measured, Timing
from vsrprune.results.result import CROP_PLACES, METRICS, Cost, Equivalence, Gates, HiddenError, Layer, Quality, Result
from vsrprune.selection.budget import Budget

UNITS = {"backward.conv1": 16, "forward.conv1": 16, "fusion": 8}
LOSSES = {"pretrain": ["reconstruction"], "sparsify": ["reconstruction", "penalty"], "finetune": ["reconstruction"]}
SHARED_STAGES = ("pretrain", "reference", "score")
OWN_STAGES = ("select", "sparsify", "prune", "finetune", "evaluate", "measure")
KNOBS: dict[str, Any] = {
    "rsc": True, "residual": "aligned", "ratio": 0.5, "target": "units", "scope": "global", "ratios": None,
    "score": "l1", "order": "min", "tf_weight": 1.0, "min_kept": 1, "round_to": 1, "replicate": 0, "seed": 0,
    "pretrain_seed": 0,
    "model": {"name": "tiny", "channels": 16, "upscale_factors": [2, 2]},
    "task": {"name": "sr"}, "rounds": 1, "parts": [], "normalise": "none", "rank": "score",
    "units": "ranked",
    "data": {"name": "demo", "channel": "y", "degradation": "bicubic", "low": "bi", "crop": 0},
    "evaluate": {"protocol": "full"},
    "schedule": {"name": "demo", "sparsify": {"hold_steps": 40}, "finetune": {"steps": 30, "lr": 0.001}},
    "method": {"name": "ssl", "sparsify": True},
}  # fmt: skip


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Path]:
    """Write a finished job: `make_run(folder, name, **changes)` returns folder/name.

    Changes are knobs (`ratio=0.3`, `schedule__finetune__lr=0.1` for nested ones) or psnr (after fine-tuning, dB), macs
    (of 8000), latency (ms; 4 for the dense network), notes, steps (of each curve), side (of the crops; 0 for none),
    temporal_gain, dense or test (dB, on test clips; none by default), trained (steps after pretraining).
    """
    return write_run


def write_run(
    folder: Path,
    name: str,
    *,
    psnr: float = 30.0,
    macs: int = 4000,
    latency: float = 2.0,
    notes: list[str] | None = None,
    steps: int = 20,
    side: int = 8,
    temporal_gain: float | None = None,
    dense: float = 31.0,
    test: float | None = None,
    trained: int = 190,
    **knobs: Any,
) -> Path:
    job = folder / name
    job.mkdir(parents=True)
    values = _knobs(knobs)
    tested = {} if test is None else {"baseline": _quality(27.0), "dense": _quality(dense), "finetuned": _quality(test)}
    replace(
        _result(values, psnr, macs, notes or [], dense), temporal_gain=temporal_gain, test=tested, steps=trained
    ).save(job)
    _write_measured(job, latency)
    _write_curves(job, steps)
    if side:
        _write_crops(job / "crops", side)
    return job


def _knobs(changes: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(KNOBS))
    for name, value in changes.items():
        *path, last = name.split("__")
        node = values
        for part in path:
            node = node[part]
        node[last] = value
    return values


def _result(knobs: dict[str, Any], psnr: float, macs: int, notes: list[str], dense: float) -> Result:
    values = {"baseline": 28.0, "dense": dense, "before_cut": 30.5, "after_cut": psnr - 2, "finetuned": psnr}
    kept = {name: round(total * (1 - knobs["ratio"])) for name, total in UNITS.items()}
    # A replicate has a dense network of its own, which all settings of the same network and data share.
    shared = _key([knobs[name] for name in ("replicate", "pretrain_seed", "model", "data", "task")])
    own = _key(knobs)
    return Result(
        knobs=knobs,
        rule="rsc" if knobs["rsc"] else knobs["residual"],
        scale=math.prod(knobs["model"]["upscale_factors"]),
        quality={name: _quality(value) for name, value in values.items()},
        cost={"dense": Cost(1000, 1400, 8000, 9000, (180, 320)), "pruned": Cost(500, 900, macs, 5000, (180, 320))},
        layers=[Layer(name, name.split(".")[0], "middle", kept[name], total) for name, total in UNITS.items()],
        budget=Budget("units", dense=40, wanted=20, reached=20),
        gates=Gates(max_cut=0.01, mean_cut=0.002),
        equivalence=Equivalence(float64=1e-15, float32=1e-7),
        hidden_error={
            "after_cut": {
                "backward": HiddenError([0.5, 0.3], [0.2, 0.3], [0.4, 0.0]),
                "forward": HiddenError([0.4, 0.6], [0.4, 0.3], [0.0, 0.5]),
            },
            "finetuned": {
                "backward": HiddenError([0.2, 0.1], [0.15, 0.1], [0.12, 0.0]),
                "forward": HiddenError([0.3, 0.4], [0.3, 0.2], [0.0, 0.3]),
            },
        },
        scores={name: [unit / total for unit in range(total)] for name, total in UNITS.items()},
        plan=PrunePlan("rsc", UNITS, {name: tuple(range(kept[name])) for name in UNITS}),
        stages={**dict.fromkeys(SHARED_STAGES, shared), **dict.fromkeys(OWN_STAGES, own)},
        steps=190,
        notes=notes,
    )


def _key(values: object) -> str:
    return f"{zlib.crc32(json.dumps(values, sort_keys=True).encode()):016x}"


def _quality(psnr: float) -> Quality:
    return Quality(psnr, 0.8, {"walk": {"psnr": psnr, "ssim": 0.8}}, {"walk": [psnr - 1, psnr + 1]})


def _write_measured(job: Path, latency: float) -> None:
    Measured(
        latency_ms={"dense": _timing(4.0), "pruned": _timing(latency)},
        peak_memory_mib={"dense": None, "pruned": None},
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
        stage_seconds={"pretrain": 2.0, "finetune": 1.0},
    ).save(job)


def _timing(milliseconds: float) -> Timing:
    return Timing(milliseconds, milliseconds, milliseconds, milliseconds, "nchw")


def _write_curves(job: Path, steps: int) -> None:
    rows = [
        {"stage": stage, "step": step, "lr": 0.1, **{f"loss_{loss}": round(1 / (step + 1), 4) for loss in losses}}
        for stage, losses in LOSSES.items()
        for step in range(steps)
    ]
    (job / METRICS).write_text("".join(json.dumps(row) + "\n" for row in rows))


def _write_crops(crops: Path, side: int) -> None:
    """What comes from the dense network is the same for all jobs; `pruned` depends on the job's name."""
    crops.mkdir()
    own = zlib.crc32(crops.parent.name.encode()) % 1000
    for kind in ("lr", "bicubic", "dense", "truth", "pruned", "frame"):
        (crops / f"the_walk_{kind}.png").write_bytes(_png(kind, side, own if kind == "pruned" else 0))
    (crops / CROP_PLACES).write_text(json.dumps([{"clip": "the_walk", "frame": 7, "y": 24, "x": 48, "side": side}]))


@lru_cache
def _png(kind: str, side: int, own: int) -> bytes:
    """A smooth picture, and on it the error of its kind."""
    y, x = np.mgrid[:side, :side] / side
    truth_HWC = 128 + 100 * np.stack([np.sin(7 * x * y), np.cos(5 * x), np.sin(9 * y)], axis=-1)
    errors = {"lr": 12 * (y > x), "bicubic": 8 * np.sin(40 * x), "dense": 3 * np.sin(40 * y), "truth": 0 * x,
              "pruned": 6 * np.sin(40 * y + own / 100) + own / 200, "frame": 50 * x}  # fmt: skip
    stream = io.BytesIO()
    Image.fromarray(np.clip(truth_HWC + errors[kind][..., None], 0, 255).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()
