"""A job with quantise=int8: its graphs are an artifact like any other, and what it found stands in its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import minimal_config
from PIL import Image
from rich.console import Console
from videos import make_video, pictures

from vsrprune.jobs.planning import plan_job
from vsrprune.jobs.runner import run_job
from vsrprune.results.measured import Measured
from vsrprune.results.result import Result
from vsrprune.results.terminal import Row, print_results
from vsrprune.stages.job import Job
from vsrprune.store.store import sha256
from vsrprune.use.streaming import Pieces
from vsrprune.use.upscaling import UpscalingRequest, upscale

pytestmark = pytest.mark.long
INT8 = {"quantise__name": "int8", "quantise__clips": 2, "quantise__frames": 3, "method__sparsify": False}


def planned(folder: Path, **changes: Any) -> Job:
    return plan_job(minimal_config(folder, **{**INT8, **changes}))


def run(job: Job, folder: Path, said: list[str]) -> Result:
    result = run_job(job, folder / "runs" / "job", said.append)
    assert result is not None
    return result


@pytest.mark.parametrize("bidirectional", [True, False])
def test_a_job_makes_an_int8_network_and_finds_it_again(
    tmp_path: Path, bidirectional: bool, small_frames: None
) -> None:
    said: list[str] = []
    job = planned(tmp_path, model__bidirectional=bidirectional)
    first = run(job, tmp_path, said)
    folder = tmp_path / "store" / "quantise" / job.stage("quantise").key
    steps = ["backward_step", "forward_step", "upsampler"] if bidirectional else ["step"]
    files = [folder / kind / f"{step}.onnx" for kind in ("float32", "int8") for step in steps]
    assert sorted(folder.rglob("*.onnx")) == files
    for path in files:
        onnx.checker.check_model(onnx.load(path))
    # Another network without integers is the same to the last bit, and says nothing of any.
    without = run(planned(tmp_path, model__bidirectional=bidirectional, quantise__name="none"), tmp_path, said)
    assert without.quality == first.quality
    assert without.int8 is None
    int8 = first.int8
    assert int8 is not None
    # A network that hardly trained: its PSNR moves by little, and by something.
    assert 0 < abs(int8.quality.psnr - first.quality["finetuned"].psnr) < 0.5
    assert int8.quality.tof is not None
    assert int8.loss <= max(0.2, int8.loss_all_int8)
    assert int8.size == sum(path.stat().st_size for path in files if path.parent.name == "int8")
    assert set(int8.hidden_error) == ({"backward", "forward"} if bidirectional else {"forward"})
    for error in int8.hidden_error.values():
        assert len(error.total) == 5
        assert all(0 < value < 0.5 for value in error.total)
    # A damaged graph is set aside and made again, with the same bytes.
    sums = [sha256(path) for path in files]
    content = bytearray(files[-1].read_bytes())
    content[-9] ^= 4
    files[-1].write_bytes(content)
    assert run(job, tmp_path, said) == first
    assert any("fails its checksum" in line for line in said)
    assert [sha256(path) for path in files] == sums
    measured = Measured.load(tmp_path / "runs" / "job")
    assert list(measured.engine_ms) == ["onnxruntime"]
    assert list(measured.engine_ms["onnxruntime"]) == ["dense", "float32", "int8"]
    assert all(ms > 0 for ms in measured.engine_ms["onnxruntime"].values())
    _check_table(first, measured)
    _check_video(tmp_path)


def _check_table(result: Result, measured: Measured) -> None:
    console = Console(width=80)
    with console.capture() as printed:
        print_results([Row("quantise=int8", result, measured)], console)
    assert f"in onnxruntime {measured.versions['onnxruntime']} on the CPU" in " ".join(printed.get().split())


def _check_video(folder: Path) -> None:
    """Its frames are near those in 32 bits, and not the same."""
    source = make_video(folder / "in.mp4", pictures(3, 32, 40))
    made = {}
    for precision in ("32", "int8"):
        target = folder / precision
        request = UpscalingRequest(
            source, target, folder / "runs" / "job", folder / "store", Pieces(3, 1), engine="onnxruntime", threads=1,
            precision=precision,
        )  # fmt: skip
        upscale(request, lambda text: None)
        made[precision] = [np.asarray(Image.open(file)).astype(int) for file in sorted(target.iterdir())]
    differences = [abs(one - other).max() for one, other in zip(*made.values(), strict=True)]
    assert len(differences) == 3
    assert 0 < max(differences) < 40


def test_convolutions_stay_in_32_bits_until_the_loss_is_small_enough(tmp_path: Path, small_frames: None) -> None:
    job = planned(tmp_path, model__bidirectional=False, quantise__largest_loss=0.0)
    said: list[str] = []
    result = run(job, tmp_path, said)
    assert result.int8 is not None
    if result.int8.loss_all_int8 > 0:
        assert result.int8.kept_float
        assert len(set(result.int8.kept_float)) == len(result.int8.kept_float) <= result.int8.convolutions
        assert any("convolutions in 32 bits" in line for line in said)
    assert result.int8.loss <= 1e-6
