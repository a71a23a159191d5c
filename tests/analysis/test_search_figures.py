"""Tables of a hand-made search, and what is drawn of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from drawn_texts import check_texts

from analysis.figures import NothingToDrawError
from analysis.search_figures import FIGURES, front, history, importance, layer_ratios, main, plan_heatmap, trial_table
from analysis.style import RC

LAYERS = [
    {"name": "backward.a", "part": "backward", "kind": "middle", "size": 8},
    {"name": "conv_hr", "part": "upsampler", "kind": "reconstruction", "size": 4},
]


def trial(number: int, share: float, psnr: list[float], counts: tuple[int, int] = (4, 2)) -> dict[str, Any]:
    kept = dict(zip(("backward.a", "conv_hr"), counts, strict=True))
    state = "complete" if len(psnr) == 2 else "pruned"
    return {
        "number": number,
        "state": state,
        "params": {},
        "counts": kept,
        "share": share,
        "psnr": psnr,
        "seconds": 1.0,
    }


def searched(objective: str = "psnr@macs") -> dict[str, Any]:
    trials = [trial(1, 0.5, [20.0]), trial(0, 0.5, [21.0, 22.0]), trial(2, 0.6, [21.5, 23.0], (2, 4))]
    references = [
        {
            "name": "global",
            "budget": 0.5,
            "share": 0.5,
            "counts": {"backward.a": 2, "conv_hr": 4},
            "psnr": [21.0, 22.5],
        },
        {
            "name": "uniform",
            "budget": 0.5,
            "share": 0.5,
            "counts": {"backward.a": 6, "conv_hr": 3},
            "psnr": [20.0, 21.0],
        },
    ]
    found: dict[str, Any] = {
        "objective": objective, "cost": "macs", "rungs": [0, 20], "layers": LAYERS, "trials": trials,
        "references": references, "importance": {"backward.a": 0.75, "conv_hr": 0.25},
    }  # fmt: skip
    found |= {"front": [trials[1], trials[2]]} if objective == "front" else {"best": trials[2]}
    return found


@pytest.fixture(autouse=True)
def style() -> Any:
    with mpl.rc_context(RC):
        yield
    mpl.pyplot.close("all")


def test_trials_are_told_apart_by_how_far_they_came() -> None:
    table = trial_table(searched())
    assert table["number"].tolist() == [0, 1, 2]
    assert table["psnr"].tolist() == [22.0, 20.0, 23.0]
    assert table["finished"].tolist() == [True, False, True]


def test_ratios_of_the_winner_stand_beside_those_of_the_rules() -> None:
    table = layer_ratios(searched())
    assert list(table.columns) == ["winner", "global", "uniform"]
    assert table["winner"].tolist() == [0.75, 0.0]
    assert table["uniform"].tolist() == [0.25, 0.25]
    assert list(table.index) == [("backward", "middle", "backward.a"), ("upsampler", "reconstruction", "conv_hr")]


def test_history_draws_the_best_so_far_and_both_references() -> None:
    axes = history(searched()).axes[0]
    lines = {line.get_label(): line.get_ydata() for line in axes.get_lines()}
    assert list(lines["best so far"]) == [22.0, 23.0]
    assert list(lines["global plan"]) == [22.5, 22.5]
    assert list(lines["stopped early"]) == [20.0]


def test_front_draws_the_pareto_points() -> None:
    axes = front(searched("front")).axes[0]
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert list(lines["front"].get_xdata()) == [0.5, 0.6]
    assert list(lines["front"].get_ydata()) == [22.0, 23.0]
    assert list(lines["uniform plan"].get_ydata()) == [21.0]


def test_importance_is_drawn_largest_first() -> None:
    axes = importance(searched()).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["backward.a", "conv_hr"]
    assert [bar.get_width() for bar in axes.patches] == [0.75, 0.25]


def test_what_a_search_does_not_have_is_said() -> None:
    with pytest.raises(NothingToDrawError, match="figure front"):
        history(searched("front"))
    with pytest.raises(NothingToDrawError, match="figure history"):
        front(searched())
    with pytest.raises(NothingToDrawError, match="too few"):
        importance({**searched(), "importance": {}})


@pytest.mark.parametrize("objective", ["psnr@macs", "front"])
def test_texts_are_readable(objective: str) -> None:
    for draw in (history, importance, plan_heatmap) if objective != "front" else (front, plan_heatmap):
        figure = draw(searched(objective))
        figure.canvas.draw()
        check_texts(figure)


def test_the_command_writes_the_same_bytes_twice(tmp_path: Path) -> None:
    (tmp_path / "search.json").write_text(json.dumps(searched()))
    written = []
    for name in ("a", "b"):
        assert main([str(tmp_path), "--out", str(tmp_path / name)]) == 0
        written.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert written[0] == written[1]
    assert len(written[0]) == 2 * (len(FIGURES) - 1)


def test_a_folder_without_a_search_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        main([str(tmp_path)])
    assert "no finished search" in capsys.readouterr().err
