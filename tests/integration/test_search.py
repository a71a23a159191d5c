"""The real command: a search, the same again, killed and resumed, its plan in run.py, its figures, wrong input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from conftest import ROOT, RUN_PY, last_of_each, minimal_overrides
from forked import Script, run_script

from vsrprune.results.result import Result

SMALL = ["search.rungs=[0,1,2]", "search.clips=1", "search.frames=3", "ratio=0.4"]


def search_command(folder: Path, *overrides: str) -> list[str]:
    knobs = last_of_each([*minimal_overrides(folder), "tracking=none", *SMALL, *overrides])
    return [str(ROOT / "sweeps" / "search_ratios.py"), *knobs]


def run_search(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return run_script(search_command(folder, *overrides), folder)


def only_search(folder: Path) -> Path:
    (found,) = (folder / "runs").glob("search*")
    return found


def found_in(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((only_search(folder) / "search.json").read_text())
    return content


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished search of ten trials in two workers, mirrored offline, and its output."""
    folder = tmp_path_factory.mktemp("search")
    done = run_search(folder, "search.trials=10", "search.workers=2", "tracking=wandb", "search.pruner=none")
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_every_trial_and_reference_keeps_the_budget(searched: tuple[Path, str]) -> None:
    found = found_in(searched[0])
    assert len(found["trials"]) == 10
    assert all(len(trial["psnr"]) == 3 for trial in found["trials"])
    # Four channels a layer: whole channels come no nearer than a few percent.
    assert all(abs(row["share"] / 0.6 - 1) < 0.05 for row in [*found["trials"], *found["references"]])
    assert found["best"]["psnr"][-1] == max(trial["psnr"][-1] for trial in found["trials"])
    assert [row["name"] for row in found["references"]] == ["global", "uniform"]
    assert [row["rungs"] for row in found["rank_correlation"]] == [[0, 1], [1, 2]]


def test_the_output_shows_the_winner_beside_the_references(searched: tuple[Path, str]) -> None:
    for word in ("winner", "global", "uniform", "rank correlation", "held-out clips"):
        assert word in searched[1]


def test_the_same_command_again_computes_nothing(searched: tuple[Path, str]) -> None:
    folder = searched[0]
    before = found_in(folder)
    again = run_search(folder, "search.trials=10", "search.workers=2", "tracking=wandb", "search.pruner=none")
    assert again.returncode == 0, again.stderr
    assert "done in" not in again.stdout
    assert found_in(folder) == before


def test_the_plan_gives_the_same_network_in_run_py(searched: tuple[Path, str], tmp_path: Path) -> None:
    search = only_search(searched[0])
    (final,) = (row for row in found_in(searched[0])["finals"] if row["name"] == "winner")
    command = [
        RUN_PY, *minimal_overrides(tmp_path), "tracking=none", "scope=per_layer",
        "target=units", f'ratios="{search / "plan.yaml"}"', f"seed={final['seed']}", "ratio=0.4",
    ]  # fmt: skip
    done = run_script(command, tmp_path)
    assert done.returncode == 0, done.stderr
    (folder,) = (path for path in (tmp_path / "runs").iterdir() if not path.is_symlink())
    result = Result.load(folder)
    assert result.quality["finetuned"].psnr == pytest.approx(final["psnr"], abs=1e-6)  # another store: all made again
    kept = yaml.safe_load((search / "plan.yaml").read_text())
    assert {layer.name: layer.kept for layer in result.layers} == kept


def test_the_mirror_holds_every_trial(searched: tuple[Path, str]) -> None:
    (file,) = only_search(searched[0]).glob("wandb/*run-*/*.wandb")
    content = file.read_bytes()
    assert b"trial/psnr" in content
    assert b"reference/global@60%" in content


def test_figures_of_the_search(searched: tuple[Path, str], tmp_path: Path) -> None:
    command = [ROOT / "analysis" / "search_figures.py", only_search(searched[0]), "--out", tmp_path]
    done = run_script(command, tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.glob("*.png")} == {"history.png", "importance.png", "ratio_heatmap.png"}
    assert "front is left out" in done.stdout


@pytest.mark.slow
def test_killed_and_resumed_without_a_lost_or_doubled_trial(searched: tuple[Path, str], tmp_path: Path) -> None:
    store = searched[0] / "store"  # its dense network and references
    overrides = (f"store_dir={store}", "search.trials=6", "search=random", "search.rungs=[0,40]")
    process = Script(search_command(tmp_path, *overrides), tmp_path)
    for _ in range(600):
        time.sleep(0.1)
        if ended(tmp_path) >= 2:
            break
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 2 <= ended(tmp_path) < 6
    done = run_search(tmp_path, *overrides)
    assert done.returncode == 0, done.stderr
    study = optuna.load_study(study_name="ratios", storage=f"sqlite:///{only_search(tmp_path) / 'study.db'}")
    states = [trial.state.name for trial in study.trials]
    assert states.count("COMPLETE") + states.count("PRUNED") == 6
    assert states.count("RUNNING") == 0
    drawn = [tuple(trial.params.values()) for trial in study.trials if trial.state.name != "FAIL"]
    assert len(set(drawn)) == 6


def ended(folder: Path) -> int:
    databases = list((folder / "runs").glob("search*/study.db"))
    if not databases:
        return 0
    try:
        study = optuna.load_study(study_name="ratios", storage=f"sqlite:///{databases[0]}")
    except (KeyError, RuntimeError):
        return 0
    return sum(trial.state.is_finished() for trial in study.trials)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["search=nsga2", "search.objective=psnr@macs"], ("search=nsga2", "use search=tpe")),
        (["ratio=0.99"], ("1.0% of the dense MACs", "the largest reachable ratio is")),
        (["search.clips=99"], ("search.clips=99", "allowed: 1..")),
        (["dry_run=true"], ("dry_run=true is for src/run.py",)),
        (["until=pretrain"], ("until=pretrain is for src/run.py",)),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, list) else "",
)
def test_wrong_input_is_one_line(tmp_path: Path, overrides: list[str], words: tuple[str, ...]) -> None:
    done = run_search(tmp_path, *overrides)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line]
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize("wrong", ["ratio=7", "doctor=true"])
def test_a_refused_search_leaves_no_folder(tmp_path: Path, wrong: str) -> None:
    assert run_search(tmp_path, wrong).returncode == 2
    assert not list(tmp_path.glob("runs/*"))


def test_another_question_in_the_same_study_is_refused(searched: tuple[Path, str], tmp_path: Path) -> None:
    storage = f"search.storage='sqlite:///{only_search(searched[0]) / 'study.db'}'"  # the folder's name holds an =
    done = run_search(tmp_path, f"store_dir={searched[0] / 'store'}", storage, "search.group=kind")
    assert done.returncode == 2
    assert "was begun with other settings: space" in done.stderr
    assert "search.study" in done.stderr
