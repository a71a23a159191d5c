"""Every YAML of conf/ and sweeps/ composes, together with the defaults, into a configuration that is accepted."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from PIL import Image

from vsrprune.cli import check_names, composed_config, register
from vsrprune.config.agreement import validate
from vsrprune.config.composing import with_knobs
from vsrprune.config.help import group_page
from vsrprune.config.job import Config
from vsrprune.config.model import ModelConfig, arguments_of
from vsrprune.errors import UserError
from vsrprune.jobs.planning import plan_job
from vsrprune.knobs import leaves
from vsrprune.search.config import SearchJobConfig, validate_search
from vsrprune.search.samplers import SAMPLERS

ROOT = Path(__file__).parents[2]
ALL_FILES = sorted(path.relative_to(ROOT / "conf") for path in (ROOT / "conf").rglob("*/*.yaml"))
GROUP_FILES = [path for path in ALL_FILES if path.parts[0] not in ("search", "experiment")]
EXPERIMENTS = {  # what has to be typed beside each
    "smoke": [],
    "own_clips": ["data.path=clips"],
    "published_ssl": ["data.path=REDS", "trainer=cpu"],
    "published_weights": ["data.path=REDS", "pretrained=basicvsr.pth", "trainer=cpu"],
    "realtime": [],
}
SEARCH_FILES = [path for path in ALL_FILES if path.parts[0] == "search"]
SWEEP_FILES = sorted((ROOT / "sweeps").glob("*.yaml"))
SEEDS = {"seed", "replicate"}
BESIDE = {"unlabelled": ["data=folder", "data.path=clips/${data.truth}", "pretrained=dense0.safetensors"]}


@pytest.fixture
def _hydra() -> Iterator[None]:
    register(Config)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield


def composed(overrides: list[str], kind: type[Config] = Config, name: str = "config") -> Config:
    return composed_config(compose(name, overrides), kind)


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
        "quantise",
    }


@pytest.mark.usefixtures("_hydra")
@pytest.mark.parametrize("path", GROUP_FILES, ids=str)
def test_every_group_file_composes_and_validates(path: Path) -> None:
    # The demo's clips are too small for the published patches; such schedules come with data of one's own.
    data = ["data=folder", "data.path=clips"] if path.parts[0] == "schedule" else []
    config = composed([f"{path.parts[0]}={path.stem}", *data])
    validate(config)
    chosen = getattr(config, path.parts[0])

    def tracker() -> str:
        return "online" if chosen.mode == "online" else "-".join(chosen.to) or "none"

    names = {"tracking": tracker, "rule": lambda: config.rule}
    assert names.get(path.parts[0], lambda: chosen.name)() == path.stem


def test_experiments_are_found() -> None:
    assert {path.stem for path in ALL_FILES if path.parts[0] == "experiment"} == set(EXPERIMENTS)


@pytest.mark.usefixtures("_hydra")
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes_and_validates(name: str, tmp_path: Path) -> None:
    (tmp_path / "basicvsr.pth").touch()
    typed = [f"experiment={name}", *EXPERIMENTS[name]]
    typed = [item.replace("pretrained=", f"pretrained={tmp_path}/") for item in typed]
    config = composed(typed)
    validate(config)
    assert config != composed([])
    # What is typed beside it wins: a group as well as a knob.
    other = composed([*typed, "schedule=hours", "ratio=0.25", "model=rrn"])
    assert (other.schedule.name, other.ratio, other.model.name) == ("hours", 0.25, "rrn")


@pytest.mark.usefixtures("_hydra")
def test_the_experiment_of_published_weights_asks_for_their_file() -> None:
    with pytest.raises(UserError, match=r"^pretrained must be a file of weights .*'basicvsr\.pth': there is none"):
        plan_job(composed(["experiment=published_weights", "data=demo", "schedule=demo", "trainer=cpu"]))


@pytest.mark.usefixtures("_hydra")
def test_an_experiment_says_what_it_is_on_the_help_s_page() -> None:
    page = group_page(Config, "experiment", ROOT / "conf")
    for name in EXPERIMENTS:
        assert f"  experiment={name}" in page


@pytest.fixture
def _search_schema() -> Iterator[None]:
    """As sweeps/search_ratios.py registers it, in place of a job's."""
    register(SearchJobConfig)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield
    register(Config)


@pytest.mark.usefixtures("_search_schema")
@pytest.mark.parametrize("path", SEARCH_FILES, ids=str)
def test_every_sampler_has_a_file_that_composes(path: Path) -> None:
    config = composed([f"search={path.stem}"], SearchJobConfig, "search_ratios")
    assert isinstance(config, SearchJobConfig)
    validate_search(config)
    assert config.search.name == path.stem
    assert {path.stem for path in SEARCH_FILES} == set(SAMPLERS)


@pytest.mark.parametrize("path", SWEEP_FILES, ids=lambda path: path.stem)
def test_every_named_sweep_composes_and_validates(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its jobs, as Hydra would make them from its axes; a seed is a number like another to Hydra."""
    monkeypatch.chdir(tmp_path)
    write_clips_of_a_sweep(tmp_path)
    text = path.read_text()
    assert f"python src/run.py -cd sweeps -cn {path.stem}" in text
    axes = OmegaConf.load(path)["hydra"]["sweeper"]["params"]
    choices = {str(name): swept(f"{name}={values}") for name, values in axes.items()}
    seeds = {name: [int(value.split("=")[1]) for value in choices.pop(name)] for name in SEEDS & axes.keys()}
    fixed = [f"{name}={value}" for name, value in yaml.safe_load(text).items() if name in ("target",)]
    fixed += BESIDE.get(path.stem, [])
    register(Config)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        made = [composed([*fixed, *overrides]) for overrides in itertools.product(*choices.values())]
        first = [*fixed, *(values[0] for values in choices.values())]
        for name, values in seeds.items():
            for value in values:
                assert composed([*first, f"{name}={value}"]) == with_knobs(made[0], {name: value})
    numbers = [dict(zip(seeds, values, strict=True)) for values in itertools.product(*seeds.values())]
    jobs = [with_knobs(job, chosen) for job in made for chosen in numbers]
    for job in jobs:
        plan_job(job)
    assert len(jobs) >= 6
    for name in seeds:
        assert {getattr(job, name) for job in jobs} >= {0, 1, 2}


def write_clips_of_a_sweep(folder: Path) -> None:
    """What a sweep over data.truth reads: two clips of 100x100 pixels with their truth and without, and weights."""
    for clip in ("all/one", "all/two", "none/one", "none/two"):
        (folder / "clips" / clip).mkdir(parents=True)
        for index in range(5):
            Image.new("RGB", (100, 100)).save(folder / "clips" / clip / f"{index}.png")
    (folder / "dense0.safetensors").touch()


def swept(axis: str) -> list[str]:
    """The overrides that Hydra makes of an axis of a sweep."""
    parsed = OverridesParser.create().parse_override(axis)
    if not parsed.is_sweep_override():
        return [parsed.input_line or axis]
    return [f"{parsed.key_or_group}={value}" for value in parsed.sweep_string_iterator()]


def test_sweeps_are_found() -> None:
    assert {"rsc_by_ratio", "scope", "order", "tf_weight", "ratio_curve", "seeds"} <= {p.stem for p in SWEEP_FILES}


@pytest.mark.usefixtures("_hydra")
def test_the_defaults_of_the_command_and_of_python_agree_in_every_knob() -> None:
    assert composed([]) == Config()


@pytest.mark.usefixtures("_search_schema")
def test_the_defaults_of_the_search_agree_but_for_its_target() -> None:
    assert composed([], SearchJobConfig, "search_ratios") == SearchJobConfig(target="macs")


def stated(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from stated(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


@pytest.mark.parametrize("path", ALL_FILES, ids=str)
def test_no_file_of_a_group_states_a_default(path: Path) -> None:
    """But for names, and what a file sets because its absence would mean something else."""
    group = path.parts[0]
    text = (ROOT / "conf" / path).read_text()
    values = yaml.safe_load(text)
    values = values if "@package _global_" in text else {group: values}
    defaults = {leaf.name: leaf.default for leaf in leaves(SearchJobConfig)}
    model = values.get("model", {})
    network = model.get("network", ModelConfig().network)
    defaults |= {leaf.name: leaf.default for leaf in leaves(arguments_of(network), "model.")}
    for name, value in stated(values):
        if name.endswith((".name", ".network", ".defaults")) or group in ("rule", "tracking"):
            continue
        plain = tuple(value) if isinstance(value, list) else value
        assert plain != defaults.get(name), f"{path} states {name}={value}, which is its default"


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
    assert composed(["model=basicvsr"]).model.arguments.blocks == 30
    assert not composed(["model=basicvsr_uni"]).model.arguments.bidirectional


@pytest.mark.usefixtures("_hydra")
def test_a_method_sets_the_knobs_it_implies_and_explicit_values_win() -> None:
    assert composed(["method=l1"]).rsc is False
    assert composed(["method=l1"]).tf_weight == 0
    assert composed(["method=l1", "rsc=true", "tf_weight=0.5"]).rsc is True


@pytest.mark.usefixtures("_hydra")
def test_a_task_sets_the_scale_whatever_the_network() -> None:
    assert composed([]).model.arguments.upscale_factors == (2, 2)
    for task in ("denoise", "deblur"):
        assert composed([f"task={task}", "model=basicvsr_uni"]).model.arguments.upscale_factors == ()
    assert composed(["task=denoise", "task.sigma=50"]).task.options == {"sigma": 50.0}


@pytest.mark.usefixtures("_hydra")
@pytest.mark.parametrize(
    "override", ["+rati=0.5", "ratio=abc", "model.width=3", "seed=1.5", "tf_weight=much", "+data.x=1"]
)
def test_unknown_knobs_and_wrong_types_are_refused(override: str) -> None:
    with pytest.raises(UserError, match=override.strip("+").split("=")[0].replace(".", r"\.")):
        validate(composed([override]))


@pytest.mark.usefixtures("_hydra")
def test_options_of_a_batch_job_are_free() -> None:
    options = composed(["launcher=slurm", "launcher.options.queue=gpu", "+launcher.options.nodes=2"]).launcher.options
    assert options is not None
    assert (options["cores"], options["queue"], options["nodes"]) == (4, "gpu", 2)


@pytest.mark.parametrize("override", ["method=glob(*)", "model=glob(*_tiny)", "ratio=range(0.3,0.8,0.2)", "rule=null"])
def test_what_hydra_expands_itself_is_no_unknown_name(override: str) -> None:
    check_names(Config, ["-m", override])
