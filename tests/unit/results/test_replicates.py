"""Dense networks count, and neither seeds nor runs nor clips: by hand, and on simulated data without any difference."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vsrprune.channels.plan import PrunePlan
from vsrprune.results.intervals import interval
from vsrprune.results.replicates import (
    behind,
    caption,
    compared,
    means_by_replicate,
    over_networks,
    psnr_difference,
    psnr_over_networks,
    replicate_names,
)


@dataclass
class Job:
    """As much of a finished job as statistics read; a network and a run are told by their stages' keys."""

    network: str
    run: str
    psnr: float
    replicate: int = 0
    pretrain_seed: int = 0
    kept: int = 1
    result: Any = field(init=False)

    def __post_init__(self) -> None:
        self.result = SimpleNamespace(
            knobs={"replicate": self.replicate, "pretrain_seed": self.pretrain_seed},
            stages={"pretrain": self.network, "evaluate": self.run},
            quality={"finetuned": SimpleNamespace(psnr=self.psnr)},
            plan=PrunePlan("rsc", {"fusion": 4}, {"fusion": tuple(range(self.kept))}),
        )


def test_runs_of_a_network_are_averaged_first_by_hand() -> None:
    """Means 30.1 and 31: mean 30.55, deviation 0.9 / sqrt 2, half width 12.7062 * 0.45. Within: (0.01 + 0.01) / 1."""
    found = psnr_over_networks([Job("a", "1", 30.0), Job("a", "2", 30.2), Job("b", "3", 31.0, kept=2)])
    assert (found.networks, found.plans, found.runs) == (2, 2, 3)
    assert found.mean == pytest.approx(30.55)
    assert found.over_networks.half_width == pytest.approx(12.7062 * 0.45, rel=1e-5)
    assert found.order_deviation == pytest.approx(math.sqrt(0.02))
    assert found.text() == "30.550 ± 5.718"


def test_one_network_has_a_spread_of_data_orders_and_no_interval() -> None:
    found = psnr_over_networks([Job("a", str(number), 30 + number / 10) for number in range(3)])
    assert math.isnan(found.over_networks.half_width)
    assert found.text() == "30.100 (sd 0.100)"
    assert behind([found]) == "one dense network, 1 plan and 3 runs"
    assert "no interval and no verdict over dense networks: sd is the spread over data orders alone" in caption([found])
    assert psnr_over_networks([Job("a", "1", 30.0)]).text() == "30.000"


def test_the_same_run_found_twice_counts_once() -> None:
    twice = [Job("a", "1", 30.0), Job("a", "1", 30.0, pretrain_seed=1), Job("a", "2", 30.4)]
    found = psnr_over_networks(twice)
    assert (found.networks, found.runs, found.mean) == (1, 2, pytest.approx(30.2))


def test_what_stands_behind_a_table_is_told_from_the_least_to_the_most() -> None:
    one, two = over_networks([[30.0, 30.1]]), over_networks([[30.0], [30.1]], plans=2)
    assert behind([one, two]) == "1 to 2 dense networks, 1 to 2 plans and 2 runs"
    assert behind([two]) == "2 dense networks, 2 plans and 2 runs"
    assert "sd: of one dense network" in caption([one, two])
    assert "sd" not in caption([two])


def test_settings_are_compared_on_the_networks_that_they_share() -> None:
    """Network c is the reference's alone; on a and b the differences are 0.3 and 0.1."""
    jobs = [Job("a", "1", 30.2), Job("a", "2", 30.4), Job("b", "3", 31.1, replicate=1)]
    reference = [Job("a", "4", 30.0), Job("b", "5", 31.0, replicate=1), Job("c", "6", 99.0, replicate=2)]
    found = psnr_difference(jobs, reference)
    assert found is not None
    assert (found.count, found.mean) == (2, pytest.approx(0.2))
    assert found.half_width == pytest.approx(12.7062 * 0.1, rel=1e-5)


def test_settings_that_train_other_dense_networks_are_compared_by_replicate() -> None:
    """Such as two architectures: no network is common, and each replicate is a pair."""
    jobs = [Job(f"wide{number}", f"w{number}", 30.5 + number, replicate=number) for number in range(3)]
    reference = [Job(f"thin{number}", f"t{number}", 30.0 + number, replicate=number) for number in range(2)]
    found = psnr_difference(jobs, reference)
    assert found is not None
    assert (found.count, found.mean) == (2, pytest.approx(0.5))
    assert psnr_difference(jobs[2:], reference) is None
    assert compared([None])[0].verdict == "no replicate in common"


def test_a_network_from_a_file_is_one_replicate_under_any_seed() -> None:
    jobs = [Job("file", str(number), 30.0 + number, replicate=number) for number in range(3)]
    assert set(replicate_names(jobs).values()) == {(0, 0)}
    trained = [Job(f"n{number}", f"t{number}", 30.0, replicate=number) for number in range(3)]
    names = replicate_names([*jobs, *trained])
    assert means_by_replicate(jobs, names) == {(0, 0): 31.0}
    found = psnr_difference(jobs, trained)
    assert found is not None
    assert (found.count, found.mean) == (1, 1.0)
    (words,) = compared([found])
    assert (words.verdict, words.text()) == ("one dense network", "+1.000")


def test_verdicts_of_a_table_are_corrected_by_each_other() -> None:
    jobs = [Job(str(number), f"j{number}", 30.1 + shift, number) for number, shift in enumerate((-0.03, 0.0, 0.03))]
    reference = [Job(str(number), f"r{number}", 30.0, number) for number in range(3)]
    difference = psnr_difference(jobs, reference)
    assert [words.verdict for words in compared([difference])] == ["better"]
    assert [words.verdict for words in compared([difference, difference])] == ["within noise", "within noise"]


DRAWS, ROWS, NETWORKS, RUNS, CLIPS = 3000, 8, 4, 3, 8
SHARE = 0.05


def null_tables(rows: int) -> np.ndarray:
    """Differences without any true one, by table, row, dense network and run, each a mean over clips.

    What a setting makes of a network is luck that all its runs and clips share; runs and clips add noise of their own.
    """
    draw = np.random.default_rng(20)
    shared = draw.normal(0, 0.05, (DRAWS, rows, NETWORKS, 1, 1))
    noise = draw.normal(0, 0.03, (DRAWS, rows, NETWORKS, RUNS, CLIPS))
    runs: np.ndarray = (shared + noise).mean(axis=-1)
    return runs


def test_tests_over_networks_that_share_their_luck_are_wrong_in_five_of_a_hundred() -> None:
    values = null_tables(rows=1)[:, 0]
    wrong = np.mean([over_networks(sample).over_networks.p_value < SHARE for sample in values])
    # Three deviations of a share of 5 % among so many draws.
    assert abs(wrong - SHARE) < 3 * math.sqrt(SHARE * (1 - SHARE) / DRAWS)
    pooled = np.mean([interval(sample.ravel()).p_value < SHARE for sample in values])
    assert pooled > 3 * SHARE  # what counting runs as independent would do


def test_some_row_of_a_table_is_called_better_or_worse_in_at_most_five_of_a_hundred() -> None:
    """Uncorrected it is nearly a third of tables of eight rows."""
    tables = [[over_networks(row).over_networks for row in table] for table in null_tables(ROWS)]
    called = [any(words.verdict in ("better", "worse") for words in compared(table)) for table in tables]
    assert np.mean(called) < SHARE + 3 * math.sqrt(SHARE * (1 - SHARE) / DRAWS)
    alone = [any(row.p_value < SHARE for row in table) for table in tables]
    assert np.mean(alone) > 0.25
