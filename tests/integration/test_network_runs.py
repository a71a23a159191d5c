"""Every network goes through the stages to a result, whatever the rule, scope, rounding, method and task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from conftest import ROOT, minimal_overrides, run_py
from hydra import compose, initialize_config_dir

import run  # noqa: F401  registers the schema
from vsrprune.channels.layout import RULES
from vsrprune.cli import composed_config
from vsrprune.config.job import Config
from vsrprune.errors import UserError
from vsrprune.jobs.planning import plan_job
from vsrprune.jobs.runner import run_job
from vsrprune.methods.table import METHODS
from vsrprune.networks.basicvsr.spec import BasicVSRArguments
from vsrprune.networks.files import load_network
from vsrprune.networks.table import FAMILIES, build, loaded
from vsrprune.results.result import Result

pytestmark = pytest.mark.usefixtures("small_frames")

# What makes the presets smaller still; channels stay 8 where counts are rounded.
SHAPES = {
    "basicvsr_tiny": [
        "model.channels=8",
        "model.upsampler_channels=8",
        "model.flow_levels=2",
        "model.flow_widths=[4]",
    ],
    "basicvsr_pp_tiny": [
        "model.channels=8",
        "model.upsampler_channels=8",
        "model.flow_levels=2",
        "model.flow_widths=[4]",
    ],
    "edvr_tiny": ["model.channels=8", "model.reconstruction_blocks=1", "model.upsampler_channels=8"],
    "rrn_tiny": ["model.channels=16", "model.blocks=2"],
    "edsr_tiny": ["model.blocks=2"],
    "rcan_tiny": ["model.groups=1", "model.blocks=2"],
}
FEW = ["schedule.align.steps=4", "evaluate.temporal=false", "tracking=none", "schedule.frames=2", "data.demo_frames=3"]


def overrides(folder: Path, model: str, *more: str) -> list[str]:
    """The minimal schedule for a preset."""
    common = [item for item in minimal_overrides(folder) if not item.startswith("model.")]
    return [f"model={model}", *common, *FEW, *SHAPES[model], *more]


def config_of(folder: Path, model: str, *more: str) -> Config:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return composed_config(compose("config", overrides(folder, model, *more)), Config)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for this file: jobs of a preset share a dense network."""
    return tmp_path_factory.mktemp("networks")


def slow(*job: str) -> object:
    return pytest.param(job, marks=pytest.mark.slow, id=" ".join(job))


def fast(*job: str) -> object:
    return pytest.param(job, id=" ".join(job))


JOBS = [
    fast("basicvsr_tiny", "model.cell=gru", "rule=aligned", "schedule.finetune.truncate=1"),
    fast("basicvsr_tiny", "model.cell=second_order", "rule=rsc", "round_to=auto", "score=taylor"),
    slow("basicvsr_tiny", "model.cell=gru", "rule=inner", "method=srp", "trainer.precision=bf16-mixed"),
    slow("basicvsr_tiny", "model.cell=gru", "method=lite"),
    slow("basicvsr_tiny", "model.cell=gru", "rule=aligned", "round_to=auto", "score=taylor"),
    slow("basicvsr_tiny", "model.cell=gru", "model.bidirectional=false", "rule=rsc", "round_to=4", "rounds=2"),
    slow("basicvsr_tiny", "model.cell=second_order", "method=assl", "trainer.precision=bf16-mixed"),
    slow("basicvsr_tiny", "model.cell=second_order", "method=distill", "evaluate.precision=bf16"),
    slow("basicvsr_tiny", "model.cell=second_order", "model.bidirectional=false", "rule=aligned", "scope=local"),
    fast("edsr_tiny", "rule=rsc", "round_to=auto", "score=taylor"),
    fast("edsr_tiny", "rule=inner", "method=ssl_distill", "target=params"),
    fast("edsr_tiny", "task=denoise", "method=l1", "scope=local"),
    fast("edsr_tiny", "task=denoise", "method=lite"),
    fast("rcan_tiny", "method=assl"),
    fast("rcan_tiny", "rule=rsc", "round_to=8", "scope=local"),
    fast("rcan_tiny", "rule=rsc", "round_to=auto", "score=taylor"),
    fast("rrn_tiny", "method=distill"),
    fast("rrn_tiny", "rule=rsc", "round_to=8", "rounds=2"),
    fast("rrn_tiny", "rule=aligned", "scope=per_layer", "ratios={conv_h:0.5,trunk.stream:10}"),
    fast("rrn_tiny", "task=denoise", "method=srp"),
    fast("edvr_tiny", "method=unstructured"),
    slow("edvr_tiny", "rule=rsc", "round_to=auto", "score=taylor"),
    fast("basicvsr_pp_tiny", "rule=rsc", "score=gate"),
    slow("basicvsr_pp_tiny", "method=assl"),
    slow("basicvsr_pp_tiny", "rule=aligned", "round_to=auto", "score=taylor"),
    slow("basicvsr_pp_tiny", "rule=inner", "scope=local", "target=macs", "ratio=0.2"),
    slow("basicvsr_pp_tiny", "method=srp"),
    slow("basicvsr_pp_tiny", "method=distill"),
    slow("basicvsr_pp_tiny", "method=unstructured"),
    slow("basicvsr_pp_tiny", "task=denoise", "rule=rsc", "parts=[forward_2,upsampler]", "ratio=0.1"),
    slow("edvr_tiny", "rule=inner", "scope=local", "target=macs", "ratio=0.3"),
    slow("edvr_tiny", "method=assl"),
    slow("edvr_tiny", "method=srp", "rounds=2"),
    slow("edvr_tiny", "method=ssl_distill", "rule=aligned", "parts=[features]", "ratio=0.1"),
    slow("edvr_tiny", "task=deblur", "method=l1", "score=random"),
    slow("rrn_tiny", "rule=aligned", "round_to=auto", "score=taylor"),
    slow("rrn_tiny", "rule=inner", "round_to=auto", "score=taylor"),
    slow("rrn_tiny", "method=unstructured", "evaluate.precision=bf16"),
    slow("rrn_tiny", "rule=rsc", "evaluate.protocol=vimeo90k", "trainer.precision=bf16-mixed"),
    slow("rcan_tiny", "method=unstructured"),
    slow("rcan_tiny", "method=distill", "tf_weight=0"),
    slow("rcan_tiny", "rule=inner", "round_to=auto", "score=taylor"),
    slow("rcan_tiny", "rule=aligned", "task=deblur", "trainer.precision=bf16-mixed"),
    slow("edsr_tiny", "method=srp", "model.upscale_factors=[3]"),
]  # fmt: skip


def done(folder: Path, config: Config, name: str) -> Result:
    result = run_job(plan_job(config), folder / "runs" / name, say=lambda text: None)
    assert result is not None
    return result


@pytest.mark.parametrize("job", JOBS)
def test_a_network_goes_through_the_stages(job: Sequence[str], shared: Path) -> None:
    config = config_of(shared, *job)
    arguments = plan_job(config).arguments
    name = " ".join(job).replace("/", "_")
    result = done(shared, config, name)
    assert Result.load(shared / "runs" / name) == result
    method = METHODS[config.method.name]
    cut, scratch = method.start == "cut", method.start == "scratch"
    if scratch:
        assert result.equivalence is None
    else:
        assert result.equivalence.float64 <= 1e-10
    compared = bool(arguments.branches) and not scratch
    assert list(result.hidden_error) == (["after_cut", "finetuned"] if compared else [])
    for errors in result.hidden_error.values():
        assert tuple(errors) == arguments.branches
        for error in errors.values():
            assert error.made_here is not None
            assert len(error.total) == len(error.made_here) == len(error.propagated)
    assert bool(result.gates) == config.method.sparsify
    assert (result.units_cut > 0) == (method.plan not in ("masked", "whole"))
    assert result.cost["pruned"].macs < result.cost["dense"].macs
    noted = any("nearest reachable plan differs" in note for note in result.notes)
    assert abs(result.budget.deviation) <= 0.02 or noted or config.target == "latency"
    if config.round_to == 8:
        assert all(layer.kept % 8 == 0 or layer.kept == layer.total for layer in result.layers)
        assert any(layer.kept < layer.total for layer in result.layers)
    if config.parts:
        assert {layer.part for layer in result.layers if layer.kept < layer.total} <= set(config.parts)
    finetuned = load_network(shared / "store" / "finetune" / result.stages["finetune"])
    assert type(finetuned) is loaded(FAMILIES[config.model.network].network)
    assert finetuned.arguments == arguments
    if cut:
        counted = sum(parameter.numel() for parameter in finetuned.parameters())
        assert result.cost["pruned"].parameters_with_flow == counted
    moved = load_network(shared / "store" / "prune" / result.stages["prune"]).state_dict()
    trained = finetuned.state_dict()
    assert any(not torch.equal(value, moved[key]) for key, value in trained.items())  # it was trained


def test_the_jobs_cover_what_there_is() -> None:
    fast_jobs = [job.values[0] for job in JOBS if not job.marks]  # type: ignore[attr-defined]
    words = {word for job in fast_jobs for word in job}
    assert {f"rule={rule}" for rule in RULES} <= words
    assert {"scope=local", "scope=per_layer", "round_to=8", "round_to=auto", "task=denoise"} <= words
    methods = ("assl", "srp", "l1", "lite", "distill", "unstructured", "ssl_distill")
    assert {f"method={method}" for method in methods} <= words
    assert {job[0] for job in fast_jobs} == set(SHAPES)


# What does not go with a network


def test_no_hidden_states_no_temporal_loss(tmp_path: Path) -> None:
    """Networks without hidden states refuse a weight by name; distillation teaches them by the outputs alone."""
    for model in ("edsr_tiny", "rcan_tiny", "edvr_tiny"):
        distilled = ("method=distill", "target=macs", "ratio=0.2")
        with pytest.raises(
            UserError, match=f"tf_weight=1 holds hidden states .* model={model} has none; use tf_weight=0"
        ):
            plan_job(config_of(tmp_path, model, *distilled, "tf_weight=1"))
        assert plan_job(config_of(tmp_path, model, *distilled)).config.tf_weight == 0
        assert plan_job(config_of(tmp_path, model)).config.tf_weight == 0
    for model in ("rrn_tiny", "basicvsr_pp_tiny"):
        assert plan_job(config_of(tmp_path, model)).config.tf_weight > 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["edsr_tiny", "tf_weight=1"], "tf_weight=1 holds hidden states"),
        (["edsr_tiny", "schedule.finetune.truncate=2"],
         "schedule.finetune.truncate=2 ends the gradients of hidden states, and model=edsr_tiny has none; use"),
        (["edsr_tiny", "model.bidirectional=true"], "model.bidirectional=True is given, but model=edsr_tiny does not"),
        (["rcan_tiny", "model.window=3"], "model.window=3 is given, but model=rcan_tiny does not read"),
        (["rrn_tiny", "model.slope=0.1"], "model.slope=0.1 is given, but model=rrn_tiny does not read"),
        (["edsr_tiny", "parts=[backward]"], "parts must be one of trunk, upsampler; got 'backward'"),
        (["edvr_tiny", "parts=[forward]"], "parts must be one of features, alignment, fusion, reconstruction"),
        (["edvr_tiny", "method=unstructured", "parts=[features]"], "method=unstructured ranks no units"),
        (["rrn_tiny", "parts=[upsampler]"], "parts must be one of forward; got 'upsampler'"),
        (["edsr_tiny", "pretrained_flow={flow}"], "model=edsr_tiny has no flow net"),
        (["rrn_tiny", "pretrained_flow={flow}"], "model=rrn_tiny has no flow net"),
        (["edsr_tiny", "model.network=nope"], f"model.network must be one of {', '.join(FAMILIES)}; got 'nope'"),
        (["edvr_tiny", "model.window=4"], "model.window must be an odd number from 1 to 31; got 4"),
        (["rcan_tiny", "model.reduction=32"], "model.reduction must be at most model.channels"),
        (["rcan_tiny", "min_kept=5"], "min_kept=5 is more than the 4 channels of body.0.blocks.0.squeeze"),
        (["edvr_tiny", "target=macs", "ratio=0.99"], "the largest reachable ratio is"),
        (["rrn_tiny", "ratios={conv_o:0.5}", "scope=per_layer"], "ratios names the unknown layer 'conv_o'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_what_a_network_does_not_know_is_refused(wrong: list[str], words: str, tmp_path: Path) -> None:
    flow = tmp_path / "flow.pth"
    torch.save({}, flow)
    with pytest.raises(UserError) as refused:
        plan_job(config_of(tmp_path / "out", *[word.replace("{flow}", str(flow)) for word in wrong]))
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_the_command_line_refuses_in_one_line_without_torch(tmp_path: Path, no_torch: Path) -> None:
    for wrong, words in (("model.network=nope", "model.network must be one of"), ("tf_weight=1", "tf_weight=1 holds")):
        ran = run_py(*overrides(tmp_path / "out", "edsr_tiny", wrong), path=[no_torch])
        assert ran.returncode == 2
        assert words in ran.stderr
        assert ran.stderr.count("\n") == 1
        assert not (tmp_path / "out" / "store").exists()


def test_a_flow_net_of_a_file_goes_into_basicvsr_pp(tmp_path: Path) -> None:
    source = build(BasicVSRArguments(channels=4, blocks=1, flow_levels=2, flow_kernel=3, flow_widths=(4,)))
    assert source.flow_net is not None
    torch.save({"params": source.flow_net.state_dict()}, tmp_path / "spynet.pth")
    more = [f"pretrained_flow={tmp_path / 'spynet.pth'}", "schedule.pretrain.flow_frozen_steps=100", "until=pretrain"]
    job = plan_job(config_of(tmp_path, "basicvsr_pp_tiny", *more))
    run_job(job, tmp_path / "runs" / "flow", say=lambda text: None)
    stored = load_network(tmp_path / "store" / "pretrain" / job.stage("pretrain").key)
    assert stored.flow_net is not None
    for key, value in source.flow_net.state_dict().items():
        assert torch.equal(stored.flow_net.state_dict()[key], value)


@pytest.mark.parametrize(("more", "stage"), [((), "pretrain"), (("method=lite",), "prune")])
def test_new_weights_start_from_the_flow_net_that_was_trained_by_itself(
    more: tuple[str, ...], stage: str, tmp_path: Path
) -> None:
    frozen = ("schedule.pretrain.flow_frozen_steps=100", "schedule.flow.lr=0.1", f"until={stage}")
    job = plan_job(config_of(tmp_path, "basicvsr_pp_tiny", *more, *frozen))
    run_job(job, tmp_path / "runs" / "flow", say=lambda text: None)
    flow_nets = [load_network(tmp_path / "store" / name / job.stage(name).key).flow_net for name in ("flow", stage)]
    assert flow_nets[0] is not None
    assert flow_nets[1] is not None
    for key, value in flow_nets[0].state_dict().items():
        assert torch.equal(flow_nets[1].state_dict()[key], value)
    assert any(
        value.any() for key, value in flow_nets[0].state_dict().items() if "levels.0.2" in key or "levels.0.4" in key
    )


def test_published_weights_take_the_place_of_pretraining(tmp_path: Path) -> None:
    """RRN's, by the names of its authors."""
    planned = plan_job(config_of(tmp_path, "rrn_tiny"))
    torch.manual_seed(3)
    state = build(planned.arguments).state_dict()
    table = FAMILIES["rrn"].published(planned.arguments)["RRN"].names
    torch.save({their: state[our] for their, our in table.items()}, tmp_path / "rrn.pth")
    config = config_of(tmp_path, "rrn_tiny", f"pretrained={tmp_path / 'rrn.pth'}", "until=score")
    said: list[str] = []
    job = plan_job(config)
    run_job(job, tmp_path / "runs" / "pretrained", say=said.append)
    stored = load_network(tmp_path / "store" / "pretrain" / job.stage("pretrain").key).state_dict()
    assert all(torch.equal(value, stored[key]) for key, value in state.items())
    assert any("weights in RRN's layout" in line for line in said)
