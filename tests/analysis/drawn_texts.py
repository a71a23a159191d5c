"""Whether every text of a figure can be read: none is cut off at the edges, no two of an axis overlap."""

from __future__ import annotations

import itertools

from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis.style import PAGE_IN


def texts(figure: Figure) -> list[Text]:
    """The texts that a figure shows."""
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]


def check_texts(figure: Figure) -> None:
    """Assert it, of a figure that is drawn."""
    width, height = figure.get_size_inches() * figure.dpi
    assert figure.get_size_inches()[0] <= PAGE_IN + 1e-6
    hidden = _hidden_ticks(figure)
    for text in texts(figure):
        box = text.get_window_extent()
        if box.width == 0 or text.get_text() in hidden:
            continue
        assert box.x0 >= -1, text.get_text()
        assert box.x1 <= width + 1, text.get_text()
        assert box.y0 >= -1, text.get_text()
        assert box.y1 <= height + 1, text.get_text()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            labels = [tick.label1 for tick in axis.get_major_ticks() if tick.label1.get_text() not in hidden]
            boxes = [(label.get_text(), label.get_window_extent()) for label in labels if label.get_text()]
            for (one, box), (other, next_box) in itertools.pairwise(boxes):
                overlap = (
                    min(box.x1, next_box.x1) - max(box.x0, next_box.x0),
                    min(box.y1, next_box.y1) - max(box.y0, next_box.y0),
                )
                assert min(overlap) < 1.5, f"{one} and {other} overlap by {overlap} pixels"


def _hidden_ticks(figure: Figure) -> set[str]:
    """Labels of ticks outside the limits, which matplotlib keeps but does not draw."""
    hidden = set()
    for axes in figure.axes:
        for axis, (low, high) in ((axes.xaxis, sorted(axes.get_xlim())), (axes.yaxis, sorted(axes.get_ylim()))):
            hidden |= {tick.label1.get_text() for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high}
    return hidden
