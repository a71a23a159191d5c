"""Which knob changes which stage: everything a result depends on, and nothing else."""

import importlib
from dataclasses import fields, replace
from pathlib import Path

import pytest

from vsrprune.config.composing import with_knobs
from vsrprune.config.job import Config
from vsrprune.config.model import ModelConfig
from vsrprune.methods.table import METHODS
from vsrprune.networks.table import FAMILIES
from vsrprune.selection.scores import OF_BATCHES, OF_WEIGHTS
from vsrprune.stages.graph import NAMED, RECIPES, plan_stages
from vsrprune.stages.recipe import Facts
from vsrprune.store.store import content_key

DATA = Facts(model={}, train="train clips", val="held-out clips")
ALL = ["flow", "pretrain", "reference", "score", "select", "sparsify", "prune", "finetune", "evaluate", "measure"]
PRETRAINED = set(ALL) - {"flow"}
TUNED = {"finetune", "evaluate"}
CUT = {"prune", *TUNED}
REGULARISED = {"sparsify", *CUT}
SELECTED = {"select", "measure", *REGULARISED}
SCORED = {"score", *SELECTED}


def configured(**knobs):
    """A configuration with some values set; a dot in a name is written as two underscores."""
    return with_knobs(Config(), {name.replace("__", "."): value for name, value in knobs.items()})


def stages_of(facts=DATA, **knobs):
    config = configured(**knobs)
    return plan_stages(config, replace(facts, model=config.model.identity))


def keys_of(data=DATA, pretrained_hash="", flow_hash="", **knobs):
    facts = replace(data, pretrained=pretrained_hash, flow=flow_hash)
    return {stage.stage: stage.key for stage in stages_of(facts, **knobs)}


def changes(common=None, **knobs):
    """The stages whose keys change when `knobs` are set on top of `common`."""
    before, after = keys_of(**(common or {})), keys_of(**{**(common or {}), **knobs})
    assert before.keys() == after.keys()
    return {stage for stage in before if before[stage] != after[stage]}


def test_the_stages_of_a_whole_job():
    stages = stages_of()
    assert [stage.stage for stage in stages] == ALL
    assert len({stage.key for stage in stages}) == len(ALL)


def test_a_key_is_the_hash_of_the_stage_s_settings():
    for stage in stages_of():
        assert stage.key == content_key(stage.settings)
        assert stage.settings["stage"] == stage.stage
        assert stage.settings["version"] == RECIPES[stage.stage].version


def test_settings_name_the_stage_before():
    settings = {stage.stage: stage.settings for stage in stages_of()}
    keys = keys_of()
    parents = {stage: values["parents"] for stage, values in settings.items()}
    assert parents == {
        "flow": {},
        "pretrain": {"flow": keys["flow"]},
        "reference": {"dense": keys["pretrain"]},
        "score": {"trained": keys["pretrain"]},
        "select": {"scores": keys["score"]},
        "sparsify": {"trained": keys["pretrain"], "selection": keys["select"]},
        "prune": {"trained": keys["sparsify"], "selection": keys["select"]},
        "finetune": {"pruned": keys["prune"], "teacher": keys["pretrain"]},
        "evaluate": {
            "finetuned": keys["finetune"],
            "cut": keys["prune"],
            "dense": keys["pretrain"],
            "reference": keys["reference"],
        },
        "measure": {"selection": keys["select"]},
    }


@pytest.mark.parametrize("stage", ALL)
def test_a_new_version_of_a_stage_changes_it_and_what_follows(monkeypatch, stage):
    before = keys_of()
    monkeypatch.setitem(RECIPES, stage, replace(RECIPES[stage], version=RECIPES[stage].version + 1))
    after = keys_of()
    expected = {
        "flow": set(ALL),
        "pretrain": PRETRAINED,
        "reference": {"reference", "evaluate"},
        "score": SCORED,
        "select": SELECTED,
        "sparsify": REGULARISED,
        "prune": CUT,
        "finetune": TUNED,
        "evaluate": {"evaluate"},
        "measure": {"measure"},
    }
    assert {name for name in before if before[name] != after[name]} == expected[stage]


def test_a_plan_by_times_depends_on_the_device() -> None:
    times = {"round_to": "auto"}
    assert "timing" not in keys_of()
    keys = keys_of(**times)
    select = next(stage for stage in stages_of(**times) if stage.stage == "select")
    assert select.settings["parents"]["times"] == keys["timing"]
    other = keys_of(**times, evaluate__latency_size=[90, 160])
    assert {name for name in keys if keys[name] != other[name]} == {"timing", *SELECTED}
    assert keys_of(**times, ratio=0.3, score="gate", seed=3)["timing"] == keys["timing"]


def test_milliseconds_replace_the_ratio() -> None:
    asked = {"round_to": "auto", "target": "latency", "target_ms": 33.0}
    assert keys_of(**asked, ratio=0.3) == keys_of(**asked, ratio=0.6)
    assert keys_of(**asked)["select"] != keys_of(**{**asked, "target_ms": 40.0})["select"]


# What each knob changes


@pytest.mark.parametrize(
    ("knobs", "stages"),
    [
        ({"rsc": False}, SCORED),
        ({"score": "gate"}, SCORED),
        ({"score": "random"}, SCORED),
        ({"ratio": 0.3}, SELECTED),
        ({"target": "macs"}, SELECTED),
        ({"scope": "local"}, SELECTED),
        ({"order": "max"}, SELECTED),
        ({"min_kept": 2}, SELECTED),
        ({"round_to": 8}, SELECTED),
        ({"seed": 1}, REGULARISED),
        ({"tf_weight": 0.0}, TUNED),
        ({"tf_weight": 0.5}, TUNED),
        ({"method__teacher": "sparsified"}, TUNED),
        ({"method__tf_in_sparsify": True}, REGULARISED),
        ({"pretrain_seed": 1}, set(ALL)),
        ({"replicate": 1}, set(ALL)),
        ({"model__channels": 32}, set(ALL)),
        ({"model__slope": 0.0}, set(ALL)),
        ({"model__bidirectional": False}, set(ALL)),
        ({"schedule__batch": 8}, set(ALL)),
        ({"schedule__patch": 32}, set(ALL)),
        ({"schedule__frames": 7}, set(ALL)),
        ({"trainer__precision": "bf16-mixed"}, set(ALL)),
        ({"trainer__tf32": False}, set(ALL)),
        ({"schedule__flow__steps": 7}, set(ALL)),
        ({"schedule__flow__lr": 0.5}, set(ALL)),
        ({"schedule__flow__shape": "constant"}, set(ALL)),
        ({"schedule__pretrain__steps": 7}, PRETRAINED),
        ({"schedule__pretrain__flow_frozen_steps": 7}, PRETRAINED),
        ({"schedule__pretrain__flow_lr_share": 0.5}, PRETRAINED),
        ({"schedule__sparsify__hold_steps": 7}, REGULARISED),
        ({"schedule__sparsify__gate_lr": 0.5}, REGULARISED),
        ({"schedule__finetune__lr": 0.5}, TUNED),
        ({"schedule__finetune__train_flow": True}, TUNED),
        ({"schedule__finetune__frames": 7}, TUNED),
        ({"schedule__finetune__frames": 5}, set()),  # as many as schedule.frames
        ({"schedule__finetune__truncate": 2}, TUNED),
        ({"data__channel": "rgb"}, {"reference", *CUT}),
        ({"data__crop": 4}, {"reference", *CUT}),
        ({"evaluate__crops": 3}, {"reference", "evaluate"}),
        ({"evaluate__temporal": False}, {"reference", "evaluate"}),
        ({"evaluate__temporal_pairs": 0}, {"reference", "evaluate"}),
        ({"evaluate__protocol": "reds4"}, {"reference", *CUT}),
        ({"evaluate__protocol": "vimeo90k"}, {"reference", *CUT}),
        ({"evaluate__protocol": "vid4"}, set()),  # compares as the defaults do
        ({"evaluate__protocol": "udm10", "data__crop": 8}, {"reference", *CUT}),
        ({"evaluate__latency_size": [90, 160]}, {"measure"}),
        ({"evaluate__latency_frames": 9}, {"measure"}),
        ({"evaluate__latency_repeats": 9}, {"measure"}),
        ({"evaluate__precision": "bf16"}, {"measure"}),
        ({"evaluate__compile": True}, {"measure"}),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_knob_changes_its_stage_and_what_follows(knobs, stages):
    assert changes(**knobs) == stages


@pytest.mark.parametrize(
    "knobs",
    [
        {"trainer__workers": 4},
        {"trainer__checkpoint_frames": True},
        {"trainer__benchmark": False},
        {"trainer__deterministic": True},
        {"trainer__memory_format": "contiguous"},
        {"trainer__name": "other"},
        {"trainer__devices": 2},
        {"trainer__accelerator": "gpu"},
        {"store_dir": "elsewhere"},
        {"runs_dir": "elsewhere"},
        {"dry_run": True},
        {"tracking__to": []},
        {"tracking__project": "other"},
        {"tracking__entity": "other"},
        {"tracking__group": "other"},
        {"launcher__name": "other"},
        {"schedule__name": "other"},
        {"schedule__checkpoint_every": 7},
        {"model__name": "other"},
        {"method__name": "l1"},
        {"data__name": "folder"},
        {"data__path": "elsewhere"},
        {"data__train": ["a"]},
        {"data__split_seed": 3},
    ],
    ids=str,
)
def test_places_names_and_machinery_change_nothing(knobs):
    assert changes(**knobs) == set()


@pytest.mark.parametrize("facts", [{"device": "NVIDIA L4"}, {"host": "other"}], ids=str)
def test_the_machine_changes_nothing_but_the_measured_times(facts):
    assert changes(trainer__threads=2) == {"measure"}
    assert changes(data=replace(DATA, **facts)) == {"measure"}


def test_data_changes_what_reads_it():
    assert changes(data=replace(DATA, train="others")) == set(ALL)
    assert changes(data=replace(DATA, val="others")) == {"reference", *CUT}


# Idle knobs


def test_with_rsc_the_residual_rule_is_idle():
    assert changes(residual="inner") == set()
    assert changes(common={"rsc": False}, residual="inner") == SCORED


def test_a_random_ranking_has_no_order():
    assert changes(common={"score": "random"}, order="max") == set()
    assert changes(common={"score": "gate"}, order="max") == SELECTED


def test_the_seed_is_idle_until_something_is_drawn():
    assert changes(seed=1) == REGULARISED
    assert changes(common={"score": "random"}, seed=1) == SCORED
    assert changes(common={"method__sparsify": False}, seed=1) == TUNED


def test_a_replicate_is_its_seeds_and_nothing_else():
    """Keys hold the seeds that are trained with: a replicate is the job of these seeds, and the first that of none."""
    config = configured(replicate=2, seed=5, pretrain_seed=7)
    assert keys_of(replicate=2, seed=5, pretrain_seed=7) == keys_of(
        seed=config.pruning_seed, pretrain_seed=config.dense_seed
    )
    assert (config.dense_seed, config.pruning_seed) == (2_000_007, 2_000_005)
    assert configured(seed=2**63 - 1, replicate=1).pruning_seed == 999_999
    assert keys_of(replicate=0) == keys_of()
    file = {"pretrained_hash": "some weights"}
    assert changes(common=file, replicate=1) == REGULARISED


def test_replicates_and_seeds_swept_together_are_jobs_of_their_own():
    seeds = [configured(replicate=one, seed=two, pretrain_seed=two) for one in range(4) for two in range(4)]
    for name in ("dense_seed", "pruning_seed"):
        assert len({getattr(config, name) for config in seeds}) == 16


@pytest.mark.parametrize("name", RECIPES)
def test_no_stage_reads_a_seed_past_the_replicate(name):
    assert {"seed", "pretrain_seed", "replicate"}.isdisjoint(RECIPES[name].depends_on)
    module = importlib.import_module(RECIPES[name].work.partition(":")[0])
    folder = Path(module.__file__).parent
    for path in folder.glob("*.py"):
        assert "config.seed" not in path.read_text()
        assert "config.pretrain_seed" not in path.read_text()


def test_given_ratios_make_the_ratio_idle():
    per_layer = {"scope": "per_layer", "ratios": {"fusion": 0.5, "upconv1": 0.25}}
    assert changes(common=per_layer, ratio=0.3) == set()
    assert changes(common=per_layer, ratios={"upconv1": 0.25, "fusion": 0.5}) == set()
    assert changes(common=per_layer, ratios={"fusion": 0.5, "upconv1": 0.3}) == SELECTED
    assert changes(common=per_layer, ratios={"fusion": 0.5}) == SELECTED
    assert changes(common=per_layer, min_kept=2) == SELECTED


def test_a_kept_count_is_not_a_ratio():
    per_layer = {"scope": "per_layer", "ratios": {"fusion": 1}}
    assert changes(common=per_layer, ratios={"fusion": 0.5}) == SELECTED


def test_a_ratio_is_the_same_however_it_was_computed():
    assert changes(common={"ratio": 0.7}, ratio=0.7000000000000001) == set()


def test_a_pretrained_file_makes_pretraining_idle():
    file, trained = {"pretrained_hash": "abc"}, keys_of()
    read = keys_of(**file)
    assert read.keys() == PRETRAINED
    assert not set(read.values()) & set(trained.values())
    assert changes(common=file, pretrained_hash="abd") == PRETRAINED
    assert changes(common=file, pretrain_seed=1) == set()
    assert changes(common=file, schedule__pretrain__steps=7) == set()
    assert changes(common=file, schedule__flow__steps=7) == set()
    assert changes(common=file, model__channels=32) == PRETRAINED
    assert changes(common=file, schedule__batch=8) == REGULARISED
    assert changes(common=file, pretrained="elsewhere.safetensors") == set()


# The flow net


def test_a_pretrained_flow_net_is_where_pretraining_starts():
    file = {"flow_hash": "abc"}
    assert keys_of(**file).keys() == PRETRAINED
    assert keys_of(**file)["pretrain"] != keys_of(schedule__flow__steps=0)["pretrain"]
    assert changes(common=file, flow_hash="abd") == PRETRAINED
    assert changes(common=file, schedule__pretrain__steps=7) == PRETRAINED
    assert changes(common=file, pretrained_flow="elsewhere.pth") == set()
    assert changes(common=file, schedule__flow__steps=7) == set()
    for knob in ("flow_frozen_steps", "flow_lr_share"):
        assert changes(common=file, **{f"schedule__pretrain__{knob}": 1}) == PRETRAINED


def test_a_pretrained_flow_net_is_trained_on_where_that_is_asked_for():
    asked = {"flow_hash": "abc", "schedule__flow__tune_file": True}
    assert list(keys_of(**asked)) == ALL
    assert changes(common=asked, flow_hash="abd") == set(ALL)


def test_without_the_stage_the_rates_of_a_trained_flow_net_are_idle():
    none = {"schedule__flow__steps": 0}
    assert keys_of(**none).keys() == PRETRAINED
    assert changes(common=none, schedule__flow__lr=0.5) == set()
    for knob in ("flow_frozen_steps", "flow_lr_share"):
        assert changes(common=none, **{f"schedule__pretrain__{knob}": 1}) == set()


def test_clips_of_one_frame_teach_no_motion():
    assert "flow" not in keys_of(schedule__frames=1)


def test_a_network_without_a_flow_net_skips_the_stage():
    without = {name for name, family in FAMILIES.items() if name != "own" and not family.arguments().has_flow}
    assert without == {"edsr", "rcan", "edvr", "rrn"}
    for name in without:
        config = replace(Config(), model=ModelConfig(name, name, FAMILIES[name].arguments()))
        assert "flow" not in {stage.stage for stage in plan_stages(config, DATA)}


@pytest.mark.parametrize("method", ["lite", "distill"])
def test_a_network_from_scratch_starts_from_the_same_flow_net(method):
    scratch = {"method__name": method, "tf_weight": 0.0}
    for file in ("", "abc"):
        stages = {stage.stage: stage for stage in stages_of(replace(DATA, pretrained=file), **scratch)}
        assert stages["prune"].parents == {"selection": "select", "flow": "flow"}
        assert stages["flow"].key == keys_of()["flow"]
    assert changes(common=scratch, schedule__pretrain__flow_lr_share=0.5) >= {"pretrain", "finetune"}


# Teachers


def test_the_teacher_is_a_parent_of_what_it_teaches():
    def parents(**knobs):
        return {stage.name: stage.parents for stage in stages_of(**knobs)}

    assert parents()["finetune"] == {"pruned": "prune", "teacher": "pretrain"}
    assert parents(method__teacher="sparsified")["finetune"] == {"pruned": "prune", "teacher": "sparsify"}
    assert parents(method__teacher="sparsified", rounds=2)["finetune"] == {"pruned": "prune", "teacher": "sparsify"}
    untaught = {"tf_weight": 0.0, "method__teacher": "sparsified", "method__tf_in_sparsify": True}
    assert parents(**untaught)["finetune"] == {"pruned": "prune"}
    outputs = {"tf_weight": 0.0, "method__output_weight": 1.0, "method__teacher": "sparsified"}
    assert parents(**outputs)["finetune"]["teacher"] == "sparsify"
    followed = parents(method__tf_in_sparsify=True, rounds=2)
    assert followed["sparsify_1"] == {"trained": "pretrain", "selection": "select_1", "teacher": "pretrain"}
    assert followed["sparsify"] == {"trained": "sparsify_1", "selection": "select", "teacher": "pretrain"}


def test_without_a_temporal_loss_its_knobs_change_nothing():
    none = {"tf_weight": 0.0}
    assert changes(common=none, method__teacher="sparsified", method__tf_in_sparsify=True) == set()
    assert changes(tf_weight=0.5) == TUNED
    assert changes(common={"method__tf_in_sparsify": True}, tf_weight=0.5) == REGULARISED


# One-shot methods


def test_a_one_shot_method_has_no_sparsify_stage():
    stages = stages_of(method__sparsify=False)
    assert [stage.stage for stage in stages] == [stage for stage in ALL if stage != "sparsify"]
    keys = {stage.stage: stage.key for stage in stages}
    assert stages[5].stage == "prune"
    assert stages[5].settings["parents"] == {"trained": keys["pretrain"], "selection": keys["select"]}


def test_a_one_shot_method_shares_what_comes_before_the_cut():
    gradual, one_shot = keys_of(), keys_of(method__sparsify=False)
    assert {stage for stage in one_shot if one_shot[stage] == gradual[stage]} == set(ALL) - REGULARISED
    assert changes(common={"method__sparsify": False}, schedule__sparsify__lr=0.5) == set()


# until


@pytest.mark.parametrize(
    ("until", "stages"),
    [
        ("pretrain", ["flow", "pretrain"]),
        ("score", ["flow", "pretrain", "score"]),
        ("select", ["flow", "pretrain", "score", "select"]),
        ("sparsify", ["flow", "pretrain", "score", "select", "sparsify"]),
        ("prune", ["flow", "pretrain", "score", "select", "sparsify", "prune"]),
        ("finetune", ["flow", "pretrain", "score", "select", "sparsify", "prune", "finetune"]),
        ("evaluate", ALL),
    ],
)
def test_until_cuts_the_list_and_changes_no_key(until, stages):
    assert until in NAMED
    whole, part = keys_of(), keys_of(until=until)
    assert list(part) == stages
    assert part == {stage: whole[stage] for stage in stages}


def test_until_a_stage_that_the_method_does_not_have_stops_before_it():
    assert list(keys_of(method__sparsify=False, until="sparsify")) == ["flow", "pretrain", "score", "select"]


def test_a_sweep_shares_stages():
    """rsc x ratio x tf_weight: one pretraining, two scorings, four sparsified networks, eight fine-tuned ones."""
    jobs = [
        keys_of(rsc=rsc, ratio=ratio, tf_weight=weight)
        for rsc in (True, False)
        for ratio in (0.3, 0.5)
        for weight in (0.0, 1.0)
    ]
    counts = {stage: len({job[stage] for job in jobs}) for stage in ALL}
    assert counts == {
        "flow": 1,
        "pretrain": 1,
        "reference": 1,
        "score": 2,
        "select": 4,
        "sparsify": 4,
        "prune": 4,
        "finetune": 8,
        "evaluate": 8,
        "measure": 4,
    }


def test_a_lower_precision_measures_every_trained_network():
    """Its change of PSNR depends on the weights, times do not."""
    assert keys_of(seed=1)["measure"] == keys_of(seed=2)["measure"]
    low = {"evaluate__precision": "bf16"}
    assert keys_of(**low, seed=1)["measure"] != keys_of(**low, seed=2)["measure"]
    timed = {"round_to": "auto"}
    assert keys_of(**timed)["timing"] != keys_of(**timed, **low)["timing"]


# Scores


@pytest.mark.parametrize("score", OF_BATCHES)
def test_a_score_of_batches_depends_on_what_they_are_drawn_from(score):
    common = {"score": score}
    assert changes(common, score_batches=8) == SCORED
    assert changes(common, seed=1) == SCORED
    before = keys_of(**common)
    after = keys_of(replace(DATA, train="other clips"), **common)
    assert before["score"] != after["score"]
    assert {"score", "select"} <= changes(common, schedule__patch=12)


@pytest.mark.parametrize("score", [name for name in OF_WEIGHTS if name != "random"])
def test_a_score_of_weights_depends_on_the_network_alone(score):
    assert changes({"score": score}, score_batches=8) == set()
    assert not {"score", "select"} & changes({"score": score}, seed=1)


def test_normalising_and_ranking_change_the_selection_where_layers_are_ranked_together():
    for scope in ("global", "kind", "part"):
        assert changes({"scope": scope}, rank="per_mac") == SELECTED
        assert changes({"scope": scope}, normalise="layer") == SELECTED
    assert changes({"scope": "local"}, rank="per_mac", normalise="layer") == set()


# Rounds


def rounds_of(**knobs):
    return {stage.name: stage for stage in stages_of(**knobs)}


def test_rounds_repeat_the_stages_that_choose_and_regularise():
    stages = rounds_of(rounds=3, ratio=0.6)
    assert list(stages) == [
        "flow", "pretrain", "reference", "score_1", "select_1", "sparsify_1", "score_2", "select_2", "sparsify_2",
        "score", "select", "sparsify", "prune", "finetune", "evaluate", "measure",
    ]  # fmt: skip
    names = ["select_1", "select_2", "select"]
    assert [stages[name].settings["ratio"] for name in names] == pytest.approx([0.2, 0.4, 0.6])
    assert stages["score_2"].settings["parents"]["trained"] == stages["sparsify_1"].key
    assert stages["score"].settings["parents"]["trained"] == stages["sparsify_2"].key
    assert stages["prune"].settings["parents"]["trained"] == stages["sparsify"].key
    assert {stage.stage for stage in stages.values()} == set(ALL)


def test_the_first_round_is_shared_with_a_job_of_its_ratio():
    rounds, once = rounds_of(rounds=2, ratio=0.6), rounds_of(ratio=0.3)
    assert [rounds[f"{name}_1"].key for name in ("score", "select", "sparsify")] == [
        once[name].key for name in ("score", "select", "sparsify")
    ]


def test_the_dense_control_has_no_rounds():
    dense = {"method__name": "dense", "method__sparsify": False}
    assert rounds_of(rounds=3, **dense) == rounds_of(**dense)


def test_times_are_taken_once_for_all_rounds():
    stages = rounds_of(rounds=2, round_to="auto")
    assert list(stages).count("timing") == 1
    assert {stages[name].settings["parents"]["times"] for name in ("select_1", "select")} == {stages["timing"].key}


def test_until_goes_through_the_rounds_before():
    assert list(rounds_of(rounds=2, until="select")) == [
        "flow", "pretrain", "score_1", "select_1", "sparsify_1", "score", "select",
    ]  # fmt: skip


def test_a_later_round_knows_what_the_round_before_cut():
    stages = rounds_of(rounds=2, ratio=0.6)
    assert stages["score"].parents == {"trained": "sparsify_1", "selection": "select_1"}
    assert stages["prune"].parents == {"trained": "sparsify", "selection": "select"}


# Recipes


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_s_roles_are_the_fields_of_its_inputs(name):
    roles = {field.name for field in fields(RECIPES[name].inputs)}
    for method in METHODS:
        for knobs in ({}, {"round_to": "auto"}, {"rounds": 2}, {"evaluate__precision": "bf16"}):
            for stage in stages_of(method__name=method, **knobs):
                if stage.stage == name:
                    assert set(stage.parents) <= roles


@pytest.mark.parametrize("name", RECIPES)
def test_what_a_recipe_says_is_idle_is_among_what_it_depends_on(name):
    recipe = RECIPES[name]
    assert set(recipe.idle) <= set(recipe.depends_on)
    assert set(recipe.steps) <= set(recipe.depends_on)
    assert len(set(recipe.depends_on)) == len(recipe.depends_on)


@pytest.mark.parametrize("name", RECIPES)
def test_the_work_of_a_recipe_is_there(name):
    module, _, function = RECIPES[name].work.partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_the_choices_of_until_are_stages():
    assert set(NAMED) <= set(RECIPES)
    assert list(NAMED) == [name for name in RECIPES if name in NAMED]
