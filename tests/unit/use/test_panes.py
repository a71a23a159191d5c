"""Panes, dividers and captions, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import ImageFont

from vsrprune.use.panes import (
    ELLIPSIS,
    GAP,
    INK,
    LEFTMOST,
    LINE,
    PERIOD_S,
    caption_height,
    caption_of,
    captioned,
    divided,
    divider_at,
    fitted,
    in_a_row,
    row_width,
    text_size,
)

DRAW = np.random.default_rng(0)
PICTURES = [DRAW.integers(0, 200, (20, 30, 3), dtype=np.uint8) for _ in range(3)]


def test_panes_in_a_row_are_the_pictures_with_black_between() -> None:
    row = in_a_row(PICTURES)
    assert row.shape == (20, row_width(30, 3), 3) == (20, 90 + 2 * GAP, 3)
    for index, picture in enumerate(PICTURES):
        left = index * (30 + GAP)
        assert (row[:, left : left + 30] == picture).all()
        assert not row[:, left + 30 : left + 30 + GAP].any()


@pytest.mark.parametrize("place", [1, 3, 15, 29])
def test_left_and_right_of_the_divider_are_two_pictures(place: int) -> None:
    left, right = PICTURES[:2]
    kept = left.copy(), right.copy()
    picture = divided(left, right, place)
    assert (picture[:, : place - LINE // 2] == left[:, : place - LINE // 2]).all()
    assert (picture[:, place + LINE // 2 :] == right[:, place + LINE // 2 :]).all()
    assert (picture[:, place - LINE // 2 : place + LINE // 2] == INK).all()
    assert (left == kept[0]).all()
    assert (right == kept[1]).all()


def test_the_divider_goes_there_and_back() -> None:
    assert divider_at(0, 1000) == divider_at(PERIOD_S, 1000) == 1000 * LEFTMOST
    assert divider_at(PERIOD_S / 4, 1000) == divider_at(3 * PERIOD_S / 4, 1000) == 500
    assert divider_at(PERIOD_S / 2, 1000) == 900
    assert all(0 < divider_at(tenth / 10, 8) < 8 for tenth in range(60))


@pytest.mark.parametrize("width", [1, 16, 158, 320, 1280, 3840])
def test_captions_are_as_wide_as_asked_and_of_even_height(width: int) -> None:
    size = text_size(width)
    text = caption_of("a name", ("some facts",), width, size)
    assert text.shape == (caption_height(size), width, 3)
    assert text.shape[0] % 2 == 0


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("right", [False, True])
def test_both_lines_of_a_caption_are_drawn_and_end_at_their_edge(width: int, right: bool) -> None:
    size = text_size(width)
    text = caption_of("ratio=0.5", ("1.2 GMACs",), width, size, right)
    for half in np.split(text, 2):
        columns = np.flatnonzero(half.max(axis=(0, 2)) > 128)
        assert len(columns) > 2 * size
        assert (columns.min() > width // 2) if right else (columns.max() < width // 2)
        rows = np.flatnonzero(half.max(axis=(1, 2)) > 128)
        assert size / 2 < np.ptp(rows) <= size  # nothing of the letters is cut off
        assert rows.min() > 0


def test_the_longest_form_of_facts_that_fits_is_drawn() -> None:
    forms = ("12.3 GMACs a frame, 45.6 ms a frame, PSNR 31.00 dB", "12.3 G, 31.00 dB", "12.3 G")
    for width, chosen in ((600, 0), (120, 1), (60, 2)):
        assert (caption_of("a", forms, width, 12) == caption_of("a", (forms[chosen],), width, 12)).all()


def test_what_is_too_long_keeps_both_ends() -> None:
    font = ImageFont.load_default(12)
    name = "rsc=true,ratio=0.3,scope=per_layer,score=taylor,replicate=17"
    assert fitted(name, 1000, font) == name
    shown = fitted(name, 150, font)
    head, tail = shown.split(ELLIPSIS)
    assert name.startswith(head)
    assert name.endswith(tail)
    assert len(head) >= len(tail) > 5
    assert font.getlength(shown) <= 150 < font.getlength(head + name[len(head)] + ELLIPSIS + tail)
    assert fitted(name, 0, font) == ELLIPSIS


def test_captions_stand_above_a_picture_also_one_of_an_odd_width() -> None:
    captions = [np.full((8, 13, 3), 9, np.uint8)] * 2
    picture = captioned(np.full((20, 31, 3), 7, np.uint8), captions)
    assert picture.shape == (28, 31, 3)
    assert (picture[8:] == 7).all()
    assert (picture[:8, :13] == 9).all()
    assert (picture[:8, 13 + GAP : 30] == 9).all()
