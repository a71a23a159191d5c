"""What a job asks of its card while its stages run, with a card that is only told about."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_cards import fake_cards

from vsrprune.config.job import Config
from vsrprune.errors import UserError
from vsrprune.host.machine import is_measuring
from vsrprune.jobs.planning import plan_job
from vsrprune.stages import bench
from vsrprune.stages import run as stages_run
from vsrprune.stages.bench import Shared, finish
from vsrprune.stages.measure import work as measure_work

CUDA, CPU = torch.device("cuda"), torch.device("cpu")


class Silent:
    """A witness that is told everything and tells nobody."""

    def begun(self, stage: str, steps: int = 0) -> None: ...

    def row(self, stage: str, row: dict[str, Any]) -> None: ...


def on_card(folder: Path, monkeypatch: pytest.MonkeyPatch, say: list[str], busy: int | None) -> Shared:
    """A job on a card that others keep busy for so many percent of the time."""
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    fake_cards(folder, monkeypatch, 2)
    answers = iter([busy])  # for one question, not two
    monkeypatch.setattr(bench, "QUIET_SECONDS", 0)
    monkeypatch.setattr(bench, "busy_percent", lambda card: next(answers))
    return Shared(plan_job(Config()), Silent(), say.append)


@pytest.mark.parametrize(("busy", "said"), [(63, True), (5, True), (4, False), (0, False), (None, False)])
def test_others_on_the_card_are_said_once_in_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, busy: int | None, said: bool
) -> None:
    lines: list[str] = []
    shared = on_card(tmp_path, monkeypatch, lines, busy)
    for _ in range(2):  # the card is asked once too
        with stages_run._alone(shared):
            assert is_measuring("GPU-0")
            assert not is_measuring("GPU-1")
            assert not is_measuring()
    warning = f"warning: others keep NVIDIA L4 busy ({busy} %): times will be too long"
    assert lines == ([warning] if said else [])


def test_on_the_cpu_no_card_is_asked_and_the_whole_machine_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(bench, "busy_percent", lambda card: pytest.fail("there is no card"))
    with stages_run._alone(Shared(plan_job(Config()), Silent(), pytest.fail)):
        assert is_measuring()


def test_only_a_card_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    finish(CPU)
    assert waited == []
    finish(CUDA)
    assert waited == [CUDA]


def test_training_waits_for_its_card_before_it_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = on_card(tmp_path, monkeypatch, [], 0)
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    with stages_run._beside_others(shared) as give_way:
        give_way()
        assert waited == []  # nobody measures
        give_way.__self__._finish()  # type: ignore[attr-defined]
    assert waited == [CUDA]


def fails(error: Exception) -> Any:
    def init() -> None:
        raise error

    return init


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("The NVIDIA driver on your system is too old (found version 11040).\nPlease update"), "too old"),
        (AssertionError("Torch not compiled with CUDA enabled"), "not compiled with CUDA"),
    ],
    ids=str,
)
def test_a_card_that_pytorch_cannot_use_is_one_line_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    monkeypatch.setattr(torch.cuda, "init", fails(error))
    with pytest.raises(UserError, match=said) as caught:
        stages_run.check_cuda(CUDA, 1)
    assert str(caught.value).startswith("trainer.accelerator=gpu: ")
    assert str(caught.value).endswith("; or use trainer=cpu")
    assert "\n" not in str(caught.value)
    stages_run.check_cuda(CPU, 1)  # is not asked


def test_fewer_cards_than_planning_counted_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    stages_run.check_cuda(CUDA, 1)
    with pytest.raises(UserError, match=r"^trainer\.devices=2 is more GPUs than PyTorch finds on this machine, 1$"):
        stages_run.check_cuda(CUDA, 2)


def test_a_measurement_on_a_card_records_what_drives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_work, "driver_version", lambda: "580.65.06")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    assert measure_work._cuda_versions(CUDA) == {"cuda": "13.0", "cudnn": "91002", "driver": "580.65.06"}
    assert measure_work._cuda_versions(CPU) == {}
