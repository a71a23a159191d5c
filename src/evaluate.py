"""Compare a trained network and bicubic with the truth on a test set, by its published protocol. Nothing is trained.

python src/evaluate.py runs/SWEEP/JOB --data vid4 --path Vid4                       the pruned network of a job
python src/evaluate.py basicvsr.pth --network basicvsr --data reds4 --path REDS4   weights of BasicSR or mmagic
python src/evaluate.py --data vid4 --path Vid4                                     bicubic alone
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from vsrprune.cli import composed, explained
from vsrprune.commands import CONF, CommandParser
from vsrprune.config.agreement import check_scale, validate
from vsrprune.config.composing import with_knobs
from vsrprune.config.data import DEGRADATIONS, PUBLISHED_SETS
from vsrprune.config.job import Config
from vsrprune.errors import UserError
from vsrprune.jobs.planning import find_test_clips, protocol_warnings
from vsrprune.results.protocols import OWN, PROTOCOLS
from vsrprune.results.set_quality import SetQuality, print_compared
from vsrprune.store.atomic import write_json

OF_SET = {"reds": "reds4"}  # the protocol of a set that has no protocol of its name
DEVICES = {"auto": "auto", "cpu": "cpu", "cuda": "gpu"}
KNOBS = {
    "data.path": "--path", "data.val": "--clips", "data.max_frames": "--max-frames", "data.low": "--low",
    "data.degradation": "--degradation", "data.channel": "--channel", "data.crop": "--crop",
    "evaluate.protocol": "--protocol",
}  # fmt: skip
FILES = ("network.safetensors", "network.json")  # of a network of this project; its folder tells all of it


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("model", type=Path, nargs="?", help="a job's folder, a folder with network.safetensors, or a file of weights")
    add("--data", required=True, choices=("folder", *PUBLISHED_SETS), help="the test set; of a folder, all its clips")
    add("--path", required=True, help="the folder of the test set")
    networks = sorted(file.stem for file in (CONF / "model").glob("*.yaml") if file.stem != "own")
    add("--network", metavar="NAME", choices=networks, help=f"of a file of weights: {', '.join(networks)}")
    add("--which", default="pruned", choices=("pruned", "dense"), help="of a job (pruned)")
    add("--store", default="store", help="the store that holds the job's networks (store)")
    add("--protocol", choices=(OWN, *PROTOCOLS), help="how outputs are compared (that of the set; of a folder, full)")
    add("--channel", choices=("rgb", "y"), help="what is compared (by the protocol)")
    add("--crop", type=int, help="border pixels left out (by the protocol)")
    add("--low", choices=("bi", "bd"), help="the low-resolution frames of the set: bicubic or blurred (the set's)")
    add("--degradation", choices=DEGRADATIONS, help="how low-resolution frames are made where none are stored")
    add("--clips", nargs="+", metavar="NAME", help="these clips alone")
    add("--max-frames", type=int, help="only the first so many frames of every clip")
    add("--scale", type=int, default=4, choices=(2, 3, 4, 8), help="of bicubic, where there is no network (4)")
    add("--device", default="auto", choices=DEVICES, help="auto (default: a GPU where there is one), cpu or cuda")
    add("--json", type=Path, metavar="FILE", help="write the numbers of every clip and frame there")
    return parser.parse_args(arguments)


def asked_configuration(given: argparse.Namespace) -> Config:
    """What the command line asks for as a checked configuration. Raises UserError for the first wrong value."""
    is_weights = given.model is not None and given.model.is_file() and given.model.name not in FILES
    if given.model is not None and not given.model.exists():
        raise UserError(
            f"{given.model}: no such file or folder; give a job's folder, a network's, or a file of weights"
        )
    if is_weights and not given.network:
        raise UserError(f"{given.model}: a file of weights does not say of which network it is; add --network NAME")
    if given.network and not is_weights:
        raise UserError(f"--network={given.network} belongs to a file of weights; got {given.model}")
    if given.json and (given.json.is_dir() or not given.json.absolute().parent.is_dir()):
        raise UserError(f"--json {given.json}: give the name of a file in a folder that is there")
    known = OF_SET.get(given.data, given.data)
    asked = {
        "data.path": given.path,
        "data.low": given.low,
        "data.degradation": given.degradation,
        "data.channel": given.channel,
        "data.crop": given.crop,
        "data.val": given.clips,
        "data.max_frames": given.max_frames,
        "evaluate.protocol": given.protocol or (known if known in PROTOCOLS else OWN),
        "trainer.accelerator": DEVICES[given.device],
        "pretrained": str(given.model) if is_weights else None,
        "store_dir": given.store,
        "schedule.frames": 1,  # no clip is too short to be compared
        "data.cache": False,  # every clip is read once
    }
    chosen = composed(f"data={given.data}", *([f"model={given.network}"] if given.network else []))
    config = with_knobs(chosen, {name: value for name, value in asked.items() if value is not None})
    validate(config)
    return config


@contextlib.contextmanager
def in_options() -> Iterator[None]:
    """Name what was typed in errors that name the knobs of src/run.py."""
    try:
        yield
    except UserError as error:
        text = str(error)
        for knob, option in KNOBS.items():
            text = text.replace(f"{knob}=", f"{option} ").replace(knob, option)
        raise UserError(text) from error


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare as the command line asks; exits with 2 after one line about what was wrong."""
    given = parse(arguments)
    with explained(), in_options():
        config = asked_configuration(given)
        from vsrprune.use.comparing import compare, find_network  # after the check: importing torch takes seconds

        def say(text: str) -> None:
            print(text, flush=True)

        network = None if given.model is None else find_network(given.model, config, given.which, say)
        scale = network.arguments.scale if network else given.scale
        if scale == 1:
            raise UserError(f"{given.model} restores videos of full size; run.py compares such networks, by their task")
        check_scale(config, scale)
        sources = find_test_clips(config, scale)
        for warning in protocol_warnings(config):
            say(f"warning: {warning}")
        quality = compare(config, sources, network, scale, say)
        stored = any(clip.low_files for clip in sources.val)
        low = f"on disk ({config.data.low})" if stored else f"made ({config.data.shrinking})"
        name = "" if given.model is None else str(given.model)
        compared = SetQuality(given.data, config.evaluate.protocol, config.comparison, low, name, quality)
        print_compared(compared, Console())
        if given.json:
            write_json(given.json, asdict(compared))


if __name__ == "__main__":
    main()
