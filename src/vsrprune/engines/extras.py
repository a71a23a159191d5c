"""Which libraries the engines need, and which of them are installed; without importing any."""

from __future__ import annotations

from importlib.util import find_spec

from vsrprune.errors import UserError

EXTRAS = {"deploy": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino",)}


def check_extra(extra: str, asked: str = "") -> None:
    """Raise UserError where a library of an extra is not installed; `asked` says what needs it, as `KNOB=VALUE: `."""
    # find_spec does not import: a wrong word is refused before anything that takes seconds.
    missing = [module for module in EXTRAS[extra] if find_spec(module) is None]
    if missing:
        raise UserError(f"{asked}{missing[0]} is not installed: pip install -e '.[{extra}]'")
