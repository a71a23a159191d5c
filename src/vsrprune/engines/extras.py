"""Which engines there are, the extras that they need, and what of these is installed; without importing any."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec

from vsrprune.errors import UserError

UNKNOWN = "unknown"
EXTRAS = {"deploy": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino",)}
ENGINES: Mapping[str, tuple[str, ...]] = {"onnxruntime": ("deploy",), "openvino": ("deploy", "openvino")}


def is_installed(module: str) -> bool:
    """Whether a module can be imported; finding that out imports nothing and takes no seconds."""
    found = find_spec(module)
    return found is not None and found.origin is not None  # a folder of that name that lies about has no origin


def check_extra(extra: str, asked: str = "") -> None:
    """Raise UserError where a library of an extra is not installed; `asked` says what needs it, as `KNOB=VALUE: `."""
    missing = [module for module in EXTRAS[extra] if not is_installed(module)]
    if missing:
        raise UserError(f"{asked}{missing[0]} is not installed: pip install -e '.[{extra}]'")


def check_engine(name: str, asked: str) -> None:
    """The same of an engine and what writes its files; PyTorch needs nothing."""
    for extra in ENGINES.get(name, ()):
        check_extra(extra, asked)


def installed() -> list[str]:
    """The engines beside PyTorch that are installed here."""
    modules = {name: [module for extra in extras for module in EXTRAS[extra]] for name, extras in ENGINES.items()}
    return [name for name, needed in modules.items() if all(map(is_installed, needed))]


def versions_of(engines: Iterable[str]) -> dict[str, str]:
    """The installed version of each; UNKNOWN where it came without one."""
    return {name: _version(name) for name in engines}


def _version(module: str) -> str:
    try:
        return version(module)
    except PackageNotFoundError:  # another build of it, such as onnxruntime-gpu, which has the module's name alone
        return next((version(name) for name in packages_distributions().get(module, ())), UNKNOWN)
