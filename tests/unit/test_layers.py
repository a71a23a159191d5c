"""Who may import whom: imports point one way, and heavy libraries stay where they belong."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"
FILES = sorted(SRC.rglob("*.py"))

BELOW_STAGES = (
    "vsrprune.channels",
    "vsrprune.commands",
    "vsrprune.config",
    "vsrprune.data",
    "vsrprune.engines",
    "vsrprune.errors",
    "vsrprune.host",
    "vsrprune.knobs",
    "vsrprune.methods",
    "vsrprune.metrics",
    "vsrprune.networks",
    "vsrprune.pruning",
    "vsrprune.results",
    "vsrprune.selection",
    "vsrprune.store",
)
# Folder -> the folders of this project that it may import, besides itself. A longer prefix overrides a shorter one.
ALLOWED: dict[str, tuple[str, ...]] = {
    "vsrprune.errors": (),
    "vsrprune.commands": (),
    "vsrprune.__main__": ("vsrprune", "vsrprune.commands", "vsrprune.completion", "vsrprune.config"),
    "vsrprune.completion": ("vsrprune.commands", "vsrprune.config", "vsrprune.knobs", "vsrprune.search.config"),
    "vsrprune.knobs": ("vsrprune.errors",),
    "vsrprune.store": ("vsrprune.errors",),
    "vsrprune.methods": (),
    "vsrprune.channels": ("vsrprune.errors",),
    "vsrprune.selection": ("vsrprune.channels", "vsrprune.errors"),
    "vsrprune.results": ("vsrprune.channels", "vsrprune.errors", "vsrprune.selection", "vsrprune.store"),
    "vsrprune.metrics": ("vsrprune.errors", "vsrprune.results"),
    "vsrprune.host": ("vsrprune.commands", "vsrprune.errors", "vsrprune.results", "vsrprune.store"),
    "vsrprune.config": (
        "vsrprune.channels",
        "vsrprune.commands",
        "vsrprune.errors",
        "vsrprune.knobs",
        "vsrprune.methods",
        "vsrprune.networks",
        "vsrprune.results",
        "vsrprune.selection",
        "vsrprune.store",
    ),
    "vsrprune.data": ("vsrprune.commands", "vsrprune.errors", "vsrprune.host", "vsrprune.store"),
    "vsrprune.pruning": ("vsrprune.channels", "vsrprune.errors", "vsrprune.selection"),
    "vsrprune.networks": ("vsrprune.channels", "vsrprune.errors", "vsrprune.knobs", "vsrprune.store"),
    "vsrprune.networks.own": (
        "vsrprune.knobs",
        "vsrprune.channels",
        "vsrprune.errors",
        "vsrprune.networks",
        "vsrprune.pruning",
        "vsrprune.store",
    ),
    "vsrprune.engines": ("vsrprune.errors", "vsrprune.networks"),
    "vsrprune.stages": BELOW_STAGES,
    "vsrprune.jobs": (*BELOW_STAGES, "vsrprune.stages"),
    "vsrprune.use": BELOW_STAGES,
    "vsrprune.use.comparing": (*BELOW_STAGES, "vsrprune.stages", "vsrprune.use"),
    "vsrprune.page": (*BELOW_STAGES, "vsrprune.use"),
    "vsrprune.search": (*BELOW_STAGES, "vsrprune.jobs", "vsrprune.knobs", "vsrprune.stages"),
    "vsrprune.cli": (
        "vsrprune.commands",
        "vsrprune.config",
        "vsrprune.errors",
        "vsrprune.host",
        "vsrprune.knobs",
        "vsrprune.store",
    ),
    "run": ("vsrprune",),
    "upscale": ("vsrprune",),
    "export": ("vsrprune",),
    "evaluate": ("vsrprune",),
    "page": ("vsrprune",),
    "hydra_plugins": ("vsrprune",),
    "vsrprune": (),
}
# Library -> the only modules that may import it.
HEAVY = {
    "pytorch_lightning": ("vsrprune.stages",),
    "wandb": ("vsrprune.host.tracking.wandb_runs", "vsrprune.search.mirror"),
    "tensorboard": ("vsrprune.host.tracking.event_files",),
    "hydra": ("run", "vsrprune.cli", "hydra_plugins"),
    "omegaconf": ("run", "vsrprune.cli", "hydra_plugins"),
    "optuna": ("vsrprune.search",),
    "onnx": ("vsrprune.engines", "vsrprune.use.export.scan"),
    "onnxruntime": ("vsrprune.engines",),
    "openvino": ("vsrprune.engines.onnx_files",),
    "distributed": ("hydra_plugins",),
    "dask_jobqueue": ("hydra_plugins",),
    "starlette": ("vsrprune.page.server",),
    "uvicorn": ("page",),
    "ray": ("hydra_plugins",),
    "obstore": ("vsrprune.store.bucket",),
    "boto3": ("vsrprune.store.bucket",),
    "pandas": (),
    "cv2": ("vsrprune.metrics.temporal",),
    "matplotlib": (),
    "torch": (
        "vsrprune.data",
        "vsrprune.engines",
        "vsrprune.networks",
        "vsrprune.pruning",
        "vsrprune.metrics",
        "vsrprune.stages",
        "vsrprune.use",
        "vsrprune.search.trials",
        "vsrprune.search.studies",
    ),
}
# Files that a sweep's parent process reads, in folders that may import torch.
WITHOUT_TORCH = (
    "spec",
    "recipe",
    "data.cache_folder",
    "engines.extras",
    "own.declaration",
    "stages.graph",
    "stages.job",
    "stages.saved",
    "score.scores",
    "score.own",
    "networks.table",
)


def module_name(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.append(node.module or "")
    return names


def within(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def test_the_source_tree_is_found() -> None:
    assert len(FILES) > 30


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_point_one_way(path: Path) -> None:
    name = module_name(path)
    rules = [prefix for prefix in ALLOWED if within(name, (prefix,))]
    assert rules, f"{name} belongs to no layer: add it to ALLOWED"
    room = max(rules, key=len)
    allowed = (*ALLOWED[room], room)
    own = [item for item in imports(path) if within(item, ("vsrprune", "run", "hydra_plugins"))]
    assert [item for item in own if not within(item, allowed)] == []


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_heavy_libraries_stay_in_their_rooms(path: Path) -> None:
    name = module_name(path)
    for item in imports(path):
        library = item.split(".")[0]
        if library in HEAVY:
            assert within(name, HEAVY[library]), f"{name} imports {library}"
            assert library != "torch" or not name.endswith(WITHOUT_TORCH), f"{name} imports torch"


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_only_the_layout_of_a_network_knows_the_rsc_flag(path: Path) -> None:
    """Surgery, selection and training read channel groups; `rsc` and the rules are decided in one place."""
    name = module_name(path)
    if within(name, ("vsrprune.pruning", "vsrprune.selection", "vsrprune.stages", "vsrprune.metrics")):
        constants = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
        assert not constants & {"rsc", "aligned", "inner"}
