"""Random damage to every kind of file that the platform keeps, and then the same command again.

It ends with the same bits, or with one line and exit code 2; a job that analysis cannot read is named. Nothing else.

    pytest tests/integration/test_fuzz.py -m slow        the table of what was tried and survived; 4 minutes at most
    FUZZ="search, study.db, cut, 3" pytest ...           one try again, as a failure names it
"""

from __future__ import annotations

import fnmatch
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue

import numpy as np
import pytest
from conftest import MINIMAL, ROOT, RUN_PY, last_of_each
from damaging import DAMAGE
from forked import Script
from PIL import Image
from videos import pictures

pytestmark = pytest.mark.usefixtures("one_thread")

SEED = 0
ROUNDS = 2  # every kind of file of every command, with every kind of damage, so often
BOUND_S = 220.0  # from the start, after which no try begins
HANGS_S = 60.0
AT_ONCE = 2

# Kinds of files: the first pattern that a path fits tells its kind. Every file of every folder has one.
KINDS = {
    "store/leases/.mutex": "lock",
    "store/leases/*": "lease",
    "store/unfinished/*.ckpt": "checkpoint",
    "store/unfinished/*.sha256": "checksum of a checkpoint",
    "store/unfinished/*.jsonl": "curves under way",
    "store/cache/*/*.npy": "cached clip",
    "store/cache/*/clip.json": "description of a cached clip",
    "store/data_hashes.json": "hashes of files",
    "store/*/manifest.json": "manifest",
    "store/*/network.safetensors": "weights",
    "store/*/network.json": "description of a network",
    "store/timing/*.json": "timing table",
    "store/networks/*.json": "description of a network of one's own",
    "store/*/metrics.jsonl": "curves of a stage",
    "store/*/crops/*": "crop of a stage",
    "store/*.json": "numbers of a stage",
    "store/*.py": "code of a network of one's own",
    "runs/*/result.json": "result",
    "runs/*/measured.json": "measurement",
    "runs/*/metrics.jsonl": "curves of a job",
    "runs/*/crops/*": "crop of a job",
    "runs/*/search.json": "search.json",
    "runs/*/study.db": "study.db",
    "runs/*/plan.yaml": "plan",
    "runs/*/sweep.json": "name of a sweep",
    "runs/*/failure.json": "failure card",
    "runs/*/retry.sh": "script that retries a job",
    "runs/*/state.json": "state of a job",
    "runs/*/.hydra/*": ".hydra",
    "runs/*/output.log": "log",
    "runs/*/wandb*": "wandb",
}
KNOBS = [f"{name}={str(value).replace(' ', '')}" for name, value in MINIMAL.items()]
# A lease on another machine is waited for until it ends.
FOLDERS = ["store_dir=store", "runs_dir=runs", "store.lease_seconds=2"]
JOB_THAT_DIES = f"""
import os, runpy, signal, sys
from vsrprune.stages.training.checkpoints import Checkpoints
save = Checkpoints.save
def save_and_die(self, trainer):
    save(self, trainer)
    if self._folder.parent.name.startswith("finetune-") and trainer.global_step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
Checkpoints.save = save_and_die
sys.argv[0] = {str(RUN_PY)!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""

OWN = """
import torch
from torch import nn
from torch.nn import functional as F
from vsrprune.networks.own import OwnNetwork, VSROutput

class Net(OwnNetwork):
    reach = (0, 0)
    smallest_side = 4

    def __init__(self, channels=4):
        super().__init__()
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.up = nn.Conv2d(channels, 48, 3, padding=1)

    def forward(self, frames_NTCHW, flows=None):
        states = [F.relu(self.first(frame)) for frame in frames_NTCHW.unbind(1)]
        frames = [F.pixel_shuffle(self.up(state), 4) for state in states]
        return VSROutput(torch.stack(frames, dim=1), {"first": states})
"""

Made = dict[str, bytes]


@dataclass(frozen=True)
class Command:
    """What is run in a folder before and after the damage, and what it makes there.

    files: patterns of files that are damaged. may_name: a job whose file is damaged may be left out, and named.
    """

    folder: str
    arguments: Sequence[object]
    made: Callable[[Path], Made]
    files: Sequence[str] = ("store/*", "runs/*")
    may_name: bool = False


@dataclass(frozen=True)
class Case:
    """One try; all that is random in it follows from its name."""

    command: str
    kind: str
    damage: str
    number: int

    def __str__(self) -> str:
        return f"{self.command}, {self.kind}, {self.damage}, {self.number}"


@dataclass(frozen=True)
class Ended:
    """How a command ended; `code` is None where it had to be killed."""

    code: int | None
    out: str
    err: str
    made: Made = field(repr=False)


def kind_of(path: str) -> str:
    return next(kind for pattern, kind in KINDS.items() if fnmatch.fnmatchcase(path, pattern))


def files_below(folder: Path) -> list[str]:
    every = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sorted(path.relative_to(folder).as_posix() for path in every)


def contents(folder: Path, names: Iterable[str]) -> Made:
    """Files by their names; the folder itself, which some of them name, is left out."""
    return {name: (folder / name).read_bytes().replace(str(folder).encode(), b"") for name in names}


def of_runs(folder: Path) -> Made:
    """Networks, results, curves, crops and plans; of measurements what no clock says."""
    kept = (
        "network.safetensors", "network.json", "selection.json", "result.json", "metrics.jsonl", ".png", "plan.yaml",
        "places.json",
    )  # fmt: skip
    apart = re.compile("store/damaged/|store/unfinished/|runs/.*/wandb/")  # what is set aside, under way or mirrored
    found = [name for name in files_below(folder) if not apart.match(name)]
    made = contents(folder, (name for name in found if name.endswith(kept)))
    timed = ("sha256", "latency_ms", "stage_seconds", "peak_memory_mib")
    return made | {name: without(folder / name, timed) for name in found if name.endswith("measured.json")}


def of_search(folder: Path) -> Made:
    """The same, and what a search found."""
    found = json.loads(without(folder / "runs/search/search.json", ("sha256", "storage")))
    for row in (*found["trials"], found["best"]):
        row.pop("seconds")
    return {"search.json": json.dumps(found).encode(), **of_runs(folder)}


def without(path: Path, names: Sequence[str]) -> bytes:
    """A JSON file without some of its values."""
    values = json.loads(path.read_text())
    return json.dumps({name: value for name, value in values.items() if name not in names}).encode()


def outputs(folder: Path) -> Made:
    """What a command wrote for its user."""
    return contents(folder, (name for name in files_below(folder) if name.startswith("made")))


def alike(name: str, one: bytes | None, other: bytes | None) -> bool:
    """The same bits; of pictures for a user, pixels that differ by rounding.

    A network is upscaled with in the form that is the fastest at the moment.
    """
    if one == other or one is None or other is None or not (name.startswith("made/") and name.endswith(".png")):
        return one == other
    first, second = (np.asarray(Image.open(io.BytesIO(content))).astype(int) for content in (one, other))
    return first.shape == second.shape and int(np.abs(first - second).max()) <= 1


def commands(clips: Path) -> dict[str, Command]:
    job = [RUN_PY, *KNOBS, *FOLDERS, "data=folder", f"data.path={clips}", "data.val=[c]", "data.cache=true"]
    plain = [*job, "tracking=none"]
    search = [ROOT / "sweeps" / "search_ratios.py", *plain[1:], "hydra.run.dir=runs/search", "ratio=0.4"]
    trials = ["search.rungs=[0,1]", "search.clips=1", "search.frames=3", "search.trials=3", "search.pruner=none"]
    own = [item for item in plain if not str(item).startswith("model.")]
    own += ["model=own", f"model.file={clips.parent / OWN_FILE}", "until=pretrain", "hydra.run.dir=runs/job"]
    network = "runs/swept/ratio=0.5"
    compared = ["--data", "folder", "--path", clips, "--clips", "c", "--store", "store", "--json", "made.json"]
    read, used = ("runs/swept", f"runs/{FAILED}/*"), ("runs/swept/ratio=0.5/*", "store/finetune/*")

    def of_analysis(script: str, *options: str) -> Command:
        return Command("analysed", [ROOT / "analysis" / script, "runs", *options], outputs, read, may_name=True)

    return {
        "sweep": Command("sweep", [*plain, "ratio=0.3,0.5", "sweep.name=swept", "-m"], of_runs),
        "job under way": Command("killed", last_of_each([*plain, *DIES]), of_runs),
        "tracked job": Command("tracked", [*job, "hydra.run.dir=runs/job", "tracking=wandb"], of_runs, ("runs/*",)),
        "search": Command("search", [*search, *trials], of_search),
        "tables": of_analysis("tables.py", "--table", "main", "--out", "made"),
        "report": of_analysis("report.py", "--out", "made.html"),
        "figures": of_analysis("figures.py", "--out", "made", "--only", *FIGURES),
        "job by time": Command("timed", [*plain, *TIMED], of_runs, ("store/timing/*", "store/select/*")),
        "own network": Command("own", own, of_runs, ("store/networks/*", "store/pretrain/*")),
        "upscale": Command(
            "sweep", [ROOT / "src" / "upscale.py", clips / "c", "made", "--model", network], outputs, used
        ),
        "evaluate": Command("sweep", [ROOT / "src" / "evaluate.py", network, *compared], outputs, used),
    }


FAILED = "failed"  # a job that has no result
TIMED = ["hydra.run.dir=runs/job", "round_to=auto", "score=taylor", "ratio=0.3", "until=select"]
FIGURES = ("psnr_macs", "psnr_latency", "gate_trajectories", "qualitative")  # of results, times, curves and crops
OWN_FILE = "net.py"
DIES = ["hydra.run.dir=runs/job", "schedule.finetune.steps=6"]


class Folders:
    """Finished and unfinished work that is copied before each try, always to the same places: files' hashes go by it.

    Commands that are tried at the same time have a place each, and locks of their own.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.began = root, time.monotonic()
        self.clips = root / "clips"
        for clip in "abc":
            (self.clips / clip).mkdir(parents=True)
            for number, picture in enumerate(pictures(4, 48, 64, seed=ord(clip))):
                Image.fromarray(picture).save(self.clips / clip / f"{number:03}.png")
        (root / OWN_FILE).write_text(OWN)
        self.commands = commands(self.clips)
        self._make()
        self.before = {name: self.end_of(name) for name in self.commands}
        for name, ended in self.before.items():
            assert ended.code == 0, f"{name}: {ended.out}{ended.err}"
        self._places: Queue[int] = Queue()
        for place in range(AT_ONCE):
            self._places.put(place)

    def _make(self) -> None:
        """Every folder, by the commands themselves."""
        sweep, job = self.commands["sweep"].arguments, self.commands["job under way"].arguments
        (self.root / "sweep").mkdir()
        self._run("sweep", sweep, 0)
        for copy in ("killed", "tracked", "search", "timed", "own", "analysed"):
            shutil.copytree(self.root / "sweep", self.root / copy, symlinks=True)
            if copy != "analysed":
                shutil.rmtree(self.root / copy / "runs")
        self._run("killed", ["-c", JOB_THAT_DIES, *job[1:]], -signal.SIGKILL)
        for name in ("tracked job", "search", "job by time", "own network"):
            self._run(self.commands[name].folder, self.commands[name].arguments, 0)
        failing = last_of_each([*job, f"hydra.run.dir=runs/{FAILED}", "schedule.finetune.lr=1.0e+30"])
        self._run("analysed", failing, 2)
        shutil.copytree(self.root / "killed" / "runs" / "job", self.root / "analysed" / "runs" / "killed")
        shutil.rmtree(self.root / "analysed" / "store")

    def _run(self, folder: str, arguments: Sequence[object], code: int) -> None:
        ended = run(arguments, self.root / folder, lambda path: {})
        assert ended.code == code, ended.out + ended.err

    def end_of(self, name: str, damage: Callable[[Path], None] = lambda folder: None, place: int = 0) -> Ended:
        """How a command ends in a copy of its folder, after the damage."""
        folder = self.root / f"try-{place}"
        shutil.rmtree(folder, ignore_errors=True)
        command = self.commands[name]
        shutil.copytree(self.root / command.folder, folder, symlinks=True)
        damage(folder)
        return run(command.arguments, folder, command.made)

    def tried(self, case: Case) -> tuple[str, str]:
        """What became of a case, and what was damaged and printed."""
        damaged: list[str] = []

        def damage(folder: Path) -> None:
            draw = random.Random(f"{SEED} {case}")
            damaged.append(draw.choice(self.files_of(case)))
            DAMAGE[case.damage](folder / damaged[0], draw)

        place = self._places.get()
        try:
            ended = self.end_of(case.command, damage, place)
        finally:
            self._places.put(place)
        end = judged(ended, self.before[case.command], damaged[0], self.commands[case.command].may_name)
        return end, f"{case}: {end}\n  {damaged[0]}\n{ended.out[-1500:]}{ended.err[-3000:]}"

    def files_of(self, case: Case) -> list[str]:
        """The files of a case's kind that its command may meet."""
        command = self.commands[case.command]
        return [
            name
            for name in files_below(self.root / command.folder)
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in command.files)
            and kind_of(name) == case.kind
            and (case.damage == "deleted" or (self.root / command.folder / name).stat().st_size)
        ]

    def cases(self) -> list[Case]:
        """All cases, each round in an order of its own, so that what is left out for want of time is no one kind."""
        drawn = []
        for number in range(ROUNDS):
            every = [
                Case(name, kind, damage, number)
                for name in self.commands
                for kind in dict.fromkeys(KINDS.values())
                for damage in DAMAGE
            ]
            there = [case for case in every if self.files_of(case)]
            random.Random(f"{SEED} {number}").shuffle(there)
            drawn += there
        return drawn


def run(arguments: Sequence[object], folder: Path, made: Callable[[Path], Made]) -> Ended:
    """Run a command in a folder; its process group is ended after HANGS_S seconds."""
    locks = folder.with_name(f"{folder.name}.locks")  # of this command alone: none pauses for another's measurement
    locks.mkdir(exist_ok=True)
    found = [next(folder.glob(str(item))).relative_to(folder) if "/*/" in str(item) else item for item in arguments]
    script = Script(found, folder, {"COLUMNS": "80", "XDG_RUNTIME_DIR": str(locks)})
    try:
        out, err = script.communicate(timeout=HANGS_S)
    except subprocess.TimeoutExpired:
        os.killpg(script.pid, signal.SIGKILL)
        out, err = script.communicate()
        return Ended(None, out, err, {})
    return Ended(script.wait(), out, err, made(folder) if script.wait() == 0 else {})


def judged(ended: Ended, before: Ended, damaged: str, may_name: bool) -> str:
    """`same bits`, `one line` or `named`; anything else is a failure, in words."""
    printed = ended.out + ended.err
    if ended.code is None:
        return "it hangs"
    if "Traceback" in printed:
        return "a traceback"
    lines = ended.err.strip().splitlines()
    if ended.code == 2:
        return "one line" if len(lines) == 1 and lines[0].startswith("error: ") else f"{len(lines)} lines"
    if ended.code:
        return f"exit code {ended.code}"
    names = {*ended.made, *before.made}
    changed = {name for name in names if not alike(name, ended.made.get(name), before.made.get(name))}
    if not changed - ({damaged} if damaged.startswith("store/") else set()):  # what no job has opened stays as it is
        return "same bits"
    if may_name and is_named(damaged, ended, before):
        return "named"
    return f"other bits in {sorted(changed)[:3]}"


def is_named(damaged: str, ended: Ended, before: Ended) -> bool:
    """Whether what was printed, or the report, now says that the file's job is left out; some said so before."""
    job = re.sub("/crops$", "", str(Path(damaged).parent)).split("/")[-1]
    said = re.compile(f"{re.escape(job)}.{{0,300}}(damaged|cannot be read|no result|is missing|left out)", re.DOTALL)

    def says(end: Ended) -> bool:
        pages = [made.decode() for name, made in end.made.items() if name.endswith(".html")]
        return any(said.search(text) for text in (end.out, end.err, *pages))

    return says(ended) and (not says(before) or job == FAILED)


GOOD = ("same bits", "one line", "named")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.slow
def test_damage_never_changes_what_comes_out(folders: Folders, capsys: pytest.CaptureFixture[str]) -> None:
    cases, wanted = folders.cases(), os.environ.get("FUZZ", "")
    if wanted:
        cases = [case for case in cases if str(case).startswith(wanted)]
    end_by = folders.began + BOUND_S

    def tried(case: Case) -> tuple[Case, str, str] | None:
        return (case, *folders.tried(case)) if time.monotonic() < end_by else None

    with ThreadPoolExecutor(AT_ONCE) as pool:
        ends = [end for end in pool.map(tried, cases) if end is not None]
    with capsys.disabled():
        print(f"\n{table([(case, end) for case, end, _ in ends])}")
    assert ends
    lost = [text for _, end, text in ends if end not in GOOD]
    assert not lost, "\n\n".join(lost)


def table(ends: Sequence[tuple[Case, str]]) -> str:
    """A row for each kind of file: how often it was damaged, and how that ended."""
    kinds = [kind for kind in dict.fromkeys(KINDS.values()) if any(case.kind == kind for case, _ in ends)]
    rows = [("file", "tried", *GOOD, "not survived")]
    for kind in (*kinds, "all"):
        of_kind = Counter(end for case, end in ends if kind in (case.kind, "all"))
        counts = (of_kind.total(), *(of_kind[end] for end in GOOD))
        rows.append((kind, *map(str, counts), str(of_kind.total() - sum(counts[1:]))))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
