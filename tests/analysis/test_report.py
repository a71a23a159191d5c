"""The report: its tables worked out by hand, the same bytes twice, nothing from a file taken for HTML."""

import json
import math
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from forked import run_script
from plotly.offline import get_plotlyjs

from analysis.groups import grouped
from analysis.pictures import Pictures, psnr
from analysis.report import (
    PLAIN,
    Pool,
    embedded,
    fill,
    number,
    page_data,
    replicate_names_of,
    report_page,
    series_styles,
)
from analysis.report_data import (
    POINTS,
    configuration,
    crop_table,
    curve_table,
    differing,
    layer_table,
    machine,
    make_tables,
    measure,
    place_boxes,
    points_of,
    run_table,
    setting_table,
    shown_digits,
    texts,
)
from analysis.report_html import MISSING, format_number, text
from analysis.runs import load_runs
from vsrprune.host.failures import FailureCard
from vsrprune.results.result import METRICS

SCRIPT = Path(__file__).parents[2] / "analysis" / "report.py"
HOSTILE = "<img src=x onerror=hacked()>&,ratio=0.5"
HOSTILE_TEXT = "</script><script>hacked()</script>{{data}}"


@pytest.fixture
def sweep(make_run, tmp_path):
    """Two rules, two ratios, two replicates: rsc is 1 dB better, and half the MACs go at ratio 0.5."""
    for rsc, ratio, replicate in product((True, False), (0.25, 0.5), (0, 1)):
        make_run(
            tmp_path / "sweep",
            f"rsc={str(rsc).lower()},ratio={ratio},replicate={replicate}",
            rsc=rsc,
            ratio=ratio,
            replicate=replicate,
            psnr=29.0 + rsc + 0.1 * replicate - ratio,
            macs=int(8000 * (1 - ratio)),
            latency=4 - 4 * ratio,
        )
    return load_runs([str(tmp_path / "sweep")])


def data_of(page):
    return json.loads(page.split('<script type="application/json" id="data">')[1].split("</script>")[0])


# Tables


def test_nested_values_become_dotted_names():
    nested = {"ratio": 0.5, "ratios": None, "data": {"val": ["a"], "crop": {"x": True}}, "ratios2": {}, "path": ""}
    assert texts(nested) == {
        "ratio": "0.5", "ratios": "null", "data.val": '["a"]', "data.crop.x": "true", "ratios2": "{}", "path": "",
    }  # fmt: skip


def test_differing_names_include_those_that_only_some_rows_have():
    assert differing([{"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4"}]) == ["b", "c"]
    assert differing([{"a": "1"}]) == []


def test_run_table_adds_the_measures(sweep):
    table = run_table(sweep)
    row = table[table["job"] == "rsc=true,ratio=0.5,replicate=1"].iloc[0]
    assert row["gain"] == pytest.approx(29.6 - 28)
    assert row["macs_percent"] == 50
    assert row["units_percent"] == 50
    assert row["parameters_k"] == 0.5
    assert row[["hidden_error", "made_here", "propagated"]].tolist() == pytest.approx([0.25, 0.1875, 0.105])
    assert row[["hidden_error_cut", "made_here_cut"]].tolist() == pytest.approx([0.45, 0.3])
    assert row["speed_up"] == 2


def test_settings_are_means_over_replicates_with_intervals(sweep):
    settings = setting_table(grouped(sweep), sweep)
    assert list(settings["series"]) == ["aligned", "aligned", "rsc", "rsc"]
    assert list(settings["macs_percent"]) == [75, 50, 75, 50]
    row = settings.iloc[3]
    assert row["psnr"] == pytest.approx(29.55)
    assert row["networks"] == 2
    assert row["half_width"] == pytest.approx(12.706 * 0.05, rel=1e-4)  # Student's t with one degree of freedom


def test_names_say_what_differs_inside_a_group(make_run, tmp_path):
    for data in ("demo", "vid4"):
        for ratio in (0.3, 0.5):
            make_run(tmp_path, f"{data},{ratio}", data__name=data, ratio=ratio)
    runs = load_runs([str(tmp_path)])
    settings = setting_table(grouped(runs), runs)
    assert sorted(zip(settings["group"], settings["label"], strict=True)) == [
        (0, "ratio=0.3"), (0, "ratio=0.5"), (1, "ratio=0.3"), (1, "ratio=0.5")
    ]  # fmt: skip


def test_settings_that_differ_by_other_knobs_stay_apart(make_run, tmp_path):
    for lr in (0.1, 0.2):
        make_run(tmp_path, f"lr={lr}", schedule__finetune__lr=lr, psnr=30 + lr)
    runs = load_runs([str(tmp_path)])
    settings = setting_table(grouped(runs), runs)
    assert list(settings["label"]) == ["schedule.finetune.lr=0.1", "schedule.finetune.lr=0.2"]
    assert list(settings["networks"]) == [1, 1]
    assert "schedule.finetune.lr" in [column.name for column in make_tables(runs).columns]


def test_runs_of_one_dense_network_name_the_same_replicate(sweep):
    names = replicate_names_of(grouped(sweep))
    assert {names[run.name] for run in sweep.finished if run.knobs["replicate"] == 0} == {"0 0"}
    assert {names[run.name] for run in sweep.finished if run.knobs["replicate"] == 1} == {"1 0"}


@pytest.mark.parametrize(
    ("name", "values", "digits"),
    [
        ("psnr", [30.1, 31.0], 2),
        ("psnr", [], 2),
        ("macs_g", [0.0, 4e-6, math.nan], 7),  # 0.0000040
        ("macs_g", [0.05], 3),
        ("macs_g", [1e-30], 9),
        ("steps", [300], 0),
        ("equivalence", [1e-16], None),
    ],
)
def test_the_largest_value_of_a_measure_has_two_digits(name, values, digits):
    assert shown_digits(measure(name), values) == digits


def test_layers_by_setting(sweep):
    layers = layer_table(sweep, setting_table(grouped(sweep), sweep))
    row = layers[(layers["layer"] == "fusion") & (layers["setting"] == 0)].iloc[0]
    assert (row["total"], row["kept"], row["cut"]) == (8, [6, 6], 0.25)
    assert list(dict.fromkeys(layers["layer"])) == ["backward.conv1", "forward.conv1", "fusion"]


def test_configuration_holds_knobs_alone_and_the_machine_no_measurements(sweep):
    values, measured = configuration(sweep.finished[0]), machine(sweep.finished[0])
    assert values["schedule.finetune.lr"] == "0.001"
    assert not any(name.startswith("measured") for name in values)
    assert measured["measured.versions.torch"] == "2.9"
    assert not any(word in name for word in ("_ms", "seconds", "memory_mib", "_db") for name in measured)


def test_curves_are_thinned_and_keep_both_ends(make_run, tmp_path):
    make_run(tmp_path, "long", steps=1000)
    curves = curve_table(load_runs([str(tmp_path)]).finished[0])
    counts = curves.groupby(["stage", "loss"], sort=False).size()
    assert list(counts.index) == [("pretrain", "reconstruction"), ("sparsify", "reconstruction"),
                                  ("sparsify", "penalty"), ("finetune", "reconstruction")]  # fmt: skip
    assert set(counts) == {POINTS}
    assert {curves["step"].min(), curves["step"].max()} == {0, 999}


def test_many_runs_have_fewer_points_of_each_curve(make_run, tmp_path):
    assert [points_of(runs) for runs in (1, 133, 200, 1000, 5000)] == [300, 300, 200, 40, 40]
    make_run(tmp_path, "long", steps=1000)
    curves = curve_table(load_runs([str(tmp_path)]).finished[0], points=3)
    assert list(curves["step"]) == [0, 500, 999] * 4


def test_a_step_written_twice_is_drawn_once(make_run, tmp_path):
    job = make_run(tmp_path, "twice", steps=3)
    lines = (job / METRICS).read_text().splitlines()
    (job / METRICS).write_text("\n".join(line for line in lines for _ in range(10)) + "\n")
    assert list(curve_table(load_runs([str(tmp_path)]).finished[0])["step"]) == [0, 1, 2] * 4


@pytest.mark.parametrize("content", [None, "", "{torn", '{"lr": 1}\n'])
def test_without_readable_curves_there_are_none(make_run, tmp_path, content):
    job = make_run(tmp_path, "torn")
    (job / METRICS).unlink()
    if content is not None:
        (job / METRICS).write_text(content)
    assert curve_table(load_runs([str(tmp_path)]).finished[0]).empty
    assert data_of(report_page([str(tmp_path)]))["runs"][0]["curves"] == {}


# Pictures


def test_psnr_by_hand():
    truth = np.zeros((4, 4, 3), np.uint8)
    assert psnr(truth + 5, truth) == pytest.approx(10 * math.log10(255**2 / 25))
    assert psnr(truth, truth) == math.inf
    assert math.isnan(psnr(truth[:2], truth))


def test_crops_of_a_run_without_the_whole_frame(make_run, tmp_path):
    make_run(tmp_path, "run")
    run = load_runs([str(tmp_path)]).finished[0]
    crops = crop_table(run, most=2)
    assert list(crops["kind"]) == ["lr", "bicubic", "dense", "pruned", "truth"]
    assert set(crops["place"]) == {"the_walk"}
    assert crop_table(run, most=0).empty
    assert place_boxes(run) == {"the_walk": {"frame": 7, "x": 48, "y": 24, "side": 8}}


def test_whole_frames_are_embedded_once_and_compressed(sweep, tmp_path):
    data = data_of(report_page([str(tmp_path / "sweep")]))
    ((key, frame),) = data["frames"].items()
    assert (frame["width"], frame["height"]) == (8, 8)
    assert {run["frames"]["the_walk"] for run in data["runs"]} == {key}
    assert key not in data["pictures"]


def test_crops_beyond_the_size_are_left_out_those_of_the_best_last(sweep, tmp_path, monkeypatch):
    whole = data_of(report_page([str(tmp_path / "sweep")]))
    monkeypatch.setattr("analysis.report.PICTURE_SIZE", 0)
    data = data_of(report_page([str(tmp_path / "sweep")]))
    (kept,) = [run for run in data["runs"] if not run["dropped"]]
    assert kept["job"] == "rsc=true,ratio=0.25,replicate=0"
    assert len(data["pictures"]) == len(kept["crops"]["the_walk"]) < len(whole["pictures"])
    assert not any(run["crops"] for run in data["runs"] if run["dropped"])
    assert not any(run["dropped"] for run in data_of(report_page([str(tmp_path / "sweep")], places=0))["runs"])


def test_equal_pictures_are_embedded_once(sweep, tmp_path):
    data = data_of(report_page([str(tmp_path / "sweep")]))
    assert len(data["pictures"]) == 4 + 8  # lr, bicubic, dense, truth of all, and a pruned one of each
    crops = data["runs"][0]["crops"]["the_walk"]
    assert crops["truth"]["psnr"] == "same"
    assert crops["dense"]["psnr"] > crops["bicubic"]["psnr"]
    assert set(data["pictures"]) >= {crop["key"] for crop in crops.values()}


def test_a_damaged_picture_is_left_out(make_run, tmp_path):
    job = make_run(tmp_path, "run")
    (job / "crops" / "the_walk_dense.png").write_bytes(b"no picture")
    assert Pictures().read(job / "crops" / "the_walk_dense.png") is None
    crops = data_of(report_page([str(tmp_path)]))["runs"][0]["crops"]["the_walk"]
    assert set(crops) == {"lr", "bicubic", "pruned", "truth"}


# Rendering


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("psnr", 31.4159, "31.42"),
        ("gain", -0.126, "\N{MINUS SIGN}0.13"),
        ("equivalence", 1.17e-16, "1.2e\N{MINUS SIGN}16"),
        ("equivalence", 0.0, "0"),
        ("parameters_k", 4900.04, "4,900.0"),
        ("psnr", None, MISSING),
        ("psnr", math.nan, MISSING),
    ],
)
def test_numbers_as_the_table_shows_them(name, value, shown):
    assert format_number(value, measure(name)) == shown


def test_numbers_for_json():
    assert [number(value) for value in (1.0, 0.1 + 0.2, math.nan, math.inf)] == [1, 0.3, None, None]


def test_a_pool_keeps_equal_values_once():
    pool = Pool()
    assert [pool.add(value) for value in ([1, 2], [3], [1, 2])] == [0, 1, 0]
    assert pool.items == [[1, 2], [3]]


def test_a_template_is_filled_once():
    assert fill("{{a}} {{b}}", {"a": "{{b}}", "b": r"\1 $1"}) == r"{{b}} \1 $1"


def test_embedded_json_cannot_end_its_element():
    shown = embedded({"name": HOSTILE_TEXT})
    assert "<" not in shown
    assert json.loads(shown) == {"name": HOSTILE_TEXT}
    with pytest.raises(ValueError, match="not JSON compliant"):
        embedded(math.nan)


def test_text_is_escaped_and_breaks_after_commas():
    assert text("a=<b>,c/d") == "a=&lt;b&gt;,<wbr>c/<wbr>d"


def test_series_have_the_colours_of_their_rules(sweep):
    styles = {style["name"]: style for style in series_styles(setting_table(grouped(sweep), sweep))}
    assert styles["rsc"]["colour"] == "#0072B2"
    assert styles["aligned"]["colour"] == "#D55E00"


def test_many_series_are_told_apart(make_run, tmp_path):
    for place in range(20):
        make_run(tmp_path, f"{place}", round_to=place + 1)
    styles = series_styles(make_tables(load_runs([str(tmp_path)])).settings)
    assert "#000000" not in {style["colour"] for style in styles}  # not seen on a dark page
    marks = {(style["colour"], style["symbol"], style["dash"]) for style in styles}
    assert len(marks) == 20
    assert PLAIN in {style["colour"] for style in styles}


def test_the_page_holds_every_run_and_needs_nothing_else(sweep, tmp_path):
    page = report_page([str(tmp_path / "sweep")])
    assert len(data_of(page)["runs"]) == 8
    assert get_plotlyjs() in page
    own = page.replace(get_plotlyjs(), "")
    assert "http://" not in own.replace("http://www.w3.org", "")
    assert "https://" not in own
    assert "src=" not in own.split("<script type=")[0].replace('id="image', "")


def test_common_configuration_is_told_apart_from_what_varies(sweep):
    data = page_data(make_tables(sweep), places=2)
    assert data["common"]["score"] == "l1"
    assert "ratio" not in data["common"]
    assert set(data["runs"][0]["config"]) == {"rsc", "rule", "ratio", "replicate"}


def test_the_same_runs_give_the_same_bytes(sweep, tmp_path):
    folder = str(tmp_path / "sweep")
    assert report_page([folder]) == report_page([folder])


def test_nothing_from_a_file_is_taken_for_html(make_run, tmp_path):
    make_run(tmp_path, HOSTILE, notes=[HOSTILE_TEXT], data__channel=HOSTILE_TEXT, side=0)
    failed = tmp_path / "<b>failed"
    FailureCard(*["stage", 3, HOSTILE_TEXT, HOSTILE_TEXT, HOSTILE_TEXT, HOSTILE_TEXT]).save(failed)
    page = report_page([str(tmp_path)])
    own = page.replace(get_plotlyjs(), "")
    assert "<img src=x" not in own
    assert "<b>failed" not in own
    assert "<script>hacked" not in own
    assert own.count("</script>") == 3
    assert data_of(page)["runs"][0]["job"] == HOSTILE


def test_failed_and_left_out_jobs_are_listed(make_run, tmp_path):
    make_run(tmp_path / "sweep", "good")
    card = FailureCard("finetune", 12, "out of memory", "a smaller schedule.batch", "python src/run.py seed='1 2'")
    card.save(tmp_path / "sweep" / "bad")
    (tmp_path / "sweep" / "young").mkdir()
    (tmp_path / "sweep" / "young" / "state.json").write_text("{}")
    page = report_page([str(tmp_path / "sweep")])
    assert "1 run from 1 folder" in page
    assert "1 failed" in page
    assert "1 left out" in page
    for shown in ("finetune, step 12", "out of memory", "a smaller schedule.batch", "seed=&#x27;1 2&#x27;</code>",
                  "has no result yet"):  # fmt: skip
        assert shown in page


def test_one_run_is_enough(make_run, tmp_path):
    make_run(tmp_path, "alone", side=0)
    data = data_of(report_page([str(tmp_path)]))
    assert len(data["settings"]) == len(data["runs"]) == 1


@pytest.mark.long
def test_two_hundred_runs_stay_small(make_run, tmp_path):
    for place in range(200):
        rule, seed, ratio = place % 2 == 0, place // 2 % 4, 0.1 + place // 8 / 50
        make_run(
            tmp_path, f"rsc={rule},ratio={ratio},seed={seed}", rsc=rule, seed=seed, ratio=ratio, steps=300, side=96
        )
    page = report_page([str(tmp_path)])
    assert len(data_of(page)["runs"]) == 200
    assert len(page.encode()) - len(get_plotlyjs()) < 7e6


# The command


def run_report(*arguments):
    return run_script([SCRIPT, *arguments], SCRIPT.parent)


def test_the_command_writes_the_file_and_prints_its_size(make_run, tmp_path):
    make_run(tmp_path / "runs", "one")
    (tmp_path / "new").mkdir()  # a folder that is not there is refused, as src/upscale.py does: it may be mistyped
    done = run_report(tmp_path / "runs", "--out", tmp_path / "new" / "report.html")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{tmp_path / 'new' / 'report.html'} (")
    assert (tmp_path / "new" / "report.html").read_text("utf-8").startswith("<!DOCTYPE html>")


def test_a_missing_folder_is_one_line(tmp_path):
    done = run_report(tmp_path / "nowhere", "--out", tmp_path / "report.html")
    assert done.returncode == 2
    expected = f"error: there is no folder {tmp_path / 'nowhere'}; give folders that run.py wrote, such as runs/\n"
    assert done.stderr == expected


def test_a_folder_without_results_is_one_line(tmp_path):
    FailureCard("finetune", 12, "out of memory", "less", "python").save(tmp_path / "bad")
    done = run_report(tmp_path, "--out", tmp_path / "report.html")
    assert done.returncode == 2
    assert done.stderr.startswith("error: no result.json below")
    assert "out of memory" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "report.html").exists()


def test_a_place_that_cannot_be_written_is_one_line(make_run, tmp_path):
    make_run(tmp_path / "runs", "one")
    (tmp_path / "file").write_text("")
    done = run_report(tmp_path / "runs", "--out", tmp_path / "file" / "report.html")
    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot write")
    assert done.stderr.count("\n") == 1


def test_torch_is_never_imported(make_run, tmp_path):
    make_run(tmp_path / "runs", "one")
    code = (
        f"import sys; sys.path.insert(0, {str(SCRIPT.parents[1])!r}); import analysis.report\n"
        f"analysis.report.report_page([{str(tmp_path / 'runs')!r}])\n"
        "print([name for name in ('torch', 'wandb', 'pytorch_lightning', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_script_reads_the_columns_of_the_references_by_their_names(sweep):
    (reference,) = page_data(make_tables(sweep), 0)["references"]
    assert reference["psnr_baseline"] == 28
    script = (SCRIPT.parent / "report" / "quality.js").read_text()
    read = set(re.findall(r"\brow\.(psnr_\w+|latency_ms_dense|baseline)\b", script))
    assert {"psnr_baseline", "psnr_dense", "baseline"} <= read <= set(reference)
