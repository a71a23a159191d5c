"""A trained network for use: of a job's folder, or of a folder that holds network.safetensors and network.json."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vsrprune.channels.plan import PrunePlan
from vsrprune.errors import UserError
from vsrprune.networks.files import DESCRIPTION, WEIGHTS, load_network
from vsrprune.networks.network import Network
from vsrprune.pruning.surgery import compact
from vsrprune.results.result import RESULT, Result
from vsrprune.store.places import open_place
from vsrprune.store.store import is_key

SHOWN = 8  # of the jobs that could be meant
QUANTISE, INT8 = "quantise", "int8"  # a stage, and its folder of graphs
STAGES = {"pruned": "finetune", "dense": "pretrain"}


def load_trained(source: Path, store: str | Path, warn: Callable[[str], None], which: str = "pruned") -> Network:
    """A compact network, gates folded.

    `source` is a job's folder (its result.json names the network, which lies in `store`) or one above that of a single
    finished job, a folder with a network's two files, or one of these files. `which` chooses a job's `pruned` or
    `dense` network. `warn` is told of a damaged file in the store.

    Raises UserError where there is no network, or the store no longer has it.
    """
    folder = source.parent if source.name in (WEIGHTS, DESCRIPTION) else only_job(source)
    if (folder / RESULT).is_file() and not (folder / WEIGHTS).is_file():
        key = Result.load(folder).stages.get(STAGES[which])
        if not is_key(key):
            raise UserError(f"{folder / RESULT}: {key!r} is no key of the stage {STAGES[which]}; run the job again")
        artifact = open_place(store, warn).find(STAGES[which], key)
        if artifact is None:
            raise UserError(
                f"{folder}: its network, {STAGES[which]}/{key}, is not in the store {store}; name the store that the"
                " job used, or run the job again"
            )
        folder = artifact.folder
    if folder.is_symlink() and not folder.exists():
        raise UserError(f"{source}: a link to {folder.readlink()}, which is gone; name a folder that is there")
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"{source}: neither the folder of a finished job ({RESULT}) nor of a network ({WEIGHTS})")
    network = load_network(folder)
    if network.plan is None:
        # A dense network still has its gates. A plan that keeps every channel folds them into the weights, under any
        # rule.
        network = compact(network, PrunePlan.keep_all("rsc", network.channel_layout("rsc")))
    return network.eval()


def int8_graphs(source: Path, store: str | Path, warn: Callable[[str], None]) -> Path:
    """The folder of the int8 graphs that a job with quantise=int8 made of its pruned network; see `load_trained`.

    Raises UserError where the job made none, or the store no longer has them.
    """
    folder = only_job(source)
    key = Result.load(folder).stages.get(QUANTISE) if (folder / RESULT).is_file() else None
    if key is None:
        raise UserError(
            f"--precision int8: {source} is no job that made an int8 network; run it with quantise=int8, or leave"
            " --precision out"
        )
    artifact = open_place(store, warn).find(QUANTISE, key) if is_key(key) else None
    if artifact is None:
        raise UserError(
            f"{folder}: its int8 graphs, {QUANTISE}/{key}, are not in the store {store}; name the store that the job"
            " used, or run the job again"
        )
    return artifact.folder / INT8


def only_job(folder: Path) -> Path:
    """The folder of the one finished job below `folder`, or `folder` itself where no job is.

    Raises UserError where there are several, and names them.
    """
    if not folder.is_dir() or (folder / RESULT).is_file() or (folder / WEIGHTS).is_file():
        return folder
    jobs = sorted(path.parent for path in folder.resolve().rglob(RESULT))
    if len(jobs) < 2:
        return jobs[0] if jobs else folder
    names = [str(folder / job.relative_to(folder.resolve())) for job in jobs]
    more = f" or {len(names) - SHOWN} others" if len(names) > SHOWN else ""
    raise UserError(f"{folder} holds {len(jobs)} finished jobs; name one of them: {', '.join(names[:SHOWN])}{more}")
