"""A score of one's own: documented, tried before training, known by its content; mistakes are one line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, minimal_config

from vsrprune.errors import UserError
from vsrprune.jobs.planning import plan_job
from vsrprune.jobs.runner import run_job
from vsrprune.stages.job import Job

ONES = "return {group.name: [1.0 + unit for unit in range(group.size)] for group in layout.groups}"

Planned = Callable[..., Job]


def silent(text: str) -> None:
    pass


@pytest.fixture
def planned(tmp_path: Path) -> Planned:
    """A job with a score of these lines of a function, in a file of its own."""

    def plan(*lines: str, name: str = "my_score", asked: str = "importance", **changes: Any) -> Job:
        body = "\n    ".join(lines)
        file = tmp_path / f"{name}.py"
        file.write_text(f"import torch\n\n\ndef importance(network, layout, batches):\n    {body}\n")
        return plan_job(minimal_config(tmp_path, score=f"{file}:{asked}", **{"until": "select", **changes}))

    return plan


def key(job: Job, stage: str = "score") -> str:
    return job.stage(stage).key


def test_the_documented_score_runs_as_it_stands_there(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "scores.md").read_text()
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "def " in block]
    (tmp_path / "my_score.py").write_text(code)
    name = re.search(r"def (\w+)", code).group(1)
    job = plan_job(minimal_config(tmp_path, score=f"{tmp_path / 'my_score.py'}:{name}", score_batches=2, tf_weight=0.0))
    result = run_job(job, tmp_path / "runs" / "own", silent)
    assert result is not None
    assert result.units_cut > 0
    assert all(np.isfinite(values).all() and max(values) > 0 for values in result.scores.values())


def test_its_numbers_rank(planned: Planned, tmp_path: Path) -> None:
    job = planned(ONES, until="evaluate", scope="local")
    result = run_job(job, tmp_path / "runs" / "own", silent)
    assert result is not None
    for group in job.layout.groups:
        assert result.scores[group.name] == [1.0 + unit for unit in range(group.size)]
        assert result.plan.kept[group.name] == tuple(range(group.size // 2, group.size))


def test_its_content_counts_and_not_its_place(planned: Planned) -> None:
    job = planned(ONES)
    assert key(job) == key(planned(ONES, name="elsewhere"))
    assert key(job) != key(planned(ONES, "# another"))
    assert key(job, "pretrain") == key(planned(ONES, "# another"), "pretrain")


def test_without_batches_training_data_do_not_count(planned: Planned) -> None:
    assert key(planned(ONES)) != key(planned(ONES, seed=1))
    assert key(planned(ONES)) != key(planned(ONES, score_batches=4))
    alone = planned("assert batches is None", ONES, score_batches=0)
    assert key(alone) == key(planned("assert batches is None", ONES, score_batches=0, seed=1))
    assert "facts.train" not in alone.stage("score").settings


def refusal(job: Job, folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        run_job(job, folder, silent)
    assert "\n" not in str(caught.value)
    return str(caught.value)


EARLY = [
    ("return 1.0", "it must return a dict of the scores of every group; got float"),
    ("return {}", "what it returns lacks 'backward_trunk.blocks.0.conv1.input'"),
    ("return {group.name: [1.0] for group in layout.groups}", "must be 4 numbers, one for each unit; got shape (1,)"),
    ("return {group.name: 'x' for group in layout.groups}", "must be 4 numbers"),
    ("return {group.name: [1j] * group.size for group in layout.groups}", "must be 4 numbers; got list"),
    ("return 1 / 0", "my_score.py, line 5: ZeroDivisionError: division by zero"),
    ("raise SystemExit", "my_score.py, line 5: SystemExit"),
]


@pytest.mark.parametrize(("line", "message"), EARLY)
def test_what_it_returns_is_looked_at_before_anything_is_trained(
    line: str, message: str, planned: Planned, tmp_path: Path
) -> None:
    job = planned(line)
    text = refusal(job, tmp_path / "runs")
    assert text.startswith(f"score={job.config.score}")
    assert message in text
    assert not (tmp_path / "store" / "pretrain").exists()


@pytest.mark.parametrize(
    ("value", "message"), [("float('nan')", "must be finite; got nan"), ("-2.0", "must not be negative; got -2")]
)
def test_its_numbers_are_looked_at(value: str, message: str, planned: Planned, tmp_path: Path) -> None:
    job = planned(f"return {{group.name: torch.full((group.size,), {value}) for group in layout.groups}}")
    assert message in refusal(job, tmp_path / "runs")


def test_a_file_or_function_that_is_not_there_is_refused_when_the_job_is_planned(
    planned: Planned, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"my_score\.py:importanse: there is no importanse in it; there are importance"):
        planned(ONES, asked="importanse")
    with pytest.raises(UserError, match=r"nowhere\.py:f: .*there is no such file"):
        plan_job(minimal_config(tmp_path, score=f"{tmp_path}/nowhere.py:f"))
    with pytest.raises(UserError, match=r"my_score\.py, line 5: this is no Python"):
        planned("return (", "")


def test_a_file_that_changed_since_the_job_was_planned_is_refused(planned: Planned, tmp_path: Path) -> None:
    job = planned(ONES)
    planned(ONES, "# another")
    assert "the file changed since the job was planned; run the command again" in refusal(job, tmp_path / "runs")
