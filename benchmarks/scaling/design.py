"""What is simulated: the protocol of a store in object storage, stages and what they take, and a sweep's machines."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

HOUR = 3600.0
KINDS = ("PUT", "PART", "GET", "HEAD", "LIST", "DELETE")  # PART: one of several by which a large file is sent
Requests = Mapping[str, int]
Key = tuple[str, int, int]  # stage, replicate, and which of the settings that the stage depends on

FILES = 3  # of an artifact, on average
KEPT = 2  # checkpoints in a working folder: each with its checksum, and the rows of losses beside them
# What a worker asks the store for one stage; tests/unit/store/test_requests.py counts what the code asks.
LOOK: Requests = {"GET": 1}  # for the manifest
FETCH: Requests = {"GET": FILES}
PRODUCE: Requests = {"GET": 2}  # the manifest again, before and after this machine's own lease is taken
UNHELD: Requests = {"GET": 1}  # a lease that is not there
AGE: Requests = {"GET": 1, "PUT": 1, "HEAD": 1, "DELETE": 1}  # another's lease, and the date of a small object
TAKE: Requests = {"PUT": 1, "GET": 2}  # the lease; then the manifest again and the list of mirrored files
RESUME: Requests = {"GET": 2 * KEPT + 1, "PUT": 2}  # these files; a beat, and their list for the new holder
BEAT: Requests = {"PUT": 1}  # the lease, on its ETag
# A checkpoint, its checksum and the rows, a beat and the list; what it replaces goes, the last of it in the end.
MIRROR: Requests = {"PUT": 5, "DELETE": 3}
UNLIST: Requests = {"DELETE": 1}  # the list of what was mirrored
PUBLISH: Requests = {"PUT": FILES + 3, "LIST": 1}  # files, a beat, the manifest, the lease's end; what was mirrored
STOP_LOOK: Requests = {"GET": 1}  # of a job: whether its sweep asks it to stop
STOP_SECONDS = 15.0  # between two of these
PART_MEGABYTES = 5 * 2**20 / 1e6  # of a larger file, beside its beginning and its end, which are requests too
BEATS = 5  # of a lease in its length
POLL_SECONDS = 5.0  # that pass before another's stage is looked at again
LIST_NAMES = 1000  # that one LIST gives at most
LIST_AGAIN, LIST_SHARE = 2.0, 20.0  # seconds that a list of a stage holds, and how many times what it took


def add(*asked: Requests) -> Requests:
    """All of these requests."""
    total: Counter[str] = Counter()
    for requests in asked:
        total.update(requests)
    return dict(total)


def parts(megabytes: float) -> Requests:
    """What a file of this size needs beside one PUT."""
    return {"PUT": 1, "PART": math.ceil(megabytes / PART_MEGABYTES)} if megabytes > PART_MEGABYTES else {}


def pages(names: int) -> Requests:
    """What a list of so many names needs."""
    return {"LIST": max(1, math.ceil(names / LIST_NAMES))}


@dataclass(frozen=True)
class Stage:
    """What a stage takes, and who shares it."""

    seconds: float
    shared_by: int  # jobs of a replicate that need the same artifact; 0: all of them
    megabytes: float  # of its artifact
    trains: bool = False  # so that its checkpoints are mirrored


# Published BasicVSR on a card, in round figures; and about the demo's network, where requests are most frequent.
PRESETS: dict[str, dict[str, Stage]] = {
    "published": {
        "flow": Stage(600, 0, 6, trains=True),
        "pretrain": Stage(24 * HOUR, 0, 20, trains=True),
        "reference": Stage(600, 0, 5),
        "score": Stage(300, 40, 1),
        "select": Stage(10, 4, 1),
        "sparsify": Stage(2 * HOUR, 4, 20, trains=True),
        "prune": Stage(30, 4, 20),
        "finetune": Stage(8 * HOUR, 1, 20, trains=True),
        "evaluate": Stage(600, 1, 5),
        "measure": Stage(120, 4, 1),
    },
    "small": {
        "flow": Stage(5, 0, 0.5, trains=True),
        "pretrain": Stage(60, 0, 1, trains=True),
        "reference": Stage(5, 0, 1),
        "score": Stage(3, 40, 0.1),
        "select": Stage(0.5, 4, 0.1),
        "sparsify": Stage(20, 4, 1, trains=True),
        "prune": Stage(1, 4, 1),
        "finetune": Stage(40, 1, 1, trains=True),
        "evaluate": Stage(5, 1, 1),
        "measure": Stage(5, 4, 0.1),
    },
}
CHECKPOINT_SHARE = 3  # weights and the two moments of Adam: a checkpoint is so many times its network
JOB_MEGABYTES = 0.5  # result, curves, crops and output of a job: the median of 125 jobs on this project's evidence


def knob(default: Any, told: str) -> Any:
    """A field that is an option of the command."""
    return field(default=default, metadata={"help": told})


@dataclass(frozen=True)
class Setting:
    """A sweep, its machines and its store."""

    jobs: int = knob(10_000, "jobs of the sweep")
    workers: int = knob(1000, "machines, one job each at a time")
    replicates: int = knob(3, "dense networks that are trained")
    failures: float = knob(1.0, "percent of the workers that vanish in an hour")
    mirror_minutes: float = knob(5.0, "between two mirrored checkpoints")
    replace_minutes: float = knob(5.0, "until another worker comes for one that vanished")
    lease_seconds: float = knob(60.0, "without a beat, after which a lease is anyone's")
    start_seconds: float = knob(10.0, "that a job's process takes to start")
    request_seconds: float = knob(0.1, "that a request takes, beside its bytes")
    rate: float = knob(80.0, "megabytes a second between a worker and the store")
    home_rate: float = knob(10.0, "megabytes a second to the parent")
    # 1,000 jobs took 13 s of CPU to plan (EXPERIMENTS.md, "Many jobs, and a busy machine").
    plan_seconds: float = knob(0.013, "of the parent, to plan one job")
    # Milliseconds on a loaded core: 0.7 for its files when it starts, 2.8 in Dask, 0.8 for those that it sends.
    handle_seconds: float = knob(0.005, "of the parent, to start one job and to put its files away")
    # 6.6 for each of ten stages on a loaded core, and 32 to see whether a measurement runs on this machine.
    look_microseconds: float = knob(100.0, "of the parent, to see which stages of one job are there")
    spread: float = knob(0.0, "percent by which a stage may take more or less; 0 lets workers march in step")
    seed: int = knob(0, "of failures and of the spread")
    stages: Mapping[str, Stage] = field(default_factory=lambda: PRESETS["published"])

    def takes(self, requests: Requests, megabytes: float = 0.0) -> float:
        """Seconds of a worker's requests, one after the other; but parts of a file go side by side."""
        in_turn = sum(min(number, 1) if kind == "PART" else number for kind, number in requests.items())
        return in_turn * self.request_seconds + megabytes / self.rate

    def collect_seconds(self) -> float:
        """What the parent needs to fetch all stages of all jobs, as for jobs that were finished before."""
        distinct = Counter(name for name, _, _ in self.distinct())
        asked = sum(number * (LOOK["GET"] + FETCH["GET"]) + pages(number)["LIST"] for number in distinct.values())
        return asked * self.request_seconds + self.kept_megabytes() / self.home_rate

    def kept_megabytes(self) -> float:
        """The size of all artifacts."""
        return sum(self.stages[name].megabytes for name, _, _ in self.distinct())

    def keys(self, job: int) -> list[Key]:
        """The artifacts of a job, in the order in which it makes them. Replicates take turns."""
        settings, replicate = divmod(job, self.replicates)
        return [
            (name, replicate, settings // stage.shared_by if stage.shared_by else 0)
            for name, stage in self.stages.items()
        ]

    def distinct(self) -> set[Key]:
        """The artifacts of all jobs."""
        return {key for job in range(self.jobs) for key in self.keys(job)}

    def ideal(self) -> float:
        """Seconds of a sweep that loses nothing: what all share is one chain, the rest is divided evenly."""
        alone = sum(stage.seconds for stage in self.stages.values() if stage.shared_by)
        chain = sum(stage.seconds for stage in self.stages.values()) - alone
        rest = sum(self.stages[name].seconds for name, _, _ in self.distinct() if self.stages[name].shared_by)
        return chain + max(alone, rest / self.workers)
