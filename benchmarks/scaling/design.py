"""What is simulated: the protocol of a store in object storage, stages and what they take, and a sweep's machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

HOUR = 3600.0
KINDS = ("PUT", "GET", "HEAD", "LIST", "DELETE")
Requests = Mapping[str, int]
Key = tuple[str, int, int]  # stage, replicate, and which of the settings that the stage depends on

# What a worker asks the store for one stage.
LOOK: Requests = {"GET": 1}  # for the manifest
FETCH: Requests = {"GET": 3}  # the files of an artifact, three on average
AGE: Requests = {"GET": 1, "PUT": 1, "HEAD": 1, "DELETE": 1}  # of another's lease: it, and a small object's date
TAKE: Requests = {"PUT": 1, "GET": 2}  # the lease; then the manifest again and the pointer to a checkpoint
RESUME: Requests = {"GET": 2}  # the files of a checkpoint
BEAT: Requests = {"PUT": 1}  # the lease, on its ETag
MIRROR: Requests = {"PUT": 3}  # the two files of a checkpoint, and the pointer to it
PUBLISH: Requests = {"PUT": 6, "DELETE": 1}  # a beat, four files, the manifest; the lease goes
# What the parent of the sweep asks for a job that has ended: the manifests and files of `evaluate` and `measure`.
RESULTS: Requests = {"GET": 8}
BEATS = 5  # of a lease in its length
POLL_SECONDS = 5.0  # between two looks at a stage that another makes
LIST_NAMES = 1000  # that one LIST gives at most
LIST_AGAIN, LIST_SHARE = 2.0, 20.0  # seconds between two lists of a stage, and how many times what the last one took


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
    home_rate: float = knob(10.0, "megabytes a second between the parent and the store")
    # 1,000 jobs took 13 s of CPU to plan (EXPERIMENTS.md, "Many jobs, and a busy machine").
    plan_seconds: float = knob(0.013, "of the parent, to plan one job")
    # Two-tuples in a set of 30,000, by way of two calls, as `missing_stages` asks: 0.38 on a loaded core.
    look_up_microseconds: float = knob(0.4, "of the parent, to see whether one stage of one job is there")
    look_ups: str = knob("each", "each: all running jobs are looked through for each that waits; once: for all of them")
    downloads: int = knob(1, "results that the parent downloads at a time")
    spread: float = knob(0.0, "percent by which a stage may take more or less; 0 lets workers march in step")
    seed: int = knob(0, "of failures and of the spread")
    stages: Mapping[str, Stage] = field(default_factory=lambda: PRESETS["published"])

    def takes(self, requests: Requests, megabytes: float = 0.0) -> float:
        """Seconds of a worker's requests, one after the other."""
        return sum(requests.values()) * self.request_seconds + megabytes / self.rate

    def download_seconds(self) -> float:
        """What the parent needs for one job's results."""
        megabytes = self.stages["evaluate"].megabytes + self.stages["measure"].megabytes
        return RESULTS["GET"] * self.request_seconds + megabytes / self.home_rate

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
