"""Sections run one after the other within a time limit; what is known is on disk after each of them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.card.page import markdown
from vsrprune.store.atomic import write_atomically

ROOT = Path(__file__).parents[2]
RESULTS, PAGE = "gpu_check.json", "gpu_check.md"

Found = dict[str, Any]  # what a section finds, by name; filled while it runs, so that a break leaves what it had


@dataclass(frozen=True)
class Bar:
    """A value that must not fall short: at least `at_least`, at most `at_most`."""

    value: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def met(self) -> bool:
        """Whether the value lies within the bar."""
        return (self.at_least is None or self.value >= self.at_least) and (
            self.at_most is None or self.value <= self.at_most
        )

    def as_json(self) -> Found:
        """The bar with its verdict."""
        limits = {"at_least": self.at_least, "at_most": self.at_most}
        return {"value": self.value, **{k: v for k, v in limits.items() if v is not None}, "met": self.met}


@dataclass(frozen=True)
class Section:
    """One question to the card. `seconds` is how long it may need; with less left it is skipped, and says so."""

    question: str
    seconds: float
    answer: Callable[[Check, Found], None]


@dataclass
class Check:
    """What all sections share.

    device: `cuda` or `cpu`; on the CPU everything runs at tiny sizes, as a rehearsal. out: the folder of the results.
    work: the folder of what the sections themselves write, each in a folder of its name. section: the one that runs.
    """

    device: str
    out: Path
    work: Path
    seconds: float
    started: float = field(default_factory=time.monotonic)
    results: dict[str, Found] = field(default_factory=dict)
    section: str = ""

    @property
    def rehearsed(self) -> bool:
        """Whether this is the rehearsal on the CPU."""
        return self.device == "cpu"

    @property
    def trainer(self) -> str:
        """The trainer of the jobs that are started."""
        return "cpu" if self.rehearsed else "gpu"

    @property
    def own(self) -> Path:
        """The folder of what the section that runs writes; empty when it starts."""
        return self.work / self.section

    def left(self) -> float:
        """Seconds that are left."""
        return self.seconds - (time.monotonic() - self.started)

    def save(self) -> None:
        """Write what is known, as JSON and as a page."""
        write_atomically(self.out / RESULTS, json.dumps(self.results, indent=1, default=str))
        write_atomically(self.out / PAGE, markdown(self.results))

    def command(self, *arguments: str, env: Mapping[str, str] | None = None, limit: float = 240) -> Ran:
        """Run a Python command in the project's root; it is killed at `limit` seconds or when the time is up."""
        began = time.monotonic()
        limit = max(10.0, min(limit, self.left() - 5))
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, env={**os.environ, **(env or {})}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            said = process.communicate(timeout=limit)[0]
        except subprocess.TimeoutExpired:
            kill_group(process)
            said = process.communicate()[0] + f"\n(stopped after {limit:.0f} s)"
        except BaseException:  # it has a session of its own, so that Ctrl-C does not reach it
            kill_group(process)
            raise
        return Ran(process.returncode, said, round(time.monotonic() - began, 1))

    def benchmark(self, name: str, *options: str, file: str, limit: float) -> Any:
        """What `benchmarks/NAME.py OPTIONS` wrote into `file`. Raises RuntimeError if it failed."""
        ran = self.command(f"benchmarks/{name}.py", *options, limit=limit)
        if ran.code or not Path(file).is_file():
            raise RuntimeError(f"benchmarks/{name}.py ended with {ran.code}:\n{ran.said[-2000:]}")
        return json.loads(Path(file).read_text())


@dataclass(frozen=True)
class Ran:
    """How a command ended: exit code, all it printed, seconds."""

    code: int
    said: str
    seconds: float

    def sound(self) -> Found:
        """The row of a command that must succeed. Raises RuntimeError if it failed."""
        if self.code:
            raise RuntimeError(f"a command ended with {self.code} after {self.seconds} s:\n{self.said[-2000:]}")
        return {"code": self.code, "seconds": self.seconds}


def kill_group(process: subprocess.Popen[Any]) -> None:
    """Kill a process that has a session of its own, with all that it started, and wait for its end."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def run_sections(check: Check, sections: Mapping[str, Section], wanted: Sequence[str]) -> None:
    """Run the sections that are wanted and not yet answered without an error. Whatever one does, the next one runs."""
    for name in wanted:
        section, known = sections[name], check.results.get(name)
        if known is not None and is_answered(known):
            say(f"{name}: known from before")
            continue
        if check.left() < section.seconds:
            check.results[name] = {"skipped": f"{check.left():.0f} s left, {section.seconds:.0f} wanted"}
            check.save()
            continue
        say(f"{name} ({check.left():.0f} s left): {section.question}")
        found: Found = {}
        check.results[name], check.section = found, name
        shutil.rmtree(check.own, ignore_errors=True)
        check.own.mkdir(parents=True)
        began = time.monotonic()
        try:
            section.answer(check, found)
        except Exception as error:  # recorded, and the next section runs
            found["error"] = "".join(traceback.format_exception(error))[-3000:]
            say(found["error"][-600:])
        # Last of all, and only here: a section that is cut in the middle may have saved a part, which is no answer.
        found["seconds"] = round(time.monotonic() - began, 1)
        check.save()


def is_answered(found: Found) -> bool:
    """Whether a section came to its end, without an error."""
    return "seconds" in found and "error" not in found


def missed(results: Mapping[str, Any]) -> list[str]:
    """Bars that are not met, sections with an error, and sections that did not run to their end, by name."""
    names = []
    for name, found in results.items():
        if "error" in found:
            names.append(f"{name} (error)")
        elif not is_answered(found):
            names.append(f"{name} (not run)")
        names += [f"{name}: {bar}" for bar, row in found.get("bars", {}).items() if not row["met"]]
    return names


def say(text: str) -> None:
    """Print at once: the output is a log that somebody waits for."""
    print(text, flush=True)
