"""A job's clips: made, or read from disk, degraded for its task, and checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from vsrprune.config.job import Config
from vsrprune.config.quantise import NONE
from vsrprune.data.cache import cached_clips
from vsrprune.data.clips import ClipSet, check_clips
from vsrprune.data.corruption import corrupted
from vsrprune.data.demo import demo_clips
from vsrprune.data.demo_photos import TRAIN_PHOTOS
from vsrprune.data.reading import Reading, read_clips
from vsrprune.data.sets.layout import FoundClips
from vsrprune.data.sources import ClipSource, check_crop
from vsrprune.errors import UserError
from vsrprune.stages.job import Job

Say = Callable[[str], None]


def job_clips(job: Job, say: Say, noted: bool = False) -> ClipSet:
    """A job's training, held-out and test clips, checked; `say` is told what was done to them.

    noted: their notes were told before.
    """
    data, schedule, scale = job.config.data, job.config.schedule, job.arguments.scale
    if job.sources is None:
        clips = demo_clips(
            scale,
            data.demo_seed,
            data.demo_train_per_photo,
            data.demo_val_per_photo,
            data.demo_frames,
            data.degradation,
        )
    else:
        clips = _clips_on_disk(job, job.sources, say)
    clips = corrupted(clips, job.config.task.name, job.config.task.options)
    # Checked now, since training would meet a short clip at once and a held-out one too small for the crop hours later.
    check_clips(clips.train, schedule.longest, schedule.patch, schedule.longest_knob)
    check_clips(clips.unlabelled, schedule.longest, schedule.patch, schedule.longest_knob)
    for clip in (*clips.val, *clips.test):
        height, width = (side * scale for side in clip.size)
        check_crop(f"the held-out clip {clip.name}", (height, width), job.config.comparison.crop)
    _check_engine(job, clips)
    for note in () if noted else clips.notes:
        say(f"  note: {note}")
    return clips


def _check_engine(job: Job, clips: ClipSet) -> None:
    """Raise UserError for a clip whose frames are smaller than those that the graphs of an int8 network serve."""
    quantise, least = job.config.quantise.name, job.arguments.smallest_side
    for clip in (*clips.train, *clips.val, *clips.test) if quantise != NONE else ():
        height, width = clip.size
        if min(height, width) < least:
            raise UserError(
                f"quantise={quantise}: the input of clip {clip.name} is {width}x{height}, and exported graphs of"
                f" model={job.config.model.name} serve sides of {least} pixels or more; use larger frames, or"
                " quantise=none"
            )


def most_training_clips(job: Job) -> int:
    """How many training clips a job has where no file is left out and no video is cut into scenes."""
    if job.sources is None:
        return len(TRAIN_PHOTOS) * job.config.data.demo_train_per_photo
    return len(job.sources.train)


def reading_of(config: Config, scale: int) -> Reading:
    """How a configuration has files read."""
    data = config.data
    return Reading(
        scale=scale,
        max_frames=data.max_frames,
        halve=data.halve,
        scene_cut=data.scene_cut,
        shortest=config.schedule.longest,
        skip_errors=data.on_error == "skip",
        degradation=data.shrinking,
        truth=data.truth != "none",
    )


def _clips_on_disk(job: Job, sources: FoundClips, say: Say) -> ClipSet:
    data, how = job.config.data, reading_of(job.config, job.arguments.scale)

    def read(train: Sequence[ClipSource], val: Sequence[ClipSource], how: Reading) -> ClipSet:
        return cached_clips(train, val, how, job.clip_cache, say) if data.cache else read_clips(train, val, how)

    clips, tests = read(sources.train, sources.val, how), read((), sources.test, how)
    others = read(sources.unlabelled, (), replace(how, truth=False, halve=False))
    notes = (*clips.notes, *tests.notes, *others.notes)
    clips = replace(clips, test=tests.val, unlabelled=others.train, notes=notes)
    for side in ("train", "val", "test", "unlabelled"):
        wanted = getattr(sources, side)
        if wanted and not getattr(clips, side):
            raise UserError(f"data: no clip is left of the {len(wanted)} in data.{side}: {'; '.join(clips.notes)}")
    return replace(clips, notes=(*sources.notes, *sources.warnings, *clips.notes))
