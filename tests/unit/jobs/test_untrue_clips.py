"""Footage without a truth: what is looked at before any work, and whose keys it makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_job import tiny_config

from vsrprune.config.composing import with_knobs
from vsrprune.config.job import Config
from vsrprune.data.folder import find_folder
from vsrprune.data.reading import Notes, Reading, read_clip
from vsrprune.errors import UserError
from vsrprune.jobs.header import data_text
from vsrprune.jobs.planning import config_warnings, plan_job
from vsrprune.jobs.speed import held_out
from vsrprune.results.result import NO_TRUTH


def write(folder: Path, frames: int = 5, **sizes: tuple[int, int]) -> str:
    """Clips by their names, of this height and width."""
    for name, (height, width) in sizes.items():
        (folder / name).mkdir(parents=True)
        for index in range(frames):
            pixels = np.random.default_rng(index).integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return str(folder)


@pytest.fixture
def given(tmp_path: Path) -> Config:
    """A job on footage of two sizes, none of which is a multiple of the scale."""
    (tmp_path / "dense.pth").write_bytes(b"weights")
    path = write(tmp_path / "footage", walk=(30, 41), sea=(26, 37), wall=(31, 30))
    return knobs(
        tiny_config(), data__name="folder", data__path=path, data__val=["sea"], data__truth="none",
        pretrained=str(tmp_path / "dense.pth"), store_dir=str(tmp_path / "store"),
    )  # fmt: skip


def knobs(config: Config, **changes: Any) -> Config:
    return with_knobs(config, {name.replace("__", "."): value for name, value in changes.items()})


def refusal(config: Config) -> str:
    with pytest.raises(UserError) as refused:
        plan_job(config)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_footage_of_several_sizes_is_the_input_as_it_is(given: Config) -> None:
    job = plan_job(given)
    held, _ = held_out(job)
    assert held.size == (26, 37)
    assert data_text(job) == "folder: 2 clips to train on, 1 held out, none with a truth; 5 frames of 148x104"
    halved, _ = held_out(plan_job(knobs(given, data__halve=True, schedule__patch=15)))
    assert halved.size == (13, 18)
    assert any(NO_TRUTH in warning for warning in config_warnings(given))


def test_footage_that_training_cannot_draw_from_is_refused(given: Config, tmp_path: Path) -> None:
    told = refusal(knobs(given, schedule__patch=31))
    assert told.startswith("schedule.patch=31 does not fit into the input of clip walk, 41x30 (frames of 41x30)")
    assert told.endswith("use schedule.patch=30 or less, or larger frames")
    told = refusal(knobs(given, schedule__frames=6))
    assert told.startswith("clip walk has 5 frames, but training takes 6 at a time; use longer clips or schedule.frame")
    assert "data.path" in refusal(knobs(given, data__path=str(tmp_path / "nowhere")))


def test_a_truth_or_none_are_other_clips(given: Config, tmp_path: Path) -> None:
    """Training and comparison differ; the network that both prune is the same file."""
    path = write(tmp_path / "truth", walk=(104, 100), sea=(104, 100), wall=(104, 100))
    without, with_truth = (
        {stage.name: stage for stage in plan_job(knobs(given, data__path=path, data__truth=truth)).stages}
        for truth in ("none", "all")
    )
    assert without["pretrain"].key == with_truth["pretrain"].key
    for name in ("score", "select"):  # of weights alone
        assert without[name].key == with_truth[name].key
    for name in ("reference", "sparsify", "prune", "finetune", "evaluate"):
        assert without[name].key != with_truth[name].key


@pytest.fixture
def beside(given: Config, tmp_path: Path) -> Config:
    path = write(tmp_path / "labelled", one=(104, 100), two=(104, 100))
    return knobs(
        given, data__path=path, data__val=["two"], data__truth="some", data__unlabelled=str(tmp_path / "footage"),
        pretrained="",
    )  # fmt: skip


def test_clips_beside_the_others_are_counted_and_looked_at(beside: Config, tmp_path: Path) -> None:
    assert "1 clips to train on, 3 without truth beside them, 1 held out; 5 frames" in data_text(plan_job(beside))
    short = write(tmp_path / "short", frames=2, walk=(30, 30))
    assert "clip walk has 2 frames" in refusal(knobs(beside, data__unlabelled=short))
    small = write(tmp_path / "small", walk=(20, 30))
    assert "does not fit into the input of clip walk, 30x20" in refusal(knobs(beside, data__unlabelled=small))
    assert "data.unlabelled must be a folder" in refusal(knobs(beside, data__unlabelled="nowhere"))


def test_a_held_out_clip_is_no_clip_to_train_on_without_its_truth(beside: Config) -> None:
    told = refusal(knobs(beside, data__unlabelled=beside.data.path))
    assert told.endswith("two is held out by data=folder")


def test_what_is_beside_the_others_leaves_what_came_before_alone(beside: Config) -> None:
    some, all_of_it = (
        {stage.name: stage.key for stage in plan_job(config).stages}
        for config in (beside, knobs(beside, data__truth="all", data__unlabelled=""))
    )
    same = {name for name in some if some[name] == all_of_it[name]}
    assert same == {"flow", "pretrain", "reference", "score", "select", "measure"}


def test_a_clip_without_truth_is_read_with_nothing_made_of_it(tmp_path: Path) -> None:
    (source,) = find_folder(write(tmp_path, walk=(9, 14))).clips
    clip = read_clip(source, Reading(scale=4, truth=False), Notes())
    assert clip is not None
    assert not clip.has_truth
    assert clip.size == (9, 14)
    expected = [np.array(Image.open(file)) for file in source.files]
    assert np.array_equal(clip.low_TCHW.permute(0, 2, 3, 1).numpy(), np.stack(expected))
    judged = clip.judged_by(clip.low_TCHW)
    assert judged.has_truth
    assert judged.judged_by(clip.low_TCHW[:1]) is judged
    halved = read_clip(source, Reading(scale=4, truth=False, halve=True), Notes())
    assert halved is not None
    assert halved.size == (4, 7)
