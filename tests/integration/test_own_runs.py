"""A network of one's own through every command, as docs/networks.md says it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from conftest import MINIMAL, ROOT, run_py
from forked import run_script
from PIL import Image

from vsrprune.results.result import RESULT, Result

PAGE = (ROOT / "docs" / "networks.md").read_text()
TINY = [
    *(f"{name}={str(value).replace(' ', '')}" for name, value in MINIMAL.items() if not name.startswith("model.")),
    "tracking=none",
]


def command() -> list[str]:
    """The page's command behind `python src/run.py`, with half of its jobs."""
    (line,) = re.findall(r"^python src/run.py (-m model=own .*)$", PAGE, flags=re.MULTILINE)
    assert line.endswith(" rsc=true,false ratio=0.3,0.5")
    return shlex.split(line.replace("ratio=0.3,0.5", "ratio=0.5"))


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with my_net.py, in which the page's sweep has run."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "my_net.py").write_text(re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)[0])
    done = run_py(*command(), *TINY, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 jobs: 2 done" in done.stdout
    return folder


def job_folders(folder: Path) -> list[Path]:
    return sorted(path.parent for path in (folder / "runs").rglob(RESULT))


def test_a_sweep_has_results_that_are_proven(swept: Path) -> None:
    results = [Result.load(folder) for folder in job_folders(swept)]
    assert {result.rule for result in results} == {"rsc", "aligned"}
    for result in results:
        assert result.knobs["model"]["network"] == "own"
        assert result.knobs["model"]["name"] == "SmallVSR"
        assert result.scale == 4
        kept, units = (sum(getattr(layer, side) for layer in result.layers) for side in ("kept", "total"))
        assert kept == units - (units + 1) // 2
        assert result.equivalence.float64 <= 1e-10
    assert len({result.stages["pretrain"] for result in results}) == 1
    assert len(list((swept / "store" / "pretrain").glob("[!.]*"))) == 1
    assert len(list((swept / "store" / "networks").iterdir())) == 1


def flat(values: object, name: str = "") -> list[tuple[str, float]]:
    if isinstance(values, dict):
        return [item for key, value in values.items() for item in flat(value, f"{name}.{key}")]
    return [(name, float(values))] if isinstance(values, int | float) else []


def test_a_second_call_needs_no_torch(swept: Path, no_torch: Path) -> None:
    done = run_py(*command(), *TINY, cwd=swept, path=[no_torch])
    assert done.returncode == 0, done.stderr
    assert "2 reused" in done.stdout or "2 jobs: 0 done, 2 " in done.stdout


def test_another_file_is_another_network(swept: Path) -> None:
    text = (swept / "my_net.py").read_text()
    (swept / "other.py").write_text(text + "\n# changed\n")
    line = [word.replace("my_net.py", "other.py") for word in command()[1:] if not word.startswith("rsc=")]
    done = run_py(*line, "dry_run=true", *TINY, cwd=swept)
    assert done.returncode == 0, done.stderr
    assert re.search(r"pretrain +1 +1 +0 +1", done.stdout), done.stdout


def test_png_frames_are_upscaled_after_the_file_is_gone(swept: Path, tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for index in range(4):
        pixels = np.random.default_rng(index).integers(0, 256, (18, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(frames / f"{index}.png")
    job = job_folders(swept)[0]
    command = [ROOT / "src" / "upscale.py", frames, tmp_path / "out", "--model", job, "--store", swept / "store"]
    source, elsewhere = swept / "my_net.py", tmp_path / "my_net.py"
    source.rename(elsewhere)
    done = run_script(command, tmp_path)
    elsewhere.rename(source)
    assert done.returncode == 0, done.stderr
    high = sorted((tmp_path / "out").iterdir())
    assert [Image.open(path).size for path in high] == [(80, 72)] * 4


def test_figures_report_and_tables_are_made_of_it(swept: Path, tmp_path: Path) -> None:
    for command in (
        ["figures.py", swept / "runs", "--out", tmp_path / "figures"],
        ["report.py", swept / "runs", "--out", tmp_path / "report.html"],
        ["tables.py", swept / "runs", "--table", "rsc"],
    ):
        script, *options = command
        done = run_script([ROOT / "analysis" / script, *options], tmp_path)
        assert done.returncode == 0, done.stderr
    assert {"ratio_heatmap.pdf", "psnr_macs.pdf"} <= {path.name for path in (tmp_path / "figures").iterdir()}
    assert "SmallVSR" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("format", ["safetensors", "onnx"])
def test_the_result_is_exported_and_verified(format: str, swept: Path, tmp_path: Path) -> None:
    if format == "onnx":
        pytest.importorskip("onnxruntime", reason="the extra deploy is not installed")
    job = job_folders(swept)[0]
    command = [ROOT / "src" / "export.py", job, "--format", format, "--out", tmp_path / "out", "--repeats", "0"]
    options = ["--store", swept / "store", "--frames", "2", "--size", "20", "24"]
    done = run_script([*command, *options], tmp_path)
    assert done.returncode == 0, done.stderr
    described = json.loads((tmp_path / "out" / "export.json").read_text())
    assert described["network"] == "own"
    if format == "onnx":
        assert max(described["files"]["clip.onnx"]["max_abs_error"].values()) <= 1e-4
        assert described["frames"] == 2
    else:
        again = [ROOT / "src" / "export.py", tmp_path / "out", "--format", format, "--out", tmp_path / "again"]
        done = run_script(again, tmp_path)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        (["model.file=nowhere.py:Net"], "nowhere.py: there is no such file"),
        (["model.file=my_net.py:Net"], "there is no Net in it; networks there: SmallVSR"),
        (["model.file=my_net.py", "model.arguments={channel: 3}"], "which takes channels, blocks: "),
        ([], "model.file is empty"),
        (["model.file=my_net.py", "pretrained_flow=FLOW"], "has no flow net"),
        (["model.file=my_net.py", "task=denoise"], "task=denoise works at scale 1, but "),
    ],
    ids=["file", "class", "argument", "empty", "flow", "task"],
)
def test_a_mistake_is_one_line_before_any_work(knobs: list[str], words: str, swept: Path) -> None:
    (swept / "flow.safetensors").write_bytes(b"")
    done = run_py("model=own", *(knob.replace("FLOW", "flow.safetensors") for knob in knobs), *TINY, cwd=swept)
    assert done.returncode == 2
    assert words in done.stderr
    assert (done.stderr.startswith("error: "), done.stderr.count("\n")) == (True, 1)
