"""Folder names of runs and sweeps, from the overrides that make them; and the link to the last of them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from vsrprune.errors import UserError
from vsrprune.store.atomic import read_json, write_json

LONGEST = 80
LATEST = "latest"  # in runs_dir: a link to the folder of the single job, the sweep or the search that began last
RECORD = "sweep.json"  # in the folder of a sweep that the user named: which sweep has the name
BETWEEN = "-by-"
# Overrides that say where and how, not what, do not name a run: the same jobs get the same folder on any machine.
_PLACES = (
    "store_dir",
    "store.",
    "runs_dir",
    "tracking",
    "launcher",
    "trainer.workers",
    "hydra",
    "dry_run",
    "print_config",
    "sweep.",
)


def slug(text: str) -> str:
    """`text` as a folder name: safe characters, at most 80 of them; shortened names end in a hash."""
    safe = _safe(text)
    return safe if len(safe) <= LONGEST else _hashed(safe, text)


def run_name(overrides: str, config_name: str) -> str:
    """Name of a single run, different for different overrides: where it is not their text, a hash is added.

    Of paths it has the last part.
    """
    text = overrides if config_name == "config" else ",".join(filter(None, (config_name, overrides)))
    name = _safe(re.sub(r"=[^,=]*/(?=[^,=/])", "=", text))
    return name if not text or (name == text and len(name) <= LONGEST) else _hashed(name, text)


def job_names(overrides: Sequence[Sequence[str]], typed: Mapping[str, str] | None = None) -> list[str]:
    """Short names of a sweep's jobs: the overrides in which they differ, and of paths the last parts that differ.

    typed: overrides -> how the user wrote them, where Hydra writes their numbers in another way. A job's name does not
    depend on the order of the jobs.
    """
    telling = _differing(overrides)
    values: dict[str, set[str]] = {}
    for item in (item for job in telling for item in job):
        values.setdefault(item.partition("=")[0], set()).add(item.partition("=")[2])
    texts = [",".join(job) for job in telling]
    names = [slug(",".join((typed or {}).get(item) or _shown(item, values) for item in job)) for job in telling]
    # Different texts may differ in unsafe characters alone; then a hash tells them apart.
    return [name if names.count(name) == 1 else _hashed(name, text) for name, text in zip(names, texts, strict=True)]


def sweep_name(config_name: str, overrides: Sequence[Sequence[str]]) -> str:
    """Name of a sweep: what varies in the order given, or its file's name, and a hash; whenever it is run the same.

    The hash is that of the jobs, whatever their order.
    """
    text = "\n".join(sorted(",".join(sorted(telling_overrides(job))) for job in overrides))
    name = _axes(overrides) if config_name == "config" else slug(config_name)
    return f"{name}-{_hash(text)}"


def check_sweep_name(name: str | None) -> None:
    """Raise UserError for a `sweep.name` that is no good name of a folder."""
    if name is not None and (slug(name) != name or name == LATEST):
        shown = name if len(name) <= LONGEST else f"{name[:20]}... ({len(name)} characters)"
        raise UserError(
            f"sweep.name={shown!r} is no name for a folder in runs_dir: take up to {LONGEST} letters of ASCII, digits"
            f" and the signs = , . _ + -, neither . nor - at an end, and not {LATEST!r}"
        )


def claim_sweep_name(name: str, sweep: str, folder: Path, begins: bool = True) -> None:
    """Record in `folder`, if the sweep begins, that `name` is that of the sweep whose own name is `sweep`.

    Raises UserError where it is another's.
    """
    try:
        other = read_json(folder / RECORD)["sweep"]
    except FileNotFoundError:
        other = "what is no sweep of this name" if folder.is_dir() and any(folder.iterdir()) else sweep
    except (OSError, ValueError, LookupError, TypeError):
        other = f"another sweep, or a damaged {RECORD}"
    if other != sweep:
        raise UserError(
            f"sweep.name={name}: {folder} holds {other} already; take another name, or none; stages that are finished"
            " are shared all the same"
        )
    if begins:
        write_json(folder / RECORD, {"sweep": sweep})


def mark_latest(runs: Path, folder: Path) -> None:
    """Let runs/latest lead to the folder of a run that begins now; where no links can be made, nothing happens.

    It is replaced at once, so that whoever reads it finds the run before or this one; what is no link is left alone.
    """
    link, beside = runs / LATEST, runs / f".{LATEST}-{uuid.uuid4().hex}"
    with contextlib.suppress(OSError, NotImplementedError):
        target = os.path.relpath(folder.resolve(), runs.resolve())  # the folder of runs may be moved as a whole
        if link.is_symlink() and os.readlink(link) == target:
            return
        if link.is_symlink() or not link.exists():
            runs.mkdir(parents=True, exist_ok=True)
            beside.symlink_to(target, target_is_directory=True)
            beside.replace(link)
    with contextlib.suppress(OSError):
        beside.unlink(missing_ok=True)


def telling_overrides(overrides: Sequence[str]) -> list[str]:
    """The overrides that say what a job computes, not where and how."""
    return [
        # As they were typed: Hydra prints the values of a sweep as Python does.
        item.replace("=True", "=true").replace("=False", "=false")
        for item in overrides
        if not item.lstrip("+~").startswith(_PLACES)
    ]


def _differing(jobs: Sequence[Sequence[str]]) -> list[list[str]]:
    """Of each job the telling overrides that not all jobs share; all of them where there is one job."""
    telling = [telling_overrides(job) for job in jobs]
    common = set(telling[0]).intersection(*telling) if len(telling) > 1 else set()
    return [[item for item in job if item not in common] for job in telling]


def _axes(jobs: Sequence[Sequence[str]]) -> str:
    """What varies between jobs, in the order given, such as rsc-by-ratio; `sweep` where nothing does."""
    differing = _differing(jobs) if len(jobs) > 1 else []
    shown = list(dict.fromkeys(_safe(item.partition("=")[0].lstrip("+~")) for job in differing for item in job))
    left = list(shown)
    while len(left) > 1 and len(BETWEEN.join(left)) > LONGEST - 24:  # room for the hash and for what is left out
        left.pop()
    more = f"-and-{len(shown) - len(left)}-more" if len(left) < len(shown) else ""
    return slug(BETWEEN.join(left) + more) if left else "sweep"


def _shown(item: str, values: Mapping[str, set[str]]) -> str:
    """An override with as many of the last parts of its path as tell it from the other values of its knob."""
    name, _, value = item.partition("=")
    if "/" not in value or value.startswith(("[", "{")):
        return item
    others = values[name]
    for depth in range(1, max(other.count("/") for other in others) + 2):
        if len({_end(other, depth) for other in others}) == len(others):
            return f"{name}={_end(value, depth)}"
    return item


def _end(path: str, depth: int) -> str:
    """The last parts of a path."""
    return "/".join(path.strip("'\"").strip("/").split("/")[-depth:])


def _safe(text: str) -> str:
    # No slashes, quotes or spaces: a name must be one folder, and pass through shells unquoted.
    return re.sub(r"[^A-Za-z0-9=.,_+-]+", "-", text).strip("-.") or "default"


def _hashed(safe: str, text: str) -> str:
    """A safe name, shortened, with the hash of the text that it stands for."""
    return f"{safe[: LONGEST - 9]}-{_hash(text)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
