"""Folder names of runs and sweeps, from the overrides that make them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

LONGEST = 100
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
)


def slug(text: str) -> str:
    """`text` as a folder name: safe characters, at most 100 of them; shortened names end in a hash."""
    # No slashes, quotes or spaces: a name must be one folder, and pass through shells unquoted.
    safe = re.sub(r"[^A-Za-z0-9=.,_+-]+", "-", text).strip("-.") or "default"
    if len(safe) <= LONGEST:
        return safe
    return f"{safe[: LONGEST - 9]}-{_hash(text)}"


def run_name(overrides: str, config_name: str) -> str:
    """Name of a single run, different for different overrides: where `slug` replaced something, a hash is added."""
    text = overrides if config_name == "config" else ",".join(filter(None, (config_name, overrides)))
    name = slug(text)
    # Also where what was replaced made a long text short enough. A shortened name has its hash.
    hashed = name.endswith(f"-{_hash(text)}")
    return name if name == text or not text or hashed else f"{name}-{_hash(text)}"


def job_names(overrides: Sequence[Sequence[str]]) -> list[str]:
    """Short names of a sweep's jobs: the overrides in which they differ."""
    telling = [telling_overrides(job) for job in overrides]
    common = set(telling[0]).intersection(*telling) if len(telling) > 1 else set()
    texts = [",".join(item for item in job if item not in common) for job in telling]
    names = [slug(text) for text in texts]
    # Different texts may differ in unsafe characters alone; then a hash tells them apart.
    return [
        name if names.count(name) == 1 else f"{name}-{_hash(text)}" for name, text in zip(names, texts, strict=True)
    ]


def sweep_name(config_name: str, overrides: Sequence[Sequence[str]]) -> str:
    """Name of a sweep: the same for the same jobs, whenever they are run."""
    text = "\n".join(sorted(",".join(sorted(telling_overrides(job))) for job in overrides))
    return f"{'sweep' if config_name == 'config' else slug(config_name)}-{_hash(text)}"


def telling_overrides(overrides: Sequence[str]) -> list[str]:
    """The overrides that say what a job computes, not where and how."""
    return [
        # As they were typed: Hydra prints the values of a sweep as Python does.
        item.replace("=True", "=true").replace("=False", "=false")
        for item in overrides
        if not item.lstrip("+~").startswith(_PLACES)
    ]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
