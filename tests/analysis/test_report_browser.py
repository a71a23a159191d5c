"""The report in a browser, opened from disk with the network cut off: sort, filter, compare, hover, slide, keyboard."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from itertools import product

import pytest

pytest.importorskip("playwright", reason="playwright is not installed")

from playwright.sync_api import expect, sync_playwright

from analysis.report import report_page
from vsrprune.host.failures import FailureCard
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
ROWS = "#run-table tbody tr:visible"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on the PATH")


@pytest.fixture(scope="module")
def report_file(make_run, tmp_path_factory):
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
    path = tmp_path_factory.mktemp("out") / "report.html"
    path.write_text(report_page([str(folder)]), "utf-8")
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


def jobs(page):
    return page.locator(f"{ROWS} .job").all_inner_texts()


def pick(page, side, job):
    page.get_by_role("radio", name=f"{side}: {job}", exact=True).check()


def hover(page, target):
    target.scroll_into_view_if_needed()
    box = target.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2 - 3, box["y"] + box["height"] / 2)
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def test_the_filter_takes_knobs_values_and_parts_of_names(page):
    counts = {"": 9, "rsc": 5, "aligned": 4, "ratio=0.5": 5, "rsc ratio=0.50": 3, "replicate=1 ratio=0.3": 2,
              "schedule.finetune.lr=0.001": 9, "rsc=false": 4, "img": 1, "rsc aligned": 0}  # fmt: skip
    for words, count in counts.items():
        page.locator("#filter").fill(words)
        expect(page.locator("#shown")).to_have_text(f"{count} of 9 runs")
        expect(page.locator(ROWS)).to_have_count(count)
        expect(page.locator("#none")).to_be_visible(visible=count == 0)


def test_headings_sort_by_click_and_by_enter(page):
    heading = page.locator('th[data-column="psnr"]')
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert jobs(page)[0] == "rsc=true,ratio=0.3,replicate=1"
    heading.get_by_role("button").press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    assert jobs(page)[0] == "rsc=false,ratio=0.5,replicate=0"
    other = page.locator('th[data-column="job"]')
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
    point = page.locator("#quality-plot .scatterlayer .trace").nth(0).locator(".point").nth(0)
    hover(page, point)
    label = page.locator("#quality-plot .hoverlayer .hovertext")
    expect(label).to_contain_text("aligned, ratio=0.3")
    expect(label).to_contain_text("29.75 ± 0.64 dB (2 dense networks, 1 plan and 2 runs)")
    expect(label).to_contain_text("rsc=false,ratio=0.3,replicate=1: 29.80")
    title = page.locator("#quality-plot .xtitle")
    expect(title).to_contain_text("MACs kept")
    page.get_by_role("radio", name="time kept").check()
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
    expect(page.locator("#shown")).to_have_text("2 of 2 runs")
    expect(page.locator("#series")).to_contain_text("dense 31.00 dB")
    expect(page.locator("#run-b option")).to_have_text(["demo,ratio=0.3", "demo,ratio=0.5"])
    expect(page.locator("#timing-notes")).to_have_text("")
    page.get_by_label("Group").select_option("2 (vid4)")
    expect(page.locator(ROWS)).to_have_count(2)
    expect(page.locator(ROWS).nth(0)).to_contain_text("vid4,ratio=0.3")
    expect(page.locator("#series")).not_to_contain_text("31.00")
    expect(page.locator("#series")).to_contain_text("dense 35.00 dB")
    expect(page.locator("#run-a option")).to_have_text(["vid4,ratio=0.3", "vid4,ratio=0.5"])
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
    wanted = ["theme", "run-a", "swap", "run-b", "filter", "job", "psnr", "a", "b", "cost", "log", "divider", "place",
              "left", "right"]  # fmt: skip
    assert [name for name in reached if name in wanted] == wanted


@pytest.mark.parametrize("width", [360, 768, 1600])
def test_nothing_is_wider_than_the_page(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    pick(page, "A", HOSTILE)
    page.locator("details").evaluate_all("items => items.forEach((item) => { item.open = true; })")
    page.wait_for_timeout(300)  # figures follow the window after a moment
    assert page.evaluate("document.documentElement.scrollWidth") == width
