"""All stages in their order, and the keys of a job's stages, computed from configuration alone.

Two jobs whose settings for a stage agree share its artifact. Paths, loggers, devices, worker and thread counts are in
no recipe's `depends_on`, except where times are taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby

from vsrprune.config.job import Config
from vsrprune.knobs import leaves
from vsrprune.methods.table import METHODS
from vsrprune.stages.align import recipe as align
from vsrprune.stages.evaluate import recipe as evaluate
from vsrprune.stages.finetune import recipe as finetune
from vsrprune.stages.flow import recipe as flow
from vsrprune.stages.measure import recipe as measure
from vsrprune.stages.pretrain import recipe as pretrain
from vsrprune.stages.prune import recipe as prune
from vsrprune.stages.quantise import recipe as quantise
from vsrprune.stages.recipe import Facts, Question, Recipe, StagePlan
from vsrprune.stages.reference import recipe as reference
from vsrprune.stages.score import recipe as score
from vsrprune.stages.select import recipe as select
from vsrprune.stages.sparsify import recipe as sparsify
from vsrprune.stages.timing import recipe as timing
from vsrprune.store.store import content_key

# In the order in which stages run: the parents of a recipe are looked for among those before it.
RECIPES: Mapping[str, Recipe] = {
    module.RECIPE.name: module.RECIPE
    for module in (
        flow,
        pretrain,
        reference,
        align,
        timing,
        score,
        select,
        sparsify,
        prune,
        finetune,
        evaluate,
        quantise,
        measure,
    )
}
# Stages that `until` names, in their order; jobs take the others along where they are read.
NAMED = next(leaf.knob.choices for leaf in leaves(Config) if leaf.name == "until")


def plan_stages(config: Config, facts: Facts) -> list[StagePlan]:
    """The stages of a job in the order in which they run, up to and with `config.until`."""
    method = METHODS[config.method.name]
    planned: list[StagePlan] = []
    # Rounds are of a ranking: the dense control, in a sweep over rounds, cuts nothing once.
    rounds = config.rounds if method.plan == "ranked" else 1
    for recipe, cut_round in _sequence(rounds):
        # The settings of a round are those of a job with its share of `ratio`, so that sweeps share the stages of
        # rounds.
        question = Question(config.in_round(cut_round or config.rounds), method, facts)
        if recipe.runs(question):
            parents = recipe.parents(question, planned)
            settings = recipe.settings(question, parents)
            names = {role: plan.name for role, plan in parents.items()}
            planned.append(StagePlan(recipe.name, content_key(settings), settings, names, cut_round))
    return _until(planned, config.until)


def _sequence(rounds: int) -> Iterator[tuple[Recipe, int]]:
    """Recipes with the round they belong to; the last round, and all that is not repeated, is 0."""
    # groupby joins neighbours only, so the repeated stages stand side by side in RECIPES and go round as one block.
    for repeated, recipes in groupby(RECIPES.values(), key=lambda recipe: recipe.in_rounds):
        block = list(recipes)
        for cut_round in (*range(1, rounds), 0) if repeated else (0,):
            for recipe in block:
                yield recipe, cut_round


def _until(planned: list[StagePlan], until: str) -> list[StagePlan]:
    """The stages up to the last that is wanted, without those that nobody asked for and nobody reads."""
    names = [plan.name for plan in planned]
    last = "measure" if until == "evaluate" else until
    while last not in names:  # until=sparsify with a one-shot method, until=score with one that ranks nothing
        last = NAMED[NAMED.index(last) - 1]
    wanted = planned[: names.index(last) + 1]
    read = {name for plan in wanted for name in plan.parents.values()}
    return [plan for plan in wanted if plan.stage in NAMED or plan.name in read or plan.name == last]
