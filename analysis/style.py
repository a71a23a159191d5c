"""How every figure looks: sizes, colours, marks. The same setting has the same colour in all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

COLUMN_IN, PAGE_IN = 3.3, 6.9  # widths of a column and of a page of a two-column paper

# Okabe and Ito's colours, told apart with any colour vision. Methods and rules that are known have theirs for good.
COLOURS = {
    "rsc": "#0072B2",
    "ssl": "#0072B2",
    "aligned": "#D55E00",
    "assl": "#D55E00",
    "inner": "#009E73",
    "l1": "#CC79A7",
    "random": "#999999",
    "lite": "#E69F00",
    "distill": "#56B4E9",
    "best": "#000000",
}
RULES = ("rsc", "aligned", "inner")
# Parts of a network and weights of the temporal loss have colours of their own, so that none looks like a rule.
PARTS = ("#56B4E9", "#CC79A7", "#E69F00", "#009E73", "#999999", "#0072B2", "#D55E00", "#F0E442")
SPARE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
MARKERS = "os^Dvp<>Xh"
LINES = ("-", "--", ":", "-.")
GREY = "0.45"

RC: dict[Any, Any] = {  # matplotlib names its keys one by one in its types
    "font.family": "DejaVu Sans",
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.5,
    "pdf.fonttype": 42,  # TrueType, embedded
    "figure.constrained_layout.use": True,
}


def colours(names: Sequence[str]) -> dict[str, str]:
    """A colour per series: that of the method or rule which its name holds, or one that none has."""
    # Where methods are told apart, a rule that several have says nothing.
    methods = any(word in COLOURS and word not in RULES for name in names for word in _words(name))
    telling = {word: colour for word, colour in COLOURS.items() if not (methods and word in RULES)}
    known = {name: next((telling[word] for word in _words(name) if word in telling), None) for name in names}
    # A colour that a method or rule has here is not given to another series of the same figure.
    spare = [colour for colour in SPARE if colour not in known.values()]
    others = iter(spare)
    return {name: colour or next(others, GREY) for name, colour in known.items()}


def line_styles(names: Sequence[str]) -> dict[str, str]:
    """A line style per series, so that those of one colour are told apart."""
    chosen = colours(names)
    return {
        name: LINES[[chosen[other] for other in names[:number]].count(chosen[name]) % len(LINES)]
        for number, name in enumerate(names)
    }


def markers(names: Sequence[str]) -> dict[str, str]:
    """A mark per series."""
    return {name: MARKERS[number % len(MARKERS)] for number, name in enumerate(names)}


def _words(name: str) -> list[str]:
    return name.replace(",", " ").split()
