from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from benchmarks.card import jobs
from benchmarks.card.page import markdown
from benchmarks.card.runner import RESULTS, Bar, Check, Section, missed, run_sections
from vsrprune.cli import preset
from vsrprune.networks.basicvsr.spec import BasicVSRArguments, basicvsr_layout


def check_in(folder: Path, seconds: float = 100.0, **known: Any) -> Check:
    return Check("cpu", folder, folder, seconds, results=dict(known))


def test_a_section_that_fails_is_recorded_and_the_next_one_runs(tmp_path: Path) -> None:
    def fails(check: Check, found: dict[str, Any]) -> None:
        found["so far"] = 1
        raise ValueError("no such kernel")

    def answers(check: Check, found: dict[str, Any]) -> None:
        found["bars"] = {"speed": Bar(1.5, at_least=2.0).as_json(), "apart": Bar(0.01, at_most=0.02).as_json()}

    check = check_in(tmp_path)
    run_sections(check, {"a": Section("?", 0, fails), "b": Section("?", 0, answers)}, ["a", "b"])
    written = json.loads((tmp_path / RESULTS).read_text())
    assert written["a"]["so far"] == 1
    assert "no such kernel" in written["a"]["error"]
    assert missed(written) == ["a (error)", "b: speed"]


def test_only_what_is_not_yet_known_is_run_again(tmp_path: Path) -> None:
    ran: list[str] = []

    def section(name: str) -> Section:
        return Section("?", 0, lambda check, found: ran.append(name))

    known: dict[str, Any] = {
        "sound": {"ms": 1.0, "seconds": 3.0},
        "failed": {"error": "x", "seconds": 3.0},
        "late": {"skipped": "3 s left"},
        "cut": {"ms": 1.0},
    }
    run_sections(check_in(tmp_path, **known), {name: section(name) for name in (*known, "new")}, [*known, "new"])
    assert ran == ["failed", "late", "cut", "new"]


def test_a_section_for_which_too_little_time_is_left_says_so(tmp_path: Path) -> None:
    check = check_in(tmp_path, seconds=5.0)
    run_sections(check, {"long": Section("?", 60, lambda check, found: found.update(ran=True))}, ["long"])
    assert check.results["long"]["skipped"].endswith("60 wanted")
    assert missed(check.results) == ["long (not run)"]


def test_a_section_that_is_interrupted_is_not_taken_for_answered(tmp_path: Path) -> None:
    def interrupted(check: Check, found: dict[str, Any]) -> None:
        found["ms"] = 1.0
        check.save()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_sections(check_in(tmp_path), {"a": Section("?", 0, interrupted)}, ["a"])
    written = json.loads((tmp_path / RESULTS).read_text())
    assert written["a"] == {"ms": 1.0}
    assert missed(written) == ["a (not run)"]


def test_a_section_starts_with_an_empty_folder_and_leaves_those_of_others(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def answer(check: Check, found: dict[str, Any]) -> None:
        seen.append([file.name for file in check.own.iterdir()])
        (check.own / "left").touch()

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "old").touch()
    run_sections(check_in(tmp_path), {"a": Section("?", 0, answer)}, ["a"])
    assert seen == [[]]
    assert sorted(file.name for file in tmp_path.glob("[ab]/*")) == ["left", "old"]


def test_a_command_that_must_succeed_and_fails_makes_its_section_an_error(tmp_path: Path) -> None:
    def answer(check: Check, found: dict[str, Any]) -> None:
        found["first"] = check.command("-c", "pass").sound()
        found["second"] = check.command("-c", "print('no such knob'); raise SystemExit(3)").sound()

    check = check_in(tmp_path)
    run_sections(check, {"a": Section("?", 0, answer)}, ["a"])
    assert check.results["a"]["first"]["code"] == 0
    assert "ended with 3" in check.results["a"]["error"]
    assert "no such knob" in check.results["a"]["error"]
    assert missed(check.results) == ["a (error)"]


def test_an_interrupt_kills_the_command_and_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        "import subprocess, sys, pathlib\n"
        "inner = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(inner.pid))\n"
        "inner.wait()"
    )

    def interrupted(self: subprocess.Popen[str], *args: Any, **more: Any) -> None:
        while not (tmp_path / "pid").is_file() or not (tmp_path / "pid").read_text():
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "communicate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        check_in(tmp_path).command("-c", script)
    status = Path("/proc") / (tmp_path / "pid").read_text() / "status"
    gone_by = time.monotonic() + 30
    while status.exists() and "zombie" not in status.read_text() and time.monotonic() < gone_by:
        time.sleep(0.01)
    assert not status.exists() or "zombie" in status.read_text()


def test_checkpoints_and_weights_of_the_flow_stage_are_not_those_of_pretraining(tmp_path: Path) -> None:
    for stage, step in (("flow", 90), ("pretrain", 20)):
        folder = tmp_path / "store" / "unfinished" / f"{stage}-1" / "token"
        folder.mkdir(parents=True)
        (folder / f"step-{step}.ckpt").touch()
    assert jobs._reached(tmp_path) == 20
    for stage, value in (("flow", 1.0), ("pretrain", 2.0)):
        folder = tmp_path / "store" / stage / "1"
        folder.mkdir(parents=True)
        save_file({"weight": torch.full((3,), value)}, folder / "network.safetensors")
    assert jobs._weights(tmp_path).tolist() == [2.0, 2.0, 2.0]


def test_a_command_that_takes_too_long_is_stopped_and_its_output_kept(tmp_path: Path) -> None:
    ran = check_in(tmp_path).command("-u", "-c", "import time; print('begun'); time.sleep(60)", limit=10.0)
    assert ran.code != 0
    assert ran.said.startswith("begun")
    assert "stopped after 10 s" in ran.said


def test_the_page_has_a_row_for_every_finding() -> None:
    page = markdown({"latency": {"rows": {"dense": {"ms": 2.0}, "half": {"ms": 1.25}}, "card": "a|b"}})
    assert "| rows: half | ms 1.25 |" in page
    assert "| card | a\\|b |" in page


@pytest.mark.parametrize("name", ["basicvsr", "basicvsr_slim"])
def test_the_upsampler_has_a_fifth_to_a_quarter_of_the_macs(name: str) -> None:
    arguments = preset(name).arguments
    assert isinstance(arguments, BasicVSRArguments)
    macs = {True: 0.0, False: 0.0}
    for conv in basicvsr_layout(arguments, "rsc").convs:
        macs["_trunk." in conv.name] += conv.scale**2 * conv.weights({})
    assert 0.20 <= macs[False] / (macs[True] + macs[False]) <= 0.25


def test_a_short_job_is_given_each_knob_once(tmp_path: Path) -> None:
    typed = jobs._arguments(tmp_path, "cpu", ("schedule.checkpoint_every=5", "seed=1"))
    names = [item.partition("=")[0] for item in typed]
    assert len(names) == len(set(names))
    assert "schedule.checkpoint_every=5" in typed


@pytest.mark.slow
def test_the_check_rehearses_whole_jobs_on_the_cpu(tmp_path: Path) -> None:
    script = Path(__file__).parents[3] / "benchmarks" / "gpu_check.py"
    command = [sys.executable, str(script), "--device", "cpu", "--out", str(tmp_path), "--seconds", "1500"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    results = json.loads((tmp_path / RESULTS).read_text())
    assert not [name for name, found in results.items() if "error" in found], done.stdout[-3000:]
    assert results["resume"]["32-true"]["resumed_apart"] == 0.0
