"""Figures of six and of 216 runs, drawn once: nothing is cut off, lies over another or is left out without its name."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from drawn_texts import check_texts, texts
from matplotlib import pyplot as plt
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from analysis import drawings
from analysis.comparisons import series_gaps
from analysis.figures import FIGURES, chosen_run
from analysis.heatmap import LAYER_LETTERS, short_layers
from analysis.runs import Runs, load_runs
from analysis.series import SERIES_SHOWN, facets, left_out_note, left_out_series
from analysis.style import COLUMN_IN, PAGE_IN, RC

MakeRun = Callable[..., Path]
COMPARING = ("psnr_macs", "differences", "error_over_frames", "error_by_cut", "ratio_heatmap")
METHODS = ("ssl", "assl", "srp", "best", "l1", "random")
SCOPES, SCORES = ("global", "local", "kind"), ("l1", "gate", "taylor", "random")


def _kept(rsc: bool, ratio: float) -> float:
    return 1 - ratio * (0.7 if rsc else 0.95)


def _make(folder: Path, make_run: MakeRun, rsc: bool, ratio: float, gain: float, **knobs: object) -> None:
    kept = _kept(rsc, ratio)
    name = ",".join(f"{knob}={value}" for knob, value in {"rsc": rsc, "ratio": ratio, **knobs}.items())
    make_run(folder, name, rsc=rsc, ratio=ratio, macs=round(8000 * kept), latency=4 * kept, side=0, steps=1,
             psnr=30 + kept + gain * (1 - kept), **knobs)  # fmt: skip


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory, make_run: MakeRun) -> Runs:
    folder = tmp_path_factory.mktemp("six")
    for rsc, ratio in itertools.product((True, False), (0.3, 0.5, 0.7)):
        _make(folder, make_run, rsc, ratio, 0.2 * rsc)
    return load_runs([str(folder)])


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, make_run: MakeRun) -> Runs:
    """rule x ratio x scope x score x replicate."""
    folder = tmp_path_factory.mktemp("many")
    axes = ((True, False), (0.3, 0.5, 0.7), SCOPES, SCORES, range(3))
    for rsc, ratio, scope, score, replicate in itertools.product(*axes):
        gain = 0.2 * rsc + 0.1 * SCOPES.index(scope) - 0.05 * SCORES.index(score) + 0.01 * replicate
        _make(folder, make_run, rsc, ratio, gain, scope=scope, score=score, replicate=replicate)
    return load_runs([str(folder)])


@pytest.fixture(scope="module")
def drawn(six: Runs, many: Runs) -> Iterator[dict[tuple[int, str], Figure]]:
    found = {}
    with mpl.rc_context(RC):
        for runs, name in itertools.product((six, many), COMPARING):
            figure = FIGURES[name](runs, chosen_run(runs, ""))
            figure.canvas.draw()
            found[len(runs.finished), name] = figure
        yield found
    plt.close("all")


@pytest.mark.parametrize(("count", "name"), itertools.product((6, 216), COMPARING))
def test_texts_can_be_read(count: int, name: str, drawn: dict[tuple[int, str], Figure]) -> None:
    figure = drawn[count, name]
    check_texts(figure)
    wide = name in ("ratio_heatmap", "psnr_macs")  # of which the one has many columns, the other panels
    assert figure.get_size_inches()[0] == pytest.approx(COLUMN_IN) or (count == 216 and wide) or name == "ratio_heatmap"
    for axes in figure.axes:
        box = axes.get_window_extent()
        assert min(box.width, box.height) > 0.09 * figure.dpi or name == "ratio_heatmap"
        for legend in figure.legends:
            assert not legend.get_window_extent().overlaps(box)


def test_six_runs_have_one_column_with_their_gap_in_the_legend(six: Runs, drawn: dict[tuple[int, str], Figure]) -> None:
    """By hand, of 30 dB, the share kept, and for rsc 0.2 dB of the share cut: both lines are straight.

    The common range is 51 % (rsc at ratio 0.7) to 71.5 % (aligned at 0.3): 0.2 x (1 - 0.6125) = 0.0775 dB.
    """
    figure = drawn[6, "psnr_macs"]
    assert figure.get_size_inches()[0] == pytest.approx(COLUMN_IN)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    gaps = series_gaps(six)
    assert gaps["rsc"] is not None
    assert gaps["rsc"].psnr.mean == pytest.approx(0.0775)
    assert legend == ["Pareto front", "aligned", f"rsc ({gaps['rsc'].text} dB)", "dense"]
    assert "mean above aligned over the MACs that both have" in figure.get_suptitle().replace("\n", " ")


def test_many_series_have_panels_of_their_own(many: Runs, drawn: dict[tuple[int, str], Figure]) -> None:
    figure = drawn[216, "psnr_macs"]
    assert figure.get_size_inches()[0] == pytest.approx(PAGE_IN)
    assert [axes.get_title() for axes in figure.axes] == list(SCOPES)
    assert len({axes.get_ylim() for axes in figure.axes}) == 1  # they compare
    names = {f"{rule}, score={score}" for rule in ("aligned", "rsc") for score in SCORES}
    for axes in figure.axes:
        labels = {str(line.get_label()) for line in axes.get_lines()}
        assert labels == {*names, "Pareto front", "dense"}
        assert axes.get_window_extent().height > 1.0 * figure.dpi
    drawn_runs = sum(len(facet.runs.finished) for facet in facets(many))
    assert drawn_runs == len(many.finished)


def test_bars_of_many_runs_are_one_for_each_value_at_equal_macs(drawn: dict[tuple[int, str], Figure]) -> None:
    (axes,) = drawn[216, "differences"].axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "rule: rsc\nagainst aligned",
        *(f"scope: {scope}\nagainst global" for scope in SCOPES[1:]),
        *(f"score: {score}\nagainst l1" for score in SCORES[1:]),
    ]
    assert axes.get_xlabel() == "difference of PSNR at equal MACs (dB), 95 % interval"
    rule = axes.patches[0]
    assert rule.get_width() == pytest.approx(0.2 * 0.3875, abs=0.005)  # type: ignore[attr-defined]


def test_what_is_left_out_is_told(drawn: dict[tuple[int, str], Figure]) -> None:
    said = {
        name: " ".join(text.get_text() for text in texts(drawn[216, name])).replace("\n", " ") for name in COMPARING
    }
    assert "20 series are left out: " in said["error_by_cut"]
    assert "67 series are left out: " in said["error_over_frames"]
    assert "of 72 settings 24 are drawn, at 50 % of the units cut" in said["ratio_heatmap"]
    assert "left out" not in said["psnr_macs"] + said["differences"]


def test_series_that_no_knob_parts_are_left_out_by_name(tmp_path: Path, make_run: MakeRun) -> None:
    for number, ratio in itertools.product(range(10), (0.3, 0.5)):
        _make(tmp_path, make_run, True, ratio, 0.1 * number, min_kept=number + 1)
    runs = load_runs([str(tmp_path)])
    assert [facet.title for facet in facets(runs)] == [""]
    left_out = left_out_series([runs])
    # The first stays, and the seven that are best at equal MACs.
    assert left_out == ["min_kept=2", "min_kept=3"]
    assert left_out_note(left_out) == "2 series are left out: min_kept=2; min_kept=3"
    with mpl.rc_context(RC):
        figure = FIGURES["psnr_macs"](runs, chosen_run(runs, ""))
        figure.canvas.draw()
        check_texts(figure)
        labels = [str(line.get_label()) for line in figure.axes[0].get_lines()]
        assert sum(label.startswith("min_kept") for label in labels) == SERIES_SHOWN
        assert "2 series are left out: min_kept=2; min_kept=3" in figure.get_suptitle().replace("\n", " ")
        plt.close(figure)


def test_methods_with_much_of_their_own_have_short_names_in_figures(tmp_path: Path, make_run: MakeRun) -> None:
    for method, ratio in itertools.product(METHODS, (0.3, 0.5)):
        chosen = {"scope": "local", "score": "taylor", "rank": "per_param"} if method != "ssl" else {}
        _make(tmp_path, make_run, method == "ssl", ratio, 0.1, method__name=method, **chosen)
    runs = load_runs([str(tmp_path)])
    with mpl.rc_context(RC):
        for name, shown in (("psnr_macs", 6), ("error_by_cut", 4), ("error_over_frames", 5)):
            figure = FIGURES[name](runs, chosen_run(runs, ""))
            figure.canvas.draw()
            check_texts(figure)
            said = figure.get_suptitle().replace("\n", " ")
            assert "names leave out what comes with them: ssl: rsc, global, score=l1" in said
            legend = [text.get_text() for text in figure.legends[0].get_texts()]
            # Behind the cut, and before what the series gains: the method's name alone.
            names = [text.split(" (")[0].split(", ")[-1] for text in legend]
            assert len([name for name in names if name in METHODS]) == shown
            plt.close(figure)


def test_bands_over_frames_are_intervals_over_dense_networks() -> None:
    """By hand: networks lose 1.0 (the mean of 0.8 and 1.2) and 1.4 dB: 1.2 ± 12.706 x 0.2 dB."""
    rows = pd.DataFrame({"frame": [0, 0, 0], "network": ["a", "a", "b"], "psnr_gap": [0.8, 1.2, 1.4]})
    figure, axes = plt.subplots()
    drawings._draw_band(axes, rows, "psnr_gap", "black")
    (band,) = (item for item in axes.collections if isinstance(item, PolyCollection))
    heights = np.unique(np.asarray(band.get_paths()[0].vertices)[:, 1].round(3))
    assert list(heights) == pytest.approx([1.2 - 2.541, 1.2 + 2.541], abs=2e-3)
    plt.close(figure)


def test_long_names_of_layers_are_short_unlike_and_explained() -> None:
    names = [
        f"{branch}_trunk.blocks.{number}.{layer}"
        for branch in ("backward", "forward", "bidirectional")
        for number in range(2)
        for layer in ("conv1.input", "conv2")
    ]
    labels, words = short_layers([*names, "fusion"])
    assert labels[0] == "bt.blocks.0.conv1.input"
    assert len(set(labels)) == len(labels) == len(names) + 1
    assert max(map(len, labels)) < LAYER_LETTERS
    assert labels[-1] == "fusion"
    assert (words["backward_trunk"], words["bidirectional_trunk"]) == ("bt", "bitr")
    # What stands for a word gives the whole name back.
    longer = {short: word for word, short in words.items()}
    assert [".".join(longer.get(word, word) for word in label.split(".")) for label in labels[:-1]] == names
    assert short_layers(["backward.conv1", "fusion"]) == (["backward.conv1", "fusion"], {})
