"""Rules between data.truth and other knobs: what means nothing where clips have no high-resolution truth."""

from __future__ import annotations

from collections.abc import Iterator

from vsrprune.config.data import DataConfig
from vsrprune.config.job import Config
from vsrprune.config.task import SUPER_RESOLUTION
from vsrprune.errors import UserError
from vsrprune.methods.table import METHODS
from vsrprune.results.protocols import OWN
from vsrprune.selection.scores import OF_OUTPUTS, is_own, reads_batches

Rule = tuple[str, bool, str]  # a knob with its value, whether that is refused, and why, with what to do


def check_truth(config: Config) -> None:
    """Raise UserError for the first knob that does not go with data.truth."""
    data, default = config.data, DataConfig()
    if data.truth != "some":
        for name in ("unlabelled", "unlabelled_weight"):
            if getattr(data, name) != getattr(default, name):
                raise UserError(
                    f"data.{name}={getattr(data, name)} is given, but data.truth={data.truth} does not read it; add"
                    " data.truth=some"
                )
    elif not data.unlabelled:
        raise UserError("data.truth=some needs data.unlabelled=FOLDER, the clips without truth; or use data.truth=all")
    if data.truth == "all":
        return
    rules = [*_without_any(config), *_of_teaching(config)] if data.truth == "none" else _of_teaching(config)
    for given, refused, why in rules:
        if refused:
            raise UserError(f"{given} does not go with data.truth={data.truth}, {why}")


def _without_any(config: Config) -> Iterator[Rule]:
    """What is refused where no clip has a truth."""
    data, method, score = config.data, METHODS[config.method.name], config.score
    yield f"data={data.name}", data.name != "folder", "which reads footage as it is; use data=folder data.path=FOOTAGE"
    yield (
        "pretraining",
        not config.pretrained,
        "from which no dense network can be trained; add pretrained=FILE, a network to prune",
    )
    yield (
        f"data.degradation={data.degradation}",
        data.degradation != DataConfig().degradation,
        "where the clips are the input as they are; take data.degradation out of the command",
    )
    yield (
        f"evaluate.protocol={config.evaluate.protocol}",
        config.evaluate.protocol != OWN,
        f"which compares with no truth, as published tables do; use evaluate.protocol={OWN}",
    )
    yield (
        f"method={method.name}",
        method.plan == "whole",
        "where results are distances to the dense network, which it is; choose a method that cuts",
    )
    yield (
        f"method.output_weight={config.method.output_weight:g}",
        config.method.output_weight > 0,
        "whose loss holds outputs to the dense network's already; use method.output_weight=0",
    )
    own = is_own(score)
    reads = method.plan == "ranked" and reads_batches(score, config.score_batches)
    yield (
        f"score={score}",
        reads and score not in OF_OUTPUTS,
        "which has no truth to compute it on: the loss of the dense network against itself has no gradient; use score="
        f"{' or '.join(OF_OUTPUTS)}{', or score_batches=0 if it reads no batches' if own else ''}",
    )


def _of_teaching(config: Config) -> Iterator[Rule]:
    """What is refused where the dense network stands in for the truth of some clips."""
    method, task = METHODS[config.method.name], config.task.name
    yield (
        f"data={config.data.name}",
        config.data.name == "demo",
        "which has clips on disk beside those without truth; use data=folder or a published set",
    )
    yield (
        f"task={task}",
        task != SUPER_RESOLUTION,
        f"since it makes its input from the truth; use task={SUPER_RESOLUTION}",
    )
    yield (
        f"method={method.name}",
        method.start == "scratch",
        "which prunes a dense network, and that method trains new weights; choose a method that cuts",
    )
    yield (
        f"method={method.name}",
        method.start == "masked",
        "which holds outputs to the dense network's, and that method is fine-tuned without a teacher; choose a method"
        " that cuts",
    )
    yield (
        f"method.teacher={config.method.teacher}",
        config.method.teacher != "dense",
        "which holds outputs to the dense network's; use method.teacher=dense",
    )
