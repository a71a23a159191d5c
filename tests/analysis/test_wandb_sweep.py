"""A W&B agent calls run.py with overrides that Hydra reads as the grid that was meant."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from wandb import wandb_agent

import run  # noqa: F401  registers the schema and the resolvers
from vsrprune.cli import composed_config
from vsrprune.config.agreement import validate
from vsrprune.config.job import Config
from vsrprune.host.naming import run_name

ROOT = Path(__file__).parents[2]
SWEEP: dict[str, Any] = yaml.safe_load((ROOT / "analysis" / "wandb_sweep.yaml").read_text())
GRID = list(itertools.product(*(parameter["values"] for parameter in SWEEP["parameters"].values())))


@pytest.fixture
def _hydra() -> Iterator[None]:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield


def command_of_agent(values: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command that wandb's own agent starts for a job of the sweep; nothing is started."""
    started: list[list[str]] = []

    class Process:
        def __init__(self, command: list[str], **options: Any) -> None:
            started.append(command)

    monkeypatch.setattr(wandb_agent, "AgentProcess", Process)
    for name, value in {"WANDB_SWEEP_ID": "abc123", "WANDB_DIR": str(folder), "WANDB_RUN_ID": "none"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", "none")  # the agent sets it; pytest puts it back
    agent = wandb_agent.Agent(api=None, queue=None, sweep_id="abc123")
    agent._sweep_command = list(SWEEP["command"])
    arguments = {name: {"value": value} for name, value in values.items()}
    agent._command_run({"run_id": "run1", "program": SWEEP["program"], "args": arguments})
    (command,) = started
    return command


@pytest.mark.long
@pytest.mark.usefixtures("_hydra")
@pytest.mark.parametrize("chosen", GRID, ids=str)
def test_a_job_of_the_agent_is_the_job_that_was_meant(
    chosen: tuple[bool, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = dict(zip(SWEEP["parameters"], chosen, strict=True))
    command = command_of_agent(values, tmp_path, monkeypatch)
    assert command[:3] == ["/usr/bin/env", "python", "src/run.py"]
    assert (ROOT / command[2]).is_file()
    overrides = command[3:]
    assert not [item for item in overrides if item.startswith("-") or "$" in item]
    config = composed_config(compose("config", overrides), Config)
    validate(config)
    assert (config.rsc, config.ratio) == chosen
    assert (config.tracking.mode, config.tracking.group) == ("online", "abc123")


def test_the_grid_is_the_demo_of_six_jobs() -> None:
    assert len(GRID) == 6
    assert (True, 0.3) in GRID
    assert (False, 0.7) in GRID
    assert SWEEP["metric"]["name"] == "psnr/finetuned"


def test_jobs_of_agents_have_folders_of_their_own() -> None:
    names = {run_name(f"ratio={ratio},rsc={rsc}", "config") for rsc, ratio in GRID}
    assert len(names) == len(GRID)
