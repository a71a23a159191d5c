"""The clocks of a card as nvidia-smi states them."""

from __future__ import annotations

from pathlib import Path

import pytest

from vsrprune.host.devices import clocks


def nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a command of this name on the path, and nothing else."""
    command = folder / "nvidia-smi"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("1980, 1980, 2619", "SM 1980 of 1980 MHz, memory 2619 MHz"),
        ("[N/A], 1980, 2619", ""),
        ("No devices were found", ""),
        ("", ""),
    ],
)
def test_what_nvidia_smi_says_is_put_into_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, words: str
) -> None:
    nvidia_smi(tmp_path, monkeypatch, f"echo '{answer}'")
    assert clocks("GPU-1") == words


def test_where_it_is_missing_or_fails_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert clocks("GPU-1") == ""
    nvidia_smi(tmp_path, monkeypatch, "exit 1")
    assert clocks("GPU-1") == ""
