"""Which plans get full runs, and the rows of search.json, by hand."""

from __future__ import annotations

import json

from vsrprune.search.finals import front_plans, winner_plans
from vsrprune.search.rows import FinalRow, ReferenceRow, TrialRow


def trial(number: int, share: float) -> TrialRow:
    return TrialRow(number, "complete", {"a": 0.5}, {"a": 2}, share, [30.0, 31.0], 1.5)


def reference(name: str, share: float) -> ReferenceRow:
    return ReferenceRow(name, share, {"a": 3}, share, [29.0, 30.0])


def test_a_winner_runs_beside_every_reference() -> None:
    winner, rules = trial(7, 0.5), [reference("global", 0.5), reference("uniform", 0.5)]
    assert winner_plans(winner, rules) == {"winner": winner, "global": rules[0], "uniform": rules[1]}


def test_a_front_runs_at_its_ends_and_middle_beside_the_nearest_global_plans() -> None:
    front = [trial(number, share) for number, share in enumerate((0.3, 0.4, 0.52, 0.7, 0.9))]
    rules = [reference(name, share) for share in (0.3, 0.5, 0.9) for name in ("global", "uniform")]
    plans = front_plans(front, rules)
    assert list(plans) == ["front-00", "global-0.30", "front-02", "global-0.50", "front-04", "global-0.90"]
    assert [plan.share for plan in plans.values()] == [0.3, 0.3, 0.52, 0.5, 0.9, 0.9]


def test_a_front_of_one_point_runs_once() -> None:
    assert list(front_plans([trial(0, 0.42)], [reference("global", 0.5)])) == ["front-00", "global-0.50"]


def test_one_global_plan_that_is_nearest_to_two_points_runs_once() -> None:
    plans = front_plans([trial(0, 0.4), trial(1, 0.45)], [reference("global", 0.5)])
    assert list(plans) == ["front-00", "global-0.50", "front-01"]


def test_rows_stand_in_json_as_the_figures_read_them() -> None:
    rows = [trial(3, 0.5), reference("global", 0.6), FinalRow("winner", 100, 0.5, 31.0, 30.5, "finals/winner,seed=100")]
    assert [json.loads(json.dumps(row.to_json())) for row in rows] == [
        {
            "number": 3,
            "state": "complete",
            "params": {"a": 0.5},
            "counts": {"a": 2},
            "share": 0.5,
            "psnr": [30.0, 31.0],
            "seconds": 1.5,
        },
        {"name": "global", "budget": 0.6, "counts": {"a": 3}, "share": 0.6, "psnr": [29.0, 30.0]},
        {
            "name": "winner",
            "seed": 100,
            "share": 0.5,
            "scoring_psnr": 31.0,
            "psnr": 30.5,
            "folder": "finals/winner,seed=100",
        },
    ]
