"""The group `evaluate`: how quality and time are measured."""

from __future__ import annotations

from dataclasses import dataclass

from vsrprune.knobs import knob
from vsrprune.results.measured import AUTO, TORCH
from vsrprune.results.protocols import OWN, PROTOCOLS


@dataclass
class EvaluateConfig:
    """How quality and time are measured."""

    latency_size: list[int] = knob(
        [180, 320],
        "The low-resolution frame that is timed, in pixels.",
        at_least=8,
        at_most=8192,
        form="[height, width]",
        lengths=(2, 2),
    )
    latency_frames: int = knob(2, "Frames of the clip that is timed.", at_least=1, at_most=1000)
    latency_repeats: int = knob(
        3,
        "How often it is timed; the median counts. On a GPU every repeat is many calls, which together take 0.3 s.",
        at_least=1,
        at_most=10_000,
    )
    precision: str = knob(
        "32",
        "The precision of the networks that are timed: weights and features are converted to bf16 or 16 bits once, the"
        " flow net and positions stay in 32; tf32 lets GPUs round the factors of convolutions. The PSNR that this costs"
        " is measured too.",
        choices=("32", "tf32", "bf16", "16"),
    )
    engine: str = knob(
        AUTO,
        "What runs networks on the CPU beside PyTorch, and is timed too: onnxruntime, openvino, or none (torch). auto:"
        " with target=realtime all that are installed, of which the fastest counts; onnxruntime for quantise=int8; else"
        " none.",
        choices=(AUTO, TORCH, "onnxruntime", "openvino"),
    )
    compile: bool = knob(
        False, "Time them through torch.compile, which takes minutes; recurrent steps are compiled once for all frames."
    )
    crops: int = knob(2, "Crops of held-out frames that are saved as pictures.", at_least=0, at_most=1000)
    protocol: str = knob(
        OWN,
        "`full` compares every frame by data.channel and data.crop; the others as published: reds4 in RGB, vid4 and"
        " udm10 in luma (data.crop=8 as DUF does), vimeo90k in luma, the middle frame alone.",
        choices=(OWN, *PROTOCOLS),
    )
    temporal: bool = knob(True, "Measure temporal consistency: tOF and the warping error.")
    temporal_pairs: int = knob(8, "It is measured on so many pairs of frames of every clip; 0: all.", at_least=0)
