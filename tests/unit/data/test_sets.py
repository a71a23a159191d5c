"""Published data sets: miniature trees in the real layouts, and one line about what is missing, and where."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vsrprune.config.job import Config
from vsrprune.data.degradation import degrade
from vsrprune.data.reading import Notes, Reading, read_clip, read_clips
from vsrprune.data.sets.layout import FoundClips
from vsrprune.data.sets.reds import REDS4
from vsrprune.data.sets.table import SETS, find_set
from vsrprune.data.sources import sizes_identity
from vsrprune.errors import UserError
from vsrprune.jobs.planning import plan_job

HIGH, LOW, SCALE = (16, 24), (4, 6), 4


def png(file: Path, size: tuple[int, int], seed: int) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(file)
    return file


def folder(path: Path, size: tuple[int, int], names: list[str], seed: int = 0) -> None:
    for index, name in enumerate(names):
        png(path / name, size, seed + index)


EIGHT_DIGITS = [f"{index:08d}.png" for index in range(3)]
SEPTUPLET = [f"im{index}.png" for index in range(1, 8)]
VID4 = ("calendar", "city", "foliage", "walk")
UDM10 = ("archpeople", "archwall", "auditorium", "band", "caffe", "camera", "clap", "lake", "photography", "polyflow")


def reds_tree(root: Path, regrouped: bool = True, low: bool = True) -> Path:
    """270 clips; the frames are hard links to those of the first."""
    trees = [("train_sharp", "val_sharp", HIGH)]
    trees += [("train_sharp_bicubic/X4", "val_sharp_bicubic/X4", LOW)] if low else []
    for train, val, size in trees:
        first = root / train / "000"
        folder(first, size, EIGHT_DIGITS)
        for index in range(1, 270):
            official = not regrouped and index >= 240
            target = root / (val if official else train) / f"{index - 240 if official else index:03d}"
            target.mkdir(parents=True)
            for name in EIGHT_DIGITS:
                os.link(first / name, target / name)
    return root


def vimeo_tree(root: Path, low: str = "BIx4") -> Path:
    names = {"train": ["00001/0001", "00001/0002", "00002/0001"], "test": ["00003/0001", "00003/0007"]}
    for part, clips in names.items():
        path = root / "vimeo_septuplet" / f"sep_{part}list.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(clips) + "\n\n")  # the real list of test clips ends in an empty line
        for seed, clip in enumerate(clips):
            folder(root / "vimeo_septuplet" / "sequences" / clip, HIGH, SEPTUPLET, seed)
            folder(root / low / clip, LOW, SEPTUPLET, 50 + seed)
    return root


def tree_of(root: Path, names: tuple[str, ...], high: str = "GT", low: str = "BIx4") -> Path:
    for seed, name in enumerate(names):
        folder(root / high / name, HIGH, EIGHT_DIGITS, seed)
        folder(root / low / name, LOW, EIGHT_DIGITS, 50 + seed)
    return root


def udm10_as_published(root: Path) -> Path:
    for seed, name in enumerate(UDM10):
        folder(root / name / "truth", HIGH, EIGHT_DIGITS, seed)
        folder(root / name / "blur4", LOW, EIGHT_DIGITS, 50 + seed)
    return root


def complaint(name: str, root: Path, low: str = "bi") -> str:
    with pytest.raises(UserError) as caught:
        find_set(name, "data.path", str(root), low, SCALE)
    message = str(caught.value)
    assert "\n" not in message
    return message


def names(found: FoundClips) -> tuple[list[str], list[str]]:
    return [clip.name for clip in found.train], [clip.name for clip in found.val]


def low_folders(found: FoundClips) -> set[Path]:
    return {clip.low_files[0].parent for clip in (*found.train, *found.val)}


@pytest.mark.parametrize("layout", [lambda root: tree_of(root, UDM10, low="BDx4"), udm10_as_published])
def test_folders_and_files_of_the_system_are_no_clips_and_no_frames(
    tmp_path: Path, layout: Callable[[Path], Path]
) -> None:
    root = layout(tmp_path / "UDM10")
    before = find_set("udm10", "data.path", str(root), "bd", SCALE)
    for name in (".thumbnails", "__MACOSX"):
        folder(root / "GT" / name if (root / "GT").is_dir() else root / name / "truth", HIGH, EIGHT_DIGITS)
    (before.val[0].files[0].parent / "._00000000.png").write_bytes(b"resource fork")
    found = find_set("udm10", "data.path", str(root), "bd", SCALE)
    assert names(found) == ([], list(UDM10))
    assert found == before


def test_frames_of_a_published_set_are_png_alone(tmp_path: Path) -> None:
    root = tree_of(tmp_path, VID4)
    for name in EIGHT_DIGITS:
        (root / "GT/city" / name).rename((root / "GT/city" / name).with_suffix(".jpg"))
    assert "clip city is missing; PNG frames are expected" in complaint("vid4", root)


# REDS


@pytest.mark.parametrize("regrouped", [True, False])
def test_reds_has_266_clips_to_train_on_and_reds4_is_never_among_them(tmp_path: Path, regrouped: bool) -> None:
    found = find_set("reds", "data.path", str(reds_tree(tmp_path, regrouped)), "bi", SCALE)
    train, val = names(found)
    assert len(train) == 266
    assert val == ["000", "011", "015", "020"]
    assert not set(train) & set(val)
    assert {"001", "239", "240", "269"} <= set(train)
    last = found.train[-1]
    assert last.files[0] == tmp_path / ("train_sharp/269" if regrouped else "val_sharp/029") / "00000000.png"
    assert last.low_files[0].parents[1].name == "X4"
    assert last.low_files[0].parent.name == last.files[0].parent.name
    assert found.notes == ()


def test_the_official_archives_unpack_into_folders_of_their_own(tmp_path: Path) -> None:
    reds_tree(tmp_path / "whole", regrouped=False)
    for part in ("train", "val"):
        (tmp_path / part).mkdir()
        for tree in (f"{part}_sharp", f"{part}_sharp_bicubic"):
            shutil.move(tmp_path / "whole" / tree, tmp_path / part / tree)
    found = find_set("reds", "data.path", str(tmp_path), "bi", SCALE)
    assert len(found.train) == 266
    assert found.train[-1].low_files[0] == tmp_path / "val/val_sharp_bicubic/X4/029/00000000.png"


def test_missing_clips_of_reds_are_named_with_their_places(tmp_path: Path) -> None:
    reds_tree(tmp_path, regrouped=False)
    for clip in ("train_sharp/011", "train_sharp/100", "val_sharp/003"):
        shutil.rmtree(tmp_path / clip)
    assert complaint("reds", tmp_path) == (
        f"data=reds: 3 of 270 clips are missing: 011, 100, 243; looked in {tmp_path}/train_sharp, {tmp_path}/val_sharp"
    )


def test_an_incomplete_download_of_reds_is_found(tmp_path: Path) -> None:
    reds_tree(tmp_path)
    (tmp_path / "train_sharp/007/00000002.png").unlink()
    (tmp_path / "train_sharp_bicubic/X4/007/00000002.png").unlink()
    assert f"clip 007 has 2 frames in {tmp_path}/train_sharp/007, but clip 000 has 3" in complaint("reds", tmp_path)
    (tmp_path / "train_sharp/005/00000001.png").unlink()
    message = complaint("reds", tmp_path)
    assert message == (f"data=reds: clip 005 has a gap after frame 0; the next one in {tmp_path}/train_sharp/005 is 2")


def test_low_resolution_frames_of_reds_must_be_as_many(tmp_path: Path) -> None:
    reds_tree(tmp_path)
    (tmp_path / "train_sharp_bicubic/X4/003/00000002.png").unlink()
    assert complaint("reds", tmp_path) == (
        f"data=reds: clip 003 has 2 low-resolution frames in {tmp_path}/train_sharp_bicubic/X4/003, but 3 in"
        f" {tmp_path}/train_sharp/003"
    )
    shutil.rmtree(tmp_path / "train_sharp_bicubic/X4/001")
    assert f"clip 001 is missing; PNG frames are expected in {tmp_path}/train_sharp_bicubic/X4/001" in complaint(
        "reds", tmp_path
    )


def test_low_resolution_frames_are_made_where_there_are_none(tmp_path: Path) -> None:
    found = find_set("reds", "data.path", str(reds_tree(tmp_path, low=False)), "bi", SCALE)
    (note,) = found.notes
    assert f"looked for {tmp_path}/train_sharp_bicubic/X4, {tmp_path}/train/train_sharp_bicubic/X4" in note
    clips = read_clips(found.train[:1], found.val[:1], Reading(scale=SCALE))
    assert clips.train[0].low_TCHW.shape == (3, 3, *LOW)


def test_reds_has_no_blurred_frames(tmp_path: Path) -> None:
    for name in ("reds", "reds4"):
        assert "data.low=bd is given" in complaint(name, reds_tree(tmp_path / name, low=False), "bd")


@pytest.mark.parametrize("layout", ["GT and sharp_bicubic", "GT and BIx4", "whole"])
def test_reds4_alone(tmp_path: Path, layout: str) -> None:
    if layout == "whole":
        reds_tree(tmp_path)
    else:
        tree_of(tmp_path, REDS4, low=layout.split()[-1])
    found = find_set("reds4", "data.path", str(tmp_path), "bi", SCALE)
    assert names(found) == ([], list(REDS4))
    assert len(low_folders(found)) == 4


@pytest.mark.parametrize("layout", ["sharp_bicubic", "BIx4"])
def test_at_scale_1_the_truth_alone_is_read(tmp_path: Path, layout: str) -> None:
    """A folder of low-resolution frames that names no scale is not taken for one of full-size inputs."""
    found = find_set("reds4", "data.path", str(tree_of(tmp_path, REDS4, low=layout)), "bi", 1)
    assert names(found) == ([], list(REDS4))
    assert not any(clip.low_files for clip in found.val)
    assert found.notes == ()
    for clip in read_clips([], found.val, Reading(scale=1)).val:
        assert torch.equal(clip.low_TCHW, clip.high_TCHW)


# Vimeo-90K


@pytest.mark.parametrize(
    ("low", "tree"),
    [
        ("bi", "BIx4"),
        ("bi", "vimeo_septuplet_matlabLRx4/sequences"),
        ("bd", "BDx4"),
        ("bd", "vimeo_septuplet_BDLRx4/sequences"),
    ],
)
def test_vimeo90k_by_its_lists(tmp_path: Path, low: str, tree: str) -> None:
    found = find_set("vimeo90k", "data.path", str(vimeo_tree(tmp_path, tree)), low, SCALE)
    assert names(found) == (["00001_0001", "00001_0002", "00002_0001"], ["00003_0001", "00003_0007"])
    clip = found.val[1]
    assert list(clip.files) == [tmp_path / f"vimeo_septuplet/sequences/00003/0007/{name}" for name in SEPTUPLET]
    assert list(clip.low_files) == [tmp_path / tree / "00003/0007" / name for name in SEPTUPLET]
    assert clip.files[2:4] == (clip.files[2], clip.files[3])
    clips = read_clips(found.train, found.val, Reading(scale=SCALE))
    expected = np.asarray(Image.open(tmp_path / tree / "00003/0007/im4.png"))
    assert torch.equal(clips.val[1].low_TCHW[3].permute(1, 2, 0), torch.from_numpy(expected.copy()))


def test_blurred_frames_are_made_where_there_are_none(tmp_path: Path) -> None:
    data = {"name": "vimeo90k", "path": str(vimeo_tree(tmp_path / "vimeo", "BIx4"))}
    made = job(tmp_path, low="bd", **data)
    assert made.sources is not None
    assert not any(clip.low_files for clip in (*made.sources.train, *made.sources.val))
    assert any("no low-resolution frames on disk" in note and "BDx4" in note for note in made.sources.notes)
    assert made.config.data.shrinking == "bd_basicvsr"
    clip = read_clips([], made.sources.val, Reading(scale=SCALE, degradation=made.config.data.shrinking)).val[0]
    assert torch.equal(clip.low_TCHW, degrade(clip.high_TCHW, SCALE, "bd_basicvsr"))
    others = [job(tmp_path, **data), job(tmp_path, low="bd", degradation="bd_duf", **data)]
    assert [other.config.data.shrinking for other in others] == ["bicubic", "bd_duf"]
    assert len({other.stage("pretrain").key for other in (made, *others)}) == 3


def test_what_vimeo90k_lacks_is_named(tmp_path: Path) -> None:
    vimeo_tree(tmp_path)
    (tmp_path / "vimeo_septuplet/sequences/00001/0002/im5.png").unlink()
    found = find_set("vimeo90k", "data.path", str(tmp_path), "bi", SCALE)
    with pytest.raises(UserError, match=r"sequences/00001/0002/im5\.png: this frame of the clip 00001_0002 is missing"):
        sizes_identity(found.train)
    (tmp_path / "vimeo_septuplet/sep_testlist.txt").write_text("00003/0001\n00001/0002\n")
    assert "00001_0002 and 0 more clips are in both" in complaint("vimeo90k", tmp_path)
    (tmp_path / "vimeo_septuplet/sep_testlist.txt").write_text("00003-0001\n")
    assert "sep_testlist.txt: lines such as 00001/0001 are expected; got '00003-0001'" in complaint(
        "vimeo90k", tmp_path
    )
    (tmp_path / "vimeo_septuplet/sep_trainlist.txt").unlink()
    assert complaint("vimeo90k", tmp_path) == (
        "data=vimeo90k: the list sep_trainlist.txt not found; looked for"
        f" {tmp_path}/vimeo_septuplet/sep_trainlist.txt, {tmp_path}/sep_trainlist.txt"
    )
    shutil.rmtree(tmp_path / "vimeo_septuplet")
    assert f"looked for {tmp_path}/vimeo_septuplet/sequences, {tmp_path}/sequences, {tmp_path}/GT" in complaint(
        "vimeo90k", tmp_path
    )


def test_a_list_that_was_edited_elsewhere_is_read_or_named(tmp_path: Path) -> None:
    """Editors of Windows put a mark before the first line; a clip named twice counts once."""
    file = vimeo_tree(tmp_path) / "vimeo_septuplet/sep_trainlist.txt"
    file.write_bytes(b"\xef\xbb\xbf00001/0001\r\n00001/0002\r\n00001/0001\r\n")
    assert names(find_set("vimeo90k", "data.path", str(tmp_path), "bi", SCALE))[0] == ["00001_0001", "00001_0002"]
    file.write_bytes(b"\xff\xfe\x000")
    assert "sep_trainlist.txt: lines such as 00001/0001 are expected" in complaint("vimeo90k", tmp_path)


# Vid4 and UDM10


@pytest.mark.parametrize(("low", "tree"), [("bi", "BIx4"), ("bd", "BDx4")])
def test_vid4(tmp_path: Path, low: str, tree: str) -> None:
    found = find_set("vid4", "data.path", str(tree_of(tmp_path, VID4, low=tree)), low, SCALE)
    assert names(found) == ([], list(VID4))
    assert low_folders(found) == {tmp_path / tree / name for name in VID4}
    shutil.rmtree(tmp_path / "GT" / "foliage")
    assert complaint("vid4", tmp_path, low) == (
        f"data=vid4: 1 of 4 clips are missing: foliage; looked in {tmp_path}/GT"
    )


@pytest.mark.parametrize("layout", ["BasicSR", "regrouped", "published"])
def test_udm10(tmp_path: Path, layout: str) -> None:
    if layout == "published":
        udm10_as_published(tmp_path)
    else:
        high, low = {"BasicSR": ("GT", "BDx4"), "regrouped": ("truth", "blur4")}[layout]
        tree_of(tmp_path, UDM10, high, low)
    found = find_set("udm10", "data.path", str(tmp_path), "bd", SCALE)
    assert names(found) == ([], list(UDM10))
    assert len(low_folders(found)) == 10
    clip = read_clip(found.val[3], Reading(scale=SCALE), Notes())
    assert clip is not None
    assert clip.low_TCHW.shape == (3, 3, *LOW)
    gone = found.val[9].files[0].parent
    shutil.rmtree(gone.parent if layout == "published" else gone)
    assert f"10 clips are expected in {tmp_path}" in complaint("udm10", tmp_path, "bd")
    assert "there are 9: archpeople" in complaint("udm10", tmp_path, "bd")


@pytest.mark.parametrize("name", SETS)
def test_a_folder_that_is_no_such_set_is_refused_with_the_places_looked_at(name: str, tmp_path: Path) -> None:
    assert str(tmp_path) in complaint(name, tmp_path)
    with pytest.raises(UserError, match=r"data\.path must be the folder of"):
        find_set(name, "data.path", "", "bi", SCALE)
    with pytest.raises(UserError, match=r"data\.train_path must be the folder of"):
        find_set(name, "data.train_path", str(tmp_path / "none"), "bi", SCALE)


# As a job plans them


def job(tmp_path: Path, **data):
    config = Config(store_dir=str(tmp_path / "store"))
    for name, value in data.items():
        setattr(config.data, name, value)
    return plan_job(config)


def keys(tmp_path: Path, **data) -> dict[str, str]:
    return {stage.stage: stage.key for stage in job(tmp_path, **data).stages}


def test_the_identity_holds_the_low_resolution_files(tmp_path: Path) -> None:
    root = vimeo_tree(tmp_path / "vimeo")
    before = keys(tmp_path, name="vimeo90k", path=str(root))
    shutil.copytree(root, tmp_path / "copy")
    assert keys(tmp_path, name="vimeo90k", path=str(tmp_path / "copy")) == before
    png(root / "BIx4/00001/0001/im3.png", (4, 5), 7)
    after = keys(tmp_path, name="vimeo90k", path=str(root))
    assert after["pretrain"] != before["pretrain"]
    assert keys(tmp_path, name="vimeo90k", path=str(tmp_path / "copy"), mirror=True)["pretrain"] != before["pretrain"]
    assert keys(tmp_path, name="vimeo90k", path=str(tmp_path / "copy"), cache=True) == before
    shutil.rmtree(tmp_path / "copy/BIx4")
    assert keys(tmp_path, name="vimeo90k", path=str(tmp_path / "copy"))["pretrain"] != before["pretrain"]


def test_held_out_clips_can_be_narrowed(tmp_path: Path) -> None:
    root = vimeo_tree(tmp_path / "vimeo")
    found = job(tmp_path, name="vimeo90k", path=str(root), val=["00003_0007"], train=["00002_0001"]).sources
    assert names(found) == (["00002_0001"], ["00003_0007"])
    with pytest.raises(UserError, match=r"data\.val names the unknown clip 'walk'; there are 2: 00003_0001, "):
        job(tmp_path, name="vimeo90k", path=str(root), val=["walk"])


def test_test_clips_are_compared_after_training_on_another_set(tmp_path: Path) -> None:
    vid4, vimeo = tree_of(tmp_path / "vid4", VID4), vimeo_tree(tmp_path / "vimeo")
    with pytest.raises(UserError, match=r"data=vid4 has test clips alone; add data\.train_set="):
        job(tmp_path, name="vid4", path=str(vid4))
    found = job(tmp_path, name="vid4", path=str(vid4), train_set="vimeo90k", train_path=str(vimeo)).sources
    assert names(found) == (["00001_0001", "00001_0002", "00002_0001"], list(VID4))
    found = job(tmp_path, name="vid4", path=str(vid4), train_set="folder", train_path=str(vid4 / "BIx4")).sources
    assert names(found) == (list(VID4), list(VID4))
    with pytest.raises(UserError, match="calendar is held out by data=vid4"):
        job(tmp_path, name="vid4", path=str(vid4), train_set="folder", train_path=str(vid4 / "GT"))


def test_what_a_folder_to_train_on_leaves_out_is_a_warning(tmp_path: Path) -> None:
    vid4 = tree_of(tmp_path / "vid4", VID4)
    (vid4 / "BIx4" / "walk" / "mask.bmp").write_bytes(b"")
    found = job(tmp_path, name="vid4", path=str(vid4), train_set="folder", train_path=str(vid4 / "BIx4")).sources
    assert found is not None
    assert found.warnings == ("walk: left out mask.bmp: pictures that are neither PNG nor JPEG",)


def test_training_and_comparison_share_their_degradation(tmp_path: Path) -> None:
    vid4 = tree_of(tmp_path / "vid4", VID4, low="BDx4")
    own = job(tmp_path, name="vid4", low="bd", path=str(vid4), train_set="folder", train_path=str(vid4 / "BDx4"))
    assert own.sources is not None
    assert not any(clip.low_files for clip in own.sources.train)
    assert own.config.data.shrinking == "bd_basicvsr"
    vimeo = vimeo_tree(tmp_path / "vimeo", "BDx4")
    found = job(tmp_path, name="vid4", low="bd", path=str(vid4), train_set="vimeo90k", train_path=str(vimeo)).sources
    assert {folder.parts[-3] for folder in low_folders(found) if folder.name.isdigit()} == {"BDx4"}
