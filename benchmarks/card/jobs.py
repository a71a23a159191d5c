"""Whole jobs on the card: the six of the README, two of them on the CPU, a kill and a resume, shared cards."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from benchmarks.card.runner import ROOT, Bar, Check, Found, Ran, kill_group

RUN = "src/run.py"
SHORT = (  # a job of seconds; the demo's data and network
    "tracking=none", "schedule.flow.steps=30", "schedule.pretrain.steps=120", "schedule.sparsify.growth=0.005",
    "schedule.sparsify.hold_steps=10", "schedule.finetune.steps=40", "schedule.checkpoint_every=20",
    "data.demo_train_per_photo=2", "data.demo_frames=10", "data.demo_val_per_photo=1",
)  # fmt: skip
SIX, FOUR = ("rsc=true,false", "ratio=0.3,0.5,0.7"), ("rsc=true,false", "ratio=0.5")
SAME_DB = 0.02  # a device may change the PSNR of a job by no more


def job(check: Check, folder: str, *knobs: str, multirun: bool = False, trainer: str = "", **more: Any) -> Ran:
    """`src/run.py` with these knobs, its store and runs in a folder of the section."""
    flag = ["-m"] if multirun else []
    return check.command(RUN, *flag, *_arguments(check.own / folder, trainer or check.trainer, knobs), **more)


def six_jobs(check: Check, found: Found) -> None:
    """The README's command, shortened; then once more, when the store has everything."""
    sweep = FOUR if check.rehearsed else SIX
    ran = job(check, "six", *sweep, multirun=True, limit=300)
    found["first"] = ran.sound()
    found["jobs"] = _results(check.own / "six")
    found["again"] = job(check, "six", *sweep, multirun=True, limit=60).sound()
    found["said"] = [line for line in ran.said.splitlines() if re.search(r"warn|GPU|CUDA|Tensor Core|trains on", line)][
        :8
    ]


def against_cpu(check: Check, found: Found) -> None:
    """Two of the six jobs on the CPU. The networks are trained anew, so that rounding has 120 steps to grow."""
    ran = job(check, "cpu", *FOUR, multirun=True, trainer="cpu", limit=150)
    found["jobs"] = ran.sound()
    here, there = _results(check.own / "cpu"), _results(check.work / "six_jobs" / "six")
    both = {name: (there[name], here[name]) for name in here if name in there}
    for value in ("psnr", "dense"):
        found[f"{value}_card_minus_cpu"] = {name: card[value] - cpu[value] for name, (card, cpu) in both.items()}
    if not both:
        raise RuntimeError("no job ran on both devices: six_jobs must run before")
    furthest = max(abs(value) for value in found["psnr_card_minus_cpu"].values())
    found["bars"] = {"PSNR apart, dB": Bar(furthest, at_most=SAME_DB).as_json()}


def resume(check: Check, found: Found) -> None:
    """Unbroken twice, and killed by SIGKILL once: how far apart do the weights end?"""
    steps, kill_after = (60, 20) if check.rehearsed else (300, 60)
    knobs = ("until=pretrain", f"schedule.pretrain.steps={steps}", "schedule.checkpoint_every=20", "tf_weight=0")
    found["bars"] = {}
    for precision in ("32-true", "bf16-mixed" if check.rehearsed else "16-mixed"):
        row: Found = {}
        found[precision] = row
        extra = (*knobs, f"trainer.precision={precision}")
        for name in ("once", "twice"):
            row[name] = job(check, f"{precision}-{name}", *extra, limit=70).sound()
        row["killed_after"] = _kill(check, f"{precision}-killed", extra, kill_after)
        row["resumed"] = job(check, f"{precision}-killed", *extra, limit=70).sound()
        once, twice, again = (_weights(check.own / f"{precision}-{name}") for name in ("once", "twice", "killed"))
        row["unbroken_apart"] = float((once - twice).abs().max())
        row["resumed_apart"] = float((once - again).abs().max())
        # On a card, equal trainings end a little apart; a broken one must not end further than a few times that.
        allowed = max(1e-6, 4 * row["unbroken_apart"])
        found["bars"][f"{precision}: resumed apart"] = Bar(row["resumed_apart"], at_most=allowed).as_json()
        check.save()


def sharing(check: Check, found: Found) -> None:
    """A card named by its UUID; two jobs on one card; two cards asked of one."""
    short = ("until=pretrain", "schedule.pretrain.steps=5")
    listing = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    uuids: list[str] = []
    with contextlib.suppress(OSError):
        uuids = subprocess.run(listing, capture_output=True, text=True, check=False).stdout.split()
    if uuids and not check.rehearsed:
        found["by its UUID"] = job(check, "uuid", *short, env={"CUDA_VISIBLE_DEVICES": uuids[0]}, limit=60).sound()
    two = job(check, "two", "pretrain_seed=0,1", "launcher.jobs=2", *short, multirun=True, limit=90)
    found["two jobs on one card"] = two.sound()
    if torch.cuda.device_count() == 1 and not check.rehearsed:
        ran = job(check, "ddp", *short, trainer="ddp", limit=60)
        found["two cards asked of one"] = {"code": ran.code, "seconds": ran.seconds, "said": ran.said[-300:]}
        bars = {"refused": Bar(int(ran.code != 0), at_least=1), "refused within seconds": Bar(ran.seconds, at_most=10)}
        found["bars"] = {name: bar.as_json() for name, bar in bars.items()}


def out_of_memory(check: Check, found: Found) -> None:
    """A training that does not fit: is the failure card of use?"""
    if check.rehearsed:
        found["left out"] = "the CPU has no memory of its own to fill"
        return
    free = torch.cuda.mem_get_info()[0]
    hog = torch.empty(max(0, free - int(1.6 * 2**30)), dtype=torch.uint8, device="cuda")
    ran = job(check, "oom", "model=basicvsr", "schedule.batch=64", "schedule.patch=40", "until=pretrain", limit=60)
    del hog
    torch.cuda.empty_cache()
    cards = list((check.own / "oom").rglob("failure.json"))
    card = json.loads(cards[0].read_text()) if cards else {}
    found |= {"code": ran.code, "cause": card.get("cause", ran.said[-300:]), "advice": card.get("advice")}


def _arguments(folder: Path, trainer: str, knobs: Sequence[str]) -> list[str]:
    """What a short job is asked; `knobs` stand for those of SHORT, since a knob that is given twice is refused."""
    given = {knob.partition("=")[0] for knob in knobs}
    short = [knob for knob in SHORT if knob.partition("=")[0] not in given]
    places = (f"store_dir={folder / 'store'}", f"runs_dir={folder / 'runs'}")
    return [*short, f"trainer={trainer}", *places, *knobs]


def _results(folder: Path) -> dict[str, Any]:
    """PSNR, dense PSNR and milliseconds of every job in a folder, by what it varies."""
    rows = {}
    for file in sorted((folder / "runs").rglob("result.json")):
        result = json.loads(file.read_text())
        knobs, quality = result["knobs"], result["quality"]
        row = {"psnr": quality["finetuned"]["psnr"], "dense": quality["dense"]["psnr"]}
        measured = file.with_name("measured.json")
        if measured.is_file():
            row["ms"] = {name: value["ms"] for name, value in json.loads(measured.read_text())["latency_ms"].items()}
        rows[f"rsc={knobs['rsc']} ratio={knobs['ratio']}"] = row
    return rows


def _kill(check: Check, folder: str, knobs: tuple[str, ...], after: int) -> int:
    """Start a job, kill it when pretraining has a checkpoint of step `after` or later; the step of its last checkpoint.

    Raises RuntimeError if the job ended by itself, or left no checkpoint: nothing would be resumed.
    """
    place = check.own / folder
    victim = subprocess.Popen(
        [sys.executable, RUN, *_arguments(place, check.trainer, knobs)], cwd=ROOT, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    until = time.monotonic() + min(60, check.left())
    try:
        while time.monotonic() < until and victim.poll() is None and _reached(place) < after:
            time.sleep(0.02)
    finally:
        kill_group(victim)
    if victim.returncode != -signal.SIGKILL or not _reached(place):
        raise RuntimeError(
            f"not killed between two checkpoints: ended with {victim.returncode}, step {_reached(place)}"
        )
    return _reached(place)


def _reached(folder: Path) -> int:
    """The step of the last checkpoint of pretraining; stage flow leaves checkpoints of its own before."""
    files = (folder / "store" / "unfinished").glob("pretrain-*/**/step-*.ckpt")
    return max((int(re.findall(r"\d+", file.stem)[0]) for file in files), default=0)


def _weights(folder: Path) -> torch.Tensor:
    """All weights that a pretraining left, in one row."""
    (file,) = (folder / "store" / "pretrain").glob("*/network.safetensors")
    return torch.cat([value.flatten().float() for _, value in sorted(load_file(file).items())])
