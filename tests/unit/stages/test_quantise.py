"""What int8 costs over time, and which convolutions stay in 32 bits; by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from tiny_job import tiny_config
from torch import Tensor

from vsrprune.config.composing import with_knobs
from vsrprune.data.clips import ClipSet, make_clip
from vsrprune.errors import UserError
from vsrprune.jobs.planning import plan_job
from vsrprune.networks.fast.frozen import Carried
from vsrprune.stages import clips
from vsrprune.stages.clips import job_clips
from vsrprune.stages.quantise.drift import Drift
from vsrprune.stages.quantise.sensitivity import fewest, most_sensitive

ONE = torch.ones(1, 2, 3, 3)


def summed(frame_NCHW: Tensor, before: Carried) -> Tensor:
    """A state that adds up the frames."""
    return frame_NCHW + (0 if before is None else before.state_NCHW)


def summed_with_error(frame_NCHW: Tensor, before: Carried) -> Tensor:
    return summed(frame_NCHW, before) + 0.5


def forgetting(frame_NCHW: Tensor, before: Carried) -> Tensor:
    return frame_NCHW + 0.5


@pytest.mark.parametrize("goes_back", [False, True])
def test_an_error_that_every_step_makes_adds_up_in_a_state_that_adds_up(goes_back: bool) -> None:
    drift = Drift(summed, summed_with_error, goes_back)
    drift.add([ONE, ONE, ONE, ONE])
    # After n steps the state is n, of which n/2 is error: 1/2 made in the last step and (n-1)/2 handed on.
    steps = (4, 3, 2, 1) if goes_back else (1, 2, 3, 4)
    error = drift.error()
    assert error.total == pytest.approx([0.5] * 4)
    assert error.made_here == pytest.approx([0.5 / n for n in steps])
    assert error.propagated == pytest.approx([0.5 * (n - 1) / n for n in steps])


def test_an_error_is_not_handed_on_by_a_step_that_reads_no_state() -> None:
    drift = Drift(lambda frame, before: frame, forgetting, goes_back=False)
    drift.add([ONE, 2 * ONE])
    drift.add([ONE, 2 * ONE, 4 * ONE])
    error = drift.error()
    assert error.total == error.made_here == pytest.approx([0.5, 0.25, 0.125])
    assert error.propagated == [0, 0, 0]


def test_the_fewest_that_keep_the_loss_small_stay_and_all_where_none_do() -> None:
    worth = {"a": 0.1, "b": 0.4, "c": 0.2, "d": 0.4}
    order = most_sensitive(worth)
    assert order == ["b", "d", "c", "a"]
    asked = []

    def loss(kept: Sequence[str]) -> float:
        asked.append(len(kept))
        return 1.1 - sum(worth[item] for item in kept)

    for largest, expected in ((2.0, []), (0.75, ["b"]), (0.35, ["b", "d"]), (0.0, [*order]), (-1.0, [*order])):
        kept, left = fewest(order, loss, largest)
        assert kept == expected
        assert left == pytest.approx(1.1 - sum(worth[item] for item in expected), abs=1e-9)
    assert max(asked.count(number) for number in range(5)) <= 6


def test_clips_that_are_smaller_than_exported_graphs_serve_are_refused_when_they_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clip, _ = make_clip("walk", torch.zeros(5, 3, 160, 224, dtype=torch.uint8), 4)
    monkeypatch.setattr(clips, "demo_clips", lambda *how: ClipSet([clip], [clip]))
    # Seven levels of a flow pyramid ask for 65 pixels.
    config = with_knobs(tiny_config(), {"model.flow_levels": 7})
    job_clips(plan_job(config), lambda text: None)
    with pytest.raises(UserError, match=r"^quantise=int8: the input of clip .* is 56x40, .* serve sides of 65 pixels"):
        job_clips(plan_job(with_knobs(config, {"quantise.name": "int8"})), lambda text: None)
