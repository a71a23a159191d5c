"""Jobs of a sweep are composed as Hydra would compose each by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from hydra_plugins.vsrprune_launcher.composing import SweepComposer
from vsrprune.cli import CONF, register
from vsrprune.config.job import Config

JOBS = [
    [],
    ["ratio=0.3"],
    ["ratio=0.3", "seed=2", "schedule.finetune.lr=1e-4"],
    ["method=l1"],
    ["method=l1", "ratio=0.7"],
    ["ratio=0.7", "method=l1", "method.sparsify=false"],
    ["schedule=short", "schedule.pretrain.steps=9", "schedule.pretrain.steps=7"],
    ["rule=inner", "data.val=[a,b]", "ratios={fusion: 3}"],
    ["rsc=false", "residual=inner", "model.channels=8"],
    ["model=edsr", "model.blocks=3"],
    ["tracking.project=${model.name}"],
    ["schedule={patch: 32}"],
    ["+model.anything=1"],
]


@pytest.fixture
def composer() -> Iterator[tuple[SweepComposer, DictConfig]]:
    register(Config)
    with initialize_config_dir(str(CONF.resolve()), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("config", ["data.demo_seed=5"], RunMode.MULTIRUN)
        HydraConfig.instance().set_config(master)
        yield SweepComposer(loader, master), master


def by_hydra(master: DictConfig, overrides: list[str]) -> DictConfig:
    composed = GlobalHydra.instance().config_loader().load_sweep_config(master, overrides)
    with open_dict(composed):
        del composed["hydra"]
    return composed


def test_every_job_is_what_hydra_composes(composer: tuple[SweepComposer, DictConfig]) -> None:
    sweep, master = composer
    for overrides in [*JOBS, *reversed(JOBS)]:  # whatever was composed before
        composed, expected = sweep.compose(overrides), by_hydra(master, overrides)
        assert composed == expected
        assert OmegaConf.to_container(composed, resolve=True) == OmegaConf.to_container(expected, resolve=True)


@pytest.mark.parametrize("wrong", ["no_such_knob=1", "method=nope", "schedule.nope.lr=1"])
def test_what_hydra_refuses_is_refused(composer: tuple[SweepComposer, DictConfig], wrong: str) -> None:
    sweep, master = composer
    with pytest.raises((HydraException, ConfigCompositionException)) as expected:
        by_hydra(master, [wrong])
    for _ in range(2):
        with pytest.raises(type(expected.value)) as found:
            sweep.compose([wrong])
        assert str(found.value) == str(expected.value)
    assert sweep.compose(["ratio=0.3"]).ratio == 0.3


def test_files_are_read_once_for_each_choice_of_files(
    composer: tuple[SweepComposer, DictConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, _ = composer
    loader, read = GlobalHydra.instance().config_loader(), []
    load = loader.load_sweep_config
    monkeypatch.setattr(
        loader, "load_sweep_config", lambda config, choices: (read.append(choices), load(config, choices))[1]
    )
    for ratio in range(1, 9):
        sweep.compose([f"ratio=0.{ratio}"])
        sweep.compose([f"ratio=0.{ratio}", "method=l1"])
    assert read == [[], ["method=l1"]]


def test_a_folder_of_one_s_own_offers_choices_too(composer: tuple[SweepComposer, DictConfig], tmp_path: Path) -> None:
    _, _ = composer
    (tmp_path / "schedule").mkdir()
    (tmp_path / "schedule" / "mine.yaml").write_text("defaults: [short]\npatch: 17\n")
    loader = GlobalHydra.instance().config_loader()
    master = loader.load_configuration("config", [f"hydra.searchpath=[{tmp_path}]"], RunMode.MULTIRUN)
    assert SweepComposer(loader, master).compose(["schedule=mine", "schedule.pretrain.steps=3"]).schedule.patch == 17
