"""Pruning without a truth: from a folder of small frames to the printed table; and beside clips that have one."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, minimal_config, minimal_overrides, run_py
from forked import run_script
from PIL import Image

from vsrprune.errors import UserError
from vsrprune.jobs.planning import plan_job
from vsrprune.jobs.runner import run_job
from vsrprune.metrics.quality import IDENTICAL_DB
from vsrprune.networks.files import load_network
from vsrprune.results.result import METRICS, NO_TRUTH, Result

pytestmark = pytest.mark.long

SMALL = {"evaluate__temporal": False, "tf_weight": 0.003}
SIZES = {"walk": (20, 26), "sea": (24, 18), "wall": (21, 30)}  # height and width; none a multiple of the scale


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dense network's file, and small frames that have no truth."""
    folder = tmp_path_factory.mktemp("unlabelled")
    job = plan_job(minimal_config(folder, until="pretrain"))
    run_job(job, folder / "runs" / "dense", lambda text: None)
    (folder / "dense.safetensors").symlink_to(
        folder / "store" / "pretrain" / job.stages[-1].key / "network.safetensors"
    )
    for number, (name, (height, width)) in enumerate(SIZES.items()):
        (folder / "footage" / name).mkdir(parents=True)
        draw = np.random.default_rng(number)
        picture = draw.integers(0, 256, (height + 5, width, 3), dtype=np.uint8)
        for index in range(4):
            Image.fromarray(picture[index : index + height]).save(folder / "footage" / name / f"{index}.png")
    return folder


def footage(made: Path, **changes: Any) -> dict[str, Any]:
    """The knobs of a job on these frames."""
    return {
        "data__name": "folder", "data__path": str(made / "footage"), "data__val": ["sea"], "data__truth": "none",
        "pretrained": str(made / "dense.safetensors"), **SMALL, **changes,
    }  # fmt: skip


def silent(text: str) -> None:
    pass


def test_a_folder_without_truth_is_pruned_through_to_its_table(made: Path) -> None:
    given = {name.replace("__", "."): value for name, value in footage(made, data__test=["wall"]).items()}
    given |= {"score": "taylor", "score_batches": 2, "method.tf_in_sparsify": "true", "data.train": ["walk"]}
    command = [*minimal_overrides(made), *(f"{name}={value}" for name, value in given.items()), "tracking=none"]
    command = [item.replace("data.name=", "data=").replace("'", "") for item in command]
    ran = run_py(*command)
    assert ran.returncode == 0, ran.stderr
    words = " ".join(ran.stdout.split())
    assert "none with a truth" in words
    assert "to dense" in words
    assert "itself" in words
    assert "to the dense network's output" in words
    (file,) = (made / "runs" / "latest").resolve().rglob("result.json")
    result = Result.load(file.parent)
    assert f"data.truth=none: {NO_TRUTH}" in result.notes
    assert not result.sees_truth
    assert "data.truth=none" in result.convention
    assert result.temporal_gain is None
    assert result.quality["dense"].psnr == result.test["dense"].psnr == IDENTICAL_DB
    assert result.quality["finetuned"].psnr < IDENTICAL_DB
    assert result.quality["baseline"].psnr < IDENTICAL_DB
    assert set(result.test["finetuned"].clips) == {"wall"}
    assert result.equivalence.float64 <= 1e-10
    kinds = {path.stem.removeprefix("sea_") for path in (file.parent / "crops").glob("*.png")}
    assert kinds == {"lr", "bicubic", "dense", "pruned", "frame"}
    rows = [json.loads(line) for line in (file.parent / METRICS).read_text().splitlines()]
    terms = {row["stage"]: {name for name in row if name.startswith("loss_")} for row in rows}
    assert terms["sparsify"] == {"loss_unlabelled", "loss_temporal", "loss_penalty"}
    assert terms["finetune"] == {"loss_unlabelled", "loss_temporal"}
    drawn = run_script([ROOT / "analysis" / "figures.py", file.parent, "--out", made / "figures"], ROOT)
    assert drawn.returncode == 0, drawn.stderr
    assert (made / "figures" / "qualitative.png").is_file()
    reported = run_script([ROOT / "analysis" / "report.py", file.parent, "--out", made / "report.html"], ROOT)
    assert reported.returncode == 0, reported.stderr
    assert NO_TRUTH in html.unescape((made / "report.html").read_text())
    again = run_py(*command)
    assert again.returncode == 0
    assert " done in " not in again.stdout
    assert file.parent.joinpath("result.json").read_bytes() == file.read_bytes()


def test_a_dense_network_of_another_scale_is_refused(made: Path) -> None:
    job = plan_job(minimal_config(made, **footage(made), model__upscale_factors=[2]))
    with pytest.raises(UserError, match=r"dense\.safetensors: these weights are of another network"):
        run_job(job, made / "runs" / "scale", silent)


def test_quality_without_a_truth_is_to_the_dense_networks_frames(made: Path) -> None:
    job = plan_job(minimal_config(made, **footage(made, evaluate__temporal=True)))
    result = run_job(job, made / "runs" / "none", silent)
    assert result is not None
    dense_moves, pruned_moves = result.quality["dense"], result.quality["finetuned"]
    assert dense_moves.tof == 0  # it moves as itself
    assert dense_moves.warping_error == dense_moves.warping_error_truth == pruned_moves.warping_error_truth
    assert pruned_moves.tof is not None
    names = {"dense": job.stage("pretrain").key, "pruned": job.stage("finetune").key}
    whole, cut = (
        load_network(made / "store" / stage / key).eval()
        for stage, key in (("pretrain", names["dense"]), ("finetune", names["pruned"]))
    )
    frames = torch.stack(
        [torch.from_numpy(np.array(Image.open(file))) for file in sorted((made / "footage" / "sea").iterdir())]
    )
    with torch.inference_mode():
        outputs = [
            network(frames.permute(0, 3, 1, 2)[None].float() / 255).frames_NTCHW[0] * 255 for network in (whole, cut)
        ]
    # The luma that MATLAB's rgb2ycbcr makes of 8-bit frames.
    luma = torch.tensor([65.481, 128.553, 24.966]).double().view(1, 3, 1, 1) / 255
    dense, pruned = ((frames.clamp(0, 255).round().double() * luma).sum(dim=1) for frames in outputs)
    error = (dense - pruned).square().mean(dim=(1, 2))
    expected = float((10 * torch.log10(255**2 / error)).mean())
    assert result.quality["finetuned"].psnr == pytest.approx(expected, abs=1e-3)


def test_clips_without_truth_beside_others_are_learnt_from(made: Path, tmp_path: Path) -> None:
    labelled = tmp_path / "labelled"
    for name in ("one", "two"):
        (labelled / name).mkdir(parents=True)
        for index in range(4):
            pixels = np.random.default_rng(index).integers(0, 256, (64, 72, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(labelled / name / f"{index}.png")
    given = {"data__name": "folder", "data__path": str(labelled), "data__val": ["two"], **SMALL}
    all_of_it = plan_job(minimal_config(made, **given))
    some = {"data__truth": "some", "data__unlabelled": str(made / "footage"), "data__unlabelled_weight": 0.5}
    job = plan_job(minimal_config(made, **given, **some))
    for name in ("flow", "pretrain", "reference", "score", "select"):
        assert job.stage(name).key == all_of_it.stage(name).key
    for name in ("sparsify", "prune", "finetune", "evaluate"):
        assert job.stage(name).key != all_of_it.stage(name).key
    result = run_job(job, tmp_path / "runs" / "some", silent)
    assert result is not None
    assert result.sees_truth
    rows = [json.loads(line) for line in (tmp_path / "runs" / "some" / METRICS).read_text().splitlines()]
    terms = {row["stage"]: {name for name in row if name.startswith("loss_")} for row in rows}
    assert terms["pretrain"] == {"loss_reconstruction"}
    assert terms["sparsify"] == {"loss_reconstruction", "loss_unlabelled", "loss_penalty"}
    assert terms["finetune"] == {"loss_reconstruction", "loss_unlabelled", "loss_temporal"}
