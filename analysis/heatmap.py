"""The share of units cut in every layer of every setting, as a picture."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from analysis.drawings import NAME_COLUMN, NAME_LINE_IN, NOTE_COLUMN, note_above
from analysis.style import COLUMN_IN, PAGE_IN

LAYER_LETTERS = 26  # of the longest name of a layer that is not shortened
WORD_LETTERS = 6  # of a word in it that is not shortened either
LABELLED_LAYERS = 60  # more rows than these are named by part and kind alone


def draw_ratio_heatmap(table: pd.DataFrame, notes: Sequence[str] = ()) -> Figure:
    """Layers (rows, in network order, grouped by part) x settings (columns); the number is the share of units cut.

    Long names of layers are shortened, with what the short words stand for above. notes: sentences that a reader should
    know, there too.
    """
    layers, settings = table.shape
    named = layers <= LABELLED_LAYERS
    labels, glossary = short_layers([str(index[2]) for index in table.index])
    cell = 0.13 if named else max(0.02, 5.5 / layers)
    width = min(PAGE_IN, max(COLUMN_IN, 2.2 + 0.36 * settings))
    names = [textwrap.fill(str(name), NAME_COLUMN) for name in table.columns]
    if max(name.count("\n") + 1 for name in names) * NAME_LINE_IN > (width - 2.2) / settings:
        names = list(map(str, table.columns))  # in one line each: more would lie over each other
    longest = max(len(line) for name in names for line in name.split("\n"))
    figure, axes = plt.subplots(figsize=(width, 0.75 + cell * layers + 0.05 * longest))
    image = axes.imshow(table.to_numpy(dtype=float), cmap="cividis", vmin=0, vmax=1, aspect="auto")
    ticks = list(enumerate(labels)) if named else _part_ticks(table)
    axes.set_yticks([row for row, _ in ticks], [name for _, name in ticks], fontsize=5.5)
    axes.set_xticks(range(settings), names, rotation=90, fontsize=5.5)
    if named and settings <= 14:
        for (row, column), value in np.ndenumerate(table.to_numpy(dtype=float)):
            if np.isfinite(value):
                # cividis is dark where little is cut and bright where much is.
                colour = "black" if value > 0.55 else "white"
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=4.5, color=colour)
    parts = [str(index[0]) for index in table.index]
    for row in range(1, layers):
        if parts[row] != parts[row - 1]:
            axes.axhline(row - 0.5, color="white", linewidth=2.5)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    bar = figure.colorbar(image, ax=axes, label="share of units cut", location="top", aspect=40, shrink=0.8)
    bar.outline.set_visible(False)
    words = [", ".join(f"{short} is {word}" for word, short in glossary.items())] if named and glossary else []
    note_above(figure, [*notes, *words], round(NOTE_COLUMN * width / COLUMN_IN))
    return figure


def short_layers(names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Names of layers in few letters, each unlike the others, and the long words by what stands for them.

    Names of up to LAYER_LETTERS stay as they are. Of others, words between dots that several names hold are replaced by
    the first letters of their parts, and by more letters where another word has the same.
    """
    if max(map(len, names), default=0) <= LAYER_LETTERS:
        return list(names), {}
    counts = Counter(word for name in names for word in dict.fromkeys(name.split(".")))
    taken = {word for word in counts if len(word) <= WORD_LETTERS or counts[word] == 1}
    short: dict[str, str] = {}
    for word in (word for word in counts if word not in taken):
        parts = word.split("_")
        tried = ("".join(part[:letters] for part in parts) for letters in range(1, len(word) + 1))
        short[word] = next((text for text in tried if text not in taken), word)
        taken.add(short[word])
    return [".".join(short.get(word, word) for word in name.split(".")) for name in names], short


def _part_ticks(table: pd.DataFrame) -> list[tuple[float, str]]:
    """The middle of each part's rows, with its name."""
    parts = [str(index[0]) for index in table.index]
    return [
        (float(np.mean([row for row, part in enumerate(parts) if part == name])), name) for name in dict.fromkeys(parts)
    ]
