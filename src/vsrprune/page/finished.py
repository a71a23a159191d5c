"""The finished jobs that the page offers; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vsrprune.errors import UserError
from vsrprune.results.result import RESULT, Result


@dataclass(frozen=True)
class Finished:
    """A job: its name, its folder, when it ended (seconds since 1970), and what it found."""

    name: str
    folder: Path
    ended: float
    result: Result


def finished_jobs(folders: Sequence[Path]) -> list[Finished]:
    """The jobs below the folders, the newest first, each once; results that cannot be read are left out.

    Raises UserError for a folder that is not there, and where no job has a result.
    """
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"there is no folder {folder}; give folders that run.py wrote, such as runs/")
    found: dict[Path, Finished] = {}
    reasons: list[str] = []
    for top in folders:
        for file in sorted(top.rglob(RESULT)):
            folder = file.parent
            name = str(folder.relative_to(top)) if folder != top else folder.resolve().name
            try:
                job = Finished(name, folder, file.stat().st_mtime, Result.load(folder))
            except (UserError, OSError) as error:
                reasons.append(str(error))
                continue
            found.setdefault(folder.resolve(), job)  # links lead to jobs that are there under their own names
    if not found:
        more = f"; left out: {reasons[0]}" if reasons else ""
        raise UserError(
            f"no {RESULT} below {', '.join(map(str, folders))}; give folders of finished jobs, or run one:"
            f" python src/run.py{more}"
        )
    return sorted(found.values(), key=lambda job: (-job.ended, job.name))
