from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import simpy

from benchmarks.scale import asked_for, dollars, worker_seconds
from benchmarks.scaling.design import KINDS, POLL_SECONDS, PRESETS, Setting, Stage
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
    # 0.1 s of looking, then 0.3 s of taking, 130 s of training and 0.7 s of publishing under a lease: ten beats of
    # 12 s, and two checkpoints. PUT: lease, beats, checkpoints, publishing. GET: manifest twice, pointer.
    assert simulation.env.now == pytest.approx(0.1 + 0.3 + 130 + 0.7)
    assert requests(simulation.ledger) == {"PUT": 1 + 10 + 2 * 3 + 6, "GET": 1 + 2, "DELETE": 1}


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
    # Published at 41.1 s. Five looks see another's lease, at 20, 25, 30, 35 and 40 s; that at 45 s sees the manifest.
    assert both.env.now == pytest.approx(45 + 0.1 + 0.3)
    more = {kind: both.ledger.total(kind) - alone.ledger.total(kind) for kind in KINDS}
    assert more == {"GET": 5 * 2 + 1 + 3, "PUT": 5, "HEAD": 5, "DELETE": 5, "LIST": 0}


def test_the_lease_of_a_vanished_worker_is_taken_a_minute_after_its_last_beat() -> None:
    simulation = Simulation(SETTING)
    first = simulation.env.process(wants(simulation))
    simulation.env.process(wants(simulation, after=101))
    simulation.env.run(until=100)
    first.interrupt()
    simulation.env.run()
    # Taken at 0.1 s, so the last of eight beats was at 96.1 and the lease ends at 156.1; training began at 0.4, and a
    # checkpoint was sent at 60.4. The second worker's poll at 101 + 12 * 5 = 161 takes the lease and goes on there.
    taken = 161 + 0.1
    assert simulation.tally.redone == pytest.approx(100 - 60.4)
    assert simulation.tally.lost == [pytest.approx(100 - 60.4 + (taken - 101) + 10)]
    assert simulation.env.now == pytest.approx(taken + 0.3 + 0.2 + 70 + 0.7)
    # Eight and five beats, a checkpoint each; thirteen looks at the other's lease; a checkpoint's two files.
    assert requests(simulation.ledger) == {
        "PUT": (1 + 8 + 3) + 13 + (1 + 5 + 3 + 6),
        "GET": (1 + 2) + 2 * 13 + (2 + 2),
        "HEAD": 13,
        "DELETE": 13 + 1,
    }


def test_one_worker_takes_the_sum_of_all_stages_and_requests() -> None:
    setting = replace(SMALL, workers=1, jobs=20)
    distinct = {key for job in range(20) for key in setting.keys(job)}
    stages = [setting.stages[name] for name, _, _ in distinct]
    # One look, three requests of taking and seven of publishing; nothing is fetched, since the worker made all of it.
    making = sum(stage.seconds + 11 * 0.1 + stage.megabytes / 80 for stage in stages)
    results = 8 * 0.1 + (1 + 0.1) / 10
    looked_up = 10 * 0.4e-6  # nothing runs when the parent looks
    tally, _ = simulate(setting)
    assert tally.makespan == pytest.approx(making + 20 * (0.013 + 10 + results + looked_up), rel=1e-9)
    assert tally.work == pytest.approx(sum(stage.seconds for stage in stages))


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
    mirroring = 15 + setting.takes({"PUT": 3}, 3)  # more than any stage that is not mirrored takes
    waiting = setting.lease_seconds + POLL_SECONDS + 2 * setting.request_seconds
    assert len(tally.lost) > 3
    assert max(tally.lost) <= mirroring + waiting + setting.start_seconds
    assert tally.vanished >= len(tally.lost)


def test_the_same_seed_gives_the_same_sweep() -> None:
    setting = replace(SMALL, failures=2000, spread=10)
    (first, asked), (again, asked_again), (other, _) = (simulate(replace(setting, seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert requests(asked) == requests(asked_again)
    assert first.makespan != other.makespan


@pytest.mark.parametrize("look_ups", ["each", "once"])
def test_the_parent_pays_for_what_it_looks_up(look_ups: str) -> None:
    # Two jobs that share nothing, and two workers: each job is looked at once; the second while one runs.
    setting = Setting(2, 2, 2, failures=0, look_up_microseconds=1000, look_ups=look_ups, stages=PRESETS["small"])
    tally, _ = simulate(setting)
    assert tally.looking_up == pytest.approx((10 + (20 if look_ups == "each" else 10)) * 1e-3)


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
    assert cost["requests"] == pytest.approx(2 * 5.0 + 2 * 0.4)
    assert cost["results to the parent"] == pytest.approx(1.1 / 1000 * 0.09)


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
