"""Frames out of real PNG and video files; what cannot be read is refused with the file's name."""

import io
import struct
import warnings
import zlib

import av
import numpy as np
import pytest
import torch
from PIL import Image
from videos import make_video, pictures

from vsrprune.data.clips import Clip, check_clips, make_clip
from vsrprune.data.degradation import bicubic_uint8
from vsrprune.data.reading import Notes, Reading, read_clips, read_frames
from vsrprune.data.sources import ClipSource
from vsrprune.data.video.colour import to_rgb
from vsrprune.data.video.decoding import decoded
from vsrprune.errors import UserError


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def png_source(folder, *images, name="walk"):
    files = []
    for index, image in enumerate(images):
        files.append(folder / f"{index:04d}.png")
        Image.fromarray(image).save(files[-1])
    return ClipSource(name, tuple(files))


def png_bytes(image):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "png")
    return stream.getvalue()


def sixteen_bit_png(channels):
    """A 4x4 PNG with two bytes per sample and opaque alpha, which Pillow cannot write; colour types of RFC 2083."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixel = [1000, 2000, 3000][: channels - 1 if channels % 2 == 0 else channels]
    pixel += [0xFFFF] * (channels % 2 == 0)
    row = b"\0" + struct.pack(f">{4 * channels}H", *4 * pixel)
    header = struct.pack(">IIBBBBB", 4, 4, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(4 * row)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def write_video(path, images, codec="mpeg4", pixels="yuv420p", options=None):
    height, width, _ = images[0].shape
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=24)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return ClipSource(path.stem, (path,))


def refusal(source, **options):
    with pytest.raises(UserError) as caught:
        read_frames(source, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def outcome(source):
    """The frames and no message, or no frames and the refusal."""
    try:
        return read_frames(source), None
    except UserError as error:
        return None, str(error)


# PNG


def test_rgb_frames_are_read_as_they_are(tmp_path):
    images = [noise(6, 8, 3, seed=seed) for seed in range(3)]
    frames_TCHW = read_frames(png_source(tmp_path, *images))
    assert frames_TCHW.dtype == torch.uint8
    assert frames_TCHW.shape == (3, 3, 6, 8)
    assert (frames_TCHW.permute(0, 2, 3, 1).numpy() == np.stack(images)).all()


def test_grey_frames_become_rgb(tmp_path):
    grey = noise(6, 8)
    frames_TCHW = read_frames(png_source(tmp_path, grey))
    assert (frames_TCHW.numpy() == np.broadcast_to(grey, (1, 3, 6, 8))).all()


def test_opaque_alpha_is_dropped(tmp_path):
    image = noise(6, 8, 4)
    image[..., 3] = 255
    frames_TCHW = read_frames(png_source(tmp_path, image))
    assert (frames_TCHW[0].permute(1, 2, 0).numpy() == image[..., :3]).all()
    grey_alpha = np.stack((image[..., 0], image[..., 3]), axis=-1)
    frames_TCHW = read_frames(png_source(tmp_path, grey_alpha))
    assert (frames_TCHW.numpy() == np.broadcast_to(image[..., 0], (1, 3, 6, 8))).all()


@pytest.mark.parametrize("channels", [2, 4])
def test_transparent_frames_are_refused_by_name(tmp_path, channels):
    opaque = np.full((6, 8, channels), 255, dtype=np.uint8)
    transparent = opaque.copy()
    transparent[3, 4, -1] = 254
    message = refusal(png_source(tmp_path, opaque, transparent))
    assert message.startswith(str(tmp_path / "0001.png"))
    assert "transparent" in message


@pytest.mark.parametrize("mode", ["P", "RGB", "L"])
def test_transparent_colours_are_refused_by_name(tmp_path, mode):
    file = tmp_path / "0000.png"  # one colour is declared transparent, in a chunk of its own
    Image.new(mode, (8, 6)).save(file, transparency=(0, 0, 0) if mode == "RGB" else 0)
    assert "transparent" in refusal(ClipSource("walk", (file,)))


@pytest.mark.parametrize("mode", ["P", "RGB", "L"])
def test_a_transparent_colour_that_no_pixel_has_is_accepted(tmp_path, mode):
    file = tmp_path / "0000.png"
    image = Image.new(mode, (8, 6))
    if mode == "P":
        image.putpalette([10, 20, 30, 40, 50, 60])
    image.save(file, transparency=(1, 2, 3) if mode == "RGB" else 1)
    expected = [10, 20, 30] if mode == "P" else [0, 0, 0]
    assert read_frames(ClipSource("walk", (file,)))[0, :, 0, 0].tolist() == expected


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bit_frames_are_refused_by_name(tmp_path, channels):
    file = tmp_path / "deep.png"
    file.write_bytes(sixteen_bit_png(channels))
    message = refusal(ClipSource("walk", (file,)))
    assert message.startswith(str(file))
    assert "16-bit" in message


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "flipped"])
def test_a_corrupt_png_is_named(tmp_path, damage):
    source = png_source(tmp_path, noise(16, 16, 3), noise(16, 16, 3))
    good = source.files[1].read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 0xFF
    bad = {"empty": b"", "text": b"not a picture", "cut": good[: len(good) // 2], "flipped": bytes(flipped)}
    source.files[1].write_bytes(bad[damage])
    assert refusal(source).startswith(f"{source.files[1]}: cannot read this PNG")


def test_a_png_cut_anywhere_is_refused_or_whole(tmp_path):
    image = noise(4, 4, 3)
    good = png_bytes(image)
    file = tmp_path / "cut.png"
    for length in range(len(good)):
        file.write_bytes(good[:length])
        if length <= good.rindex(b"IDAT") + 4:
            assert refusal(ClipSource("cut", (file,))).startswith(str(file))
            continue
        frames_TCHW, message = outcome(ClipSource("cut", (file,)))
        if frames_TCHW is None:
            assert message.startswith(str(file))
        else:  # the pixels are complete, only what closes the file is missing
            assert (frames_TCHW[0].permute(1, 2, 0).numpy() == image).all()


def test_a_png_with_a_short_header_is_named(tmp_path):
    data = bytearray(png_bytes(noise(4, 4, 3)))
    data[11] = 5  # the length of IHDR, 13
    file = tmp_path / "header.png"
    file.write_bytes(data)
    assert refusal(ClipSource("walk", (file,))).startswith(str(file))


def test_reading_warns_about_nothing(tmp_path):
    """Pillow's arrays are read-only; torch would warn about sharing their memory."""
    source = png_source(tmp_path, noise(4, 4, 3))
    once = not torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            frames_TCHW = read_frames(source)
    finally:
        torch.set_warn_always(not once)
    assert len(frames_TCHW) == 1


# Video


def test_video_frames_are_exact_for_a_lossless_codec(tmp_path):
    images = [noise(32, 48, 3, seed=seed) for seed in range(4)]
    frames_TCHW = read_frames(write_video(tmp_path / "sea.mkv", images, codec="ffv1", pixels="bgr0"))
    assert frames_TCHW.dtype == torch.uint8
    assert (frames_TCHW.permute(0, 2, 3, 1).numpy() == np.stack(images)).all()


def test_mp4_frames_have_the_right_colours(tmp_path):
    colours = [(200, 40, 40), (40, 200, 40), (40, 40, 200)]
    images = [np.broadcast_to(np.uint8(colour), (32, 48, 3)).copy() for colour in colours]
    frames_TCHW = read_frames(write_video(tmp_path / "sea.mp4", images))
    assert frames_TCHW.shape == (3, 3, 32, 48)
    means = frames_TCHW.float().mean(dim=(2, 3)).numpy()
    assert np.abs(means - np.array(colours)).max() < 8


def test_video_is_converted_as_exactly_as_when_it_is_upscaled(tmp_path):
    path = make_video(tmp_path / "clip.mp4", pictures(2, 32, 48), options={"crf": "0"})
    expected = np.stack([to_rgb(frame) for frame in decoded(path)])
    read = read_frames(ClipSource("clip", (path,))).permute(0, 2, 3, 1).numpy()
    assert (read == expected).all()


@pytest.mark.parametrize("content", [b"", b"not a video", None])
def test_a_broken_mp4_is_named(tmp_path, content):
    source = write_video(tmp_path / "sea.mp4", [noise(32, 48, 3, seed=seed) for seed in range(6)])
    data = source.files[0].read_bytes()
    source.files[0].write_bytes(data[: len(data) // 2] if content is None else content)
    assert refusal(source).startswith(f"{source.files[0]}: cannot decode this video")


def cut_video(path, missing, **options):
    """A video of six frames, cut off so many bytes before its fourth frame ends."""
    source = write_video(path, [noise(32, 48, 3, seed=seed) for seed in range(6)], **options)
    assert len(read_frames(source)) == 6
    with av.open(str(path)) as container:
        ends = sorted(packet.pos + packet.size for packet in container.demux(video=0) if packet.size)
    path.write_bytes(path.read_bytes()[: ends[3] - missing])
    return source


INDEX_FIRST = {"movflags": "faststart"}  # so that the frames before the cut can be found


@pytest.mark.parametrize("missing", [0, 1, 100])
def test_an_mp4_that_lost_its_end_is_named(tmp_path, missing):
    source = cut_video(tmp_path / "sea.mp4", missing, options=INDEX_FIRST)
    assert refusal(source).startswith(str(source.files[0]))


@pytest.mark.parametrize("missing", [0, 100])
def test_an_mkv_that_lost_its_end_is_named(tmp_path, missing):
    source = cut_video(tmp_path / "sea.mkv", missing, codec="ffv1", pixels="bgr0")
    assert refusal(source).startswith(str(source.files[0]))


def test_a_file_without_pictures_is_named(tmp_path):
    file = tmp_path / "sound.mp4"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert refusal(ClipSource("sound", (file,))) == f"{file}: no video stream in this file"


# Both


def test_frames_of_different_sizes_are_refused_with_the_file(tmp_path):
    source = png_source(tmp_path, noise(6, 8, 3), noise(6, 8, 3), noise(7, 8, 3))
    message = refusal(source)
    assert message.startswith(f"{source.files[2]}: the frame is 8x7")
    assert "walk began with 8x6" in message


def test_max_frames_takes_the_first_ones_and_reads_no_further(tmp_path):
    images = [noise(32, 48, 3, seed=seed) for seed in range(4)]
    video = write_video(tmp_path / "sea.mkv", images, codec="ffv1", pixels="bgr0")
    frames = png_source(tmp_path, *images)
    frames.files[3].write_bytes(b"broken")
    for source in (video, frames):
        frames_TCHW = read_frames(source, max_frames=3)
        assert (frames_TCHW.permute(0, 2, 3, 1).numpy() == np.stack(images[:3])).all()
    assert len(read_frames(video, max_frames=9)) == 4


def test_halving_averages_areas_by_hand(tmp_path):
    image = np.zeros((5, 7, 3), dtype=np.uint8)  # the odd row and column are dropped
    image[:2, :2, 0] = [[10, 20], [30, 40]]  # 25
    image[:2, 2:4, 0] = [[0, 0], [1, 1]]  # 0.5, rounded up
    image[:2, 4:6, 0] = [[0, 0], [0, 1]]  # 0.25
    image[2:4, :2, 1] = 255
    image[4:], image[:, 6:] = 200, 200
    frames_TCHW = read_frames(png_source(tmp_path, image), halve=True)
    assert frames_TCHW.dtype == torch.uint8
    assert frames_TCHW[0, 0].tolist() == [[25, 1, 0], [0, 0, 0]]
    assert frames_TCHW[0, 1].tolist() == [[0, 0, 0], [255, 0, 0]]
    assert frames_TCHW[0, 2].tolist() == [[0, 0, 0], [0, 0, 0]]


def test_read_clips_passes_its_arguments_on_and_notes_crops(tmp_path):
    (tmp_path / "walk").mkdir()
    walk = png_source(tmp_path / "walk", *[noise(24, 34, 3, seed=seed) for seed in range(3)])
    sea = write_video(tmp_path / "sea.mp4", [noise(32, 48, 3, seed=seed) for seed in range(3)])
    clips = read_clips([walk], [sea], Reading(scale=4, max_frames=2, halve=True))
    assert [clip.name for clip in (*clips.train, *clips.val)] == ["walk", "sea"]
    assert clips.train[0].high_TCHW.shape == (2, 3, 12, 16)
    assert clips.val[0].low_TCHW.shape == (2, 3, 4, 6)
    assert list(clips.notes) == ["clip walk: frames cropped from 17x12 to 16x12, a multiple of the scale 4"]


def test_low_resolution_frames_are_read_where_they_exist(tmp_path):
    for name in ("high", "low"):
        (tmp_path / name).mkdir()
    high = png_source(tmp_path / "high", *[noise(16, 24, 3, seed=seed) for seed in range(3)])
    low = png_source(tmp_path / "low", *[noise(4, 6, 3, seed=9 + seed) for seed in range(3)])
    source = ClipSource("walk", high.files, low.files)
    (clip,) = read_clips([source], [], Reading(scale=4, max_frames=2)).train
    assert torch.equal(clip.low_TCHW, read_frames(low)[:2])
    assert torch.equal(clip.high_TCHW, read_frames(high)[:2])


def test_low_resolution_frames_of_another_size_are_refused(tmp_path):
    for name in ("high", "low"):
        (tmp_path / name).mkdir()
    high = png_source(tmp_path / "high", noise(16, 24, 3))
    low = png_source(tmp_path / "low", noise(4, 7, 3))
    with pytest.raises(UserError) as caught:
        read_clips([ClipSource("walk", high.files, low.files)], [], Reading(scale=4))
    assert str(caught.value) == ("clip walk: its low-resolution frames are 1 of 7x4, but 1/4 of the others is 1 of 6x4")


def damaged_clip(folder, name):
    (folder / name).mkdir()
    source = png_source(folder / name, *[noise(16, 16, 3, seed=seed) for seed in range(3)], name=name)
    content = source.files[1].read_bytes()
    source.files[1].write_bytes(content[: len(content) // 2])
    return source


def test_clips_that_cannot_be_read_are_left_out_and_listed_if_asked_for(tmp_path):
    (tmp_path / "good").mkdir()
    good = png_source(tmp_path / "good", noise(16, 16, 3), name="good")
    bad = [damaged_clip(tmp_path, name) for name in ("bad", "worse")]
    with pytest.raises(UserError, match=r"bad/0001\.png"):
        read_clips([good, *bad], [good], Reading(scale=4))
    clips = read_clips([good, *bad], [good], Reading(scale=4, skip_errors=True))
    assert [clip.name for clip in clips.train] == ["good"]
    (note,) = clips.notes
    assert note.startswith("2 clips left out, since they cannot be read: ")
    assert all(str(source.files[1]) in note for source in bad)


def test_what_is_said_of_many_clips_is_one_line():
    notes = Notes()
    for index in range(266):
        notes.add(f"c{index}", "cropped")
    notes.add("c7", "interlaced")
    assert notes.lines() == ["266 clips (c0, c1, c2, ...): cropped", "clip c7: interlaced"]


# make_clip and check_clips


def test_make_clip_crops_to_a_multiple_of_the_scale_and_says_so():
    frames_TCHW = torch.from_numpy(noise(2, 3, 19, 22))
    clip, note = make_clip("walk", frames_TCHW, 4)
    assert note == "frames cropped from 22x19 to 20x16, a multiple of the scale 4"
    assert torch.equal(clip.high_TCHW, frames_TCHW[..., :16, :20])
    assert torch.equal(clip.low_TCHW, bicubic_uint8(frames_TCHW[..., :16, :20], 0.25))
    assert clip.frames == 2


def test_make_clip_has_nothing_to_note_about_frames_that_fit():
    clip, note = make_clip("walk", torch.from_numpy(noise(1, 3, 9, 12)), 3)
    assert note is None
    assert clip.low_TCHW.shape == (1, 3, 3, 4)


@pytest.mark.parametrize(("height", "width"), [(3, 40), (40, 3)])
def test_make_clip_refuses_frames_smaller_than_the_scale(height, width):
    with pytest.raises(UserError, match=f"clip walk: frames of {width}x{height} are smaller than the scale 4"):
        make_clip("walk", torch.zeros(1, 3, height, width, dtype=torch.uint8), 4)


def low_clip(name, frames, height, width):
    return Clip(name, torch.zeros(frames, 3, 4 * height, 4 * width), torch.zeros(frames, 3, height, width))


def test_check_clips_accepts_clips_that_are_just_long_and_large_enough():
    check_clips([low_clip("walk", 5, 8, 9)], frames=5, patch=8)


def test_check_clips_names_the_first_clip_that_is_too_short():
    clips = [low_clip("walk", 5, 8, 8), low_clip("run", 4, 8, 8), low_clip("fly", 1, 8, 8)]
    with pytest.raises(UserError, match=r"clip run has 4 frames, but training takes 5.*schedule\.frames=4 or less"):
        check_clips(clips, frames=5, patch=8)


@pytest.mark.parametrize(("height", "width"), [(8, 12), (12, 8)])
def test_check_clips_names_a_clip_that_is_too_small(height, width):
    expected = rf"the input of clip run is {width}x{height}, .*patches of 10x10.*schedule\.patch=8 or less"
    with pytest.raises(UserError, match=expected):
        check_clips([low_clip("walk", 5, 12, 12), low_clip("run", 5, height, width)], frames=5, patch=10)
