"""What an upsampler is made of."""

from __future__ import annotations

from dataclasses import dataclass

RGB = 3


@dataclass(frozen=True)
class UpsamplingStep:
    """A convolution of an upsampler. A leaky ReLU follows each but the last, which writes pixels.

    width: channels that come out of it, after the pixel shuffle by `shuffle` that follows it (1: none). nearest: each
    pixel of its input is repeated so many times along both sides before. depthwise: it has one filter for each channel
    of its input, which has `width` of them.
    """

    name: str
    width: int
    kernel: int = 3
    nearest: int = 1
    shuffle: int = 1
    depthwise: bool = False
