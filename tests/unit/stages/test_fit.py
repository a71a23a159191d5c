"""A stage's training: stopped at any step, or divided among processes, it ends where it would have ended."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from clips_made import DEMO

from vsrprune.data.sampling import Batch
from vsrprune.errors import LostRankError, PreemptedError, TrainingDivergedError, UserError
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.basicvsr.spec import BasicVSRArguments
from vsrprune.stages.pretrain.module import Pretrain, TrainedFlow
from vsrprune.stages.training.fit import Sampling, Session, check_shared_memory, fit
from vsrprune.stages.training.hardware import Arithmetic, Hardware

STEPS = 5
ARGUMENTS = BasicVSRArguments(
    channels=4, blocks=1, upsampler_channels=4, bidirectional=True, upscale_factors=(2, 2), slope=0.1, flow_levels=2,
    flow_kernel=3, flow_widths=(4,),
)  # fmt: skip
CLIPS = DEMO.train


def train(
    workdir: Path,
    *,
    devices: int = 1,
    workers: int = 0,
    lr: float = 1e-3,
    log_every: int = 1,
    on_row: Any = lambda row: None,
    flow: TrainedFlow | None = None,
) -> Any:
    """Rows and weights at the end of a short training."""
    torch.manual_seed(0)
    module = Pretrain(BasicVSR(ARGUMENTS), STEPS, lr, "onecycle", flow)
    workdir.mkdir(exist_ok=True)
    rows = fit(
        module,
        CLIPS,
        Sampling(batch=2, patch=8, frames=3, seed=0),
        Session(
            workdir, log_every, checkpoint_every=2, hardware=Hardware(count=devices, workers=workers), on_row=on_row
        ),
    )
    return rows, {name: value.clone() for name, value in module.network.state_dict().items()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return train(tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("step", range(STEPS))
def test_a_signal_during_any_step_stops_after_it_and_the_end_is_the_same(
    tmp_path: Path, undisturbed: Any, step: int, number: signal.Signals
) -> None:
    def ask(row: dict[str, Any]) -> None:
        if row["step"] == step:
            os.kill(os.getpid(), number)

    with pytest.raises(PreemptedError, match=rf"\({number.name}\) at step {step + 1} of {STEPS}") as stopped:
        train(tmp_path, on_row=ask)
    assert stopped.value.exit_code == 128 + number
    assert (tmp_path / f"step-{step + 1}.sha256").is_file()
    rows, weights = train(tmp_path)
    assert rows == undisturbed[0]
    assert all(torch.equal(value, undisturbed[1][name]) for name, value in weights.items())


def test_a_broken_training_goes_on_from_nothing_that_has_no_checksum(tmp_path: Path, undisturbed: Any) -> None:
    """The file of its rows is a copy of those in the checkpoint; a checksum that is no text is one that fails."""

    def ask(row: dict[str, Any]) -> None:
        if row["step"] == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(PreemptedError):
        train(tmp_path, on_row=ask)
    rows = tmp_path / "metrics.jsonl"
    rows.write_text(rows.read_text().replace('"step": 0', '"step": 1'))
    (tmp_path / "step-3.sha256").write_bytes(b"\xff" * 64)
    again, weights = train(tmp_path)
    assert (tmp_path / "step-3.damaged").is_file()
    assert again == undisturbed[0]
    assert all(torch.equal(value, undisturbed[1][name]) for name, value in weights.items())


def test_rows_are_written_once_at_the_steps_that_are_logged(tmp_path: Path) -> None:
    seen: list[int] = []
    rows, _ = train(tmp_path, log_every=2, on_row=lambda row: seen.append(row["step"]))
    assert [row["step"] for row in rows] == seen == [1, 3]


def test_handlers_of_signals_are_put_back(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    train(tmp_path)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_where_reading_waits_the_end_is_the_same_with_and_without_a_break(
    tmp_path: Path, undisturbed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adam is the fused one there."""
    monkeypatch.setattr("vsrprune.stages.training.module.steps_between_reads", lambda device: 10)

    def ask(row: dict[str, Any]) -> None:
        if row["step"] == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    whole = train(tmp_path / "whole")
    with pytest.raises(PreemptedError):
        train(tmp_path / "broken", on_row=ask)
    rows, weights = train(tmp_path / "broken")
    assert rows == whole[0]
    for name, value in weights.items():
        assert torch.equal(value, whole[1][name])
        torch.testing.assert_close(value, undisturbed[1][name], rtol=1e-4, atol=1e-6)
    frozen = train(tmp_path / "frozen", flow=TrainedFlow(STEPS, 1.0))[1]
    torch.manual_seed(0)
    start = BasicVSR(ARGUMENTS).state_dict()
    assert all(torch.equal(value, start[name]) for name, value in flow_weights(frozen).items())
    assert not torch.equal(frozen["fusion.weight"], start["fusion.weight"])


@pytest.mark.long
@pytest.mark.parametrize("workers", [0, 1])
def test_two_processes_train_as_one(
    workers: int, tmp_path: Path, undisturbed: Any, request: pytest.FixtureRequest
) -> None:
    if workers:  # else the other process starts from nothing, as on any machine
        request.getfixturevalue("quick_ranks")
    threads = torch.get_num_threads()
    environment = dict(os.environ)
    rows, weights = train(tmp_path, devices=2, workers=workers)
    for name, value in weights.items():
        torch.testing.assert_close(value, undisturbed[1][name], rtol=1e-4, atol=1e-6)
    assert [row["step"] for row in rows] == list(range(STEPS))
    for row, expected in zip(rows, undisturbed[0], strict=True):
        assert row == pytest.approx(expected, abs=1e-6)
    assert torch.get_num_threads() == threads
    assert dict(os.environ) == environment
    assert not torch.distributed.is_initialized()


@pytest.mark.usefixtures("quick_ranks")
def test_two_processes_stop_together_and_go_on(tmp_path: Path, undisturbed: Any) -> None:
    def ask(row: dict[str, Any]) -> None:
        if row["step"] == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(PreemptedError, match="at step 3"):
        train(tmp_path, devices=2, on_row=ask)
    rows, weights = train(tmp_path, devices=2)
    assert [row["step"] for row in rows] == list(range(STEPS))
    for name, value in weights.items():
        torch.testing.assert_close(value, undisturbed[1][name], rtol=1e-4, atol=1e-6)


def flow_weights(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in weights.items() if name.startswith("flow_net.")}


def test_a_trained_flow_net_stands_still_and_then_goes_slowly(tmp_path: Path, undisturbed: Any) -> None:
    torch.manual_seed(0)
    start = BasicVSR(ARGUMENTS).state_dict()

    def moved(name: str, flow: TrainedFlow) -> float:
        weights = train(tmp_path / name, flow=flow)[1]
        assert not torch.equal(weights["fusion.weight"], start["fusion.weight"])
        return max(float((value - start[name]).abs().max()) for name, value in flow_weights(weights).items())

    assert moved("frozen", TrainedFlow(STEPS, 1.0)) == 0.0
    slow, fast = moved("slow", TrainedFlow(0, 0.1)), moved("fast", TrainedFlow(0, 1.0))
    assert 0 < slow < 0.2 * fast
    assert 0 < moved("late", TrainedFlow(STEPS - 1, 1.0)) < fast
    whole = train(tmp_path / "whole", flow=TrainedFlow(0, 1.0))[1]
    assert all(torch.equal(value, undisturbed[1][name]) for name, value in whole.items())


@pytest.mark.usefixtures("quick_ranks")
def test_the_flow_net_is_frozen_over_a_break_and_among_processes(tmp_path: Path) -> None:
    flow = TrainedFlow(3, 0.5)
    whole = train(tmp_path / "whole", flow=flow)[1]

    def ask(row: dict[str, Any]) -> None:
        if row["step"] == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(PreemptedError):
        train(tmp_path / "broken", flow=flow, on_row=ask)
    broken, two = train(tmp_path / "broken", flow=flow)[1], train(tmp_path / "two", flow=flow, devices=2)[1]
    for name, value in whole.items():
        assert torch.equal(broken[name], value)
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("quick_ranks")
def test_all_processes_leave_when_the_loss_diverges(tmp_path: Path) -> None:
    with pytest.raises(TrainingDivergedError, match="not finite"):
        train(tmp_path, devices=2, lr=1e38)
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(("asked", "last"), [("auto", True), ("channels_last", True), ("contiguous", False)])
def test_a_training_computes_as_its_hardware_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, last: bool
) -> None:
    open_now: list[Hardware] = []
    seen: list[tuple[Hardware, ...]] = []

    @contextlib.contextmanager
    def opened(hardware: Hardware) -> Iterator[None]:
        open_now.append(hardware)
        yield
        open_now.remove(hardware)

    monkeypatch.setattr("vsrprune.stages.training.fit.computing", opened)
    hardware = Hardware(arithmetic=Arithmetic(memory_format=asked))
    module = Pretrain(BasicVSR(ARGUMENTS), 2, 1e-3, "constant")
    session = Session(tmp_path, 1, 10, hardware, between_steps=lambda: seen.append(tuple(open_now)))
    fit(module, CLIPS, Sampling(batch=1, patch=8, frames=2, seed=0), session)
    assert seen == [(hardware,), (hardware,)]
    assert open_now == []
    weight = module.network.get_parameter("conv_last.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


class Failing(Pretrain):
    """A loss that is NaN at step 3."""

    def losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        bad = float("nan") if self.global_step == 3 else 1.0
        return {name: value * bad for name, value in super().losses(batch).items()}


def fail(workdir: Path, steps: int, **session: Any) -> list[int]:
    """The steps of the checkpoints that a training left whose loss is NaN at step 3; its weights stay finite."""
    torch.manual_seed(0)
    network = BasicVSR(ARGUMENTS)
    with pytest.raises(TrainingDivergedError, match=r"not finite at step 3 \(reconstruction=nan\)"):
        fit(
            Failing(network, steps, 1e-3, "constant"),
            CLIPS,
            Sampling(batch=1, patch=8, frames=2, seed=0),
            Session(workdir, **session),
        )
    assert all(bool(parameter.isfinite().all()) for parameter in network.parameters())
    return sorted(int(path.stem.removeprefix("step-")) for path in workdir.glob("*.ckpt"))


@pytest.mark.parametrize(
    ("steps", "session", "ran"),
    [
        (30, {"log_every": 100, "checkpoint_every": 2}, 4),  # the checkpoint before step 4 looks
        (30, {"log_every": 6, "checkpoint_every": 100}, 5),  # the row of step 5 looks
        (30, {"log_every": 100, "checkpoint_every": 100}, 9),  # every tenth step looks
        (7, {"log_every": 100, "checkpoint_every": 100}, 7),  # the end looks
    ],
)
def test_where_reading_waits_a_loss_is_refused_later_and_named_rightly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int, session: dict[str, int], ran: int
) -> None:
    monkeypatch.setattr("vsrprune.stages.training.module.steps_between_reads", lambda device: 10)
    counted: list[None] = []
    left = fail(tmp_path, steps, between_steps=lambda: counted.append(None), **session)
    assert len(counted) == ran
    assert left == ([2] if session["checkpoint_every"] == 2 else [])


def test_on_a_cpu_a_loss_is_refused_at_its_step(tmp_path: Path) -> None:
    counted: list[None] = []
    session = {"log_every": 100, "checkpoint_every": 2}
    assert fail(tmp_path, 30, between_steps=lambda: counted.append(None), **session) == [2]
    assert len(counted) == 3


def test_batches_that_do_not_fit_into_shared_memory_are_refused() -> None:
    # 8 clips of 15 frames, 64 x 64 and 256 x 256: the published batch.
    batch_bytes = Sampling(batch=8, patch=64, frames=15, seed=0).batch_bytes(scale=4)
    assert batch_bytes == 8 * 15 * 3 * (64 * 64 + 256 * 256)
    assert Sampling(batch=8, patch=64, frames=15, seed=0, mirror=True).batch_bytes(scale=4) == 2 * batch_bytes
    assert Sampling(batch=8, patch=64, frames=15, seed=0).batch_bytes(scale=1) == 8 * 15 * 3 * 2 * 64 * 64
    check_shared_memory(batch_bytes, workers=4, free=8 * batch_bytes)
    with pytest.raises(
        UserError,
        match=r"trainer.workers=4 keep 191 MiB of batches in /dev/shm, which has 64 MiB free; use trainer.workers=1",
    ):
        check_shared_memory(batch_bytes, workers=4, free=64 * 2**20)


def test_shared_memory_is_asked_before_a_training_with_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=100))
    with pytest.raises(UserError, match=r"use trainer.workers=0"):
        train(tmp_path / "with", workers=1)
    train(tmp_path / "without")


@pytest.mark.usefixtures("quick_ranks")
def test_a_killed_process_is_named(tmp_path: Path) -> None:
    def kill_the_other(row: dict[str, Any]) -> None:
        if row["step"] == 1:
            (rank,) = multiprocessing.active_children()
            assert rank.pid is not None
            os.kill(rank.pid, signal.SIGKILL)

    with pytest.raises(LostRankError, match="process 1 of 2 of this job's training died of SIGKILL"):
        train(tmp_path, devices=2, on_row=kill_the_other)
