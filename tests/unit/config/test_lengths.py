"""With a budget every method trains equally long after pretraining, whatever its stages are."""

from __future__ import annotations

from typing import Any

import pytest

from vsrprune.config.agreement import validate
from vsrprune.config.composing import with_knobs
from vsrprune.config.job import Config
from vsrprune.config.lengths import Lengths
from vsrprune.errors import UserError
from vsrprune.methods.table import METHODS
from vsrprune.stages.graph import RECIPES, plan_stages
from vsrprune.stages.recipe import Facts

DATA = Facts(model={}, train="train clips", val="held-out clips")
# Sparsify grows for 5 steps and holds for 2.
SHORT = {
    "schedule.pretrain.steps": 50,
    "schedule.align.steps": 11,
    "schedule.sparsify.growth": 0.02,
    "schedule.sparsify.hold_steps": 2,
    "schedule.finetune.steps": 30,
}


def changed(**knobs: Any) -> Config:
    return with_knobs(Config(), {**SHORT, **{name.replace("__", "."): value for name, value in knobs.items()}})


def refusal(config: Config) -> str:
    with pytest.raises(UserError) as caught:
        validate(config)
    return str(caught.value)


@pytest.mark.parametrize(
    ("knobs", "expected"),
    [
        ({}, Lengths(align=0, sparsify=7, finetune=30, scratch=87)),
        ({"rounds": 3}, Lengths(align=0, sparsify=21, finetune=30, scratch=87)),
        ({"schedule__scratch_steps": 40}, Lengths(align=0, sparsify=7, finetune=30, scratch=40)),
        ({"schedule__budget": 100}, Lengths(align=0, sparsify=7, finetune=93, scratch=150)),
        ({"schedule__budget": 100, "rounds": 3}, Lengths(align=0, sparsify=21, finetune=79, scratch=150)),
        ({"schedule__budget": 100, "method__align": True}, Lengths(align=11, sparsify=7, finetune=82, scratch=150)),
        ({"schedule__budget": 100, "method__sparsify": False}, Lengths(align=0, sparsify=0, finetune=100, scratch=150)),
    ],
)
def test_lengths_by_hand(knobs: dict[str, Any], expected: Lengths) -> None:
    assert changed(**knobs).lengths == expected


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("sparsify", [False, True])
def test_all_trainings_after_pretraining_together_have_the_steps_of_the_budget(
    name: str, rounds: int, align: bool, sparsify: bool
) -> None:
    scratch = METHODS[name].start == "scratch"
    config = changed(
        method__name=name,
        method__align=align,
        method__sparsify=sparsify,
        rounds=rounds,
        rsc=False,
        target="macs",
        tf_weight=0.0,
        scope="local" if scratch else "global",
        schedule__budget=100,
    )
    try:
        validate(config)
    except UserError:
        return  # what a method cannot be asked for
    # Counted from what the stages themselves are told.
    counted = sum(
        stage.settings[steps]
        for stage in plan_stages(config, DATA)
        for steps in RECIPES[stage.stage].steps
        if steps in stage.settings and stage.stage not in ("flow", "pretrain")
    )
    assert counted == (100 + 50 if scratch else 100)


def test_every_method_has_a_form_with_a_budget() -> None:
    for name, method in METHODS.items():
        cuts = method.plan == "ranked"
        needed = {"rsc": False, "target": "macs", "tf_weight": 0.0, "method__sparsify": cuts}
        scope = "local" if method.start == "scratch" else "global"
        validate(changed(method__name=name, scope=scope, schedule__budget=8, **needed))


def test_a_budget_that_the_stages_before_fine_tuning_use_up_is_refused_with_the_numbers() -> None:
    validate(changed(schedule__budget=8))
    assert refusal(changed(schedule__budget=7)) == (
        "schedule.budget=7 leaves no step for fine-tuning: with method=ssl, sparsify takes 7; use at least"
        " schedule.budget=8, or a shorter schedule.align or schedule.sparsify"
    )
    assert refusal(changed(schedule__budget=20, rounds=2, method__align=True)) == (
        "schedule.budget=20 leaves no step for fine-tuning: with method=ssl, align takes 11 and sparsify takes 14 in 2"
        " rounds; use at least schedule.budget=26, or a shorter schedule.align or schedule.sparsify"
    )
    validate(changed(schedule__budget=26, rounds=2, method__align=True))


def test_a_network_from_scratch_has_one_length() -> None:
    knobs = {"method__name": "lite", "rsc": False, "scope": "local", "target": "macs", "method__sparsify": False}
    validate(changed(**knobs, schedule__budget=7))
    assert refusal(changed(**knobs, schedule__budget=7, schedule__scratch_steps=40)) == (
        "schedule.scratch_steps=40 and schedule.budget=7 both say how long method=lite trains; give one of them"
    )


def finetune_key(**knobs: Any) -> str:
    return next(stage.key for stage in plan_stages(changed(**knobs), DATA) if stage.stage == "finetune")


def test_two_spellings_of_the_same_length_share_their_fine_tuning() -> None:
    assert finetune_key(schedule__budget=37) == finetune_key()
    assert finetune_key(schedule__budget=37) == finetune_key(schedule__budget=37, schedule__finetune__steps=5)
    assert finetune_key(schedule__budget=38) == finetune_key(schedule__finetune__steps=31)
    assert finetune_key(schedule__budget=38) != finetune_key()
