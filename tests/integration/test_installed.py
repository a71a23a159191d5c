"""The built wheel, installed beside the libraries of this environment and without the checkout: commands really run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT, minimal_overrides

pytestmark = pytest.mark.slow
LIBRARIES = sysconfig.get_paths()["purelib"]


def called(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command in a folder that knows nothing of the checkout, with locks of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"COLUMNS": "80", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, timeout=900, check=False
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from what the image is built from: a copy, since setuptools leaves folders beside the source."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        for name in line.split()[1:-1] if line.startswith("COPY ") else ():
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", out, source]
    done = called(*build, cwd=source)
    assert done.returncode == 0, done.stderr
    (found,) = out.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def vsrprune(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installed command. Its environment finds this one's libraries, and no .pth file among them is read."""
    folder = tmp_path_factory.mktemp("environment")
    assert called(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder).returncode == 0
    (site,) = folder.glob("lib/*/site-packages")
    (site / "libraries.pth").write_text(f"{LIBRARIES}\n")
    python = folder / "bin" / "python"
    install = ["-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel]
    done = called(sys.executable, *install, cwd=folder)
    assert done.returncode == 0, done.stderr
    where = called(python, "-c", "import vsrprune, hydra_plugins; print(vsrprune.__file__)", cwd=folder)
    assert Path(where.stdout.strip()).is_relative_to(site)
    return folder / "bin" / "vsrprune"


@pytest.fixture(scope="module")
def swept(vsrprune: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a tiny sweep has run, two jobs at a time; one of them fails."""
    folder = tmp_path_factory.mktemp("swept")
    knobs = [*minimal_overrides(Path()), "tracking=none", "launcher.jobs=2"]
    done = called(vsrprune, "run", "-m", "schedule.finetune.lr=1e-4,1e30", *knobs, cwd=folder)
    assert "2 jobs: 1 done, 0 reused, 1 failed" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 1
    (folder / "printed.txt").write_text(done.stderr)
    return folder


def test_the_wheel_holds_every_script_configuration_and_sweep_of_the_checkout(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    patterns = ("src/*.py", "sweeps/*.*", "conf/**/*.yaml", "analysis/*.py", "analysis/report/*")
    wanted = {str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern)}
    assert {f"vsrprune/checkout/{name}" for name in wanted} == {name for name in inside if "/checkout/" in name}
    package = {str(path.relative_to(ROOT / "src")) for path in ROOT.glob("src/*/**/*.py")}
    assert package | {"vsrprune/published.csv"} <= inside
    assert {name.split("/")[0] for name in inside} == {
        "vsrprune",
        "hydra_plugins",
        wheel.stem.rsplit("-", 3)[0] + ".dist-info",
    }


def test_the_version_and_the_pages_need_no_checkout(vsrprune: Path, tmp_path: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert called(vsrprune, "--version", cwd=tmp_path).stdout == f"vsrprune {version}\n"
    for name in ("run", "search", "upscale", "export", "evaluate", "figures", "tables", "report", "watch"):
        page = called(vsrprune, name, "--help", cwd=tmp_path)
        assert (page.returncode, page.stderr) == (0, "")
        assert f"vsrprune {name}" in page.stdout
        assert ".py" not in page.stdout.replace("FILE.py", ""), name
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_is_planned(vsrprune: Path, tmp_path: Path) -> None:
    done = called(vsrprune, "sweep", "rsc_by_ratio", "dry_run=true", *minimal_overrides(Path()), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "18 jobs ask for 180 stages" in " ".join(done.stdout.split())


def test_a_wrong_knob_is_refused_in_one_line(vsrprune: Path, tmp_path: Path) -> None:
    done = called(vsrprune, "run", "ratio=2", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: ratio must be in [0, 1), the share that is removed; got 2\n"


def test_a_sweep_runs_with_this_projects_launcher(swept: Path) -> None:
    (result,) = (swept / "runs").glob("**/result.json")
    (measured,) = (swept / "runs").glob("**/measured.json")
    assert json.loads(result.read_text())["quality"]["finetuned"]["psnr"] > 0
    assert json.loads(measured.read_text())["git_commit"] == ""


def test_the_card_of_a_failed_job_names_the_installed_command(vsrprune: Path, swept: Path) -> None:
    (card,) = (swept / "runs").glob("**/failure.json")
    written = json.loads(card.read_text())
    assert written["command"].startswith("vsrprune run --config-path ")
    assert written["retry"] == f"bash {card.parent / 'retry.sh'}"
    assert f"retry it alone: bash {card.parent.relative_to(swept) / 'retry.sh'}" in (swept / "printed.txt").read_text()
    again = called("bash", card.parent / "retry.sh", cwd=Path("/"))
    assert again.returncode != 0
    assert re.search(r"^error: finetune: the loss is not finite", again.stderr, re.MULTILINE)


def test_what_a_sweep_leaves_is_drawn_printed_and_exported(vsrprune: Path, swept: Path) -> None:
    (result,) = (swept / "runs").glob("**/result.json")
    wanted = {
        "figures": (["runs", "--only", "ratio_heatmap"], "figures/ratio_heatmap.pdf"),
        "tables": (["runs", "--table", "main", "--out", "tables"], "tables/main.md"),
        "report": (["runs", "--out", "report.html"], "report.html"),
        "export": ([result.parent, "--format", "safetensors", "--out", "out"], "out/network.safetensors"),
    }
    for name, (arguments, made) in wanted.items():
        done = called(vsrprune, name, *arguments, cwd=swept)
        assert done.returncode == 0, done.stderr
        assert (swept / made).is_file(), done.stdout
    assert "1 failed" in called(vsrprune, "watch", "runs", "--once", cwd=swept).stdout
