"""The mirror to Weights & Biases never costs a job."""

from __future__ import annotations

from typing import Any

import pytest

from vsrprune.tracking import WandbTracker


class BrokenRun:
    """A wandb run whose `log` fails."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def define_metric(self, *args: Any, **kwargs: Any) -> None:
        self.calls.append("define_metric")

    def log(self, values: Any) -> None:
        self.calls.append("log")
        raise ConnectionError("the service process is gone\nand more")

    def finish(self, exit_code: int) -> None:
        self.calls.append("finish")


def test_a_broken_run_is_said_once_and_left_alone() -> None:
    run, said = BrokenRun(), []
    tracker = WandbTracker(run, said.append)
    for step in range(3):
        tracker.row({"stage": "pretrain", "step": step, "loss": 1.0})
    tracker.close(failed=False)
    assert said == ["tracking: wandb stopped working (the service process is gone); going on without it"]
    assert run.calls.count("log") == 1
    assert "finish" not in run.calls


@pytest.mark.parametrize("failed", [True, False])
def test_the_exit_code_is_handed_on(failed: bool) -> None:
    codes: list[int] = []

    class Run:
        def finish(self, exit_code: int) -> None:
            codes.append(exit_code)

    WandbTracker(Run(), pytest.fail).close(failed)
    assert codes == [int(failed)]
