"""Search per-layer ratios from the dense network to full runs of the winner beside its references."""

from __future__ import annotations

import json
import math
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
import yaml

from vsrprune.channels.layout import ChannelLayout
from vsrprune.config.job import Config
from vsrprune.errors import UserError
from vsrprune.host.machine import working
from vsrprune.host.progress import StageProgress
from vsrprune.host.tracking import RunLabel, is_tracked
from vsrprune.jobs.planning import plan_job
from vsrprune.jobs.runner import open_store, run_job
from vsrprune.networks.files import load_network
from vsrprune.results.result import Result
from vsrprune.search.config import SearchJobConfig, validate_search
from vsrprune.search.costs import LatencyCost, MacsCost
from vsrprune.search.mirror import StudyMirror, mirrored
from vsrprune.search.report import rank_correlations
from vsrprune.search.space import Range, Space, make_space, refined
from vsrprune.search.study import (
    ENDED,
    Cost,
    Question,
    ask_first,
    best_trial,
    finished_trials,
    open_study,
    pareto_trials,
    quiet,
    work,
)
from vsrprune.search.trials import Proof, Training, split_for_scoring
from vsrprune.selection.asked import Asked
from vsrprune.selection.projection import Bounds, check_projectable, count_bounds
from vsrprune.selection.units import select
from vsrprune.stages.bench import job_device
from vsrprune.stages.clips import job_clips
from vsrprune.stages.score.scores import Scores
from vsrprune.stages.timing.recipe import Times
from vsrprune.store.atomic import write_atomically, write_json
from vsrprune.store.store import Artifact, content_key

SEARCH, PLAN = "search.json", "plan.yaml"
POLL_S = 0.5
FRONT_REFERENCES = 4  # budgets at which a front is compared with the plans of the rules
FRONT_FINALS = 3  # points of a front that get full runs
FEWEST_FOR_IMPORTANCE = 10
PROBE_VERSION = 1  # raise it when a change in code changes what a rung computes


class RatioSearch:
    """One search: its dense network, its studies, its folder."""

    def __init__(self, config: SearchJobConfig, folder: Path, say: Callable[[str], None]) -> None:
        validate_search(config)
        self._config, self._search, self._folder, self._say = config, config.search, folder, say
        plain = Config(**{item.name: getattr(config, item.name) for item in fields(Config)})
        self._base = plain
        by_time = config.search.cost == "latency"
        timed = {"until": "select", "round_to": "auto", "target": "units", "ratio": 0.0}  # a table of times, no plan
        self._job = plan_job(replace(plain, **(timed if by_time else {"until": "score"})))
        self._store = open_store(self._job, say)
        search, layout = self._search, self._layout
        self._bounds = count_bounds(layout, search.low, search.high, config.min_kept)
        if not by_time:
            for share in search.budgets if search.objective == "front" else (1 - config.ratio,):
                check_projectable(layout, share, self._bounds)
        self._space = make_space(layout, search.group, search.low, search.high)

    def run(self) -> dict[str, Any]:
        """Everything, or what of it is not there yet; the content of search.json."""
        quiet()
        quiet_tracking = replace(self._base.tracking, mode="none")
        run_job(replace(self._job, config=replace(self._job.config, tracking=quiet_tracking)), self._dense, self._say)
        references = self._references()
        question = self._question(self._space, self._search.trials)
        study = self._open(self._search.study, question)
        ask_first(study, self._known_points(references))
        with self._mirrored() as mirror:
            self._run_study(study, question, "search", mirror)
            if self._search.refine:
                best = self._ratios(best_trial(study, question.rungs).user_attrs["counts"])
                question = self._finer(best)
                name = f"{self._search.study}-refined-{content_key(self._settings(question))}"  # of this very centre
                study = self._open(name, question)
                ask_first(study, [question.space.nearest(best)])
                self._run_study(study, question, "refine", mirror)
            found = self._found(study, question, references)
            write_json(self._folder / SEARCH, found)
            found["finals"] = self._finals(found)
            write_json(self._folder / SEARCH, found)
            mirror.finished(found)
        return found

    # What is searched

    @property
    def _layout(self) -> ChannelLayout:
        return self._job.layout

    @property
    def _dense(self) -> Path:
        return self._folder / "dense"

    @property
    def _front(self) -> bool:
        return self._search.objective == "front"

    def _question(self, space: Space, trials: int) -> Question:
        search = self._search
        return Question(
            space=space,
            budget=Range(*search.budgets) if self._front else 1 - self._config.ratio,
            project=search.project,
            rungs=len(search.rungs),
            sampler=search.name,
            pruner=search.pruner,
            trials=trials,
            seed=search.seed,
        )

    def _settings(self, question: Question) -> dict[str, Any]:
        """What the trials of one study have in common; the sampler and the number of trials may change."""
        budget = question.budget
        return {
            "space": {name: list(layers) for name, layers in question.space.layers.items()},
            "bounds": question.space.to_json(),
            "budget": [budget.low, budget.high] if isinstance(budget, Range) else budget,
            "cost": self._search.cost,
            "project": question.project,
            **self._probe_settings,
        }

    @cached_property
    def _probe_settings(self) -> dict[str, Any]:
        """What the PSNR of a trial depends on beside its counts."""
        search = self._search
        return {
            "version": PROBE_VERSION,
            "scores": self._job.stage("score").key,
            "order": self._config.ranking_order,
            "training": asdict(self._training),
            "rungs": list(search.rungs),
            "clips": [search.clips, search.frames, search.seed],
            "comparison": asdict(self._config.comparison),
            "precision": self._config.trainer.precision,
        }

    @property
    def _training(self) -> Training:
        schedule = self._config.schedule
        return Training(
            batch=schedule.batch,
            patch=schedule.patch,
            frames=schedule.frames,
            seed=self._config.seed,
            lr=schedule.finetune.lr,
            tf_weight=self._config.tf_weight,
            train_flow=schedule.finetune.train_flow,
        )

    def _artifact(self, stage: str) -> Artifact:
        artifact = self._store.find(stage, self._job.stage(stage).key)
        if artifact is None:
            raise UserError(f"the {stage} stage of the search is gone from {self._store.root}; run the command again")
        return artifact

    @cached_property
    def _proof(self) -> Proof:
        search, device = self._search, job_device(self._job)
        clips = job_clips(self._job, self._say)
        train, scoring = split_for_scoring(clips.train, search.clips, search.frames, search.seed)
        return Proof(
            dense=load_network(self._artifact("pretrain").folder).to(device).eval(),
            layout=self._layout,
            scores=Scores.load(self._artifact("score").folder).by_layer,
            rule=self._config.rule,
            order=self._config.ranking_order,
            train_clips=train,
            score_clips=scoring,
            training=self._training,
            compared=self._config.comparison,
            device=device,
        )

    def _cost(self, bounds: Bounds) -> Cost:
        if self._search.cost == "macs":
            return MacsCost(self._layout, bounds)
        tables = Times.load(self._artifact("timing").folder).tables
        return LatencyCost(self._layout, bounds, list(tables.values()), self._proof.plan)

    def _score(self, counts: Mapping[str, int]) -> Iterator[float]:
        """PSNR at each rung; other jobs' measurements of latency are let through between two steps."""
        with working() as right:
            yield from self._proof.psnr_at(counts, self._search.rungs, right.give_way)

    # References: the plans that the rules make at the same cost

    def _references(self) -> list[dict[str, Any]]:
        search = self._search
        shares = [1 - self._config.ratio]
        if self._front:
            shares = np.linspace(search.budgets[0], search.budgets[1], FRONT_REFERENCES).tolist()
        wide = count_bounds(self._layout, 0.0, 1 - 1e-9, self._config.min_kept)
        cost = self._cost(wide)
        rows = []
        for share in shares:
            for name, ratios in (("global", self._global_ratios(share)), ("uniform", self._uniform_ratios(share))):
                counts = cost.project(ratios, share)
                psnr = self._probe(counts)
                rows.append(
                    {"name": name, "budget": share, "counts": counts, "share": cost.share(counts), "psnr": psnr}
                )
                self._say(f"  reference  {name} at {share:.0%} of the {self._search.cost}: {psnr[-1]:.2f} dB")
        return rows

    def _global_ratios(self, share: float) -> dict[str, float]:
        """The method's own: one ranking over all layers, cut at this share of the MACs."""
        floor = self._layout.macs_per_pixel(count_bounds(self._layout, 0.0, 1 - 1e-9, self._config.min_kept).least)
        ratio = min(1 - share, 1 - floor / self._layout.macs_per_pixel())
        plan = select(
            self._layout,
            self._proof.scores,
            Asked(
                rule=self._config.rule,
                ratio=ratio,
                target="macs",
                order=self._config.ranking_order,
                min_kept=self._config.min_kept,
            ),
        )
        return {group.name: 1 - len(plan.kept[group.name]) / group.size for group in self._layout.groups}

    def _uniform_ratios(self, share: float) -> dict[str, float]:
        # Nearly every convolution is cut at both ends: its MACs fall as the square of the share that is kept.
        return {group.name: 1 - math.sqrt(share) for group in self._layout.groups}

    def _probe(self, counts: Mapping[str, int]) -> list[float]:
        """PSNR of a reference at every rung, computed once for all searches that ask alike."""
        settings = {"counts": dict(counts), **self._probe_settings}

        def make(folder: Path, work: Path) -> None:
            write_json(folder / "probe.json", {"psnr": list(self._score(counts))})

        artifact = self._store.produce("probe", content_key(settings), settings, make)
        psnr: list[float] = artifact.json("probe.json")["psnr"]
        return psnr

    def _known_points(self, references: Iterable[Mapping[str, Any]]) -> list[dict[str, float]]:
        """The references as points of the space, where it can express them."""
        points = []
        for row in references:
            wished = self._ratios(row["counts"])
            if row["name"] == "uniform":
                wished = self._uniform_ratios(row["budget"])  # before rounding, which differs from layer to layer
            point = self._space.express(wished)
            if point is not None:
                points.append({**point, **({"budget": row["budget"]} if self._front else {})})
        return points

    def _ratios(self, counts: Mapping[str, int]) -> dict[str, float]:
        return {group.name: 1 - counts[group.name] / group.size for group in self._layout.groups}

    # Trials

    def _open(self, name: str, question: Question, worker: int = 0) -> optuna.Study:
        return open_study(self._storage, name, question, self._settings(question), worker)

    @property
    def _storage(self) -> str:
        return self._search.storage or f"sqlite:///{self._folder.resolve() / 'study.db'}"

    def _run_study(self, study: optuna.Study, question: Question, label: str, mirror: StudyMirror) -> None:
        seen: set[int] = set()
        with StageProgress(label, question.trials) as progress:

            def look(study: optuna.Study, trial: object = None) -> None:
                ended = study.get_trials(deepcopy=False, states=ENDED)
                for one in ended:
                    if one.number not in seen:
                        seen.add(one.number)
                        mirror.trial(_trial_row(one))
                progress.update(min(len(ended), question.trials), _so_far(study, question))

            look(study)
            if self._search.workers == 1:
                work(study, question, self._cost(self._bounds), self._score, look)
            else:
                self._run_workers(study, question, look)
            look(study)

    def _run_workers(self, study: optuna.Study, question: Question, look: Callable[..., None]) -> None:
        """Processes on one study; one that dies costs its trial, which the others take up again."""
        context = multiprocessing.get_context("spawn")
        threads = max(1, (self._config.trainer.threads or torch.get_num_threads()) // self._search.workers)
        task = (self._config, self._folder, study.study_name, question)
        workers = [
            context.Process(target=_worker, args=(*task, number, threads)) for number in range(self._search.workers)
        ]
        for process in workers:
            process.start()
        told: set[int] = set()
        try:
            while any(process.is_alive() for process in workers):
                time.sleep(POLL_S)
                look(study)
                for process in workers:
                    if process.exitcode and process.pid not in told:
                        told.add(process.pid or 0)
                        self._say(f"warning: a worker died (exit code {process.exitcode}); the others go on")
        finally:
            for process in workers:
                process.terminate()
                process.join()
        work(study, question, self._cost(self._bounds), self._score, look)  # what is left if workers died

    def join_study(self, name: str, question: Question, number: int) -> None:
        """Take part in a study as one of several workers."""
        quiet()
        study = self._open(name, question, worker=number)
        work(study, question, self._cost(self._bounds), self._score)

    def _finer(self, ratios: Mapping[str, float]) -> Question:
        """A ratio per layer, around these."""
        search = self._search
        space = refined(self._layout, ratios, search.low, search.high, search.radius)
        return self._question(space, search.refine)

    # What was found

    def _found(self, study: optuna.Study, question: Question, references: list[dict[str, Any]]) -> dict[str, Any]:
        trials = [_trial_row(trial) for trial in study.get_trials(deepcopy=False, states=ENDED)]
        found: dict[str, Any] = {
            "objective": self._search.objective,
            "cost": self._search.cost,
            "settings": self._settings(question),
            "sampler": self._search.name,
            "storage": "" if self._search.storage else self._storage,
            "study": study.study_name,
            "rungs": list(self._search.rungs),
            "layers": [
                {"name": group.name, "part": group.part, "kind": group.kind, "size": group.size}
                for group in self._layout.groups
            ],
            "trials": trials,
            "references": references,
            "rank_correlation": rank_correlations([row["psnr"] for row in trials], self._search.rungs),
            "importance": _importance(study, question),
            "finals": [],
        }
        if self._front:
            found["front"] = [_trial_row(trial) for trial in pareto_trials(study, question.rungs)]
            for place, row in enumerate(found["front"]):
                self._write_plan(self._folder / "plans" / f"{place:02d}.yaml", row)
        else:
            found["best"] = _trial_row(best_trial(study, question.rungs))
            self._write_plan(self._folder / PLAN, found["best"])
        return found

    def _write_plan(self, path: Path, row: Mapping[str, Any]) -> None:
        head = (
            f"# Kept channels per layer: {row['share']:.1%} of the {self._search.cost}, {row['psnr'][-1]:.2f} dB on the"
            f" scoring clips (trial {row['number']}).\n# python src/run.py scope=per_layer 'ratios=\"{path}\"'\n"
        )
        write_atomically(path, head + yaml.safe_dump(row["counts"], sort_keys=False))

    # Full runs, fresh seeds, held-out clips

    def _finals(self, found: Mapping[str, Any]) -> list[dict[str, Any]]:
        plans = self._final_plans(found)
        rows = []
        for name, row in plans:
            for seed in self._search.final_seeds:
                config = replace(
                    self._base, scope="per_layer", target="units", round_to=1, ratios=dict(row["counts"]), seed=seed
                )
                folder = self._folder / "finals" / f"{name},seed={seed}"
                self._say(f"full run: {name}, seed {seed}")
                result = run_job(plan_job(config), folder, self._say)
                assert isinstance(result, Result)  # until=evaluate
                rows.append(
                    {
                        "name": name,
                        "seed": seed,
                        "share": row["share"],
                        "scoring_psnr": row["psnr"][-1],
                        "psnr": result.quality["finetuned"].psnr,
                        "folder": str(folder.relative_to(self._folder)),
                    }
                )
        return rows

    def _final_plans(self, found: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
        references = found["references"]
        if not self._front:
            return [("winner", found["best"]), *((row["name"], row) for row in references)]
        front = found["front"]
        places = sorted({round(place) for place in np.linspace(0, len(front) - 1, FRONT_FINALS)})
        plans = {}
        for place in places:
            plans[f"front-{place:02d}"] = front[place]
            ranked = [row for row in references if row["name"] == "global"]
            beside = min(ranked, key=lambda row: abs(row["share"] - front[place]["share"]))
            plans[f"global-{beside['budget']:.2f}"] = beside
        return list(plans.items())

    def _mirrored(self) -> Any:
        tracking, name = self._config.tracking, self._folder.name
        return mirrored(
            "none" if self._is_mirrored() else tracking.mode,
            RunLabel(name, name, "search", tracking.project, tracking.entity),
            per_trial=tracking.per_trial,
            config={**self._base.knobs(), "search": asdict(self._search)},
            folder=self._folder,
            warn=partial(_warn, self._say),
        )

    def _is_mirrored(self) -> bool:
        """Whether an earlier call mirrored all that this one asks for."""
        path = self._folder / SEARCH
        if not (is_tracked(self._folder) and path.is_file()):
            return False
        found = json.loads(path.read_text())
        return bool(found["finals"]) and len(found["trials"]) >= (self._search.refine or self._search.trials)


def _warn(say: Callable[[str], None], text: str) -> None:
    say(f"warning: {text}")


def _so_far(study: optuna.Study, question: Question) -> str:
    try:
        if question.front:
            return f"{len(pareto_trials(study, question.rungs))} plans on the front"
        best = best_trial(study, question.rungs)
    except UserError:
        return ""
    return f"best {best.user_attrs['psnr'][-1]:.2f} dB (trial {best.number})"


def _worker(config: SearchJobConfig, folder: Path, name: str, question: Question, number: int, threads: int) -> None:
    torch.set_num_threads(threads)
    RatioSearch(config, folder, lambda text: None).join_study(name, question, number)


def _trial_row(trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    seconds = trial.duration.total_seconds() if trial.duration else None
    return {
        "number": trial.number,
        "state": trial.state.name.lower(),
        "params": trial.params,
        "counts": trial.user_attrs["counts"],
        "share": trial.user_attrs["share"],
        "psnr": trial.user_attrs["psnr"],
        "seconds": seconds,
    }


def _importance(study: optuna.Study, question: Question) -> dict[str, float]:
    """How much each dimension explains of which trials are good; empty where trials are too few to say."""
    if question.front or len(question.space.ranges) < 2:
        return {}
    if len(finished_trials(study, question.rungs)) < FEWEST_FOR_IMPORTANCE:
        return {}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    importance = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(value) for name, value in importance.items()}
