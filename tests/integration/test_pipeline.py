"""Whole jobs in this process, one for each way through the stages."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from conftest import minimal_config
from PIL import Image

from vsrprune.config.composing import with_knobs
from vsrprune.data.demo import demo_clips
from vsrprune.errors import TrainingDivergedError, UserError
from vsrprune.host.failures import JobState
from vsrprune.host.tracking.table import Trackers
from vsrprune.jobs.collect import collect
from vsrprune.jobs.planning import plan_job
from vsrprune.jobs.runner import open_store, run_job
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.files import load_network, save_network
from vsrprune.results.result import Result
from vsrprune.stages.pretrain.module import Pretrain
from vsrprune.stages.run import run_stages
from vsrprune.stages.training.fit import Sampling, Session, fit


def run(folder: Path, **changes: Any) -> Result:
    result = run_job(plan_job(minimal_config(folder, **changes)), folder / "runs" / "job", say=lambda text: None)
    assert result is not None
    return result


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for this file: the jobs share a dense network."""
    return tmp_path_factory.mktemp("pipeline")


@pytest.mark.parametrize(
    "changes",
    [
        {
            "rsc": False,
            "residual": "inner",
            "scope": "local",
            "order": "max",
            "score": "gate",
            "tf_weight": 0.0,
            "seed": 3,
        },
        {"rsc": False, "residual": "aligned", "target": "macs"},
        {"score": "random", "seed": 5, "min_kept": 2, "ratio": 0.3},
        {"round_to": 2},
        {"scope": "per_layer", "ratios": {"backward_trunk.blocks.0.conv1": 0.5, "conv_hr": 2}},
        {"method__name": "l1", "method__sparsify": False, "rsc": False},
        {"model__bidirectional": False},
        {"model__upscale_factors": [3], "model__slope": 0.0},
    ],
    ids=lambda changes: "-".join(f"{name}={value}" for name, value in changes.items())[:40],
)
def test_every_way_through_the_stages(shared: Path, changes: dict[str, Any]) -> None:
    result = run(shared, **changes)
    assert result.equivalence.float64 <= 1e-10
    assert result.cost["pruned"].macs < result.cost["dense"].macs
    branches = {"forward"} if changes.get("model__bidirectional") is False else {"backward", "forward"}
    assert {point: set(errors) for point, errors in result.hidden_error.items()} == {
        "after_cut": branches,
        "finetuned": branches,
    }
    assert bool(result.gates) == changes.get("method__sparsify", True)
    minimum = changes.get("min_kept", 1)
    assert all(layer.kept >= minimum for layer in result.layers)
    if changes.get("round_to") == 2:
        assert all(layer.kept % 2 == 0 for layer in result.layers)


def test_a_ratio_of_zero_cuts_nothing(shared: Path) -> None:
    result = run(shared, ratio=0.0)
    assert result.units_cut == 0
    assert result.quality["before_cut"].psnr == result.quality["after_cut"].psnr


def test_without_temporal_weight_no_teacher_is_loaded(shared: Path) -> None:
    job = plan_job(minimal_config(shared, tf_weight=0.0))
    run_job(job, shared / "runs" / "no_teacher", say=lambda text: None)
    rows = [json.loads(line) for line in (shared / "runs/no_teacher/metrics.jsonl").read_text().splitlines()]
    finetune = [row for row in rows if row["stage"] == "finetune"]
    assert finetune
    assert all("loss_temporal" not in row for row in finetune)


def test_temporal_finetuning_with_all_its_knobs(shared: Path) -> None:
    knobs = {
        "method__teacher": "sparsified",
        "method__tf_in_sparsify": True,
        "schedule__finetune__frames": 4,
        "schedule__finetune__truncate": 2,
    }
    run_job(plan_job(minimal_config(shared, **knobs)), shared / "runs" / "temporal", say=lambda text: None)
    rows = [json.loads(line) for line in (shared / "runs/temporal/metrics.jsonl").read_text().splitlines()]
    losses = [row["loss_temporal"] for row in rows if row["stage"] == "sparsify"]
    assert losses[0] < 1e-5  # the network is still the dense one
    assert all("loss_temporal" in row for row in rows if row["stage"] == "finetune")
    assert run(shared, **knobs) != run(shared)


def test_until_stops_after_a_stage(tmp_path: Path) -> None:
    job = plan_job(minimal_config(tmp_path, until="select"))
    assert run_job(job, tmp_path / "runs" / "job", say=lambda text: None) is None
    assert {path.name for path in (tmp_path / "store").iterdir()} >= {"pretrain", "score", "select"}
    assert not (tmp_path / "store" / "sparsify").exists()


def test_equal_jobs_in_two_stores_give_equal_results(tmp_path: Path) -> None:
    """Everything in result.json is deterministic."""
    first, second = run(tmp_path / "a"), run(tmp_path / "b")
    assert first == second


def test_the_set_that_is_regularised_is_the_set_that_is_cut(shared: Path) -> None:
    config = minimal_config(shared, ratio=0.4)
    config.schedule.sparsify.hold_steps = 60
    config.schedule.sparsify.gate_lr = 0.05
    job = plan_job(config)
    result = run_job(job, shared / "runs" / "set", say=lambda text: None)
    assert result is not None
    assert result.gates.max_cut < 0.2
    store = open_store(job, print)
    sparsified = load_network(store.root / "sparsify" / job.stage("sparsify").key)
    spared: list[float] = []
    for group in job.layout.groups:
        kept = set(result.plan.kept[group.name])
        for gate in group.gates:
            values = sparsified.get_parameter(gate.parameter).detach().abs()
            driven_to_zero = {unit for unit in range(group.size) if values[unit] < 0.2}
            assert driven_to_zero >= set(range(group.size)) - kept, group.name
            spared += [float(values[unit]) for unit in kept]
    assert np.mean(spared) > 0.6


def test_a_damaged_artifact_is_set_aside_and_computed_again(tmp_path: Path) -> None:
    first = run(tmp_path)
    job = plan_job(minimal_config(tmp_path))
    weights = tmp_path / "store" / "finetune" / job.stage("finetune").key / "network.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 0x10
    weights.write_bytes(content)
    said: list[str] = []
    again = run_job(job, tmp_path / "runs" / "job", said.append)
    assert again == first
    assert any("network.safetensors fails its checksum" in line for line in said)
    assert any((tmp_path / "store" / "damaged").iterdir())


def test_a_dense_network_of_ones_own(tmp_path: Path) -> None:
    config = minimal_config(tmp_path)
    own = BasicVSR(plan_job(config).arguments)
    (tmp_path / "own").mkdir()
    save_network(own, tmp_path / "own")
    config.pretrained = str(tmp_path / "own" / "network.safetensors")
    job = plan_job(config)
    result = run_job(job, tmp_path / "runs" / "job", say=lambda text: None)
    assert result is not None
    stored = load_network(tmp_path / "store" / "pretrain" / job.stage("pretrain").key)
    assert all(torch.equal(stored.state_dict()[name], value) for name, value in own.state_dict().items())
    config = with_knobs(config, {"model.channels": 6})
    with pytest.raises(UserError, match=r"of another network.*of another shape"):
        run_job(plan_job(config), tmp_path / "runs" / "other", say=lambda text: None)


def test_own_videos_and_frames(tmp_path: Path) -> None:
    """Real files: an mp4 to train on, PNG frames of an odd size held out, and the same frames as a test clip."""
    clips = tmp_path / "clips"
    video = demo_clips(4, 1, 1, 1, 5).train[0].high_TCHW.permute(0, 2, 3, 1).numpy()
    clips.mkdir()
    with av.open(str(clips / "moving.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width = video.shape[1:3]
        for pixels in video:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
        container.mux(stream.encode())
    (clips / "still").mkdir()
    for index, pixels in enumerate(video):
        Image.fromarray(pixels[:101, :78]).save(clips / "still" / f"{index}.png")
    shutil.copytree(clips / "still", clips / "aside")
    result = run(tmp_path, data__name="folder", data__path=str(clips), data__val=["still"], data__test=["aside"])
    assert set(result.quality["finetuned"].clips) == {"still"}
    assert set(result.test) == {"baseline", "dense", "finetuned"}
    for name, quality in result.test.items():
        assert set(quality.clips) == {"aside"}
        assert (quality.psnr, quality.ssim) == (result.quality[name].psnr, result.quality[name].ssim)
    assert any("cropped from 78x101 to 76x100" in note for note in result.notes)
    assert any("schedule=demo with data=folder" in note for note in result.notes)


def vid4(root: Path, frames_NTHW3: list[np.ndarray[Any, Any]]) -> Path:
    """Four clips with low-resolution frames that no shrinking makes, so that it shows where they come from."""
    for name, video in zip(("calendar", "city", "foliage", "walk"), frames_NTHW3, strict=True):
        for tree in ("GT", "BIx4"):
            (root / tree / name).mkdir(parents=True)
        for index, pixels in enumerate(video):
            Image.fromarray(pixels).save(root / "GT" / name / f"{index:08d}.png")
            Image.fromarray(pixels[::4, ::4] // 2).save(root / "BIx4" / name / f"{index:08d}.png")
    return root


def test_a_published_set_beside_another_one_to_train_on(tmp_path: Path) -> None:
    """With a flow net of its own, a damaged clip that is left out, and a cache that changes nothing."""
    videos = [clip.high_TCHW.permute(0, 2, 3, 1).numpy() for clip in demo_clips(4, 1, 1, 1, 5).train[:4]]
    root = vid4(tmp_path / "vid4", videos)
    for name, video in zip(("good", "bad"), videos, strict=False):
        (tmp_path / "own" / name).mkdir(parents=True)
        for index, pixels in enumerate(video):
            Image.fromarray(pixels).save(tmp_path / "own" / name / f"{index}.png")
    (tmp_path / "own" / "bad" / "2.png").write_bytes(b"no PNG")
    flow = BasicVSR(plan_job(minimal_config(tmp_path)).arguments).flow_net
    torch.save({"params": flow.state_dict()}, tmp_path / "spynet.pth")
    changes = {
        "data__name": "vid4",
        "data__path": str(root),
        "data__train_set": "folder",
        "data__train_path": str(tmp_path / "own"),
        "pretrained_flow": str(tmp_path / "spynet.pth"),
        "schedule__pretrain__flow_frozen_steps": 10**6,
    }
    with pytest.raises(UserError, match=r"bad/2\.png: cannot read this PNG"):
        run(tmp_path, **changes)
    results = {}
    for cache in (False, True):
        folder = tmp_path / f"cache-{cache}"
        results[cache] = run(folder, **changes, data__on_error="skip", data__cache=cache)
        assert (folder / "store" / "cache").is_dir() == cache
        assert any(note.startswith("1 clips left out") and "bad/2.png" in note for note in results[cache].notes)
        stored = load_network(folder / "store" / "pretrain" / results[cache].stages["pretrain"])
        for name, value in flow.state_dict().items():
            assert torch.equal(stored.flow_net.state_dict()[name], value)
    assert results[True].stages == results[False].stages
    assert results[True].quality == results[False].quality
    assert set(results[True].quality["finetuned"].clips) == {"calendar", "city", "foliage", "walk"}
    assert results[True].quality["baseline"].psnr < 20  # of half the brightness


class _Stops(Pretrain):
    """Raises at a step, as a crash would."""

    stop_at = -1

    def losses(self, batch: Any) -> dict[str, torch.Tensor]:
        if self.global_step == self.stop_at:
            raise RuntimeError("crash")
        return super().losses(batch)


def test_temporal_consistency_is_a_result_of_what_ends_in_tables(tmp_path: Path) -> None:
    result = run(tmp_path)
    for name, quality in result.quality.items():
        reported = name in ("baseline", "dense", "finetuned")
        assert (quality.tof is not None) == (quality.warping_error is not None) == reported
        assert all(("tof" in clip) == reported for clip in quality.clips.values())
    assert result.quality["baseline"].tof > 0
    assert result.quality["baseline"].warping_error_truth == result.quality["finetuned"].warping_error_truth > 0
    assert Result.load(tmp_path / "runs" / "job") == result
    without = run(tmp_path, evaluate__temporal=False)
    assert {quality.tof for quality in without.quality.values()} == {None}
    assert {name: quality.psnr for name, quality in without.quality.items()} == {
        name: quality.psnr for name, quality in result.quality.items()
    }
    assert without.stages["finetune"] == result.stages["finetune"]


def test_a_protocol_and_a_degradation_are_followed_and_named(shared: Path) -> None:
    own = run(shared)
    published = run(shared, evaluate__protocol="vimeo90k", data__degradation="bd_basicvsr")
    assert published.knobs["evaluate"]["protocol"] == "vimeo90k"
    assert published.knobs["data"]["degradation"] == "bd_basicvsr"
    for quality in published.quality.values():
        assert {len(psnr) for psnr in quality.frames.values()} == {1}
    assert published.quality["baseline"].psnr < own.quality["baseline"].psnr - 0.1  # blurred clips are worse to enlarge
    lengths = [
        {len(error.total) for errors in result.hidden_error.values() for error in errors.values()}
        for result in (published, own)
    ]
    assert lengths[0] == lengths[1]


def test_a_stage_that_was_cut_off_ends_with_the_same_weights(tmp_path: Path) -> None:
    clips = demo_clips(4, 0, 1, 1, 5).train
    arguments = plan_job(minimal_config(tmp_path)).arguments

    def train(folder: str, stop_at: int) -> tuple[BasicVSR, list[dict[str, Any]]]:
        torch.manual_seed(7)
        module = _Stops(BasicVSR(arguments), 9, 1e-3, "onecycle")
        module.stop_at = stop_at
        (tmp_path / folder).mkdir(exist_ok=True)
        rows = fit(
            module,
            clips,
            Sampling(batch=2, patch=8, frames=3, seed=0),
            Session(workdir=tmp_path / folder, log_every=1, checkpoint_every=2),
        )
        return module.network, rows

    whole, whole_rows = train("whole", -1)
    with pytest.raises(RuntimeError, match="crash"):
        train("cut", 1)  # before the first checkpoint: its rows are forgotten
    with pytest.raises(RuntimeError, match="crash"):
        train("cut", 5)
    with (tmp_path / "cut" / "metrics.jsonl").open("a") as stream:
        stream.write('{"stage": "pretrain", "st')  # as a crash may leave it
    torch.manual_seed(1234)  # the resumed process starts from another random state
    resumed, resumed_rows = train("cut", -1)
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items())
    assert resumed_rows == whole_rows
    assert [row["step"] for row in resumed_rows] == list(range(9))


def test_nan_stops_the_stage_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    config = minimal_config(tmp_path)
    config.schedule.pretrain.lr = 1e30
    config.schedule.pretrain.steps = 40
    config.schedule.checkpoint_every = 1
    job = plan_job(config)
    with pytest.raises(TrainingDivergedError, match=r"pretrain: the loss is not finite at step \d+"):
        run_stages(job, open_store(job, print), Trackers([]), JobState(tmp_path / "job"), lambda text: None)
    stage = job.stage("pretrain")
    assert not (tmp_path / "store" / "pretrain" / stage.key).exists()
    checkpoints = list((tmp_path / "store" / "unfinished" / f"pretrain-{stage.key}").rglob("*.ckpt"))
    for path in checkpoints:
        state = torch.load(path, weights_only=True)["state_dict"]
        assert all(bool(torch.isfinite(value).all()) for value in state.values())
    assert collect(job, open_store(job, print), tmp_path / "runs") is None


def test_a_stage_that_diverges_in_its_last_step_is_not_published(shared: Path) -> None:
    """The loss is looked at before each step; what the last one did shows in the output alone."""
    config = minimal_config(shared, schedule__finetune__lr=1e30, schedule__finetune__steps=1)
    job = plan_job(config)
    with pytest.raises(TrainingDivergedError, match="finetune: the last step left"):
        run_job(job, shared / "runs" / "last_step", say=lambda text: None)
    assert not open_store(job, print).exists("finetune", job.stage("finetune").key)


def test_a_random_ranking_does_not_depend_on_the_idle_order(tmp_path: Path) -> None:
    plans = []
    for order in ("min", "max"):
        job = plan_job(minimal_config(tmp_path / order, score="random", order=order, until="select"))
        run_job(job, tmp_path / "runs" / order, say=lambda text: None)
        plans.append((tmp_path / order / "store" / "select" / job.stage("select").key / "selection.json").read_text())
    assert plans[0] == plans[1]


def test_latency_measures_the_dense_network_with_its_gates_folded(shared: Path) -> None:
    run(shared)
    measured = json.loads((shared / "runs" / "job" / "measured.json").read_text())
    for name in ("dense", "pruned"):
        latency = measured["latency_ms"][name]
        assert 0 < latency["ms_fastest"] <= latency["ms"] <= latency["ms_slowest"]
        assert latency["memory_format"] in ("contiguous", "channels_last", "channels_last, fused")
