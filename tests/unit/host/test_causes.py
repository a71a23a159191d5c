"""Errors of memory, cards and drivers, in the very words of PyTorch and CUDA, and what a failure card makes of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import upscale
from vsrprune.errors import LostRankError
from vsrprune.host.causes import KNOWN, QUALITY, TIMES, TRAINING, Known, known_cause, less_memory
from vsrprune.host.failures import FailureCard, JobState, card_of_error
from vsrprune.stages.graph import RECIPES

DEFECT = "this looks like a defect"
OUT_OF_MEMORY = (
    "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.19 GiB of which 8.06 MiB is"
    " free. Including non-PyTorch memory, this process has 79.17 GiB memory in use."
)
MORE = (
    "\nCUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be"
    " incorrect.\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1."
)
MESSAGES = {  # message -> words of the cause, words of the advice; in a training stage
    OUT_OF_MEMORY: ("out of memory", "trainer.checkpoint_frames=true"),
    f"CUDA error: out of memory{MORE}": ("out of memory", "trainer.checkpoint_frames=true"),
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED": ("out of memory", "trainer.checkpoint_frames=true"),
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`": ("out of memory", "schedule.batch"),
    "FIND was unable to find an engine to execute this computation": ("GPU memory", "schedule.batch"),
    "GET was unable to find an engine to execute this computation": ("GPU memory", "schedule.batch"),
    "DataLoader worker (pid 17) is killed by signal: Bus error. It is possible that dataloader's workers are out of"
    " shared memory. Please try to raise your shared memory limit.": ("shared memory", "trainer.workers=0"),
    "unable to write to file </torch_17_1>: No space left on device (28)": ("shared memory", "/dev/shm"),
    "DataLoader worker (pid 17) is killed by signal: Killed. ": ("want of memory", "trainer.workers"),
    "DataLoader worker (pid(s) 17, 18) exited unexpectedly": ("loads data died", "trainer.workers=0"),
    "You requested gpu: [0, 1]\n But your machine only has: [0]": ("more GPUs", "trainer.devices"),
    "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver by downloading"
    " and installing a new version": ("driver is too old", "docs/gpu.md"),
    f"CUDA error: no kernel image is available for execution on the device{MORE}": ("generation", "docs/gpu.md"),
    "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU": ("cannot use", "trainer=cpu"),
    "Torch not compiled with CUDA enabled": ("cannot use", "docs/gpu.md"),
    "CUDA error: all CUDA-capable devices are busy or unavailable": ("another process", "CUDA_VISIBLE_DEVICES"),
    "NCCL error in: /pytorch/torch/csrc/distributed/c10d/NCCLUtils.hpp:268, unhandled cuda error (run with"
    " NCCL_DEBUG=INFO for details), NCCL version 2.21.5": ("NCCL", "NCCL_DEBUG"),
    "NCCL error in: ProcessGroupNCCL.cpp:1331, unhandled cuda error\nncclUnhandledCudaError: Call to CUDA function"
    " failed.\nLast error:\nCuda failure 2 'out of memory'": ("out of memory", "trainer.checkpoint_frames"),
    f"CUDA error: uncorrectable ECC error encountered{MORE}": ("faulty", "another one"),
    f"CUDA error: device-side assert triggered{MORE}": ("on the GPU failed", "CUDA_LAUNCH_BLOCKING=1"),
}


def card(error: BaseException, folder: Path, stage: str = "finetune") -> FailureCard:
    JobState(folder).stage(stage)
    return card_of_error(error, folder, "python src/run.py")


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message[:40])
def test_a_message_of_the_gpu_path_is_explained_in_one_line(tmp_path: Path, message: str) -> None:
    cause, advice = MESSAGES[message]
    explained = card(RuntimeError(message), tmp_path)
    assert cause in explained.cause
    assert message.splitlines()[0].strip() in explained.cause
    assert advice in explained.advice
    assert "\n" not in explained.cause + explained.advice
    assert DEFECT not in explained.advice


@pytest.mark.parametrize("kind", KNOWN, ids=lambda kind: kind.words[0])
def test_every_kind_of_error_is_tried_by_a_message(kind: Known) -> None:
    assert kind in [known_cause(RuntimeError(message)) for message in MESSAGES]


@pytest.mark.parametrize("message", ["injected", "mat1 and mat2 shapes cannot be multiplied", "", "bad weights"])
def test_other_errors_still_look_like_defects(tmp_path: Path, message: str) -> None:
    explained = card(RuntimeError(message), tmp_path)
    assert explained.cause == f"RuntimeError: {message or 'RuntimeError'}"
    assert explained.advice.startswith(DEFECT)


def test_an_error_of_the_data_itself_in_a_worker_is_no_dead_worker(tmp_path: Path) -> None:
    message = "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
    assert card(ValueError(message), tmp_path).advice.startswith(DEFECT)


def test_the_reason_may_stand_in_the_error_before(tmp_path: Path) -> None:
    """As PyTorch raises it when a worker dies of a full /dev/shm."""
    reason = RuntimeError("DataLoader worker (pid 17) is killed by signal: Bus error. It is possible that ...")
    error = RuntimeError("DataLoader worker (pid(s) 17) exited unexpectedly")
    error.__cause__ = reason
    assert "shared memory" in card(error, tmp_path).cause


def test_memory_is_saved_by_knobs_that_the_stage_reads(tmp_path: Path) -> None:
    assert set(RECIPES) <= {*TRAINING, *QUALITY, *TIMES, "select"}
    for stage in RECIPES:
        advice = card(RuntimeError(OUT_OF_MEMORY), tmp_path, stage).advice
        assert ("schedule.batch" in advice) == (stage in TRAINING)
        assert ("data.max_frames" in advice) == (stage in QUALITY)
        assert ("evaluate.latency_size" in advice) == (stage in TIMES)
        assert "launcher.jobs" in advice
    assert less_memory("sparsify_2") == less_memory("sparsify")
    assert less_memory("pretrain").startswith("trainer.checkpoint_frames=true")


def test_host_memory_and_lost_processes_are_told_the_same(tmp_path: Path) -> None:
    assert card(MemoryError(), tmp_path, "evaluate").advice == less_memory("evaluate")
    assert card(MemoryError(), tmp_path).cause == "out of memory: MemoryError"
    assert card(OSError(12, "Cannot allocate memory"), tmp_path).cause.startswith("out of memory: ")
    assert card(LostRankError("process 1 of 2 died of SIGKILL"), tmp_path).advice == less_memory("finetune")


@pytest.mark.parametrize(
    ("message", "tile", "said"),
    [
        (OUT_OF_MEMORY, 0, "give --tile 256, or a smaller --window"),
        (OUT_OF_MEMORY, 128, "give --tile 64, or a smaller --window"),
        (OUT_OF_MEMORY, 32, "give a smaller --window"),
        ("FIND was unable to find an engine to execute this computation", 0, "give --tile 256"),
        (f"CUDA error: uncorrectable ECC error encountered{MORE}", 0, "another one"),
    ],
    ids=str,
)
def test_upscaling_says_it_in_one_line_and_names_the_tile(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    message: str,
    tile: int,
    said: str,
) -> None:
    def fails(*arguments: object) -> None:
        raise RuntimeError(message)

    monkeypatch.setattr("vsrprune.use.upscaling.upscale", fails)
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    names = [str(tmp_path / "in.mp4"), str(tmp_path / "out.mp4"), "--model", str(tmp_path), "--tile", str(tile)]
    assert upscale.main(names) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert printed.count("\n") == 1
    assert said in printed


def test_an_unknown_error_of_upscaling_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object) -> None:
        raise RuntimeError("injected")

    monkeypatch.setattr("vsrprune.use.upscaling.upscale", fails)
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    with pytest.raises(RuntimeError, match="injected"):
        upscale.main([str(tmp_path / "in.mp4"), str(tmp_path / "out.mp4"), "--model", str(tmp_path)])


def test_causes_are_known_without_torch() -> None:
    code = "import sys, vsrprune.host.failures, vsrprune.jobs.devices; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
