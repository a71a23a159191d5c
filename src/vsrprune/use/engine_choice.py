"""Which engines there are, and which are installed; without importing any of them."""

from __future__ import annotations

from importlib.util import find_spec

from vsrprune.engines.extras import EXTRAS
from vsrprune.errors import UserError

TORCH, AUTO = "torch", "auto"
PACKAGES = {"onnxruntime": EXTRAS["deploy"], "openvino": (*EXTRAS["deploy"], *EXTRAS["openvino"])}
ENGINES = (TORCH, *PACKAGES, AUTO)


def check_engine(name: str) -> None:
    """Raise UserError where an engine, or what writes its files, is not installed."""
    for module in PACKAGES.get(name, ()):
        if find_spec(module) is None:
            extra = next(extra for extra, modules in EXTRAS.items() if module in modules)
            raise UserError(f"--engine {name}: {module} is not installed: pip install -e '.[{extra}]'")


def installed() -> list[str]:
    """The engines beside PyTorch that are installed here."""
    return [name for name, modules in PACKAGES.items() if all(find_spec(module) for module in modules)]
