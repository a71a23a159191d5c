"""What a search stands on: its configuration, the dense network with its scores, its folder, and what plans cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

from vsrprune.channels.layout import ChannelLayout
from vsrprune.config.job import Config
from vsrprune.errors import UserError
from vsrprune.jobs.planning import plan_job
from vsrprune.jobs.runner import open_store, run_job
from vsrprune.networks.files import load_network
from vsrprune.search.config import SearchConfig, SearchJobConfig, validate_search
from vsrprune.search.costs import LatencyCost, MacsCost
from vsrprune.search.study import CostModel
from vsrprune.search.trials import Training, TrialBench, check_scoring_clips, split_for_scoring
from vsrprune.selection.asked import Asked
from vsrprune.selection.projection import Bounds, check_projectable, count_bounds
from vsrprune.stages.bench import job_device
from vsrprune.stages.clips import job_clips, most_training_clips
from vsrprune.stages.job import Job
from vsrprune.stages.score.scores import Scores
from vsrprune.stages.timing.recipe import Times
from vsrprune.store.atomic import left_by_writers
from vsrprune.store.store import Artifact, Store


@dataclass(frozen=True)
class SearchBench:
    """One search.

    `base` is the configuration without the knobs of the search. `job` makes the dense network and its scores, and the
    table of times where the cost is latency. `bounds` are the kept counts that trials may have.
    """

    config: SearchJobConfig
    base: Config
    job: Job
    bounds: Bounds
    folder: Path
    say: Callable[[str], None]

    @property
    def search(self) -> SearchConfig:
        """The knobs of the search."""
        return self.config.search

    @property
    def layout(self) -> ChannelLayout:
        """The layers of the network."""
        return self.job.layout

    @property
    def front(self) -> bool:
        """Whether PSNR and cost are two objectives."""
        return self.search.objective == "front"

    @property
    def storage(self) -> str:
        """The URL of the database of trials."""
        return self.search.storage or f"sqlite:///{self.folder.resolve() / 'study.db'}"

    @property
    def asked(self) -> Asked:
        """What all selections of the search have in common."""
        config = self.config
        return Asked(
            config.rule,
            order=config.ranking_order,
            min_kept=config.min_kept,
            normalise=config.normalise,
            rank=config.rank,
        )

    @cached_property
    def store(self) -> Store:
        """Where the dense network and the scores of references are kept."""
        return open_store(self.job, self.say)

    @property
    def training(self) -> Training:
        """How trials are fine-tuned."""
        schedule = self.config.schedule
        return Training(
            batch=schedule.batch,
            patch=schedule.patch,
            frames=schedule.finetune_frames,
            seed=self.config.pruning_seed,
            lr=schedule.finetune.lr,
            tf_weight=self.config.tf_weight,
            train_flow=schedule.finetune.train_flow,
            truncate=schedule.finetune.truncate,
        )

    @cached_property
    def trials(self) -> TrialBench:
        """What a trial needs, read once; the dense network must be made before."""
        search = self.search
        clips = job_clips(self.job, self.say)
        train, scoring = split_for_scoring(clips.train, search.clips, search.frames, search.seed)
        # The dense network and the clips are shared by all trials, so that differences between trials are the plans'.
        device = job_device(self.job)
        return TrialBench(
            dense=load_network(self.artifact("pretrain").folder).to(device).eval(),
            layout=self.layout,
            scores=Scores.load(self.artifact("score").folder).by_layer,
            asked=self.asked,
            train_clips=train,
            score_clips=scoring,
            training=self.training,
            compared=self.config.comparison,
            device=device,
        )

    def artifact(self, stage: str) -> Artifact:
        """What a stage of the dense network left; raises UserError if it was deleted meanwhile."""
        artifact = self.store.find(stage, self.job.stage(stage).key)
        if artifact is None:
            raise UserError(f"the {stage} stage of the search is gone from {self.store.root}; run the command again")
        return artifact

    def cost(self, bounds: Bounds) -> CostModel:
        """What plans within `bounds` cost."""
        if self.search.cost == "macs":
            return MacsCost(self.layout, bounds)
        tables = Times.load(self.artifact("timing").folder).tables
        return LatencyCost(self.layout, bounds, list(tables.values()), self.trials.plan)


def open_bench(config: SearchJobConfig, folder: Path, say: Callable[[str], None]) -> SearchBench:
    """Check everything that can be known before work starts; raises UserError."""
    validate_search(config)
    search = config.search
    # A plain Config: the jobs of a search are ordinary jobs, whose results say nothing of the search.
    base = Config(**{item.name: getattr(config, item.name) for item in fields(Config)})
    by_time = search.cost == "latency"
    # A plan for the times alone: the timing stage is part of a job only where counts are rounded to what was timed.
    timed = {"until": "select", "round_to": "auto", "target": "units", "ratio": 0.0}
    job = plan_job(replace(base, **(timed if by_time else {"until": "score"})))
    if not config.data.scene_cut:  # else a video is as many clips as it has scenes, which is known when it is read
        check_scoring_clips(search.clips, most_training_clips(job))
    bounds = count_bounds(job.layout, search.low, search.high, config.min_kept)
    bench = SearchBench(config, base, job, bounds, folder, say)
    # Whether a share of the time can be met is known only when the operations have been timed.
    if not by_time:
        for share in search.budgets if bench.front else (1 - config.ratio,):
            check_projectable(job.layout, share, bounds)
    return bench


def make_dense(bench: SearchBench) -> None:
    """Train and score the dense network, unless the store has it; the search's own run is tracked in its place.

    What killed writers have left in the search's folder is removed before.
    """
    for path in [*left_by_writers(bench.folder), *left_by_writers(bench.folder / "plans")]:
        path.unlink(missing_ok=True)
    config = bench.job.config
    quiet = replace(config, tracking=replace(bench.base.tracking, to=[]))
    run_job(replace(bench.job, config=quiet), bench.folder / "dense", bench.say)
