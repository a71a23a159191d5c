"""A network of one's own without torch: which file and class it is, and what is known of it once it was described.

To describe a network, a child process builds it and proves its declaration. What it finds is kept by the content of the
source, so that this happens once for a network and not once for a job.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vsrprune.channels.layout import ChannelLayout
from vsrprune.errors import UserError
from vsrprune.knobs import KNOB, Knob, check_knobs, knob
from vsrprune.networks.own.sources import Source, read_source
from vsrprune.networks.parts.traits import Reach, Traits
from vsrprune.store.atomic import write_cache
from vsrprune.store.sealed import SEAL, checksum_of, read_sealed
from vsrprune.store.store import content_key

VERSION = 4  # raise it when a description says more, or something else
SOURCE = "source"  # the folder with a network's code, beside its weights


@dataclass(frozen=True)
class OwnArguments(Traits):
    """A network of one's own: a class in a Python file. Two copies of one source are one network."""

    file: str = field(
        default="",
        compare=False,
        metadata={
            KNOB: Knob("The file and its class, FILE.py:Class; the class can be left out where there is one network.")
        },
    )
    arguments: dict[str, Any] = knob({}, "What the constructor of the class is called with, such as {channels: 24}.")

    def __post_init__(self) -> None:
        """Raises UserError for a file or arguments of another type."""
        check_knobs(self, "model.")

    @property
    def place(self) -> tuple[Path, str]:
        """The file, and the name of the class; empty if it is not given."""
        file, colon, name = self.file.rpartition(":")
        return (Path(file), name) if colon and not name.endswith(".py") else (Path(self.file), "")

    def called(self, preset: str) -> str:
        """The class, or the file where the class is left out: all networks of one's own share the preset `own`."""
        file, name = self.place
        return name or file.stem or preset

    def prepared(self, folder: Path) -> DescribedArguments:
        """See `Traits`. Raises UserError, one line, for a file, class, argument or declaration that is wrong.

        The first time this takes seconds: a child process imports torch and runs the network.
        """
        if not self.file:
            raise UserError("model.file is empty; give the file and class of your network: model.file=my_net.py:MyNet")
        file, name = self.place
        try:
            source = read_source(file)
        except UserError as error:
            raise UserError(f"model.file={self.file}: {error}") from error
        given = {"content": source.content, "class": name, "arguments": self.arguments, "version": VERSION}
        known = folder.expanduser() / f"{content_key(given)}.json"
        description = _read(known)
        if description is None or description.content != source.content:
            values = _described_by_a_child(self, source, name)
            description = Description.from_json(values)
            # The child reads the file again: what it describes must not be remembered for what stood there before.
            if description.content != source.content:
                raise UserError(
                    f"model.file={self.file}: the file changed while it was described; run the command again"
                )
            write_cache(known, json.dumps({SEAL: checksum_of(values), **values}))
        return DescribedArguments(f"{source.file}:{description.name}", self.arguments, description=description)

    @classmethod
    def load(cls, values: dict[str, Any], folder: Path) -> DescribedArguments:
        """See `Traits`: the arguments of a network that was described and saved; the source is the copy in `folder`."""
        description = Description.from_json(values["description"])
        return DescribedArguments(str(folder / SOURCE / values["file"]), values["arguments"], description=description)


@dataclass(frozen=True)
class Description:
    """What a run of a network showed.

    `content` is a hash of its source, empty if that is no file, and `name` the name of its class. `states` holds the
    number of channels of its hidden states by name, `layouts` its channel layout by residual rule. The other fields are
    the traits of these names.
    """

    content: str
    name: str
    scale: int
    states: Mapping[str, int]
    has_flow: bool
    reach: Reach
    truncates: bool
    smallest_side: int
    layouts: Mapping[str, ChannelLayout]

    def to_json(self) -> dict[str, Any]:
        """The description as JSON."""
        return {**vars(self), "layouts": {rule: layout.to_json() for rule, layout in self.layouts.items()}}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Description:
        """What `to_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        before, after = values["reach"]
        layouts = {rule: ChannelLayout.from_json(layout) for rule, layout in values["layouts"].items()}
        return cls(**{**values, "reach": (before, after), "layouts": layouts})


@dataclass(frozen=True)
class DescribedArguments(OwnArguments):
    """The arguments of a network that was described, with all traits of a network."""

    description: Description = field(kw_only=True)

    @property
    def scale(self) -> int:
        """Side of the output relative to the input."""
        return self.description.scale

    @property
    def branches(self) -> tuple[str, ...]:
        """Names of the hidden states that `forward` returned."""
        return tuple(self.description.states)

    def state_channels(self, branch: str) -> int:
        """Channels that the hidden state had when it was described."""
        return self.description.states[branch]

    @property
    def has_flow(self) -> bool:
        """Whether `flow_net` is a SPyNet."""
        return self.description.has_flow

    @property
    def trains_flow_alone(self) -> bool:
        """No: what `flows` hands to the flow net is the author's affair."""
        return False

    @property
    def reach(self) -> Reach:
        """What the class declares as `reach`; all frames if nothing."""
        return self.description.reach

    @property
    def truncates(self) -> bool:
        """Whether `forward` was seen to call `handed_on`."""
        return self.description.truncates

    @property
    def smallest_side(self) -> int:
        """What the class declares as `smallest_side`."""
        return self.description.smallest_side

    @property
    def identity(self) -> dict[str, Any]:
        """The content of the source, the class and its arguments; where the file lies does not count."""
        found = {"source": self.description.content, "class": self.description.name, "arguments": dict(self.arguments)}
        # These were left whole once, so that what was made of such networks then has other channels.
        convs = (conv for layout in self.description.layouts.values() for conv in layout.convs)
        return {**found, "depthwise": True} if any(conv.groups > 1 for conv in convs) else found

    def prepared(self, folder: Path) -> DescribedArguments:
        """It is."""
        return self

    def save(self, folder: Path) -> dict[str, Any]:
        """See `Traits`; copies the source into `folder`, so that the network outlives changes of the file."""
        file, name = self.place
        if not self.description.content:
            raise UserError(f"{name} was not defined in a file, so that it cannot be saved; write its class into one")
        try:
            # What will be read back: tuples are lists then.
            arguments = json.loads(json.dumps(self.arguments))
        except TypeError as error:
            raise UserError(f"{name} cannot be saved: its arguments must be numbers, texts, lists ({error})") from error
        source = read_source(file)
        check_unchanged(source, self)
        source.copy_to(folder / SOURCE)
        return {"file": f"{file.name}:{name}", "arguments": arguments, "description": self.description.to_json()}


def own_layout(arguments: DescribedArguments, rule: str) -> ChannelLayout:
    """The channels of a described network under a residual rule."""
    return arguments.description.layouts[rule]


def check_unchanged(source: Source, arguments: DescribedArguments) -> None:
    """Raise UserError if a source is not the one that was described."""
    if source.content != arguments.description.content:
        raise UserError(f"{source.file}: this file changed since its network was described; run the same command again")


def _read(file: Path) -> Description | None:
    try:
        return Description.from_json(read_sealed(file))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not there, or damaged: described again


def _described_by_a_child(arguments: OwnArguments, source: Source, name: str) -> dict[str, Any]:
    """What `describe.main` finds in a process of its own: this one needs no torch, and a crash does not end it."""
    asked = {"file": str(source.file), "class": name, "arguments": dict(arguments.arguments)}
    here = str(Path(__file__).parents[3])  # where this very package lies
    paths = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    call = "from vsrprune.networks.own.describe import main; main()"
    # Whoever waits sees for what; a file that loops for ever when it is imported would otherwise hang in silence.
    print(f"{arguments.file}: tracing the network and proving its declaration", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        # The answer comes back in a file, since the author's code may print whatever it likes.
        done = subprocess.run(
            [sys.executable, "-c", call, str(answer)],
            input=json.dumps(asked),
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            check=False,
        )
        values: dict[str, Any] = json.loads(answer.read_text()) if answer.is_file() else {}
    if "error" in values:
        raise UserError(f"model.file={arguments.file}: {values['error']}")
    if not values:
        last = (done.stderr.strip().splitlines() or ["nothing was printed"])[-1]
        raise UserError(f"model.file={arguments.file}: the process that runs it ended ({done.returncode}): {last}")
    return values
