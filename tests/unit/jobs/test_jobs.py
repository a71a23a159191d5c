"""Planning refuses what cannot work before anything runs, and neither plans nor tables cost an import of torch."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_job import tiny_config

from vsrprune.config.composing import with_knobs
from vsrprune.config.model import ModelConfig
from vsrprune.config.task import TaskConfig
from vsrprune.errors import UserError
from vsrprune.jobs.collect import collect, has_its_result, read_measured
from vsrprune.jobs.planning import changed_network, config_warnings, is_finished, plan_job
from vsrprune.jobs.runner import needs_no_process, open_store, run_job
from vsrprune.networks.own.spec import OwnArguments
from vsrprune.results.measured import MEASURED
from vsrprune.results.result import METRICS, Result
from vsrprune.store.atomic import write_json
from vsrprune.store.sealed import checksum_of
from vsrprune.store.store import Store


def changed(**knobs):
    """A configuration with some values set; a dot in a name is written as two underscores."""
    return with_knobs(tiny_config(), {name.replace("__", "."): value for name, value in knobs.items()})


def refusal(**knobs):
    with pytest.raises(UserError) as caught:
        plan_job(changed(**knobs))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write_clips(folder, *names):
    for seed, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (192, 256, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name / "0000.png")


def test_the_default_job_is_planned_from_the_demo_data():
    job = plan_job(tiny_config())
    assert job.sources is None
    assert job.arguments.scale == 4
    assert [stage.stage for stage in job.stages][-1] == "measure"
    assert job.stage("select").settings["ratio"] == 0.5
    assert "sparsify" in keys_of(job)
    assert "sparsify" not in keys_of(plan_job(changed(method__sparsify=False)))
    assert {group.kind for group in job.layout.groups} == {
        "input",
        "middle",
        "output",
        "fusion",
        "shuffle",
        "reconstruction",
    }


def test_planning_is_deterministic():
    assert plan_job(tiny_config()).stages == plan_job(tiny_config()).stages


def test_the_layout_follows_the_residual_rule():
    kinds = {
        rule: {group.kind for group in plan_job(changed(rsc=False, residual=rule)).layout.groups}
        for rule in ("aligned", "inner")
    }
    assert "stream" in kinds["aligned"]
    assert not {"stream", "input", "output"} & kinds["inner"]


def test_the_network_gets_every_argument_of_the_model():
    arguments = plan_job(changed(model__channels=24, model__upscale_factors=[3], model__slope=0.0)).arguments
    assert (arguments.channels, arguments.upscale_factors, arguments.slope) == (24, (3,), 0.0)
    assert arguments.scale == 3


# What cannot work


def test_wrong_values_are_refused_before_anything_else():
    assert refusal(order="up", data__name="folder").startswith("order must be one of min, max")
    assert refusal(model__flow_kernel=4) == "model.flow_kernel must be an odd number from 1 to 31; got 4"


UNREACHABLE = [
    {"ratio": 0.99},
    {"ratio": 0.8, "min_kept": 4},
    {"ratio": 0.6, "round_to": 8},
    {"ratio": 0.9, "scope": "local", "min_kept": 3},
    {"ratio": 0.999, "target": "macs"},
    {"ratio": 0.98, "target": "macs", "rsc": False, "residual": "inner"},
]


@pytest.mark.parametrize("knobs", UNREACHABLE, ids=str)
def test_an_unreachable_ratio_is_refused_and_the_named_one_is_reachable(knobs):
    message = refusal(**knobs)
    assert message.startswith(f"ratio={knobs['ratio']}")
    found = re.search(r"the largest reachable ratio (?:there )?is ([0-9.]+)$", message)
    reachable = float(found[1])
    assert 0 < reachable < knobs["ratio"]
    plan_job(changed(**{**knobs, "ratio": reachable}))


def test_limits_that_leave_nothing_to_cut_are_refused():
    assert refusal(min_kept=17).startswith("min_kept=17 is more than the 16 channels of ")
    assert refusal(round_to=16).startswith("round_to=16 leaves nothing to cut in layers of 16 channels")


def test_an_unknown_layer_in_ratios_is_refused():
    message = refusal(scope="per_layer", ratios={"fusion": 0.5, "fusion9": 0.5})
    assert message.startswith("ratios names the unknown layer 'fusion9'; this network has ")
    assert "backward_trunk.blocks.0.conv1" in message


def test_a_layer_of_another_rule_is_unknown():
    ratios = {"backward_trunk.blocks.0.conv2": 0.5}
    plan_job(changed(scope="per_layer", ratios=dict(ratios)))
    assert "unknown layer" in refusal(scope="per_layer", ratios=dict(ratios), rsc=False, residual="inner")


@pytest.mark.parametrize("value", [1.0, -0.5, 17, 0, "half", True, None])
def test_a_wrong_ratio_of_a_layer_is_refused_by_name(value):
    assert refusal(scope="per_layer", ratios={"fusion": value}).startswith("ratios[fusion]")


def test_a_missing_data_folder_is_refused_by_name(tmp_path):
    missing = str(tmp_path / "clips")
    message = refusal(data__name="folder", data__path=missing, store_dir=str(tmp_path))
    assert message == f"data.path must be a folder of videos or of folders of PNG or JPEG frames; got {missing!r}"
    assert "data.path is empty" in refusal(data__name="folder")


def test_unknown_clips_are_refused(tmp_path):
    write_clips(tmp_path / "clips", "walk", "run")
    knobs = {"data__name": "folder", "data__path": str(tmp_path / "clips"), "store_dir": str(tmp_path / "store")}
    assert refusal(**knobs, data__val=["fly"]) == "data.val names the unknown clip 'fly'; there are: run, walk"


# Data and files in the keys


def folder_job(clips, store, **knobs):
    return plan_job(
        changed(data__name="folder", data__path=str(clips), store_dir=str(store), schedule__name="short", **knobs)
    )


def keys_of(job):
    return {stage.stage: stage.key for stage in job.stages}


def test_clips_of_a_folder_are_split_and_hashed(tmp_path):
    write_clips(tmp_path / "clips", "fly", "run", "walk")
    job = folder_job(tmp_path / "clips", tmp_path / "store", data__val=["run"])
    assert [clip.name for clip in job.sources.train] == ["fly", "walk"]
    assert [clip.name for clip in job.sources.val] == ["run"]
    shutil.copytree(tmp_path / "clips", tmp_path / "copy")
    moved = folder_job(tmp_path / "copy", tmp_path / "other", data__val=["run"])
    assert keys_of(moved) == keys_of(job)
    write_clips(tmp_path / "clips", "zoo")
    assert keys_of(folder_job(tmp_path / "clips", tmp_path / "store", data__val=["run"])) != keys_of(job)


def test_a_store_in_the_home_folder_is_found(tmp_path, monkeypatch):
    write_clips(tmp_path / "clips", "run", "walk")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder_job(tmp_path / "clips", "~/store")
    assert list((tmp_path / "work").iterdir()) == []
    assert len(list((tmp_path / "home" / "store").iterdir())) == 1


def test_the_held_out_clips_do_not_change_what_is_trained(tmp_path):
    write_clips(tmp_path / "clips", "fly", "run", "walk")
    one, two = (
        keys_of(folder_job(tmp_path / "clips", tmp_path / "store", data__train=["fly"], data__val=[name]))
        for name in ("run", "walk")
    )
    assert one["pretrain"] == two["pretrain"]
    assert one["sparsify"] == two["sparsify"]
    assert one["reference"] != two["reference"]


def test_test_clips_change_what_is_compared_and_nothing_before(tmp_path):
    write_clips(tmp_path / "clips", "fly", "run", "walk")
    sides = {"data__train": ["fly"], "data__val": ["run"]}
    without, with_test = (
        folder_job(tmp_path / "clips", tmp_path / "store", **sides, **more) for more in ({}, {"data__test": ["walk"]})
    )
    assert [clip.name for clip in with_test.sources.test] == ["walk"]
    before, after = keys_of(without), keys_of(with_test)
    assert {stage for stage in before if before[stage] != after[stage]} == {"reference", "evaluate"}
    rest = folder_job(tmp_path / "clips", tmp_path / "store", data__val=["run"], data__test=["walk"])
    assert [clip.name for clip in rest.sources.train] == ["fly"]


def test_test_clips_are_those_of_folders(tmp_path):
    assert refusal(data__test=["walk"]).startswith("data.test=['walk'] is given, but data=demo does not read it")


@pytest.mark.parametrize("knobs", [
    {"data__max_frames": 7}, {"data__halve": True}, {"model__upscale_factors": [2]}, {"data__degradation": "bd_duf"},
])  # fmt: skip
def test_how_clips_are_read_changes_the_keys(tmp_path, knobs):
    write_clips(tmp_path / "clips", "run", "walk")
    before, after = (keys_of(folder_job(tmp_path / "clips", tmp_path / "store", **extra)) for extra in ({}, knobs))
    assert before["pretrain"] != after["pretrain"]
    assert before["reference"] != after["reference"]


@pytest.mark.parametrize("knob", ["data__demo_seed", "data__demo_frames", "data__demo_train_per_photo"])
def test_how_demo_clips_are_made_changes_the_keys(knob):
    assert keys_of(plan_job(changed(**{knob: 13})))["pretrain"] != keys_of(plan_job(tiny_config()))["pretrain"]


def test_every_degradation_of_the_demo_has_keys_of_its_own():
    names = ("bicubic", "bicubic_uint8_passes", "bd_basicvsr", "bd_duf", "bd_duf_frames")
    keys = [keys_of(plan_job(changed(data__degradation=name))) for name in names]
    for stage in ("pretrain", "reference"):
        assert len({of_job[stage] for of_job in keys}) == 5
    assert keys[0] == keys_of(plan_job(tiny_config()))


RESTORATION = [{"name": "denoise"}, {"name": "denoise", "sigma": 10.0}, {"name": "deblur"},
               {"name": "deblur", "blur_frames": 3}]  # fmt: skip


@pytest.mark.parametrize("on_disk", [False, True])
def test_every_task_and_option_has_keys_of_its_own(tmp_path, on_disk):
    write_clips(tmp_path / "clips", "run", "walk")
    common = {"data__name": "folder", "data__path": str(tmp_path / "clips"), "store_dir": str(tmp_path)}
    keys = [
        keys_of(plan_job(changed(model__upscale_factors=[], task=TaskConfig(**task), **(common if on_disk else {}))))
        for task in RESTORATION
    ]
    for stage in ("pretrain", "reference", "prune"):
        assert len({of_job[stage] for of_job in keys}) == len(RESTORATION)
    assert len({of_job["measure"] for of_job in keys}) == len(RESTORATION)  # which follows from the plan


def test_a_network_without_shuffle_groups_is_named():
    config = changed(model__upscale_factors=[], task=TaskConfig("deblur"))
    assert config_warnings(config) == [
        "task=deblur works at scale 1: the network has no pixel shuffles, so there are no shuffle groups to prune"
    ]
    assert "shuffle" not in {group.kind for group in plan_job(config).layout.groups}


def test_more_held_out_demo_clips_change_the_evaluation_alone():
    before, after = keys_of(plan_job(tiny_config())), keys_of(plan_job(changed(data__demo_val_per_photo=5)))
    assert before["sparsify"] == after["sparsify"]
    assert before["reference"] != after["reference"]


def test_a_pretrained_file_counts_by_its_content(tmp_path):
    for name, content in (("one", b"weights"), ("two", b"weights"), ("three", b"others")):
        (tmp_path / f"{name}.pth").write_bytes(content)
    for knob in ("pretrained", "pretrained_flow"):
        one, two, three = (
            keys_of(plan_job(changed(**{knob: str(tmp_path / f"{n}.pth")}))) for n in ("one", "two", "three")
        )
        assert one == two
        assert not set(one.values()) & set(three.values())
        assert one["pretrain"] != keys_of(plan_job(tiny_config()))["pretrain"]


def test_the_demo_schedule_warns_with_other_data():
    assert config_warnings(tiny_config()) == []
    (warning,) = config_warnings(changed(data__name="folder"))
    assert "schedule=demo with data=folder" in warning
    assert config_warnings(changed(data__name="folder", schedule__name="short")) == []


def test_what_was_asked_for_and_changes_nothing_is_said():
    for idle in (
        {"method__teacher": "sparsified", "tf_weight": 0.0},
        {"method__tf_in_sparsify": True, "tf_weight": 0.0},
        {"target_ms": 5.0, "target": "latency", "ratio": 0.3},
    ):
        (warning,) = config_warnings(changed(**idle))
        assert " changes nothing: " in warning
    assert config_warnings(changed(method__teacher="sparsified", tf_weight=0.0, method__output_weight=1.0)) == []
    assert config_warnings(changed(target_ms=5.0, target="latency")) == []


def test_a_flow_net_that_is_cut_and_does_not_train_on_is_said():
    (warning,) = config_warnings(changed(model__flow_pruned=True))
    assert "with schedule.finetune.train_flow=true it does" in warning
    assert config_warnings(changed(model__flow_pruned=True, schedule__finetune__train_flow=True)) == []
    assert config_warnings(changed(model__flow_pruned=True, method__name="dense", method__sparsify=False)) == []


def test_a_flow_net_is_not_pruned_in_a_network_from_scratch():
    lite = {"method__name": "lite", "method__sparsify": False, "rsc": False, "target": "macs", "scope": "local"}
    said = refusal(model__flow_pruned=True, **lite)
    assert said == (
        "model.flow_pruned=true does not go with method=lite: a network from scratch starts from the flow net that was"
        " trained whole; use model.flow_pruned=false"
    )


def test_a_control_whose_counts_are_measured_anew_is_said_to_waver():
    (warning,) = config_warnings(changed(units="random", target="latency"))
    assert warning.startswith("units=random with target=latency: counts are found by measuring")
    assert config_warnings(changed(units="random", target="macs")) == []


@pytest.mark.parametrize(("protocol", "degradation", "published"), [
    ("udm10", "bicubic", "bd_basicvsr or bd_duf or bd_duf_frames"),
    ("reds4", "bd_duf", "bicubic or bicubic_uint8_passes"),
])  # fmt: skip
def test_a_degradation_that_a_protocol_is_not_published_with_is_said(protocol, degradation, published):
    given = {"evaluate__protocol": protocol, "data__degradation": degradation}
    assert config_warnings(changed(**given)) == [
        f"evaluate.protocol={protocol} with data.degradation={degradation}: published numbers on this set are of"
        f" {published}"
    ]
    assert config_warnings(changed(evaluate__protocol="vid4", data__degradation=degradation)) == []


# Collecting

QUALITY = {"psnr": 30.5, "ssim": 0.9, "clips": {}, "frames": {}}
EQUIVALENCE = {"float64": 0.0, "float32": 1e-7}
TIMING = {"ms": 4.0, "ms_fastest": 3.0, "ms_slowest": 5.0, "ms_without_flow": 2.0, "memory_format": "nchw"}
MEASUREMENTS = {
    "latency_ms": {"dense": TIMING, "pruned": {**TIMING, "ms": 2.0}},
    "peak_memory_mib": {"dense": None, "pruned": None},
    "precision": "32",
    "compiled": False,
    "frame_size": [180, 320],
    "frames": 5,
    "repeats": 3,
    "threads": 2,
    "device": "cpu",
    "host": "here",
    "processor": "some processor",
    "git_commit": "",
    "versions": {"torch": "2.9"},
}
COST = {"parameters": 9, "parameters_with_flow": 10, "macs": 8, "macs_with_flow": 9, "size": [180, 320]}


def artifact_files(job, max_cut=0.01, temporal_gain=0.3, kept=(0, 1), dense_psnr=None, fusion=(0.5, 0.25)):
    """What the stages of `job` would leave, with made-up numbers."""
    groups = {group.name: {"size": group.size, "kept": list(kept)} for group in job.layout.groups}
    budget = {"target": "units", "dense": 10, "wanted": 5, "reached": 5, "deviation": 0.0}
    return {
        "flow": {METRICS: {"stage": "flow", "step": 9, "loss": 0.6}},
        "pretrain": {METRICS: {"stage": "pretrain", "step": 9, "loss": 0.5}},
        "reference": {
            "reference.json": {
                "baseline": QUALITY,
                "dense": QUALITY if dense_psnr is None else {**QUALITY, "psnr": dense_psnr},
                "cost": COST,
                "temporal_gain": temporal_gain,
                "flow_photometric": 0.7,
                "test": {},
                "notes": ["clip a: cropped"],
                "crops": [{"clip": "a", "frame": 1, "y": 0, "x": 4, "side": 8}],
            }
        },
        "score": {"scores.json": {"fusion": list(fusion)}},
        "select": {"selection.json": {"plan": {"rule": "rsc", "groups": groups}, "budget": budget}},
        "sparsify": {"gates.json": {"max_cut": max_cut, "mean_cut": 0.001}},
        "prune": {"prune.json": {"before_cut": QUALITY, "after_cut": QUALITY, "equivalence": EQUIVALENCE}},
        "finetune": {METRICS: {"stage": "finetune", "step": 9, "loss": 0.25}},
        "evaluate": {
            "evaluation.json": {
                "finetuned": {**QUALITY, "psnr": 31.5},
                "hidden_error": {},
                "cost": {**COST, "macs": 2},
                "test": None,
            }
        },
        "measure": {"measured.json": MEASUREMENTS},
    }


def publish(job, store, **options):
    files = artifact_files(job, **options)
    for stage in job.stages:

        def make(folder, work, stage=stage.stage):
            for name, value in files[stage].items():
                if name == METRICS:
                    (folder / name).write_text(json.dumps(value) + "\n")
                else:
                    write_json(folder / name, value)
            if stage in ("reference", "evaluate"):
                (folder / "crops").mkdir()
                (folder / "crops" / f"{stage}.png").write_bytes(b"a picture")

        store.produce(stage.stage, stage.key, stage.settings, make)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", lambda text: None)


def test_a_job_is_finished_when_its_last_stage_is_published(store):
    job = plan_job(tiny_config())
    assert not is_finished(job, store)
    assert is_finished(plan_job(changed(until="pretrain")), store) is False
    publish(job, store)
    assert is_finished(job, store)
    assert not is_finished(plan_job(changed(ratio=0.3)), store)
    assert is_finished(plan_job(changed(until="prune")), store)


def test_collecting_writes_the_files_of_a_finished_job(store, tmp_path):
    job, folder = plan_job(tiny_config()), tmp_path / "run"
    publish(job, store)
    result = collect(job, store, folder).result
    assert Result.load(folder) == result
    assert result.quality["finetuned"].psnr == 31.5
    assert result.macs_kept == 0.25
    assert [layer.name for layer in result.layers] == [group.name for group in job.layout.groups]
    assert {(layer.kept, layer.total) for layer in result.layers} == {(2, 16)}
    assert result.stages == keys_of(job)
    assert result.notes == ["clip a: cropped"]
    assert (result.temporal_gain, result.flow_photometric) == (0.3, 0.7)
    measured = read_measured(folder)
    assert measured.threads == 2
    assert measured.speed_up == 2.0
    assert list(measured.stage_seconds) == [stage.stage for stage in job.stages]
    rows = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
    assert [row["stage"] for row in rows] == ["flow", "pretrain", "finetune"]
    assert sorted(path.name for path in (folder / "crops").iterdir()) == [
        "evaluate.png",
        "places.json",
        "reference.png",
    ]


def test_gates_far_from_zero_at_the_cut_are_noted(store, tmp_path):
    job = plan_job(tiny_config())
    publish(job, store, max_cut=0.3)
    notes = collect(job, store, tmp_path / "run").result.notes
    assert any("max |gamma| over the cut units was 0.300" in note for note in notes)


def test_a_plan_that_min_kept_has_shaped_is_noted(store, tmp_path):
    job = plan_job(changed(min_kept=2))
    publish(job, store)  # two units stay in every layer
    layers = len(job.layout.groups)
    assert f"{layers} of {layers} layers are at min_kept=2" in collect(job, store, tmp_path / "run").result.notes


def test_scores_that_tell_no_units_apart_are_noted(store, tmp_path):
    job = plan_job(tiny_config())
    publish(job, store, fusion=[1.0] * 16)
    (note,) = (note for note in collect(job, store, tmp_path / "run").result.notes if "same score" in note)
    assert note == "in 1 of 1 layers all units have the same score: which of them go is not by what they are worth"
    # A layer that stays whole was not chosen from, and chance asks for no score.
    for name, options in (("whole", {"kept": tuple(range(16))}), ("chance", {"units": "random"})):
        store = Store(tmp_path / name, lambda text: None)
        job = plan_job(changed(**({} if name == "whole" else options)))
        publish(job, store, fusion=[1.0] * 16, **(options if name == "whole" else {}))
        assert not any("same score" in note for note in collect(job, store, tmp_path / f"run_{name}").result.notes)


def test_a_dense_network_below_its_input_s_baseline_is_noted(store, tmp_path):
    job = plan_job(tiny_config())
    publish(job, store, dense_psnr=QUALITY["psnr"] - 1)
    notes = collect(job, store, tmp_path / "run").result.notes
    expected = f"({QUALITY['psnr'] - 1:.2f} dB against {QUALITY['psnr']:.2f} dB)"
    assert any("the dense network is below the input's baseline" in note and expected in note for note in notes)


def test_a_network_that_hardly_uses_time_is_noted(store, tmp_path):
    job = plan_job(tiny_config())
    publish(job, store, temporal_gain=0.04)
    notes = collect(job, store, tmp_path / "run").result.notes
    assert any(note.startswith("other frames are worth +0.04 dB to the dense network") for note in notes)


def test_a_one_shot_job_has_no_gates(store, tmp_path):
    job = plan_job(changed(method__sparsify=False))
    publish(job, store)
    assert collect(job, store, tmp_path / "run").result.gates is None


def test_a_job_that_stops_early_leaves_its_curves_alone(store, tmp_path):
    publish(plan_job(tiny_config()), store)
    assert collect(plan_job(changed(until="finetune")), store, tmp_path / "run").result is None
    assert [path.name for path in (tmp_path / "run").iterdir()] == [METRICS]


def test_a_job_that_ends_early_and_computes_nothing_needs_no_process(store, tmp_path):
    early = plan_job(changed(until="finetune", tracking__to=["wandb"]))
    assert not needs_no_process(early, store, tmp_path / "run")
    publish(plan_job(tiny_config()), store)
    assert needs_no_process(early, store, tmp_path / "run")
    # One that is evaluated has a run in W&B to come.
    assert not needs_no_process(plan_job(changed(tracking__to=["wandb"])), store, tmp_path / "run")


def test_a_finished_job_is_shown_to_a_tracker_that_it_did_not_have(store, tmp_path):
    """But for W&B: a run that was uploaded may have been deleted here."""
    publish(plan_job(tiny_config()), store)
    folder = tmp_path / "run"
    assert collect(plan_job(tiny_config()), store, folder).result
    assert needs_no_process(plan_job(changed(tracking__to=["wandb"])), store, folder)
    both = plan_job(changed(tracking__to=["wandb", "csv"], store_dir=str(store.root)))
    assert not needs_no_process(both, store, folder)
    run_job(both, folder, print)
    assert needs_no_process(both, store, folder)
    assert ",summary,macs_kept," in (folder / "tracking.csv").read_text()
    assert not (folder / "wandb").exists()


def test_nothing_is_collected_while_a_stage_is_missing_or_damaged(store, tmp_path):
    job = plan_job(tiny_config())
    assert collect(job, store, tmp_path / "run") is None
    publish(job, store)
    scores = store.find("score", job.stage("score").key).path("scores.json")
    scores.write_text(scores.read_text().replace("5", "6"))
    assert collect(job, store, tmp_path / "run") is None
    assert not (tmp_path / "run").exists()
    assert not is_finished(job, store)


def test_a_folder_without_measurements_is_named(tmp_path):
    with pytest.raises(UserError, match=rf"no {MEASURED} in ") as caught:
        read_measured(tmp_path)
    assert str(tmp_path) in str(caught.value)


def write_480p(folder):
    for name in ("run", "walk"):
        (folder / name).mkdir(parents=True)
        Image.fromarray(np.zeros((480, 854, 3), dtype=np.uint8)).save(folder / name / "0000.png")


def test_a_patch_that_clips_cannot_hold_is_refused_with_the_one_that_they_can(tmp_path):
    write_480p(tmp_path / "clips")
    own = {"data__name": "folder", "data__path": str(tmp_path / "clips"), "store_dir": str(tmp_path / "store")}
    assert plan_job(changed(**own, schedule__patch=120)).sources is not None
    told = refusal(**own, schedule__patch=121)
    assert told.startswith("schedule.patch=121 does not fit into the input of clip run, 213x120")
    assert told.endswith("use schedule.patch=120 or less, or larger frames")
    assert plan_job(changed(**own, schedule__patch=60, data__halve=True)).sources is not None
    told = refusal(**own, schedule__patch=64, data__halve=True)
    assert "106x60 (frames of 854x480, halved, at scale 4)" in told
    assert told.endswith("use schedule.patch=60 or less, or data.halve=false, or larger frames")


def test_a_clip_that_cannot_be_read_is_told_where_it_is_read(tmp_path):
    write_480p(tmp_path / "clips")
    (tmp_path / "clips" / "run" / "0000.png").write_bytes(b"damaged")
    own = {"data__name": "folder", "data__path": str(tmp_path / "clips"), "store_dir": str(tmp_path / "store")}
    assert plan_job(changed(**own)).sources is not None


def test_results_of_a_smoke_test_say_what_they_are():
    (warning,) = config_warnings(changed(schedule__name="smoke"))
    assert "mean nothing" in warning


# Imports

PLAN = """
import json, sys
import vsrprune.jobs.dry_run, vsrprune.jobs.planning, vsrprune.jobs.runner, vsrprune.results.terminal
import vsrprune.jobs.speed
from vsrprune.config.job import Config
from vsrprune.config.model import ModelConfig
from vsrprune.store.store import Store
from pathlib import Path
from types import SimpleNamespace
from rich.console import Console

# The process that times a network imports torch, and is no part of planning.
times = "start step narrow_step frame compare motion output_motion parameters".split()
answer = SimpleNamespace(returncode=0, stdout=json.dumps(dict.fromkeys(times, 1.0)))
vsrprune.jobs.speed.subprocess = SimpleNamespace(run=lambda *command, **others: answer, TimeoutExpired=TimeoutError)
config = Config()
job = vsrprune.jobs.planning.plan_job(config)
config = Config(data=type(config.data)(name="folder", path=sys.argv[1]), store_dir=sys.argv[2])
folder_job = vsrprune.jobs.planning.plan_job(config)
store = Store(Path(sys.argv[2]), print)
assert not vsrprune.jobs.planning.is_finished(job, store)
vsrprune.jobs.dry_run.print_plan([("one", job), ("two", folder_job)], store, Console(width=200))
heavy = {"torch", "pytorch_lightning", "lightning", "wandb", "skimage", "scipy", "pandas", "matplotlib", "av"}
print("imported:", sorted(heavy & sys.modules.keys()))
"""


def test_planning_imports_no_torch_lightning_or_wandb(tmp_path):
    write_clips(tmp_path / "clips", "run", "walk")
    command = [sys.executable, "-c", PLAN, str(tmp_path / "clips"), str(tmp_path / "store")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "imported: []"
    assert "2 jobs" in done.stdout


TESTS = str(Path(__file__).parents[2])
FINISHED = """
import sys
from pathlib import Path
import vsrprune.jobs.runner
from vsrprune.jobs.planning import plan_job

sys.path.append(sys.argv[3])
from tiny_job import tiny_config

config = tiny_config()
config.store_dir = sys.argv[1]
config.tracking.to = []
result = vsrprune.jobs.runner.run_job(plan_job(config), Path(sys.argv[2]), print)
print(result.quality["finetuned"].psnr, sorted({"torch", "pytorch_lightning", "wandb"} & sys.modules.keys()))
"""


def test_a_finished_job_is_collected_without_torch(store, tmp_path):
    publish(plan_job(tiny_config()), store)
    command = [sys.executable, "-c", FINISHED, str(tmp_path / "store"), str(tmp_path / "run"), TESTS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["31.5 []"]
    assert Path(tmp_path / "run" / "result.json").is_file()


# Older stores


def test_a_store_of_an_older_version_is_refused_in_one_line(tmp_path):
    job = plan_job(changed(store_dir=str(tmp_path / "store")))
    store = open_store(job, print)
    publish(job, store)
    assert open_store(job, print).root == store.root
    for path in (tmp_path / "store" / "score").glob("*/manifest.json"):
        manifest = json.loads(path.read_text())
        older = {name: value for name, value in manifest.items() if name not in ("format", "manifest_sha256")}
        path.write_text(json.dumps({"manifest_sha256": checksum_of(older), **older}))
    with pytest.raises(UserError, match=r"^store_dir=.* was written by an older version .* name another store_dir"):
        open_store(job, print)


def test_a_damaged_manifest_is_the_store_s_own_business(tmp_path):
    job = plan_job(changed(store_dir=str(tmp_path / "store")))
    publish(job, open_store(job, print))
    for path in (tmp_path / "store" / "score").glob("*/manifest.json"):
        path.write_text(path.read_text().replace('"format"', '"fopmat"'))  # one bit
    assert open_store(job, print).find("score", job.stage("score").key) is None


OWN_NETWORK = """
import torch
from torch import nn
from torch.nn import functional as F
from vsrprune.networks.own import OwnNetwork, VSROutput


class Net(OwnNetwork):
    reach = (0, 0)

    def __init__(self):
        super().__init__()
        self.first, self.up = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 48, 3, padding=1)

    def forward(self, frames_NTCHW, flows=None):
        frames = [F.pixel_shuffle(self.up(F.relu(self.first(frame))), 4) for frame in frames_NTCHW.unbind(1)]
        return VSROutput(torch.stack(frames, dim=1), {})
"""


def test_a_network_whose_file_changed_after_planning_is_told(tmp_path):
    file = tmp_path / "net.py"
    file.write_text(OWN_NETWORK)
    model = ModelConfig(name="own", network="own", arguments=OwnArguments(f"{file}:Net"))
    job = plan_job(with_knobs(tiny_config(), {"model": model, "store_dir": str(tmp_path / "store"), "tf_weight": 0.0}))
    assert changed_network(job) == ""
    file.write_text(f"{OWN_NETWORK}# changed\n")
    assert changed_network(job).startswith("the file of the network changed since the sweep was planned")
    file.write_text("class Net(:")
    assert "this is no Python" in changed_network(job)
    file.write_text(OWN_NETWORK)
    assert changed_network(job) == ""
    assert changed_network(plan_job(tiny_config())) == ""


def test_a_folder_has_the_result_of_the_same_stages_alone(tmp_path, store):
    folder, job = tmp_path / "run", plan_job(tiny_config())
    assert not has_its_result(job, folder)
    publish(job, store)
    collect(job, store, folder)
    assert has_its_result(job, folder)
    assert not has_its_result(plan_job(changed(ratio=0.3)), folder)
    (folder / "measured.json").unlink()
    assert not has_its_result(job, folder)
