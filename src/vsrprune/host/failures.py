"""Failure cards: why and where a job failed, what to change, and the command that retries it alone."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vsrprune.commands import typed, typed_command
from vsrprune.errors import LostRankError, UserError
from vsrprune.host.causes import MORE_TIME, first_line, known_cause, less_memory
from vsrprune.host.processes import OUTPUT, PREEMPTED
from vsrprune.host.progress import readable_rate, readable_time
from vsrprune.store.atomic import mend_os_error, write_atomically
from vsrprune.store.lease import Holder
from vsrprune.store.sealed import read_sealed, write_sealed

CARD, STATE = "failure.json", "state.json"
RETRY = "retry.sh"  # beside the card: runs the job alone again
START = "start"  # the stage in state.json before the first one begins
STATE_EVERY_S = 1.0  # between two writes: a step may take milliseconds, a write to NFS as long


@dataclass(frozen=True)
class FailureCard:
    """Why a job failed.

    stage, step: how far the job came. cause: one line. advice: what to change. command: the command that retries this
    job alone, in one line. trace: the traceback; empty for errors that the user can mend.
    """

    stage: str
    step: int
    cause: str
    advice: str
    command: str
    trace: str = ""

    def save(self, folder: Path) -> None:
        """Write failure.json into the job's folder, and beside it retry.sh, which runs `command`."""
        if self.command:
            write_atomically(folder / RETRY, _script(self.command))
            (folder / RETRY).chmod(0o755)
        write_sealed(folder / CARD, {**asdict(self), "retry": retry_line(folder.absolute())})

    @classmethod
    def load(cls, folder: Path) -> FailureCard | None:
        """The card in a job's folder, if there is one. Raises UserError for one that is damaged."""
        path = folder / CARD
        try:
            if not path.is_file():
                return None
            values = read_sealed(path)
            values.pop("retry", None)  # it is where the card was written, and the folder may have moved
            return cls(**values)
        except (OSError, ValueError, TypeError) as error:
            raise UserError(
                f"{path} is damaged ({error}): run the job's command again, which writes a new one"
            ) from error


@dataclass(frozen=True)
class Reached:
    """How far the job of a folder is: its stage, the last step, how many there are, and from when and where it trains.

    since: seconds of the clock; 0 where nothing trains. written: when it was said.
    """

    stage: str
    step: int = 0
    steps: int = 0
    since: float = 0.0
    since_step: int = 0
    written: float = 0.0

    @classmethod
    def read(cls, folder: Path) -> Reached:
        """What state.json says; the start where it says nothing that can be read."""
        try:
            told = json.loads((folder / STATE).read_text())
            numbers = {name: int(told.get(name, 0)) for name in ("step", "steps", "since_step")}
            written = (folder / STATE).stat().st_mtime
            return cls(str(told["stage"]), since=float(told.get("since", 0.0)), written=written, **numbers)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return cls(START)

    @property
    def share(self) -> float:
        """The share of the stage that is done, as far as steps say so."""
        return (self.step + 1) / self.steps if self.steps and self.since else 0.0

    def words(self, now: float) -> str:
        """Such as "finetune 41/100, 3.2/s, left: 18 s"; of a stage without steps for how long it has gone on."""
        if not (self.steps and self.since):
            return f"{self.stage}, {readable_time(max(0.0, now - self.written))} so far"
        words, seconds = f"{self.stage} {self.step + 1}/{self.steps}", self.step_seconds(now)
        if seconds is None:
            return words
        left = seconds * (self.steps - self.step - 1)
        return f"{words}, {readable_rate(1 / seconds)}, left: {readable_time(left)}"

    def step_seconds(self, now: float) -> float | None:
        """What a step has taken since this process trains; None before the first, and where nothing trains."""
        fresh, taken = self.step - self.since_step, now - self.since
        return taken / fresh if self.steps and self.since and fresh and taken > 0 else None


class JobState:
    """How far a job is, in a file: all that is left of a job that was killed.

    state.json has the stage, the step and the process, as in a lease. While a stage trains it also has the number of
    steps, the latest loss, and since when (seconds of the clock) and from which step this process has trained. It has
    `waiting` until the job has a process of its own.
    """

    def __init__(self, folder: Path) -> None:
        self._path, self._written = folder / STATE, 0.0
        folder.mkdir(parents=True, exist_ok=True)
        forget_failure(folder)  # of the last try: a card means that the job has ended
        self.stage(START)

    @staticmethod
    def waiting(folder: Path) -> None:
        """Say that this process will start the job in `folder` later; how far it came before is kept."""
        with contextlib.suppress(OSError):  # only those who watch read it; a job that cannot write says so itself
            folder.mkdir(parents=True, exist_ok=True)
            _replace(folder / STATE, {**_reached(*read_state(folder)), "waiting": True})

    def stage(self, stage: str, steps: int = 0) -> None:
        """A stage begins; `steps` is its length where it trains."""
        self._state = _reached(stage, 0) | ({"steps": steps} if steps else {})
        self._write()

    def step(self, stage: str, step: int, loss: float | None = None) -> None:
        """A step is done; written once a second at most."""
        self._state.setdefault("since", time.time())
        self._state.setdefault("since_step", step)
        self._state.update(stage=stage, step=step, loss=loss)
        if time.monotonic() - self._written >= STATE_EVERY_S:
            self._write()

    def at(self, step: int) -> None:
        """A step of the stage under way is done, of which nothing is logged."""
        self.step(self._state["stage"], step, self._state.get("loss"))

    def finished(self) -> None:
        """The job is done; its result says the rest."""
        self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        _replace(self._path, self._state)
        self._written = time.monotonic()


def _replace(path: Path, state: dict[str, Any]) -> None:
    """Write a state so that a kill in the middle leaves the one before."""
    # No fsync, unlike `write_atomically`: it is written every second, and only a crash of the machine could tear it.
    coming = path.with_suffix(".coming")
    coming.write_text(json.dumps(state))
    coming.replace(path)


def _reached(stage: str, step: int) -> dict[str, Any]:
    return {"stage": stage, "step": step, "process": asdict(Holder.this_process())}


def card_of_error(error: BaseException, folder: Path, command: str) -> FailureCard:
    """The card of an exception that ended a job."""
    stage, step = read_state(folder)
    cause, advice = _explain(error, stage)
    trace = "" if isinstance(error, UserError) else "".join(traceback.format_exception(error))
    return FailureCard(stage, step, cause, advice, command, trace)


def card_of_exit(code: int, folder: Path, command: str) -> FailureCard:
    """The card of a process that ended without leaving one; `code` is negative for a signal, as in subprocess."""
    stage, step = read_state(folder)
    if code == -signal.SIGKILL:  # the kernel's out-of-memory killer sends it, and leaves no word
        return FailureCard(stage, step, "killed (SIGKILL), usually for want of memory", less_memory(stage), command)
    if code == PREEMPTED:
        cause = f"asked to stop by its machine again and again (exit code {PREEMPTED})"
        return FailureCard(stage, step, cause, MORE_TIME, command)
    if code < 0:
        name = signal.Signals(-code).name
        advice = "run it again; it goes on from its checkpoint. Where it dies again, trainer.workers=0 or trainer=cpu"
        return FailureCard(stage, step, f"died of {name}", f"{advice} tells whether those are to blame", command)
    log = folder / OUTPUT
    advice = f"its last lines say why: {log}" if log.is_file() else "run it again by itself: it prints why it ends"
    return FailureCard(stage, step, f"ended with exit code {code}", advice, command)


def card_of_lost_worker(error: BaseException, folder: Path, command: str) -> FailureCard:
    """The card of a job that was lost together with its worker on a cluster."""
    stage, step = read_state(folder)
    cause = f"its worker was lost ({type(error).__name__})"
    if isinstance(error, FileNotFoundError):  # it never began
        return FailureCard(stage, step, first_line(error), "do what the cause says, and run it again", command)
    advice = "run it again, it goes on from its checkpoint; why the worker went, the cluster's own logs say"
    if (folder / OUTPUT).is_file():
        advice += f", and perhaps the end of {folder / OUTPUT}"
    return FailureCard(stage, step, cause, advice, command)


def forget_failure(folder: Path) -> None:
    """Remove the card of a try that is over, and what belongs to it."""
    for name in (CARD, RETRY):
        (folder / name).unlink(missing_ok=True)


def retry_line(folder: Path) -> str:
    """What to type to run the failed job in `folder` alone again."""
    return shlex.join(["bash", str(folder / RETRY)])


def _script(command: str) -> str:
    """The content of retry.sh: `command` in the folder and by the Python of this process, an argument a line."""
    first, *rest = shlex.split(command)
    program = [sys.executable, "-m", "vsrprune"] if first == "vsrprune" else [sys.executable]
    while rest and "=" not in rest[0] and not rest[0].startswith("--"):
        program.append(rest.pop(0))
    lines = [" ".join(map(_quoted, program))]
    for item in rest:
        # A flag stands on one line with its value.
        belongs = "=" not in item and not item.startswith("-") and len(lines) > 1
        lines[-1:] = [f"{lines[-1]} {_quoted(item)}"] if belongs else [lines[-1], _quoted(item)]
    return (
        "#!/usr/bin/env bash\n"
        "# Runs this job alone again, from its last checkpoint; change a knob below, or add one, if need be.\n"
        f"cd {_quoted(os.getcwd())} || exit 2\n"
        "exec " + " \\\n    ".join(lines) + "\n"
    )


def _quoted(text: str) -> str:
    """A text as a shell reads it back; in double quotes where that is easier to read."""
    return f'"{text}"' if "'" in text and not set(text) & set('"$`\\!') else shlex.quote(text)


def retry_command(arguments: Sequence[str]) -> str:
    """A shell command that runs one job alone, from its `sys.argv`."""
    script, *rest = arguments
    return " ".join([typed_command(script) or f"python {_quoted(script)}", *map(_quoted, rest)])


def read_state(folder: Path) -> tuple[str, int]:
    """Stage and step that the job in `folder` reached."""
    reached = Reached.read(folder)
    return reached.stage, reached.step


def _explain(error: BaseException, stage: str) -> tuple[str, str]:
    text = first_line(error)
    if isinstance(error, LostRankError):
        return text, less_memory(stage)
    if isinstance(error, UserError):
        return typed(
            str(error)
        ), "do what the cause says; a knob is changed in retry.sh, or in the command that was typed"
    if isinstance(error, OSError):
        mended = mend_os_error(error)
        if mended:
            return mended
    if isinstance(error, FileNotFoundError) and error.filename:
        advice = (
            "put it back if it is yours, or name another by the knob that names it; `trace` in failure.json says where"
        )
        return f"{error.filename} was there when the job was planned, and is gone", f"{advice} it was read"
    kind = known_cause(error)
    if kind is not None:
        return f"{kind.cause}: {text}", kind.advice(stage)
    return (
        f"{type(error).__name__}: {text}",
        "this looks like a defect, or like one in code of your own; `trace` in failure.json says where",
    )
