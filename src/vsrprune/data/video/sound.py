"""In which codec, rate and layout of loudspeakers sound is encoded again where a container does not take it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import av

ENCODERS = {".webm": ("libopus", 48000)}  # encoder and samples per second
USUAL_ENCODER = ("aac", 48000)
# FFmpeg's names of what is usual for a number of channels; both encoders take them all.
USUAL_LAYOUT = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
# Loudspeakers at the side or at the back: the same sound, but every player knows the second.
AT_THE_BACK = {"5.1(side)": "5.1", "5.0(side)": "5.0", "quad(side)": "quad"}
LAST_RESORT = "stereo"


@dataclass(frozen=True)
class Sound:
    """How sound is encoded: an encoder's name, samples per second, and FFmpeg's name of the layout."""

    encoder: str
    rate: int
    layout: str


def encoded_as(stream: Any, suffix: str) -> Sound | None:
    """How the sound of an open stream is encoded for a file of this suffix; None if it cannot be.

    Where the stream does not say where its channels belong, its decoder is told the usual layout.
    """
    encoder, rate = ENCODERS.get(suffix, USUAL_ENCODER)
    stated = stream.layout.name
    layout = AT_THE_BACK.get(stated, stated)
    if not _is_placed(stream.layout):
        if stream.layout.nb_channels not in USUAL_LAYOUT:
            return None
        layout = USUAL_LAYOUT[stream.layout.nb_channels]
        stream.codec_context.layout = layout
    for name in (layout, LAST_RESORT):
        if _takes(encoder, rate, name):
            return Sound(encoder, rate, name)
    return None


def _is_placed(layout: Any) -> bool:
    """Whether every channel of a layout has a place: FFmpeg calls those without one NONE."""
    return all(channel.name != "NONE" for channel in layout.channels)


def _takes(encoder: str, rate: int, layout: str) -> bool:
    context = av.CodecContext.create(encoder, "w")
    context.layout, context.sample_rate, context.format = layout, rate, context.codec.audio_formats[0]
    try:
        context.open()
    except av.error.FFmpegError:
        return False
    return True
