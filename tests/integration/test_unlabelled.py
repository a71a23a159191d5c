"""Pruning without a truth: from a folder of small frames through to the printed table, and beside clips with a truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import minimal_config, minimal_overrides, run_py
from PIL import Image

from vsrprune.jobs.planning import plan_job
from vsrprune.jobs.runner import run_job
from vsrprune.metrics.quality import IDENTICAL_DB
from vsrprune.results.result import METRICS, NO_TRUTH, Result

SMALL = {"evaluate__temporal": False, "tf_weight": 0.003}
SIZES = {"walk": (20, 26), "sea": (24, 18), "wall": (21, 30)}  # height and width; none a multiple of the scale


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dense network's file, and small frames that have no truth."""
    folder = tmp_path_factory.mktemp("unlabelled")
    job = plan_job(minimal_config(folder, until="pretrain"))
    run_job(job, folder / "runs" / "dense", lambda text: None)
    (folder / "dense.safetensors").symlink_to(folder / "store" / "pretrain" / job.stages[-1].key / "network.safetensors")
    for number, (name, (height, width)) in enumerate(SIZES.items()):
        (folder / "footage" / name).mkdir(parents=True)
        draw = np.random.default_rng(number)
        picture = draw.integers(0, 256, (height + 5, width, 3), dtype=np.uint8)
        for index in range(4):
            Image.fromarray(picture[index : index + height]).save(folder / "footage" / name / f"{index}.png")
    return folder


def footage(folder: Path, made: Path, **changes: Any) -> dict[str, Any]:
    return {
        "data__name": "folder", "data__path": str(made / "footage"), "data__val": ["sea"], "data__truth": "none",
        "pretrained": str(made / "dense.safetensors"), **SMALL, **changes,
    }  # fmt: skip
