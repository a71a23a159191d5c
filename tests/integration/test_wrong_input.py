"""Wrong input, through the command line: one line, no traceback, exit code not 0, before any work starts."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from conftest import minimal_overrides, run_py
from PIL import Image


def refused(tmp_path: Path, *arguments: str) -> str:
    """The complaint about the arguments; nothing may have been computed."""
    done = run_py(*arguments, *minimal_overrides(tmp_path))
    assert done.returncode not in (0, None), done.stdout
    assert "Traceback" not in done.stderr + done.stdout
    assert not list(tmp_path.glob("store/*/*/manifest.json"))
    return done.stderr.strip()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["ratio=1.0"], "ratio must be in [0, 1)"),
        (["ratio=abc"], "ratio"),
        (["rati=0.5"], "rati"),
        (["rsc=maybe"], "rsc must be true or false; got 'maybe'"),
        (["scope=per_layer"], "scope=per_layer needs ratios"),
        (["scope=per_layer", "ratios={no_such_layer: 0.5}"], "unknown layer 'no_such_layer'"),
        (["ratio=0.9", "min_kept=2"], "largest reachable ratio is 0.5"),
        (["round_to=4"], "round_to=4 leaves nothing to cut"),
        (["target=latency"], "target=latency needs times of this device: add round_to=auto"),
        (["method=magic"], "magic"),
        (["data=folder"], "data.path must be a folder"),
        (["data=folder", "data.path=/no/such/folder"], "/no/such/folder"),
        (["data.degradation=bd"], "data.degradation must be one of bicubic, bicubic_uint8_passes, bd_basicvsr, bd_duf"),
        (["evaluate.protocol=reds4", "data.channel=y"], "data.channel=y contradicts evaluate.protocol=reds4"),
        (["pretrained=nothing.safetensors"], "nothing.safetensors"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_a_wrong_value_is_named(tmp_path: Path, arguments: list[str], expected: str) -> None:
    assert expected in refused(tmp_path, *arguments)


def test_our_own_complaints_are_one_line(tmp_path: Path) -> None:
    assert refused(tmp_path, "ratio=1.5") == ("error: ratio must be in [0, 1), the share that is removed; got 1.5")


def test_a_wrong_value_anywhere_in_a_sweep_stops_it_before_the_first_job(tmp_path: Path) -> None:
    complaint = refused(tmp_path, "-m", "rsc=true,false", "ratio=0.3,0.5,1.7")
    assert "ratio must be in [0, 1)" in complaint
    assert "no job was started" in complaint
    assert not any(path for path in (tmp_path / "runs").glob("*") if path.name != ".multirun")


def write_pngs(folder: Path, sizes: list[tuple[int, int]]) -> None:
    folder.mkdir(parents=True)
    for index, (height, width) in enumerate(sizes):
        pixels = np.random.default_rng(index).integers(0, 255, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:03d}.png")


@pytest.mark.slow
def test_bad_clips_are_named_before_training(tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    write_pngs(clips / "good", [(64, 64)] * 5)
    write_pngs(clips / "bad", [(64, 64)] * 4 + [(64, 60)])
    arguments = ["data=folder", f"data.path={clips}", "data.val=[good]"]
    assert "bad/004.png" in refused(tmp_path, *arguments)
    (clips / "bad" / "004.png").write_bytes((clips / "bad" / "003.png").read_bytes()[:200])
    assert "bad/004.png" in refused(tmp_path, *arguments)
    for path in (clips / "bad").iterdir():
        path.unlink()
    write_pngs(clips / "short", [(64, 64)] * 2)
    assert "clip short has 2 frames" in refused(tmp_path, *arguments)


@pytest.mark.slow
def test_a_truncated_video_is_named(tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    write_pngs(clips / "good", [(64, 64)] * 5)
    with av.open(str(clips / "cut.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 64
        for index in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 40 * index, dtype=np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    content = (clips / "cut.mp4").read_bytes()
    (clips / "cut.mp4").write_bytes(content[: len(content) // 3])
    complaint = refused(tmp_path, "data=folder", f"data.path={clips}", "data.val=[good]")
    assert "cut.mp4" in complaint


def test_the_doctor_reports_by_its_exit_code_and_makes_no_store(tmp_path: Path) -> None:
    write_pngs(tmp_path / "clips" / "good", [(64, 64)] * 5)
    write_pngs(tmp_path / "clips" / "bad", [(64, 64)] * 4 + [(64, 60)])
    common = ["doctor=true", f"store_dir={tmp_path / 'store'}", f"runs_dir={tmp_path / 'runs'}"]
    clips = ["data=folder", f"data.path={tmp_path / 'clips'}", "schedule.patch=8"]
    outcome = run_py(*common, *clips, "data.val=[good]")
    assert outcome.returncode == 2, outcome.stderr
    assert "bad/004.png: 60x64, but the clip began with 64x64" in outcome.stdout
    assert not (tmp_path / "store").exists()
    for wrong, words in (([], "data=demo has none"), (["-m", "seed=0,1", *clips], "run it without -m")):
        refused_one = run_py(*wrong[:1], *common, *wrong[1:])
        assert refused_one.returncode == 2
        assert words in refused_one.stderr
        assert "Traceback" not in refused_one.stderr
