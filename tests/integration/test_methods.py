"""Every method runs its stages to a result, at the budget it was given; what contradicts it is refused."""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, minimal_config, run_py
from hydra import compose, initialize_config_dir

import run  # noqa: F401  registers the schema
from vsrprune.cli import composed_config
from vsrprune.config.agreement import validate
from vsrprune.config.composing import with_knobs
from vsrprune.config.job import Config
from vsrprune.errors import UserError
from vsrprune.jobs.planning import plan_job
from vsrprune.jobs.runner import open_store, run_job
from vsrprune.methods.table import METHODS
from vsrprune.networks.files import load_network
from vsrprune.results.result import METRICS
from vsrprune.stages.finetune.module import Finetune
from vsrprune.stages.finetune.scratch import Scratch
from vsrprune.stages.graph import plan_stages
from vsrprune.stages.recipe import Facts
from vsrprune.stages.select.recipe import Selection
from vsrprune.stages.sparsify.module import Sparsify

pytestmark = pytest.mark.usefixtures("small_frames")

DATA = Facts({}, "train clips", "held-out clips")


def chosen(name: str) -> Config:
    """The defaults with that method, as the command line composes them."""
    return copy.deepcopy(_composed(name))


@cache
def _composed(name: str) -> Config:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return composed_config(compose("config", [f"method={name}", "target=macs"]), Config)


def method_config(folder: Path, name: str, **changes: Any) -> Config:
    """The minimal schedule with the knobs that the method's file sets."""
    config, given = minimal_config(folder), chosen(name)
    for knob in ("rsc", "residual", "scope", "score", "rank", "target", "tf_weight", "method"):
        setattr(config, knob, getattr(given, knob))
    config = with_knobs(config, {"model.channels": 8, "model.upsampler_channels": 8})
    config.schedule.align.steps = 4
    config.evaluate.temporal = False
    for knob, value in changes.items():
        setattr(config, knob, value)
    return config


@pytest.mark.parametrize("name", METHODS)
def test_a_method_s_file_is_accepted(name: str) -> None:
    config = chosen(name)
    validate(config)
    assert config.method.name == name


def test_methods_share_what_they_have_in_common() -> None:
    keys = {name: {stage.stage: stage.key for stage in plan_stages(chosen(name), DATA)} for name in METHODS}
    assert len({stages["pretrain"] for stages in keys.values()}) == 1
    assert len({stages["reference"] for stages in keys.values()}) == 1
    assert len({stages["finetune"] for stages in keys.values()}) == len(METHODS)
    assert keys["lite"]["prune"] == keys["distill"]["prune"]
    assert keys["best"]["score"] not in (keys["ssl"]["score"], keys["random"]["score"])
    assert keys["ssl"]["prune"] == keys["ssl_distill"]["prune"]
    assert [name for name, stages in keys.items() if "align" in stages] == ["assl"]
    assert [name for name, stages in keys.items() if "score" not in stages] == [
        "lite", "distill", "unstructured", "dense"
    ]  # fmt: skip


@pytest.mark.parametrize("until", ["score", "sparsify"])
def test_a_method_without_a_stage_stops_before_it(until: str) -> None:
    config = chosen("lite")
    config.until = until
    expected = {"score": ["flow", "pretrain"], "sparsify": ["flow", "pretrain", "select"]}[until]
    assert [stage.stage for stage in plan_stages(config, DATA)] == expected


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("methods")


@pytest.mark.parametrize("name", METHODS)
def test_a_method_runs_to_a_result(name: str, shared: Path) -> None:
    method = METHODS[name]
    job = plan_job(method_config(shared, name))
    result = run_job(job, shared / "runs" / name, say=lambda text: None)
    assert result is not None
    noted = any("nearest reachable plan differs" in note for note in result.notes)
    assert abs(result.budget.deviation) <= 0.02 or noted
    assert result.macs_kept == pytest.approx(result.budget.reached / result.budget.dense, rel=1e-6)
    assert (result.equivalence is None) == (method.start == "scratch")
    assert result.equivalence is None or result.equivalence.float64 <= 1e-10
    assert set(result.hidden_error) == (set() if method.start == "scratch" else {"after_cut", "finetuned"})
    assert bool(result.gates) == job.config.method.sparsify
    finetuned = load_network(shared / "store" / "finetune" / job.stage("finetune").key)
    if method.start == "masked":
        conv = finetuned.get_submodule("conv_hr")
        assert bool((conv.weight == 0).any())
        assert result.units_cut == 0
        assert result.cost["pruned"].parameters < sum(p.numel() for p in finetuned.parameters())
    else:
        assert (result.units_cut > 0) == (method.plan != "whole")
        assert result.cost["pruned"].parameters_with_flow == sum(p.numel() for p in finetuned.parameters())


# A method is a preset of free axes: other values of them are other experiments, and run too.
COMBINED: list[tuple[str, dict[str, Any]]] = [
    ("assl", {"rsc": True}),
    ("srp", {"scope": "global"}),
    pytest.param("srp", {"rsc": True, "scope": "kind", "score": "fpgm"}, marks=pytest.mark.slow),
    pytest.param("assl", {"scope": "global", "score": "taylor", "rank": "per_mac"}, marks=pytest.mark.slow),
    pytest.param("assl", {"residual": "inner", "scope": "part", "normalise": "kind"}, marks=pytest.mark.slow),
    pytest.param("ssl", {"score": "fisher", "rank": "per_param", "target": "params"}, marks=pytest.mark.slow),
    pytest.param("ssl", {"score": "activation", "normalise": "layer"}, marks=pytest.mark.slow),
    pytest.param("best", {"round_to": "auto"}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "changes"), COMBINED, ids=str)
def test_axes_of_methods_combine(name: str, changes: dict[str, Any], shared: Path) -> None:
    job = plan_job(method_config(shared, name, ratio=0.3, **changes))
    result = run_job(job, shared / "runs" / f"{name}-combined{len(changes)}", say=lambda text: None)
    assert result is not None
    noted = any("nearest reachable plan differs" in note for note in result.notes)
    assert abs(result.budget.deviation) <= 0.02 or noted
    assert result.units_cut > 0
    assert result.equivalence is not None
    assert result.equivalence.float64 <= 1e-10
    assert np.isfinite(result.quality["finetuned"].psnr)


@pytest.mark.slow
def test_rounds_of_a_score_that_zeros_do_not_bring_to_nothing_take_nothing_back(shared: Path) -> None:
    """A filter of zeros is far from its neighbours, so that fpgm by itself would keep it."""
    job = plan_job(method_config(shared, "ssl", rounds=2, ratio=0.6, score="fpgm"))
    result = run_job(job, shared / "runs" / "rounds-fpgm", say=lambda text: None)
    assert result is not None
    first = Selection.load(open_store(job, print).find("select", result.stages["select_1"]).folder).plan
    assert all(set(first.cut(group)) <= set(result.plan.cut(group)) for group in first.kept)


def test_random_units_are_as_many_in_every_layer_and_cost_the_same(shared: Path) -> None:
    found = {}
    for units in ("ranked", "random"):
        job = plan_job(method_config(shared, "ssl", rounds=2, ratio=0.6, units=units))
        found[units] = run_job(job, shared / "runs" / f"units-{units}", say=lambda text: None)
    ranked, drawn = found["ranked"], found["random"]
    assert ranked is not None
    assert drawn is not None
    store = open_store(job, print)
    one, other = (
        Selection.load(store.find("select", result.stages["select_1"]).folder).plan for result in (ranked, drawn)
    )
    # The first round ranks the same network; the second one that the first has changed.
    assert ranked.stages["score_1"] == drawn.stages["score_1"]
    assert other.kept_counts == one.kept_counts
    assert other != one
    assert drawn.equivalence is not None
    assert drawn.equivalence.float64 <= 1e-10
    assert all(set(other.cut(group)) <= set(drawn.plan.cut(group)) for group in other.kept)


@pytest.mark.parametrize(("name", "changes"), [("assl", {}), ("ssl", {"rounds": 2}), ("dense", {}), ("lite", {})])
def test_a_budget_is_what_trainings_run_for(name: str, changes: dict[str, Any], shared: Path) -> None:
    config = with_knobs(method_config(shared, name, **changes), {"schedule.budget": 12})
    job = plan_job(config)
    folder = shared / "runs" / f"budget-{name}"
    result = run_job(job, folder, say=lambda text: None)
    assert result is not None
    rows = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
    stages = {row["stage"] for row in rows} - {"flow", "pretrain"}
    # A row is logged at every step, counted from 0.
    trained = sum(max(row["step"] for row in rows if row["stage"] == stage) + 1 for stage in stages)
    assert trained == (12 + config.schedule.pretrain.steps if name == "lite" else 12)
    assert result.steps == 12


def test_nothing_of_the_dense_network_is_cut_whatever_is_asked(shared: Path) -> None:
    asked = {"parts": ["backward"], "round_to": 8, "rounds": 2, "min_kept": 2, "units": "random"}
    results = []
    for number, changes in enumerate((asked, {"ratio": 0.7, "target": "units"})):
        job = plan_job(method_config(shared, "dense", **changes))
        results.append(run_job(job, shared / "runs" / f"dense-{number}", say=lambda text: None))
    first, second = results
    assert first is not None
    assert second is not None
    assert (first.units_cut, first.macs_kept, first.budget.deviation) == (0, 1, 0)
    assert first.cost["pruned"] == first.cost["dense"]
    assert first.stages["finetune"] == second.stages["finetune"]
    assert first.quality["after_cut"] == first.quality["dense"]
    assert first.quality["finetuned"] != first.quality["dense"]


RESUMED = {"assl": ("sparsify", Sparsify), "unstructured": ("finetune", Finetune), "distill": ("finetune", Scratch)}


@pytest.mark.parametrize("name", RESUMED)
def test_a_method_s_own_training_resumes_to_the_same_bits(
    name: str, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = plan_job(method_config(shared, name))
    run_job(whole, shared / "runs" / f"{name}-whole", say=lambda text: None)
    stage, owner = RESUMED[name]
    losses = owner.losses

    def crash(self: Any, batch: Any) -> Any:
        if self.global_step == 3:
            raise RuntimeError("crash")
        return losses(self, batch)

    other = shared / f"{name}-cut"
    cut = plan_job(method_config(other, name))
    assert cut.stage(stage).key == whole.stage(stage).key
    monkeypatch.setattr(owner, "losses", crash)
    with pytest.raises(RuntimeError, match="crash"):
        run_job(cut, other / "runs", say=lambda text: None)
    monkeypatch.setattr(owner, "losses", losses)
    assert any(other.glob(f"store/unfinished/{stage}-*/*/*.ckpt"))
    run_job(cut, other / "runs", say=lambda text: None)
    key = whole.stage("finetune").key
    first, second = (load_network(folder / "store" / "finetune" / key).state_dict() for folder in (shared, other))
    assert all(torch.equal(value, second[weight]) for weight, value in first.items())


REFUSED = [
    ("lite", {"rsc": True}, r"rule=rsc does not go with method=lite, which needs rule=aligned"),
    ("assl", {"round_to": "auto", "scope": "global", "target": "latency"}, r"method\.align=true has to know"),
    ("lite", {"target": "units"}, r"target=units does not go with method=lite, which needs target=macs or params"),
    ("lite", {"round_to": 8}, r"round_to=8 does not go with method=lite"),
    ("unstructured", {"tf_weight": 1.0}, r"method=unstructured is fine-tuned without a teacher; use tf_weight=0"),
    ("unstructured", {"scope": "local"}, r"scope=local does not go with method=unstructured"),
]


@pytest.mark.parametrize(("name", "changes", "message"), REFUSED)
def test_what_contradicts_a_method_is_refused(name: str, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        plan_job(method_config(tmp_path, name, **changes))


def test_other_contradictions_are_refused(tmp_path: Path) -> None:
    config = method_config(tmp_path, "lite")
    config.method.sparsify = True
    with pytest.raises(UserError, match=r"method\.sparsify=true does not go with method=lite"):
        plan_job(config)
    config = method_config(tmp_path, "assl")
    config.trainer.devices = 2
    with pytest.raises(UserError, match=r"method\.normalised=true trains on one device; got trainer\.devices=2"):
        plan_job(config)
    config = method_config(tmp_path, "assl")
    config.method.penalty = "filters"
    with pytest.raises(UserError, match=r"method\.normalised=true holds the norm.* use method\.penalty=gates"):
        plan_job(config)
    config = method_config(tmp_path, "distill")
    config.method.align = True
    with pytest.raises(UserError, match=r"method\.align=true does not go with method=distill"):
        plan_job(config)
    config = method_config(tmp_path, "ssl")
    config.method.output_weight = -1.0
    with pytest.raises(UserError, match=r"method\.output_weight must be a finite number >= 0; got -1"):
        plan_job(config)
    with pytest.raises(UserError, match=r"round_to=auto cuts every part; parts=\['forward'\]"):
        plan_job(method_config(tmp_path, "ssl", parts=["forward"], round_to="auto"))
    with pytest.raises(UserError, match="parts must be one of backward, forward, upsampler; got 'middle'"):
        plan_job(method_config(tmp_path, "ssl", parts=["middle"]))
    with pytest.raises(UserError, match=r"take parts=\['forward'\] out of the command"):
        plan_job(
            method_config(tmp_path, "ssl", parts=["forward"], scope="per_layer", target="units", ratios={"fusion": 0.5})
        )


def test_a_wrong_method_is_told_the_right_ones(tmp_path: Path) -> None:
    outcome = run_py(f"store_dir={tmp_path}", f"runs_dir={tmp_path}", "method=magic")
    assert outcome.returncode == 2
    assert "unstructured" in outcome.stderr
    assert "Traceback" not in outcome.stderr


@pytest.mark.parametrize("changes", [{}, {"method": "assl"}, {"method": "srp"}, {"score": "gate"}], ids=str)
def test_rounds_cut_more_and_take_nothing_back(changes: dict[str, str], shared: Path) -> None:
    score = {name: value for name, value in changes.items() if name == "score"}
    job = plan_job(method_config(shared, changes.get("method", "ssl"), rounds=3, ratio=0.6, **score))
    result = run_job(job, shared / "runs" / f"rounds{len(changes)}", say=lambda text: None)
    assert result is not None
    store = open_store(job, print)
    cut = []
    for name in ("select_1", "select_2", "select"):
        artifact = store.find("select", result.stages[name])
        assert artifact is not None
        groups = artifact.json("selection.json")["plan"]["groups"]
        cut.append({(group, unit) for group, of in groups.items() for unit in set(range(of["size"])) - set(of["kept"])})
    assert cut[0] < cut[1] < cut[2]
    rows = [json.loads(line) for line in (shared / "runs" / f"rounds{len(changes)}" / METRICS).read_text().splitlines()]
    stages = list(dict.fromkeys(row["stage"] for row in rows))
    assert [stage for stage in stages if stage.startswith("sparsify")] == ["sparsify_1", "sparsify_2", "sparsify"]
    assert result.equivalence.float64 <= 1e-10
