"""Studies on a synthetic objective whose best allocation is known."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from vsrprune.errors import UserError
from vsrprune.host.secrets import VARIABLE
from vsrprune.networks.basicvsr.spec import BasicVSRArguments, basicvsr_layout
from vsrprune.search.costs import MacsCost
from vsrprune.search.samplers import SAMPLERS, check_pair
from vsrprune.search.space import Range, make_space
from vsrprune.search.study import (
    ENDED,
    StudyPlan,
    ask_first,
    best_trial,
    check_storage,
    finished_trials,
    open_study,
    pareto_trials,
    quiet,
    work,
)
from vsrprune.selection.projection import count_bounds

LAYOUT = basicvsr_layout(BasicVSRArguments(channels=32, blocks=2, upsampler_channels=32), "inner")
BOUNDS = count_bounds(LAYOUT, 0.0, 0.95, 1)
COST = MacsCost(LAYOUT, BOUNDS)
RUNGS = 2
SINGLE = [name for name, sampler in SAMPLERS.items() if sampler.single]
FRONTS = [name for name, sampler in SAMPLERS.items() if sampler.fronts]
VALUE = {"backward": 9.0, "forward": 1.0, "upsampler": 1.0}  # a channel of the backward branch is worth most


def score(counts: Mapping[str, int]) -> Iterator[float]:
    """The rule: every channel is worth what its part is; the first rung sees it dimly."""
    worth = sum(VALUE[group.part] * counts[group.name] / group.size for group in LAYOUT.groups)
    yield 20 + round(worth)
    yield 20 + worth


def planned(**changes: object) -> StudyPlan:
    values = {
        "space": make_space(LAYOUT, "part", 0.0, 0.95),
        "budget": 0.5,
        "project": True,
        "rungs": RUNGS,
        "sampler": "tpe",
        "pruner": "none",
        "trials": 12,
        "seed": 0,
    }
    return StudyPlan(**{**values, **changes})  # type: ignore[arg-type]


def studied(folder: Path, asked: StudyPlan, name: str = "s") -> optuna.Study:
    quiet()
    study = open_study(f"sqlite:///{folder / 'study.db'}", name, asked, {"version": 1}, worker=0)
    work(study, asked, COST, score)
    return study


@cache
def known_best() -> float:
    """The backward branch whole, the rest as the budget leaves it: by a fine scan of the two other parts."""
    best = 0.0
    for forward in range(20):
        for upsampler in range(20):
            values = {"backward": 0.0, "forward": forward / 20, "upsampler": upsampler / 20}
            counts = COST.project(make_space(LAYOUT, "part", 0, 0.95).ratios(values), 0.5)
            best = max(best, list(score(counts))[-1])
    return best


@pytest.mark.parametrize("sampler", SINGLE)
def test_every_sampler_approaches_the_known_best(tmp_path: Path, sampler: str) -> None:
    if sampler == "cmaes":
        pytest.importorskip("cmaes")
    asked = planned(sampler=sampler, trials=30)
    study = studied(tmp_path, asked)
    equal = list(score(COST.project({group.name: 0.5 for group in LAYOUT.groups}, 0.5)))[-1]
    reached, best = best_trial(study, RUNGS).user_attrs["psnr"][-1], known_best()
    assert reached - equal > 0.6 * (best - equal)
    for trial in study.get_trials(states=ENDED):
        assert abs(trial.user_attrs["share"] / 0.5 - 1) <= 0.005 + 1e-12


@pytest.mark.parametrize("sampler", FRONTS)
def test_every_front_is_a_front(tmp_path: Path, sampler: str) -> None:
    study = studied(tmp_path, planned(sampler=sampler, budget=Range(0.3, 0.9), trials=20))
    front = pareto_trials(study, RUNGS)
    costs = [trial.user_attrs["share"] for trial in front]
    psnr = [trial.user_attrs["psnr"][-1] for trial in front]
    assert len(front) >= 3
    assert costs == sorted(costs)
    assert psnr == sorted(psnr)
    for trial in finished_trials(study, RUNGS):
        assert any(
            cost <= trial.user_attrs["share"] and value >= trial.user_attrs["psnr"][-1]
            for cost, value in zip(costs, psnr, strict=True)
        )


def test_poor_trials_are_stopped_between_rungs(tmp_path: Path) -> None:
    study = studied(tmp_path, planned(pruner="median", trials=25))
    stopped = study.get_trials(states=(TrialState.PRUNED,))
    assert stopped
    assert all(len(trial.user_attrs["psnr"]) == 1 for trial in stopped)
    assert len(study.get_trials(states=ENDED)) == 25


def test_poor_trials_of_a_front_are_stopped_by_our_own_rule(tmp_path: Path) -> None:
    study = studied(tmp_path, planned(sampler="random", pruner="median", budget=Range(0.3, 0.9), trials=40))
    lengths = [len(trial.user_attrs["psnr"]) for trial in study.get_trials(states=ENDED)]
    assert 0 < lengths.count(1) < 40
    assert all(len(trial.user_attrs["psnr"]) == RUNGS for trial in pareto_trials(study, RUNGS))


def test_without_projection_the_budget_is_a_constraint(tmp_path: Path) -> None:
    asked = planned(project=False, trials=60)
    study = studied(tmp_path, asked)
    best = best_trial(study, RUNGS)
    assert 0.4 <= best.user_attrs["share"] <= 0.5 * 1.005  # within it, and near it: what is left unused is worth PSNR
    missed = [trial for trial in study.get_trials(states=ENDED) if trial.user_attrs["share"] > 0.5 * 1.005]
    assert missed  # about half of the draws
    assert all(len(trial.user_attrs["psnr"]) == 1 for trial in missed)  # and are not trained on


def test_known_points_come_first_and_once(tmp_path: Path) -> None:
    asked = planned(trials=3)
    study = open_study(f"sqlite:///{tmp_path / 'study.db'}", "s", asked, {}, worker=0)
    point = {"backward": 0.1, "forward": 0.2, "upsampler": 0.3}
    ask_first(study, [point])
    ask_first(study, [point])
    work(study, asked, COST, score)
    params = [trial.params for trial in study.get_trials()]
    assert params[0] == point
    assert params.count(point) == 1


def test_a_finished_study_runs_nothing_and_more_trials_go_on(tmp_path: Path) -> None:
    studied(tmp_path, planned(trials=4))
    assert len(studied(tmp_path, planned(trials=4)).trials) == 4
    assert len(studied(tmp_path, planned(trials=7)).trials) == 7


def test_workers_that_begin_at_once_run_no_trial_too_many(tmp_path: Path) -> None:
    asked = planned(sampler="random", trials=6)
    quiet()
    studies = [
        open_study(f"sqlite:///{tmp_path / 'study.db'}", "s", asked, {"version": 1}, worker) for worker in range(4)
    ]
    scored: list[int] = []

    def score_slowly(counts: Mapping[str, int]) -> Iterator[float]:
        scored.append(1)
        time.sleep(0.05)  # so that all come back for another at the same time
        yield from score(counts)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda study: work(study, asked, COST, score_slowly), studies))
    assert len(finished_trials(studies[0], RUNGS)) == len(scored) == 6


def test_another_question_under_the_same_name_is_refused(tmp_path: Path) -> None:
    asked = planned()
    url = f"sqlite:///{tmp_path / 'study.db'}"
    open_study(url, "s", asked, {"budget": 0.5, "rungs": [0, 20]}, worker=0)
    with pytest.raises(UserError, match=r"'s'.*budget \(0.5, now 0.7\).*another search.study"):
        open_study(url, "s", asked, {"budget": 0.7, "rungs": [0, 20]}, worker=0)


@pytest.mark.parametrize("how", ["flip", "cut", "empty page", "text"])
def test_a_damaged_database_is_named_before_any_trial(tmp_path: Path, how: str) -> None:
    study = studied(tmp_path, planned(trials=3))
    assert len(study.trials) == 3
    file = tmp_path / "study.db"
    content = bytearray(file.read_bytes())
    if how == "flip":
        content[4096] ^= 0xFF  # the kind of the second page
    elif how == "cut":
        del content[len(content) // 2 :]
    elif how == "empty page":
        content[4096:8192] = bytes(4096)
    else:
        content = bytearray(b"no database at all" * 100)
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"study\.db is damaged \(.*\); move it away and run the same command again"):
        open_study(f"sqlite:///{file}", "s", planned(), {"version": 1}, worker=0)


def test_a_trial_whose_value_was_changed_is_named(tmp_path: Path) -> None:
    studied(tmp_path, planned(trials=3))
    with sqlite3.connect(tmp_path / "study.db") as database:
        database.execute("UPDATE trial_values SET value = 99 WHERE trial_id = 2")
    with pytest.raises(UserError, match=r"study\.db is damaged \(trial 1 of s has the value 99\.0 and the PSNR"):
        studied(tmp_path, planned(trials=4))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            "trial_user_attributes SET value_json = replace(value_json, '0', '1') WHERE key = 'share'",
            "fails its checksum",
        ),
        ("trial_user_attributes SET value_json = '{\"x\": 1}' WHERE key = 'counts'", "fails its checksum"),
        ("trial_params SET param_value = param_value + 0.125", "fails its checksum"),
        ("trials SET state = 'COMPLETF' WHERE number = 1", "COMPLETF"),
        ("trial_user_attributes SET value_json = '[30.1,' WHERE key = 'psnr'", "Expecting value"),
    ],
)
def test_what_a_trial_drew_and_kept_cannot_change_unseen(tmp_path: Path, change: str, words: str) -> None:
    """A plan is written from the database, and SQLite's own check finds no digit that changed."""
    studied(tmp_path, planned(trials=3))
    with sqlite3.connect(tmp_path / "study.db") as database:
        database.execute(f"UPDATE {change}")
    with pytest.raises(UserError, match=rf"study\.db is damaged \(.*{words}"):
        studied(tmp_path, planned(trials=4))


def test_a_storage_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"search\.storage=sqlite:.*cannot open"):
        open_study(f"sqlite:///{tmp_path / 'no' / 'where'}/study.db", "s", planned(), {}, worker=0)
    with pytest.raises(UserError, match=r"search\.storage=nonsense"):
        open_study("nonsense", "s", planned(), {}, worker=0)


def test_a_database_server_is_reached_by_the_driver_that_is_installed() -> None:
    """Nobody listens at port 1: the driver itself says so."""
    with pytest.raises(UserError, match=r"cannot open this database .*port 1 failed: Connection refused"):
        check_storage("postgresql://bob@127.0.0.1:1/x")


def test_the_password_of_the_environment_reaches_the_database_and_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    reached: list[str] = []

    def refuse(url: str, **options: object) -> None:
        reached.append(url)
        raise ValueError(f"{url} does not answer\nand more")

    monkeypatch.setattr(optuna.storages, "RDBStorage", refuse)
    monkeypatch.setenv(VARIABLE, "p@ss:/w")
    with pytest.raises(UserError, match=r"search\.storage=postgresql://bob@db/x: cannot open") as caught:
        open_study("postgresql://bob@db/x", "s", planned(), {}, worker=0)
    assert reached == ["postgresql+psycopg2://bob:p%40ss%3A%2Fw@db/x"]
    assert "p%40ss" not in str(caught.value)
    assert "p@ss" not in str(caught.value)


@pytest.mark.parametrize(
    ("sampler", "objective", "project", "able"),
    [
        ("nsga2", "psnr@macs", True, "tpe, cmaes, gp, random"),
        ("cmaes", "front", True, "tpe, random, nsga2"),
        ("gp", "front", True, "tpe, random, nsga2"),
        ("random", "psnr@macs", False, "tpe, gp"),
    ],
)
def test_impossible_pairs_are_refused(sampler: str, objective: str, project: bool, able: str) -> None:
    with pytest.raises(UserError, match=f"search={sampler} cannot.*use search={able}$"):
        check_pair(sampler, objective, project)


# Many processes, and what is left when one of them is killed

WORKER = """
import sys, time
sys.path.insert(0, {here!r})
import vsrprune.search.study as s
s.HEARTBEAT_S, s.GRACE_S = 1, 3
import test_study as t
def slow(counts):
    for value in t.score(counts):
        time.sleep({pause})
        yield value
t.quiet()
asked = t.planned(trials={trials}, seed=int(sys.argv[1]))
study = s.open_study({url!r}, "s", asked, {{}}, worker=int(sys.argv[1]))
print("ready", flush=True)
s.work(study, asked, t.COST, slow)
"""


def start_worker(url: str, number: int, trials: int, pause: float) -> subprocess.Popen[str]:
    code = WORKER.format(here=str(Path(__file__).parent), url=url, trials=trials, pause=pause)
    worker = subprocess.Popen([sys.executable, "-c", code, str(number)], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "ready\n"
    return worker


def check_two_workers_and_a_kill(url: str) -> None:
    """Of 14 trials none is lost, none runs twice but the one whose worker was killed."""
    workers = [start_worker(url, number, trials=14, pause=0.15) for number in (1, 2)]
    time.sleep(1.5)
    os.kill(workers[0].pid, signal.SIGKILL)
    assert workers[1].wait(timeout=100) == 0
    workers[0].wait()
    study = open_study(url, "s", planned(), {}, worker=0)
    states = [trial.state for trial in study.trials]
    ended = [trial for trial in study.trials if trial.state in ENDED]
    assert TrialState.RUNNING not in states
    assert len(ended) == 14
    failed = [trial for trial in study.trials if trial.state == TrialState.FAIL and "surplus" not in trial.user_attrs]
    assert len(failed) <= 1
    retried = [trial for trial in ended if trial.system_attrs.get("failed_trial") is not None]
    assert len(retried) == len(failed)
    drawn = [tuple(trial.params.values()) for trial in ended]
    assert len(set(drawn)) == len(drawn)


def test_a_worker_that_dies_before_its_first_heartbeat_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vsrprune.search.study.HEARTBEAT_S", 1)
    monkeypatch.setattr("vsrprune.search.study.GRACE_S", 1)
    study = open_study(f"sqlite:///{tmp_path / 'study.db'}", "s", planned(), {}, worker=0)
    study.ask()  # running now, and nobody will ever tell how it ended
    work(study, planned(trials=2), COST, score)
    states = [trial.state for trial in study.trials]
    assert sum(state in ENDED for state in states) == 2
    assert TrialState.RUNNING not in states


@pytest.mark.long
def test_two_workers_and_a_kill_on_sqlite(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    check_two_workers_and_a_kill(url)


@pytest.fixture
def postgres() -> Iterator[str]:
    """A PostgreSQL server of its own, on a socket in a temporary folder."""
    pytest.importorskip("psycopg2")
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin")) if Path("/usr/lib/postgresql").is_dir() else []
    if not binaries:
        pytest.skip("no PostgreSQL is installed (apt-get install postgresql)")
    # Not below pytest's own folders, which another pytest of this user closes to everyone else when it starts.
    folder = Path(tempfile.mkdtemp(prefix="vsrprune-postgres-", dir="/tmp"))
    bin_folder, data, sockets = binaries[-1], folder / "data", folder / "sockets"
    sockets.mkdir()
    as_user = []
    if os.getuid() == 0:  # the server refuses to run as root
        as_user = ["runuser", "-u", "postgres", "--"]
        subprocess.run(["chown", "-R", "postgres", str(folder)], check=True)
    ctl = [*as_user, str(bin_folder / "pg_ctl"), "-D", str(data), "-w", "-t", "60"]
    subprocess.run([*as_user, str(bin_folder / "initdb"), "-D", str(data), "-A", "trust", "-U", "vsr"], check=True)
    options = f"-c listen_addresses='' -c unix_socket_directories='{sockets}'"
    subprocess.run([*ctl, "-o", options, "-l", str(folder / "log"), "start"], check=True)
    try:
        yield f"postgresql+psycopg2://vsr@/postgres?host={sockets}"
    finally:
        subprocess.run([*ctl, "-m", "immediate", "stop"], check=True)
        shutil.rmtree(folder)


@pytest.mark.long
def test_two_workers_and_a_kill_on_postgresql(postgres: str) -> None:
    check_two_workers_and_a_kill(postgres)
