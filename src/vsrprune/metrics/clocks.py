"""The clocks at which a card just ran: without them a time of a card says little."""

from __future__ import annotations

import subprocess

import torch

FIELDS = "clocks.sm,clocks.max.sm,clocks.mem"
SECONDS = 10  # nvidia-smi answers in less, unless the driver hangs


def clocks(device: torch.device) -> str:
    """Such as `SM 1980 of 1980 MHz, memory 2619 MHz`; empty where nvidia-smi does not tell, as on other devices."""
    if device.type != "cuda":
        return ""
    # By its UUID: nvidia-smi counts all cards of the machine, PyTorch those that the process may see.
    card = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    return _read(["nvidia-smi", f"--id={card}", f"--query-gpu={FIELDS}", "--format=csv,noheader,nounits"])


def _read(command: list[str]) -> str:
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    values = [value.strip() for value in answer.strip().split(",")]
    # In place of what it does not know, as of a part of a card (MIG), it says [N/A].
    if len(values) != len(FIELDS.split(",")) or not all(value.isdigit() for value in values):
        return ""
    now, most, memory = values
    return f"SM {now} of {most} MHz, memory {memory} MHz"
