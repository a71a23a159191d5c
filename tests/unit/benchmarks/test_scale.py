from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import simpy

from benchmarks.scale import asked_for, dollars, worker_seconds
from benchmarks.scaling.design import AGE, KINDS, LOOK, MIRROR, POLL_SECONDS, PRESETS, Setting, Stage, add
from benchmarks.scaling.simulation import Ledger, Simulation, simulate

# Bytes take no time, so that requests alone do: 0.1 s each.
TRAINING = Stage(130, 1, 0.0, trains=True)
SETTING = Setting(jobs=1, workers=1, failures=0, mirror_minutes=1, stages={"finetune": TRAINING})
SMALL = Setting(jobs=60, workers=8, failures=0, mirror_minutes=0.25, stages=PRESETS["small"])
KEY = ("finetune", 0, 0)


def requests(ledger: Ledger) -> dict[str, int]:
    return {kind: ledger.total(kind) for kind in KINDS if ledger.total(kind)}


def wants(simulation: Simulation, after: float = 0.0) -> Iterator[simpy.Event]:
    yield simulation.env.timeout(after)
    try:
        yield from simulation.want(KEY)
    except simpy.Interrupt:
        return


def test_a_stage_that_is_made_asks_the_store_what_the_protocol_says() -> None:
    simulation = Simulation(SETTING)
    simulation.env.process(wants(simulation))
    simulation.env.run()
    # 0.4 s of looking, then 0.3 s of taking, 130 s of training and 0.7 s of publishing under a lease: ten beats of
    # 12 s, and two checkpoints. PUT: lease, beats, checkpoints, publishing. GET: three manifests and no lease; then
    # another manifest, and no list of mirrored files.
    assert simulation.env.now == pytest.approx(0.4 + 0.3 + 130 + 0.7)
    assert requests(simulation.ledger) == {"PUT": 1 + 10 + 2 * 5 + 6, "GET": 4 + 2, "LIST": 1, "DELETE": 2 * 3 + 1}


def test_large_files_go_in_parts_of_five_mebibytes() -> None:
    simulation = Simulation(replace(SETTING, rate=math.inf, stages={"finetune": replace(TRAINING, megabytes=20)}))
    simulation.env.process(wants(simulation))
    simulation.env.run()
    # Four parts of the artifact, and twelve of each checkpoint of 60 MB; parts go side by side.
    assert simulation.ledger.total("PART") == 4 + 2 * 12
    assert simulation.ledger.total("PUT") == (1 + 10 + 2 * 5 + 6) + 1 + 2
    assert simulation.env.now == pytest.approx(0.4 + 0.3 + 130 + 0.7 + 0.1 + 0.1)


def test_a_stage_that_is_there_is_a_manifest_and_its_files() -> None:
    simulation = Simulation(SETTING)
    simulation.artifacts[KEY].published = True
    simulation.env.process(wants(simulation))
    simulation.env.run()
    assert requests(simulation.ledger) == {"GET": 1 + 3}


def test_who_waits_for_another_polls_every_five_seconds() -> None:
    stages = {"finetune": Stage(40, 1, 0.0)}
    alone, both = (Simulation(replace(SETTING, stages=stages)) for _ in range(2))
    for simulation in (alone, both):
        simulation.env.process(wants(simulation))
    both.env.process(wants(both, after=20))
    for simulation in (alone, both):
        simulation.env.run()
    # Published at 41.4 s. Another's lease is seen at 20.3 s, and by looks at 25.7, 31.2 and 36.7 s: 5 s after the five
    # requests of the one before. The look at 42.2 s sees the manifest.
    assert both.env.now == pytest.approx(42.2 + 0.1 + 0.3)
    more = {kind: both.ledger.total(kind) - alone.ledger.total(kind) for kind in KINDS}
    assert more == {"GET": (3 + 1) + 3 * 2 + 1 + 3, "PUT": 4, "HEAD": 4, "DELETE": 4, "LIST": 0, "PART": 0}


def test_the_lease_of_a_vanished_worker_is_taken_a_minute_after_its_last_beat() -> None:
    simulation = Simulation(SETTING)
    first = simulation.env.process(wants(simulation))
    simulation.env.process(wants(simulation, after=101))
    simulation.env.run(until=100)
    first.interrupt()
    simulation.env.run()
    # Taken at 0.4 s, so the last of eight beats was at 96.4 and the lease ends at 156.4; training began at 0.7, and a
    # checkpoint was sent at 60.7. The second worker sees the lease by 101.7; its eleventh look, at 106.7 + 10 * 5.5 =
    # 161.7, takes the lease half a second later, and it goes on there.
    taken = 161.7 + 0.1 + 0.4
    assert simulation.tally.redone == pytest.approx(100 - 60.7)
    assert simulation.tally.lost == [pytest.approx(100 - 60.7 + (taken - 101) + 10)]
    assert simulation.env.now == pytest.approx(taken + 0.3 + 0.7 + 70 + 0.7)
    # Eight and five beats, a checkpoint each; twelve ages of the other's lease; five files of a checkpoint.
    assert requests(simulation.ledger) == {
        "PUT": (1 + 8 + 5) + 12 + (1 + 2 + 5 + 5 + 6),
        "GET": (4 + 2) + (3 + 11 + 12) + (2 + 5),
        "HEAD": 12,
        "LIST": 1,
        "DELETE": 12 + 3 + 3 + 1,
    }


def test_one_worker_takes_the_sum_of_all_stages_and_files() -> None:
    setting = replace(SMALL, workers=1, jobs=20, request_seconds=0)
    distinct = {key for job in range(20) for key in setting.keys(job)}
    # Nothing is fetched, since the worker made all of it, and nothing runs when the parent looks at a job.
    making = sum(setting.stages[name].seconds + setting.stages[name].megabytes / 80 for name, _, _ in distinct)
    tally, _ = simulate(setting)
    assert tally.makespan == pytest.approx(making + 20 * (0.013 + 10 + 0.5 / 10 + 0.005 + 1e-4), abs=0.01)
    assert tally.work == pytest.approx(sum(setting.stages[name].seconds for name, _, _ in distinct))


@pytest.mark.parametrize("failures", [0.0, 2000.0])
def test_each_distinct_stage_is_published_once(failures: float) -> None:
    setting = replace(SMALL, failures=failures, replace_minutes=0.5)
    tally, _ = simulate(setting)
    assert tally.finished == dict.fromkeys((key for job in range(60) for key in setting.keys(job)), 1)
    assert bool(tally.lost) == bool(failures)
    assert tally.makespan > setting.ideal()


@pytest.mark.parametrize("seed", range(3))
def test_a_failure_costs_a_mirror_interval_a_lease_and_a_start_at_most(seed: int) -> None:
    setting = replace(SMALL, failures=2000, replace_minutes=0.5, seed=seed)
    tally, _ = simulate(setting)
    mirroring = 15 + setting.takes(MIRROR, 3)  # more than any stage that is not mirrored takes
    waiting = setting.lease_seconds + POLL_SECONDS + 2 * setting.takes(add(LOOK, AGE))
    assert len(tally.lost) > 3
    assert max(tally.lost) <= mirroring + waiting + setting.start_seconds
    assert tally.vanished >= len(tally.lost)


def test_the_same_seed_gives_the_same_sweep() -> None:
    setting = replace(SMALL, failures=2000, spread=10)
    (first, asked), (again, asked_again), (other, _) = (simulate(replace(setting, seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert requests(asked) == requests(asked_again)
    assert first.makespan != other.makespan


def test_the_parent_pays_for_what_it_looks_up_and_handles() -> None:
    # Two jobs that share nothing, and two workers. It looks at each before it starts; and when the first has ended, at
    # the other, which sends its files then.
    stages = {"finetune": Stage(101, 1, 0)}
    tally, _ = simulate(Setting(2, 2, 2, failures=0, request_seconds=0, look_microseconds=1000, stages=stages))
    assert tally.looking_up == pytest.approx(3e-3)
    assert tally.handling == pytest.approx(2 * 0.005)


def test_a_job_lists_its_stages_and_looks_whether_it_is_to_stop() -> None:
    setting = Setting(1, 1, 1, failures=0, request_seconds=0, stages={"finetune": Stage(100, 1, 0)})
    _, ledger = simulate(setting)
    # Looks at 15, 30, 45, 60, 75 and 90 s of the job. The parent lists every 2 s from 0 to 110, and then sees it end;
    # the job lists once, and its stage sees at the end that nothing was mirrored.
    assert ledger.total("GET") == (4 + 2) + 6
    assert ledger.total("LIST") == 56 + 1 + 1


def test_to_collect_all_jobs_is_to_list_and_fetch_each_distinct_stage() -> None:
    # One job: ten stages of 6.8 MB, each a list, a manifest and three files.
    assert replace(SMALL, jobs=1).collect_seconds() == pytest.approx(10 * 5 * 0.1 + 6.8 / 10)


def test_a_sweep_that_loses_nothing_is_a_chain_and_an_even_share() -> None:
    stages = {"pretrain": Stage(100, 0, 1), "sparsify": Stage(10, 2, 1), "finetune": Stage(7, 1, 1)}
    # Four settings of two replicates: four distinct sparse networks, eight trained ones.
    assert Setting(jobs=8, workers=4, replicates=2, stages=stages).ideal() == 100 + (4 * 10 + 8 * 7) / 4
    assert Setting(jobs=8, workers=40, replicates=2, stages=stages).ideal() == 100 + 10 + 7


def test_requests_and_bytes_cost_what_the_price_list_says() -> None:
    ledger = Ledger()
    for kind in KINDS:
        ledger.note({kind: 1_000_000}, 3.0)
    assert ledger.rates("PUT", "GET").tolist()[:5] == [0, 0, 0, 2_000_000, 0]
    cost = dollars(replace(SMALL, jobs=1), ledger)
    assert cost["requests"] == pytest.approx(3 * 5.0 + 2 * 0.4)
    assert cost["jobs' files to the parent"] == pytest.approx(0.5 / 1000 * 0.09)


def test_the_time_of_all_workers_is_accounted_for() -> None:
    setting = replace(SMALL, failures=100)
    tally, _ = simulate(setting)
    spent = worker_seconds(setting, tally)
    assert sum(spent.values()) == pytest.approx(8 * tally.makespan)
    assert min(spent.values()) >= 0


def test_options_set_presets_and_single_stages(capsys: pytest.CaptureFixture[str]) -> None:
    setting = asked_for(["--preset", "small", "--seconds", "pretrain=30", "--mirror-minutes", "2"])
    assert (setting.stages["pretrain"].seconds, setting.stages["flow"].seconds, setting.mirror_minutes) == (30, 5, 2)
    with pytest.raises(SystemExit):
        asked_for(["--seconds", "pretrian=30"])
    assert "--seconds pretrian=30: it must be STAGE=SECONDS" in capsys.readouterr().err
