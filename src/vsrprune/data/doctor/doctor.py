"""The data doctor looks at every frame of a data set before a week of training is spent on it.

Each clip is decoded once, and only a few of its frames are held. A fault becomes a finding, and the search goes on.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from vsrprune.data.degradation import DEGRADATIONS, degrade
from vsrprune.data.reading import picture_note, read_picture
from vsrprune.data.sources import ClipSource, check_crop
from vsrprune.data.video.colour import RgbFrame, to_rgb
from vsrprune.data.video.decoding import decoded
from vsrprune.data.video.orientation import Orientation
from vsrprune.errors import UserError

SAMPLES = 3  # frames per clip whose low-resolution twins are compared with every degradation
ROUNDING = 1  # levels by which frames of the same degradation may differ
THUMBNAIL = 9  # pixels to a side, of the perceptual hash: 8 x 8 differences to the right, and as many downwards
FLAT = 4.0  # standard deviation in levels; thumbnails below it look like each other whatever they show
# Bits of 128 in which frames may differ that show the same. On eight real videos, frames at half the size and a JPEG
# quality of 30 differ by 6 at most from what they were, and frames of two videos by 31 at least.
ALIKE = 16
SEEN = 0.5  # share of a test clip's frames that one training clip must show
TEST_FRAMES = 16  # of each test clip are looked for among the training frames

# Degradations whose samples stand in the same places. A network of one group loses 7 dB and more on another.
SAMPLED_ALIKE = (("bicubic", "bicubic_uint8_passes"), ("bd_basicvsr",), ("bd_duf", "bd_duf_frames"))

SEVERITIES = ("note", "warning", "error")


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with the data, or worth knowing.

    severity: note, warning or error. where: a clip or a file. advice: what to do about it.
    """

    severity: str
    where: str
    what: str
    advice: str


@dataclass(frozen=True)
class DoctorSettings:
    """What training will ask of the clips.

    scale: how much larger the network's output is. frames, patch: how many frames a training step takes, and the side
    of its patch in low-resolution pixels. halve: whether frames are halved when they are read. skip_errors: whether
    clips that cannot be read are skipped. degradations: by which of them the low-resolution frames may have been made;
    the first makes those that are missing. frames_knob: the knob that asks for `frames`. max_frames: how many frames of
    a clip are read, from its start; 0 for all. crop: border pixels that the comparison leaves out.
    """

    scale: int
    halve: bool
    frames: int
    patch: int
    skip_errors: bool
    degradations: Sequence[str]
    frames_knob: str = "schedule.frames"
    max_frames: int = 0
    crop: int = 0


@dataclass
class ClipFacts:
    """What was seen of a clip.

    side: train or test. size: (height, width). digest: a hash of all pixels. hashes: a perceptual hash per frame, 0 for
    flat frames. differences: mean and maximum of |stored - made|, in levels, over the sampled low-resolution frames, by
    the degradation that made them.
    """

    name: str
    side: str
    frames: int = 0
    size: tuple[int, int] = (0, 0)
    low: bool = False
    digest: str = ""
    hashes: list[int] = field(default_factory=list)
    differences: dict[str, tuple[float, float]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def examine_clip(source: ClipSource, side: str, settings: DoctorSettings) -> ClipFacts:
    """Decode every frame of a clip that is read; whatever is wrong with it becomes a finding that names the file."""
    facts = ClipFacts(source.name, side, low=bool(source.low_files))
    severity = "warning" if settings.skip_errors else "error"
    digest, before, still = hashlib.blake2b(digest_size=16), b"", []
    wanted = settings.max_frames or None
    last = max(len(source.low_files[:wanted]) - 1, 0)
    sampled = set(np.linspace(0, last, SAMPLES).round().astype(int).tolist())
    for index, (file, frame) in enumerate(itertools.islice(_frames(source), wanted)):
        if isinstance(frame, UserError):
            facts.findings.append(Finding(severity, str(file), str(frame), "restore it, or leave the clip out"))
            continue
        facts.frames += 1
        height, width = frame.shape[:2]
        facts.size = facts.size if facts.frames > 1 else (height, width)
        if (height, width) != facts.size:
            what = f"{width}x{height}, but the clip began with {facts.size[1]}x{facts.size[0]}"
            facts.findings.append(Finding(severity, str(file), what, "all frames of a clip must have one size"))
            continue
        # One pass over the pixels for all checks: decoding is what takes the time.
        content = frame.tobytes()
        digest.update(content)
        if content == before:
            still.append(index)
        before = content
        facts.hashes.append(perceptual_hash(frame))
        if source.low_files:
            _compare_low(source.low_files[index], frame, index in sampled, settings, facts, severity)
    facts.digest = digest.hexdigest() if facts.frames else ""
    facts.findings += _repeated(source.name, still) + _too_small(facts, settings) + _cropped(facts, settings)
    if note := picture_note(source):
        facts.findings.append(Finding("note", source.name, note, ""))
    return facts


def _frames(source: ClipSource) -> Iterator[tuple[Path, RgbFrame | UserError]]:
    """Every frame, or the error that stands for it; a video ends with its first error, a folder goes on."""
    if source.is_video:
        try:
            shown = Orientation()
            yield from ((source.files[0], shown.upright(to_rgb(frame), frame)) for frame in decoded(source.files[0]))
        except UserError as error:
            yield source.files[0], error
        return
    for file in source.files:
        yield file, _picture(file)


def _picture(file: Path) -> RgbFrame | UserError:
    try:
        return read_picture(file)
    except UserError as error:
        return error


def _compare_low(
    file: Path, frame: RgbFrame, sample: bool, settings: DoctorSettings, facts: ClipFacts, severity: str
) -> None:
    """Look at the low-resolution twin of a frame; a sample is compared with what every degradation makes."""
    low = _picture(file)
    if isinstance(low, UserError):
        facts.findings.append(Finding(severity, str(file), str(low), "restore it, or leave the clip out"))
        return
    height, width = (side // settings.scale for side in frame.shape[:2])
    if low.shape[:2] != (height, width):
        what = f"{low.shape[1]}x{low.shape[0]}, but 1/{settings.scale} of the other frame is {width}x{height}"
        facts.findings.append(Finding(severity, str(file), what, "make it again, or choose the right scale"))
        return
    if sample:
        high_TCHW = torch.from_numpy(frame[: height * settings.scale, : width * settings.scale].copy()).permute(
            2, 0, 1
        )[None]
        for name in DEGRADATIONS:
            # Blur and decimation are defined at x4 alone: kernel and phase belong to it.
            if name.startswith("bd") and settings.scale != 4:
                continue
            made = degrade(high_TCHW, settings.scale, name)[0].permute(1, 2, 0).numpy().astype(int)
            difference = np.abs(made - low.astype(int))
            mean, largest = facts.differences.get(name, (0.0, 0.0))
            facts.differences[name] = (mean + float(difference.mean()) / SAMPLES, max(largest, float(difference.max())))


def _repeated(name: str, still: Sequence[int]) -> list[Finding]:
    if not still:
        return []
    some = ", ".join(map(str, still[:5])) + (", ..." if len(still) > 5 else "")
    what = f"{len(still)} frames are copies of the one before: {some}"
    return [Finding("warning", name, what, "a frozen picture teaches no motion: cut it out")]


def _too_small(facts: ClipFacts, settings: DoctorSettings) -> list[Finding]:
    found = []
    if facts.side == "train" and 0 < facts.frames < settings.frames:
        what = f"{facts.frames} frames, but a training step takes {settings.frames}"
        found.append(Finding("error", facts.name, what, f"leave it out, or {settings.frames_knob}={facts.frames}"))
    side = min(_read_size(facts, settings)) // settings.scale
    if facts.side == "train" and facts.frames and side < settings.patch:
        what = f"its input has {side} pixels a side, but a training patch has {settings.patch}"
        smaller = f", or schedule.patch={side}" if side else ""
        halved = ", or data.halve=false" if settings.halve else ""
        found.append(Finding("error", facts.name, what, f"leave it out{smaller}{halved}"))
    return found


def _cropped(facts: ClipFacts, settings: DoctorSettings) -> list[Finding]:
    """What is lost at the borders: rows and columns beyond a multiple of the scale, and those not compared."""
    if not facts.frames:
        return []
    size, scale = _read_size(facts, settings), settings.scale
    height, width = (side // scale * scale for side in size)
    found = []
    if (height, width) != size:
        what = f"its {size[1]}x{size[0]} pixels are cropped to {width}x{height}, a multiple of the scale {scale}"
        found.append(Finding("note", facts.name, what, ""))
    if facts.side == "test":
        try:
            check_crop("its frames", (height, width), settings.crop)
        except UserError as error:
            found.append(Finding("error", facts.name, str(error), "leave it out"))
    return found


def _read_size(facts: ClipFacts, settings: DoctorSettings) -> tuple[int, int]:
    """Height and width of the frames as they are read."""
    height, width = (side // (2 if settings.halve else 1) for side in facts.size)
    return height, width


def perceptual_hash(frame: RgbFrame) -> int:
    """128 bits that recompression and rescaling hardly change; 0 for a flat picture, which would look like any other.

    Each bit says whether a thumbnail gets brighter from a pixel to the next, to the right (64 bits) or down (64).
    """
    # Signs of differences: they do not depend on brightness and contrast, which encoders change.
    grey = Image.fromarray(frame).convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    thumbnail = np.asarray(grey, dtype=float)
    if thumbnail.std() < FLAT:
        return 0
    right, down = np.diff(thumbnail, axis=1)[:-1] > 0, np.diff(thumbnail, axis=0)[:, :-1] > 0
    return int.from_bytes(np.packbits(np.concatenate((right, down))).tobytes())


# The checks that need all clips.


def identical_clips(clips: Sequence[ClipFacts]) -> list[Finding]:
    """Findings for clips that have the same pixels under two names, on one side."""
    first: dict[str, ClipFacts] = {}
    found = []
    for facts in clips:
        other = first.setdefault(facts.digest, facts) if facts.digest else facts
        if other is not facts and other.side == facts.side:
            found.append(Finding("warning", facts.name, f"the same pixels as {other.name}", "leave one of them out"))
    return found


def leaked_clips(clips: Sequence[ClipFacts]) -> list[Finding]:
    """Findings for test clips whose pictures are also in a training clip, perhaps recompressed or of another size."""
    # One array of all training hashes, so that a test frame is compared with all of them by one exclusive or.
    train = [facts for facts in clips if facts.side == "train"]
    known = [(value, index) for index, facts in enumerate(train) for value in facts.hashes if value]
    hashes = _words([value for value, _ in known])
    owners = np.array([index for _, index in known], dtype=np.int64)
    found = []
    for facts in clips:
        seen = _shown_by(facts, hashes, owners) if facts.side == "test" and known else {}
        for index, share in seen.items():
            what = f"{share:.0%} of its frames also stand in the training clip {train[index].name}"
            found.append(Finding("error", facts.name, what, "take one of the two out: its numbers would mean nothing"))
    return found


def _shown_by(facts: ClipFacts, hashes: NDArray[np.uint64], owners: NDArray[np.int64]) -> dict[int, float]:
    """The training clips (by index) that show enough of a test clip, and the share of its frames that they show."""
    looked = [value for value in facts.hashes if value]
    if not looked:
        return {}
    places = np.unique(np.linspace(0, len(looked) - 1, min(TEST_FRAMES, len(looked))).round().astype(int))
    counts: dict[int, int] = {}
    for place in places:
        apart = np.bitwise_count(hashes ^ _words([looked[place]])).sum(axis=1)
        for index in np.unique(owners[apart <= ALIKE]).tolist():
            counts[index] = counts.get(index, 0) + 1
    return {index: count / len(places) for index, count in counts.items() if count >= SEEN * len(places)}


def _words(hashes: Sequence[int]) -> NDArray[np.uint64]:
    """Hashes (N, 2), each as two words of 64 bits."""
    return np.array([[value >> 64, value & (2**64 - 1)] for value in hashes], dtype=np.uint64)


def wrong_degradation(clips: Sequence[ClipFacts], settings: DoctorSettings) -> list[Finding]:
    """Findings for sides whose stored low-resolution frames were not made by the degradation that is configured."""
    found = []
    for side in ("train", "test"):
        measured = [facts for facts in clips if facts.side == side and facts.differences]
        if not measured:
            continue
        fitting = fitting_degradations(measured)
        if not fitting:
            name, (mean, largest) = nearest_degradation(measured)
            what = (
                f"the low-resolution frames were made by no degradation known here; nearest is {name}, {mean:.2f}"
                f" levels off in the mean and {largest:.0f} at most"
            )
            advice = "published numbers are of known ones; ask where these are from"
            found.append(Finding("warning", side, what, advice))
        elif not set(fitting) & set(settings.degradations):
            taken = " or ".join(settings.degradations)
            what = f"the low-resolution frames were made by {' or '.join(fitting)}, not by {taken}"
            found.append(Finding("warning", side, what, "choose the right frames by data.low"))
    return found


def unlike_sides(clips: Sequence[ClipFacts], settings: DoctorSettings) -> list[Finding]:
    """A finding if a network that trains on one side's low-resolution frames would be tested on others."""
    made = {}
    for side in ("train", "test"):
        of_side = [facts for facts in clips if facts.side == side]
        stored = [facts for facts in of_side if facts.differences]
        made[side] = fitting_degradations(stored) if stored else list(settings.degradations[: bool(of_side)])
    train, test = made["train"], made["test"]
    if not train or not test or any(set(train) & set(group) and set(test) & set(group) for group in SAMPLED_ALIKE):
        return []
    what = f"the low-resolution frames are of {' or '.join(test)}, but those to train on are of {' or '.join(train)}"
    return [Finding("warning", "test", what, "take both of one kind: networks of one lose 7 dB and more on the other")]


def side_differences(clips: Sequence[ClipFacts]) -> dict[str, tuple[float, float]]:
    """Mean over clips of the mean difference, and the largest difference, in levels, by degradation."""
    names = [name for name in DEGRADATIONS if any(name in facts.differences for facts in clips)]
    return {
        name: (
            float(np.mean([facts.differences[name][0] for facts in clips if name in facts.differences])),
            max(facts.differences[name][1] for facts in clips if name in facts.differences),
        )
        for name in names
    }


def fitting_degradations(clips: Sequence[ClipFacts]) -> list[str]:
    """Degradations that make the stored frames up to rounding; those that make them exactly, if there are any."""
    differences = side_differences(clips)
    exact = [name for name, (_, largest) in differences.items() if largest == 0]
    return exact or [name for name, (_, largest) in differences.items() if largest <= ROUNDING]


def nearest_degradation(clips: Sequence[ClipFacts]) -> tuple[str, tuple[float, float]]:
    """The degradation with the smallest mean difference, and its mean and largest difference."""
    return min(side_differences(clips).items(), key=lambda item: item[1][0])


OVERALL: Mapping[str, Callable[[Sequence[ClipFacts], DoctorSettings], list[Finding]]] = {
    "identical clips": lambda clips, settings: identical_clips(clips),
    "test clips among the training clips": lambda clips, settings: leaked_clips(clips),
    "degradation": wrong_degradation,
    "one degradation on both sides": unlike_sides,
}


def all_findings(clips: Sequence[ClipFacts], settings: DoctorSettings) -> list[Finding]:
    """Findings of single clips and of all together, the worst first."""
    found = [finding for facts in clips for finding in facts.findings]
    found += [finding for check in OVERALL.values() for finding in check(clips, settings)]
    return sorted(found, key=lambda finding: -SEVERITIES.index(finding.severity))


def exit_code(findings: Sequence[Finding]) -> int:
    """0 for notes at most, 1 for warnings, 2 for errors."""
    return max((SEVERITIES.index(finding.severity) for finding in findings), default=0)
