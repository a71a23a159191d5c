"""A paper's tables: numbers, marks and bytes."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from documents import ROOT, blocks
from rich.console import Console

from analysis.runs import Runs, load_runs
from analysis.table_formats import FORMATS, comma_separated, latex, markdown
from analysis.tables import TABLES, build_table, main
from vsrprune.results.terminal import Row, print_replicates, print_results

MakeRun = Callable[..., Path]


@pytest.fixture
def runs(tmp_path: Path, make_run: MakeRun) -> Runs:
    """rsc beats aligned beyond noise at 0.5, and within noise at 0.3; two dense networks."""
    for replicate, shift in ((0, 0.0), (1, 1.0)):
        for ratio, gains in ((0.3, (0.5, -0.4)), (0.5, (0.20, 0.21))):
            make_run(
                tmp_path,
                f"a{ratio}{replicate}",
                rsc=False,
                ratio=ratio,
                replicate=replicate,
                psnr=29 + shift,
                macs=4000,
            )
            make_run(
                tmp_path,
                f"r{ratio}{replicate}",
                ratio=ratio,
                replicate=replicate,
                psnr=29 + shift + gains[replicate],
                macs=6000,
            )
    return load_runs([str(tmp_path)])


def test_rows_columns_and_numbers(runs: Runs) -> None:
    table = build_table(runs, "rule")
    assert table.columns == ["30 % of the units cut", "50 % of the units cut"]
    assert [(group, name) for group, name, _ in table.rows] == [("", "aligned"), ("", "rsc")]
    cell = table.rows[1][2][1]
    assert cell is not None
    assert cell.psnr.mean == pytest.approx(29.705)
    assert cell.macs_kept == 0.75


def test_the_best_is_marked_only_beyond_noise(runs: Runs) -> None:
    rows = {name: cells for _, name, cells in build_table(runs, "rule").rows}
    assert [cell.place for cell in rows["rsc"] if cell] == [0, 1]
    assert [cell.place for cell in rows["aligned"] if cell] == [0, 0]


def test_one_dense_network_marks_nothing(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "a", rsc=False, psnr=20.0)
    make_run(tmp_path, "r", psnr=40.0)
    table = build_table(load_runs([str(tmp_path)]), "rule")
    assert {cell.place for _, _, cells in table.rows for cell in cells if cell} == {0}
    assert "| rsc | 40.000 | 50.0% |" in markdown(table)


def test_second_place_needs_a_first(tmp_path: Path, make_run: MakeRun) -> None:
    for replicate in (0, 1):
        for score, psnr in (("l1", 30 + 0.001 * replicate), ("gate", 29 + 0.001 * replicate), ("random", 28.0)):
            make_run(tmp_path, f"{score}{replicate}", score=score, replicate=replicate, psnr=psnr + replicate)
    rows = {name: cells[0] for _, name, cells in build_table(load_runs([str(tmp_path)]), "score").rows}
    assert {name: cell.place for name, cell in rows.items() if cell} == {
        "score=l1": 1,
        "score=gate": 2,
        "score=random": 0,
    }


def test_what_else_varies_groups_the_rows(tmp_path: Path, make_run: MakeRun) -> None:
    for scope in ("local", "global"):
        for rsc in (True, False):
            make_run(tmp_path, f"{scope}{rsc}", scope=scope, rsc=rsc)
    table = build_table(load_runs([str(tmp_path)]), "rule")
    assert [(group, name) for group, name, _ in table.rows] == [
        ("global", "aligned"), ("local", "aligned"), ("global", "rsc"), ("local", "rsc"),
    ]  # fmt: skip
    lines = markdown(table).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:8]] == [
        "*global*",
        "aligned",
        "rsc",
        "*local*",
        "aligned",
        "rsc",
    ]


def test_every_format_holds_every_number(runs: Runs) -> None:
    table = build_table(runs, "rule")
    assert "**29.705 ± 6.417**" in markdown(table)
    rows = list(csv.DictReader(io.StringIO(comma_separated(table))))
    assert len(rows) == 4
    assert rows[3]["psnr_db"] == "29.705000"
    assert rows[3]["place"] == "1"
    text = latex(table)
    assert r"\textbf{29.705 $\pm$ 6.417} & 75.0\,\% \\" in text
    assert r"30 \% of the units cut" in text
    assert text.count("{") == text.count("}")
    assert text.startswith("% PSNR")


@pytest.mark.parametrize("name", ["main", "rule"])
def test_the_same_runs_give_the_same_bytes(runs: Runs, tmp_path: Path, name: str) -> None:
    outs = [tmp_path / "out1", tmp_path / "out2"]
    for out in outs:
        assert main([str(tmp_path), "--table", name, "--out", str(out)]) == 0
    for ending in FORMATS:
        one, two = ((out / f"{name}.{ending}").read_bytes() for out in outs)
        assert one == two
        assert one


def test_a_table_that_the_runs_do_not_vary_is_refused(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        main([str(tmp_path), "--table", "scope"])
    expected = "error: --table scope compares scope, but all these runs have the same; they vary rule, ratio\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize("name", TABLES)
def test_every_table_names_a_knob_of_the_runs(name: str, runs: Runs) -> None:
    assert TABLES[name] == "" or TABLES[name] in runs.finished[0].knobs


@pytest.mark.parametrize(("gain", "noted"), [(0.04, True), (0.3, False), (None, False)])
def test_the_ablation_of_the_temporal_loss_says_where_networks_hardly_use_time(
    gain: float | None, noted: bool, tmp_path: Path, make_run: MakeRun
) -> None:
    for weight in (0.0, 1.0):
        for rsc in (True, False):
            make_run(tmp_path, f"{weight}{rsc}", tf_weight=weight, rsc=rsc, temporal_gain=gain)
    runs = load_runs([str(tmp_path)])
    words = "other frames are worth +0.04 dB to the dense network"
    for render in (markdown, latex):
        assert (words in render(build_table(runs, "tf"))) == noted


def test_a_table_that_says_nothing_of_time_has_no_such_note(tmp_path: Path, make_run: MakeRun) -> None:
    for rsc in (True, False):
        make_run(tmp_path, str(rsc), rsc=rsc, temporal_gain=0.04)
    assert "other frames" not in markdown(build_table(load_runs([str(tmp_path)]), "rule"))


def test_the_test_clips_have_a_table_of_their_own_that_says_so(tmp_path: Path, make_run: MakeRun) -> None:
    for rsc, psnr in ((True, 30.0), (False, 29.0)):
        make_run(tmp_path, str(rsc), rsc=rsc, psnr=psnr, test=psnr - 1)
    runs = load_runs([str(tmp_path)])
    held_out, tested = (markdown(build_table(runs, "rule", split)) for split in ("val", "test"))
    assert "| rsc | 30.000 | 50.0% |" in held_out
    assert "on the held-out clips of demo" in held_out
    assert "| rsc | 29.000 | 50.0% |" in tested
    assert "on the test clips, by which no choice was made, of demo" in tested


def test_runs_without_test_clips_have_no_such_table(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        main([str(tmp_path), "--table", "rule", "--split", "test"])
    assert "these runs have no test clips; run them with data.test=[CLIP,...]" in capsys.readouterr().err


def printed(folder: Path) -> list[str]:
    console = Console(width=100, record=True, file=io.StringIO())
    rows = [Row(" ".join(run.name.split(",")), run.result, run.measured) for run in load_runs([str(folder)]).finished]
    print_replicates(rows, console)
    return [" ".join(line.split()) for line in console.export_text().splitlines()]


def test_a_sweep_prints_means_over_dense_networks(tmp_path: Path, make_run: MakeRun) -> None:
    for replicate, seed in itertools.product((0, 1), (0, 1)):
        for scope, gain in (("global", 0.0), ("local", 0.5 + 0.002 * replicate)):
            name = f"scope={scope},data.demo_seed=3,replicate={replicate},seed={seed}"
            make_run(tmp_path, name, scope=scope, replicate=replicate, seed=seed, psnr=30 + replicate + gain)
    lines = printed(tmp_path)
    assert "scope=global data.demo_seed=3 2, 1, 4 30.500 ± 6.353" in lines
    assert "scope=local data.demo_seed=3 2, 1, 4 31.001 ± 6.366 +0.501 ± 0.013 better" in lines
    assert "Behind each number: 2 dense networks, 1 plan and 4 runs." in " ".join(lines)


def test_a_sweep_over_data_orders_prints_that_there_is_one_dense_network(tmp_path: Path, make_run: MakeRun) -> None:
    for seed in (0, 1, 2):
        for scope, gain in (("global", 0.0), ("local", 0.5)):
            make_run(tmp_path, f"scope={scope},seed={seed}", scope=scope, seed=seed, psnr=30 + gain + 0.1 * seed)
    lines = printed(tmp_path)
    assert "scope=local 1, 1, 3 30.600 (sd 0.100) +0.500 one dense network" in lines
    assert "no interval and no verdict over dense networks" in " ".join(lines)


def test_each_group_of_runs_that_can_be_compared_has_tables_of_its_own(
    tmp_path: Path, make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    """On one set rsc is better, on the other worse, by as much: what is mixed would show no difference."""
    for data, replicate, (rsc, gain) in itertools.product(("demo", "vid4"), (0, 1), ((True, 0.1), (False, 0.0))):
        psnr = (30 + gain if data == "demo" else 26 - gain) + 0.02 * replicate * gain
        make_run(tmp_path, f"{data}{replicate}{rsc}", data__name=data, rsc=rsc, replicate=replicate, psnr=psnr)
    assert main([str(tmp_path), "--table", "main", "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "main_evidence.md").read_text()
    first, second = text.split("## vid4")
    assert first.startswith("## demo")
    assert "| rsc | 2 | 1 | 2 | 30.101" in first
    assert "+0.101 ± 0.013 | better" in first
    assert "-0.099 ± 0.013 | worse" in second
    lines = (tmp_path / "out" / "main.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "group", *["demo"] * 4, *["vid4"] * (4 + 12),
    ]  # fmt: skip
    assert "## demo" in capsys.readouterr().out
    assert main([str(tmp_path), "--table", "rule", "--group", "vid4"]) == 0
    assert "held-out clips of demo" not in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"^2$"):
        main([str(tmp_path), "--table", "scope"])
    said = capsys.readouterr().err
    assert said.startswith("error: no table of group 1 (demo): --table scope compares scope, but")
    assert said.count("\n") == 1


def test_the_table_of_directions_compares_networks_on_the_same_clips(
    tmp_path: Path, make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    for data, model in itertools.product(("demo", "vid4"), ("tiny", "tiny_uni")):
        make_run(tmp_path, f"{data}{model}", data__name=data, model__name=model)
    assert main([str(tmp_path), "--table", "direction"]) == 0
    said = capsys.readouterr().out
    assert [line for line in said.splitlines() if line.startswith("##")] == ["## demo"] * 2 + ["## vid4"] * 2


@pytest.mark.parametrize(
    ("trained", "words"),
    [
        ((190, 190), "Trained for 190 steps after pretraining."),
        (
            (100, 190),
            "Rows differ in training steps after pretraining, 100 to 190: schedule.budget=190 makes them equal.",
        ),
    ],
)
def test_a_table_says_whether_its_rows_were_trained_for_equally_many_steps(
    tmp_path: Path, make_run: MakeRun, trained: tuple[int, int], words: str
) -> None:
    for name, steps in zip(("ssl", "l1"), trained, strict=True):
        make_run(tmp_path, name, method__name=name, trained=steps)
    assert words in build_table(load_runs([str(tmp_path)]), "method").note


def test_jobs_stand_below_the_dense_network_that_they_share(tmp_path: Path, make_run: MakeRun) -> None:
    for scope, replicate in itertools.product(("global", "local"), (0, 1)):
        make_run(tmp_path, f"{scope}{replicate}", scope=scope, replicate=replicate, dense=31.0 + replicate)
    found = {run.name: run for run in load_runs([str(tmp_path)]).finished}
    # A sweep runs through the last of its axes first.
    names = ["global0", "global1", "local0", "local1"]
    console = Console(file=io.StringIO(), width=200)
    print_results([Row(name, found[name].result, found[name].measured) for name in names], console)
    lines = [line.split() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    told = [(words[0], words[1] if words[0].startswith("#") else words[2]) for words in lines if len(words) > 9]
    assert [pair for pair in told if pair[0] in ("dense", "#1", "#2", "#3", "#4")] == [
        ("dense", "31.00"),
        ("#1", "global0"),
        ("#3", "local0"),
        ("dense", "32.00"),
        ("#2", "global1"),
        ("#4", "local1"),
    ]


def test_a_long_name_of_a_job_is_never_shortened(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "a")
    (run,) = load_runs([str(tmp_path)]).finished
    console = Console(file=io.StringIO(), width=80)
    print_results(
        [Row(f"method.tf_in_sparsify_{'long' * 9}={value}", run.result, run.measured) for value in "01"], console
    )
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert "".join(line[4:22].strip() for line in text.splitlines()).count("=1") == 1


def test_notes_name_their_jobs_where_not_all_have_them(tmp_path: Path, make_run: MakeRun) -> None:
    for replicate, gain in ((0, 0.03), (1, -0.004)):
        notes = ["of all", *["of one"] * replicate]
        make_run(tmp_path, str(replicate), replicate=replicate, temporal_gain=gain, notes=notes)
    console = Console(file=io.StringIO(), width=200)
    print_results([Row(run.name, run.result, run.measured) for run in load_runs([str(tmp_path)]).finished], console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    start = "note: other frames are worth +0.00 to +0.03 dB to the dense networks"
    said = [line.strip() for line in lines if line.startswith("note")]
    assert said[:2] == ["note: of all", "note (#2): of one"]
    assert [line.startswith(start) for line in said[2:]] == [True]


def test_the_first_page_shows_the_table_that_a_sweep_prints(tmp_path: Path, make_run: MakeRun) -> None:
    """Headings and notes, whatever the numbers are: they are those of one run of the demo."""
    make_run(tmp_path, "ssl", target="units")
    (run,) = load_runs([str(tmp_path)]).finished
    console = Console(file=io.StringIO(), width=200)
    print_results([Row("rsc=true ratio=0.3", run.result, run.measured)], console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    (shown,) = [block.text for block in blocks(ROOT / "README.md") if "PSNR  PSNR" in block.text]
    assert [line.split() for line in shown.splitlines()[:2]] == [line.split() for line in printed.splitlines()[1:3]]
    notes = [line for line in printed.splitlines() if line.startswith(("PSNR in", "params", "ms:", "Equal ratio"))]
    assert len(notes) == 4
    for note in notes:
        assert without_numbers(note) in without_numbers(shown)


def without_numbers(text: str) -> str:
    return re.sub(r"[\d.]+", "#", re.sub(r"\b(clip|thread)s\b", r"\1", " ".join(text.split())))


@pytest.mark.parametrize(
    ("knobs", "heading"),
    [
        ([{}], "job, ratio of units"),
        ([{"target": "macs"}], "job, ratio of MACs"),
        ([{"target": "macs"}, {}], "job"),
        ([{"target": "latency", "target_ms": 5.0}], "job"),
        ([{"scope": "per_layer"}], "job"),
    ],
)
def test_the_printed_table_says_what_ratio_is_a_share_of(
    knobs: list[dict[str, object]], heading: str, tmp_path: Path, make_run: MakeRun
) -> None:
    for place, changes in enumerate(knobs):
        make_run(tmp_path, str(place), **changes)
    console = Console(file=io.StringIO(), width=200)
    print_results([Row(run.name, run.result, run.measured) for run in load_runs([str(tmp_path)]).finished], console)
    line = next(line for line in console.file.getvalue().splitlines() if "tuned" in line)  # type: ignore[attr-defined]
    assert " ".join(line.split()).startswith(f"{heading} cut tuned")


def test_a_sweep_over_data_compares_with_the_first_setting_on_the_same_clips(tmp_path: Path, make_run: MakeRun) -> None:
    for data, scope, replicate in itertools.product(("demo", "vid4"), ("global", "local"), (0, 1)):
        name = f"data={data},scope={scope},replicate={replicate}"
        psnr = {"demo": 30, "vid4": 26}[data] + {"global": 0, "local": 0.5}[scope]
        make_run(tmp_path, name, data__name=data, scope=scope, replicate=replicate, psnr=psnr)
    lines = printed(tmp_path)
    assert "data=demo scope=global 2, 1, 2 30.000 ± 0.000" in lines
    assert "data=vid4 scope=global 2, 1, 2 26.000 ± 0.000" in lines
    assert "data=vid4 scope=local 2, 1, 2 26.500 ± 0.000 +0.500 ± 0.000 better" in lines
    assert "differences to the first setting on the same clips" in " ".join(lines)


def test_a_sweep_prints_controls_in_words(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "ssl")
    make_run(tmp_path, "dense", method__name="dense")
    rows = [
        Row(f"method={run.name} ratio=0.5", run.result, run.measured) for run in load_runs([str(tmp_path)]).finished
    ]
    console = Console(file=io.StringIO(), width=200)
    print_results(rows, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "method=ssl ratio=0.5" in text
    assert "dense, trained on, ratio=0.5" in text
