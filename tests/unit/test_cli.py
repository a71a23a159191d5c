"""What is looked at before Hydra: settings of its own, ranges, and what a command leaves behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from hydra_plugins.vsrprune_launcher.as_typed import differing_jobs, numbers_as_typed, typed_numbers
from vsrprune.cli import REFUSED, SWEEP_DIR, check_hydra, check_names, check_targets, leaving_no_trace
from vsrprune.config.job import Config
from vsrprune.errors import UserError

SOUND: dict[str, Any] = {"sweeper": {"max_batch_size": None}, "job": {"chdir": None}, "sweep": {"dir": SWEEP_DIR}}


@pytest.mark.parametrize(
    "override",
    [
        "hydra.sweeper.max_batch_size=0",
        "hydra.sweeper.max_batch_size=2",
        "hydra.job.chdir=true",
        "hydra.sweep.dir=mine",
        "hydra.sweep.subdir=mine",
        "hydra/launcher=basic",
        "hydra/sweeper=other",
        "+hydra.callbacks.mine._target_=os.system",
    ],
)
def test_settings_of_hydra_that_would_go_wrong_are_refused_with_the_reason(override: str) -> None:
    with pytest.raises(UserError) as caught:
        check_names(Config, [override])
    name, reason = str(caught.value).split(" cannot be set: ")
    assert name == override.lstrip("+").split("=")[0]
    assert reason in REFUSED.values()


@pytest.mark.parametrize(
    "override",
    [
        "hydra.sweeper.max_batch_size=null",
        "hydra.job.chdir=false",
        "hydra.run.dir=mine",
        "hydra.searchpath=[mine]",
        "hydra.verbose=true",
        "hydra.job.env_set.NAME=1",
    ],
)
def test_other_settings_of_hydra_are_its_own(override: str) -> None:
    check_names(Config, [override])


def test_the_folder_of_a_single_run_is_refused_in_a_sweep() -> None:
    with pytest.raises(UserError, match=r"hydra\.run\.dir is the folder of a single run"):
        check_names(Config, ["-m", "ratio=0.3,0.5", "hydra.run.dir=mine"])


@pytest.mark.parametrize("typed", ["score=l1", "score=taylor,l1", "round_to=1", "round_to=auto,1"])
def test_a_value_that_real_time_would_replace_is_refused(typed: str) -> None:
    name = typed.partition("=")[0]
    with pytest.raises(UserError, match=f"^{name}=l?1 does not go with target=realtime, which needs {name}="):
        check_names(Config, ["-m", "target=macs,realtime", "fps=25", typed])
    check_names(Config, ["-m", "target=macs", typed])
    check_names(Config, ["target=realtime", "fps=25", "score=fisher", "round_to=auto"])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--shell-completion", "install=bash"], "--shell-completion is not offered here"),
        (["--experimental-rerun", "x.pickle"], "--experimental-rerun is not offered here"),
        (["--resolve"], "--resolve belongs to --cfg"),
        (["--multirun", "--cfg", "job"], "give one of --run, --multirun, --cfg and --info"),
    ],
)
def test_flags_of_hydra_that_end_in_a_traceback_are_refused(flags: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_names(Config, flags)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"sweeper": {"max_batch_size": 1}}, "hydra.sweeper.max_batch_size"),
        ({"job": {"chdir": True}}, "hydra.job.chdir"),
        ({"sweep": {"dir": "mine"}}, "hydra.sweep.dir"),
        ({"callbacks": {"mine": {"_target_": "os.system"}}}, "hydra.callbacks"),
        ({"job_logging": {"version": 1, "formatters": {"mine": {"()": "os.system"}}}}, "hydra.job_logging"),
        ({"hydra_logging": {"version": 1}}, "hydra.hydra_logging"),
        ({"output_subdir": "../elsewhere"}, "hydra.output_subdir"),
        ({"job": {"env_set": {"LD_PRELOAD": "mine.so"}}}, "hydra.job.env_set"),
    ],
)
def test_the_composed_settings_are_looked_at_too(changes: dict[str, Any], name: str) -> None:
    check_hydra(OmegaConf.create(SOUND))
    with pytest.raises(UserError, match=f"{name} cannot be set"):
        check_hydra(OmegaConf.create({**SOUND, **changes}))


@pytest.mark.parametrize(
    ("tree", "name"),
    [
        ({"data": {"_target_": "os.system"}}, "data._target_"),
        ({"model": {"widths": [{"_target_": "os.system"}]}}, "model.widths.0._target_"),
        ({"hydra": {"sweeper": {"params": {"ratio": {"_target_": "os.system"}}}}}, "hydra.sweeper.params.ratio"),
        ({"hydra": {"sweeper": {"_target_": "os.system"}}}, "hydra.sweeper._target_"),
    ],
)
def test_what_hydra_would_call_is_refused_wherever_it_stands(tree: dict[str, Any], name: str) -> None:
    with pytest.raises(UserError, match=rf"{name}.*=os.system cannot be set: it would run code"):
        check_targets(OmegaConf.create(tree))


def test_letters_of_a_locale_that_python_cannot_read_are_refused() -> None:
    # What Python makes of the bytes of é where the locale is ASCII and its UTF-8 mode is off.
    with pytest.raises(UserError, match="set PYTHONUTF8=1"):
        check_names(Config, ["data.path='\udcc3\udca9'"])


# Ranges


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("range(0,1,0.3)", ["0.0", "0.3", "0.6", "0.9"]),
        ("range(0,1,0.1)", [f"{index / 10}" for index in range(10)]),
        ("range(0.9,0.1,-0.2)", ["0.9", "0.7", "0.5", "0.3"]),
        ("range(0.1,0.8,0.1)", [f"{index / 10}" for index in range(1, 8)]),
        ("range(1e-4,4e-4,1e-4)", ["0.0001", "0.0002", "0.0003"]),
    ],
)
def test_values_of_a_range_are_those_that_were_typed(text: str, numbers: list[str]) -> None:
    meant = typed_numbers([f"ratio={text}", "rsc=true,false"])
    assert [item for item in meant.values() if item] == [f"ratio={number}" for number in numbers]


def test_a_value_that_only_rounding_put_into_a_range_is_left_out() -> None:
    """0.1 + 0.1 + 0.1 in binary fractions is a little above 0.3, and 0.8 - 0.1 seven times a little above 0.1."""
    meant = typed_numbers(["ratio=range(0.8,0.1,-0.1)"])
    assert len([item for item in meant.values() if item]) == 7
    jobs = differing_jobs([[item] for item in meant], meant)
    assert jobs == [[f"ratio={index / 10}"] for index in range(8, 1, -1)]


def test_ranges_of_whole_numbers_and_other_sweeps_stay_as_they_are() -> None:
    assert typed_numbers(["seed=range(1,4)", "ratio=0.3,0.5", "rule=rsc"]) == {}


def test_numbers_are_named_as_they_were_typed() -> None:
    typed = [
        "schedule.pretrain.lr=1e-3, 1E-5,0.01",
        "ratio=choice(0.30,.5)",
        "seed=1_000",
        "rsc=true,false",
        "parts=[a,b],[c]",
        "data.path='1e3,x',y",
        "model.file='0.30'",
        "replicate=range(0,3)",
        "target=macs",
        "~rule",
    ]
    assert numbers_as_typed(typed) == {
        "schedule.pretrain.lr=0.001": "schedule.pretrain.lr=1e-3",
        "schedule.pretrain.lr=1e-05": "schedule.pretrain.lr=1E-5",
        "ratio=0.3": "ratio=0.30",
        "ratio=0.5": "ratio=.5",
        "seed=1000": "seed=1_000",
    }


def test_equal_jobs_are_one_in_the_order_in_which_they_were_given() -> None:
    jobs = [["ratio=0.5", "seed=1"], ["ratio=0.3", "seed=1"], ["ratio=0.5", "seed=1"], ["ratio=0.3", "seed=2"]]
    assert differing_jobs(jobs, {}) == [jobs[0], jobs[1], jobs[3]]
    assert differing_jobs([["ratio=0.8999999999999999"], ["ratio=0.9"]], {"ratio=0.8999999999999999": "ratio=0.9"}) == [
        ["ratio=0.9"]
    ]


def test_jobs_that_differ_in_where_and_how_they_run_alone_are_one() -> None:
    jobs = [["launcher.jobs=1", "ratio=0.5"], ["ratio=0.3"], ["launcher.jobs=2", "ratio=0.5"]]
    assert differing_jobs(jobs, {}) == jobs[:2]


# What is left behind


def test_a_folder_with_hydras_record_alone_is_removed_whatever_happened(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "ratio=7"
    (folder / ".hydra").mkdir(parents=True)
    with pytest.raises(SystemExit), leaving_no_trace(folder, ".hydra"):
        raise SystemExit(2)
    assert not folder.exists()
    assert folder.parent.is_dir()  # it may be the user's own


def test_a_folder_with_anything_else_stays(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    with leaving_no_trace(tmp_path, ".hydra"):
        (tmp_path / "result.json").write_text("{}")
    assert (tmp_path / ".hydra").is_dir()


def test_an_empty_folder_without_a_record_stays(tmp_path: Path) -> None:
    with leaving_no_trace(tmp_path, None):
        pass
    assert tmp_path.is_dir()


@pytest.mark.parametrize("command", [["src/run.py", "--help", "markdown"], ["sweeps/search_ratios.py", "--help"]])
def test_a_reader_that_stops_early_ends_the_command_without_a_word(command: list[str]) -> None:
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, *command], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()  # before anything is written, as `head -0` does
        assert process.stderr.read() == b""
        assert process.wait() == 128 + signal.SIGPIPE
