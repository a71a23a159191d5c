"""The page in a browser, as a user meets it: a real server on a small trained network, everything but it cut off."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from conftest import minimal_config
from forked import Script, run_script
from PIL import Image
from videos import make_video, pictures

pytest.importorskip("starlette", reason="the extra page is not installed")
pytest.importorskip("playwright", reason="playwright is not installed")

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect, sync_playwright

from vsrprune.data.demo_photos import FRAME
from vsrprune.data.video.footage import look_over
from vsrprune.errors import UserError
from vsrprune.jobs.planning import plan_job
from vsrprune.jobs.runner import run_job
from vsrprune.page.finished import finished_jobs
from vsrprune.use import beside
from vsrprune.use.beside import VIDEO, BesideRequest, put_beside
from vsrprune.use.streaming import Pieces
from vsrprune.use.upscaling import UpscalingRequest, upscale

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "src" / "page.py"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NONE, TIMES = "\N{EN DASH}", "\N{MULTIPLICATION SIGN}"
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on the PATH")
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]


@pytest.fixture(scope="module", autouse=True)
def _own_locks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing here waits for what else computes on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("locks")))
        yield


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store, a finished job in runs/, a video, a text file and a damaged video."""
    folder = tmp_path_factory.mktemp("page")
    job = plan_job(minimal_config(folder, method__name="l1", method__sparsify=False, tf_weight=0.0))
    assert run_job(job, folder / "runs" / "small", say=lambda text: None) is not None
    make_video(folder / "clip.mp4", pictures(5, 48, 64))
    whole = (folder / "clip.mp4").read_bytes()
    (folder / "damaged.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.txt").write_text("no video at all\n" * 100)
    return folder


@pytest.fixture(scope="module")
def server(work: Path) -> Iterator[str]:
    """The address of a page on the job; at the end it is ended as by a terminal, and leaves nothing behind."""
    temporary = work / "temporary"
    temporary.mkdir()
    environment = {"TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    script = Script([SCRIPT, "--port", "0", "--no-browser"], work, environment)
    try:
        address = None
        while address is None and script.poll() is None:
            address = re.search(r"http://\S+", script.printed())
        assert address, script.communicate()
        yield address[0]
        script.send_signal(signal.SIGINT)
        out, err = script.communicate(timeout=60)
        assert (script.returncode, err) == (0, ""), err
        assert out.endswith("ended; what it made is removed\n")
        assert list(temporary.iterdir()) == []
    finally:
        script.send_signal(signal.SIGKILL)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS, timeout=60_000)
        yield browser
        browser.close()


def is_complaint(said: ConsoleMessage) -> bool:
    """Whether the console was told of an error; a picture of the comparison before may go while it is asked for."""
    is_gone = "status of 404" in said.text and "/runs/" in said.location["url"]
    return said.type == "error" and not is_gone


@pytest.fixture
def page(browser: Browser, server: str) -> Iterator[Page]:
    """The page, open; fails the test if it asks for anything from elsewhere or writes an error to the console."""
    page, complaints = browser.new_page(), []

    def answer(route: Any) -> None:
        if route.request.url.startswith((f"{server}/", "data:", "blob:")):
            route.continue_()
        else:
            complaints.append(f"asked for {route.request.url}")
            route.abort()

    page.route("**/*", answer)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if is_complaint(said) else None)
    page.set_default_timeout(60_000)
    page.goto(server)
    expect(page.locator("#jobs label")).to_have_count(1)
    yield page
    # A refused request is an answer that the page shows; the browser logs its status by itself.
    assert [text for text in complaints if "status of 400" not in text] == []
    page.close()


def drop(page: Page, *files: Path) -> None:
    """Choose files, and wait until they have arrived."""
    page.locator("#files").set_input_files(files)
    expect(page.locator("#dropped-more")).to_contain_text("drop another")


def compare(page: Page) -> None:
    page.locator("#start").click()
    page.wait_for_selector("#found:visible, #error:visible", timeout=120_000)


def seen(place: Locator, folder: Path) -> Any:
    """The pixels of a part of the page."""
    expect(place.locator("img").first).to_have_js_property("complete", True)
    place.screenshot(path=folder / "seen.png")
    return np.asarray(Image.open(folder / "seen.png").convert("RGB")).astype(float)


def cells(page: Page, kind: str) -> list[str]:
    return page.locator(f"#numbers tr.{kind} td").all_inner_texts()


def test_a_clip_is_seen_three_ways_with_the_numbers_of_the_library(page: Page, work: Path, tmp_path: Path) -> None:
    expect(page.locator("#jobs label")).to_contain_text("small")
    expect(page.locator("#start")).to_be_disabled()
    drop(page, work / "clip.mp4")
    page.locator("#truth").check()
    compare(page)
    expect(page.locator("#error")).to_be_hidden()

    (tmp_path / "made").mkdir()
    request = BesideRequest(work / "clip.mp4", work / "runs" / "small", work / "store", tmp_path / "made", 0, True)
    stages: list[str] = []
    found = put_beside(request, lambda stage, done, total: stages.append(stage))
    assert found.frames == found.shown == 5
    assert (found.low_size, found.size) == ((12, 16), (48, 64))
    for kind, column in found.columns.items():
        psnr, ssim, _, _, macs, _, parameters = cells(page, kind)
        assert psnr == f"{np.mean(column.psnr):.2f}"
        assert ssim == f"{np.mean(column.ssim):.4f}"
        assert (macs == NONE) == (parameters == NONE) == (kind == "bicubic")
    pruned, dense = found.columns["pruned"], found.columns["dense"]
    assert cells(page, "pruned")[5] == f"{100 * pruned.macs / dense.macs:.1f}%"
    assert cells(page, "dense")[3] == f"1.00{TIMES}"
    time = re.match(rf"([\d.]+) ([\d.]+){NONE}([\d.]+)$", cells(page, "pruned")[2])
    assert time
    assert 0 < float(time[2]) <= float(time[1]) <= float(time[3])
    expect(page.locator("#how")).to_contain_text("5 frames, 16x12 to 64x48")
    expect(page.locator("#how")).to_contain_text("1 thread of the CPU")

    views = page.locator("#views figure")
    assert views.locator("figcaption").all_inner_texts() == [
        *(f"{kind}\n{column.psnr[0]:.2f} dB" for kind, column in found.columns.items()), "truth",
    ]  # fmt: skip
    shown = [seen(views.nth(index).locator(".window"), tmp_path) for index in range(4)]
    for index, one in enumerate(shown):
        assert one.std() > 5, "a blank picture"
        assert all(abs(one - other).max() > 0 for other in shown[:index]), "two of the pictures are the same"

    with page.expect_download() as download:
        page.locator("#video").click()
    download.value.save_as(tmp_path / "upscaled.mp4")
    video = look_over(tmp_path / "upscaled.mp4", look_over(work / "clip.mp4", 25).rate)
    assert (video.frames, video.height, video.width) == (5, 48, 64)


def test_frames_zoom_and_divider_change_what_is_seen(page: Page, work: Path, tmp_path: Path) -> None:
    page.locator("#demo button").first.click()
    expect(page.locator("#truth")).to_be_checked()
    page.locator("#frames").select_option("8")
    compare(page)
    expect(page.locator("#how")).to_contain_text(f"8 frames, {FRAME[1] // 4}x{FRAME[0] // 4} to {FRAME[1]}x{FRAME[0]}")
    window = page.locator(".window").first
    first = seen(window, tmp_path)
    page.locator("#frame").fill("7")
    expect(page.locator("#frame-text")).to_have_text("8 / 8")
    last = seen(window, tmp_path)
    assert abs(first - last).max() > 0
    page.get_by_label(f"8{TIMES}").check()
    assert abs(seen(window, tmp_path) - last).max() > 0
    before = [image.evaluate("image => image.style.left") for image in page.locator(".window img").all()]
    page.mouse.move(0, 0)
    window.hover(position={"x": 5, "y": 5})
    after = [image.evaluate("image => image.style.left") for image in page.locator(".window img").all()]
    assert len(set(before)) == len(set(after)) == 1, "the same place is seen in all four"
    assert before != after
    page.get_by_label("divider", exact=True).check()
    divided = page.locator(".window")
    expect(divided).to_have_count(1)
    for share in (0.25, 0.75):
        box = divided.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + share * box["width"], box["y"] + 20)
        assert float(page.locator(".bar").evaluate("bar => parseFloat(bar.style.left)")) == pytest.approx(
            100 * share, abs=1
        )
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize(("file", "words"), [("notes.txt", "notes.txt: is text"), ("damaged.mp4", "damaged.mp4: ")])
def test_what_cannot_be_read_is_said_in_one_line_and_the_page_goes_on(
    file: str, words: str, page: Page, work: Path
) -> None:
    drop(page, work / file)
    compare(page)
    error = page.locator("#error").inner_text()
    assert error.startswith(words)
    assert "\n" not in error
    assert str(work) not in error
    expect(page.locator("#found")).to_be_hidden()
    expect(page.locator("#start")).to_be_enabled()


def test_the_library_makes_what_upscaling_makes_and_keeps_the_sound(work: Path, tmp_path: Path) -> None:
    video, job = make_video(tmp_path / "sound.mp4", pictures(5, 48, 64), sound="aac"), work / "runs" / "small"
    for folder in ("all", "two", "tiled"):
        (tmp_path / folder).mkdir()
    found = put_beside(BesideRequest(video, job, work / "store", tmp_path / "all"), lambda *_: None)
    assert (found.frames, found.size, found.has_truth, found.columns["pruned"].psnr) == (5, (192, 256), False, [])
    upscale(
        UpscalingRequest(video, tmp_path / "frames", job, work / "store", Pieces(30, 5), precision="32", device="cpu"),
        lambda text: None,
    )
    for index, file in enumerate(sorted((tmp_path / "frames").iterdir())):
        wanted, made = (
            np.asarray(Image.open(path)).astype(int)
            for path in (file, tmp_path / "all" / "pruned" / f"{index:05d}.png")
        )
        assert abs(wanted - made).max() <= 1  # the fastest form is chosen by timing, and sums differ in the last bit
    with av.open(str(tmp_path / "all" / VIDEO)) as whole:
        assert [(stream.type, stream.frames) for stream in whole.streams.video] == [("video", 5)]
        assert len(whole.streams.audio) == 1
    found = put_beside(BesideRequest(video, job, work / "store", tmp_path / "two", frames=2), lambda *_: None)
    assert found.notes == ["the video to download has the first 2 frames, and no sound"]
    with av.open(str(tmp_path / "two" / VIDEO)) as short:
        assert [stream.frames for stream in short.streams] == [2]
        assert short.duration == pytest.approx(2 / 25 * av.time_base, abs=1000)


def test_large_frames_are_taken_in_tiles_or_refused(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = BesideRequest(work / "clip.mp4", work / "runs" / "small", work / "store", tmp_path, frames=2)
    monkeypatch.setattr(beside, "WHOLE_PIXELS", 1000)
    monkeypatch.setattr(beside, "TILE", 32)
    found = put_beside(request, lambda *_: None)
    assert (found.size, found.shown) == ((192, 256), 2)
    assert Image.open(tmp_path / "pruned" / "00001.png").size == (256, 192)
    monkeypatch.setattr(beside, "MOST_PIXELS", 192 * 256 - 1)
    with pytest.raises(UserError, match="64x48 would become 256x192"):
        put_beside(request, lambda *_: None)


def test_jobs_are_found_once_the_newest_first(work: Path, tmp_path: Path) -> None:
    for name, when in (("old", 10), ("new", 30), ("between", 20)):
        shutil.copytree(work / "runs" / "small", tmp_path / "sweep" / name)
        os.utime(tmp_path / "sweep" / name / "result.json", (when, when))
    (tmp_path / "latest").symlink_to(tmp_path / "sweep" / "new")
    (tmp_path / "sweep" / "damaged").mkdir()
    (tmp_path / "sweep" / "damaged" / "result.json").write_text("{")
    found = finished_jobs([tmp_path, tmp_path / "sweep"])
    assert [(job.name, job.ended) for job in found] == [("sweep/new", 30), ("sweep/between", 20), ("sweep/old", 10)]
    assert [job.name for job in finished_jobs([tmp_path / "sweep" / "old"])] == ["old"]


def test_a_comparison_is_cancelled(page: Page, work: Path) -> None:
    page.locator("#demo button").first.click()
    page.locator("#truth").uncheck()
    page.locator("#start").click()
    page.locator("#cancel").click()
    expect(page.locator("#error")).to_have_text("cancelled; nothing was kept", timeout=60_000)
    expect(page.locator("#start")).to_be_enabled()


def asked(url: str, **headers: str) -> int:
    """The status of an answer."""
    request = urllib.request.Request(url, headers=headers, method="POST" if "Origin" in headers else "GET")
    try:
        with urllib.request.urlopen(request) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_only_the_page_itself_is_answered(server: str) -> None:
    assert asked(f"{server}/jobs") == 200
    assert asked(f"{server}/jobs", Host="evil.example") == 400
    assert asked(f"{server}/clips", Origin="http://evil.example") == 403
    assert asked(f"{server}/clips", Origin=server) == 200
    assert asked(f"{server}/runs/..%2f..%2f/video") == 404
    assert asked(f"{server}/clips/..%2f../first.png") == 404


def test_the_page_names_no_other_place() -> None:
    for path in (ROOT / "src" / "vsrprune" / "page" / "static").iterdir():
        assert set(re.findall(r"https?://[^\"'\s]+", path.read_text())) <= {"http://www.w3.org/2000/svg"}


def test_wrong_arguments_end_in_one_line(work: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for arguments, words in (
            (["nowhere"], "there is no folder nowhere"),
            ([str(tmp_path)], f"no result.json below {tmp_path}"),
            (["--store", "nowhere"], "--store nowhere: there is no such folder"),
            (["--store", "s3:/bucket/x"], "store_dir=s3:/bucket/x: a store in object storage is s3://BUCKET/PREFIX"),
            (["--port", port], f"--port {port} is in use; give another"),
            (["--port", "70000"], "--port must be from 0 to 65535; got 70000"),
        ):
            done = run_script([SCRIPT, *arguments], work)
            assert (done.returncode, done.stdout) == (2, "")
            assert done.stderr.startswith(f"error: {words}")
            assert done.stderr.count("\n") == 1


def test_the_missing_extra_is_named(work: Path, tmp_path: Path) -> None:
    (tmp_path / "uvicorn.py").write_text("raise ModuleNotFoundError(\"No module named 'uvicorn'\", name='uvicorn')\n")
    code = f"import sys, runpy; sys.path.insert(0, {str(tmp_path)!r}); sys.modules.pop('uvicorn', None)"
    code += f"; sys.argv = ['page.py', '--port', '0']; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    done = run_script(["-c", code], work)
    assert (done.returncode, done.stderr) == (2, "error: the page needs uvicorn: pip install '.[page]' installs it\n")
