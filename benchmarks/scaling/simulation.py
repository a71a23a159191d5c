"""Workers, their store, and the parent of their sweep, event by event."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import simpy

from benchmarks.scaling.design import (
    AGE,
    BEAT,
    BEATS,
    CHECKPOINT_SHARE,
    FETCH,
    HOUR,
    JOB_MEGABYTES,
    KEPT,
    KINDS,
    LIST_AGAIN,
    LIST_SHARE,
    LOOK,
    MIRROR,
    POLL_SECONDS,
    PRODUCE,
    PUBLISH,
    RESUME,
    STOP_LOOK,
    STOP_SECONDS,
    TAKE,
    UNHELD,
    UNLIST,
    Key,
    Requests,
    Setting,
    Stage,
    add,
    pages,
    parts,
)

Steps = Generator[simpy.Event, Any, None]


class Ledger:
    """How many requests of each kind the store got in each second."""

    def __init__(self) -> None:
        self._seconds = {kind: np.zeros(4096, np.int64) for kind in KINDS}

    def note(self, requests: Requests, times: float | np.ndarray[Any, Any]) -> None:
        """The same requests at each of some times, in seconds."""
        at = np.atleast_1d(np.asarray(times)).astype(np.int64)
        for kind, number in requests.items() if at.size else ():
            if at[-1] >= self._seconds[kind].size:
                self._seconds[kind] = np.pad(self._seconds[kind], (0, int(at[-1])))
            np.add.at(self._seconds[kind], at, number)

    def total(self, *kinds: str) -> int:
        """Requests of these kinds in all."""
        return sum(int(self._seconds[kind].sum()) for kind in kinds)

    def rates(self, *kinds: str) -> np.ndarray[Any, Any]:
        """Requests of these kinds in each second; requests that follow each other count where the first was."""
        length = max(self._seconds[kind].size for kind in kinds)
        padded = [np.pad(self._seconds[kind], (0, length - self._seconds[kind].size)) for kind in kinds]
        return np.asarray(np.sum(padded, axis=0))


@dataclass
class Artifact:
    """A stage as the store knows it."""

    seconds: float  # that it takes to make
    news: simpy.Event  # it is published, or its holder vanished
    published: bool = False
    lease_ends: float = 0.0  # 0: nobody ever held it; infinite: it is held
    saved: float = 0.0  # seconds of its training that a mirrored checkpoint holds
    vanished: float = 0.0  # when its last holder did
    redone: float = 0.0  # seconds of work that went with it


@dataclass
class Tally:
    """What came of a sweep; all times in seconds, summed over workers where nothing else is said."""

    makespan: float = 0.0
    shared_until: float = 0.0  # when the last of what all jobs of a replicate share was there
    finished: Counter[Key] = field(default_factory=Counter)
    vanished: int = 0
    lost: list[float] = field(default_factory=list)  # by each failure that hit a stage under way
    work: float = 0.0  # of stages that were published
    redone: float = 0.0
    starting: float = 0.0
    asking: float = 0.0
    waiting: float = 0.0
    missing: float = 0.0
    looking_up: float = 0.0  # of the parent
    handling: float = 0.0  # of the parent
    listing: float = 0.0  # of the parent
    mirrored: float = 0.0  # megabytes


class Simulation:
    """The workers and their store; the parent of the sweep is `Parent`."""

    def __init__(self, setting: Setting) -> None:
        self.setting, self.env, self.ledger, self.tally = setting, simpy.Environment(), Ledger(), Tally()
        self.keys = [setting.keys(job) for job in range(setting.jobs)]
        self._random = random.Random(setting.seed)
        self.artifacts: dict[Key, Artifact] = {}
        for key in dict.fromkeys(key for keys in self.keys for key in keys):
            seconds = setting.stages[key[0]].seconds * (1 + setting.spread / 100 * self._random.uniform(-1, 1))
            self.artifacts[key] = Artifact(seconds, self.env.event())
        self.published: dict[str, list[Key]] = {name: [] for name in setting.stages}
        self.tasks = simpy.Store(self.env)
        self._line = simpy.Resource(self.env)  # to the parent
        self.ended: list[int] = []  # jobs that the parent has not seen end
        self.news = self.env.event()  # for the parent

    def run(self) -> Tally:
        """Run the sweep to its end."""
        for _ in range(self.setting.workers):
            self.env.process(self._machine())
        self.env.run(until=self.env.process(Parent(self).run()))
        self.tally.makespan = self.env.now
        return self.tally

    def tell(self) -> None:
        """Tell the parent that there is something to see."""
        if not self.news.triggered:
            self.news.succeed()

    def ask(self, requests: Requests, megabytes: float = 0.0) -> Steps:
        """Ask the store, and wait for its answers."""
        self.ledger.note(requests, self.env.now)
        seconds = self.setting.takes(requests, megabytes)
        self.tally.asking += seconds
        yield self.env.timeout(seconds)

    def _machine(self) -> Steps:
        """A worker, and those that come in its place."""
        while True:
            life = self.env.process(self._life())
            if not self.setting.failures:
                return
            yield self.env.timeout(self._random.expovariate(self.setting.failures / 100 / HOUR))
            life.interrupt()
            self.tally.vanished += 1
            self.tally.missing += self.setting.replace_minutes * 60
            yield self.env.timeout(self.setting.replace_minutes * 60)

    def _life(self) -> Steps:
        """Jobs, one after the other, with what was fetched or made once at hand; a job that is lost is queued again."""
        here: set[Key] = set()
        task = self.tasks.get()
        try:
            while True:
                job = yield task
                self.tally.starting += self.setting.start_seconds
                yield self.env.timeout(self.setting.start_seconds)
                yield from self._job(job, here)
                task = self.tasks.get()
                self.env.process(self._bring(job))
        except simpy.Interrupt:
            if task.triggered:
                self.tasks.put(task.value)
            else:
                task.cancel()

    def _job(self, job: int, here: set[Key]) -> Steps:
        """See which stages of a job there are, then have them one after the other."""
        began, needed = self.env.now, [key for key in self.keys[job] if key not in here]
        try:
            for name, _, _ in needed:
                yield from self.ask(pages(len(self.published[name])))
            for key in needed:
                yield from self.want(key)
                here.add(key)
        finally:
            looks = int((self.env.now - began) / STOP_SECONDS)
            self.ledger.note(STOP_LOOK, began + STOP_SECONDS * np.arange(1, looks + 1))

    def _bring(self, job: int) -> Steps:
        """Send a job's files to the parent by way of the engine."""
        with self._line.request() as turn:
            yield turn
            yield self.env.timeout(JOB_MEGABYTES / self.setting.home_rate)
        self.ended.append(job)
        self.tell()

    def want(self, key: Key) -> Steps:
        """Fetch an artifact, or make it, or wait for whoever makes it."""
        artifact, stage, came = self.artifacts[key], self.setting.stages[key[0]], self.env.now
        yield from self.ask(LOOK)
        if not artifact.published:
            yield from self.ask(PRODUCE)
        while not artifact.published:
            known = bool(artifact.lease_ends)
            yield from self.ask(AGE if known else UNHELD)
            if self.env.now >= artifact.lease_ends:
                if known:
                    waited = self.env.now - max(came, artifact.vanished)
                    self.tally.lost.append(artifact.redone + waited + self.setting.start_seconds)
                yield from self._make(key, artifact, stage)
                return
            if known:  # else another was quicker, and it is seen who
                yield from self._wait(artifact)
                yield from self.ask(LOOK)
        yield from self.ask(FETCH, stage.megabytes)

    def _wait(self, artifact: Artifact) -> Steps:
        """Poll until the next look can bring something new: an artifact, or a lease that has ended."""
        # Looks that see nothing new are counted afterwards: they keep nobody else waiting.
        first = self.env.now + POLL_SECONDS
        period = POLL_SECONDS + self.setting.takes(LOOK) + self.setting.takes(AGE)
        try:
            while not artifact.published and artifact.lease_ends == math.inf:
                yield artifact.news
            until = self.env.now if artifact.published else max(self.env.now, artifact.lease_ends)
            looks = max(0, math.ceil((until - first) / period))
            yield self.env.timeout(max(0.0, first + looks * period - self.env.now))
        finally:
            self.tally.waiting += self.env.now - first + POLL_SECONDS
            seen = first + period * np.arange(math.ceil((self.env.now - first) / period - 1e-9))
            self.ledger.note(LOOK, seen)
            self.ledger.note(AGE, seen + self.setting.takes(LOOK))

    def _make(self, key: Key, artifact: Artifact, stage: Stage) -> Steps:
        """Make an artifact under its lease. If the worker vanishes, what was mirrored is there for the next."""
        taken, began, left, gone = self.env.now, math.inf, artifact.seconds - artifact.saved, None
        artifact.lease_ends = math.inf
        checkpoint = CHECKPOINT_SHARE * stage.megabytes
        try:
            yield from self.ask(TAKE)
            if artifact.saved:
                yield from self.ask(RESUME, KEPT * checkpoint)
            began = self.env.now
            yield self.env.timeout(left)
            yield from self.ask(add(PUBLISH, parts(stage.megabytes)), stage.megabytes)
        except simpy.Interrupt as interrupt:
            gone = interrupt
        last_beat = self._beat(taken)
        worked = min(max(0.0, self.env.now - began), left)
        saved = self._mirror(began, worked, checkpoint) if stage.trains else 0.0
        if gone:
            artifact.saved += saved
            artifact.vanished, artifact.redone = self.env.now, worked - saved
            artifact.lease_ends = last_beat + self.setting.lease_seconds
            self.tally.redone += artifact.redone
            artifact.news.succeed()
            artifact.news = self.env.event()
            raise gone
        if artifact.saved or saved:
            self.ledger.note(UNLIST, self.env.now)
        artifact.published = True
        artifact.news.succeed()
        self.published[key[0]].append(key)
        self.tally.finished[key] += 1
        self.tally.work += artifact.seconds
        if not stage.shared_by:
            self.tally.shared_until = self.env.now

    def _beat(self, taken: float) -> float:
        """Note the beats of a lease since it was taken; when the last was."""
        every = self.setting.lease_seconds / BEATS
        beats = int((self.env.now - taken) / every)
        self.ledger.note(BEAT, taken + every * np.arange(1, beats + 1))
        return taken + every * beats

    def _mirror(self, began: float, worked: float, megabytes: float) -> float:
        """Note the checkpoints that were mirrored while a training worked; the seconds of work that they hold."""
        asked = add(MIRROR, parts(megabytes))
        every, sending = self.setting.mirror_minutes * 60, self.setting.takes(asked, megabytes)
        sent = int(max(0.0, worked - sending) / every)
        self.ledger.note(asked, began + every * np.arange(1, sent + 1) if sent else np.zeros(0))
        self.tally.mirrored += sent * megabytes
        return sent * every


class Parent:
    """The process that the user called: it plans, starts and collects the jobs, and knows of stages by lists alone."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation, self._setting, self._env = simulation, simulation.setting, simulation.env
        self._pending = list(range(self._setting.jobs))
        self._running = 0
        self._wanted: Counter[Key] = Counter()  # by running jobs
        self._known: set[Key] = set()
        self._next = [0] * self._setting.jobs  # the first stage of each job that is not known
        self._thread = simpy.Resource(self._env)  # it does one thing at a time

    def run(self) -> Steps:
        """From the command to its table."""
        yield self._env.timeout(self._setting.jobs * self._setting.plan_seconds)
        for stage in self._setting.stages:
            self._env.process(self._listing(stage))
        while True:
            with self._thread.request() as turn:
                yield turn
                ended, self._simulation.ended = self._simulation.ended, []
                for job in ended:
                    self._wanted.subtract(self._simulation.keys[job])
                self._running -= len(ended)
                yield from self._handle(len(ended))
                yield from self._start_ready()
            if not self._pending and not self._running:
                return
            yield self._simulation.news
            self._simulation.news = self._env.event()

    def _handle(self, jobs: int) -> Steps:
        seconds = jobs * self._setting.handle_seconds
        self._simulation.tally.handling += seconds
        yield self._env.timeout(seconds)

    def _start_ready(self) -> Steps:
        """Start jobs in their order, as long as workers are free; none whose next stage a running one will make."""
        yield from self._look(self._running)  # at what they are going to make
        passed, place = [], 0
        while place < len(self._pending) and self._running < self._setting.workers:
            job = self._pending[place]
            place += 1
            if self._is_ready(job):
                yield from self._look(1)
                self._running += 1
                self._wanted.update(self._simulation.keys[job])
                self._simulation.tasks.put(job)
            else:
                passed.append(job)
        self._pending[:place] = passed
        yield from self._look(len(passed))

    def _look(self, jobs: int) -> Steps:
        seconds = jobs * self._setting.look_microseconds / 1e6
        self._simulation.tally.looking_up += seconds
        yield self._env.timeout(seconds)

    def _is_ready(self, job: int) -> bool:
        keys = self._simulation.keys[job]
        while self._next[job] < len(keys) and keys[self._next[job]] in self._known:
            self._next[job] += 1
        return self._next[job] == len(keys) or not self._wanted[keys[self._next[job]]]

    def _listing(self, stage: str) -> Steps:
        """List the artifacts of a stage as long as one is missing, while the parent does nothing else."""
        published, seen = self._simulation.published[stage], 0
        distinct = sum(key[0] == stage for key in self._simulation.artifacts)
        while seen < distinct:
            with self._thread.request() as turn:
                yield turn
                there, asked = len(published), pages(len(published))
                self._simulation.ledger.note(asked, self._env.now)
                took = self._setting.takes(asked)
                self._simulation.tally.listing += took
                yield self._env.timeout(took)
            if there > seen:
                self._known.update(published[seen:there])
                seen = there
                self._simulation.tell()
            # What a list holds is counted from its beginning.
            yield self._env.timeout(max(LIST_AGAIN, LIST_SHARE * took) - took)


def simulate(setting: Setting) -> tuple[Tally, Ledger]:
    """What came of a sweep, and what its store was asked."""
    simulation = Simulation(setting)
    return simulation.run(), simulation.ledger
