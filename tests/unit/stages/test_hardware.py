"""What a training sets on its device, and puts back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from vsrprune.config.machine import TrainerConfig
from vsrprune.errors import UserError
from vsrprune.knobs import leaves
from vsrprune.stages.bench import hardware_of
from vsrprune.stages.training.hardware import (
    FORMATS,
    NAMED_FORMATS,
    Arithmetic,
    Hardware,
    check_precision,
    computing,
    memory_format,
)


def settings() -> dict[str, Any]:
    """PyTorch's, in this process; they can be set without a card."""
    return {
        "convolutions": torch.backends.cudnn.allow_tf32,
        "products": torch.backends.cuda.matmul.allow_tf32,
        "benchmark": torch.backends.cudnn.benchmark,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warns": torch.is_deterministic_algorithms_warn_only_enabled(),
    }


@pytest.fixture(autouse=True)
def put_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = settings()
    yield
    assert settings() == before
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)


@pytest.mark.parametrize("benchmark", [True, False])
@pytest.mark.parametrize("tf32", [True, False])
def test_a_card_computes_as_asked(tf32: bool, benchmark: bool) -> None:
    with computing(Hardware("cuda", arithmetic=Arithmetic(tf32=tf32, benchmark=benchmark))):
        inside = settings()
    assert inside == {
        "convolutions": tf32, "products": tf32, "benchmark": benchmark, "deterministic": False, "warns": False,
    }  # fmt: skip


def test_deterministic_algorithms_come_with_no_benchmark_and_a_fixed_workspace() -> None:
    with computing(Hardware("cuda", arithmetic=Arithmetic(benchmark=True, deterministic=True))):
        inside, workspace = settings(), os.environ["CUBLAS_WORKSPACE_CONFIG"]
    assert (inside["benchmark"], inside["deterministic"], inside["warns"]) == (False, True, True)
    assert workspace == ":4096:8"


def test_a_cpu_computes_as_it_did() -> None:
    before = settings()
    with computing(Hardware("cpu", arithmetic=Arithmetic(tf32=False, benchmark=True, deterministic=True))):
        assert settings() == before


def test_settings_are_put_back_after_an_error() -> None:
    with pytest.raises(KeyError), computing(Hardware("cuda", arithmetic=Arithmetic(deterministic=True))):
        raise KeyError  # the fixture looks whether they are


def format_of(device: str, **arithmetic: Any) -> torch.memory_format:
    return memory_format(Hardware(device, arithmetic=Arithmetic(**arithmetic)))


def test_the_format_that_is_named_is_taken() -> None:
    for name, named in NAMED_FORMATS.items():
        assert {format_of(device, memory_format=name) for device in ("cpu", "cuda")} == {named}


@pytest.mark.parametrize(
    ("device", "arithmetic", "row"),
    [
        ("cpu", {}, ("cpu", "float32")),
        ("cpu", {"tf32": False}, ("cpu", "float32")),
        ("cpu", {"precision": "bf16-mixed"}, ("cpu", "16 bits")),
        ("cuda", {}, ("cuda", "TF32")),
        ("cuda", {"tf32": False}, ("cuda", "float32")),
        ("cuda", {"precision": "bf16-mixed"}, ("cuda", "16 bits")),
        ("cuda", {"precision": "16-mixed", "tf32": False}, ("cuda", "16 bits")),
    ],
)
def test_by_itself_the_format_is_that_of_its_row(device: str, arithmetic: dict[str, Any], row: tuple[str, str]) -> None:
    assert format_of(device, **arithmetic) == FORMATS[row]


def test_knobs_and_arithmetic_have_the_same_defaults_and_choices() -> None:
    assert hardware_of(TrainerConfig(), torch.device("cpu")) == Hardware()
    (knob,) = (leaf.knob for leaf in leaves(TrainerConfig) if leaf.name == "memory_format")
    assert knob.choices == ("auto", *NAMED_FORMATS)


def test_fp16_needs_a_card() -> None:
    check_precision("bf16-mixed", "cpu")
    check_precision("16-mixed", "cuda")
    with pytest.raises(UserError, match=r"16-mixed needs a CUDA device.*use trainer.precision=bf16-mixed or 32-true"):
        check_precision("16-mixed", "cpu")


def test_bf16_needs_a_card_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "an old card")
    for supported in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, has=supported: has)
        if supported:
            check_precision("bf16-mixed", "cuda")
        else:
            with pytest.raises(UserError, match=r"Ampere.*an old card; use trainer.precision=16-mixed or 32-true"):
                check_precision("bf16-mixed", "cuda")
