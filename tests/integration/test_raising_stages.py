"""Every stage fails in turn: the sweep goes on, a card says why and how to retry, and nothing is computed twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, RUN_PY, last_of_each, minimal_overrides
from forked import run_script

from vsrprune.host.causes import less_memory
from vsrprune.host.failures import FailureCard

SEEDS = "seed=0,1"
STAGES = ("flow", "pretrain", "reference", "score", "select", "sparsify", "prune", "finetune", "evaluate", "measure")
IN_FAST_SET = ("select",)  # one that the two jobs share

# Python runs this module at its start. It lets the stage that fault.json beside it names fail, and logs the stages
# that were made to their end. Where processes are forked, the module that it patches is there already.
SITECUSTOMIZE = '''
import importlib.util, json, os, resource, sys
from pathlib import Path

HERE = Path(__file__).parent

class PatchRecipes:
    """Patches vsrprune.stages.recipe right after it was imported."""

    def find_spec(self, name, path=None, target=None):
        if name != "vsrprune.stages.recipe":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            module.Recipe.make = failing(module.Recipe.make)

        spec.loader.exec_module = exec_module
        return spec


def failing(make):
    def made(recipe, bench, inputs):
        path = HERE / "fault.json"
        fault = json.loads(path.read_text()) if path.is_file() else {}
        when = fault.get("when", "at start") if fault.get("stage") == recipe.name else "never"
        if when == "once":
            path.unlink()
        if when in ("at start", "once"):
            fail(bench, **fault)
        artifact = make(recipe, bench, inputs)
        if when == "at end":
            fail(bench, **fault)
        with (HERE / "made.log").open("a") as log:
            log.write(f"{recipe.name} {bench.plan.key}\\n")
        return artifact

    return made


def fail(bench, kind, megabytes=0, **others):
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if kind == "RuntimeError":
        raise RuntimeError("injected")
    if kind == "MemoryError":
        raise MemoryError
    if kind == "SystemExit":
        raise SystemExit(3)
    if kind == "abort":
        os.abort()
    bench.clips  # so that it is the training that finds no memory
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = used + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if "vsrprune.stages.recipe" in sys.modules:
    recipe = sys.modules["vsrprune.stages.recipe"]
    recipe.Recipe.make = failing(recipe.Recipe.make)
else:
    sys.meta_path.insert(0, PatchRecipes())
'''


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Faster beside other tests, and the same everywhere in this file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


class Faulty:
    """A folder with store and runs, and what makes its jobs fail."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._site = folder, folder / "site"
        self._site.mkdir()
        (self._site / "sitecustomize.py").write_text(SITECUSTOMIZE)

    def inject(self, stage: str, kind: str, **more: object) -> None:
        (self._site / "fault.json").write_text(json.dumps({"stage": stage, "kind": kind, **more}))

    def mend(self) -> None:
        (self._site / "fault.json").unlink(missing_ok=True)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A sweep of the minimal schedule."""
        command = [RUN_PY, "-m", *last_of_each([*minimal_overrides(self.folder), "tracking=none", *arguments])]
        return run_script(command, ROOT, {"COLUMNS": "80", "PYTHONPATH": str(self._site)})

    def shell(self, command: str) -> subprocess.CompletedProcess[str]:
        """A command of a card, as typed in an activated environment."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = {**os.environ, "PATH": path, "PYTHONPATH": str(self._site)}
        return subprocess.run(
            command, shell=True, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False
        )

    @property
    def made(self) -> Counter[str]:
        """How often every stage was made to its end, by `stage key`."""
        log = self._site / "made.log"
        return Counter(log.read_text().splitlines() if log.is_file() else [])

    def card(self, seed: int) -> FailureCard:
        (path,) = self.folder.glob(f"runs/**/seed={seed}/failure.json")
        card = FailureCard.load(path.parent)
        assert card is not None
        return card

    def outcome(self) -> dict[str, bytes]:
        """The results and curves of every job and the bytes of every network in the store."""
        files = [
            *self.folder.glob("runs/**/result.json"),
            *self.folder.glob("runs/**/metrics.jsonl"),
            *self.folder.glob("store/*/*/network.safetensors"),
        ]
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in files}

    def litter(self) -> list[Path]:
        """What finished jobs have no use for."""
        leases = [path for path in self.folder.glob("store/leases/*") if path.name != ".mutex"]
        half_made = [path for stage in STAGES for path in self.folder.glob(f"store/{stage}/.*")]
        return [*leases, *half_made, *self.folder.glob("store/unfinished/*"), *self.folder.glob("store/damaged/*")]


@pytest.fixture
def faulty(tmp_path: Path) -> Faulty:
    return Faulty(tmp_path)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Faulty:
    sweep = Faulty(tmp_path_factory.mktemp("undisturbed"))
    done = sweep.run(SEEDS)
    assert done.returncode == 0, done.stderr
    assert set(sweep.made.values()) == {1}
    assert {line.split()[0] for line in sweep.made} == set(STAGES)  # the injected module sees every stage
    return sweep


def ends_well(faulty: Faulty, undisturbed: Faulty, counts: str = "2 done, 0 reused, 0 failed") -> str:
    """The same sweep without the fault: each stage is made once over all runs, with the result of no fault at all."""
    faulty.mend()
    done = faulty.run(SEEDS)
    assert done.returncode == 0, done.stderr
    assert f"2 jobs: {counts}" in done.stdout
    assert not any(faulty.folder.glob("runs/**/failure.json"))
    assert faulty.made == undisturbed.made
    assert faulty.outcome() == undisturbed.outcome()
    assert faulty.litter() == []
    return done.stdout


def all_fail(faulty: Faulty, stage: str, *arguments: str) -> list[FailureCard]:
    """The cards of both jobs of a sweep, after both failed in `stage` and the sweep said so."""
    failed = faulty.run(SEEDS, *arguments)
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert "job 2/2: seed=1" in failed.stdout
    assert "2 jobs: 0 done, 0 reused, 2 failed" in failed.stdout
    cards = [faulty.card(seed) for seed in (0, 1)]
    for seed, card in enumerate(cards):
        assert card.stage == stage
        assert f"failed: seed={seed} in {stage}, step {card.step}: {card.cause}\n" in failed.stderr
        (script,) = faulty.folder.glob(f"runs/**/seed={seed}/retry.sh")
        assert f"  what to change: {card.advice}\n  retry it alone: bash {script}\n" in failed.stderr
        assert "src/run.py" in card.command
        assert f" seed={seed} " in card.command
    assert not any(line.startswith(f"{stage} ") for line in faulty.made)
    assert not any(faulty.folder.glob(f"store/{stage}/[!.]*"))
    assert not any(faulty.folder.glob("store/leases/*.json")) or cards[0].cause == "died of SIGABRT"
    return cards


@pytest.mark.parametrize(
    "stage", [stage if stage in IN_FAST_SET else pytest.param(stage, marks=pytest.mark.slow) for stage in STAGES]
)
def test_a_stage_that_raises(faulty: Faulty, undisturbed: Faulty, stage: str) -> None:
    faulty.inject(stage, "RuntimeError")
    for card in all_fail(faulty, stage):
        assert card.cause == "RuntimeError: injected"
        assert "failure.json" in card.advice
        assert 'raise RuntimeError("injected")' in card.trace
    before = {line.split()[0] for line in faulty.made}
    assert before == set(STAGES[: STAGES.index(stage)])
    # Both seeds share the measurement: made for the first, it finishes the second too.
    counts = "1 done, 1 reused, 0 failed" if stage == "measure" else "2 done, 0 reused, 0 failed"
    output = ends_well(faulty, undisturbed, counts)
    assert all(f"  {earlier:<10} reused" in output for earlier in before)


@pytest.mark.slow
def test_a_stage_that_raises_once_costs_one_job(faulty: Faulty, undisturbed: Faulty) -> None:
    """The next job makes the shared stage; the card's command then finishes the job that failed."""
    faulty.inject("score", "RuntimeError", when="once")
    failed = faulty.run(SEEDS)
    assert failed.returncode == 1, failed.stderr
    assert "2 jobs: 1 done, 0 reused, 1 failed" in failed.stdout
    card = faulty.card(0)
    assert (card.stage, card.cause) == ("score", "RuntimeError: injected")
    (script,) = faulty.folder.glob("runs/**/retry.sh")
    retried = faulty.shell(f"bash {script}")
    assert retried.returncode == 0, retried.stderr
    assert f"  {'score':<10} reused" in retried.stdout
    assert faulty.outcome() == undisturbed.outcome()
    ends_well(faulty, undisturbed, "0 done, 2 reused, 0 failed")


@pytest.mark.slow
def test_a_stage_that_raises_at_its_end_goes_on_from_its_checkpoint(faulty: Faulty, undisturbed: Faulty) -> None:
    faulty.inject("sparsify", "RuntimeError", when="at end")
    for card in all_fail(faulty, "sparsify"):
        assert card.cause == "RuntimeError: injected"
    assert len(list(faulty.folder.glob("store/unfinished/sparsify-*/*/step-2.sha256"))) == 2
    output = ends_well(faulty, undisturbed)
    assert output.count("  sparsify   goes on after step 2\n") == 2
    assert "  finetune   goes on" not in output


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_jobs_side_by_side_fail_each_for_itself(faulty: Faulty, undisturbed: Faulty, stage: str) -> None:
    faulty.inject(stage, "RuntimeError")
    for card in all_fail(faulty, stage, "launcher.jobs=2"):
        assert card.cause == "RuntimeError: injected"
    ends_well(faulty, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "kind", "cause", "advice"),
    [
        ("reference", "SystemExit", "ended with exit code 3", "run it again by itself"),
        ("prune", "abort", "died of SIGABRT", "run it again"),
        ("evaluate", "MemoryError", "out of memory: MemoryError", less_memory("evaluate")),
    ],
)
def test_a_stage_that_ends_its_process(
    faulty: Faulty, undisturbed: Faulty, stage: str, kind: str, cause: str, advice: str
) -> None:
    faulty.inject(stage, kind)
    for card in all_fail(faulty, stage):
        assert card.cause == cause
        assert advice in card.advice
    ends_well(faulty, undisturbed)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to see how much memory is in use")
@pytest.mark.parametrize("megabytes", [1, 64])
def test_training_that_finds_no_memory(faulty: Faulty, megabytes: int) -> None:
    """For real: the kernel gives the process no more. Whoever is refused says it in words of its own."""
    sizes = ["schedule.batch=16", "schedule.patch=32", "until=pretrain"]
    faulty.inject("pretrain", "no memory", megabytes=megabytes)
    failed = faulty.run(SEEDS, *sizes)
    assert failed.returncode == 1, failed.stderr
    assert "2 jobs: 0 done, 0 reused, 2 failed" in failed.stdout
    for seed in (0, 1):
        card = faulty.card(seed)
        assert card.stage == "pretrain"
        assert card.cause.startswith("out of memory: ")
        assert card.advice == less_memory("pretrain")
        assert "schedule.batch" in card.advice
        assert f"failed: seed={seed} in pretrain, step {card.step}: out of memory: " in failed.stderr
    faulty.mend()
    done = faulty.run(SEEDS, *sizes)
    assert done.returncode == 0, done.stderr
    assert set(faulty.made.values()) == {1}
    assert {line.split()[0] for line in faulty.made} == {"flow", "pretrain"}
    assert faulty.litter() == []
