from __future__ import annotations

from typing import Any

import pytest

from vsrprune.errors import UserError
from vsrprune.search.config import SearchJobConfig, validate_search


def configured(**changes: Any) -> SearchJobConfig:
    config = SearchJobConfig(target="macs")
    for name, value in changes.items():
        owner = config.search if hasattr(config.search, name) and name not in ("seed",) else config
        assert hasattr(owner, name)
        setattr(owner, name, value)
    return config


@pytest.mark.parametrize(
    "changes",
    [{}, {"name": "nsga2", "objective": "front"}, {"objective": "front", "cost": "latency"}, {"project": False}],
    ids=str,
)
def test_these_can_be_searched(changes: dict[str, Any]) -> None:
    validate_search(configured(**changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "grid"}, ("search", "'grid'", "tpe, cmaes, gp, random, nsga2")),
        ({"name": "cmaes", "objective": "front"}, ("search=cmaes", "front", "nsga2")),
        ({"group": "blocks"}, ("search.group", "'blocks'", "layer, block, kind, part")),
        ({"pruner": "asha"}, ("search.pruner", "'asha'", "median, hyperband, none")),
        ({"cost": "params"}, ("search.cost", "'params'", "macs, latency")),
        ({"rungs": [10, 5]}, ("search.rungs", "ascend", "[10, 5]")),
        ({"rungs": []}, ("search.rungs", "[]")),
        ({"low": 0.9, "high": 0.3}, ("search.low", "0.9", "0.3")),
        ({"budgets": [0.9, 0.3]}, ("search.budgets", "[0.9, 0.3]")),
        ({"scope": "local"}, ("scope=local",)),
        ({"target": "units"}, ("target=macs", "target=units")),
        ({"round_to": 8}, ("round_to=1", "round_to=8")),
        ({"final_seeds": []}, ("search.final_seeds", "at least one")),
        ({"final_seeds": [3, 3]}, ("search.final_seeds", "different", "[3, 3]")),
        ({"final_seeds": [0]}, ("search.final_seeds", "fresh", "seed=0")),
        ({"trials": 0}, ("search.trials", "at least 1", "got 0")),
        ({"workers": 0}, ("search.workers", "at least 1", "got 0")),
        ({"radius": 0.0}, ("search.radius", "got 0")),
        ({"objective": "front", "refine": 5}, ("search.refine", "front")),
        ({"cost": "latency"}, ("search.cost=latency", "front")),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_wrong_values_name_what_is_allowed(changes: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as caught:
        validate_search(configured(**changes))
    for word in words:
        assert word in str(caught.value)
