"""The report in a browser, opened from disk with the network cut off: sort, filter, compare, hover, slide, keyboard."""

from __future__ import annotations

import csv
import math
import re
import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("playwright", reason="playwright is not installed")

from playwright.sync_api import expect, sync_playwright

from analysis import report
from analysis.report import report_page
from analysis.report_data import make_tables
from analysis.runs import load_runs
from vsrprune.host.failures import FailureCard
from vsrprune.results.intervals import holm, interval
from vsrprune.results.measured import Measured

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HOSTILE = "<img src=x onerror=window.hacked=1>,rsc=true,ratio=0.5,replicate=2"
HOSTILE_TEXT = "</script><script>window.hacked=1</script>"
ROWS = "#run-table tbody tr"
RUNS = "#run-table tbody tr.run"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on the PATH")


@pytest.fixture(scope="module")
def report_folder(make_run, tmp_path_factory):
    """Two rules, two ratios and two replicates, one run with a hostile name, one that failed."""
    folder = tmp_path_factory.mktemp("sweep")
    for rsc, ratio, replicate in product((True, False), (0.3, 0.5), (0, 1)):
        name = f"rsc={str(rsc).lower()},ratio={ratio},replicate={replicate}"
        changes = {
            "psnr": 30 + rsc - ratio + 0.1 * replicate,
            "macs": int(8000 * (1 - ratio)),
            "latency": 4 - 2 * ratio,
        }
        make_run(folder, name, rsc=rsc, ratio=ratio, replicate=replicate, side=32, **changes)
    make_run(folder, HOSTILE, ratio=0.5, replicate=2, psnr=30.7, notes=[HOSTILE_TEXT])
    FailureCard("finetune", 3, HOSTILE_TEXT, "less", "python src/run.py seed=9", HOSTILE_TEXT).save(folder / "seed=9")
    return folder


@pytest.fixture(scope="module")
def report_runs(report_folder):
    return load_runs([str(report_folder)])


@pytest.fixture(scope="module")
def report_file(report_folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("out") / "report.html"
    path.write_text(report_page([str(report_folder)]), "utf-8")
    return path


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"), executable_path=CHROMIUM, args=ARGUMENTS, timeout=60_000
        )
        context.set_offline(True)
        context.set_default_timeout(15_000)
        yield context
        context.close()


@pytest.fixture
def page(context, report_file):
    """The report, open; fails the test if it asks for anything else or writes an error to the console."""
    page, complaints = context.new_page(), []

    def answer(route):
        if route.request.url.startswith(("file:", "data:", "blob:")):
            route.continue_()
        else:
            complaints.append(f"asked for {route.request.url}")
            route.abort()

    page.route("**/*", answer)
    page.on(
        "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.set_viewport_size({"width": 1400, "height": 900})
    page.emulate_media(color_scheme="light")
    page.goto(report_file.as_uri())
    page.wait_for_selector("#layer-plot .main-svg")
    yield page
    assert complaints == []
    assert page.evaluate("window.hacked") is None
    page.close()


def settings(page):
    return page.locator(f"{ROWS} .fold").all_inner_texts()


def pick(page, side, job):
    page.locator(f"#run-{side.lower()}").select_option(label=job)


def hover(page, target):
    target.scroll_into_view_if_needed()
    box = target.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2 - 3, box["y"] + box["height"] / 2)
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def test_the_filter_takes_knobs_values_and_parts_of_names(page):
    counts = {"": (4, 9), "rsc": (2, 5), "aligned": (2, 4), "ratio=0.5": (2, 5), "rsc ratio=0.50": (1, 3),
              "replicate=1 ratio=0.3": (2, 2), "schedule.finetune.lr=0.001": (4, 9), "rsc=false": (2, 4), "img": (1, 1),
              "rsc aligned": (0, 0), "-rsc": (2, 4), "replicate=0,1": (4, 8), "repl=0|2": (4, 5), "ratio<0.4": (2, 4),
              "lr<=0.001 -ratio>=0.5": (2, 4), "macs<60": (2, 5), "macs=70": (2, 4), "psnr>30.3": (2, 5),
              "replicate=1 psnr>30.75": (1, 1)}  # fmt: skip
    for words, (rows, runs) in counts.items():
        page.locator("#filter").fill(words)
        expect(page.locator("#shown")).to_have_text(f"{rows} of 4 settings, {runs} of 9 runs")
        expect(page.locator(ROWS)).to_have_count(rows)
        expect(page.locator("#filter-error")).to_be_hidden()
    page.locator("#filter").fill("rsc aligned")
    expect(page.locator("#answer")).to_have_text("No setting matches the filter.")


WRONG = {
    "rsc raito=0.5": ("raito=0.5", "No knob and no measure is called “raito”; there are rule, ratio, replicate, macs"),
    "ratio=0.7": ("ratio=0.7", "No run has ratio=0.7; there are 0.3, 0.5"),
    "psnr>high rsc": ("psnr>high", "“high” is no number; write one such as macs<60"),
    "macs<60,70": ("macs<60,70", "< takes one number; got “60,70”"),
    "r=3": ("r=3", "“r” may be rule, ratio, replicate; write one of them"),
    "nonsense": (
        "nonsense",
        "“nonsense” is neither a knob",
    ),
    "rsc -": ("-", "“-” leaves out what stands right after it, such as -rsc"),
}


def test_a_wrong_filter_points_at_the_word_and_changes_nothing(page):
    page.locator("#filter").fill("rsc")
    for words, (marked, message) in WRONG.items():
        page.locator("#filter").fill(words)
        expect(page.locator("#filter-error code")).to_have_text(words)
        expect(page.locator("#filter-error mark")).to_have_text(marked)
        expect(page.locator("#filter-error")).to_contain_text(message)
        expect(page.locator("#filter")).to_have_attribute("aria-invalid", "true")
        expect(page.locator(ROWS)).to_have_count(2)


def test_the_best_setting_within_a_budget_and_what_is_within_noise_of_it(page):
    answer = page.locator("#answer")
    expect(answer).to_contain_text("Best without a budget: rsc, ratio=0.3, 30.75 ± 0.64 dB at 70.0 % of the MACs")
    assert settings(page)[0] == "rsc, ratio=0.3"
    page.locator("#budget").fill("60")
    expect(answer).to_contain_text("Best at no more than 60 % of the dense network")
    expect(answer).to_contain_text("MACs: rsc, ratio=0.5, 30.60 ± 0.25 dB")
    expect(answer).to_contain_text("(3 dense networks, 1 plan and 3 runs)")
    expect(answer).to_contain_text("Every other one tested is worse beyond noise. Tested over dense networks in common")
    verdicts = page.locator(f"{ROWS} .verdict").all_inner_texts()
    assert verdicts == ["best", "worse", "over budget", "over budget"]
    shapes = page.locator("#quality-plot").evaluate("plot => plot.layout.shapes.map((line) => [line.x0, line.x1])")
    assert shapes == [[60, 60]]
    page.locator("#budget").fill("20")
    expect(answer).to_have_text("No setting costs so little: the cheapest keeps 50.0 % of the MACs.")
    page.get_by_role("radio", name="parameters").check()
    page.locator("#budget").fill("50")
    expect(answer).to_contain_text("rsc, ratio=0.3, 30.75 ± 0.64 dB at 50.0 % of the parameters")


def test_settings_in_the_browser_are_those_of_the_tables(page, report_runs):
    drawn = page.locator("#quality-plot").evaluate(
        "plot => plot.data.flatMap((trace) => (trace.customdata ?? []).map((place, at) =>"
        " [place, trace.x[at], trace.y[at], trace.error_y.array[at]]))"
    )
    table = make_tables(report_runs).settings
    columns = table[["macs_percent", "psnr", "half_width"]].to_numpy()
    for place, *values in sorted(drawn):
        assert values == pytest.approx(columns[place], rel=1e-6)
    assert len(drawn) == len(table)


def test_statistics_of_the_script_are_those_of_the_library(page):
    script = (Path(report.__file__).parent / "report" / "statistics.js").read_text("utf-8")
    random = np.random.default_rng(5)
    samples = [list(random.normal(0.3, 1, count)) for count in (1, 2, 3, 4, 5, 8, 13, 30)] + [[0.0, 0.0], [0.5, 0.5]]
    found = page.evaluate(f"samples => {{ {script}; return samples.map(interval); }}", samples)
    for values, shown in zip(samples, found, strict=True):
        expected = interval(values)
        assert shown["mean"] == pytest.approx(expected.mean)
        wanted = (expected.half_width, expected.p_value)
        assert [math.nan if shown[name] is None else shown[name] for name in ("half", "p")] == pytest.approx(
            wanted, rel=1e-9, abs=1e-14, nan_ok=True
        )
    p_values = [0.01, 0.04, None, 0.03, 0.005, 1.0]
    corrected = page.evaluate(f"values => {{ {script}; return holm(values); }}", p_values)
    expected = holm([math.nan if value is None else value for value in p_values])
    assert [math.nan if value is None else value for value in corrected] == pytest.approx(expected, nan_ok=True)


def test_a_setting_is_folded_out_to_its_runs_by_keyboard(page):
    fold = page.locator(".fold").first
    fold.focus()
    page.keyboard.press("Enter")
    expect(page.locator(RUNS)).to_have_count(2)
    expect(page.locator(RUNS).first).to_contain_text("rsc=true,ratio=0.3,replicate=0")
    expect(page.locator(RUNS).first).to_contain_text("30.70")
    assert page.evaluate("document.activeElement.getAttribute('aria-expanded')") == "true"
    page.get_by_role("button", name="A: rsc=true,ratio=0.3,replicate=1").press("Enter")
    expect(page.locator("#run-a option:checked")).to_have_text("rsc=true,ratio=0.3,replicate=1")
    page.get_by_role("button", name="B: aligned, ratio=0.3").click()  # the run of the same replicate
    expect(page.locator("#run-b option:checked")).to_have_text("rsc=false,ratio=0.3,replicate=1")


def test_a_link_shows_the_same_two_and_the_same_filter(page):
    page.locator("#budget").fill("60")
    page.locator("#filter").fill("-aligned macs<90")
    page.locator("#series").get_by_role("button", name="rsc").click()
    pick(page, "A", HOSTILE)
    pick(page, "B", "rsc=true,ratio=0.3,replicate=1")
    link, shown = page.url, page.locator("#answer").inner_text()
    page.goto("about:blank")
    page.goto(link)
    expect(page.locator("#run-a option:checked")).to_have_text(HOSTILE)
    expect(page.locator("#run-b option:checked")).to_have_text("rsc=true,ratio=0.3,replicate=1")
    expect(page.locator("#filter")).to_have_value("-aligned macs<90")
    expect(page.locator("#answer")).to_have_text(shown, use_inner_text=True)
    assert page.locator("#series").get_by_role("button", name="rsc").get_attribute("aria-pressed") == "false"
    page.get_by_role("link", name="Layers").click()
    assert page.url == link
    page.evaluate("location.hash = '#a=gone&cost=time'")
    expect(page.locator("#link-note")).to_have_text("This report does not have what the link names: a=gone.")
    expect(page.get_by_role("radio", name="time")).to_be_checked()


def test_a_click_on_a_point_chooses_by_turns(page):
    points = page.locator("#quality-plot .scatterlayer .trace").nth(1).locator(".point")
    for at, (side, ratio) in enumerate((("b", 0.3), ("a", 0.5))):
        hover(page, points.nth(at))
        page.mouse.down()
        page.mouse.up()
        expect(page.locator(f"#run-{side} option:checked")).to_have_text(f"rsc=false,ratio={ratio},replicate=0")


def test_what_is_shown_is_saved_as_csv_and_png(page):
    with page.expect_download() as saved:
        page.get_by_role("button", name="CSV of the table").click()
    rows = list(csv.DictReader(saved.value.path().read_text("utf-8").splitlines()))
    assert [row["setting"] for row in rows] == settings(page)
    assert (rows[0]["against_best"], rows[0]["on_front"], rows[0]["dense_networks"]) == ("best", "true", "2")
    assert float(rows[0]["psnr"]) == pytest.approx(30.75)
    assert rows[0]["replicate"] == "0 1"
    with page.expect_download() as saved:
        page.get_by_role("button", name="PNG of the chart").click()
    with Image.open(saved.value.path()) as picture:
        assert picture.size == (1800, 1120)


def test_headings_sort_by_click_and_by_enter(page):
    heading = page.locator('th[data-column="psnr"]')
    assert heading.get_attribute("aria-sort") == "descending"  # the page begins with the best
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert settings(page)[0] == "aligned, ratio=0.5"
    heading.get_by_role("button").press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    assert settings(page)[0] == "rsc, ratio=0.3"
    other = page.locator('th[data-column="setting"]')
    other.get_by_role("button").press("Enter")
    assert (heading.get_attribute("aria-sort"), other.get_attribute("aria-sort")) == ("none", "ascending")


def test_two_runs_are_compared(page):
    pick(page, "A", "rsc=true,ratio=0.3,replicate=0")
    pick(page, "B", "rsc=true,ratio=0.5,replicate=0")
    expect(page.locator("#verdict")).to_contain_text("1 configuration value differs; 3 of 9 stages are shared")
    expect(page.locator("#verdict")).to_contain_text("the two part at select")
    expect(page.locator("#verdict")).to_contain_text("\N{MINUS SIGN}0.200 ± 0.000 dB (95 % interval): B is worse")
    expect(page.locator("#config-difference tbody")).to_have_text("ratio0.30.5")
    row = page.locator("#result-difference tr", has_text="PSNR tuned")
    assert row.locator("td").all_inner_texts() == ["30.70", "30.50", "\N{MINUS SIGN}0.20"]
    page.locator("#swap").click()
    assert row.locator("td").all_inner_texts() == ["30.50", "30.70", "+0.20"]
    page.locator("#run-a").select_option(label="rsc=true,ratio=0.3,replicate=1")
    expect(page.locator("#verdict")).to_contain_text("They differ by their replicate or seeds alone")


def test_notes_and_failures_are_text(page):
    pick(page, "A", HOSTILE)
    expect(page.locator("#pair-notes")).to_contain_text(HOSTILE_TEXT)
    card = page.locator(".failed")
    expect(card).to_contain_text(f"cause{HOSTILE_TEXT}")
    expect(card.locator("code")).to_have_text("python src/run.py seed=9")
    card.get_by_role("button").click()
    expect(card.get_by_role("button")).to_contain_text(re.compile("Copied|Selected"))


def test_a_point_tells_its_jobs_and_values(page):
    point = page.locator("#quality-plot .scatterlayer .trace").nth(1).locator(".point").nth(0)
    hover(page, point)
    label = page.locator("#quality-plot .hoverlayer .hovertext")
    expect(label).to_contain_text("aligned, ratio=0.3")
    expect(label).to_contain_text("29.75 ± 0.64 dB (2 dense networks, 1 plan and 2 runs)")
    expect(label).to_contain_text("rsc=false,ratio=0.3,replicate=1: 29.80")
    title = page.locator("#quality-plot .xtitle")
    expect(title).to_contain_text("MACs kept")
    page.get_by_role("radio", name="time").check()
    expect(title).to_contain_text("time kept (% of the dense network")


@pytest.fixture
def page_of_two_sets(make_run, tmp_path, context):
    """Two data sets, of two ratios each; the dense network of the second was once as slow again."""
    for (data, dense), ratio in product((("demo", 31.0), ("vid4", 35.0)), (0.3, 0.5)):
        make_run(
            tmp_path / "runs", f"{data},ratio={ratio}", data__name=data, ratio=ratio, dense=dense, psnr=dense - ratio
        )
    slow = tmp_path / "runs" / "vid4,ratio=0.5"
    measured = Measured.load(slow)
    doubled = {name: replace(timing, ms=2 * timing.ms) for name, timing in measured.latency_ms.items()}
    replace(measured, latency_ms=doubled).save(slow)
    path = tmp_path / "report.html"
    path.write_text(report_page([str(tmp_path / "runs")]), "utf-8")
    page = context.new_page()
    page.goto(path.as_uri())
    yield page
    page.close()


def test_runs_that_cannot_be_compared_are_never_shown_together(page_of_two_sets):
    page = page_of_two_sets
    expect(page.locator("#shown")).to_have_text("2 of 2 settings, 2 of 2 runs")
    expect(page.locator("#series")).to_contain_text("dense 31.00 dB")
    expect(page.locator("#run-b option")).to_have_text(["demo,ratio=0.3", "demo,ratio=0.5"])
    expect(page.locator("#timing-notes")).to_have_text("")
    page.get_by_label("Group").select_option("2 (vid4)")
    expect(page.locator(ROWS)).to_have_count(2)
    expect(page.locator(ROWS).nth(0)).to_contain_text("ratio=0.3")
    expect(page.locator("#series")).not_to_contain_text("31.00")
    expect(page.locator("#series")).to_contain_text("dense 35.00 dB")
    expect(page.locator("#run-a option")).to_have_text(["vid4,ratio=0.3", "vid4,ratio=0.5"])
    # What tells the groups apart says nothing inside one of them.
    expect(page.locator(f"{ROWS} button.fold")).to_have_text(["ratio=0.3", "ratio=0.5"])
    expect(page.locator('#run-table th[data-column="data"]')).to_be_hidden()
    expect(page.locator('#run-table th[data-column="ratio"]')).to_be_visible()
    expect(page.locator("#steps")).to_have_text("Trained for 190 steps after pretraining.")
    expect(page.locator("#timing-notes")).to_contain_text("the dense network took 4 to 8 ms per frame, 100% apart")
    expect(page.locator("#verdict")).to_contain_text("fewer than two dense networks in common")
    rows = page.locator("#result-difference tbody tr")
    expect(rows.filter(has_text="time kept").locator("td").last).to_have_text("0")
    expect(rows.filter(has_text="latency ms").locator("td").last).to_have_text("\N{EN DASH}")


def test_series_are_switched_off_in_the_legend(page):
    traces = page.locator("#quality-plot .scatterlayer .trace")
    before = traces.count()
    button = page.locator("#series").get_by_role("button", name="aligned")
    button.press("Enter")
    expect(traces).to_have_count(before - 1)
    assert button.get_attribute("aria-pressed") == "false"


def test_ten_series_have_colours_and_others_are_grey_until_the_legend_is_asked(make_run, tmp_path, context):
    for place in range(12):
        make_run(tmp_path / "runs", f"job{place}", round_to=place + 1, psnr=30 + place / 10, side=0)
    path = tmp_path / "report.html"
    path.write_text(report_page([str(tmp_path / "runs")]), "utf-8")
    page = context.new_page()
    page.goto(path.as_uri())
    colours = "plot => plot.data.filter((trace) => trace.customdata).map((trace) => [trace.name, trace.marker.color])"
    drawn = dict(page.locator("#quality-plot").evaluate(colours))
    assert len(drawn) == 12
    assert [name for name, colour in drawn.items() if colour == drawn["round_to=1"]] == ["round_to=1", "round_to=2"]
    summary = page.get_by_text("2 more series, in grey")
    summary.click()
    page.get_by_role("button", name="round_to=1", exact=True).click()
    after = dict(page.locator("#quality-plot").evaluate(colours))
    assert after["round_to=1"] != after["round_to=2"] == drawn["round_to=2"]
    expect(page.locator("#answer")).to_contain_text("11 settings with fewer than two dense networks in common")
    page.close()


def test_a_cell_of_the_heatmap_tells_its_layer(page):
    hover(page, page.locator("#layer-plot .heatmaplayer text").first)
    label = page.locator("#layer-plot .hoverlayer .hovertext")
    expect(label).to_contain_text("backward.conv1")
    expect(label).to_contain_text("part backward, kind middle")
    expect(label).to_contain_text("kept 11 of 16")
    page.locator("#layer-values summary").click()
    expect(page.locator("#layer-table tbody tr").first).to_contain_text("11 / 16")


def test_no_button_of_a_figure_leads_elsewhere(page):
    titles = page.locator(".modebar-btn").evaluate_all("buttons => buttons.map((button) => button.dataset.title)")
    assert set(titles) == {"Download plot as a PNG", "Zoom", "Pan", "Zoom in", "Zoom out", "Reset axes"}


def test_training_shows_the_losses_of_both_runs(page):
    headings = page.locator("#training-plots h3")
    assert headings.all_inner_texts() == [
        "pretrain: reconstruction loss (the same curve)", "sparsify: reconstruction loss (the same curve)",
        "sparsify: penalty loss (the same curve)", "finetune: reconstruction loss (the same curve)",
    ]  # fmt: skip
    expect(page.locator("#training-plots .scatterlayer .trace")).to_have_count(8)


def test_error_over_time_shows_both_parts_of_both_runs_at_both_points(page):
    assert page.locator("#error-plots h3").all_inner_texts() == [
        f"{branch}, {point}"
        for branch in ("backward", "forward")
        for point in ("right after the cut", "after fine-tuning")
    ]
    expect(page.locator("#error-plots .scatterlayer .trace")).to_have_count(4 * 4)
    drawn = page.locator("#error-plots .plot").evaluate_all(
        "plots => plots.map((plot) => [plot.data.map((trace) => [trace.name, ...trace.y]), plot.layout.yaxis.range])"
    )
    assert drawn[0][0][:2] == [["A, made here", 0.2, 0.3], ["A, propagated", 0.4, 0]]
    assert drawn[0][1] == drawn[1][1] == pytest.approx([0, 1.08 * 0.4])
    assert page.locator("#no-errors").is_hidden()


def test_the_divider_moves_by_keys_and_by_dragging(page):
    divider, top = page.locator("#divider"), page.locator("#image-left")
    assert page.locator("#image-left").get_attribute("alt") == "the_walk, bicubic"
    assert page.evaluate("document.querySelector('#image-left').naturalWidth") == 32
    before = top.evaluate("image => getComputedStyle(image).clipPath")
    divider.focus()
    for _ in range(20):
        divider.press("ArrowLeft")
    assert divider.input_value() == "40"
    assert top.evaluate("image => getComputedStyle(image).clipPath") != before
    box = divider.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + 50, steps=4)
    page.mouse.up()
    assert float(divider.input_value()) == pytest.approx(80, abs=2)
    page.locator("#right").select_option("truth")
    assert page.locator("#image-right").get_attribute("alt") == "the_walk, truth"
    assert page.locator("#image-right").get_attribute("src") != top.get_attribute("src")
    expect(page.locator("#crop-values")).to_contain_text("bicubic")


def test_dark_and_light_with_the_figures(page):
    colours = (
        "[getComputedStyle(document.body).backgroundColor, document.querySelector('#quality-plot .xtitle').style.fill]"
    )
    light = page.evaluate(colours)
    page.locator("#theme").click()
    dark = page.evaluate(colours)
    assert not {*light} & {*dark}
    page.locator("#theme").click()
    assert page.evaluate(colours) == light
    page.emulate_media(color_scheme="dark")
    page.reload()
    page.wait_for_selector("#layer-plot .main-svg")
    assert page.evaluate(colours) == dark


def test_every_control_is_reached_by_tab_with_a_visible_focus(page):
    reached = []
    for _ in range(200):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(
            """() => { const at = document.activeElement;
                const shown = getComputedStyle(at).outlineStyle !== "none"
                  || getComputedStyle(at.closest(".slider, label") ?? at).outlineStyle !== "none"
                  || getComputedStyle(at.nextElementSibling ?? at).outlineStyle !== "none";
                const bar = at.closest(".modebar");
                if (bar && getComputedStyle(bar).opacity !== "1") return ["a button of a hidden bar", false];
                return [at.id || at.name || at.closest("[data-column]")?.dataset.column || at.tagName, shown]; }"""
        )
        if name == "BODY":
            break
        assert outline, f"{name} has the focus and does not show it"
        reached.append(name)
    wanted = ["theme", "run-a", "swap", "run-b", "cost", "budget", "filter", "copy-link", "side", "png", "csv",
              "setting", "psnr", "log", "divider", "place", "left", "right"]  # fmt: skip
    assert [name for name in reached if name in wanted] == wanted


@pytest.mark.parametrize("width", [360, 390, 768, 1600])
def test_nothing_is_wider_than_the_page(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    pick(page, "A", HOSTILE)
    page.locator("details").evaluate_all("items => items.forEach((item) => { item.open = true; })")
    page.wait_for_timeout(300)  # figures follow the window after a moment
    assert page.evaluate("document.documentElement.scrollWidth") == width
