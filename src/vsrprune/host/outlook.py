"""The time that is left of a job and of its sweep: what was foretold, at the pace that is seen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from vsrprune.host.progress import readable_time

SWEEP = "VSRPRUNE_FORETOLD"  # the variable by which a sweep tells its jobs
SEEN_SECONDS = 5.0  # of a running stage, before its pace counts
# A pace is seen on seconds that were foretold; so many more count as if they had been met, or the first short stage,
# which reads the clips besides, would speak for hours.
TRUSTED_SECONDS, TRUSTED_SHARE = 10.0, 0.1


@dataclass(frozen=True)
class Foretold:
    """What was foretold of a job, in seconds.

    stages: of the stages that it has to make, by their keys; empty where nothing is known. later: of what its sweep
    has to make after it; None for a job alone. took, of: seconds of stages that the sweep has made, and what was
    foretold of them.
    """

    stages: Mapping[str, float] = field(default_factory=dict)
    later: float | None = None
    took: float = 0.0
    of: float = 0.0

    def text(self) -> str:
        """As the variable SWEEP holds it."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> Foretold:
        """What `text` wrote."""
        return cls(**json.loads(text))


class Outlook:
    """What is left of a job whose stages are made one after the other."""

    def __init__(self, foretold: Foretold) -> None:
        self._left, self._later = dict(foretold.stages), foretold.later
        self._took, self._of = foretold.took, foretold.of
        everything = sum(self._left.values()) + (self._later or 0.0)
        self._trusted = max(TRUSTED_SECONDS, TRUSTED_SHARE * everything)

    def ended(self, key: str, seconds: float | None) -> None:
        """A stage is done; `seconds` is what it took, None if it was there already."""
        expected = self._left.pop(key, None)
        if expected is not None and seconds is not None:
            self._took, self._of = self._took + seconds, self._of + expected

    def left(self, key: str, taken: float, stage_left: float | None) -> tuple[float | None, float | None]:
        """Seconds that are left of the job and of its sweep while it makes a stage; None where that is not known.

        taken: seconds since the stage began. stage_left: seconds that it still takes, by its steps; None without them.
        """
        if key not in self._left:
            return None, None
        expected = self._left[key]
        seen = stage_left is not None and taken >= SEEN_SECONDS
        took, of = (self._took + taken + (stage_left or 0.0), self._of + expected) if seen else (self._took, self._of)
        pace = (took + self._trusted) / (of + self._trusted)
        rest = max(0.0, expected * pace - taken) if stage_left is None else stage_left
        job = rest + pace * sum(seconds for other, seconds in self._left.items() if other != key)
        return job, None if self._later is None else job + pace * self._later

    def words(self, key: str, taken: float, stage_left: float | None) -> str:
        """Such as "left: 58 s, job 3 min, sweep 22 min"; empty where nothing is known."""
        job, sweep = self.left(key, taken, stage_left)
        parts = [
            f"{name}{readable_time(seconds)}"
            for name, seconds in (("", stage_left), ("job ", job), ("sweep ", sweep))
            if seconds is not None
        ]
        return f"left: {', '.join(parts)}" if parts else ""
