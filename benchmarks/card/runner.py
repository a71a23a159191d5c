"""Sections run one after the other within a time limit; what is known is on disk after each of them."""

from __future__ import annotations

import json
import os
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
    work: the folder of what the sections themselves write.
    """

    device: str
    out: Path
    work: Path
    seconds: float
    started: float = field(default_factory=time.monotonic)
    results: dict[str, Found] = field(default_factory=dict)

    @property
    def rehearsed(self) -> bool:
        """Whether this is the rehearsal on the CPU."""
        return self.device == "cpu"

    @property
    def trainer(self) -> str:
        """The trainer of the jobs that are started."""
        return "cpu" if self.rehearsed else "gpu"

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
            os.killpg(process.pid, signal.SIGKILL)
            said = process.communicate()[0] + f"\n(stopped after {limit:.0f} s)"
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

    def row(self, tail: int = 400) -> Found:
        """As a row: the end of what it printed only where it failed."""
        return {"code": self.code, "seconds": self.seconds, **({"said": self.said[-tail:]} if self.code else {})}


def run_sections(check: Check, sections: Mapping[str, Section], wanted: Sequence[str]) -> None:
    """Run the sections that are wanted and not yet answered without an error. Whatever one does, the next one runs."""
    for name in wanted:
        section, known = sections[name], check.results.get(name)
        if known is not None and "error" not in known and "skipped" not in known:
            say(f"{name}: known from before")
            continue
        if check.left() < section.seconds:
            check.results[name] = {"skipped": f"{check.left():.0f} s left, {section.seconds:.0f} wanted"}
            check.save()
            continue
        say(f"{name} ({check.left():.0f} s left): {section.question}")
        found: Found = {}
        check.results[name] = found
        began = time.monotonic()
        try:
            section.answer(check, found)
        except Exception as error:  # recorded, and the next section runs
            found["error"] = "".join(traceback.format_exception(error))[-3000:]
            say(found["error"][-600:])
        found["seconds"] = round(time.monotonic() - began, 1)
        check.save()


def missed(results: Mapping[str, Any]) -> list[str]:
    """Bars that are not met and sections with an error, by name."""
    names = []
    for name, found in results.items():
        if "error" in found:
            names.append(f"{name} (error)")
        names += [f"{name}: {bar}" for bar, row in found.get("bars", {}).items() if not row["met"]]
    return names


def say(text: str) -> None:
    """Print at once: the output is a log that somebody waits for."""
    print(text, flush=True)
