"""Restoration at scale 1 from the command line to a result, a figure and a restored video."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, minimal_config, minimal_overrides, run_py
from forked import run_script
from PIL import Image

from vsrprune.config.job import Config
from vsrprune.config.task import TaskConfig
from vsrprune.data.cache import LOW
from vsrprune.jobs.planning import plan_job
from vsrprune.jobs.runner import run_job
from vsrprune.results.result import Result
from vsrprune.stages.clips import job_clips
from vsrprune.stages.finetune.module import Finetune

pytestmark = pytest.mark.usefixtures("small_frames")


def restoring(folder: Path, task: str, **changes: object) -> Config:
    return minimal_config(folder, task=TaskConfig(task), model__upscale_factors=[], evaluate__temporal=False, **changes)


@pytest.mark.parametrize(("task", "option"), [("denoise", "sigma"), ("deblur", "blur_frames")])
def test_a_task_runs_to_a_result(task: str, option: str, tmp_path: Path) -> None:
    command = [*minimal_overrides(tmp_path), f"task={task}", "tracking=none"]
    ran = run_py(*command)
    assert ran.returncode == 0, ran.stderr
    (file,) = (tmp_path / "runs").rglob("result.json")
    result = Result.load(file.parent)
    assert result.knobs["task"]["name"] == task
    assert result.knobs["task"][option] == getattr(TaskConfig(), option)
    assert result.baseline_name == "input"
    assert "bicubic" not in ran.stdout
    assert "input" in ran.stdout
    assert f"warning: task={task} works at scale 1" in ran.stdout
    assert any("no shuffle groups to prune" in note for note in result.notes)
    assert {layer.kind for layer in result.layers} == {"input", "middle", "output", "fusion", "reconstruction"}
    assert result.equivalence.float64 <= 1e-10
    kinds = {path.stem.removeprefix("chelsea_0_") for path in (file.parent / "crops").glob("*.png")}
    assert kinds == {"input", "dense", "pruned", "truth", "frame"}
    again = run_py(*command)
    assert again.returncode == 0
    assert " done in " not in again.stdout
    assert file.parent.joinpath("result.json").read_bytes() == file.read_bytes()
    places = (frames(tmp_path), tmp_path / "out", "--model", file.parent, "--store", tmp_path / "store")
    restored = run_script([ROOT / "src" / "upscale.py", *places], ROOT)
    assert restored.returncode == 0, restored.stderr
    sizes = {Image.open(path).size for path in (tmp_path / "out").iterdir()}
    assert sizes == {(24, 18)}


def frames(folder: Path) -> Path:
    source = folder / "frames"
    source.mkdir()
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 256, (18, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(source / f"{index}.png")
    return source


def test_the_baseline_is_the_quality_of_the_input(tmp_path: Path) -> None:
    job = plan_job(restoring(tmp_path, "denoise"))
    result = run_job(job, tmp_path / "run", say=lambda text: None)
    assert result is not None
    clips = job_clips(job, lambda text: None).val
    weights = torch.tensor([65.481, 128.553, 24.966]).double() / 255  # MATLAB's rgb2ycbcr
    for clip in clips:
        low, high = ((part.double() * weights.view(1, 3, 1, 1)).sum(dim=1) for part in (clip.low_TCHW, clip.high_TCHW))
        error = (low - high).square().mean(dim=(1, 2))
        expected = float((10 * torch.log10(255**2 / error)).mean())
        assert result.quality["baseline"].clips[clip.name]["psnr"] == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_training_on_fresh_noise_resumes_to_the_same_bits(
    bidirectional: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = restoring(tmp_path / "whole", "denoise", model__bidirectional=bidirectional)
    whole = run_job(plan_job(config), tmp_path / "whole" / "run", say=lambda text: None)
    config = restoring(tmp_path / "broken", "denoise", model__bidirectional=bidirectional)
    losses = Finetune.losses

    def crash(self: Finetune, batch: object) -> object:
        if self.global_step == 3:
            raise RuntimeError("power cut")
        return losses(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Finetune, "losses", crash)
    with pytest.raises(RuntimeError, match="power cut"):
        run_job(plan_job(config), tmp_path / "broken" / "run", say=lambda text: None)
    monkeypatch.setattr(Finetune, "losses", losses)
    resumed = run_job(plan_job(config), tmp_path / "broken" / "run", say=lambda text: None)
    assert whole is not None
    assert resumed is not None
    assert resumed.quality == whole.quality


def test_a_cached_folder_gives_what_one_in_memory_does(tmp_path: Path) -> None:
    for name in ("walk", "run"):
        (tmp_path / "clips" / name).mkdir(parents=True)
        for index in range(4):
            seed = (len(name), index)
            pixels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "clips" / name / f"{index}.png")
    results = []
    for cache in (False, True):
        folder = tmp_path / str(cache)
        data = {"data__name": "folder", "data__path": str(tmp_path / "clips"), "data__val": ["walk"]}
        for task in ("deblur", "denoise"):
            job = plan_job(restoring(folder, task, data__cache=cache, **data))
            results.append(run_job(job, folder / task, say=lambda text: None))
    assert not list((tmp_path / "True" / "store" / "cache").rglob(LOW))
    assert [json.dumps(str(result.quality)) for result in results[:2] if result] == [
        json.dumps(str(result.quality)) for result in results[2:] if result
    ]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["task=denoise", "model.upscale_factors=[2]"], "task=denoise works at scale 1"),
        (["model.upscale_factors=[]"], "model.upscale_factors=[] is scale 1"),
        (["task=deblur", "task.sigma=5"], "task.sigma=5 is given, but task=deblur does not read it; add task=denoise"),
        (["task=denoise", "evaluate.protocol=vid4"], "evaluate.protocol=vid4 does not go with task=denoise"),
    ],
)
def test_what_contradicts_a_task_is_refused_before_any_work(
    overrides: list[str], words: str, tmp_path: Path, no_torch: Path
) -> None:
    ran = run_py(*minimal_overrides(tmp_path), *overrides, path=[no_torch])
    assert ran.returncode == 2
    assert words in ran.stderr
    assert ran.stderr.count("\n") == 1
