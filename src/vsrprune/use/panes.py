"""Frames of several networks as one picture: side by side, or on both sides of a divider; captions stand above."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vsrprune.data.video.colour import RgbFrame

LAYOUTS = ("side", "divider")
GAP, LINE = 4, 2  # pixels between panes; of the divider
PERIOD_S, LEFTMOST = 6.0, 0.1  # the divider goes there and back once; how near it comes to the edges, in widths
PAPER, INK, FAINT = (0, 0, 0), (255, 255, 255), (190, 190, 190)
SMALLEST_TEXT, LARGEST_TEXT = 12, 48  # pixels
TEXT_SHARE = 1 / 52  # of a pane's width
ELLIPSIS = "..."


def in_a_row(panes_HW3: Sequence[RgbFrame]) -> RgbFrame:
    """Panes of one size in a row, with a gap of GAP pixels between them."""
    height = panes_HW3[0].shape[0]
    gap_HW3 = np.zeros((height, GAP, 3), np.uint8)
    parts = [part for pane_HW3 in panes_HW3 for part in (gap_HW3, pane_HW3)]
    return np.concatenate(parts[1:], axis=1)


def divided(left_HW3: RgbFrame, right_HW3: RgbFrame, place: int) -> RgbFrame:
    """The first picture left of column `place`, the second from there on, and a line of LINE pixels between them."""
    picture_HW3 = np.concatenate([left_HW3[:, :place], right_HW3[:, place:]], axis=1)
    picture_HW3[:, max(0, place - LINE // 2) : place + LINE // 2] = INK
    return picture_HW3


def divider_at(seconds: float, width: int) -> int:
    """The column of the divider at a time: it starts at the left, and is there again after PERIOD_S."""
    return round(width * (0.5 - (0.5 - LEFTMOST) * math.cos(2 * math.pi * seconds / PERIOD_S)))


def row_width(width: int, panes: int) -> int:
    """The width of so many panes in a row, in pixels."""
    return width * panes + GAP * (panes - 1)


def text_size(width: int) -> int:
    """The height of letters, in pixels, over a pane of that width."""
    return min(max(SMALLEST_TEXT, round(width * TEXT_SHARE)), LARGEST_TEXT)


def caption_height(size: int) -> int:
    """The height of a caption of two lines of text of that size, in pixels; even, as encoders want it."""
    return 2 * math.ceil(1.5 * size)


@lru_cache(maxsize=64)
def caption_of(name: str, facts: tuple[str, ...], width: int, size: int, right: bool = False) -> RgbFrame:
    """Two lines of text in `width` pixels, light on black, what is too long fitted in the middle; do not change it.

    facts: the second line in several lengths, of which the first that fits is taken. size: of the text, in pixels.
    right: the text ends at the right edge.
    """
    height = caption_height(size)
    font = ImageFont.load_default(size)
    image = Image.new("RGB", (width, height), PAPER)
    draw, margin = ImageDraw.Draw(image), size // 3
    room = width - 2 * margin
    second = next((text for text in facts if font.getlength(text) <= room), facts[-1])
    for line, (text, colour) in enumerate(((name, INK), (second, FAINT))):
        shown = fitted(text, room, font)
        across = width - margin if right else margin
        draw.text((across, (2 * line + 1) * height / 4), shown, colour, font, anchor="rm" if right else "lm")
    return np.asarray(image)


def fitted(text: str, width: float, font: Any) -> str:
    """`text` where it fits into `width` pixels; otherwise as much as fits of its two ends."""
    kept = len(text)
    shown = text
    while font.getlength(shown) > width and kept > 0:
        kept -= 1
        shown = text[: (kept + 1) // 2] + ELLIPSIS + text[len(text) - kept // 2 :]
    return shown


def captioned(picture_HW3: RgbFrame, captions_HW3: Sequence[RgbFrame]) -> RgbFrame:
    """A picture under its captions, which stand as panes do; each is as wide as its pane."""
    above_HW3 = in_a_row(captions_HW3)
    spare = picture_HW3.shape[1] - above_HW3.shape[1]  # below a divider, captions of halves leave a little
    return np.concatenate([np.pad(above_HW3, ((0, 0), (0, spare), (0, 0))), picture_HW3])
