"""Stage 1: how important every unit is."""

from __future__ import annotations

from dataclasses import dataclass

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


RECIPE = Recipe(
    name="score",
    version=2,
    work="vsrprune.stages.score.work:make",
    inputs=Inputs,
    artifact=Scores,
    parents=_parents,
    depends_on=("rule", "score", "pruning_seed"),
    # A score is computed from weights, except the random one.
    idle={"pruning_seed": lambda question: question.config.score != "random"},
    runs=lambda question: question.method.plan == "ranked",
    in_rounds=True,
)
