"""The command `vsrprune`: what it runs, what it imports, how messages name it, and what bash completes."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import vsrprune
from hydra_plugins.vsrprune_launcher.engines import Call
from vsrprune import __main__ as command
from vsrprune.cli import complain
from vsrprune.commands import IS_CARRIED, ROOT, SCRIPTS, TYPED, CommandParser, typed
from vsrprune.completion import BASH, candidates
from vsrprune.host.failures import retry_command

HERE = Path(__file__).parents[2]
HEAVY = ("torch", "numpy", "hydra", "omegaconf", "rich", "matplotlib", "pandas", "optuna", "wandb")


@pytest.fixture(autouse=True)
def _scripts_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TYPED, "")  # and whatever a test sets is forgotten after it


@pytest.fixture
def _command_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TYPED, "vsrprune")


def ran(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> list[str] | int:
    """The script and its arguments that `vsrprune arguments` would run, or its exit code without a script."""
    started: list[str] = []
    monkeypatch.setattr(sys, "argv", ["/usr/bin/vsrprune", *arguments])
    monkeypatch.setattr(runpy, "run_path", lambda path, run_name: started.extend([*sys.argv, run_name]))
    code = command.main()
    if not started:
        return code
    assert started.pop() == "__main__"
    return [str(Path(started[0]).relative_to(HERE)), *started[1:]]


# What it runs


def test_every_script_of_the_project_is_a_command() -> None:
    scripts = [path for folder in ("src", "sweeps", "analysis") for path in (HERE / folder).glob("*.py")]
    called = {str(path.relative_to(HERE)) for path in scripts if '__name__ == "__main__"' in path.read_text()}
    assert called == set(SCRIPTS.values())
    assert not IS_CARRIED
    assert ROOT == HERE


@pytest.mark.parametrize("name", [*SCRIPTS, "sweep", "doctor", "completion"])
def test_the_page_names_every_command(name: str) -> None:
    assert re.search(rf"(^  |\b){name}\b", command.PAGE, re.MULTILINE)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_command_is_its_script_with_the_same_arguments(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ran(monkeypatch, name, "-m", "ratio=0.3,0.5", "--help") == [SCRIPTS[name], "-m", "ratio=0.3,0.5", "--help"]


def test_a_sweep_is_a_file_of_the_folder_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = ["src/run.py", "-cd", str(HERE / "sweeps"), "-cn", "scope", "ratio=0.4"]
    assert ran(monkeypatch, "sweep", "scope", "ratio=0.4") == expected


def test_the_doctor_is_a_knob_of_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ran(monkeypatch, "doctor", "data=folder") == ["src/run.py", "doctor=true", "data=folder"]
    assert ran(monkeypatch, "doctor", "--help") == ["src/run.py", "--help", "doctor"]


def test_without_a_name_all_sweeps_are_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ran(monkeypatch, "sweep") == 0
    listed = re.findall(r"^  (\w+)  +\S", capsys.readouterr().out, re.MULTILINE)
    assert listed == sorted(path.stem for path in (HERE / "sweeps").glob("*.yaml"))


def test_the_help_of_a_sweep_is_its_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert ran(monkeypatch, "sweep", "scope", "--help") == 0
    shown = capsys.readouterr().out
    assert (
        shown.replace("vsrprune sweep", "python src/run.py -cd sweeps -cn")
        == (HERE / "sweeps" / "scope.yaml").read_text()
    )
    assert "#   vsrprune sweep scope\n" in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rum"], "error: there is no command 'rum'; did you mean run? There are dashboard, diff, doctor, evaluate"),
        (["sweep", "scop"], "error: there is no sweep 'scop'; did you mean scope? There are direction, evidence"),
        (["sweep", "xyzzy"], "error: there is no sweep 'xyzzy'; there are direction, evidence"),
    ],
)
def test_a_name_that_does_not_exist_ends_in_one_line(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ran(monkeypatch, *arguments) == 2
    said = capsys.readouterr()
    assert said.err.startswith(words)
    assert (said.out, said.err.count("\n")) == ("", 1)


def test_the_version_is_that_of_the_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    version = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]["version"]
    assert ran(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"vsrprune {version}\n"
    assert vsrprune.__version__ == version
    with pytest.raises(AttributeError, match="no attribute 'versoin'"):
        vsrprune.versoin  # noqa: B018


def test_help_imports_nothing_that_is_large() -> None:
    code = (
        "import sys; sys.argv = ['vsrprune', '--help']; from vsrprune.__main__ import main; main()\n"
        f"print(sorted(set(sys.modules) & set({HEAVY})))"
    )
    environment = {**os.environ, "PYTHONPATH": str(HERE / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == f"{command.PAGE}\n[]\n"


# How messages name it


SPELLED = [
    ("python src/run.py", "vsrprune run"),
    ("python src/run.py -m ratio=0.3,0.5", "vsrprune run -m ratio=0.3,0.5"),
    ("python src/run.py -cd sweeps -cn scope", "vsrprune sweep scope"),
    ("python src/run.py -cd mine -cn scope", "vsrprune run -cd mine -cn scope"),
    ("python sweeps/search_ratios.py", "vsrprune search"),
    ("python analysis/search_figures.py runs/search", "vsrprune search-figures runs/search"),
    ("; src/evaluate.py compares", "; vsrprune evaluate compares"),
    ("(src/upscale.py does so)", "(vsrprune upscale does so)"),
    ("the knobs of src/run.py apply too", "the knobs of vsrprune run apply too"),
    ("folders that run.py wrote", "folders that vsrprune run wrote"),
]


@pytest.mark.parametrize(("text", "meant"), SPELLED)
def test_a_script_is_named_as_it_was_typed(text: str, meant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert typed(text) == text
    monkeypatch.setenv(TYPED, "vsrprune")
    assert typed(text) == meant
    monkeypatch.setenv(TYPED, "python -m vsrprune")
    assert typed(text) == meant.replace("vsrprune", "python -m vsrprune")


@pytest.mark.usefixtures("_command_typed")
@pytest.mark.parametrize(
    "text",
    [
        "my_run.py",
        "/home/me/run.py",
        "mine/src/run.py",
        "mine/run.py",
        "model.file=run.py",
        "run.py:A",
        "src/vsrprune/run",
        "rerun.py:A",
    ],
)
def test_other_names_stay(text: str) -> None:
    assert typed(text) == text


@pytest.mark.usefixtures("_command_typed")
def test_columns_stay_where_they_are() -> None:
    lines = ["  python src/run.py [KNOB=VALUE ...]      one", "  python src/run.py -cd sweeps -cn NAME   two"]
    assert typed("\n".join(lines)).split("\n") == [
        "  vsrprune run [KNOB=VALUE ...]           one",
        "  vsrprune sweep NAME                     two",
    ]


@pytest.mark.usefixtures("_command_typed")
def test_errors_failure_cards_and_pages_name_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    complain("src/evaluate.py compares without")
    assert capsys.readouterr().err == "error: vsrprune evaluate compares without\n"
    arguments = [str(ROOT / "src" / "run.py"), "model.widths=[4, 8]", "ratio=0.5"]
    assert retry_command(arguments) == "vsrprune run 'model.widths=[4, 8]' ratio=0.5"
    assert retry_command(arguments[:1]) == "vsrprune run"
    monkeypatch.setattr(sys, "argv", [str(ROOT / "src" / "upscale.py")])
    page = CommandParser(description="python src/upscale.py in.mp4 out.mp4").format_help()
    assert page.startswith("usage: vsrprune upscale [-h]\n\nvsrprune upscale in.mp4 out.mp4\n")


def test_a_script_that_was_typed_keeps_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert retry_command(["src/run.py", "a b"]) == "python src/run.py 'a b'"
    monkeypatch.setattr(sys, "argv", ["src/upscale.py"])
    assert CommandParser(description="python src/upscale.py").format_help().startswith("usage: upscale.py [-h]\n")


@pytest.mark.usefixtures("_command_typed")
def test_what_was_typed_reaches_jobs_on_other_machines() -> None:
    assert Call([], "", Path(), None).environment[TYPED] == "vsrprune"


# What bash completes


@pytest.mark.parametrize(
    ("words", "some"),
    [
        (["r"], {"run", "report", "sweep", "doctor", "search-figures"}),
        (["sweep", ""], {"scope", "tf_weight"}),
        (["sweep", "scope", "rat"], {"ratio=", "model=", "schedule.pretrain.steps="}),
        (["run", "-m", "rsc="], {"rsc=true", "rsc=false"}),
        (["run", "order="], {"order=min", "order=max"}),
        (["run", "rule="], {"rule=rsc", "rule=aligned", "rule=inner"}),
        (["search", "search="], {"search=tpe", "search=nsga2"}),
        (["search", "s"], {"search.trials=", "search=", "ratio="}),
    ],
)
def test_what_may_follow_is_offered(words: list[str], some: set[str]) -> None:
    assert some <= set(candidates(words))


@pytest.mark.parametrize("words", [["upscale", "in"], ["run", "-"], ["run", "data.path="], ["run", "no_such="]])
def test_elsewhere_names_of_files_are_left_to_bash(words: list[str]) -> None:
    assert candidates(words) == []


def test_the_knobs_of_the_search_are_offered_to_it_alone() -> None:
    assert not [item for item in candidates(["run", "s"]) if item.startswith("search")]


@pytest.mark.parametrize(
    ("line", "replies"),
    [
        ("vsrprune ru", ["run"]),
        ("vsrprune run ", ["run", "rsc=true", "rsc=false"]),
        ("vsrprune run rsc=", ["true", "false"]),
        ("vsrprune run -m rsc=t", ["true"]),
    ],
)
def test_bash_gets_what_its_word_begins_with(line: str, replies: list[str]) -> None:
    """`=` ends a word of bash, so its answers are what comes after it."""
    code = f"""
        vsrprune() {{ echo "$@" >&3; printf '%s\\n' run rsc=true rsc=false; }}
        {BASH}
        COMP_LINE='{line}'; COMP_POINT={len(line)}; compopt() {{ :; }}
        _vsrprune; printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", f"exec 3>/dev/null\n{code}"], capture_output=True, text=True, check=True)
    assert (done.stdout.split(), done.stderr) == (replies, "")


# The image


def test_the_image_is_built_from_all_that_the_wheel_needs_and_nothing_else() -> None:
    lines = (HERE / "Dockerfile").read_text().splitlines()
    copied = [name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]]
    assert all((HERE / name).exists() for name in copied)
    ignored = (HERE / ".dockerignore").read_text().splitlines()
    assert sorted(f"!{name}" for name in copied) == sorted(line for line in ignored if line.startswith("!"))
    assert {"src", "conf", "sweeps", "analysis", "setup.py", "pyproject.toml", "README.md", "LICENSE"} <= set(copied)


@pytest.mark.parametrize("page", ["--help", "sweep"])
def test_a_reader_that_has_gone_is_no_error(page: str) -> None:
    piped = f"{shlex.quote(sys.executable)} -m vsrprune {page} | true"
    done = subprocess.run(["sh", "-c", piped], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
