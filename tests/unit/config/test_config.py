"""Defaults of the knobs, and the refusal of every wrong value by name."""

import json
import math
from dataclasses import asdict, fields
from pathlib import Path

import pytest
import yaml

from vsrprune.channels.layout import RULES
from vsrprune.config.agreement import check_scale, validate
from vsrprune.config.composing import configured, default_model, schema, with_knobs
from vsrprune.config.door import DOOR
from vsrprune.config.help import PAPER, group_page, short_page
from vsrprune.config.job import Config, completed, pretrained_file
from vsrprune.config.method import MethodConfig
from vsrprune.config.model import NETWORKS, arguments_of
from vsrprune.config.page import page, shown
from vsrprune.config.schedule import SparsifySchedule
from vsrprune.errors import UserError
from vsrprune.knobs import KNOB, check_value, hints, leaves
from vsrprune.methods.table import METHODS
from vsrprune.pruning.penalty import TARGETS as PENALISED
from vsrprune.pruning.scores.table import SCORES
from vsrprune.search.config import SearchJobConfig
from vsrprune.selection.asked import TARGETS
from vsrprune.selection.ranking import COSTS, NORMALISERS
from vsrprune.selection.scores import ADDITIVE, NAMES, OF_BATCHES

CONF = Path(__file__).parents[3] / "conf"

DEFAULTS = {
    "task.name": "sr",
    "task.sigma": 25.0,
    "task.blur_frames": 7,
    "rsc": True,
    "residual": "aligned",
    "ratio": 0.5,
    "target": "units",
    "scope": "global",
    "ratios": None,
    "score": "l1",
    "score_batches": 16,
    "normalise": "none",
    "rank": "score",
    "order": "min",
    "tf_weight": 0.003,
    "min_kept": 1,
    "round_to": 1,
    "rounds": 1,
    "replicate": 0,
    "seed": 0,
    "pretrain_seed": 0,
    "until": "evaluate",
    "dry_run": False,
    "print_config": False,
    "model.name": "basicvsr_small",
    "data.name": "demo",
    "data.low": "bi",
    "data.on_error": "fail",
    "schedule.name": "demo",
    "trainer.name": "auto",
    "tracking.to": ["wandb"],
    "tracking.mode": "offline",
    "method.name": "ssl",
    "method.penalty": "gates",
    "method.normalised": False,
    "method.align": False,
    "method.teacher": "dense",
    "method.tf_in_sparsify": False,
    "launcher.name": "local",
}


def changed(values=(), **knobs):
    """A configuration with some values set, by dotted name."""
    return with_knobs(Config(), {**dict(values), **knobs})


PARTS = ("backward", "forward", "upsampler")


def value_of(config, name):
    for part in name.split("."):
        config = getattr(config, part)
    return config


def planned(config):
    """The checks of planning, in its order."""
    validate(config)
    check_scale(config, config.model.arguments.scale)
    completed(config, PARTS)


def refusal(config):
    with pytest.raises(UserError) as caught:
        planned(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", DEFAULTS)
def test_default(name):
    value = value_of(Config(), name)
    assert value == DEFAULTS[name]
    assert type(value) is type(DEFAULTS[name])


def test_defaults_are_valid_and_validation_leaves_them_alone():
    config = Config()
    validate(config)
    assert config == Config()


def test_configurations_do_not_share_their_groups():
    one = Config()
    one.model.name = "another"
    one.launcher.options["queue"] = "gpu"
    one.data.val.append("a")
    one.schedule.sparsify.lr = 1
    assert Config() != one
    assert Config().model.name == "basicvsr_small"
    assert Config().launcher.options == {}
    assert Config().data.val == []


# Wrong values

TIMED = {"round_to": "auto", "score": "taylor"}
CHOICES = {
    "task.name": ["sr", "denoise", "deblur"],
    "residual": ["aligned", "inner"],
    "target": ["units", "macs", "params", "latency", "realtime"],
    "scope": ["global", "local", "kind", "part", "per_layer"],
    "normalise": ["none", "layer", "kind", "lamp"],
    "rank": ["score", "per_mac", "per_param"],
    "order": ["min", "max"],
    "units": ["ranked", "random"],
    "until": ["pretrain", "score", "select", "sparsify", "prune", "finetune", "evaluate"],
    "method.penalty": ["gates", "filters"],
    "method.name": [
        "ssl",
        "best",
        "l1",
        "assl",
        "srp",
        "random",
        "lite",
        "distill",
        "ssl_distill",
        "unstructured",
        "dense",
    ],
    "data.name": ["demo", "folder", "reds", "vimeo90k", "reds4", "vid4", "udm10"],
    "data.low": ["bi", "bd"],
    "data.on_error": ["fail", "skip"],
    "data.degradation": ["bicubic", "bicubic_uint8_passes", "bd_basicvsr", "bd_duf", "bd_duf_frames"],
    "data.channel": ["rgb", "y"],
    "evaluate.protocol": ["full", "reds4", "vid4", "udm10", "vimeo90k"],
    "tracking.mode": ["offline", "online"],
    "schedule.pretrain.shape": ["cosine", "onecycle", "constant"],
    "schedule.finetune.shape": ["cosine", "onecycle", "constant"],
    "trainer.accelerator": ["cpu", "gpu", "auto"],
    "trainer.precision": ["32-true", "16-mixed", "bf16-mixed"],
    "trainer.memory_format": ["auto", "channels_last", "contiguous"],
}


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("value", ["nonsense", "", "RSC"])
def test_a_wrong_choice_is_refused_with_the_right_ones(name, value):
    assert refusal(changed({name: value})) == f"{name} must be one of {', '.join(CHOICES[name])}; got {value!r}"


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in CHOICES for value in CHOICES[name]])
def test_every_right_choice_is_accepted(name, value):
    companions = {
        "per_layer": {"ratios": {"fusion": 0.5}},
        "latency": TIMED,
        "realtime": {**TIMED, "target_ms": 40.0},
    }.get(value, {})
    companions |= {"data.name": "vid4"} if value == "bd" else {}
    companions |= {"model.upscale_factors": []} if value in ("denoise", "deblur") else {}
    companions |= {"trainer.accelerator": "gpu"} if value == "16-mixed" else {}
    if name == "method.name":
        method = METHODS[value]
        companions = {knob: allowed[0] for knob, allowed in method.requires.items() if knob != "rule"}
        companions |= {"rsc": "rule" not in method.requires}
        if method.plan != "ranked":
            companions |= {"method.sparsify": False, "tf_weight": 0.0}
    config = changed({name: value, **companions})
    validate(config)
    assert value_of(config, name) == value


@pytest.mark.parametrize("score", ["nonsense", "", "my_score.py:", "my_score.txt:f", "my_score.py:1f"])
def test_a_wrong_score_is_refused_with_the_right_ones(score):
    assert (
        refusal(changed(score=score)) == f"score must be one of {', '.join(NAMES)}, or FILE.py:FUNCTION; got {score!r}"
    )


@pytest.mark.parametrize("score", [*NAMES, "my_score.py:importance", "/there/my_score.py:importance"])
def test_every_right_score_is_accepted(score):
    validate(changed(score=score))


@pytest.mark.parametrize("score", OF_BATCHES)
def test_a_score_of_batches_needs_one(score):
    text = f"score={score} is computed on training batches; score_batches must be at least 1"
    assert refusal(changed(score=score, score_batches=0)) == text
    validate(changed(score="my_score.py:importance", score_batches=0))


def test_fp16_is_refused_on_a_cpu_and_left_to_the_job_where_it_finds_out():
    assert refusal(changed({"trainer.accelerator": "cpu", "trainer.precision": "16-mixed"})) == (
        "trainer.precision=16-mixed needs a CUDA device, and trainer.accelerator=cpu; use trainer.precision=bf16-mixed"
        " or 32-true, or trainer=gpu"
    )
    validate(changed({"trainer.accelerator": "auto", "trainer.precision": "16-mixed"}))
    validate(changed({"trainer.accelerator": "cpu", "trainer.precision": "bf16-mixed"}))


@pytest.mark.parametrize(
    ("hindered", "words"),
    [
        ({"trainer.accelerator": "cpu"}, "trainer.accelerator=cpu"),
        ({"trainer.devices": 2, "schedule.batch": 4}, "trainer.devices=2"),
        ({"trainer.checkpoint_frames": True}, "trainer.checkpoint_frames=true"),
    ],
)
def test_graphs_are_refused_where_they_cannot_be_and_left_out_by_themselves(hindered, words):
    config = {"trainer.accelerator": "gpu", **hindered}
    message = f"trainer.graphs=true does not go with {words}; use trainer.graphs=auto"
    assert refusal(changed({**config, "trainer.graphs": True})) == message
    for graphs in ("auto", False):
        validate(changed({**config, "trainer.graphs": graphs}))


def test_graphs_are_true_false_or_auto():
    validate(changed({"trainer.accelerator": "auto", "trainer.graphs": True}))
    assert refusal(changed({"trainer.graphs": "on"})) == "trainer.graphs must be auto, true or false; got 'on'"


LEAST = {
    "min_kept": 1,
    "replicate": 0,
    "seed": 0,
    "pretrain_seed": 0,
    "data.max_frames": 0,
    "data.crop": 0,
    "data.demo_seed": 0,
    "data.demo_frames": 1,
    "data.demo_train_per_photo": 1,
    "data.demo_val_per_photo": 1,
    "schedule.batch": 1,
    "schedule.patch": 4,
    "schedule.frames": 1,
    "schedule.log_every": 1,
    "schedule.checkpoint_every": 1,
    "schedule.flow.steps": 0,
    "schedule.budget": 0,
    "schedule.pretrain.steps": 1,
    "schedule.sparsify.growth_interval": 1,
    "schedule.sparsify.hold_steps": 0,
    "schedule.finetune.steps": 1,
    "schedule.finetune.frames": 0,
    "schedule.finetune.truncate": 0,
    "evaluate.latency_frames": 1,
    "evaluate.latency_repeats": 1,
    "evaluate.crops": 0,
    "trainer.devices": 1,
    "trainer.threads": 0,
    "trainer.workers": 0,
}


@pytest.mark.parametrize("name", LEAST)
@pytest.mark.parametrize("below", [1, 8])
def test_a_number_below_its_least_is_refused(name, below):
    value = LEAST[name] - below
    assert refusal(changed({name: value})) == f"{name} must be at least {LEAST[name]}; got {value}"


@pytest.mark.parametrize("name", LEAST)
def test_the_least_number_is_accepted(name):
    companions = {"schedule.frames": 1} if name == "data.demo_frames" else {}
    validate(changed({name: LEAST[name], **companions}))


@pytest.mark.parametrize(("value", "shown"), [(1.0, "1"), (1.5, "1.5"), (-0.1, "-0.1"), (math.nan, "nan")])
def test_a_ratio_out_of_range_is_refused(value, shown):
    assert refusal(changed(ratio=value)) == f"ratio must be in [0, 1), the share that is removed; got {shown}"


@pytest.mark.parametrize("value", [0.0, 0.25, 0.999])
def test_a_ratio_in_range_is_accepted(value):
    validate(changed(ratio=value))


@pytest.mark.parametrize(("value", "shown"), [(-0.1, "-0.1"), (math.inf, "inf"), (math.nan, "nan")])
def test_a_tf_weight_out_of_range_is_refused(value, shown):
    assert refusal(changed(tf_weight=value)) == f"tf_weight must be a finite number >= 0; got {shown}"


@pytest.mark.parametrize("value", [0.0, 1.0, -0.5, math.nan])
def test_a_val_share_out_of_range_is_refused(value):
    message = refusal(changed({"data.val_share": value}))
    assert message == f"data.val_share must be in (0, 1); got {value:g}"


@pytest.mark.parametrize(
    "name",
    [
        "schedule.pretrain.lr",
        "schedule.sparsify.lr",
        "schedule.sparsify.gate_lr",
        "schedule.sparsify.growth",
        "schedule.sparsify.maximum",
        "schedule.finetune.lr",
    ],
)
@pytest.mark.parametrize("value", [0.0, -1e-3, math.inf, math.nan])
def test_a_rate_that_is_not_positive_is_refused(name, value):
    assert refusal(changed({name: value})) == f"{name} must be a finite number > 0; got {value:g}"


@pytest.mark.parametrize("value", ["8", 1.5, None, True, [8], 0, -8])
def test_round_to_must_be_auto_or_a_whole_number(value):
    expected = f"round_to must be auto or a whole number >= 1, such as 8 or 16; got {value!r}"
    assert refusal(changed(round_to=value)) == expected


@pytest.mark.parametrize(
    ("knobs", "expected"),
    [
        ({"target": "latency"}, "target=latency needs times of this device: add round_to=auto"),
        ({"target": "latency", "round_to": 8}, "target=latency needs times of this device: add round_to=auto"),
        ({"target_ms": 33.0}, "target_ms is given, but target=units does not read it; add target=latency"),
        (
            {"target_ms": -1.0, "target": "latency", "round_to": "auto"},
            "target_ms must be a finite number > 0, milliseconds per frame; got -1",
        ),
        (
            {"round_to": "auto", "scope": "local"},
            "round_to=auto chooses every layer's count itself; use scope=global instead of local",
        ),
    ],
)
def test_targets_and_rounding_that_contradict_each_other(knobs, expected):
    assert refusal(changed(knobs)) == expected


@pytest.mark.parametrize("target", ["units", "macs", "params", "latency"])
def test_every_target_may_be_met_by_timed_counts(target):
    validate(changed(round_to="auto", target=target, score="taylor"))


@pytest.mark.parametrize("score", [*NAMES, "my_score.py:importance"])
@pytest.mark.parametrize(
    ("budget", "remedy"),
    [({}, ", or round_to=8"), ({"target": "latency", "ratio": 0.0, "target_ms": 33.0}, "")],
)
def test_counts_by_time_need_scores_that_add_up(score, budget, remedy):
    config = changed(round_to="auto", score=score, **budget)
    if score in (*ADDITIVE, "my_score.py:importance"):
        validate(config)
    else:
        assert refusal(config) == (
            f"score={score} means nothing when it is added up over layers, as round_to=auto does; use"
            f" score=taylor or fisher{remedy}"
        )


@pytest.mark.parametrize(
    "knobs",
    [
        {"ratio": 0.0},
        {"method.name": "dense", "method.sparsify": False},
        {"method.name": "dense", "method.sparsify": False, "target": "latency", "target_ms": 33.0},
    ],
)
def test_a_plan_that_cuts_nothing_adds_no_scores(knobs):
    validate(changed({"round_to": "auto", **knobs}))


@pytest.mark.parametrize("knob", [{"method.teacher": "sparsified"}, {"method.tf_in_sparsify": True}])
def test_a_method_that_never_sparsifies_is_not_told_to(knob):
    lite = {"method.name": "lite", "method.sparsify": False, "rsc": False, "scope": "local", "target": "macs"}
    message = refusal(changed({**lite, **knob}))
    assert ", and method=lite " in message
    assert "method.sparsify=true" not in message
    assert message.endswith(", or choose another method")


@pytest.mark.parametrize("value", [[], [180], [180, 320, 3], [180, 7], [-8, 320]])
def test_a_wrong_latency_size_is_refused(value):
    expected = f"evaluate.latency_size must be [height, width], each from 8 to 8192; got {value}"
    assert refusal(changed({"evaluate.latency_size": value})) == expected


# Pairs that contradict each other


@pytest.mark.parametrize("ratios", [None, "", {}])
def test_per_layer_needs_ratios(ratios):
    assert refusal(changed(scope="per_layer", ratios=ratios)).startswith(
        "scope=per_layer needs ratios=FILE or ratios={"
    )


def test_per_layer_cannot_meet_macs():
    message = refusal(changed(scope="per_layer", ratios={"fusion": 0.5}, target="macs"))
    assert "scope=per_layer fixes every layer's share, so target=macs cannot be met" in message


@pytest.mark.parametrize("scope", ["global", "local"])
@pytest.mark.parametrize("ratios", [{"fusion": 0.5}, "ratios.yaml"])
def test_ratios_are_refused_where_nothing_reads_them(scope, ratios):
    expected = f"ratios are given, but scope={scope} does not read them; add scope=per_layer"
    assert refusal(changed(scope=scope, ratios=ratios)) == expected


def test_a_path_is_refused_where_nothing_reads_it():
    expected = "data.path=clips is given, but data=demo does not read it; add data=folder"
    assert refusal(changed({"data.path": "clips"})) == expected
    validate(changed({"data.path": "clips", "data.name": "folder"}))


def test_data_that_contradict_the_protocol_are_refused():
    text = refusal(changed({"evaluate.protocol": "reds4", "data.channel": "y"}))
    assert "data.channel=y contradicts evaluate.protocol=reds4" in text
    assert "data.crop=3 contradicts" in refusal(changed({"evaluate.protocol": "vid4", "data.crop": 3}))
    validate(changed({"evaluate.protocol": "vid4", "data.crop": 8}))


def restoring(name, **more):
    return changed({"task.name": name, "model.upscale_factors": [], **more})


@pytest.mark.parametrize("name", ["denoise", "deblur"])
def test_a_task_of_scale_1_has_no_upscale_factors_and_super_resolution_has(name):
    validate(restoring(name))
    assert refusal(changed({"task.name": name})) == (
        f"task={name} works at scale 1, but model.upscale_factors=[2, 2] is 4; use model.upscale_factors=[], or task=sr"
    )
    assert refusal(changed({"model.upscale_factors": []})) == (
        "model.upscale_factors=[] is scale 1, at which task=sr has nothing to do; give factors such as [2,2], or use"
        " task=denoise or task=deblur"
    )
    validate(changed({"model.upscale_factors": [2]}))


@pytest.mark.parametrize(
    ("task", "option", "value", "reader"),
    [
        ("sr", "sigma", 30.0, "denoise"),
        ("sr", "blur_frames", 5, "deblur"),
        ("deblur", "sigma", 30.0, "denoise"),
        ("denoise", "blur_frames", 5, "deblur"),
    ],
)
def test_an_option_of_another_task_is_refused(task, option, value, reader):
    given = {f"task.{option}": value}
    config = changed(given) if task == "sr" else restoring(task, **given)
    assert refusal(config) == (f"task.{option}={value:g} is given, but task={task} does not read it; add task={reader}")


@pytest.mark.parametrize("sigma", [0, -1.0, 256.0, math.inf, math.nan])
def test_noise_has_a_possible_strength(sigma):
    assert refusal(restoring("denoise", **{"task.sigma": sigma})).endswith(f"in 8-bit steps; got {sigma:g}")
    validate(restoring("denoise", **{"task.sigma": 255.0}))


@pytest.mark.parametrize("frames", [-3, 0, 1, 2, 4])
def test_a_frame_stands_in_the_middle_of_those_averaged(frames):
    assert refusal(restoring("deblur", **{"task.blur_frames": frames})) == (
        f"task.blur_frames must be an odd number from 3 to 101, frames averaged; got {frames}"
    )
    validate(restoring("deblur", **{"task.blur_frames": 3}))


@pytest.mark.parametrize(
    ("knob", "value", "only"),
    [
        ("data.degradation", "bd_duf", "bicubic"),
        ("data.degradation", "bicubic_uint8_passes", "bicubic"),
        ("data.low", "bd", "bi"),
        ("evaluate.protocol", "reds4", "full"),
    ],
)
def test_what_speaks_of_low_resolution_does_not_go_with_scale_1(knob, value, only):
    text = refusal(restoring("denoise", **{knob: value, "data.name": "udm10"}))
    assert text.startswith(f"{knob}={value} does not go with task=denoise, which ")
    assert text.endswith(f"; use {knob}={only}")


def test_knobs_hold_a_task_with_its_own_options():
    assert Config().knobs()["task"] == {"name": "sr"}
    assert restoring("denoise").knobs()["task"] == {"name": "denoise", "sigma": 25.0}
    assert restoring("deblur").knobs()["task"] == {"name": "deblur", "blur_frames": 7}


@pytest.mark.parametrize("name", ["bd_basicvsr", "bd_duf", "bd_duf_frames"])
@pytest.mark.parametrize("factors", [[2], [3], [2, 2, 2]])
def test_blur_is_defined_for_a_scale_of_four(name, factors):
    text = refusal(changed({"data.degradation": name, "model.upscale_factors": factors}))
    assert text == (
        f"data.degradation={name} is defined for a scale of 4, but model.upscale_factors={factors} is"
        f" {math.prod(factors)}; use data.degradation=bicubic"
    )
    validate(changed({"data.degradation": "bicubic_uint8_passes", "model.upscale_factors": factors}))


@pytest.mark.parametrize(
    ("name", "knob", "value", "reader"),
    [
        ("demo", "mirror", True, "folder"),
        ("demo", "cache", True, "folder"),
        ("demo", "scene_cut", 0.2, "folder"),
        ("reds", "scene_cut", 0.2, "folder"),
        ("vid4", "halve", True, "folder"),
    ],
)
def test_a_knob_of_other_data_is_refused(name, knob, value, reader):
    message = refusal(changed({"data.name": name, f"data.{knob}": value}))
    assert message == f"data.{knob}={value} is given, but data={name} does not read it; add data={reader}"


def test_blurred_frames_are_of_published_sets():
    message = refusal(changed({"data.name": "folder", "data.low": "bd"}))
    assert message == "data.low=bd is given, but data=folder has none on disk; use data.degradation=bd_basicvsr"


def test_a_set_to_train_on_needs_its_folder():
    for given in ({"data.train_set": "reds"}, {"data.train_path": "REDS"}):
        assert "data.train_set and data.train_path belong together" in refusal(changed({"data.name": "vid4", **given}))
    validate(changed({"data.name": "vid4", "data.train_set": "reds", "data.train_path": "REDS"}))
    assert "data.train_set must be one of" in refusal(changed({"data.name": "reds4", "data.train_set": "vid4"}))


@pytest.mark.parametrize("value", [-0.1, 1.0])
def test_a_scene_cut_is_a_share(value):
    assert "data.scene_cut must be in [0, 1)" in refusal(changed({"data.name": "folder", "data.scene_cut": value}))


def test_demo_clips_must_be_as_long_as_a_training_sequence():
    message = refusal(changed({"schedule.frames": 11, "data.demo_frames": 10}))
    assert message == "schedule.frames=11 is longer than the demo clips; data.demo_frames is 10"
    validate(changed({"schedule.frames": 10, "data.demo_frames": 10}))
    validate(changed({"schedule.frames": 11, "data.demo_frames": 10, "data.name": "folder"}))


def test_gradients_cannot_end_beyond_the_clip():
    message = refusal(changed({"schedule.frames": 5, "schedule.finetune.truncate": 6}))
    assert message.startswith("schedule.finetune.truncate=6 is more than the 5 frames that fine-tuning takes of a clip")
    validate(changed({"schedule.frames": 5, "schedule.finetune.truncate": 5}))
    validate(changed({"schedule.frames": 5, "schedule.finetune.frames": 8, "schedule.finetune.truncate": 6}))


@pytest.mark.parametrize("knob", ["sparsify", "align"])
def test_the_dense_control_has_no_units_to_prepare(knob):
    dense = {"method.name": "dense", "method.sparsify": False}
    assert refusal(changed({**dense, f"method.{knob}": True})).startswith(
        f"method.{knob}=true does not go with method=dense, which cuts no units"
    )


@pytest.mark.parametrize("method", ["lite", "unstructured"])
def test_a_method_without_milliseconds_is_not_told_how_to_meet_them(method):
    message = refusal(changed({"method.name": method, "method.sparsify": False, "rsc": False, "target": "latency"}))
    assert message.startswith(f"target=latency does not go with method={method}, which needs target=macs or params")


def test_the_dense_control_meets_milliseconds_without_times():
    dense = {"method.name": "dense", "method.sparsify": False, "target": "latency"}
    validate(changed(dense))
    validate(changed({**dense, "target_ms": 33.0}))


def test_a_score_without_a_function_says_how_to_name_one():
    assert refusal(changed(score="my_score.py")) == (
        "score=my_score.py names no function of the file; use score=my_score.py:FUNCTION"
    )


def test_clips_must_be_as_long_as_fine_tuning_takes():
    longer = {"schedule.frames": 5, "schedule.finetune.frames": 15}
    message = refusal(changed({**longer, "data.demo_frames": 10}))
    assert message == "schedule.finetune.frames=15 is longer than the demo clips; data.demo_frames is 10"
    message = refusal(changed({**longer, "data.name": "folder", "data.max_frames": 12}))
    assert message.startswith("data.max_frames=12 is less than schedule.finetune.frames=15,")
    validate(changed({**longer, "data.demo_frames": 15}))
    validate(changed({"schedule.frames": 5, "schedule.finetune.frames": 3, "data.demo_frames": 5}))


@pytest.mark.parametrize("knob", ["method.teacher", "method.tf_in_sparsify"])
def test_one_shot_methods_have_no_sparsified_network_and_no_stage_that_makes_it(knob):
    value, shown = {"method.teacher": ("sparsified", "sparsified"), "method.tf_in_sparsify": (True, "true")}[knob]
    message = refusal(changed({knob: value, "method.sparsify": False}))
    assert message.startswith(f"{knob}={shown} ")
    assert "method.sparsify=false" in message
    validate(changed({knob: value}))
    validate(changed({knob: value, "tf_weight": 0.0}))


@pytest.mark.parametrize("knob", ["pretrained", "pretrained_flow"])
def test_a_pretrained_file_must_exist_and_be_of_a_known_kind(tmp_path, knob):
    kinds = ".safetensors, .pth, .pt, .ckpt, .pth.tar"
    for suffix in (".safetensors", ".pth", ".pt", ".ckpt", ".pth.tar", ".PTH", ".Pth.Tar"):
        missing = str(tmp_path / f"dense{suffix}")
        assert refusal(changed(**{knob: missing})) == (
            f"{knob} must be a file of weights ({kinds}); got {missing!r}: there is none"
        )
        (tmp_path / f"dense{suffix}").write_bytes(b"")
        validate(changed(**{knob: missing}))
    (tmp_path / "dense.onnx").write_bytes(b"")
    assert "'.onnx' is another kind" in refusal(changed(**{knob: str(tmp_path / "dense.onnx")}))


def test_each_replicate_may_have_a_pretrained_file_of_its_own(tmp_path):
    (tmp_path / "dense2.pth").write_bytes(b"")
    named = str(tmp_path / "dense%.pth")
    config = changed(pretrained=named, replicate=2)
    validate(config)
    assert pretrained_file(config) == str(tmp_path / "dense2.pth")
    assert config.knobs()["pretrained"] == named  # the same for all replicates, which are of one setting therefore
    assert refusal(changed(pretrained=named, replicate=1)).endswith("dense1.pth': there is none")


def test_a_pretrained_network_has_a_flow_net_already(tmp_path):
    (tmp_path / "net.pth").write_bytes(b"")
    file = str(tmp_path / "net.pth")
    assert "pretrained and pretrained_flow are both given" in refusal(changed(pretrained=file, pretrained_flow=file))


# Ratios

RATIOS = {"backward_trunk.blocks.0.conv1": 0.25, "fusion": 12, "upconv1": 0.0}


@pytest.mark.parametrize(
    ("suffix", "dump"), [(".yaml", yaml.safe_dump), (".yml", yaml.safe_dump), (".json", json.dumps)]
)
def test_ratios_are_read_from_files(tmp_path, suffix, dump):
    path = tmp_path / f"ratios{suffix}"
    path.write_text(dump(RATIOS))
    given = changed(scope="per_layer", ratios=str(path))
    validate(given)
    assert given.ratios == str(path)  # a check changes nothing
    config = completed(given, PARTS)
    assert config.ratios == RATIOS
    assert [type(value) for value in config.ratios.values()] == [type(value) for value in RATIOS.values()]


def test_ratios_are_read_from_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "ratios.yaml").write_text("fusion: 0.5\n")
    config = completed(changed(scope="per_layer", ratios="~/ratios.yaml"), PARTS)
    assert config.ratios == {"fusion": 0.5}


def test_ratios_may_be_a_dict_and_stay_one_when_completed_again():
    config = changed(scope="per_layer", ratios=dict(RATIOS))
    for _ in range(2):
        validate(config)
        config = completed(config, PARTS)
        assert config.ratios == RATIOS


def test_names_of_layers_become_text():
    config = completed(changed(scope="per_layer", ratios={1: 0.5}), PARTS)
    assert config.ratios == {"1": 0.5}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("missing.yaml", None),
        ("broken.yaml", "fusion: [0.5\n"),
        ("broken.json", '{"fusion": 0.5'),
        ("binary.json", b"\xff\xfe"),
    ],
)
def test_a_ratios_file_that_cannot_be_read_is_named(tmp_path, name, content):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    message = refusal(changed(scope="per_layer", ratios=str(path)))
    assert message.startswith(f"ratios={path}: cannot read this file (")


@pytest.mark.parametrize(
    ("content", "kind"), [("", "NoneType"), ("- 0.5\n", "list"), ("0.5\n", "float"), ("{}", "dict")]
)
def test_a_ratios_file_must_hold_a_mapping(tmp_path, content, kind):
    (tmp_path / "ratios.yaml").write_text(content)
    message = refusal(changed(scope="per_layer", ratios=str(tmp_path / "ratios.yaml")))
    assert message == f"ratios must map layers to ratios; got {kind}"


def test_ratios_given_directly_must_be_a_mapping():
    assert refusal(changed(scope="per_layer", ratios=[0.5])) == "ratios must map layers to ratios; got list"


# Derived values


@pytest.mark.parametrize(
    ("rsc", "residual", "rule"),
    [(True, "aligned", "rsc"), (True, "inner", "rsc"), (False, "aligned", "aligned"), (False, "inner", "inner")],
)
def test_residual_rule(rsc, residual, rule):
    assert changed(rsc=rsc, residual=residual).rule == rule


@pytest.mark.parametrize(
    ("growth", "interval", "maximum", "hold", "grows"),
    [
        (1e-4, 5, 0.1, 14_000, 5_000),  # the published schedule
        (2e-3, 1, 0.1, 50, 50),
        (0.03, 2, 0.1, 0, 8),  # 0.03, 0.06, 0.09, then the maximum
        (0.06, 1, 0.9, 0, 15),  # 15.000000000000002 in floating point
        (0.5, 10, 0.1, 3, 10),
    ],
)
def test_length_of_the_sparsify_schedule(growth, interval, maximum, hold, grows):
    schedule = SparsifySchedule(growth=growth, growth_interval=interval, maximum=maximum, hold_steps=hold)
    assert schedule.growth_steps == grows
    assert schedule.steps == grows + hold


def test_knobs_hold_every_value_but_places_and_loggers():
    knobs = Config().knobs()
    assert not {"store_dir", "runs_dir", "dry_run", "launcher", "tracking", "store"} & knobs.keys()
    for name, value in DEFAULTS.items():
        group, _, inner = name.partition(".")
        if group in knobs and name not in ("task.sigma", "task.blur_frames"):  # which super-resolution does not read
            assert (knobs[group][inner] if inner else knobs[group]) == value
    assert json.loads(json.dumps(knobs)) == knobs


@pytest.mark.parametrize(("values", "channel", "crop"), [
    ({}, "y", 0),
    ({"data.channel": "rgb", "data.crop": 4}, "rgb", 4),
    ({"evaluate.protocol": "reds4"}, "rgb", 0),
    ({"evaluate.protocol": "udm10", "data.crop": 8}, "y", 8),
])  # fmt: skip
def test_knobs_say_what_was_compared(values, channel, crop):
    knobs = changed(values).knobs()
    assert (knobs["data"]["channel"], knobs["data"]["crop"]) == (channel, crop)
    assert knobs["evaluate"]["protocol"] == values.get("evaluate.protocol", "full")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"method": MethodConfig("l1", sparsify=False)}, "method.sparsify=false"),
        (
            {"method": MethodConfig("lite", sparsify=False), "rsc": False, "target": "macs", "scope": "local"},
            "method=lite, which ranks no units",
        ),
        ({"scope": "per_layer", "ratios": {"fusion": 0.5}}, "scope=per_layer"),
        ({"target": "latency", "round_to": "auto", "score": "taylor"}, "target=latency"),
        ({"order": "max"}, "order=max"),
        ({"ratio": 0.0}, "ratio=0"),
    ],
)
def test_rounds_that_cannot_be_are_refused(changes, reason):
    validate(changed(**{**changes, "rounds": 1}))
    message = refusal(changed(**changes, rounds=2))
    assert message.startswith(f"rounds=2 does not go with {reason}")
    assert message.endswith("use rounds=1")


def test_a_random_ranking_has_rounds_whatever_its_idle_order():
    validate(changed(rounds=2, score="random", order="max"))


def test_rounds_are_counted_from_one():
    assert refusal(changed(rounds=0)) == "rounds must be at least 1; got 0"


# One field for a knob


def test_every_knob_has_help_and_an_allowed_default():
    told = [*DOOR, *leaves(SearchJobConfig), *(leaf for name in NETWORKS for leaf in leaves(arguments_of(name)))]
    assert len(told) > 150
    for leaf in told:
        assert leaf.knob.help.endswith("."), leaf.name
        check_value(leaf, leaf.default)


def test_every_field_of_a_group_is_a_knob_or_a_group():
    names = {leaf.name for leaf in leaves(Config)}
    values = flat(asdict(Config()))
    assert {name for name in values if not name.startswith("model.arguments.")} == names


def flat(values, prefix=""):
    found = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) and value else {f"{prefix}{name}": value}
    return found


def test_choices_are_those_of_the_rooms_that_read_them():
    choices = {leaf.name: leaf.knob.choices for leaf in leaves(Config)}
    assert set(SCORES) == set(NAMES)
    assert set(choices["normalise"]) == set(NORMALISERS)
    assert set(choices["rank"]) == {"score", *COSTS}
    assert set(choices["method.penalty"]) == set(PENALISED)
    assert set(RULES) == {"rsc", *choices["residual"]}
    assert (*TARGETS, "latency", "realtime") == choices["target"]


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("ratio", "abc", "ratio must be a number in [0, 1); got 'abc'"),
        ("ratio", True, "ratio must be a number in [0, 1); got True"),
        ("seed", 1.5, "seed must be a whole number from 0 to 9223372036854775807; got 1.5"),
        ("seed", 2**63, "seed must be at most 9223372036854775807; got 9223372036854775808"),
        ("rsc", "maybe", "rsc must be true or false; got 'maybe'"),
        ("rsc", 7, "rsc must be true or false; got 7"),
        ("data.val", "nope", "data.val must be a list of names; got 'nope'"),
        ("data.val", [1.5], "data.val must be a list of names; got [1.5]"),
        ("data.path", ["a"], "data.path must be text; got ['a']"),
        ("data.crop", "3", "data.crop must be a whole number >= 0, or null; got '3'"),
        ("launcher.options", [1], "launcher.options must be a mapping, or null; got [1]"),
        (
            "store.action",
            "verfy",
            "store.action must be one of list, verify, clean, push, pull, or nothing; got 'verfy'",
        ),
        ("trainer.threads", -1, "trainer.threads must be at least 0; got -1"),
        ("method.output_weight", math.inf, "method.output_weight must be a finite number >= 0; got inf"),
        ("schedule.batch", 10**9, "schedule.batch must be at most 4096; got 1000000000"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed(name, value, text):
    assert refusal(changed({name: value})) == text


@pytest.mark.parametrize(
    "name",
    ["schedule.batch", "schedule.patch", "schedule.frames", "schedule.pretrain.steps", "rounds", "data.demo_frames",
     "data.demo_train_per_photo", "data.demo_val_per_photo", "evaluate.latency_frames", "evaluate.latency_repeats",
     "trainer.devices", "trainer.workers", "trainer.threads", "launcher.jobs", "launcher.threads"],
)  # fmt: skip
def test_a_slip_that_would_hang_the_machine_is_refused(name):
    assert f"{name} must be at most " in refusal(changed({name: 10**12}))


@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_of_unthinkable_size_is_refused(network):
    kind = arguments_of(network)
    for name in {"channels", "blocks", "groups", "window", "upsampler_channels"} & set(hints(kind)):
        with pytest.raises(UserError, match=rf"^model\.{name} must be .*; got 1000000001$"):
            kind(**{name: 10**9 + 1})
    if "upscale_factors" in hints(kind):
        with pytest.raises(UserError, match=r"^model\.upscale_factors=\[8, 8\] is scale 64; at most 16 is possible$"):
            kind(upscale_factors=(8, 8))


def test_arguments_of_another_network_are_refused():
    assert refusal(changed({"model.network": "edsr"})) == (
        "model.network=edsr takes EDSRArguments; config.model.arguments are BasicVSRArguments"
    )


def test_a_penalty_that_hardly_grows_is_refused():
    assert "after more than 1000000000 steps" in refusal(changed({"schedule.sparsify.growth": 1e-300}))


# From composed values


def test_what_is_composed_from_nothing_is_the_default():
    assert configured(Config, {}) == Config()
    assert configured(Config, schema(Config) | {"model": default_model()}) == Config()


def test_numbers_of_the_command_line_fit_their_fields():
    values = {"tf_weight": 2, "evaluate": {"precision": 16}, "data": {"path": 7}, "model": {"flow_widths": [4]}}
    config = configured(Config, values)
    assert (config.tf_weight, config.evaluate.precision, config.data.path) == (2.0, "16", "7")
    assert type(config.tf_weight) is float
    assert config.model.arguments.flow_widths == (4,)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"ratoi": 1}, "ratoi is no knob; did you mean ratio?"),
        ({"schedule": {"pretrian": {"steps": 1}}}, "schedule.pretrian is no knob; did you mean"),
        (
            {"schedule": {"pretrain": {"stesp": 1}}},
            "schedule.pretrain.stesp is no knob; did you mean schedule.pretrain.",
        ),
        ({"stages": 1}, "stages is no knob; "),
        ({"steps": 1}, "did you mean schedule.flow.steps or schedule.pretrain.steps or schedule.align.steps?"),
        (
            {"model": {"chanels": 1}},
            "model.chanels is no knob; did you mean model.channels? model=basicvsr_small reads channels, blocks",
        ),
        (
            {"model": {"network": "edsr", "window": 3}},
            "model.window=3 is given, but model=basicvsr_small does not read it",
        ),
        ({"model": {"network": "vgg"}}, "model.network must be one of basicvsr, basicvsr_pp, edvr"),
        ({"schedule": 3}, "schedule is a group of knobs, set one by one as schedule.NAME=VALUE; got 3"),
        ({"rule": "rsc", "rsc": False}, "rule=rsc contradicts rsc=false residual=aligned"),
        ({"rule": "inner", "rsc": False}, "rule=inner contradicts rsc=false residual=aligned"),
        ({"rule": "both"}, "rule must be one of rsc, aligned, inner; got 'both'"),
    ],
)
def test_names_that_do_not_exist_and_contradictions_are_refused_when_composed(values, text):
    with pytest.raises(UserError) as caught:
        configured(Config, values)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_task_at_the_input_s_size_leaves_the_pixel_shuffles_out():
    tasks = {"sr": (2, 2), "denoise": (), "deblur": ()}
    for task, factors in tasks.items():
        assert configured(Config, {"task": {"name": task}, "model": {}}).model.arguments.upscale_factors == factors
    given = configured(Config, {"task": {"name": "denoise"}, "model": {"upscale_factors": [2]}})
    assert given.model.arguments.upscale_factors == (2,)


def test_changed_knobs_leave_the_configuration_that_was_changed_alone():
    before = Config()
    after = with_knobs(before, {"model.channels": 8, "schedule.pretrain.steps": 3, "model.name": "own"})
    assert before == Config()
    assert (after.model.arguments.channels, after.schedule.pretrain.steps, after.model.name) == (8, 3, "own")
    for name, near in (("rati", "ratio"), ("model.chanels", "model.channels")):
        with pytest.raises(UserError, match=rf"^{name} is no knob; did you mean {near}\?$"):
            with_knobs(before, {name: 1})


@pytest.mark.parametrize(
    ("named", "kept"), [([], []), (["upsampler", "backward"], ["backward", "upsampler"]), (list(PARTS)[::-1], [])]
)
def test_parts_come_in_the_network_s_order(named, kept):
    assert completed(changed(parts=named), PARTS).parts == kept


def test_a_part_that_the_network_does_not_have_is_refused():
    assert refusal(changed(parts=["middle"])) == "parts must be one of backward, forward, upsampler; got 'middle'"


# Help


def test_the_short_page_is_short_and_names_every_group():
    for kind in (Config, SearchJobConfig):
        lines = short_page(kind, "src/run.py", "What it is.", CONF).splitlines()
        assert len(lines) <= 70
        assert max(map(len, lines)) <= 100
        for item in fields(kind):
            assert item.name in PAPER or KNOB in item.metadata or f"  {item.name} " in "\n".join(lines)


def test_help_shows_every_knob_in_full():
    titles = ["knobs", *(item.name for item in fields(SearchJobConfig) if KNOB not in item.metadata), *NETWORKS]
    text = "\n".join(group_page(SearchJobConfig, title, CONF) for title in titles)
    for leaf in (*DOOR, *leaves(SearchJobConfig)):
        assert f"  {leaf.name}={shown(leaf.default)}\n" in text
        assert f"  {leaf.name}=" in group_page(SearchJobConfig, leaf.name, CONF)
    assert max(map(len, text.splitlines())) <= 100


def test_help_of_what_does_not_exist_names_the_nearest():
    with pytest.raises(UserError, match=r"^--help knows no group or knob 'shedule'; did you mean schedule\?$"):
        group_page(Config, "shedule", CONF)


def test_the_page_of_knobs_is_the_one_that_the_fields_make():
    text = (CONF.parent / "docs" / "knobs.md").read_text()
    assert text == page(SearchJobConfig), "run `make docs-knobs`"


@pytest.mark.parametrize("action", ["push", "pull"])
def test_stages_move_between_a_folder_and_a_bucket_alone(action):
    text = refusal(changed({"store.action": action, "store.remote": "s3://b/x", "store_dir": "s3://b/y"}))
    assert "store_dir=s3://b/y is no folder; name a folder as store_dir" in text
