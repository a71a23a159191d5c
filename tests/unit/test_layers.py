"""Who may import whom: imports point one way, and heavy libraries stay where they belong."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"
FILES = sorted(SRC.rglob("*.py"))

# Module prefix -> the prefixes of this project that it may import. The longest matching prefix counts.
L0 = (
    "vsrprune.errors",
    "vsrprune.channels",
    "vsrprune.store",
    "vsrprune.config",
    "vsrprune.keys",
    "vsrprune.protocols",
    "vsrprune.results",
)
ALLOWED: dict[str, tuple[str, ...]] = {
    "vsrprune.errors": (),
    "vsrprune.naming": (),
    "vsrprune.progress": (),
    "vsrprune.channels": ("vsrprune.errors",),
    "vsrprune.specification": ("vsrprune.channels", "vsrprune.errors"),
    "vsrprune.operations": ("vsrprune.channels",),
    "vsrprune.lease": (),
    "vsrprune.machine": (),
    "vsrprune.processes": (),
    "vsrprune.store": ("vsrprune.lease",),
    "vsrprune.protocols": ("vsrprune.errors",),
    "vsrprune.methods": ("vsrprune.methods",),
    "vsrprune.config": ("vsrprune.channels", "vsrprune.errors", "vsrprune.methods", "vsrprune.protocols"),
    "vsrprune.results": ("vsrprune.errors", "vsrprune.protocols", "vsrprune.store"),
    "vsrprune.keys": ("vsrprune.config", "vsrprune.methods", "vsrprune.store"),
    "vsrprune.data": ("vsrprune.data", "vsrprune.errors", "vsrprune.progress", "vsrprune.store"),
    "vsrprune.data.sets": ("vsrprune.data.sets", "vsrprune.data.sources", "vsrprune.errors"),
    "vsrprune.models": (
        "vsrprune.models",
        "vsrprune.errors",
        "vsrprune.channels",
        "vsrprune.operations",
        "vsrprune.specification",
        "vsrprune.store",
    ),
    "vsrprune.pruning": ("vsrprune.pruning", "vsrprune.errors", "vsrprune.channels", "vsrprune.operations"),
    "vsrprune.metrics": ("vsrprune.metrics", "vsrprune.errors"),
    "vsrprune.stages": (
        "vsrprune.stages",
        "vsrprune.data",
        "vsrprune.models",
        "vsrprune.pruning",
        "vsrprune.metrics",
        "vsrprune.progress",
        "vsrprune.processes",
        *L0,
    ),
    "vsrprune.failures": ("vsrprune.errors", "vsrprune.lease", "vsrprune.store"),
    "vsrprune.tracking": ("vsrprune.results",),
    "vsrprune.jobs": (
        "vsrprune.data.demo_photos",
        "vsrprune.data.sources",
        "vsrprune.data.sets",
        "vsrprune.methods",
        "vsrprune.models.architectures",
        "vsrprune.pruning.selection",
        *L0,
    ),
    "vsrprune.intervals": (),
    "vsrprune.sweep_table": (
        "vsrprune.intervals",
        "vsrprune.housekeeping",
        "vsrprune.results",
        "vsrprune.jobs",
        "vsrprune.store",
    ),
    "vsrprune.housekeeping": (
        "vsrprune.errors",
        "vsrprune.config",
        "vsrprune.keys",
        "vsrprune.results",
        "vsrprune.store",
    ),
    "vsrprune.pipeline": ("vsrprune",),
    "vsrprune.library": (
        "vsrprune.library",
        "vsrprune.models",
        "vsrprune.pruning",
        "vsrprune.channels",
        "vsrprune.errors",
        "vsrprune.specification",
        "vsrprune.store",
    ),
    "vsrprune.library.declaration": ("vsrprune.channels", "vsrprune.errors", "vsrprune.specification"),
    "vsrprune.trained": ("vsrprune.models", "vsrprune.pruning", *L0),
    "vsrprune.streaming": ("vsrprune.models",),
    "vsrprune.upscaling": (
        "vsrprune.data",
        "vsrprune.errors",
        "vsrprune.metrics",
        "vsrprune.models",
        "vsrprune.progress",
        "vsrprune.streaming",
        "vsrprune.trained",
    ),
    "vsrprune.exporting": (
        "vsrprune.exporting",
        "vsrprune.models",
        "vsrprune.metrics",
        "vsrprune.trained",
        "vsrprune.machine",
        "vsrprune.progress",
        *L0,
    ),
    "vsrprune.exporting.request": ("vsrprune.errors",),
    "vsrprune.runner": ("vsrprune",),
    "vsrprune.door": ("vsrprune.errors", "vsrprune.naming", "vsrprune.store"),
    "vsrprune.search": ("vsrprune",),
    "vsrprune.search.space": ("vsrprune.channels", "vsrprune.errors"),
    "vsrprune.search.samplers": ("vsrprune.errors",),
    "vsrprune.search.config": (
        "vsrprune.config",
        "vsrprune.errors",
        "vsrprune.search.samplers",
        "vsrprune.search.space",
    ),
    "vsrprune.search.study": ("vsrprune.errors", "vsrprune.search.samplers", "vsrprune.search.space"),
    "vsrprune.search.mirror": ("vsrprune.tracking",),
    "vsrprune.search.report": ("vsrprune.intervals",),
    "run": ("vsrprune",),
    "upscale": ("vsrprune.errors", "vsrprune.streaming", "vsrprune.upscaling"),
    "export": ("vsrprune.door", "vsrprune.exporting"),
    "hydra_plugins": ("vsrprune", "hydra_plugins"),
    "vsrprune": (),
}
# Library -> the only modules that may import it.
HEAVY = {
    "pytorch_lightning": ("vsrprune.stages",),
    "wandb": ("vsrprune.tracking", "vsrprune.search.mirror"),
    "hydra": ("run", "vsrprune.door", "hydra_plugins"),
    "omegaconf": ("run", "vsrprune.door", "hydra_plugins"),
    "optuna": ("vsrprune.search",),
    "onnx": ("vsrprune.exporting.onnx_files", "vsrprune.exporting.scan"),
    "onnxruntime": ("vsrprune.exporting.onnx_files",),
    "openvino": ("vsrprune.exporting.onnx_files",),
    "distributed": ("hydra_plugins",),
    "dask_jobqueue": ("hydra_plugins",),
    "ray": ("hydra_plugins",),
    "pandas": (),
    "cv2": ("vsrprune.metrics.temporal",),
    "matplotlib": (),
    "torch": (
        "vsrprune.data",
        "vsrprune.models",
        "vsrprune.library.own",
        "vsrprune.library.proof",
        "vsrprune.library.tracing",
        "vsrprune.pruning",
        "vsrprune.metrics",
        "vsrprune.stages",
        "vsrprune.pipeline",
        "vsrprune.exporting.export",
        "vsrprune.exporting.graphs",
        "vsrprune.exporting.onnx_files",
        "vsrprune.search.trials",
        "vsrprune.search.ratio_search",
        "vsrprune.streaming",
        "vsrprune.upscaling",
    ),
}


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
    allowed = ALLOWED[max(rules, key=len)]
    own = [item for item in imports(path) if within(item, ("vsrprune", "run", "hydra_plugins"))]
    assert [item for item in own if not within(item, allowed)] == []


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_heavy_libraries_stay_in_their_rooms(path: Path) -> None:
    name = module_name(path)
    for item in imports(path):
        library = item.split(".")[0]
        if library in HEAVY:
            assert within(name, HEAVY[library]), f"{name} imports {library}"


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_only_the_layout_of_a_network_knows_the_rsc_flag(path: Path) -> None:
    """Surgery, selection and training read channel groups; `rsc` and the rules are decided in one place."""
    name = module_name(path)
    if within(name, ("vsrprune.pruning", "vsrprune.stages", "vsrprune.metrics")):
        constants = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
        assert not constants & {"rsc", "aligned", "inner"}
