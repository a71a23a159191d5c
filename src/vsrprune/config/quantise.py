"""The group `quantise`: an int8 network besides the fine-tuned one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vsrprune.errors import UserError
from vsrprune.knobs import knob

NONE, INT8 = "none", "int8"
CALIBRATIONS = ("minmax", "entropy", "percentile")


@dataclass
class QuantiseConfig:
    """Whether the fine-tuned network is made an int8 one too, by static quantisation after training."""

    name: str = knob(
        NONE, "int8: ONNX graphs with integers in their convolutions, beside the same in 32 bits.", choices=(NONE, INT8)
    )
    calibration: str = knob(
        "minmax",
        "How a feature map's range is found: all that occurred (minmax), or less, where that keeps more of its"
        " distribution (entropy) or all but its outermost values (percentile).",
        choices=CALIBRATIONS,
    )
    clips: int = knob(
        8,
        "Training clips, drawn by seed, that ranges are found on and that decide which layers stay in 32 bits.",
        at_least=1,
        at_most=1000,
    )
    frames: int = knob(
        10, "The first frames of each of these clips; shorter ones are taken whole.", at_least=2, at_most=1000
    )
    largest_loss: float = knob(
        0.2,
        "PSNR (dB) that int8 may cost on these clips: as long as it costs more, the most sensitive layers stay in 32"
        " bits.",
        at_least=0,
        words="dB",
    )


def check_quantised(quantise: QuantiseConfig, model: str, arguments: Any) -> None:
    """Raise UserError where no graph of the network serves clips of any length."""
    if quantise.name != NONE and not arguments.runs_in_engines:
        raise UserError(
            f"quantise={quantise.name} needs a network whose exported graphs serve clips of any length, and"
            f" model={model} has none; use quantise=none, or a basicvsr, rrn, edsr or rcan"
        )
