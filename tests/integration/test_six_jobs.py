"""The six-job command in subprocesses, on a minimal schedule, and what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, minimal_overrides, run_py
from PIL import Image

from vsrprune.results.result import Result

COMMAND = ("-m", "rsc=true,false", "ratio=0.3,0.5,0.7")
LAYERS_RSC, LAYERS_ALIGNED = 2 * 3 + 4, 2 * 2 + 4  # of the one-block network


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("six")
    done = run_py(*COMMAND, *minimal_overrides(folder))
    assert done.returncode == 0, done.stderr + done.stdout
    return folder, done


def job_folders(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("runs/**/result.json"))


def table_of(text: str) -> str:
    """From bicubic's row to the last layer."""
    return text[text.index(" bicubic") : text.index("6 jobs: ")]


def test_six_jobs_share_one_pretraining(sweep: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = sweep
    assert len(job_folders(folder)) == 6
    (own,) = {job.parent for job in job_folders(folder)}
    assert re.fullmatch(r"rsc-by-ratio-[0-9a-f]{8}", own.name)
    assert os.readlink(folder / "runs" / "latest") == own.name
    stages = {
        stage: len(list((folder / "store" / stage).iterdir())) for stage in ("flow", "pretrain", "reference", "score")
    }
    assert stages == {"flow": 1, "pretrain": 1, "reference": 1, "score": 2}
    assert len(list((folder / "store" / "finetune").iterdir())) == 6
    assert len(re.findall(r"^  pretrain +done in", done.stdout, re.MULTILINE)) == 1
    assert "job 6/6: rsc=false,ratio=0.7" in done.stdout


def test_table_shows_cost_beside_ratio(sweep: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    _, done = sweep
    table = table_of(done.stdout)
    for number, (rsc, ratio) in enumerate(
        [(rsc, ratio) for rsc in ("true", "false") for ratio in ("0.3", "0.5", "0.7")], start=1
    ):
        assert re.search(rf"#{number} +rsc={rsc} +ratio={ratio} ", table)
    assert "dense basicvsr_small" in table
    assert "Equal ratio is not equal cost" in table
    assert "forward_trunk.blocks.0.conv1" in table
    assert max(map(len, table.splitlines())) <= 80
    assert "…" not in table


def test_the_sweep_says_what_it_is_once_before_its_first_stage(
    sweep: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    _, done = sweep
    header, _, _ = done.stdout.partition("\njob 1/6: ")
    lines = [line.rstrip() for line in header.splitlines()]
    assert lines[0] == "sweep     6 jobs, one at a time: rsc true, false; ratio 0.3, 0.5, 0.7"
    labels = [line.split()[0] for line in lines if line and not line.startswith(" ")]
    assert labels[:8] == ["sweep", "model", "method", "data", "schedule", "device", "results", "stages"]
    assert labels[8:] in ([], ["time"])  # which is told where an earlier dry run has timed this network
    assert "stages    41, which 6 jobs share: 0 exist, 41 to compute" in lines
    assert max(map(len, lines)) <= 80
    assert re.findall(r"^(?:sweep|model|stages) ", done.stdout, re.MULTILINE) == ["sweep ", "model ", "stages "]


def test_a_file_of_the_output_can_be_read(sweep: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    _, done = sweep
    assert not {"\r", "\x1b", "━"} & set(done.stdout)


def test_the_end_names_the_best_network_and_the_next_commands(
    sweep: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, done = sweep
    end = done.stdout[done.stdout.index("6 jobs: ") :]
    results = {job: Result.load(job).quality["finetuned"].psnr for job in job_folders(folder)}
    (root,) = (path for path in (folder / "runs").iterdir() if not path.is_symlink())
    assert f"\n  python analysis/report.py {root}\n" in end
    model, store = re.search(r"python src/upscale\.py VIDEO NEW\.mp4 --model (\S+) --store (\S+)\n", end).groups()
    assert results[Path(model)] == max(results.values())
    network = Path(re.search(r"^its network: (.+)$", end, re.MULTILINE)[1])
    assert network.parent.parent == Path(store) == folder / "store"
    assert (network / "network.safetensors").is_file()


def test_result_files_are_complete(sweep: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = sweep
    for job in job_folders(folder):
        result = Result.load(job)
        assert set(result.quality) == {"baseline", "dense", "before_cut", "after_cut", "finetuned"}
        assert set(result.quality["dense"].clips) == {"chelsea_0", "hubble_deep_field_0"}
        assert all(len(frames) == 5 for frames in result.quality["finetuned"].frames.values())
        assert result.equivalence.float64 <= 1e-10
        assert 0 < result.equivalence.float32 < 1e-3
        for errors in result.hidden_error.values():
            assert {branch: len(error.total) for branch, error in errors.items()} == {"backward": 5, "forward": 5}
            assert errors["backward"].propagated[-1] == errors["forward"].propagated[0] == 0
        assert list(result.hidden_error) == ["after_cut", "finetuned"]
        assert len(result.layers) == (LAYERS_RSC if result.rule == "rsc" else LAYERS_ALIGNED)
        assert {layer.name: layer.total for layer in result.layers} == {
            name: len(scores) for name, scores in result.scores.items()
        }
        units = sum(layer.total for layer in result.layers)
        cut = units - sum(layer.kept for layer in result.layers)
        assert cut == int(units * result.knobs["ratio"] + 0.5)
        assert result.gates.max_cut >= result.gates.mean_cut > 0
        assert result.cost["pruned"].macs < result.cost["dense"].macs < result.cost["dense"].macs_with_flow
        measured = json.loads((job / "measured.json").read_text())
        assert set(measured["latency_ms"]) == {"dense", "pruned"}
        assert measured["frame_size"] == [16, 16]
        assert set(measured["stage_seconds"]) == set(result.stages)
        assert measured["threads"] >= 1


def test_metrics_hold_the_curves_of_every_training_stage(sweep: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = sweep
    rows = [json.loads(line) for line in (job_folders(folder)[0] / "metrics.jsonl").read_text().splitlines()]
    steps = {stage: [row["step"] for row in rows if row["stage"] == stage] for stage in {row["stage"] for row in rows}}
    assert steps == {"flow": [0, 1], "pretrain": [0, 1, 2, 3], "sparsify": [0, 1, 2, 3], "finetune": [0, 1, 2, 3]}
    sparsify = [row for row in rows if row["stage"] == "sparsify"]
    assert [row["lambda"] for row in sparsify] == [0.0, 0.05, 0.1, 0.1]
    assert any(name.startswith("gate/") for name in sparsify[0])
    assert all("loss_temporal" in row for row in rows if row["stage"] == "finetune")


def test_crops_show_the_same_place(sweep: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = sweep
    crops = {path.stem: Image.open(path).size for path in (job_folders(folder)[0] / "crops").glob("*.png")}
    kinds = ("truth", "lr", "bicubic", "dense", "pruned")
    assert {crops[f"chelsea_0_{kind}"] for kind in kinds} == {(96, 96)}
    assert crops["chelsea_0_frame"] == (224, 160)


def test_one_offline_wandb_run_per_job(sweep: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = sweep
    for job in job_folders(folder):
        assert len(list((job / "wandb").glob("offline-run-*/run-*.wandb"))) == 1


def test_the_same_command_again_computes_nothing_and_prints_the_same_table(
    sweep: tuple[Path, subprocess.CompletedProcess[str]], no_torch: Path
) -> None:
    """Even with torch out of reach: a finished sweep needs neither child processes nor torch."""
    folder, first = sweep
    again = run_py(*COMMAND, *minimal_overrides(folder), path=[no_torch])
    assert again.returncode == 0, again.stderr
    assert table_of(again.stdout) == table_of(first.stdout)
    assert again.stdout.count("(finished before)") == 6
    assert "6 jobs: 0 done, 6 reused, 0 failed" in again.stdout


def test_figures_of_the_sweep(
    sweep: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path, no_torch: Path
) -> None:
    """Drawn without torch, layers of both rules in network order; that bytes repeat is proven in tests/analysis."""
    folder, _ = sweep
    sys.path.insert(0, str(ROOT / "analysis"))
    from figures import FIGURES
    from runs import load_runs, ratio_table

    layers = [str(index[2]) for index in ratio_table(load_runs([str(folder / "runs")])).index]
    assert layers[:5] == [
        "backward_trunk.stream",
        "backward_trunk.blocks.0.conv1.input",
        "backward_trunk.blocks.0.conv1",
        "backward_trunk.blocks.0.conv2",
        "forward_trunk.stream",
    ]
    assert layers[-4:] == ["fusion", "upconv1", "upconv2", "conv_hr"]
    command = [sys.executable, ROOT / "analysis" / "figures.py", folder / "runs", "--out", "figures"]
    environment = {**os.environ, "PYTHONPATH": str(no_torch)}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    files = {path.name: path for path in (tmp_path / "figures").iterdir()}
    assert sorted(files) == sorted(f"{name}.{kind}" for name in FIGURES for kind in ("pdf", "png"))
    assert all(path.stat().st_size > 5000 for path in files.values())


def test_a_wider_sweep_reuses_what_is_there(sweep: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = sweep
    plan = run_py(*COMMAND, "tf_weight=0,0.003", *minimal_overrides(folder), "dry_run=true")
    assert plan.returncode == 0, plan.stderr
    assert re.search(r"^ ?pretrain +12 +1 +1 +0", plan.stdout, re.MULTILINE)
    assert re.search(r"^ ?sparsify +12 +6 +6 +0", plan.stdout, re.MULTILINE)
    assert re.search(r"^ ?finetune +12 +12 +6 +6 +\d+ (s|min) +[\d.]+ KB", plan.stdout, re.MULTILINE)
    assert "12 jobs ask for 120 stages; 53 are distinct, 12 are to do" in plan.stdout
    assert not any(path.name.startswith(".") for path in (folder / "store" / "finetune").iterdir())
