"""Which device a job gets, and what is refused before any work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_cards import WITHOUT_CUDA, fake_cards, fake_smi, listing

from vsrprune.config.composing import with_knobs
from vsrprune.config.job import Config
from vsrprune.errors import UserError
from vsrprune.host.devices import VISIBLE, Card, Place, TorchBuild
from vsrprune.jobs.devices import on_this_machine, show_one_of_many, show_only
from vsrprune.jobs.planning import plan_job

TIMED = {"measure", "timing"}


def changed(**knobs: Any) -> Config:
    """A configuration with some values set; a dot in a name is written as two underscores."""
    return with_knobs(Config(), {name.replace("__", "."): value for name, value in knobs.items()})


def refusal(**knobs: Any) -> str:
    with pytest.raises(UserError) as caught:
        plan_job(changed(**knobs))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def keys(**knobs: Any) -> dict[str, str]:
    return {stage.name: stage.key for stage in plan_job(changed(round_to="auto", score="taylor", **knobs)).stages}


CPU_ASKED_FOR = {"trainer__accelerator": "cpu", "trainer__name": "cpu"}


def test_without_a_card_auto_is_the_cpu_in_every_key_and_knob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cards(tmp_path, monkeypatch, 0)
    assert keys() == keys(**CPU_ASKED_FOR)
    found, asked = plan_job(changed()), plan_job(changed(**CPU_ASKED_FOR))
    assert found.config.knobs() == asked.config.knobs()
    assert found.place == asked.place == Place()


def test_with_a_card_auto_trains_on_it_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cards(tmp_path, monkeypatch, 2)
    job = plan_job(changed())
    assert (job.config.trainer.accelerator, job.config.trainer.name) == ("gpu", "gpu")
    assert job.place == Place((Card("GPU-0", "NVIDIA L4"),), "trains on NVIDIA L4; trainer=cpu keeps it off")
    two = plan_job(changed(trainer__devices=2))
    assert two.place.uuids == ("GPU-0", "GPU-1")
    assert two.place.note == "trains on 2 x NVIDIA L4; trainer=cpu keeps it off"


def test_the_cpu_is_kept_where_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cards(tmp_path, monkeypatch, 2)
    job = plan_job(changed(**CPU_ASKED_FOR, trainer__devices=4))
    assert (job.config.trainer.accelerator, job.place) == ("cpu", Place())


def test_only_times_depend_on_the_device_and_they_on_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cards(tmp_path, monkeypatch, 1)
    on_cpu, on_card = keys(**CPU_ASKED_FOR), keys()
    # select reads the times, where counts are rounded by them; what comes after reads its plan.
    assert next(name for name in on_cpu if on_cpu[name] != on_card[name]) == "timing"
    assert keys(trainer__accelerator="gpu", trainer__name="gpu") == on_card
    monkeypatch.setenv(VISIBLE, "0")
    assert keys() == on_card
    fake_cards(tmp_path, monkeypatch, listing(1, "NVIDIA H100 80GB HBM3"))
    on_other = keys()
    assert {name for name in TIMED if on_other[name] == on_card[name]} == set()
    plain = {name: plan_job(changed(trainer__name=name)).stages for name in ("auto", "gpu")}
    assert [stage.key for stage in plain["auto"]] == [stage.key for stage in plain["gpu"]]


@pytest.mark.parametrize(
    ("visible", "seen"), [(None, "nvidia-smi lists none"), ("", "CUDA_VISIBLE_DEVICES='' shows none")]
)
def test_a_gpu_where_none_is_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, seen: str
) -> None:
    fake_cards(tmp_path, monkeypatch, 0 if visible is None else 4)
    if visible is not None:
        monkeypatch.setenv(VISIBLE, visible)
    said = refusal(trainer__accelerator="gpu")
    assert said == f"trainer.accelerator=gpu needs an NVIDIA GPU, and there is none ({seen}); use trainer=cpu"


@pytest.mark.parametrize("accelerator", ["gpu", "auto"])
def test_a_gpu_that_is_named_twice_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accelerator: str
) -> None:
    fake_cards(tmp_path, monkeypatch, 2)
    monkeypatch.setenv(VISIBLE, "1,GPU-1")
    said = "CUDA_VISIBLE_DEVICES='1,GPU-1' names GPU-1 twice, and CUDA then shows no GPU at all; name every GPU once"
    assert refusal(trainer__accelerator=accelerator) == said
    assert plan_job(changed(**CPU_ASKED_FOR)).place == Place()


@pytest.mark.parametrize("visible", ["", "-1", "GPU-gone"])
def test_cards_that_the_environment_hides_are_said_to_stay_idle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str
) -> None:
    fake_cards(tmp_path, monkeypatch, 2)
    monkeypatch.setenv(VISIBLE, visible)
    said = f"2 x NVIDIA L4 stays idle: CUDA_VISIBLE_DEVICES={visible!r} shows none; trainer=cpu hides this line"
    assert plan_job(changed()).place == Place(note=said)


def test_a_uuid_of_a_card_that_is_gone_is_the_cpu_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("vsrprune.host.devices.DEVICES", tmp_path)
    monkeypatch.setenv(VISIBLE, "GPU-gone")
    why = "CUDA_VISIBLE_DEVICES='GPU-gone' shows none; nvidia-smi is not installed"
    job = plan_job(changed())
    assert job.place == Place(note=f"trains on the CPU: {why}; trainer=cpu hides this line")
    assert job.config.trainer.accelerator == "cpu"
    said = f"trainer.accelerator=gpu needs an NVIDIA GPU, and there is none ({why}); use trainer=cpu"
    assert refusal(trainer__accelerator="gpu") == said


@pytest.mark.parametrize("accelerator", ["gpu", "auto"])
def test_more_devices_than_there_are_gpus_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accelerator: str
) -> None:
    fake_cards(tmp_path, monkeypatch, 2)
    said = refusal(trainer__accelerator=accelerator, trainer__devices=4)
    assert said == "trainer.devices=4 is more than there are GPUs (2: 2 x NVIDIA L4); use at most 2"


def test_missing_gpus_are_said_before_the_batch_that_they_would_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"trainer__accelerator": "gpu", "trainer__devices": 3, "schedule__batch": 4}
    fake_cards(tmp_path, monkeypatch, 0)
    assert "there is none" in refusal(**asked)
    fake_cards(tmp_path, monkeypatch, 3)
    said = "schedule.batch=4 cannot be split over trainer.devices=3; it must be a multiple of it"
    assert refusal(**asked) == said


def test_two_parts_of_a_divided_gpu_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = "\n".join(f"  MIG 1g.10gb     Device  {number}: (UUID: MIG-{number})" for number in (0, 1))
    fake_cards(tmp_path, monkeypatch, f"GPU 0: NVIDIA H100 (UUID: GPU-0)\n{parts}")
    assert plan_job(changed()).place.device == "NVIDIA H100 MIG 1g.10gb"
    said = "trainer.devices=2: a job can use one part of a divided GPU (MIG); use 1"
    assert refusal(trainer__devices=2) == said


def test_a_pytorch_without_cuda_is_refused_where_a_gpu_is_asked_for_and_said_where_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_cards(tmp_path, monkeypatch, 2, WITHOUT_CUDA)
    assert refusal(trainer__accelerator="gpu") == (
        "trainer.accelerator=gpu: PyTorch 2.11.0+cpu is built without CUDA; install a build with it (docs/gpu.md), or"
        " use trainer=cpu"
    )
    job = plan_job(changed())
    assert (job.config.trainer.accelerator, job.place.cards) == ("cpu", ())
    assert job.place.note == (
        "2 x NVIDIA L4 stays idle: PyTorch 2.11.0+cpu is built without CUDA; docs/gpu.md says which build to install,"
        " trainer=cpu hides this line"
    )
    assert plan_job(changed(**CPU_ASKED_FOR)).place.note == ""


def test_how_pytorch_is_built_is_not_asked_without_a_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cards(tmp_path, monkeypatch, 0)

    def asked() -> TorchBuild:
        raise AssertionError

    monkeypatch.setattr("vsrprune.jobs.devices.torch_build", asked)
    assert plan_job(changed()).place == Place()


def test_jobs_of_other_machines_are_not_refused_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cards(tmp_path, monkeypatch, 0)
    knobs = {"launcher__name": "slurm", "launcher__options": {"cores": 4, "memory": "16GB"}}
    config, place = on_this_machine(changed(trainer__accelerator="gpu", trainer__devices=4, **knobs))
    assert (config.trainer.accelerator, place) == ("gpu", Place())


def test_a_job_sees_only_its_own_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cards(tmp_path, monkeypatch, 3)
    monkeypatch.setenv(VISIBLE, "2,1")
    show_only(plan_job(changed()).place)
    assert os.environ[VISIBLE] == "GPU-2"
    show_only(plan_job(changed()).place)  # it is the only one now
    assert os.environ[VISIBLE] == "GPU-2"
    show_only(Place())
    assert os.environ[VISIBLE] == "GPU-2"


@pytest.mark.parametrize("visible", [None, "0,1", "GPU-0,GPU-1"])
def test_a_job_gets_the_uuids_of_its_cards_also_where_all_are_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None
) -> None:
    """CUDA's number 0 is the fastest card, which need not be the one that the header names."""
    fake_cards(tmp_path, monkeypatch, 2)
    if visible is not None:
        monkeypatch.setenv(VISIBLE, visible)
    show_only(plan_job(changed(trainer__devices=2)).place)
    assert os.environ[VISIBLE] == "GPU-0,GPU-1"


@pytest.mark.parametrize(("number", "uuid"), [(0, "GPU-2"), (1, "GPU-0"), (2, "GPU-2"), (5, "GPU-0")])
def test_the_workers_of_a_search_take_the_cards_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, uuid: str
) -> None:
    fake_cards(tmp_path, monkeypatch, 3)
    monkeypatch.setenv(VISIBLE, "2,0")
    show_one_of_many(number)
    assert os.environ[VISIBLE] == uuid
    assert plan_job(changed()).place.uuids == (uuid,)


def test_a_worker_of_a_search_needs_no_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cards(tmp_path, monkeypatch, 0)
    show_one_of_many(3)
    assert VISIBLE not in os.environ


@pytest.mark.parametrize("knobs", [["trainer=gpu"], ["trainer=ddp"]], ids=str)
def test_a_sweep_that_asks_for_missing_gpus_ends_before_its_first_job_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, knobs: list[str]
) -> None:
    fake_smi(tmp_path, monkeypatch, "echo No devices were found; exit 6")
    places = [f"store_dir={tmp_path / 'store'}", f"runs_dir={tmp_path / 'runs'}"]
    command = [sys.executable, str(Path(__file__).parents[3] / "src" / "run.py"), "-m", "seed=0,1", *knobs, *places]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: trainer.accelerator=gpu needs an NVIDIA GPU, and there is none")
    assert "no job was started" in done.stderr
    assert not list((tmp_path / "runs").glob("**/state.json"))
