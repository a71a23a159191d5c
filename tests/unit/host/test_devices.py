"""Cards are found without torch: by nvidia-smi, by what CUDA_VISIBLE_DEVICES leaves of them, and by their files."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from fake_cards import fake_smi, listing

from vsrprune.host import devices
from vsrprune.host.devices import (
    UNKNOWN_BUILD,
    Card,
    busy_percent,
    driver_version,
    look_around,
    torch_build,
    visible_cards,
)

DIVIDED = """\
GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-aaaa1111-0000)
  MIG 3g.40gb     Device  0: (UUID: MIG-bbbb)
  MIG 1g.10gb     Device  1: (UUID: MIG-cccc)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-aaaa2222-0000)"""


def lists(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    fake_smi(folder, monkeypatch, f"test \"$*\" = -L && cat <<'END'\n{text}\nEND")


def test_all_cards_are_found_with_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lists(tmp_path, monkeypatch, "GPU 0: NVIDIA L4 (UUID: GPU-x)\nGPU 1: NVIDIA RTX 6000 Ada (UUID: GPU-y)")
    assert visible_cards() == [Card("GPU-x", "NVIDIA L4"), Card("GPU-y", "NVIDIA RTX 6000 Ada")]


def test_a_divided_gpu_stands_for_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lists(tmp_path, monkeypatch, DIVIDED)
    assert visible_cards() == [
        Card("MIG-bbbb", "NVIDIA H100 80GB HBM3 MIG 3g.40gb", is_part=True),
        Card("MIG-cccc", "NVIDIA H100 80GB HBM3 MIG 1g.10gb", is_part=True),
        Card("GPU-aaaa2222-0000", "NVIDIA H100 80GB HBM3"),
    ]


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        ("0", ["MIG-bbbb"]),  # CUDA takes the first part of a divided GPU
        ("1", ["GPU-aaaa2222-0000"]),
        ("GPU-aaaa2", ["GPU-aaaa2222-0000"]),  # CUDA takes the beginning of a UUID too
        ("MIG-cccc,MIG-bbbb", ["MIG-cccc", "MIG-bbbb"]),
        ("MIG-GPU-aaaa1111-0000/1/0", ["MIG-GPU-aaaa1111-0000/1/0"]),
        (" 1 , MIG-cccc", ["GPU-aaaa2222-0000", "MIG-cccc"]),
        ("1,7,0", ["GPU-aaaa2222-0000"]),  # what stands after a name of nothing is hidden too
        ("1,", ["GPU-aaaa2222-0000"]),
        ("GPU-aaaa1", ["MIG-bbbb"]),  # as its number does
        ("1,GPU-aaaa,0", ["GPU-aaaa2222-0000"]),  # the beginning of two UUIDs names neither
        ("MIG-none", []),
        ("GPU-none", []),
        ("-1", []),
        ("", []),
    ],
)
def test_the_environment_says_which_are_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str, found: list[str]
) -> None:
    lists(tmp_path, monkeypatch, DIVIDED)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [card.uuid for card in visible_cards()] == found


@pytest.mark.parametrize("visible", ["1,1", "1,0,GPU-aaaa2", "0,MIG-bbbb", "MIG-cccc,MIG-cccc,9"])
def test_a_card_that_is_named_twice_hides_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str) -> None:
    lists(tmp_path, monkeypatch, DIVIDED)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    seen = look_around()
    assert (seen.cards, len(seen.hidden)) == ((), 3)
    assert seen.twice in visible.split(",")
    assert seen.missing == f"CUDA_VISIBLE_DEVICES={visible!r} names {seen.twice} twice"


INFORMATION = "Model: \t\t NVIDIA L4\nIRQ:   \t\t 55\nGPU UUID: \t {}\nDevice Minor: \t 0\n"


@pytest.mark.parametrize(
    ("files", "told", "found"),
    [
        ([], [], []),  # of before the cards were taken out
        (["nvidia0"], [], ["GPU-abcd"]),  # nobody knows better
        (["nvidia0"], ["GPU-????????-????"], ["GPU-abcd"]),
        (["nvidia0"], ["GPU-abcd-0001"], ["GPU-abcd"]),
        (["nvidia0"], ["GPU-ef01-0001"], []),
        (["nvidia0", "nvidia1"], ["GPU-abcd-0001", "GPU-abcd-0002"], []),
    ],
    ids=str,
)
def test_without_a_listing_a_uuid_is_believed_where_the_driver_does_not_know_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str], told: list[str], found: list[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-abcd")
    for name in files:
        (tmp_path / name).touch()
    for number, uuid in enumerate(told):
        (tmp_path / f"0000:0{number}:00.0").mkdir()
        (tmp_path / f"0000:0{number}:00.0" / "information").write_text(INFORMATION.format(uuid))
    monkeypatch.setattr(devices, "DEVICES", tmp_path)
    monkeypatch.setattr(devices, "DRIVER", tmp_path)
    assert [card.uuid for card in visible_cards()] == found


@pytest.mark.parametrize(
    ("script", "missing"),
    [
        (None, "nvidia-smi is not installed"),
        ("echo No devices were found; exit 6", "nvidia-smi lists none"),
        (
            "echo Driver mismatch.; echo NVML: 580; exit 18",
            "nvidia-smi fails: Driver mismatch",
        ),
        ("echo no permission >&2; exit 4", "nvidia-smi fails: no permission"),
        ("exit 9", "nvidia-smi fails: exit code 9"),
        ("exec sleep 60", "nvidia-smi does not answer within 0.1 seconds"),
    ],
    ids=str,
)
def test_why_there_is_no_card_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, missing: str
) -> None:
    if script and "sleep" in script:
        monkeypatch.setattr(devices, "PATIENCE_SECONDS", 0.1)
    if script:
        fake_smi(tmp_path, monkeypatch, script)
    else:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices, "DEVICES", tmp_path)
    assert look_around().missing == missing


@pytest.mark.parametrize(
    ("script", "files", "found"),
    [
        (None, [], []),
        (None, ["nvidia5", "nvidia3", "nvidiactl", "nvidia-uvm"], ["0", "1"]),
        ("echo No devices were found; exit 6", ["nvidia0"], []),
        ("echo Driver/library version mismatch >&2; exit 18", ["nvidia0"], ["0"]),  # PyTorch then says what is wrong
        ("exit 9", [], []),
    ],
    ids=str,
)
def test_without_a_listing_the_files_of_the_devices_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, files: list[str], found: list[str]
) -> None:
    if script:
        fake_smi(tmp_path, monkeypatch, script)
    else:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name in files:
        (tmp_path / name).touch()
    monkeypatch.setattr(devices, "DEVICES", tmp_path)
    assert [card.uuid for card in visible_cards()] == found


def test_the_driver_and_how_busy_a_card_is_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_smi(
        tmp_path,
        monkeypatch,
        'case "$*" in *driver_version*) echo 580.65.06; echo 580.65.06;; *GPU-a*utilization.gpu*) echo 63;;'
        ' *GPU-b*utilization*) echo "[N/A]";; *) exit 9;; esac',
    )
    assert driver_version() == "580.65.06"
    assert busy_percent(Card("GPU-a", "NVIDIA L4")) == 63
    assert busy_percent(Card("GPU-b", "a part")) is None
    assert busy_percent(Card("GPU-c", "gone")) is None


def test_a_program_that_cannot_run_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_smi(tmp_path, monkeypatch, "").write_bytes(b"\x7fELF")
    assert driver_version() == ""


def test_a_hanging_program_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_smi(tmp_path, monkeypatch, "exec sleep 60")
    monkeypatch.setattr(devices, "PATIENCE_SECONDS", 0.1)
    assert driver_version() == ""


def test_the_build_of_pytorch_is_what_pytorch_says_of_itself() -> None:
    assert (torch_build().version, torch_build().cuda) == (torch.__version__, torch.version.cuda)


@pytest.mark.parametrize("version", [None, "cuda = '13.0'", "no Python"], ids=str)
def test_a_pytorch_that_does_not_say_how_it_is_built_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str | None
) -> None:
    package = tmp_path / "torch"
    package.mkdir()
    (package / "__init__.py").touch()
    if version:
        (package / "version.py").write_text(version)
    spec = importlib.util.spec_from_file_location("torch", package / "__init__.py")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    assert torch_build.__wrapped__() == UNKNOWN_BUILD


def test_the_listing_of_the_tests_is_read() -> None:
    assert listing(2).splitlines()[1] == "GPU 1: NVIDIA L4 (UUID: GPU-1)"
