"""`python src/upscale.py --compare`: what is decoded of the video is what each network makes of the source alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forked import run_script
from test_upscale import ROOT, SCRIPT, environment, save_small
from videos import make_video, packets, pictures, times

from vsrprune.data.degradation import bicubic_uint8, degrade
from vsrprune.data.video.footage import look_over
from vsrprune.errors import UserError
from vsrprune.metrics.quality import frame_quality
from vsrprune.use.compare_video import BICUBIC, CompareRequest, Input, names_of, write_comparison
from vsrprune.use.panes import GAP, INK, PERIOD_S, caption_height, divider_at, text_size
from vsrprune.use.streaming import Pieces
from vsrprune.use.upscaling import UpscalingRequest, upscale

CODEC_ERROR = 2.5  # mean of 8-bit levels, as a video by upscale.py itself has


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A bidirectional network and another, of one scale."""
    folder = tmp_path_factory.mktemp("networks")
    return save_small(folder / "both_ways"), save_small(folder / "forward", bidirectional=False)


def compare(source: Path, target: Path, *models: Path | str, **changes: Any) -> list[str]:
    said: list[str] = []
    own = {name: changes.pop(name) for name in ("layout", "as_truth") if name in changes}
    pieces = changes.pop("pieces", Pieces(4, 20))
    video = UpscalingRequest(source, target, None, source.parent / "store", pieces, **changes)
    write_comparison(CompareRequest(video, tuple(map(str, models)), **own), said.append)
    return said


def frames_in(path: Path) -> list[np.ndarray]:
    return [frame.pixels_HW3.astype(float) for frame in look_over(path, 25).read()]  # type: ignore[arg-type]


def alone(source: Path, target: Path, model: Path, pieces: Pieces) -> list[np.ndarray]:
    upscale(UpscalingRequest(source, target, model, source.parent / "store", pieces), lambda text: None)
    return frames_in(target)


@pytest.mark.parametrize("tile", [0, 20])
def test_panes_are_what_the_networks_make_alone(tmp_path: Path, models: tuple[Path, Path], tile: int) -> None:
    """With the source's times and sound; one network reads ahead, one does not, and bicubic is no network."""
    pts = [3600 * index + (index % 3) * 300 for index in range(11)]
    source = make_video(tmp_path / "in.mp4", pictures(11, 24, 40), sound="aac", pts=pts)
    pieces = Pieces(4, 20, tile)
    said = compare(source, tmp_path / "out.mp4", BICUBIC, *models, pieces=pieces)
    assert times(tmp_path / "out.mp4") == pytest.approx([tick / 90000 for tick in pts], abs=1e-9)
    assert len(packets(tmp_path / "out.mp4", "audio")) == len(packets(source, "audio"))
    low = torch.from_numpy(np.stack(frames_in(source))).permute(0, 3, 1, 2).to(torch.uint8)
    bicubic = bicubic_uint8(low, 4.0).permute(0, 2, 3, 1).numpy().astype(float)
    whole = [list(bicubic)] + [
        alone(source, tmp_path / f"alone{index}", model, pieces) for index, model in enumerate(models)
    ]
    above = caption_height(text_size(160))
    shown = frames_in(tmp_path / "out.mp4")
    assert shown[0].shape == (above + 96, 3 * 160 + 2 * GAP, 3)
    for frame, *own in zip(shown, *whole, strict=True):
        for index, picture in enumerate(own):
            left = index * (160 + GAP)
            assert np.abs(frame[above:, left : left + 160] - picture).mean() < CODEC_ERROR
            assert frame[:above, left : left + 160].max() > 180  # its caption
    assert said[0].endswith("both_ways, forward on the CPU")
    assert any(re.fullmatch(r"forward: 0\.0\d+ GMACs, [0-9.]+ ms", line) for line in said)


def test_a_divider_moves_between_two_models(tmp_path: Path, models: tuple[Path, Path]) -> None:
    """One model is compared with bicubic; with a truth captions have its PSNR, and outputs are as large as the clip."""
    source = make_video(tmp_path / "in.mkv", pictures(6, 98, 163), "ffv1", "bgr0", pts=[90000 * at for at in range(6)])
    said = compare(source, tmp_path / "out", models[0], layout="divider", as_truth=True)
    height, width = 96, 160
    above = caption_height(text_size(width))
    truth = torch.from_numpy(np.stack(frames_in(source))[:, :height, :width]).permute(0, 3, 1, 2).to(torch.uint8)
    small = degrade(truth, 4, "bicubic")
    make_video(tmp_path / "low.mkv", list(small.permute(0, 2, 3, 1).numpy()), "ffv1", "bgr0")
    network = alone(tmp_path / "low.mkv", tmp_path / "alone", models[0], Pieces(4, 20))
    bicubic = bicubic_uint8(small, 4.0)
    shown = frames_in(tmp_path / "out")
    for second, (frame, left, right) in enumerate(
        zip(shown, bicubic.permute(0, 2, 3, 1).numpy(), network, strict=True)
    ):
        assert frame.shape == (above + height, width, 3)
        place = divider_at(second, width)
        assert (frame[above:, place - 1 : place + 1] == INK).all()
        assert (frame[above:, : place - 1] == left[:, : place - 1]).all()
        assert np.abs(frame[above:, place + 1 :] - right[:, place + 1 :]).max() <= 1
    assert len({divider_at(second, width) for second in range(6)}) > 3
    assert divider_at(0, width) == divider_at(PERIOD_S, width)
    expected = np.mean(frame_quality(bicubic, truth, "rgb", 0).psnr)
    assert f"bicubic: PSNR {expected:.2f} dB" in said


def test_the_command_line(tmp_path: Path, models: tuple[Path, Path]) -> None:
    source = make_video(tmp_path / "in.mkv", pictures(3, 67, 71), "ffv1", "bgr0")
    done = run_script([SCRIPT, source, "--truth", "--compare", *models, tmp_path / "out.mp4"], ROOT, environment())
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "PSNR" in done.stdout
    footage = look_over(tmp_path / "out.mp4", 25)  # type: ignore[arg-type]
    assert footage.height % 2 == footage.width % 2 == 0
    wrong = run_script([SCRIPT, source, tmp_path / "no.mp4", "--model", models[0], "--truth"], ROOT, environment())
    assert wrong.returncode == 2
    assert wrong.stderr == "error: --truth is for --compare; leave it out, or give --compare MODEL MODEL\n"
    engine = run_script(
        [SCRIPT, source, tmp_path / "no.mp4", "--compare", *models, "--engine", "auto"], ROOT, environment()
    )
    assert engine.returncode == 2
    assert engine.stderr == "error: --engine auto is for --model; --compare runs in PyTorch: leave it out\n"


def test_wrong_comparisons_are_refused_in_one_line(tmp_path: Path, models: tuple[Path, Path]) -> None:
    source = make_video(tmp_path / "in.mp4", pictures(3, 16, 24))
    tiny = make_video(tmp_path / "tiny.mkv", pictures(1, 8, 24), "ffv1", "bgr0")
    wide = make_video(tmp_path / "wide.mkv", pictures(1, 2, 2100), "ffv1", "bgr0")
    twice = save_small(tmp_path / "twice", factors=(2,))
    same = save_small(tmp_path / "same", factors=())
    both, forward = map(str, models)
    given: list[tuple[Path, tuple[str, ...], dict[str, Any], str]] = [
        (source, (both, str(twice)), {}, f"--compare: {both} enlarges 4 times, but {twice} 2 times"),
        (source, (both, "nowhere"), {}, "nowhere: neither the folder of a finished job"),
        (source, (both, both), {}, f"--compare: {both} is given twice; leave one out"),
        (source, (BICUBIC, "dense"), {}, "--compare bicubic dense: name at least one job's folder or network"),
        (source, (both, "dense"), {}, "--compare dense is the dense network of a job; name a job's folder beside it"),
        (source, tuple("abcde"), {}, "--compare takes up to 4 models; got 5"),
        (source, (BICUBIC, both, forward), {"layout": "divider"}, "--layout divider shows two models; got 3"),
        (source, (both,), {"layout": "split"}, "--layout must be one of side, divider; got 'split'"),
        (source, (str(same),), {"as_truth": True}, "--truth shrinks the source by the networks' scale, which is 1"),
        (tiny, (both,), {"as_truth": True}, f"{tiny}: 24x8 is too small to be shrunk by 4 and compared"),
        (wide, (both, forward), {}, "2 panes of 8400x8 make 16804x"),
    ]
    before = sorted(tmp_path.iterdir())
    for clip, names, changes, words in given:
        with pytest.raises(UserError) as refused:
            compare(clip, tmp_path / "out.mp4", *names, **changes)
        assert str(refused.value).startswith(words)
        assert "\n" not in str(refused.value)
    assert sorted(tmp_path.iterdir()) == before


def test_names_are_the_ends_of_paths_that_tell_them_apart() -> None:
    assert names_of([BICUBIC, "runs/a/ratio=0.3", "runs/a/ratio=0.5"]) == {
        BICUBIC: BICUBIC,
        "runs/a/ratio=0.3": "ratio=0.3",
        "runs/a/ratio=0.5": "ratio=0.5",
    }
    assert list(names_of(["runs/a/job", "runs/b/job"]).values()) == ["a/job", "b/job"]


def test_no_more_frames_are_held_than_a_window_reads(
    tmp_path: Path, models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The input is read only as far ahead of what is written as the network with the widest window needs."""
    source = make_video(tmp_path / "in.mkv", pictures(60, 16, 24), "ffv1", "bgr0")
    read, ahead, made = [0], [0], Input.frames

    def counted(self: Input) -> Any:
        for frame in made(self):
            read[0] += 1
            yield frame

    monkeypatch.setattr(Input, "frames", counted)
    written = [0]

    def picture(*given: Any) -> np.ndarray:
        written[0] += 1
        ahead[0] = max(ahead[0], read[0] - written[0])
        return np.zeros((16, 16, 3), np.uint8)

    monkeypatch.setattr("vsrprune.use.compare_video.picture_of", picture)
    compare(source, tmp_path / "out", BICUBIC, *models, pieces=Pieces(4, 2))
    assert written[0] == 60
    assert ahead[0] <= 4 + 2 + 12  # and the short queues on both sides
