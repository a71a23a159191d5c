"""A network and bicubic on a test set: numbers by independent code, and one line for what cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks_made import randomise
from PIL import Image
from skimage.metrics import structural_similarity

from evaluate import main
from vsrprune.cli import preset
from vsrprune.networks.files import save_network
from vsrprune.networks.network import Network
from vsrprune.networks.table import build
from vsrprune.results.protocols import PROTOCOLS
from vsrprune.results.set_quality import MOST_CLIPS, SetQuality, print_compared

VID4 = ("calendar", "city", "foliage", "walk")
HIGH, LOW = (48, 64), (12, 16)


def picture(seed: int, height: int, width: int) -> Any:
    """Blobs with sharp borders and a little noise: bicubic is neither right nor hopeless."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / height
    pixels = np.full((height, width, 3), 120.0)
    for row, column, size in draw.random((8, 3)):
        near = (y - row) ** 2 + (x - column * width / height) ** 2 < (0.1 + 0.2 * size) ** 2
        pixels[near] = draw.integers(0, 256, 3)
    return np.clip(pixels + draw.normal(0, 3, pixels.shape), 0, 255).astype(np.uint8)


def tree(root: Path, names: tuple[str, ...] = VID4, low: str = "BIx4", frames: int = 2) -> Path:
    """A test set whose low-resolution frames are the truth's, every fourth pixel of it."""
    for clip, name in enumerate(names):
        for index in range(frames):
            pixels = picture(10 * clip + index, *HIGH)
            for folder, stored in (("GT", pixels), (low, pixels[1::4, 2::4])):
                (root / folder / name).mkdir(parents=True, exist_ok=True)
                Image.fromarray(stored).save(root / folder / name / f"{index:08d}.png")
    return root


def read(folder: Path) -> list[Any]:
    return [np.asarray(Image.open(file)).astype(float) for file in sorted(folder.iterdir())]


def enlarged(image: Any) -> Any:
    """MATLAB's imresize by 4, pixel by pixel: Keys' cubic, mirrored borders, rounded once."""
    for axis in (0, 1):
        lines, length = np.moveaxis(image, axis, 0), image.shape[axis]
        made = []
        for index in range(4 * length):
            centre = (index + 0.5) / 4 - 0.5
            taps = np.floor(centre) + np.arange(-1, 3)
            far = np.abs(centre - taps)
            inner, outer = 1.5 * far**3 - 2.5 * far**2 + 1, -0.5 * far**3 + 2.5 * far**2 - 4 * far + 2
            weights = np.where(far <= 1, inner, outer)
            mirrored = [
                int(tap) if 0 <= tap < length else int(-tap - 1 if tap < 0 else 2 * length - tap - 1) for tap in taps
            ]
            made.append(np.tensordot(weights, lines[mirrored], axes=1))
        image = np.moveaxis(np.stack(made), 0, axis)
    return np.floor(np.clip(image, 0, 255) + 0.5)


def scores(output: Any, truth: Any, channel: str, crop: int) -> tuple[float, float]:
    """PSNR and SSIM of one frame (H, W, 3), by their definition and by scikit-image."""
    output, truth = (image[crop : image.shape[0] - crop, crop : image.shape[1] - crop] for image in (output, truth))
    if channel == "y":
        output, truth = (16 + image @ (65.481, 128.553, 24.966) / 255 for image in (output, truth))
    likeness = structural_similarity(
        output,
        truth,
        channel_axis=None if channel == "y" else 2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
    )
    return 10 * np.log10(255**2 / np.mean((output - truth) ** 2)), likeness


def evaluated(tmp_path: Path, *arguments: object) -> dict[str, Any]:
    main([*map(str, arguments), "--json", str(tmp_path / "numbers.json"), "--device", "cpu"])
    values: dict[str, Any] = json.loads((tmp_path / "numbers.json").read_text())
    return values


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as caught:
        main([*map(str, arguments)])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def small() -> Network:
    torch.manual_seed(0)
    network = build(preset("basicvsr_uni_tiny").arguments)
    randomise(network)
    return network.eval()


@pytest.fixture(scope="module")
def vid4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tree(tmp_path_factory.mktemp("set") / "Vid4")


@pytest.mark.parametrize(("options", "channel", "crop"), [
    ((), "y", 0),
    (("--crop", 8), "y", 8),
    (("--protocol", "full", "--channel", "rgb", "--crop", 3), "rgb", 3),
])  # fmt: skip
def test_bicubic_of_a_test_set_needs_no_network_and_is_that_of_independent_code(
    vid4: Path, tmp_path: Path, options: tuple[object, ...], channel: str, crop: int
) -> None:
    found = evaluated(tmp_path, "--data", "vid4", "--path", vid4, *options)
    assert found["comparison"] == {"channel": channel, "crop": crop, "centre": False}
    expected = {}
    for name in VID4:
        pairs = zip(read(vid4 / "BIx4" / name), read(vid4 / "GT" / name), strict=True)
        expected[name] = np.mean([scores(enlarged(low), high, channel, crop) for low, high in pairs], axis=0)
    assert list(found["quality"]) == ["bicubic"]
    clips = found["quality"]["bicubic"]["clips"]
    for name in VID4:
        assert (clips[name]["psnr"], clips[name]["ssim"]) == pytest.approx(tuple(expected[name]), abs=1e-6)
    mean = np.mean(list(expected.values()), axis=0)
    bicubic = found["quality"]["bicubic"]
    assert (bicubic["psnr"], bicubic["ssim"]) == pytest.approx(tuple(mean), abs=1e-6)


def test_a_network_s_folder_and_its_weights_alone_have_the_numbers_of_its_own_frames(
    vid4: Path, tmp_path: Path
) -> None:
    network = small()
    save_network(network, tmp_path / "net")
    torch.save({"params": network.state_dict()}, tmp_path / "net.pth")
    asked = ("--data", "vid4", "--path", vid4, "--clips", "city", "walk")
    by_folder = evaluated(tmp_path, tmp_path / "net", *asked)
    by_file = evaluated(tmp_path, tmp_path / "net.pth", "--network", "basicvsr_uni_tiny", *asked)
    expected = {}
    for name in ("city", "walk"):
        low_NTCHW = torch.from_numpy(np.stack(read(vid4 / "BIx4" / name))).permute(0, 3, 1, 2)[None].float() / 255
        with torch.no_grad():
            frames_TCHW = network(low_NTCHW).frames_NTCHW[0].numpy()
        outputs = np.floor(np.clip(frames_TCHW.astype(float) * 255, 0, 255) + 0.5).transpose(0, 2, 3, 1)
        pairs = zip(outputs, read(vid4 / "GT" / name), strict=True)
        expected[name] = np.mean([scores(output, high, "y", 0) for output, high in pairs], axis=0)
    for found in (by_folder, by_file):
        assert list(found["quality"]) == ["bicubic", "network"]
        clips = found["quality"]["network"]["clips"]
        assert list(clips) == ["city", "walk"]
        for name, values in expected.items():
            # Gates are folded into weights: a pixel in a thousand may round otherwise.
            assert (clips[name]["psnr"], clips[name]["ssim"]) == pytest.approx(tuple(values), abs=2e-3)


def test_the_protocol_is_that_of_the_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("000", "011", "015", "020")
    found = evaluated(tmp_path, "--data", "reds4", "--path", tree(tmp_path / "REDS4", names, "sharp_bicubic"))
    assert (found["protocol"], found["comparison"]["channel"]) == ("reds4", "rgb")
    pairs = [
        pair
        for name in names
        for pair in zip(*(read(tmp_path / "REDS4" / of / name) for of in ("sharp_bicubic", "GT")), strict=True)
    ]
    psnr = np.mean([scores(enlarged(low), high, "rgb", 0)[0] for low, high in pairs])
    assert found["quality"]["bicubic"]["psnr"] == pytest.approx(psnr, abs=1e-6)
    said = capsys.readouterr().out
    assert "reds4: 4 clips, 8 frames compared in RGB (evaluate.protocol=reds4)" in said
    assert "low-resolution frames on disk (bi)" in said
    udm10 = tree(tmp_path / "UDM10", tuple(f"clip{index}" for index in range(10)), "BDx4", 1)
    found = evaluated(tmp_path, "--data", "udm10", "--path", udm10)
    assert (found["protocol"], found["comparison"]["channel"]) == ("udm10", "y")
    assert "low-resolution frames on disk (bd)" in capsys.readouterr().out


def test_only_the_middle_frame_of_vimeo90k_counts(vid4: Path, tmp_path: Path) -> None:
    root = tmp_path / "clips"
    for index in range(5):
        (root / "a").mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(index, *HIGH)).save(root / "a" / f"{index}.png")
    asked = ("--data", "folder", "--path", root)
    whole, middle = (evaluated(tmp_path, *asked, "--protocol", name) for name in ("full", "vimeo90k"))
    frames = whole["quality"]["bicubic"]["frames"]["a"]
    assert len(frames) == 5
    assert middle["quality"]["bicubic"]["frames"]["a"] == [frames[2]]
    assert evaluated(tmp_path, *asked, "--max-frames", 2)["quality"]["bicubic"]["frames"]["a"] == frames[:2]


def test_every_protocol_can_be_asked_for(vid4: Path, tmp_path: Path) -> None:
    for name in PROTOCOLS:
        assert evaluated(tmp_path, "--data", "folder", "--path", vid4 / "GT", "--protocol", name)["protocol"] == name


def test_a_folder_says_what_it_leaves_out(vid4: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluated(tmp_path, "--data", "folder", "--path", vid4 / "GT" / "city")
    (vid4 / "GT" / "list.txt").write_text("")
    evaluated(tmp_path, "--data", "folder", "--path", vid4 / "GT")
    said = capsys.readouterr().out
    assert "note: left out list.txt: neither frames nor videos" in said
    assert "low-resolution frames made (bicubic)" in said
    (vid4 / "GT" / "list.txt").unlink()


def test_nothing_but_the_asked_file_is_written(vid4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    main(["--data", "vid4", "--path", str(vid4), "--device", "cpu"])
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_compared_is_one_line(vid4: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--data", "vid4", "--path", vid4)
    weights = tmp_path / "net.pth"
    torch.save({"other": torch.zeros(2)}, weights)
    save_network(build(preset("basicvsr_uni_tiny").arguments), tmp_path / "net")
    for arguments, expected in (
        ((tmp_path / "gone", *asked), "no such file or folder"),
        ((weights, *asked), "a file of weights does not say of which network it is; add --network NAME"),
        ((weights, "--network", "basicvsr", *asked), "these weights are of another network"),
        ((tmp_path / "net", "--network", "basicvsr", *asked), "--network=basicvsr belongs to a file of weights"),
        ((tmp_path, *asked), "neither the folder of a finished job"),
        (("--data", "vid4", "--path", tmp_path), "data=vid4: the clips not found"),
        ((*asked, "--clips", "sea"), "--clips names the unknown clip 'sea'; there are 4: calendar,"),
        ((*asked, "--json", tmp_path), f"--json {tmp_path}: give the name of a file in a folder that is there"),
        ((*asked, "--json", tmp_path / "none" / "a.json"), "give the name of a file in a folder that is there"),
        ((*asked, "--channel", "rgb"), "--channel rgb contradicts --protocol vid4"),
        ((*asked, "--protocol", "full", "--crop", 20), "--crop 20 leaves less than 11x11 pixels"),
        ((*asked, "--max-frames", "-1"), "--max-frames must be"),
        ((*asked, "--scale", 2, "--low", "bd"), "--degradation bd_basicvsr"),
    ):
        assert expected in refusal(capsys, *arguments), arguments


def test_an_unreadable_frame_is_one_line_with_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tree(tmp_path / "Vid4")
    broken = root / "GT" / "foliage" / "00000001.png"
    broken.write_bytes(b"")
    assert refusal(capsys, "--data", "vid4", "--path", root).startswith(f"error: {broken}: cannot read this PNG (")


def test_a_network_of_scale_1_is_refused(vid4: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = preset("basicvsr_uni_tiny").arguments
    network = build(type(arguments)(**{**vars(arguments), "upscale_factors": ()}))
    save_network(network, tmp_path / "net")
    assert "restores videos of full size" in refusal(capsys, tmp_path / "net", "--data", "vid4", "--path", vid4)


def test_of_many_clips_their_mean_alone_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    from vsrprune.results.protocols import Comparison
    from vsrprune.results.result import Quality

    for count in (MOST_CLIPS, MOST_CLIPS + 1):
        clips = {f"clip{index}": {"psnr": 20.0, "ssim": 0.5} for index in range(count)}
        two = [Quality(psnr, 0.5, clips, {name: [psnr] for name in clips}) for psnr in (20.0, 21.5)]
        quality = dict(zip(("bicubic", "network"), two, strict=True))
        compared = SetQuality("folder", "full", Comparison("y", 2), "made (bicubic)", "net", quality)
        print_compared(compared, Console())
        said = capsys.readouterr().out
        assert ("clip7 " in said) == (count == MOST_CLIPS)
        assert f"network: net; folder: {count} clips, {count} frames compared in luma (Y), 2 border pixels" in said
        assert "+1.500" in said
