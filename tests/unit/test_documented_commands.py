"""Every command that README.md, CONTRIBUTING.md and docs/ show would be accepted.

Overrides compose and validate, every value of a sweep at least once; jobs on data that are there are planned as well;
options are parsed by the scripts' own parsers; targets stand in the Makefile.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import runpy
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from documents import ROOT, Shown, blocks, shown_commands
from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser

from vsrprune.cli import CONF, check_names, composed_config, register
from vsrprune.config.agreement import validate
from vsrprune.config.help import print_help
from vsrprune.config.job import Config
from vsrprune.jobs.planning import plan_job
from vsrprune.search.config import SearchJobConfig, validate_search

# Some stand on two pages.
COMMANDS = list({tuple(shown.words): shown for shown in shown_commands()}.values())
# What is no command of this project.
OTHERS = {"pip"}
COMPOSED: dict[str, tuple[type[Config], str]] = {
    "src/run.py": (Config, "config"),
    "sweeps/search_ratios.py": (SearchJobConfig, "search_ratios"),
}


class ParsedError(Exception):
    """A script has read its options."""


def label(shown: Shown) -> str:
    return f"{shown.page.name}: {' '.join(shown.words)}"


def of(*programs: str) -> list[Shown]:
    return [shown for shown in COMMANDS if shown.words[0] in programs]


SCRIPTS = [shown for shown in of("python") if shown.words[1] != "-c"]
JOBS = [shown for shown in SCRIPTS if shown.words[1] in COMPOSED]


def test_commands_are_found_and_none_is_misspelt() -> None:
    assert len(JOBS) > 30
    assert {shown.words[0] for shown in COMMANDS} <= {"python", "make"} | OTHERS


def test_every_target_of_make_is_there() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert {word for shown in of("make") for word in shown.words[1:] if "=" not in word} <= targets


def combinations(overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of as few jobs as hold every value of a sweep."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    axes = [
        [f"{item.key_or_group}={value}" for value in item.sweep_string_iterator()]
        if item.is_sweep_override()
        else [str(item.input_line)]
        for item in parsed
    ]
    return [[axis[job % len(axis)] for axis in axes] for job in range(max(map(len, axes), default=1))]


def needs_more_than_the_demo(config: Config) -> bool:
    """Whether a plan asks for data, weights, files or a device that are not in the repository."""
    own = config.model.network == "own" or ".py" in config.score
    files = (config.pretrained, config.pretrained_flow, config.ratios, config.store.action)
    return config.data.name != "demo" or config.trainer.name in ("gpu", "ddp") or own or any(files)


@contextlib.contextmanager
def registered(kind: type[Config]) -> Iterator[None]:
    """Compose on the knobs of a script; after it on those of run.py, as other tests do."""
    register(kind)
    try:
        yield
    finally:
        register(Config)


@pytest.fixture
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder that has the files that commands name: sweeps, weights, the pages' own networks and scores."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweeps").symlink_to(ROOT / "sweeps")
    for weights in ("basicvsr.pth", "spynet.pth", *(f"dense{replicate}.safetensors" for replicate in range(3))):
        (tmp_path / weights).touch()
    for page, file in (("networks.md", "my_net.py"), ("scores.md", "my_score.py")):
        code = next(block.text for block in blocks(ROOT / "docs" / page) if block.language == "python")
        (tmp_path / file).write_text(code)


def composed_jobs(script: str, arguments: Sequence[str]) -> list[Config]:
    """The checked configurations of a command, as `run_command` and Hydra make them."""
    kind, name = COMPOSED[script]
    check_names(kind, arguments)
    given = get_args_parser().parse_args(arguments)
    folder = Path(given.config_dir or CONF).resolve()
    with initialize_config_dir(str(folder), version_base="1.3"):
        return [
            composed_config(compose(given.config_name or name, [f"hydra.searchpath=[file://{CONF}]", *job]), kind)
            for job in combinations(given.overrides)
        ]


@pytest.mark.usefixtures("_folder")
@pytest.mark.parametrize("shown", JOBS, ids=label)
def test_every_job_and_search_composes(shown: Shown) -> None:
    script, *arguments = shown.words[1:]
    if "--help" in arguments:
        print_help(COMPOSED[script][0], script, "", CONF, [word for word in arguments if word != "--help"])
        return
    with registered(COMPOSED[script][0]):
        jobs = composed_jobs(script, arguments)
    for config in jobs:
        validate(config)
        if isinstance(config, SearchJobConfig):
            validate_search(config)
    if not needs_more_than_the_demo(jobs[0]):
        plan_job(jobs[0])


OPTIONS = [shown for shown in SCRIPTS if shown not in JOBS and shown.words[1] != "benchmarks/latency.py"]


@pytest.mark.parametrize("shown", OPTIONS, ids=label)
def test_every_script_takes_its_options(
    shown: Shown, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script, *arguments = shown.words[1:]
    parse = argparse.ArgumentParser.parse_args

    def stop(parser: Any, words: Any = None, namespace: Any = None) -> None:
        raise ParsedError(parse(parser, words, namespace))

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    try:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    except ParsedError:
        return
    except SystemExit:
        missing = re.search(r"No module named \S+", capsys.readouterr().err)
        if missing is None:
            raise
        pytest.skip(missing[0])
    raise AssertionError("it reads no options")
