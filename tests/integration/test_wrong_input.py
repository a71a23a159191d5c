"""Wrong input, through the command line: one line, no traceback, exit code not 0, before any work starts."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from commands_here import refusal, run_here
from conftest import minimal_overrides, run_py
from PIL import Image


def refused(tmp_path: Path, *arguments: str) -> str:
    """The complaint about the arguments; nothing may have been computed."""
    done = run_py(*arguments, *minimal_overrides(tmp_path))
    assert done.returncode == 2, done.stdout
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert not list(tmp_path.glob("store/*/*/manifest.json"))
    return done.stderr.strip()


def refused_here(tmp_path: Path, *arguments: str) -> str:
    """The same of arguments that are refused before the data are read, with no process of its own."""
    return "error: " + refusal(tmp_path, "src/run.py", *arguments, *minimal_overrides(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["ratio=1.0"], "ratio must be in [0, 1)"),
        (["ratio=abc"], "ratio must be a number in [0, 1); got 'abc'"),
        (["-m", "ratio=0.3,0.5", "sweep.name=a/b"], "sweep.name='a/b' is no name for a folder in runs_dir"),
        (["-m", "ratio=0.3,0.5", "sweep.name=.."], "sweep.name='..' is no name for a folder in runs_dir"),
        (["-m", "ratio=0.3,0.5", "sweep.name="], "sweep.name='' is no name for a folder in runs_dir"),
        (["-m", "ratio=0.3,0.5", f"sweep.name={'x' * 300}"], "(300 characters)' is no name for a folder in runs_dir"),
        (["-m", "ratio=0.3,0.5", "sweep.name=latest", "dry_run=true"], "and not 'latest'"),
        (["sweep.name=mine"], "sweep.name=mine names a sweep (-m), and this is one run"),
        (["experiment=smok"], "there is no experiment=smok; did you mean smoke?"),
        (["seed=[0]"], "seed must be a whole number from 0 to 9223372036854775807; got [0]"),
        (["until=reference"], "is compared with a test set by python src/evaluate.py --data NAME --path FOLDER"),
        (["-m", "ratio=glob(*)"], "the sweep has no job: a glob() or range() in the command gives no value"),
        (["-m", "seed=range(1,1)"], "the sweep has no job: a glob() or range() in the command gives no value"),
        (["data.val=nope"], "data.val must be a list of names; got 'nope'"),
        (["rati=0.5"], "rati is no knob; did you mean ratio?"),
        (["+ratoi=0.5"], "ratoi is no knob; did you mean ratio?"),
        (["++schedule.bach=2"], "schedule.bach is no knob; did you mean schedule.batch?"),
        (["model.chanels=8"], "model.chanels is no knob; did you mean model.channels?"),
        (["model.window=3"], "model.window=3 is given, but model=basicvsr_small does not read it; it reads channels"),
        (["steps=4"], "did you mean schedule.flow.steps or schedule.pretrain.steps or schedule.align.steps?"),
        (["rule=rsc", "rsc=false"], "rule=rsc contradicts rsc=false residual=aligned"),
        (["model.bidirectional=3"], "model.bidirectional must be true or false; got 3"),
        (["schedule.pretrain.flow_frozen_steps=99999999999999999999"], "must be at most 1000000000"),
        (
            ["store.action=verfy"],
            "store.action must be one of list, verify, clean, push, pull, or nothing; got 'verfy'",
        ),
        (["ratio=1=2"], "'ratio=1=2' cannot be read as KNOB=VALUE"),
        (["rsc=maybe"], "rsc must be true or false; got 'maybe'"),
        (["scope=per_layer"], "scope=per_layer needs ratios"),
        (["scope=per_layer", "ratios={no_such_layer: 0.5}"], "unknown layer 'no_such_layer'"),
        (["ratio=0.9", "min_kept=2"], "largest reachable ratio is 0.5"),
        (["round_to=4"], "round_to=4 leaves nothing to cut"),
        (["target=latency"], "target=latency needs times of this device: add round_to=auto"),
        (["method=magic"], "there is no method=magic; there are assl, best, dense, distill, l1, lite"),
        (["data=dmeo"], "there is no data=dmeo; did you mean demo? There are demo, folder"),
        (["-cd", "sweeps", "-cn", "scor"], "there is no --config-name=scor; did you mean score? There are config"),
        (["-m", "model=edsr_tiny,nope"], "there is no model=nope; there are basicvsr"),
        (["~ratio"], "~ratio: a knob cannot be taken away; leave ratio out of the command for its default"),
        (["-cd", "nowhere", "-cn", "scope"], "--config-dir=nowhere: there is no such folder"),
        (["-m", "ratio=interval(0,1)"], "BasicSweeper does not support sweep type"),
        (["-m", "ratio=0.3,0.5", "hydra.sweeper.max_batch_size=1"], "launcher.jobs says how many jobs run at a time"),
        (["-m", "ratio=0.3,0.5", "hydra.sweep.dir=mine"], "hydra.sweep.dir cannot be set: runs_dir is the folder"),
        (["hydra.job.chdir=true"], "hydra.job.chdir cannot be set: jobs run where the command was typed"),
        (["data.path=${nope}"], "Interpolation key 'nope' not found; ${NAME} in a value stands for"),
        (["-m", "ratio=0.3,0.5", "data.val=['${q}']"], "Interpolation key 'q' not found"),
        (["data.path=é"], """with quotes any text is taken: "data.path='é'\""""),
        (["--shell-completion"], "--shell-completion is not offered here"),
        (["data=folder"], "data.path is empty"),
        (["data=folder", "data.path=/no/such/folder"], "/no/such/folder"),
        (
            ["data.degradation=bd"],
            "data.degradation must be one of bicubic, bicubic_uint8_passes, bd_basicvsr, bd_duf, bd_duf_frames",
        ),
        (["evaluate.protocol=reds4", "data.channel=y"], "data.channel=y contradicts evaluate.protocol=reds4"),
        (["pretrained=nothing.safetensors"], "nothing.safetensors"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_a_wrong_value_is_named(tmp_path: Path, arguments: list[str], expected: str) -> None:
    assert expected in refused_here(tmp_path, *arguments)


PLACED = {"store_dir": "store", "runs_dir": "runs"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["store_dir=/proc/nope"], "store_dir=/proc/nope: no folder can be made in /proc"),
        (["store_dir=/proc/nope", "dry_run=true"], "store_dir=/proc/nope: no folder can be made in /proc"),
        (["-m", "seed=0,1", "store_dir=/proc/nope"], "name another (job seed=0; no job was started)"),
        (["runs_dir=/proc/nope"], "runs_dir=/proc/nope: no folder can be made in /proc"),
        (["-m", "seed=0,1", "runs_dir=/proc/nope"], "runs_dir=/proc/nope: no folder can be made in /proc"),
        (["store_dir=FILE", "dry_run=true"], "FILE is a file where a folder is needed; name another folder"),
        (["store_dir=FILE/x", "dry_run=true"], "FILE is a file where a folder is needed; name another folder"),
        (["runs_dir=FILE/x", "dry_run=true"], "FILE is a file where a folder is needed; name another folder"),
        (
            ["store_dir=none", "store.action=verify"],
            "store_dir=none: there is no such folder, and so nothing to verify",
        ),
        (["trainer=gpu"], "trainer.accelerator=gpu needs an NVIDIA GPU, and there is none"),
        (["-m", "trainer=ddp", "seed=0,1"], "use trainer=cpu (job seed=0; no job was started)"),
        (["ratio=0.3", "ratio=0.5"], "ratio is given twice: ratio=0.3 ratio=0.5; leave one out"),
        (["-m", "ratio=0.3", "+ratio=0.5,0.7"], "ratio is given twice: ratio=0.3 +ratio=0.5,0.7; leave one out"),
        (["model=rrn_tiny", "model=edsr_tiny"], "model is given twice: model=rrn_tiny model=edsr_tiny; leave one out"),
        (["--ratio=0.5"], "unrecognized arguments: --ratio=0.5; knobs are given as KNOB=VALUE, without dashes"),
        (
            ["rsc=true", "-m", "ratio=0.3,0.5"],
            "ratio=0.3,0.5 comes after a flag (-m) and other knobs before it: put flags before all",
        ),
        (["-m", "ratio=0.3,", "0.5"], "a list of values has no space behind its commas"),
        (["schedule.pretrain.steps=99999999999999999999", "dry_run=true"], "must be at most 1000000000"),
        (["ratio=nan"], "ratio must be in [0, 1)"),
        (["ratio="], "ratio must be a number in [0, 1); got ''"),
        (["+hydra.callbacks.x._target_=os.system"], "hydra.callbacks.x._target_ cannot be set"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_what_was_once_accepted_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("FILE").write_text("x")
    places = [f"{knob}={place}" for knob, place in PLACED.items() if not any(knob in item for item in arguments)]
    assert expected in refusal(tmp_path, "src/run.py", *arguments, *places)
    assert not Path("/proc/nope").exists()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("sweeps/search_ratios.py -m ratio=0.3,0.5", "-m: a search is one study in a folder of its own; call the"),
        ("sweeps/search_ratios.py ratio=1.5", "ratio must be in [0, 1)"),
        ("sweeps/search_ratios.py search.clips=24", "search.clips=24 takes all 24 training clips for scoring"),
        ("sweeps/search_ratios.py search.storage=mysql://x", "search.storage must be postgresql://USER@HOST/DATABASE,"),
        (
            "sweeps/search_ratios.py search.storage='sqlite:////proc/nope/x.db'",
            "search.storage=sqlite:////proc/nope/x.db: cannot open this database",
        ),
        ("analysis/figures.py runs --out FILE", "--out=FILE: FILE is a file where a folder is needed"),
        ("analysis/figures.py runs --out /proc/nope", "--out=/proc/nope: no folder can be made in /proc"),
        ("analysis/figures.py none", "there is no folder none; give folders that run.py wrote"),
        ("analysis/tables.py runs --table rule --out FILE/x", "FILE is a file where a folder is needed"),
        ("analysis/report.py runs --out none/x.html", "none is no folder that is there; make it, or name another file"),
        ("analysis/report.py runs --places -1", "--places must be at least 0; got -1"),
        ("analysis/search_figures.py none", "none/search.json: no finished search can be read there"),
        ("analysis/watch.py none --once", "there is no folder none; give folders that run.py wrote"),
        ("analysis/watch.py runs FILE --once", "there is no folder FILE; give folders that run.py wrote"),
        ("analysis/watch.py runs --every inf", "--every must be more than 0, at most 86400; got inf"),
        ("analysis/wandb_dashboard.py --dry-run --project=", "--project must be a name of 1 to 128 letters without"),
        ("analysis/wandb_dashboard.py --dry-run --project=a/b", "--project must be a name of 1 to 128 letters without"),
        ("analysis/wandb_dashboard.py --dry-run --entity=a/b", "--entity must be a name of letters, digits"),
        ("src/upscale.py runs out --model none --threads 100000000", "--threads must be at most 1024; got 100000000"),
        ("src/export.py runs --format safetensors --out FILE/x", "FILE is a file where a folder is needed"),
        (
            "src/export.py runs --format safetensors --out /proc/nope",
            "--out=/proc/nope: no folder can be made in /proc",
        ),
        ("benchmarks/outside_control.py runs --val x.mp4", "pip install -e '.[control]'"),
    ],
)
def test_every_command_refuses_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, expected: str
) -> None:
    script, *arguments = command.split()
    if script == "analysis/wandb_dashboard.py":
        pytest.importorskip("wandb_workspaces")
    if script == "benchmarks/outside_control.py":
        monkeypatch.setitem(sys.modules, "torch_pruning", None)
    monkeypatch.chdir(tmp_path)
    Path("FILE").write_text("x")
    Path("runs").mkdir()
    places = [f"{knob}={place}" for knob, place in PLACED.items()] if script.startswith("sweeps") else []
    assert expected in refusal(tmp_path, script, *arguments, *places)
    assert Path("FILE").read_text() == "x"


def test_a_name_that_does_not_exist_is_refused_in_a_file_too(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("# @package _global_\ndefaults: [config, _self_]\nratoi: 0.3\n")
    assert refused_here(tmp_path, "-cd", str(tmp_path), "-cn", "mine") == "error: ratoi is no knob; did you mean ratio?"


def test_what_hydra_would_do_besides_is_refused_in_a_file_too(tmp_path: Path) -> None:
    header = "# @package _global_\ndefaults: [config, _self_]\n"
    (tmp_path / "mine.yaml").write_text(f"{header}hydra: {{sweeper: {{max_batch_size: 1}}}}\n")
    complaint = refused_here(tmp_path, "-cd", str(tmp_path), "-cn", "mine", "-m", "ratio=0.3,0.5")
    assert complaint.startswith("error: hydra.sweeper.max_batch_size cannot be set: a sweep is planned as a whole")


@pytest.mark.parametrize(
    "calling",
    [
        "callbacks: {mine: {_target_: shutil.copy, src: SOURCE, dst: TARGET}}",
        "sweeper: {params: {ratio: {_target_: shutil.copy, src: SOURCE, dst: TARGET}}}",
        "hydra_logging: {formatters: {mine: {(): shutil.copy, src: SOURCE, dst: TARGET}}}",
        "job_logging: {handlers: {mine: {class: logging.FileHandler, filename: TARGET, mode: w}}}",
    ],
)
@pytest.mark.parametrize("arguments", [["dry_run=true"], ["-m", "seed=0,1", "dry_run=true"]])
def test_somebody_elses_file_cannot_have_hydra_call_anything(
    tmp_path: Path, calling: str, arguments: list[str]
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("new")
    target.write_text("old")
    text = calling.replace("SOURCE", str(source)).replace("TARGET", str(target))
    (tmp_path / "mine.yaml").write_text(f"# @package _global_\ndefaults: [config, _self_]\nhydra:\n  {text}\n")
    complaint = refused_here(tmp_path, "-cd", str(tmp_path), "-cn", "mine", *arguments)
    assert "cannot be set: " in complaint
    assert target.read_text() == "old"


@pytest.mark.parametrize("arguments", [["ratio=7"], ["dry_run=true"], ["-m", "ratio=0.3,7"], ["hydra.job.chdir=true"]])
def test_what_runs_nothing_leaves_no_folder(tmp_path: Path, arguments: list[str]) -> None:
    places = [f"store_dir={tmp_path / 'deep' / 'store'}", f"runs_dir={tmp_path / 'deep' / 'runs'}"]
    run_here("src/run.py", *arguments, *places, "tracking=none")
    assert not list(tmp_path.iterdir())
    Path(places[1].removeprefix("runs_dir=")).mkdir(parents=True)
    run_here("src/run.py", *arguments, *places, "tracking=none")
    assert list(tmp_path.rglob("*")) == [tmp_path / "deep", tmp_path / "deep" / "runs"]  # the user's own stay


def test_equal_jobs_of_a_sweep_are_one_and_ranges_are_named_as_typed(tmp_path: Path) -> None:
    places = [f"store_dir={tmp_path / 'store'}", f"runs_dir={tmp_path / 'runs'}", "tracking=none", "dry_run=true"]
    equal = run_here("src/run.py", "-m", "ratio=0.2,0.20,0.3", *places)
    assert "note: equal jobs run once: 2 of 3" in equal.stdout
    assert "#2 ratio=0.3: flow" in equal.stdout
    assert "#1 ratio=0.3: flow" in run_here("src/run.py", "-m", "ratio=0.3,0.3", *places).stdout
    ranged = run_here("src/run.py", "-m", "ratio=range(0,1,0.3)", *places).stdout
    assert [f"#{number} ratio={ratio}: " in ranged for number, ratio in enumerate((0.0, 0.3, 0.6, 0.9), 1)] == [
        True
    ] * 4


def test_a_name_that_looks_like_an_interpolation_can_be_written(tmp_path: Path) -> None:
    for name in ("${q}", "other"):
        write_pngs(tmp_path / "clips" / name, [(96, 96)] * 5)
    values = ["data=folder", f"data.path={tmp_path / 'clips'}", "schedule.frames=5", "schedule.patch=16"]
    places = [f"store_dir={tmp_path / 'store'}", f"runs_dir={tmp_path / 'runs'}", "tracking=none", "dry_run=true"]
    for arguments in (["data.val=['\\${q}']"], ["-m", "data.val=['\\${q}'],[other]"]):
        done = run_here("src/run.py", *arguments, *values, *places)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_size_that_would_hang_the_machine_is_refused(tmp_path: Path) -> None:
    done = run_here(
        "src/run.py", "model.blocks=1000000000", "dry_run=true", f"store_dir={tmp_path}", f"runs_dir={tmp_path}"
    )
    assert (done.returncode, done.stderr) == (2, "error: model.blocks must be at most 500; got 1000000000\n")


def test_help_needs_no_value_to_be_right() -> None:
    short, group = run_here("src/run.py", "--help", "ratio=7=7"), run_here("src/run.py", "--help", "schedule")
    assert short.returncode == 2
    assert group.returncode == 0
    assert "schedule.pretrain.steps=600" in group.stdout
    assert run_here("src/run.py", "--help").stdout.startswith("Structured Sparsity Learning")


def test_our_own_complaints_are_one_line(tmp_path: Path) -> None:
    assert refused_here(tmp_path, "ratio=1.5") == ("error: ratio must be in [0, 1), the share that is removed; got 1.5")


def test_a_wrong_value_anywhere_in_a_sweep_stops_it_before_the_first_job(tmp_path: Path) -> None:
    complaint = refused_here(tmp_path, "-m", "rsc=true,false", "ratio=0.3,0.5,1.7")
    assert "ratio must be in [0, 1)" in complaint
    assert "no job was started" in complaint
    assert not any(path for path in (tmp_path / "runs").glob("*") if not path.name.startswith(".multirun-"))


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


def test_the_doctor_looks_at_a_test_set_alone_and_leaves_nothing_behind(tmp_path: Path) -> None:
    for name in ("calendar", "city", "foliage", "walk"):
        write_pngs(tmp_path / "Vid4" / "GT" / name, [(64, 66)] * 7)
    write_pngs(tmp_path / "Vid4" / "GT" / ".thumbnails", [(4, 4)])
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    outcome = run_py("doctor=true", "data=vid4", f"data.path={tmp_path / 'Vid4'}", "data.max_frames=5", cwd=folder)
    assert outcome.returncode == 1, outcome.stdout + outcome.stderr
    assert "0 errors, 3 warnings" in outcome.stdout  # the clips of this tree show the same
    assert re.search(r"test +4 +20 ", outcome.stdout)
    assert "city: its 66x64 pixels are cropped to 64x64" in outcome.stdout
    assert "train" not in outcome.stdout
    assert list(folder.iterdir()) == []


def test_what_a_folder_leaves_out_is_a_warning_of_the_doctor(tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    for name in ("a", "b", ".thumbnails", "day1/c"):
        write_pngs(clips / name, [(64, 64)] * 5)
    for file in (clips / "b").iterdir():
        with Image.open(file) as image:
            image.rotate(180).save(file)  # other pictures than those of a
    (clips / "a" / "002.png").unlink()
    (clips / "list.txt").write_text("")
    asked = ["doctor=true", "data=folder", f"data.path={clips}", "schedule.patch=8", "schedule.frames=3"]
    outcome = run_py(*asked, f"runs_dir={tmp_path / 'runs'}")
    assert outcome.returncode == 1, outcome.stdout + outcome.stderr
    assert "warning data: a: the numbers jump from 001.png to 003.png" in outcome.stdout
    assert "warning data: day1: left out, its clips lie one folder deeper (c)" in outcome.stdout
    assert "note data: left out list.txt: neither frames nor videos" in outcome.stdout
    assert "thumbnails" not in outcome.stdout
    assert "0 errors, 2 warnings, 1 note; exit code 1" in outcome.stdout


def test_the_doctor_and_a_dry_run_find_that_there_is_no_card(tmp_path: Path) -> None:
    write_pngs(tmp_path / "clips" / "one", [(64, 64)] * 5)
    write_pngs(tmp_path / "clips" / "two", [(64, 64)] * 5)
    clips = ["data=folder", f"data.path={tmp_path / 'clips'}", "schedule.patch=8", f"runs_dir={tmp_path / 'runs'}"]
    words = "trainer.accelerator=gpu needs an NVIDIA GPU, and there is none"
    examined = run_py("doctor=true", "trainer=gpu", *clips)
    assert examined.returncode == 2
    assert f"error {words}" in examined.stdout
    planned = run_py("dry_run=true", "trainer=gpu", *clips)
    assert planned.returncode == 2
    assert planned.stderr.startswith(f"error: {words}")


def test_the_doctor_reports_by_its_exit_code_and_makes_no_store(tmp_path: Path) -> None:
    write_pngs(tmp_path / "clips" / "good", [(64, 64)] * 5)
    write_pngs(tmp_path / "clips" / "bad", [(64, 64)] * 4 + [(64, 60)])
    common = ["doctor=true", f"store_dir={tmp_path / 'store'}", f"runs_dir={tmp_path / 'runs'}"]
    clips = ["data=folder", f"data.path={tmp_path / 'clips'}", "schedule.patch=8"]
    outcome = run_py(*common, *clips, "data.val=[good]")
    assert outcome.returncode == 2, outcome.stderr
    assert "bad/004.png: 60x64, but the clip began with 64x64" in outcome.stdout
    assert not (tmp_path / "store").exists()
    assert not (tmp_path / "runs").exists()
    for wrong, words in (([], "data=demo has none"), (["-m", "seed=0,1", *clips], "run it without -m")):
        refused_one = run_py(*wrong[:1], *common, *wrong[1:])
        assert refused_one.returncode == 2
        assert words in refused_one.stderr
        assert "Traceback" not in refused_one.stderr
