"""Real processes killed, stopped and failing: nothing is lost, and the end is the same as without the fault."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, RUN_PY, last_of_each, minimal_overrides, run_py
from forked import Script

from vsrprune.host.failures import FailureCard

STEPS = 30
LONGER = [
    f"schedule.pretrain.steps={STEPS}",
    f"schedule.sparsify.hold_steps={STEPS}",
    f"schedule.finetune.steps={STEPS}",
    "tracking=none",
]


def job_arguments(folder: Path) -> list[str]:
    return [*minimal_overrides(folder), *LONGER]


def start(*arguments: str) -> subprocess.Popen[str]:
    """A sweep in the background, in a process group of its own, from nothing; what it prints in one stream."""
    command = [sys.executable, str(RUN_PY), *last_of_each(arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def start_forked(*arguments: str) -> Script:
    """A job or a sweep in the background, in a process group of its own, that begins with torch imported."""
    return Script([RUN_PY, *last_of_each(arguments)], ROOT)


def until(condition: Callable[[], bool], process: subprocess.Popen[str] | Script) -> None:
    """Wait for the condition while the process runs."""
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def has_checkpoint(folder: Path, stage: str) -> bool:
    return any(folder.glob(f"store/unfinished/{stage}-*/*/step-*.sha256"))


def outcome(folder: Path) -> tuple[dict[str, object], dict[str, bytes]]:
    """result.json, and the bytes of the curves and of every network in the store."""
    (result,) = folder.glob("runs/**/result.json")
    files = {path.parent.name: path.read_bytes() for path in folder.glob("store/*/*/network.safetensors")}
    files["curves"] = (result.parent / "metrics.jsonl").read_bytes()
    return json.loads(result.read_text()), files


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, object], dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    done = run_py(*job_arguments(folder))
    assert done.returncode == 0, done.stderr
    return outcome(folder)


def finish(folder: Path) -> str:
    done = run_py(*job_arguments(folder))
    assert done.returncode == 0, done.stderr
    assert not any(folder.glob("store/unfinished/*/*"))
    return done.stdout


def test_sigterm_writes_a_checkpoint_and_the_job_goes_on_to_the_same_end(
    tmp_path: Path, undisturbed: tuple[dict[str, object], dict[str, bytes]]
) -> None:
    # Checkpoints come only at the end or when asked for: what is found was written because of the signal.
    job = start_forked(*job_arguments(tmp_path), "schedule.checkpoint_every=1000")
    until(
        lambda: any(path.stat().st_size for path in tmp_path.glob("store/unfinished/sparsify-*/*/metrics.jsonl")), job
    )
    job.send_signal(signal.SIGTERM)
    output, complaint = job.communicate(timeout=60)
    assert job.returncode == 143, complaint
    step = int(re.findall(r"asked to stop \(SIGTERM\) at step (\d+)", output + complaint)[0])
    assert any(tmp_path.glob(f"store/unfinished/sparsify-*/*/step-{step}.sha256"))
    assert not any(tmp_path.glob("runs/**/failure.json"))
    assert "pretrain   reused" in finish(tmp_path)
    assert outcome(tmp_path) == undisturbed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_group_that_is_asked_to_stop_with_its_loading_processes_leaves_a_checkpoint(
    tmp_path: Path, number: signal.Signals
) -> None:
    """As `timeout`, batch systems and Ctrl-C ask: what feeds the training does not die before it."""
    more = ("schedule.checkpoint_every=1000", "trainer.workers=2", "until=pretrain")
    job = start_forked(*job_arguments(tmp_path), *more)
    until(
        lambda: any(path.stat().st_size for path in tmp_path.glob("store/unfinished/pretrain-*/*/metrics.jsonl")), job
    )
    os.killpg(job.pid, number)
    output, complaint = job.communicate(timeout=60)
    assert job.returncode == 128 + number, complaint
    step = int(re.findall(rf"asked to stop \({number.name}\) at step (\d+)", output + complaint)[0])
    assert any(tmp_path.glob(f"store/unfinished/pretrain-*/*/step-{step}.sha256"))
    assert not any(tmp_path.glob("runs/**/failure.json"))


def test_kill_9_in_a_stage_ends_with_the_same_bits(
    tmp_path: Path, undisturbed: tuple[dict[str, object], dict[str, bytes]]
) -> None:
    job = start_forked(*job_arguments(tmp_path))
    until(lambda: has_checkpoint(tmp_path, "pretrain"), job)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    assert not any(tmp_path.glob("store/pretrain/*/manifest.json"))
    finish(tmp_path)
    assert outcome(tmp_path) == undisturbed


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_used(
    tmp_path: Path, undisturbed: tuple[dict[str, object], dict[str, bytes]]
) -> None:
    job = start_forked(*job_arguments(tmp_path))
    until(lambda: len(list(tmp_path.glob("store/unfinished/pretrain-*/*/step-*.sha256"))) >= 2, job)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    newest = max(
        tmp_path.glob("store/unfinished/pretrain-*/*/step-*.ckpt"),
        key=lambda path: int(path.stem.removeprefix("step-")),
    )
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    assert f"the checkpoint {newest.name} is damaged" in finish(tmp_path)
    assert outcome(tmp_path) == undisturbed


def test_one_bad_job_does_not_cost_the_others(tmp_path: Path) -> None:
    command = ["-m", "schedule.finetune.lr=1.0e+30,1.0e-3", *minimal_overrides(tmp_path), "tracking=none"]
    done = run_py(*command)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 jobs: 1 done, 0 reused, 1 failed" in done.stdout
    assert "failed: schedule.finetune.lr=1.0e+30 in finetune" in done.stderr
    (path,) = tmp_path.glob("runs/**/failure.json")
    card = FailureCard.load(path.parent)
    assert card is not None
    assert card.stage == "finetune"
    assert "the loss is not finite" in card.cause
    assert "Traceback" not in done.stderr
    script = path.with_name("retry.sh")
    assert f"retry it alone: bash {script}" in done.stderr
    assert json.loads(path.read_text())["retry"] == f"bash {script}"
    assert os.access(script, os.X_OK)
    path_first = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # an activated environment
    retry = subprocess.run(
        card.command, shell=True, cwd=ROOT, env={**os.environ, "PATH": path_first}, capture_output=True, check=False
    )
    assert retry.returncode == 2
    assert f"retry it alone, a knob on each line: bash {script}" in retry.stdout.decode()
    # The knob that the card names, changed in the one line that it has.
    mended = script.read_text().replace("    schedule.finetune.lr=1e+30 \\\n", "    schedule.finetune.lr=0.002 \\\n")
    assert mended != script.read_text()
    script.write_text(mended)
    retried = subprocess.run(["bash", script], cwd="/", capture_output=True, check=False, text=True)
    assert retried.returncode == 0, retried.stdout + retried.stderr
    assert (path.parent / "result.json").is_file()
    assert not script.exists()
    assert not path.exists()
    again = run_py(*command)
    assert again.returncode == 1
    assert "2 jobs: 0 done, 1 reused, 1 failed" in again.stdout


def test_a_job_killed_inside_a_sweep_leaves_a_card(tmp_path: Path) -> None:
    command = ["-m", "seed=0,1", *job_arguments(tmp_path)]
    sweep = start_forked(*command)
    until(lambda: has_checkpoint(tmp_path, "pretrain"), sweep)
    (lease,) = tmp_path.glob("store/leases/pretrain-*.json")
    os.kill(json.loads(lease.read_text())["pid"], signal.SIGKILL)
    output, complaint = sweep.communicate(timeout=300)
    assert sweep.returncode == 1, output + complaint
    assert "2 jobs: 1 done, 0 reused, 1 failed" in output
    assert "killed (SIGKILL), usually for want of memory" in complaint
    again = run_py(*command)
    assert again.returncode == 0, again.stderr
    assert "2 jobs: 1 done, 1 reused, 0 failed" in again.stdout


@pytest.mark.slow
def test_kill_9_at_twenty_random_moments(
    tmp_path: Path, undisturbed: tuple[dict[str, object], dict[str, bytes]]
) -> None:
    """Every time the process is killed at a random moment of its life, start-up, publishing and evaluation included."""
    draw = random.Random(0)
    kills = 0
    for _ in range(200):
        job = start_forked(*job_arguments(tmp_path))
        try:
            output, _ = job.communicate(timeout=draw.uniform(0.2, 4.0))
        except subprocess.TimeoutExpired:
            os.killpg(job.pid, signal.SIGKILL)
            job.wait()
            kills += 1
            continue
        assert job.returncode == 0, output
        if kills >= 20:
            break
        # Finished early: forget a random stage and go on killing.
        for path in tmp_path.glob(f"store/{draw.choice(['sparsify', 'prune', 'finetune', 'evaluate'])}/*"):
            subprocess.run(["rm", "-rf", str(path)], check=True)
    assert kills >= 20
    finish(tmp_path)
    assert outcome(tmp_path) == undisturbed
    assert not any(tmp_path.glob("store/damaged/*"))


def test_sigterm_ends_a_sweep_and_leaves_no_failure(tmp_path: Path) -> None:
    # It cannot be done with pretraining before it is asked: a job that does not train leaves without a word.
    command = ["-m", "seed=0,1", *job_arguments(tmp_path), "schedule.pretrain.steps=20000"]
    sweep = start(*command)
    until(lambda: has_checkpoint(tmp_path, "pretrain"), sweep)
    sweep.send_signal(signal.SIGTERM)  # to the parent alone, as a scheduler may do
    output, _ = sweep.communicate(timeout=60)
    assert sweep.returncode == 143, output
    assert "asked to stop (SIGTERM)" in output
    assert "job 2/2" not in output
    assert not any(tmp_path.glob("runs/**/failure.json"))
