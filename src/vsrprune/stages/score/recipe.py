"""Stage 1: how important every unit is."""

from __future__ import annotations

from dataclasses import dataclass

from vsrprune.selection.scores import RANDOM, is_own, reads_batches
from vsrprune.stages.recipe import Planned, Question, Recipe, StagePlan, newest
from vsrprune.stages.saved import WithNetwork
from vsrprune.stages.score.scores import Scores
from vsrprune.stages.select.recipe import Selection


@dataclass(frozen=True)
class Inputs:
    """trained: the network as the last stage left it. selection: in later rounds, what the round before cut."""

    trained: WithNetwork
    selection: Selection | None = None


def _parents(question: Question, planned: Planned) -> dict[str, StagePlan]:
    parents = {"trained": newest(planned, "sparsify", "align", "pretrain")}
    before = [plan for plan in planned if plan.stage == "select"]
    return parents | ({"selection": before[-1]} if before else {})


# What decides which batches are drawn, besides the seed.
DRAWN = ("facts.train", "schedule.batch", "schedule.patch", "schedule.frames")


def _reads_batches(question: Question) -> bool:
    return reads_batches(question.config.score, question.config.score_batches)


RECIPE = Recipe(
    name="score",
    version=3,
    work="vsrprune.stages.score.work:make",
    inputs=Inputs,
    artifact=Scores,
    parents=_parents,
    depends_on=("rule", "score", "facts.score", "score_batches", *DRAWN, "pruning_seed"),
    idle={
        # Of one's own score the code counts, and not where it lies.
        "score": lambda question: is_own(question.config.score),
        "facts.score": lambda question: not is_own(question.config.score),
        **dict.fromkeys(("score_batches", *DRAWN), lambda question: not _reads_batches(question)),
        "pruning_seed": lambda question: question.config.score != RANDOM and not _reads_batches(question),
    },
    runs=lambda question: question.method.plan == "ranked",
    in_rounds=True,
)
