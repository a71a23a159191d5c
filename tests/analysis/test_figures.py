"""Figures: what is drawn, that nothing is cut off or overlaps at column width, and that bytes repeat."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import pytest
from drawn_texts import check_texts, texts
from forked import run_script
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from analysis import figures
from analysis.figures import FIGURES, chosen_run, main, write_figures
from analysis.runs import Runs, load_runs
from analysis.style import COLUMN_IN, RC, colours, line_styles
from vsrprune.results.measured import Measured
from vsrprune.results.result import Result
from vsrprune.store.sealed import read_sealed

MakeRun = Callable[..., Path]
ANALYSIS = Path(figures.__file__).parent


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory, make_run: MakeRun) -> Path:
    """rule x ratio x tf_weight x replicate, and a job that failed."""
    folder = tmp_path_factory.mktemp("sweep")
    for rsc, ratio, tf, replicate in itertools.product((True, False), (0.3, 0.5, 0.7), (0.0, 1.0), (0, 1)):
        kept = 1 - ratio * (0.7 if rsc else 0.9)
        job = make_run(
            folder, f"{rsc}{ratio}{tf}{replicate}", rsc=rsc, ratio=ratio, tf_weight=tf, replicate=replicate,
            macs=int(8000 * kept), latency=4 * kept + 0.1, psnr=30 + kept + 0.1 * tf + 0.02 * replicate,
        )  # fmt: skip
        gates = [
            {
                "stage": "sparsify",
                "step": 10 * n,
                "lambda": 0.01 * n,
                "gate/fusion": 1 - 0.1 * n,
                "gate/backward.conv1": 1,
            }
            for n in range(9)
        ]
        (job / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in gates))
    (folder / "failed").mkdir()
    (folder / "failed" / "state.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def runs(sweep: Path) -> Runs:
    return load_runs([str(sweep)])


@pytest.fixture
def draw(runs: Runs) -> Iterator[Callable[[str], Figure]]:
    def drawn(name: str) -> Figure:
        figure = FIGURES[name](runs, chosen_run(runs, ""))
        figure.canvas.draw()
        return figure

    with mpl.rc_context(RC):
        yield drawn
    plt.close("all")


@pytest.mark.parametrize("name", FIGURES)
def test_texts_are_readable(name: str, draw: Callable[[str], Figure]) -> None:
    check_texts(draw(name))


def test_quality_has_a_line_per_series_and_the_dense_network(draw: Callable[[str], Figure]) -> None:
    figure = draw("psnr_macs")
    assert figure.get_size_inches()[0] == pytest.approx(COLUMN_IN)
    (axes,) = figure.axes
    labels = [line.get_label() for line in axes.get_lines()]
    series = [f"{rule}, tf_weight={weight}" for rule in ("aligned", "rsc") for weight in (0, 1)]
    assert labels == ["Pareto front", *series, "dense"]
    # Bicubic lies 2.6 dB below all else, which has 0.7 dB: its line would take the height.
    assert [text.get_text() for text in axes.texts] == ["bicubic: 28.00 dB, below"]
    assert axes.get_ylim()[0] > 30
    rsc = axes.get_lines()[labels.index("rsc, tf_weight=1")]
    assert list(rsc.get_xdata()) == pytest.approx([0.51, 0.65, 0.79], abs=1e-3)
    assert list(rsc.get_ydata()) == pytest.approx([30.62, 30.76, 30.90], abs=1e-3)
    assert len(axes.collections) == 4  # a band per series: there are two replicates
    assert axes.get_ylabel() == "PSNR (dB)"


@pytest.mark.parametrize("name", ["error_over_frames", "differences"])
@pytest.mark.parametrize(("gain", "noted"), [(0.04, True), (0.3, False)])
def test_figures_of_time_say_where_networks_hardly_use_it(
    name: str, gain: float, noted: bool, tmp_path: Path, make_run: MakeRun
) -> None:
    for weight in (0.0, 1.0):
        make_run(tmp_path, str(weight), tf_weight=weight, temporal_gain=gain)
    runs = load_runs([str(tmp_path)])
    with mpl.rc_context(RC):
        figure = FIGURES[name](runs, chosen_run(runs, ""))
        figure.canvas.draw()
        words = " ".join(text.get_text() for text in texts(figure))
        assert ("Note: other frames are worth +0.04 dB" in words) == noted
        check_texts(figure)
        plt.close(figure)


@pytest.mark.parametrize(("name", "styles"), [("error_over_frames", ["-", "--"]), ("error_by_cut", ["-", "--", ":"])])
def test_both_parts_of_the_error_are_drawn_at_both_points(
    name: str, styles: list[str], draw: Callable[[str], Figure]
) -> None:
    figure = draw(name)
    assert figure.get_size_inches()[0] == pytest.approx(COLUMN_IN)
    panels = figure.axes[:2]
    assert [axes.get_title() for axes in panels] == ["right after the cut", "after fine-tuning"]
    assert panels[0].get_ylim() == panels[1].get_ylim()
    for axes in panels:
        lines = [line for line in axes.get_lines() if len(line.get_xdata())]  # type: ignore[arg-type]
        assert [line.get_linestyle() for line in lines] == styles * (len(lines) // len(styles))
        highest = max(float(max(line.get_ydata())) for line in lines)  # type: ignore[arg-type]
        assert 0 == axes.get_ylim()[0] < highest < axes.get_ylim()[1]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names[:2] == ["made here", "propagated"]


def test_errors_over_frames_stand_at_their_frames(draw: Callable[[str], Figure]) -> None:
    """Of two temporal weights: one line after the cut, which they share in part and whole."""
    backward_cut, backward, forward_cut, forward, gaps = draw("error_over_frames").axes
    assert [axes.get_ylabel() for axes in (backward_cut, forward_cut, gaps)] == [
        "backward:\nrelative error",
        "forward:\nrelative error",
        "PSNR lost\nto dense (dB)",
    ]
    made, propagated = forward.get_lines()[:2]
    assert list(made.get_xdata()) == [0, 1]
    assert list(made.get_ydata()) == pytest.approx([0.3, 0.2])
    assert list(propagated.get_ydata()) == pytest.approx([0.0, 0.3])
    assert list(backward.get_lines()[1].get_ydata()) == pytest.approx([0.12, 0.0])


@pytest.mark.parametrize("name", ["psnr_macs", "error_by_cut", "error_over_frames", "differences", "ratio_heatmap"])
def test_long_names_of_settings_can_be_read(name: str, tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "ssl", macs=6000)
    for method in ("assl", "srp", "best", "random"):
        inside = {"name": method, "normalised": True, "align": True, "sparsify": method == "srp"}
        chosen = {"scope": "local", "score": "taylor", "rank": "per_param", "normalise": "kind"}
        make_run(tmp_path, method, method=inside, rsc=False, tf_weight=0.0, **chosen)
    runs = load_runs([str(tmp_path)])
    assert max(len(runs.label(run)) for run in runs.finished) > 120
    with mpl.rc_context(RC):
        figure = FIGURES[name](runs, chosen_run(runs, ""))
        figure.canvas.draw()
        check_texts(figure)
        plt.close(figure)


def test_networks_without_states_show_the_psnr_over_frames_alone(tmp_path: Path, make_run: MakeRun) -> None:
    for ratio in (0.3, 0.5):
        folder = make_run(tmp_path, str(ratio), ratio=ratio)
        replace(Result.load(folder), hidden_error={}).save(folder)
    runs = load_runs([str(tmp_path)])
    with mpl.rc_context(RC):
        figure = FIGURES["error_over_frames"](runs, chosen_run(runs, ""))
        figure.canvas.draw()
        assert [axes.get_ylabel() for axes in figure.axes] == ["PSNR lost\nto dense (dB)"]
        assert [text.get_text() for text in figure.legends[0].get_texts()] == [
            "30 % of the units cut",
            "50 % of the units cut",
        ]
        check_texts(figure)
        plt.close(figure)


def test_one_share_cut_gives_no_picture_of_shares(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "one")
    runs = load_runs([str(tmp_path)])
    reasons = write_figures(runs, chosen_run(runs, ""), ["error_by_cut"], tmp_path / "figures")
    assert "no two jobs with hidden states to compare cut different shares" in reasons["error_by_cut"]


def test_the_heatmap_has_a_number_in_every_cell(draw: Callable[[str], Figure]) -> None:
    axes = draw("ratio_heatmap").axes[0]
    assert len(axes.texts) == 3 * 12
    assert axes.images[0].get_array().shape == (3, 12)  # type: ignore[union-attr]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["backward.conv1", "forward.conv1", "fusion"]


def test_differences_have_a_bar_per_value_and_share_cut(draw: Callable[[str], Figure]) -> None:
    axes = draw("differences_by_cut").axes[0]
    cuts = [f"{share} % of the units cut" for share in (30, 50, 70)]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        *(f"rule: rsc\nagainst aligned\n{cut}" for cut in cuts),
        *(f"tf_weight: 1\nagainst 0\n{cut}" for cut in cuts),
    ]
    assert [round(bar.get_width(), 3) for bar in axes.patches] == [0.06, 0.1, 0.14, 0.1, 0.1, 0.1]


def test_crops_show_each_network_with_its_psnr(draw: Callable[[str], Figure]) -> None:
    labels = [axes.get_xlabel() for axes in draw("qualitative").axes]
    assert labels[:2] == ["", "LR"]
    assert labels[2].startswith("bicubic\n")
    assert labels[2].endswith(" dB")
    assert labels[-1] == "ground truth"
    assert len(labels) == 1 + 3 + 4 + 1


def test_pictures_of_methods_keep_their_size(make_run: MakeRun, tmp_path: Path) -> None:
    """Names of all that comes with a method would leave the pictures no room, and lie over each other."""
    for method, rest in (
        ("ssl", {"rank": "score", "tf_weight": 0.003, "scope": "global"}),
        ("best", {"rank": "per_mac", "tf_weight": 0.0, "scope": "global", "score": "taylor"}),
        ("l1", {"rank": "score", "tf_weight": 0.0, "scope": "local", "rsc": False}),
    ):
        make_run(tmp_path, method, method__name=method, **rest)
    several = load_runs([str(tmp_path)])
    figure = FIGURES["qualitative"](several, chosen_run(several, "ssl"))
    figure.draw_without_rendering()
    names = [axes.get_xlabel().split("\n")[0] for axes in figure.axes]
    assert {"ssl", "best", "l1"} <= set(names)
    assert all(axes.get_window_extent().width > 0.08 * figure.bbox.width for axes in figure.axes)
    check_texts(figure)


def test_series_of_a_rule_share_its_colour_but_not_their_line() -> None:
    names = ["rsc, tf_weight=0", "rsc, tf_weight=1", "aligned, tf_weight=0", "something else"]
    colour, line = colours(names), line_styles(names)
    assert colour["rsc, tf_weight=0"] == colour["rsc, tf_weight=1"] == colours(["rsc"])["rsc"]
    assert line["rsc, tf_weight=0"] != line["rsc, tf_weight=1"]
    assert len({colour[name] for name in names}) == 3


@pytest.mark.long
def test_the_same_runs_give_the_same_bytes(sweep: Path, tmp_path: Path) -> None:
    """In processes of their own: what one figure leaves behind must not be in the next."""
    for out in ("one", "two"):
        done = run_script([ANALYSIS / "figures.py", sweep, "--out", tmp_path / out], tmp_path)
        assert done.returncode == 0, done.stderr
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == sorted(f"{name}.{ending}" for name in FIGURES for ending in ("pdf", "png"))
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_fonts_are_embedded(runs: Runs, tmp_path: Path) -> None:
    write_figures(runs, chosen_run(runs, ""), ["psnr_macs"], tmp_path)
    content = (tmp_path / "psnr_macs.pdf").read_bytes()
    assert b"/FontFile2" in content
    assert b"/Type3" not in content


def test_missing_pieces_leave_out_a_figure_and_say_why(
    tmp_path: Path, make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "runs", "only", side=0)
    assert main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    assert "not drawn: qualitative: only has no crops" in said
    assert "not drawn: gate_trajectories: only has no sparsify stage" in said
    assert "not drawn: differences: no knob but the ratio varies" in said
    assert (tmp_path / "out" / "psnr_macs.pdf").is_file()


def test_wrong_input_is_one_line(tmp_path: Path, make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        main([str(tmp_path / "nowhere")])
    assert capsys.readouterr().err.startswith("error: there is no folder ")
    make_run(tmp_path, "a")
    with pytest.raises(SystemExit, match=r"^2$"):
        main([str(tmp_path), "--run", "b", "--out", str(tmp_path / "out")])
    assert capsys.readouterr().err == "error: --run must name a job: a; got 'b'\n"


def test_latencies_of_two_machines_are_not_drawn_together(
    tmp_path: Path, make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path, "a")
    job = make_run(tmp_path, "b", ratio=0.7)
    measured = read_sealed(job / "measured.json")
    (job / "measured.json").write_text(json.dumps({**measured, "processor": "another"}))
    main([str(tmp_path), "--out", str(tmp_path / "out"), "--only", "psnr_latency"])
    assert "latencies of different machines" in capsys.readouterr().err


def test_the_dense_network_is_no_point_where_it_stands_in_for_the_truth(tmp_path: Path, make_run: MakeRun) -> None:
    for ratio in (0.3, 0.5):
        make_run(tmp_path, str(ratio), ratio=ratio, dense=100.0, data__truth="none")
    runs = load_runs([str(tmp_path)])
    with mpl.rc_context(RC):
        (axes,) = FIGURES["psnr_macs"](runs, chosen_run(runs, "")).axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert "dense" not in lines
    assert list(lines["rsc"].get_ydata()) == [30.0, 30.0]
    assert axes.get_ylim()[1] < 31
    plt.close("all")


def test_times_stand_as_shares_of_the_dense_time_and_say_what_disturbs_them(tmp_path: Path, make_run: MakeRun) -> None:
    """A pruned network of 2 ms, whose dense one took 4 ms, and once 4.3 and once 5 ms beside two more threads."""
    for dense, threads, noted in ((4.3, 2, 0), (5.0, 4, 2)):
        folder = tmp_path / str(dense)
        make_run(folder, "a")
        job = make_run(folder, "b", ratio=0.7)
        measured = Measured.load(job)
        latency = {**measured.latency_ms, "dense": replace(measured.latency_ms["dense"], ms=dense)}
        replace(measured, latency_ms=latency, threads=threads).save(job)
        runs = load_runs([str(folder)])
        with mpl.rc_context(RC):
            figure = FIGURES["psnr_latency"](runs, chosen_run(runs, ""))
            figure.canvas.draw()
            check_texts(figure)
        (axes,) = figure.axes
        lines = {line.get_label(): line for line in axes.get_lines()}
        assert sorted(lines["rsc"].get_xdata()) == pytest.approx(sorted([2 / 4, 2 / dense]))  # type: ignore[type-var]
        assert list(lines["dense"].get_xdata()) == [1.0]
        notes = figure.get_suptitle().replace("\n", " ")
        assert notes.count("Note:") == noted
        assert ("the dense network took 4 to 5 ms per frame, 25% apart" in notes) == bool(noted)
        assert ("times were taken with 2 or 4 threads" in notes) == bool(noted)
        plt.close(figure)


@pytest.fixture
def two_sets(tmp_path: Path, make_run: MakeRun) -> Path:
    """Two data sets whose dense networks have 31 and 35 dB, the first with two replicates, and a run found twice."""
    for ratio in (0.3, 0.5):
        for replicate in (0, 1):
            job = make_run(tmp_path / "one", f"{ratio},{replicate}", ratio=ratio, replicate=replicate,
                           dense=30.9 + 0.2 * replicate, macs=round(8000 * (1 - ratio)))  # fmt: skip
        for rsc, psnr in ((True, 34.0), (False, 34.2)):
            make_run(tmp_path / "two", f"{ratio},{rsc}", ratio=ratio, rsc=rsc, dense=35.0, psnr=psnr,
                     data__name="vid4", macs=round(8000 * (1 - ratio)))  # fmt: skip
    shutil.copytree(job, tmp_path / "again" / "copy")
    return tmp_path


def test_each_panel_has_the_dense_network_and_the_front_of_its_own_group(two_sets: Path) -> None:
    runs = load_runs([str(two_sets)])
    assert [item.reason for item in runs.left_out if "counted once" in item.reason]
    with mpl.rc_context(RC):
        figure = FIGURES["psnr_macs"](runs, chosen_run(runs, ""))
        figure.canvas.draw()
        check_texts(figure)
    assert [axes.get_title() for axes in figure.axes] == ["demo", "vid4"]
    for axes, dense, best in zip(figure.axes, (31.0, 35.0), (30.0, 34.2), strict=True):
        lines = {line.get_label(): line for line in axes.get_lines()}
        assert list(lines["dense"].get_ydata()) == pytest.approx([dense])
        assert max(lines["Pareto front"].get_ydata()) == pytest.approx(best)  # type: ignore[type-var]
    plt.close(figure)


def test_a_figure_of_one_group_names_it_and_the_others(
    two_sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    assert main([str(two_sets), "--out", out, "--only", "differences", "--run", "0.3,True"]) == 0
    assert "differences: of group 2 (vid4) alone; --group draws 1 (demo)" in capsys.readouterr().err
    assert main([str(two_sets), "--out", out, "--only", "differences", "--group", "demo"]) == 0
    said = capsys.readouterr().err
    assert "not drawn: differences: no knob but the ratio varies" in said  # the rules differ in the other group alone
    assert "--group" not in said
    with pytest.raises(SystemExit, match=r"^2$"):
        main([str(two_sets), "--out", out, "--group", "3"])
    assert capsys.readouterr().err == "error: --group must be one of 1 (demo), 2 (vid4); got '3'\n"


def test_groups_beyond_the_panels_are_named(
    tmp_path: Path, make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(5):
        make_run(tmp_path / "runs", str(seed), data__demo_seed=seed)
    main([str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "--only", "psnr_macs"])
    said = capsys.readouterr().err
    assert said == "psnr_macs: of the first 4 groups; --group draws 5 (data.demo_seed=4)\n"


def test_methods_of_one_rule_have_colours_of_their_own() -> None:
    chosen = colours(["ssl, rsc, global", "srp, rsc, local", "l1, aligned, local"])
    assert len(set(chosen.values())) == 3
    assert chosen["l1, aligned, local"] == colours(["l1"])["l1"]


@pytest.mark.filterwarnings("error")
def test_letters_that_the_font_lacks_are_one_line_of_ours(
    tmp_path: Path, make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "runs", "\N{CJK UNIFIED IDEOGRAPH-6A21} 1")
    out = tmp_path / "out"
    assert main([str(tmp_path / "runs"), "--out", str(out), "--only", "score_distributions", "psnr_macs"]) == 0
    said = "boxes stand for letters that the font lacks: \N{CJK UNIFIED IDEOGRAPH-6A21}"
    assert capsys.readouterr().err == f"score_distributions: {said}\n"
