"""Transparency, orientation, colour profiles and other things that pictures bring with them, in PNGs and videos."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image, ImageCms
from videos import make_video, pictures, times

from vsrprune.data.doctor.doctor import DoctorSettings, examine_clip
from vsrprune.data.reading import Reading, read_clips, read_frames, read_picture
from vsrprune.data.sources import ClipSource
from vsrprune.data.video.footage import look_over
from vsrprune.data.video.writing import choose_encoding, open_writer
from vsrprune.errors import UserError

RATE = Fraction(25)
BLUE = (0, 128, 255)
# 200 and 100 of 255 over the blue: 200 x 100 / 255 = 78.4, 128 x 155 / 255 = 77.8, 255 x 155 / 255 = 155.
BLENDED, PLAIN = (78, 78, 155), (200, 0, 0)
TRANSPARENT = [  # file, encoder, pixel format, how far from the exact colours
    ("in.mov", "qtrle", "argb", 0),
    ("in.mov", "png", "rgba", 0),
    ("in.mkv", "ffv1", "bgra", 0),
    ("in.mov", "prores_ks", "yuva444p10le", 2),
    ("in.webm", "libvpx-vp9", "yuva420p", 2),
    ("in.webm", "libvpx", "yuva420p", 2),
    ("in.apng", "apng", "rgba", 0),
]


def half_transparent(alphas: list[int]) -> list[np.ndarray]:
    """Red pictures (32, 48, 4), whose left halves have an alpha each."""
    images = [np.full((32, 48, 4), (*PLAIN, 255), np.uint8) for _ in alphas]
    for image, alpha in zip(images, alphas, strict=True):
        image[:, :24, 3] = alpha
    return images


def encode(file: Path, codec: str, pixel_format: str, images: list[np.ndarray]) -> Path:
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"auto-alt-ref": "0"} if "vpx" in codec else {})
        stream.width, stream.height, stream.pix_fmt = 48, 32, pixel_format
        if file.suffix == ".webm":
            stream.metadata["alpha_mode"] = "1"
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgba").reformat(format=pixel_format, threads=1)
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file


def gif(file: Path, images: list[np.ndarray]) -> Path:
    """Pillow's own: a pixel of a GIF is opaque or not there."""
    frames = [Image.fromarray(image) for image in images]
    frames[0].save(file, save_all=True, append_images=frames[1:], duration=40, disposal=2)
    return file


def near(colour: Any, expected: tuple[int, int, int], off: int) -> bool:
    return int(np.abs(np.asarray(colour).astype(int) - expected).max()) <= off


# Transparency


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format", "off"), TRANSPARENT, ids=[f"{c} {f}" for _, c, f, _ in TRANSPARENT]
)
def test_a_transparent_video_is_refused_or_laid_over_a_background(
    tmp_path: Path, name: str, codec: str, pixel_format: str, off: int
) -> None:
    file = encode(tmp_path / name, codec, pixel_format, half_transparent([100] * 4))
    with pytest.raises(UserError, match=r"frame 0 is transparent in places; flatten it .* --background COLOUR"):
        look_over(file, RATE)
    frames = list(look_over(file, RATE, BLUE).read())
    assert [frame.pts * look_over(file, RATE, BLUE).time_base for frame in frames] == pytest.approx(
        [0, 0.04, 0.08, 0.12]
    )
    for frame in frames:
        assert near(frame.pixels_HW3[16, 6], BLENDED, off)
        assert near(frame.pixels_HW3[16, 40], PLAIN, off)


def test_a_gif_is_transparent_where_nothing_was_painted(tmp_path: Path) -> None:
    file = gif(tmp_path / "in.gif", half_transparent([0] * 3))
    with pytest.raises(UserError, match="frame 0 is transparent in places"):
        look_over(file, RATE)
    frames = list(look_over(file, RATE, BLUE).read())
    assert near(frames[0].pixels_HW3[16, 6], BLUE, 0)
    assert near(frames[0].pixels_HW3[16, 40], PLAIN, 0)


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format", "off"), TRANSPARENT, ids=[f"{c} {f}" for _, c, f, _ in TRANSPARENT]
)
def test_an_opaque_video_with_an_alpha_channel_is_a_video(
    tmp_path: Path, name: str, codec: str, pixel_format: str, off: int
) -> None:
    file = encode(tmp_path / name, codec, pixel_format, half_transparent([255] * 3))
    for frame in look_over(file, RATE).read():
        assert near(frame.pixels_HW3[16, 6], PLAIN, off)


def test_the_fourth_byte_of_uncompressed_avi_is_no_alpha(tmp_path: Path) -> None:
    file = encode(tmp_path / "in.avi", "rawvideo", "bgra", half_transparent([0] * 3))
    for background in (None, BLUE):
        frames = list(look_over(file, RATE, background).read())
        assert [near(frame.pixels_HW3[16, 6], PLAIN, 0) for frame in frames] == [True] * 3
    assert read_frames(ClipSource("clip", (file,))).shape == (3, 3, 32, 48)


@pytest.mark.parametrize(("name", "codec"), [("in.avi", "msrle"), ("in.avi", "zmbv"), ("in.mov", "png")])
def test_a_palette_is_no_transparency(tmp_path: Path, name: str, codec: str) -> None:
    palette = np.array([[255, *PLAIN], [255, *BLUE]] + [[255, 0, 0, 0]] * 254, np.uint8)  # alpha, red, green, blue
    places = np.zeros((32, 48), np.uint8)
    places[:, 24:] = 1
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "pal8"
        for index in range(3):
            frame = av.VideoFrame.from_ndarray((places, palette), format="pal8")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    frames = list(look_over(tmp_path / name, RATE).read())
    assert len(frames) == 3
    for frame in frames:
        assert near(frame.pixels_HW3[16, 6], PLAIN, 0)
        assert near(frame.pixels_HW3[16, 40], BLUE, 0)


def test_training_and_the_doctor_refuse_transparency_wherever_it_begins(tmp_path: Path) -> None:
    file = encode(tmp_path / "in.mkv", "ffv1", "bgra", half_transparent([255, 255, 254, 255]))
    source = ClipSource("clip", (file,))
    with pytest.raises(UserError, match=r"in\.mkv: frame 2 is transparent in places"):
        read_frames(source)
    found = examine_clip(source, "train", DoctorSettings(2, False, 2, 8, False, ("bicubic",))).findings
    (finding,) = [finding for finding in found if finding.severity == "error"]
    assert finding.where == str(file)
    assert "frame 2 is transparent" in finding.what


def test_transparency_that_begins_late_is_found_before_any_work(tmp_path: Path) -> None:
    images = half_transparent([255, 255, 254, 255])
    file = encode(tmp_path / "in.mkv", "ffv1", "bgra", images)
    with pytest.raises(UserError, match="frame 2 is transparent in places"):
        look_over(file, RATE)
    (tmp_path / "frames").mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "frames" / f"{index}.png")
    with pytest.raises(UserError, match=r"2\.png: the frame is transparent in places"):
        look_over(tmp_path / "frames", RATE)


def test_a_transparent_png_is_laid_over_a_background_by_the_same_rule(tmp_path: Path) -> None:
    Image.fromarray(half_transparent([100])[0]).save(tmp_path / "0.png")
    with pytest.raises(
        UserError, match=r"0\.png: the frame is transparent in places; flatten it .* --background COLOUR"
    ):
        look_over(tmp_path, RATE)
    frame = next(look_over(tmp_path, RATE, BLUE).read())
    assert (tuple(frame.pixels_HW3[16, 6]), tuple(frame.pixels_HW3[16, 40])) == (BLENDED, PLAIN)


# Orientation, profiles, animation


@pytest.mark.parametrize(("orientation", "turned"), [
    (1, lambda image: image),
    (2, lambda image: image[:, ::-1]),
    (3, lambda image: image[::-1, ::-1]),
    (6, lambda image: np.rot90(image, -1)),
    (8, lambda image: np.rot90(image)),
])  # fmt: skip
def test_pngs_stand_upright(tmp_path: Path, orientation: int, turned: Any) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    images = pictures(2, 10, 14)
    for index, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{index}.png", exif=exif)
    footage = look_over(tmp_path, RATE)
    assert (footage.height, footage.width) == turned(images[0]).shape[:2]
    for frame, image in zip(footage.read(), images, strict=True):
        np.testing.assert_array_equal(frame.pixels_HW3, turned(image))
    np.testing.assert_array_equal(read_picture(tmp_path / "1.png"), turned(images[1]))


def swapped_profile() -> bytes:
    """sRGB's profile with the primaries of red and green exchanged: its (200, 40, 40) is sRGB's (40, 200, 40)."""
    content = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (count,) = struct.unpack(">I", content[128:132])
    names = {bytes(content[place : place + 4]): place for place in range(132, 132 + 12 * count, 12)}
    red, green = names[b"rXYZ"], names[b"gXYZ"]
    content[red : red + 4], content[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(content)


def test_colours_of_another_profile_are_converted_to_srgb_and_said(tmp_path: Path) -> None:
    for index in range(2):
        image = Image.new("RGB", (14, 10), (200, 40, 40))
        image.save(tmp_path / f"{index}.png", icc_profile=swapped_profile())
    Image.new("RGB", (14, 10), (200, 40, 40)).save(tmp_path / "2.png")
    footage = look_over(tmp_path, RATE)
    assert footage.notes == (f"{tmp_path}: 2 frames have a colour profile; their colours are converted to sRGB",)
    colours = [frame.pixels_HW3[5, 5] for frame in footage.read()]
    assert near(colours[0], (40, 200, 40), 2)
    assert near(colours[1], (40, 200, 40), 2)
    assert near(colours[2], (200, 40, 40), 0)


def test_training_and_the_doctor_take_the_numbers_of_another_profile_and_say_so(tmp_path: Path) -> None:
    image = pictures(1, 32, 48)[0]
    Image.fromarray(image).save(tmp_path / "0.png", icc_profile=swapped_profile())
    source = ClipSource("walk", (tmp_path / "0.png",))
    read = read_clips([source], [source], Reading(scale=4))
    np.testing.assert_array_equal(read.train[0].high_TCHW[0].permute(1, 2, 0).numpy(), image)
    assert read.notes == ["clips walk, walk: colour profile ignored: numbers are taken for sRGB"]
    settings = DoctorSettings(4, False, 1, 4, False, ["bicubic"])
    assert any("colour profile ignored" in finding.what for finding in examine_clip(source, "train", settings).findings)
    (tmp_path / "0.png").write_bytes(b"no picture")
    assert [finding.severity for finding in examine_clip(source, "train", settings).findings] == ["error"]


def test_srgb_under_its_own_name_or_a_useless_profile_changes_nothing(tmp_path: Path) -> None:
    images = pictures(2)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for index, (image, profile) in enumerate(zip(images, (srgb, b"no profile"), strict=True)):
        Image.fromarray(image).save(tmp_path / f"{index}.png", icc_profile=profile)
    footage = look_over(tmp_path, RATE)
    assert footage.notes == ()
    for frame, image in zip(footage.read(), images, strict=True):
        np.testing.assert_array_equal(frame.pixels_HW3, image)


def test_an_animated_png_among_frames_is_one_frame_and_said(tmp_path: Path) -> None:
    first, *others = [Image.fromarray(image) for image in pictures(3)]
    first.save(tmp_path / "0.png", save_all=True, append_images=others, duration=100)
    footage = look_over(tmp_path, RATE)
    assert footage.frames == 1
    (note,) = footage.notes
    assert note.startswith(f"{tmp_path}: 1 frames are animated, such as 0.png, and only their first picture is taken")
    frames = list(look_over(tmp_path / "0.png", RATE).read())
    assert len(frames) == 3
    np.testing.assert_array_equal(frames[2].pixels_HW3, pictures(3)[2])


def test_hdr_metadata_that_an_output_of_8_bits_cannot_have_is_said(tmp_path: Path) -> None:
    parameters = (
        "log-level=none:hdr10=1:max-cll=1000,400:"
        "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
    )
    with av.open(str(tmp_path / "in.mkv"), "w") as container:
        stream = container.add_stream("libx265", rate=25, options={"x265-params": parameters})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p10le"
        for index, image in enumerate(pictures(2, 64, 64)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p10le", threads=1)
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    (note,) = look_over(tmp_path / "in.mkv", RATE).notes
    assert "HDR metadata (mastering display, content light level) is left out" in note
    assert look_over(make_video(tmp_path / "plain.mkv", pictures(2)), RATE).notes == ()


# Folders


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_unreadable_png_is_one_line_with_its_name(tmp_path: Path, place: int) -> None:
    for index, image in enumerate(pictures(3)):
        Image.fromarray(image).save(tmp_path / f"{index}.png")
    (tmp_path / f"{place}.png").write_bytes(b"")
    with pytest.raises(UserError, match=rf"{place}\.png: cannot read this PNG") as caught:
        look_over(tmp_path, RATE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("names", [("IMG_0.PNG", "IMG_0.png"), ("A.png", "a.png")])
def test_names_that_differ_by_letter_case_alone_do_not_overwrite_one_another(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    (tmp_path / "in").mkdir()
    for name, image in zip((*names, "z.png"), pictures(3), strict=True):
        Image.fromarray(image).save(tmp_path / "in" / name, format="PNG")
    footage, said = look_over(tmp_path / "in", RATE), []
    target = tmp_path / "out"
    with open_writer(target, choose_encoding(target, None, None), footage, (16, 24), said.append) as writer:
        for frame in footage.read():
            writer.write(frame)
    assert ["frames are numbered" in line for line in said] == [True]
    written = sorted(target.iterdir())
    assert [file.name for file in written] == ["00000000.png", "00000001.png", "00000002.png"]
    for file, frame in zip(written, footage.read(), strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(file)), frame.pixels_HW3)


def test_a_transparent_video_over_a_background_is_a_video(tmp_path: Path) -> None:
    file = encode(tmp_path / "in.mov", "qtrle", "argb", half_transparent([100] * 4))
    footage, target = look_over(file, RATE, BLUE), tmp_path / "out.mp4"
    with open_writer(target, choose_encoding(target, None, None), footage, (32, 48), print) as writer:
        for frame in footage.read():
            writer.write(frame)
    assert times(target) == pytest.approx([0, 0.04, 0.08, 0.12])
    assert near(next(look_over(target, RATE).read()).pixels_HW3[16, 6], BLENDED, 4)


@pytest.mark.parametrize("name", ["one.png", "one.jpg"])
def test_a_picture_by_itself_is_read_by_the_rules_of_pictures(tmp_path: Path, name: str) -> None:
    exif = Image.Exif()
    exif[274] = 6  # orientation: turned by 90 degrees
    image = Image.fromarray(np.repeat(np.uint8([[[250, 10, 10]], [[10, 10, 250]]]), 16, 0).repeat(24, 1))
    image.save(tmp_path / name, exif=exif)
    footage = look_over(tmp_path / name, RATE)
    assert (footage.is_video, footage.width, footage.height, footage.frames) == (False, 32, 24, 1)
    (frame,) = footage.read()
    np.testing.assert_array_equal(frame.pixels_HW3, read_picture(tmp_path / name))
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(UserError, match="16-bit"):
        look_over(tmp_path / "deep.png", RATE)


def test_the_further_pictures_of_a_jpeg_are_no_animation(tmp_path: Path) -> None:
    one, two = (Image.fromarray(image) for image in pictures(2))
    one.save(tmp_path / "0.jpg", "MPO", save_all=True, append_images=[two])
    assert look_over(tmp_path, RATE).notes == ()
    assert look_over(tmp_path / "0.jpg", RATE).frames == 1


def test_what_a_folder_of_frames_leaves_out_is_said(tmp_path: Path) -> None:
    for name in ("0.png", "1.png", "4.png", "2.bmp"):
        Image.fromarray(pictures(1)[0]).save(tmp_path / name)
    (tmp_path / "3.png").symlink_to("nowhere")
    notes = look_over(tmp_path, RATE).notes
    assert [note.split(f"{tmp_path}: ")[1] for note in notes] == [
        "left out 3.png: links to nothing",
        "left out 2.bmp: pictures that are neither PNG nor JPEG",
        "the numbers jump from 1.png to 4.png; these frames count as neighbours",
    ]
