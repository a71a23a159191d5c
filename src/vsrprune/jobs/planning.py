"""A job: a checked configuration, the keys of its stages, and its result put together from their artifacts.

Imports no torch: a sweep's parent process plans, checks and collects jobs with it, and a finished job costs nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vsrprune.config.agreement import check_batch, check_network, check_scale, check_trainer, validate
from vsrprune.config.data import PUBLISHED_SETS
from vsrprune.config.job import TIMED_TARGETS, Config, completed, pretrained_file
from vsrprune.config.task import SUPER_RESOLUTION
from vsrprune.data.demo_photos import FRAME, TRAIN_PHOTOS, VAL_PHOTOS
from vsrprune.data.folder import find_folder
from vsrprune.data.look import first_look, input_size, too_short
from vsrprune.data.sets.layout import FoundClips
from vsrprune.data.sets.table import find_set, narrowed
from vsrprune.data.sources import (
    HASHES,
    ClipSource,
    check_crop,
    clips_identity,
    photos_identity,
    set_aside,
    sizes_identity,
    split_clips,
)
from vsrprune.engines.extras import versions_of
from vsrprune.errors import UserError
from vsrprune.host.tracking.table import check_installed
from vsrprune.jobs.devices import on_this_machine
from vsrprune.jobs.engines import engines_of
from vsrprune.methods.table import METHODS
from vsrprune.networks.table import family_of, identity_of, prepared
from vsrprune.results.protocols import PROTOCOLS
from vsrprune.results.result import NO_TRUTH
from vsrprune.selection.asked import check_reachable
from vsrprune.selection.scores import is_own, reads_batches
from vsrprune.stages.graph import plan_stages
from vsrprune.stages.job import Job, store_folder
from vsrprune.stages.recipe import Facts
from vsrprune.stages.score.own import own_score
from vsrprune.store.atomic import check_makeable
from vsrprune.store.bucket import is_url
from vsrprune.store.store import Store, content_key

SMALLEST_PATCH = 4  # of schedule.patch


def prepared_arguments(config: Config) -> Any:
    """The network's arguments, with all that is to be known of it; of one's own network it is found out now."""
    return prepared(config.model.arguments, store_folder(config) / "networks")


def changed_network(job: Job) -> str:
    """Why the job's network is no longer the one that was planned; empty if it is. Of one's own the file may change."""
    try:
        now = identity_of(prepared_arguments(job.config))
    except UserError as error:
        return str(error)
    if now == identity_of(job.arguments):
        return ""
    return "the file of the network changed since the sweep was planned, and jobs of two networks make no sweep"


def plan_job(config: Config) -> Job:
    """Check everything that can be known before work starts; raises UserError."""
    validate(config)
    check_makeable("store.cache_dir" if is_url(config.store_dir) else "store_dir", store_folder(config))
    config, place = on_this_machine(config)
    check_trainer(config.trainer)
    check_installed(config.tracking.to)
    check_batch(config)
    arguments = prepared_arguments(config)
    check_scale(config, arguments.scale)
    layout = family_of(arguments).layout(arguments, config.rule)
    config = completed(config, layout.parts)
    check_network(config, arguments)
    engines = engines_of(config, arguments, place)
    plan = METHODS[config.method.name].plan
    if plan != "whole":  # where nothing is cut, nothing has to be reached
        # Times are known when they are measured; single weights are cut in every convolution, whatever units it has.
        timed = config.target in TIMED_TARGETS
        ratio = 0.0 if timed or plan == "masked" else config.ratio
        check_reachable(layout, replace(config.asked, ratio=ratio, target="units" if timed else config.target))
    sources, clips = _data(config, arguments.scale)
    facts = Facts(
        model=identity_of(arguments),
        train=clips.train,
        val=clips.val,
        test=clips.test,
        unlabelled=clips.unlabelled,
        pretrained=_file_hash(pretrained_file(config)),
        flow=_file_hash(config.pretrained_flow),
        score=own_score(config.score).identity if is_own(config.score) else "",
        device=place.device,
        engines=versions_of(engines),
    )
    return Job(config, arguments, layout, plan_stages(config, facts), sources, place, tuple(engines))


@dataclass(frozen=True)
class DataIdentity:
    """Hashes of the training, held-out and test clips, and of those of data.unlabelled; empty without such clips."""

    train: str
    val: str
    test: str = ""
    unlabelled: str = ""


def _data(config: Config, scale: int) -> tuple[FoundClips | None, DataIdentity]:
    data = config.data
    made = {"scale": scale, "degradation": data.shrinking, "task": config.knobs()["task"]}
    made |= {"truth": "none"} if data.truth == "none" else {}
    if data.name == "demo":
        return None, _demo_identity(config, scale, made)
    cache = store_folder(config) / HASHES
    read = {
        **made,
        "max_frames": data.max_frames,
        "halve": data.halve,
        "on_error": data.on_error,
        "scene_cut": data.scene_cut,
        "shortest": config.schedule.longest if data.scene_cut else 0,  # scenes that are shorter are left out
    }
    sources = find_sources(config, scale)
    if data.name == "folder":
        _check_sizes(config, sources.train, data.shrunk_by(scale), data.halve)
    _check_sizes(config, sources.unlabelled, scale=1, halved=False)
    _check_lengths(config, sources.train if data.truth == "none" else sources.unlabelled)
    train, val = (
        # The files of published sets are known by their sizes; reading 900,000 of them would take hours.
        sizes_identity(clips) if name in PUBLISHED_SETS else clips_identity(clips, cache)
        for name, clips in ((data.train_set or data.name, sources.train), (data.name, sources.val))
    )
    return sources, DataIdentity(
        # Only training sequences are mirrored: held-out clips are the same with and without.
        content_key({**read, "mirror": data.mirror, "files": train}),
        content_key({**read, "files": val}),
        content_key({**read, "files": clips_identity(sources.test, cache)}) if sources.test else "",
        _unlabelled_identity(config, sources, read) if sources.unlabelled else "",
    )


def _unlabelled_identity(config: Config, sources: FoundClips, read: Mapping[str, Any]) -> str:
    """Hash of the clips of data.unlabelled, which are read as they are."""
    files = clips_identity(sources.unlabelled, store_folder(config) / HASHES)
    return content_key({**read, "truth": "none", "halve": False, "mirror": config.data.mirror, "files": files})


def _check_sizes(config: Config, clips: Sequence[ClipSource], scale: int, halved: bool) -> None:
    """Raise UserError for the first clip from which no patch of a training can be cut, by what its file says.

    scale: how many times as large as the input its frames are. halved: whether they are halved before.
    """
    patch = config.schedule.patch
    for clip in clips:
        look = first_look(clip)
        if look is None:  # damaged: told, or left out, where it is read
            continue
        height, width = input_size(look, scale, halved)
        if min(height, width) < patch:
            remedies = {
                f"schedule.patch={min(height, width)} or less": min(height, width) >= SMALLEST_PATCH,
                "data.halve=false": halved,
                "larger frames": True,
            }
            made = f"{', halved' if halved else ''}{f', at scale {scale}' if scale > 1 else ''}"
            raise UserError(
                f"schedule.patch={patch} does not fit into the input of clip {clip.name}, {width}x{height}"
                f" (frames of {look.size[1]}x{look.size[0]}{made});"
                f" use {', or '.join(remedy for remedy, helps in remedies.items() if helps)}"
            )


def _check_lengths(config: Config, clips: Sequence[ClipSource]) -> None:
    """Raise UserError for the first clip of fewer frames than training takes of it."""
    schedule = config.schedule
    for clip in clips:
        # Of a video its file may say another number than can be read; that is told where it is read.
        if not clip.is_video and len(clip.files) < schedule.longest:
            raise too_short(clip.name, len(clip.files), schedule.longest, schedule.longest_knob)


def _demo_identity(config: Config, scale: int, made: Mapping[str, Any]) -> DataIdentity:
    """What tells the demo's clips from others. Raises UserError where its frames are too small for what is asked."""
    data = config.data
    if min(FRAME) // scale < config.schedule.patch:
        raise UserError(
            f"schedule.patch={config.schedule.patch} is larger than the input that the demo's frames make,"
            f" {FRAME[1] // scale}x{FRAME[0] // scale}; use data of your own or a smaller patch"
        )
    check_crop("the demo's frames", (FRAME[0] // scale * scale, FRAME[1] // scale * scale), config.comparison.crop)
    common = {**made, "demo": data.demo_seed, "frames": data.demo_frames}
    return DataIdentity(
        content_key({**common, "photos": photos_identity(TRAIN_PHOTOS), "clips": data.demo_train_per_photo}),
        content_key({**common, "photos": photos_identity(VAL_PHOTOS), "clips": data.demo_val_per_photo}),
    )


def find_sources(config: Config, scale: int, trains: bool = True) -> FoundClips:
    """Clips on disk; those to train on of another set, or without truth, are no files of the held-out ones.

    trains: whether clips to train on must be there, where the job trains at all.
    """
    found, folder = _find_labelled(config, scale, trains), config.data.unlabelled
    if not folder:
        return found
    there = find_folder(folder, "data.unlabelled")
    _refuse_held_out(config, there.clips, (*found.val, *found.test), "data.unlabelled", folder)
    notes, warnings = (*found.notes, *there.notes), (*found.warnings, *there.warnings)
    return replace(found, unlabelled=tuple(there.clips), notes=notes, warnings=warnings)


def _refuse_held_out(
    config: Config, clips: Sequence[ClipSource], held_out: Sequence[ClipSource], knob: str, folder: str
) -> None:
    """Raise UserError for the first of the clips in a folder to train on that is held out."""
    aside = {clip.files[0].resolve() for clip in held_out}
    for clip in clips:
        if clip.files[0].resolve() in aside:
            raise UserError(f"{knob}={folder}: {clip.name} is held out by data={config.data.name}")


def _find_labelled(config: Config, scale: int, trains: bool) -> FoundClips:
    data = config.data
    if data.name == "folder":
        there = find_folder(data.path)
        test, rest = set_aside(there.clips, data.test, [*data.train, *data.val])
        train, val = split_clips(rest, data.train, data.val, data.val_share, data.split_seed)
        return FoundClips(train, val, there.notes, tuple(test), there.warnings)
    found = find_set(data.name, "data.path", data.path, data.low, scale)
    val = narrowed("data.val", found.val, data.val)
    # A dense network that is read, and nothing after it that trains: no set to train on is needed.
    ends_early = config.until == "pretrain" or (
        config.until in ("score", "select") and not reads_batches(config.score, config.score_batches)
    )
    trains = trains and not (config.pretrained and ends_early)
    if trains and not found.train and not data.train_set:
        raise UserError(
            f"data={data.name} has test clips alone; add data.train_set=reds, vimeo90k or folder, and"
            " data.train_path=FOLDER of it, to train on; src/evaluate.py compares a trained network without"
        )
    if not data.train_set:
        return FoundClips(narrowed("data.train", found.train, data.train), val, found.notes)
    if data.train_set == "folder":
        there = find_folder(data.train_path, "data.train_path")
        other = FoundClips(there.clips, [], there.notes, warnings=there.warnings)
        _refuse_held_out(config, other.train, val, "data.train_path", data.train_path)
    else:
        other = find_set(data.train_set, "data.train_path", data.train_path, data.low, scale)
    train = narrowed("data.train", other.train, data.train)
    return FoundClips(train, val, (*found.notes, *other.notes), warnings=other.warnings)


def find_test_clips(config: Config, scale: int) -> FoundClips:
    """The clips that a trained network is compared on: all of a folder, or those that a published set holds out.

    `data.val` narrows them. They stand in `val`.
    """
    data = config.data
    if data.name == "folder":
        there = find_folder(data.path)
        return FoundClips([], narrowed("data.val", there.clips, data.val), there.notes, warnings=there.warnings)
    found = find_set(data.name, "data.path", data.path, data.low, scale)
    return FoundClips([], narrowed("data.val", found.val, data.val), found.notes)


def _file_hash(path: str) -> str:
    if not path:
        return ""
    with Path(path).expanduser().open("rb") as stream:
        # By content: where a file of weights lies changes no result.
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def missing_stages(job: Job, store: Store) -> list[str]:
    """Keys of the stages that are not published, in the order in which the job makes them."""
    return [stage.key for stage in job.stages if not store.exists(stage.stage, stage.key)]


def is_finished(job: Job, store: Store) -> bool:
    """Whether every stage of the job is published."""
    return not missing_stages(job, store)


def config_warnings(config: Config) -> list[str]:
    """What a reader of the numbers must know about the configuration."""
    warnings = []
    if config.data.truth == "none":
        warnings.append(f"data.truth=none: {NO_TRUTH}")
    if config.task.name != SUPER_RESOLUTION:
        warnings.append(
            f"task={config.task.name} works at scale 1: the network has no pixel shuffles, so there are no shuffle"
            " groups to prune"
        )
    if config.schedule.name == "smoke":
        warnings.append("schedule=smoke: a few steps show that everything runs; these results mean nothing")
    if config.schedule.name == "demo" and config.data.name != "demo":
        warnings.append(
            f"schedule=demo with data={config.data.name}: a few hundred steps show that everything runs, not what a"
            " method can do; use schedule=hours, short or paper"
        )
    return [*warnings, *_notes_on_knobs(config), *protocol_warnings(config)]


def _notes_on_knobs(config: Config) -> list[str]:
    """Knobs that change nothing here, no error since sweeps over others may start at 0; and a control that wavers."""
    method, unweighted = config.method, config.tf_weight == 0
    idle = {
        "method.teacher=sparsified changes nothing: with tf_weight=0 and method.output_weight=0 no loss follows a"
        " teacher": method.teacher == "sparsified" and unweighted and method.output_weight == 0,
        "method.tf_in_sparsify=true changes nothing: tf_weight=0 is the weight of that loss": method.tf_in_sparsify
        and unweighted,
        # The default is never said to be idle: whether it was given cannot be told.
        f"ratio={config.ratio:g} changes nothing: target_ms={config.target_ms:g} says how many milliseconds are"
        " left": config.target_ms > 0 and config.ratio != Config.ratio,
    }
    notes = [note for note, holds in idle.items() if holds]
    cuts = METHODS[config.method.name].plan != "whole"
    if config.model.arguments.prunes_flow and cuts and not config.schedule.finetune.train_flow:
        notes.append(
            "model.flow_pruned=true: the flow net loses channels and does not train on after the cut; with"
            " schedule.finetune.train_flow=true it does"
        )
    if config.units == "random" and config.target in TIMED_TARGETS:
        notes.append(
            f"units=random with target={config.target}: counts are found by measuring, so that they need not be those"
            " of units=ranked; with target=macs they are"
        )
    return notes


def protocol_warnings(config: Config) -> list[str]:
    """What a reader must know who compares the numbers with published ones."""
    protocol = PROTOCOLS.get(config.evaluate.protocol)
    if not protocol or config.data.shrinking in protocol.degradations:
        return []
    return [
        f"evaluate.protocol={config.evaluate.protocol} with data.degradation={config.data.shrinking}: published"
        f" numbers on this set are of {' or '.join(protocol.degradations)}"
    ]
