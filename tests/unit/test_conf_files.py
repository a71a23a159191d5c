"""Every YAML of conf/ and sweeps/ composes, together with the defaults, into a configuration that is accepted."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

import run  # noqa: F401  registers the schema and the resolvers
from vsrprune.config.job import STAGES, Config, ModelConfig, validate
from vsrprune.jobs.planning import model_arguments, plan_job
from vsrprune.search.config import SearchConfig, SearchJobConfig, validate_search
from vsrprune.search.samplers import SAMPLERS

ROOT = Path(__file__).parents[2]
ALL_FILES = sorted(path.relative_to(ROOT / "conf") for path in (ROOT / "conf").rglob("*/*.yaml"))
GROUP_FILES = [path for path in ALL_FILES if path.parts[0] != "search"]
SEARCH_FILES = [path for path in ALL_FILES if path.parts[0] == "search"]
SWEEP_FILES = sorted((ROOT / "sweeps").glob("*.yaml"))


@pytest.fixture
def _hydra() -> Iterator[None]:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield


def composed(overrides: list[str], name: str = "config") -> Config:
    config = OmegaConf.to_object(compose(name, overrides))
    assert isinstance(config, Config)
    return config


def test_config_files_are_found() -> None:
    assert {path.parts[0] for path in GROUP_FILES} == {
        "model",
        "data",
        "schedule",
        "trainer",
        "tracking",
        "launcher",
        "method",
        "rule",
        "task",
    }


@pytest.mark.usefixtures("_hydra")
@pytest.mark.parametrize("path", GROUP_FILES, ids=str)
def test_every_group_file_composes_and_validates(path: Path) -> None:
    # The demo's clips are too small for the published patches; such schedules come with data of one's own.
    data = ["data=folder", "data.path=clips"] if path.parts[0] == "schedule" else []
    config = composed([f"{path.parts[0]}={path.stem}", *data])
    validate(config)
    chosen = getattr(config, path.parts[0])
    names = {"tracking": lambda: chosen.mode, "rule": lambda: chosen}
    assert names.get(path.parts[0], lambda: chosen.name)() == path.stem


@pytest.fixture
def _search_schema() -> Iterator[None]:
    """As sweeps/search_ratios.py registers it, in place of a job's."""
    store = ConfigStore.instance()
    before = dict(store.repo)
    store.store(name="schema", node=SearchJobConfig(model=ModelConfig()))
    yield
    store.repo.clear()
    store.repo.update(before)


@pytest.mark.usefixtures("_search_schema", "_hydra")
@pytest.mark.parametrize("path", SEARCH_FILES, ids=str)
def test_every_sampler_has_a_file_that_composes(path: Path) -> None:
    config = composed([f"search={path.stem}"], "search_ratios")
    assert isinstance(config, SearchJobConfig)
    validate_search(config)
    assert config.search.name == path.stem
    assert {path.stem for path in SEARCH_FILES} == set(SAMPLERS)


@pytest.mark.usefixtures("_search_schema", "_hydra")
def test_help_of_the_search_names_every_knob() -> None:
    template = (ROOT / "conf" / "search_ratios.yaml").read_text()
    for name in vars(SearchConfig()):
        assert f"search.{name}" in template or name == "name", name


@pytest.mark.parametrize("path", SWEEP_FILES, ids=lambda path: path.stem)
def test_every_named_sweep_composes_and_validates(path: Path) -> None:
    """Each of its jobs, as Hydra would make them from its axes."""
    text = path.read_text()
    assert f"python src/run.py -cd sweeps -cn {path.stem}" in text
    axes = OmegaConf.load(path)["hydra"]["sweeper"]["params"]
    parser = OverridesParser.create()
    parsed = [parser.parse_override(f"{name}={values}") for name, values in axes.items()]
    choices = [
        [f"{axis.key_or_group}={value}" for value in axis.sweep_string_iterator()]
        if axis.is_sweep_override()
        else [axis.input_line]
        for axis in parsed
    ]
    fixed = [f"{name}={value}" for name, value in OmegaConf.load(path).items() if name in ("target",)]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        jobs = [composed([*fixed, *overrides]) for overrides in itertools.product(*choices)]
    for job in jobs:
        plan_job(job)
    assert len(jobs) >= 6
    assert {job.seed for job in jobs} >= {0, 1, 2} or "seed" not in axes


def test_sweeps_are_found() -> None:
    assert {"rsc_by_ratio", "scope", "order", "tf_weight", "ratio_curve", "seeds"} <= {p.stem for p in SWEEP_FILES}


@pytest.mark.usefixtures("_hydra")
def test_the_defaults_of_the_schema_and_of_the_files_agree() -> None:
    """A knob's default is written in config.yaml for people and in the dataclass for types; they must not differ."""
    config, schema = composed([]), Config()
    for knob in (
        *("rsc", "residual", "ratio", "target", "scope", "ratios", "score", "order", "tf_weight", "min_kept"),
        *("round_to", "seed", "pretrain_seed", "until", "dry_run", "pretrained", "pretrained_flow", "model"),
        *("store_dir", "runs_dir"),
    ):
        assert getattr(config, knob) == getattr(schema, knob), knob


@pytest.mark.usefixtures("_hydra")
def test_published_schedule() -> None:
    schedule = composed(["schedule=paper"]).schedule
    assert (schedule.batch, schedule.patch, schedule.frames) == (8, 64, 15)
    assert (schedule.pretrain.steps, schedule.pretrain.lr, schedule.pretrain.shape) == (300_000, 2e-4, "cosine")
    assert (schedule.pretrain.flow_frozen_steps, schedule.pretrain.flow_lr_share) == (5_000, 1 / 8)
    assert (schedule.sparsify.growth_steps, schedule.sparsify.steps) == (5_000, 19_000)
    assert schedule.sparsify.gate_lr == schedule.sparsify.lr == 2e-4


@pytest.mark.usefixtures("_hydra")
def test_published_networks() -> None:
    assert model_arguments(composed(["model=basicvsr"]).model).blocks == 30
    assert not model_arguments(composed(["model=basicvsr_uni"]).model).bidirectional


@pytest.mark.usefixtures("_hydra")
def test_a_method_sets_the_knobs_it_implies_and_explicit_values_win() -> None:
    assert composed(["method=l1"]).rsc is False
    assert composed(["method=l1"]).tf_weight == 0
    assert composed(["method=l1", "rsc=true", "tf_weight=0.5"]).rsc is True


@pytest.mark.usefixtures("_hydra")
def test_a_task_sets_the_scale_whatever_the_network() -> None:
    assert composed([]).model.upscale_factors == [2, 2]
    for task in ("denoise", "deblur"):
        assert composed([f"task={task}", "model=basicvsr_uni"]).model.upscale_factors == []
    assert composed(["task=denoise", "task.sigma=50"]).task.options == {"sigma": 50.0}


@pytest.mark.usefixtures("_hydra")
@pytest.mark.parametrize("override", ["rati=0.5", "ratio=abc", "model.width=3", "seed=1.5", "tf_weight=much"])
def test_unknown_knobs_and_wrong_types_are_refused(override: str) -> None:
    with pytest.raises(ConfigCompositionException):
        composed([override])


def test_help_names_every_knob() -> None:
    text = (ROOT / "conf" / "config.yaml").read_text()
    template = text[text.index("template:") :]
    knobs = [name for name, value in vars(Config()).items() if not hasattr(value, "__dataclass_fields__")]
    assert [knob for knob in knobs if f"{knob}=" not in template] == []
    assert [stage for stage in STAGES if stage not in template] == []
