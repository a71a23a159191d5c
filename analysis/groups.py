"""Runs as groups inside which they can be compared: a panel, a section or a choice for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.runs import Run, Runs
from vsrprune.errors import UserError
from vsrprune.results.grounds import by_ground, ground_names, ground_of
from vsrprune.results.measured import timing_notes
from vsrprune.results.replicates import by_network

GROUPS_SHOWN = 4  # at once; the others are named, with the option that chooses one
OPTION = "--group"
HELP = "show this group of comparable runs alone: its number or its name, as they are listed where there are several"


@dataclass(frozen=True)
class Group:
    """Runs on the same clips by the same protocol, with replicates of one dense network.

    number: from 1, in the order of the runs. name: what tells the group from the others.
    """

    number: int
    name: str
    runs: Runs

    @property
    def title(self) -> str:
        """Number and name, either of which chooses it."""
        return f"{self.number} ({self.name})"

    @property
    def dense_psnr(self) -> float:
        """PSNR of the dense network in dB, the mean over its replicates."""
        values = [jobs[0].result.quality["dense"].psnr for jobs in by_network(self.runs.finished).values()]
        return sum(values) / len(values)

    @property
    def timing_notes(self) -> list[str]:
        """What a reader of the runs' times must know."""
        return timing_notes([run.measured for run in self.runs.finished])


def grouped(runs: Runs, apart_from: Sequence[str] = ()) -> list[Group]:
    """The runs in groups, those of the first run first. apart_from: see `by_ground`."""
    members = by_ground(runs.finished, apart_from)
    names = ground_names([ground_of(jobs[0].result, apart_from) for jobs in members])
    return [
        Group(number, name, Runs(jobs, []))
        for number, (jobs, name) in enumerate(zip(members, names, strict=True), start=1)
    ]


def group_of(groups: Sequence[Group], run: Run) -> Group:
    """The group that a run is in."""
    return next(group for group in groups if any(other is run for other in group.runs.finished))


def chosen_groups(groups: Sequence[Group], wanted: str) -> list[Group]:
    """The group of that number or name, or all of them. Raises UserError where none is meant."""
    found = [group for group in groups if wanted in ("", str(group.number), group.name)]
    if not found:
        raise UserError(f"{OPTION} must be one of {listed(groups)}; got {wanted!r}")
    return found


def listed(groups: Sequence[Group]) -> str:
    """Their numbers and names."""
    return ", ".join(group.title for group in groups)
