"""How outputs are compared with the truth: the protocols of published tables by name.

All of them clip and round outputs to 8 bits, and average over the frames of a clip, then over clips.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vsrprune.errors import UserError, one_of


@dataclass(frozen=True)
class Comparison:
    """What is compared.

    channel: `rgb` or `y`. crop: border pixels left out. centre: only the middle frame of a clip counts; the network
    sees the clip forth and then back, and what it makes of the two showings of a frame is averaged.
    """

    channel: str
    crop: int
    centre: bool = False


@dataclass(frozen=True)
class Protocol:
    """A published protocol: the crops that tables on this set use, the default first, and their degradations."""

    channel: str
    crops: tuple[int, ...]
    degradations: tuple[str, ...]
    centre: bool = False


BICUBIC, BLUR = ("bicubic", "bicubic_uint8_passes"), ("bd_basicvsr", "bd_duf", "bd_duf_frames")
# The first crops are those of BasicVSR (mmagic, BasicSR). DUF and tables made with its evaluation code leave out 8
# pixels, and the first and last two frames, which is not done here.
PROTOCOLS: Mapping[str, Protocol] = {
    "reds4": Protocol("rgb", (0,), BICUBIC),
    "vid4": Protocol("y", (0, 8), (*BICUBIC, *BLUR)),
    "udm10": Protocol("y", (0, 8), BLUR),
    "vimeo90k": Protocol("y", (0,), (*BICUBIC, *BLUR), centre=True),
}
OWN = "full"  # every frame, by data.channel and data.crop


def comparison(protocol: str, channel: str | None, crop: int | None) -> Comparison:
    """What a protocol compares; channel and crop are the user's, None where left to it.

    Raises UserError for an unknown protocol, and for a channel or crop that it does not have.
    """
    # A protocol fills in what is left out and overrides nothing: a table must not come out by another protocol than its
    # caption says.
    if protocol == OWN:
        return Comparison(channel or "y", crop or 0)
    one_of("evaluate.protocol", protocol, (OWN, *PROTOCOLS))
    preset = PROTOCOLS[protocol]
    for name, value, allowed in (("channel", channel, (preset.channel,)), ("crop", crop, preset.crops)):
        if value is not None and value not in allowed:
            raise UserError(
                f"data.{name}={value} contradicts evaluate.protocol={protocol}, which compares with data.{name}="
                f"{' or '.join(map(str, allowed))}; leave data.{name} out, or use evaluate.protocol={OWN}"
            )
    return Comparison(preset.channel, preset.crops[0] if crop is None else crop, preset.centre)
