"""target=realtime, and the knobs of the command line that stand for others."""

from __future__ import annotations

from typing import Any

import pytest

from vsrprune.config.agreement import validate
from vsrprune.config.composing import configured, schema
from vsrprune.config.job import Config
from vsrprune.errors import UserError

L1 = {"method": {"name": "l1", "sparsify": False}, "rsc": False}


def composed(**given: Any) -> Config:
    values = {name: value for name, value in schema(Config).items() if name != "model"}
    return configured(Config, {**values, **given})


def test_real_time_is_a_budget_of_milliseconds_on_frames_of_a_size() -> None:
    config = composed(target="realtime", fps=25, size=[90, 160])
    validate(config)
    assert (config.target, config.target_ms, config.evaluate.latency_size) == ("realtime", 40.0, [90, 160])
    assert (config.round_to, config.score) == ("auto", "taylor")
    assert not {"fps", "size"} & set(config.knobs())


def test_what_is_given_stays() -> None:
    config = composed(target="realtime", fps=30, score="fisher", round_to="auto")
    assert (config.score, config.evaluate.latency_size) == ("fisher", [180, 320])
    validate(config)
    assert composed(target="realtime", target_ms=20.0).target_ms == 20.0


def test_a_method_that_is_called_by_its_score_keeps_it() -> None:
    with pytest.raises(UserError, match=r"score=l1 means nothing when it is added up over layers"):
        validate(composed(target="realtime", fps=25, **L1))


def test_another_target_implies_nothing() -> None:
    config = composed(target="macs")
    assert (config.round_to, config.score, config.target_ms) == (1, "l1", 0.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"target": "realtime"}, "target=realtime needs the frames per second that are to be reached: add fps=25, say"),
        ({"fps": 25.0}, "fps=25.0 is given, but target=units does not read it; add target=realtime"),
        ({"size": [90, 160], "target": "macs"}, "size=[90, 160] is given, but target=macs does not read it; add"
                                                " target=realtime"),
        ({"target": "realtime", "fps": 25, "target_ms": 33.0}, "fps=25 and target_ms=33 both say how fast; give one of"
                                                               " them"),
        ({"target": "realtime", "fps": 0}, "fps must be"),
        ({"target": "realtime", "fps": "fast"}, "fps must be"),
        ({"target": "realtime", "fps": 25, "size": [180]}, "size must be"),
        ({"target": "realtime", "fps": 25, "size": 180}, "size must be"),
        ({"target": "realtime", "fps": 25, "round_to": 8}, "target=realtime needs times of this device: add"
                                                           " round_to=auto"),
        ({"target": "realtime", "fps": 25, "score": "gate"}, "score=gate means nothing when it is added up"),
    ],
)  # fmt: skip
def test_wrong_requests_are_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        validate(composed(**given))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
