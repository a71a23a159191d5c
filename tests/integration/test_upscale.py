"""`python src/upscale.py` as a user runs it: whole videos, wrong input, interruptions, memory."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import Script, run_script
from PIL import Image
from videos import make_video, packets, pictures, times, trim

from vsrprune.data.video.footage import look_over
from vsrprune.errors import UserError
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.basicvsr.spec import BasicVSRArguments
from vsrprune.networks.files import save_network
from vsrprune.use.load import load_trained
from vsrprune.use.streaming import Pieces
from vsrprune.use.upscaling import UpscalingRequest, upscale

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "src" / "upscale.py"


def save_small(folder: Path, bidirectional: bool = True, factors: tuple[int, ...] = (2, 2)) -> Path:
    """A network of random weights whose flow finds no motion: what it makes of a video depends on every frame."""
    torch.manual_seed(0)
    folder.mkdir(parents=True)
    arguments = BasicVSRArguments(
        channels=6,
        blocks=1,
        upsampler_channels=4,
        bidirectional=bidirectional,
        upscale_factors=factors,
        flow_levels=2,
        flow_kernel=3,
        flow_widths=(4,),
    )
    save_network(BasicVSR(arguments), folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small(tmp_path_factory.mktemp("network") / "model")


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}


def upscale_py(*arguments: object) -> subprocess.CompletedProcess[str]:
    return run_script([SCRIPT, *arguments], ROOT, environment())


def run(source: Path, target: Path, model: Path, pieces: Pieces | None = None, **changes: object) -> list[str]:
    """In this process; what was said."""
    said: list[str] = []
    pieces = pieces or Pieces(30, 5)
    upscale(UpscalingRequest(source, target, model, source.parent / "store", pieces, **changes), said.append)  # type: ignore[arg-type]
    return said


def expected(source: Path, model: Path) -> list[np.ndarray]:
    """What the network itself, not frozen, makes of all frames at once, in 8 bits."""
    frames = [frame.pixels_HW3 for frame in look_over(source, 25).read()]  # type: ignore[arg-type]
    clip_NTCHW = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)[None].float() / 255
    with torch.no_grad():
        high_NTCHW = load_trained(model, Path("store"), print)(clip_NTCHW).frames_NTCHW
    return list((high_NTCHW[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())


def pngs(folder: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(file)) for file in sorted(folder.iterdir())]


def test_a_video_by_the_command_line(tmp_path: Path, model: Path) -> None:
    """Sound, times, size; the pictures are the network's, but for the encoder's loss."""
    pts = [3600 * index + (index % 3) * 300 for index in range(40)]
    source = make_video(tmp_path / "in.mp4", pictures(40, 32, 48), sound="aac", pts=pts)
    done = upscale_py(source, tmp_path / "out.mp4", "--model", model, "--threads", 1)
    assert done.returncode == 0, done.stderr
    assert f"{source}: 48x32, 40 frames, to 192x128" in done.stdout
    assert "40 frames in" in done.stdout
    assert done.stderr == ""
    assert times(tmp_path / "out.mp4") == pytest.approx([tick / 90000 for tick in pts], abs=1e-9)
    assert packets(tmp_path / "out.mp4", "audio") == packets(source, "audio")
    frames = [frame.pixels_HW3 for frame in look_over(tmp_path / "out.mp4", 25).read()]  # type: ignore[arg-type]
    for frame, whole in zip(frames, expected(source, model), strict=True):
        assert np.abs(frame.astype(float) - whole).mean() < 2.5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("factors", [(2, 2), (3,), (2,), ()])
def test_png_frames_are_the_networks_to_the_last_bit_but_one(
    tmp_path: Path, bidirectional: bool, factors: tuple[int, ...]
) -> None:
    """Of an odd size. In float32 a value may lie on the edge between two levels."""
    model = save_small(tmp_path / "model", bidirectional, factors)
    source = make_video(tmp_path / "in.mkv", pictures(11, 17, 23), "ffv1", "bgr0")
    run(source, tmp_path / "out", model, Pieces(4, 20))
    frames, whole = pngs(tmp_path / "out"), expected(source, model)
    assert len(frames) == 11
    for frame, other in zip(frames, whole, strict=True):
        assert np.abs(frame.astype(int) - other).max() <= 1
        assert (frame != other).mean() < 0.001


def test_frames_in_a_video_out(tmp_path: Path, model: Path) -> None:
    (tmp_path / "in").mkdir()
    for index, image in enumerate(pictures(5)):
        Image.fromarray(image).save(tmp_path / "in" / f"{index}.png")
    assert upscale_py(tmp_path / "in", tmp_path / "out.webm", "--model", model, "--fps", "24").returncode == 0
    assert times(tmp_path / "out.webm") == pytest.approx([index / 24 for index in range(5)], abs=0.0006)


def test_tiles_are_the_whole_frame_where_their_overlap_covers_the_reach(tmp_path: Path, model: Path) -> None:
    source = make_video(tmp_path / "in.mkv", pictures(4, 50, 70), "ffv1", "bgr0")
    run(source, tmp_path / "whole", model)
    run(source, tmp_path / "tiled", model, Pieces(30, 5, tile=24, tile_overlap=15))
    for whole, tiled in zip(pngs(tmp_path / "whole"), pngs(tmp_path / "tiled"), strict=True):
        assert np.abs(whole.astype(int) - tiled).max() <= 1


@pytest.mark.parametrize("precision", ["bf16", "16"])
def test_sixteen_bits_are_nearly_the_same(tmp_path: Path, model: Path, precision: str) -> None:
    source = make_video(tmp_path / "in.mkv", pictures(6, 24, 40), "ffv1", "bgr0")
    run(source, tmp_path / "out", model, precision=precision)
    for frame, whole in zip(pngs(tmp_path / "out"), expected(source, model), strict=True):
        difference = np.abs(frame.astype(int) - whole)
        assert difference.mean() < 1
        assert difference.max() <= 6


def test_what_a_lower_precision_costs_is_told(tmp_path: Path, model: Path) -> None:
    source = make_video(tmp_path / "in.mkv", pictures(6, 24, 40), "ffv1", "bgr0")
    assert not any("PSNR" in line for line in run(source, tmp_path / "exact", model))
    costs = []
    for precision in ("bf16", "16"):
        (line,) = (line for line in run(source, tmp_path / precision, model, precision=precision) if "PSNR" in line)
        found = re.fullmatch(
            rf"precision {precision}: PSNR against 32 bits on the first 4 frames: ([0-9.]+) dB; see --precision", line
        )
        assert found is not None
        costs.append(float(found[1]))
    # 8 and 11 bits of mantissa: one more bit is 6 dB.
    assert 30 < costs[0] < costs[1] < 100


def test_where_it_computes_is_told_and_found_by_itself(tmp_path: Path, model: Path) -> None:
    source = make_video(tmp_path / "in.mkv", pictures(2), "ffv1", "bgr0")
    named = run(source, tmp_path / "cpu", model, device="cpu")[0]
    assert named.endswith("on the CPU")
    if not torch.cuda.is_available():
        assert run(source, tmp_path / "auto", model)[0] == named


@pytest.mark.parametrize(("tile", "given", "advice"), [(0, "whole frames (--tile 0)", 256), (128, "--tile 128", 64)])
def test_too_little_memory_is_one_line_that_names_tiles(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, tile: int, given: str, advice: int
) -> None:
    source = make_video(tmp_path / "in.mp4", pictures(8))

    def too_large(*_: object) -> Iterator[torch.Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        yield

    monkeypatch.setattr("vsrprune.use.upscaling.upscaled_frames", too_large)
    with pytest.raises(UserError) as caught:
        run(source, tmp_path / "out.mp4", model, Pieces(30, 5, tile))
    assert str(caught.value) == (
        f"{given}: the GPU's memory does not hold what the network needs; give --tile {advice} or less"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4"]


def test_a_scale_of_three_of_an_odd_size_is_padded_for_the_usual_encoder(tmp_path: Path) -> None:
    model = save_small(tmp_path / "model", factors=(3,))
    source = make_video(tmp_path / "in.mkv", pictures(3, 11, 15), "ffv1", "yuv420p")
    said = run(source, tmp_path / "out.mp4", model)
    assert any("the last row or column of 45x33 is repeated" in line for line in said)
    footage = look_over(tmp_path / "out.mp4", 25)  # type: ignore[arg-type]
    assert (footage.height, footage.width, footage.frames) == (34, 46, 3)


def test_progress_counts_the_frames_that_are_shown(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars: list[tuple[int, list[int]]] = []

    class Progress:
        def __init__(self, _: str, total: int) -> None:
            bars.append((total, []))

        def __enter__(self) -> Progress:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def update(self, done: int) -> None:
            bars[-1][1].append(done)

    monkeypatch.setattr("vsrprune.use.upscaling.StageProgress", Progress)
    short = trim(make_video(tmp_path / "long.mp4", pictures(60)), tmp_path / "short.mp4", 50)
    said = run(short, tmp_path / "out.mp4", model)
    assert bars == [(10, list(range(1, 11)))]
    assert "24x16, 10 frames, to" in said[0]
    assert len(times(tmp_path / "out.mp4")) == 10


def test_transparent_frames_are_laid_over_the_background_that_the_command_line_names(
    tmp_path: Path, model: Path
) -> None:
    (tmp_path / "in").mkdir()
    clear = Image.new("RGBA", (24, 16), (255, 0, 0, 0))
    clear.save(tmp_path / "in" / "0.png")
    (tmp_path / "opaque").mkdir()
    Image.new("RGB", (24, 16), (0, 128, 255)).save(tmp_path / "opaque" / "0.png")
    done = upscale_py(tmp_path / "in", tmp_path / "out", "--model", model, "--background", "#0080ff")
    assert done.returncode == 0, done.stderr
    run(tmp_path / "opaque", tmp_path / "expected", model)
    np.testing.assert_array_equal(pngs(tmp_path / "out")[0], pngs(tmp_path / "expected")[0])


@pytest.mark.parametrize("colour", ["mauvish", "#0080ff80", "300,0,0"])
def test_a_background_that_is_no_opaque_colour_is_refused(tmp_path: Path, model: Path, colour: str) -> None:
    done = upscale_py(tmp_path, tmp_path / "out", "--model", model, "--background", colour)
    assert done.returncode == 2
    assert f"--background: must be an opaque colour like white or #ffffff; got '{colour}'" in done.stderr


# Memory


def peak_kib(source: Path, target: Path, model: Path) -> int:
    """Peak resident memory of the script, read by a small process in between: a fork of this one would count it too."""
    code = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [sys.executable, SCRIPT, source, target, "--model", model, "--window", 10]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, command)], env=environment(), capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("bidirectional", [True, False])
def test_memory_does_not_grow_with_the_video(tmp_path: Path, bidirectional: bool) -> None:
    model = save_small(tmp_path / "model", bidirectional)
    peaks = [
        peak_kib(
            make_video(tmp_path / f"{count}.mp4", pictures(count, 32, 32), sound="aac"),
            tmp_path / f"{count}-out.mp4",
            model,
        )
        for count in (100, 1000)
    ]
    assert len(times(tmp_path / "1000-out.mp4")) == 1000
    assert peaks[1] < 1.05 * peaks[0]


# What goes wrong


def interrupted(tmp_path: Path, model: Path, number: int) -> tuple[int, str]:
    """Exit code and complaint of a run that gets a signal while it writes."""
    source = make_video(tmp_path / "in.mp4", pictures(600, 64, 64))
    command = [SCRIPT, source, tmp_path / "out.mp4", "--model", model, "--window", 2]
    process = Script(command, ROOT, environment())
    deadline = time.monotonic() + 120
    while not any(path.stat().st_size for path in tmp_path.glob(".out-*.mp4")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    _, complaint = process.communicate(timeout=60)
    return process.returncode, complaint


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_an_interruption_leaves_nothing(tmp_path: Path, model: Path, number: int, code: int) -> None:
    returned, complaint = interrupted(tmp_path, model, number)
    assert returned == code
    assert "Traceback" not in complaint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a video, one that is cut off, PNG frames, and things that are in the way."""
    video = make_video(tmp_path / "in.mp4", pictures(4))
    (tmp_path / "cut.mp4").write_bytes(video.read_bytes()[:-100])
    (tmp_path / "exists.mp4").write_text("precious")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("precious")
    (tmp_path / "frames").mkdir()
    Image.fromarray(pictures(1)[0]).save(tmp_path / "frames" / "1.png")
    (tmp_path / "file").write_text("precious")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "network.safetensors").write_text("no weights")
    (tmp_path / "broken" / "network.json").write_text("{}")
    return tmp_path


WRONG = [
    ("none.mp4 out.mp4", {}, "none.mp4: no such file or folder"),
    ("cut.mp4 out.mp4", {}, "cut.mp4: cannot decode this video"),
    ("in.mp4 in.mp4", {"overwrite": True}, "in.mp4: the output is the input"),
    ("frames frames", {"overwrite": True}, "frames: the output is the input"),
    ("in.mp4 exists.mp4", {}, "exists.mp4: exists; give another name, or --overwrite to replace it"),
    ("in.mp4 frames", {}, "frames: exists; give another name, or --overwrite"),
    ("in.mp4 home", {"overwrite": True}, "home: holds other things than PNG frames (letter.txt)"),
    ("in.mp4 folder.mp4", {"overwrite": True}, "folder.mp4: is a folder"),
    ("in.mp4 file", {"overwrite": True}, "file: is a file"),
    ("in.mp4 none/out.mp4", {}, "none/out.mp4: there is no folder"),
    ("in.mp4 out.gif", {}, "cannot write .gif"),
    ("in.mp4 out.mp4", {"codec": "mpeg1"}, "--codec must be one of"),
    ("in.mp4 out.mp4", {"crf": -1}, "--crf must be from 0"),
    ("in.mp4 out.mp4", {"model": Path("no_model")}, "no_model: neither the folder of a finished job"),
    ("in.mp4 out.mp4", {"model": Path("broken")}, "network.json: unknown network"),
    ("in.mp4 out.mp4", {"device": "tpu"}, "--device must be one of auto, cpu, cuda; got 'tpu'"),
    ("in.mp4 out.mp4", {"precision": "8"}, "--precision must be one of 32, tf32, bf16, 16, int8; got '8'"),
    ("in.mp4 out.mp4", {"which": "small"}, "--which must be one of pruned, dense; got 'small'"),
    ("in.mp4 out.mp4", {"pieces": Pieces(0, 5)}, "--window must be at least 1; got 0"),
    ("in.mp4 out.mp4", {"pieces": Pieces(5, -1)}, "--overlap must be at least 0; got -1"),
    ("in.mp4 out.mp4", {"pieces": Pieces(5, 1, -8)}, "--tile must be at least 0; got -8"),
    *[("in.mp4 out.mp4", {"rate": rate}, f"--fps must be from 1/1000 to 1000; got {rate}") for rate in (0, 1001)],
    ("in.mp4 out.mp4", {"threads": -1}, "--threads must be at least 0; got -1"),
    ("in.mp4 out.mp4", {"rate": 50}, "--fps 50 is for folders of PNG frames, but in.mp4 is a video"),
]


@pytest.mark.parametrize(("names", "changes", "complaint"), WRONG, ids=[f"{names} {c}" for names, c, _ in WRONG])
def test_wrong_input_is_refused_before_anything_is_written(
    place: Path, model: Path, monkeypatch: pytest.MonkeyPatch, names: str, changes: dict[str, object], complaint: str
) -> None:
    monkeypatch.chdir(place)
    before = {path: path.is_file() and path.read_bytes() for path in place.rglob("*")}
    source, target = map(Path, names.split())
    with pytest.raises(UserError) as caught:
        run(source, target, **{"model": model, **changes})  # type: ignore[arg-type]
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)
    assert {path: path.is_file() and path.read_bytes() for path in place.rglob("*")} == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_is_one_line(place: Path, model: Path) -> None:
    done = upscale_py(place / "in.mp4", place / "out.mp4", "--model", model, "--device", "cuda")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "PyTorch finds no GPU here" in done.stderr


@pytest.mark.parametrize(("source", "target"), [("in.mp4", "exists.mp4"), ("cut.mp4", "out.mp4")])
def test_the_command_line_says_it_in_one_line(place: Path, model: Path, source: str, target: str) -> None:
    done = upscale_py(place / source, place / target, "--model", model)
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (2, 1, "")
    assert done.stderr.startswith("error: ")


def test_a_file_whose_name_is_no_text_is_read_and_written(tmp_path: Path, model: Path) -> None:
    source, target = (Path(os.fsdecode(os.fsencode(tmp_path) + name)) for name in (b"/caf\xe9.mp4", b"/\xff.mkv"))
    make_video(tmp_path / "in.mp4", pictures(3)).rename(source)
    done = upscale_py(source, target, "--model", model)
    assert (done.returncode, done.stderr) == (0, "")
    assert "caf\\udce9.mp4: 24x16, 3 frames" in done.stdout
    assert len(times(target)) == 3


def test_a_file_is_replaced_when_asked(place: Path, model: Path) -> None:
    run(place / "in.mp4", place / "exists.mp4", model, overwrite=True)
    assert len(times(place / "exists.mp4")) == 4


def test_help_needs_no_torch(no_torch: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--help"],
        env={**environment(), "PYTHONPATH": os.pathsep.join((str(no_torch), str(ROOT / "src")))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "--overlap" in done.stdout
