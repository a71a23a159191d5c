"""The dashboard in Weights & Biases as code: a workspace of panels, and a report with the same sections.

    python analysis/wandb_dashboard.py --project vsrprune [--entity E] [--dry-run]

Saves both and prints their addresses; another call updates the same two. With --dry-run, without a login or without
network it prints what it would make. Needs `pip install -e '.[dashboard]'`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vsrprune.cli import complain, explained

try:
    import wandb
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces.workspaces.errors import SpecVersionError
    from wandb_workspaces.workspaces.internal import get_view_dict
except ImportError as error:
    sys.exit(complain(f"{error}; pip install -e '.[dashboard]'"))

from vsrprune.commands import CommandParser
from vsrprune.errors import UserError

NAME = "vsrprune"
REFUSED, LONGEST = "/\\#?%:", 128  # in the name of a project of W&B
VIEW = "nw-vsrprune001-v"  # the workspace's name in W&B, in the form that its address needs
TITLE = "Structured pruning of video super-resolution networks"
KNOBS = ("rule", "scope", "score", "rank", "order", "target", "tf_weight", "ratio", "replicate")
COLUMNS = (
    "run:displayName",
    "run:state",
    "config:rule.value",
    "config:ratio.value",
    "summary:psnr/finetuned",
    "summary:psnr/lost",
    "summary:macs_kept",
    "summary:latency_ms",
    "summary:speed_up",
    "summary:peak_memory_mib",
)
FINISHED = 'Metric("State") == "finished"'
RUNS_SHOWN = 50  # per panel; W&B shows 10 unless told
WIDTH = 24  # of a report's grid of panels


@dataclass(frozen=True)
class Section:
    """A heading, what it shows in one sentence, and its panels; `columns` of them stand side by side."""

    name: str
    about: str
    panels: list[Any]
    columns: int = 3


def sections() -> list[Section]:
    """All sections, with new panels: a panel belongs to one workspace or report."""
    return [
        Section("Results", "Quality against cost; a point or a line is a job.", _results(), columns=2),
        Section("Pretrain", "The dense network; jobs that share it show the same curve.", _stage("pretrain")),
        Section("Sparsify", "A growing penalty on the gates of the units to cut.", _stage("sparsify", "loss_penalty")),
        Section("Finetune", "The compact network, aligned with the dense one.", _stage("finetune", "loss_temporal")),
        Section("Gates", "How far the gates of the units to cut have gone to zero, overall and by layer.", _gates()),
        Section("Layers", "What each layer keeps: red units are cut.", _layers(), columns=2),
        Section("Crops", "The same place in each job's output.", _crops(), columns=1),
    ]


def _results() -> list[Any]:
    psnr, macs, latency = (wr.SummaryMetric(name) for name in ("psnr/finetuned", "macs_kept", "latency_ms"))
    return [
        wr.ScatterPlot(title="PSNR (dB) against the share of MACs kept", x=macs, y=psnr),
        wr.ScatterPlot(title="PSNR (dB) against measured latency (ms per frame)", x=latency, y=psnr),
        wr.LinePlot(
            title="PSNR (dB) against MACs kept, mean and range by rule",
            x="tradeoff/macs_kept",
            y=["tradeoff/psnr"],
            groupby=wr.Config("rule"),
            groupby_aggfunc="mean",
            groupby_rangefunc="minmax",
            max_runs_to_show=RUNS_SHOWN,
        ),
        wr.ScatterPlot(title="Speed-up against the share of MACs kept", x=macs, y=wr.SummaryMetric("speed_up")),
        _bar("PSNR (dB) by sweep", "psnr/finetuned", "Group"),
        _bar("PSNR (dB) by rule", "psnr/finetuned", wr.Config("rule")),
        _bar("PSNR (dB) by dense network", "psnr/finetuned", wr.Config("replicate")),
        wr.ParallelCoordinatesPlot(
            title="Knobs, cost and quality",
            columns=[
                *(wr.ParallelCoordinatesPlotColumn(metric=wr.Config(knob)) for knob in KNOBS),
                *(wr.ParallelCoordinatesPlotColumn(metric=metric) for metric in (macs, psnr)),
            ],
        ),
        wr.RunComparer(diff_only=True),
    ]


def _bar(title: str, metric: str, groupby: Any) -> Any:
    # W&B groups once: a deviation over dense networks, their runs averaged first, is for analysis/tables.py.
    return wr.BarPlot(
        title=f"{title}, mean and deviation over runs",
        metrics=[metric],
        groupby=groupby,
        groupby_aggfunc="mean",
        groupby_rangefunc="stddev",
        max_runs_to_show=RUNS_SHOWN,
    )


def _line(stage: str, *names: str, **options: Any) -> Any:
    """Curves of a stage against that stage's own steps."""
    return wr.LinePlot(
        x=f"{stage}/step",
        y=[f"{stage}/{name}" for name in names],
        title_x="step",
        max_runs_to_show=RUNS_SHOWN,
        **options,
    )


def _stage(stage: str, *losses: str) -> list[Any]:
    return [
        *(_line(stage, name, title=f"{stage}: {name}", log_y=True) for name in ("loss_reconstruction", *losses)),
        _line(stage, "lr", title=f"{stage}: learning rate"),
    ]


def _gates() -> list[Any]:
    return [
        _line("sparsify", "lambda", title="weight of the penalty"),
        _line("sparsify", "max_cut", "mean_cut", title="|gamma| of the units to cut: largest and mean", log_y=True),
        _line("sparsify", title="mean |gamma| by layer", metric_regex="^sparsify/gate/", log_y=True),
    ]


def _layers() -> list[Any]:
    return [
        wr.MediaBrowser(title="units by layer", media_keys=["layers/heatmap"], gallery_axis="run", num_columns=2),
        wr.WeavePanelSummaryTable(table_name="layers"),
        wr.CustomChart(
            query={"summaryTable": {"tableKey": "layers"}},
            chart_name="wandb/bar/v0",
            chart_fields={"label": "layer", "value": "ratio"},
            chart_strings={"title": "share of units cut by layer"},
        ),
    ]


def _crops() -> list[Any]:
    return [wr.MediaBrowser(title="crops", media_keys=["crops"], grid_x_axis="index", grid_y_axis="run")]


class SweepWorkspace(ws.Workspace):
    """A workspace that groups its list of runs, not its panels: a scatter plot keeps a point for every run."""

    def _to_model(self) -> Any:
        view = super()._to_model()
        view.spec.section.settings.use_runs_table_grouping_in_panels = False
        return view


def build_workspace(entity: str, project: str) -> SweepWorkspace:
    """All runs of the project, those of one sweep under one heading, the best first."""
    return SweepWorkspace(
        entity=entity,
        project=project,
        name=NAME,
        sections=[
            ws.Section(
                name=section.name,
                panels=section.panels,
                is_open=True,
                layout_settings=ws.SectionLayoutSettings(
                    columns=section.columns, rows=-(-len(section.panels) // section.columns)
                ),
            )
            for section in sections()
        ],
        settings=ws.WorkspaceSettings(max_runs=RUNS_SHOWN, remove_legends_from_panels=False),
        runset_settings=ws.RunsetSettings(
            groupby=[ws.Metric("Group")],
            order=[ws.Ordering(ws.Summary("psnr/finetuned"), ascending=False)],
            pinned_columns=list(COLUMNS),
        ),
    )


def build_report(entity: str, project: str) -> Any:
    """The sections over the finished runs, each with a sentence that says what it shows."""
    blocks: list[Any] = [wr.TableOfContents()]
    for section in sections():
        place(section.panels, section.columns)
        runs = wr.Runset(
            entity=entity,
            project=project,
            name="finished jobs",
            filters=FINISHED,
            order=[wr.OrderBy(wr.SummaryMetric("psnr/finetuned"), ascending=False)],
            pinned_columns=list(COLUMNS),
        )
        blocks += [wr.H2(section.name), wr.P(section.about), wr.PanelGrid(runsets=[runs], panels=section.panels)]
    return wr.Report(
        entity=entity,
        project=project,
        title=TITLE,
        description="Made by analysis/wandb_dashboard.py from the finished jobs of this project.",
        blocks=blocks,
        width="fluid",
    )


def place(panels: Sequence[Any], columns: int, height: int = 10) -> None:
    """Lay panels out row by row; a table or a grid of pictures is twice as high."""
    width, x, y, row = WIDTH // columns, 0, 0, 0
    for panel in panels:
        tall = 2 * height if isinstance(panel, wr.MediaBrowser | wr.WeavePanelSummaryTable) else height
        if x + width > WIDTH:
            x, y, row = 0, y + row, 0
        panel.layout = wr.Layout(x=x, y=y, w=width, h=tall)
        x, row = x + width, max(row, tall)


def described(workspace: Any, report: Any) -> Iterator[str]:
    """What would be made, line by line."""
    runs = workspace.runset_settings
    yield f"workspace {workspace.name!r} in {workspace.entity or '(your entity)'}/{workspace.project}"
    yield f"  runs: grouped by {', '.join(metric.name for metric in runs.groupby)}; filter: {runs.filters or 'none'}"
    yield f"  order: {', '.join(order.item.name for order in runs.order)}, best first"
    yield f"  columns: {', '.join(runs.pinned_columns)}"
    for section in workspace.sections:
        yield f"  {section.name}"
        yield from (f"    {panel_line(panel)}" for panel in section.panels)
    yield f"report {report.title!r}"
    grids = [block for block in report.blocks if isinstance(block, wr.PanelGrid)]
    yield f"  runs: {grids[0].runsets[0].name}; filter: {grids[0].runsets[0].filters}"
    headings = [block.text for block in report.blocks if isinstance(block, wr.H2)]
    for heading, grid in zip(headings, grids, strict=True):
        yield f"  {heading}: {len(grid.panels)} panels"


def panel_line(panel: Any) -> str:
    """Kind, title and what is drawn."""
    kind = type(panel).__name__
    if isinstance(panel, wr.ScatterPlot):
        return f"{kind}: {panel.title}: {_names([panel.y])} over {_names([panel.x])}"
    if isinstance(panel, wr.LinePlot):
        by = f", by {_names([panel.groupby])}" if panel.groupby else ""
        return f"{kind}: {panel.title}: {_names(panel.y) or panel.metric_regex} over {_names([panel.x])}{by}"
    if isinstance(panel, wr.BarPlot):
        return f"{kind}: {panel.title}: {_names(panel.metrics)} by {_names([panel.groupby])}"
    if isinstance(panel, wr.ParallelCoordinatesPlot):
        return f"{kind}: {panel.title}: {_names(column.metric for column in panel.columns)}"
    if isinstance(panel, wr.MediaBrowser):
        return f"{kind}: {panel.title}: {_names(panel.media_keys)}"
    if isinstance(panel, wr.WeavePanelSummaryTable):
        return f"{kind}: table {panel.table_name}"
    if isinstance(panel, wr.CustomChart):
        fields = ", ".join(f"{name}={column}" for name, column in panel.chart_fields.items())
        return f"{kind}: {panel.chart_strings['title']}: {panel.chart_name} of {fields}"
    return f"{kind}: what differs between the runs that are chosen"


def _names(metrics: Iterable[Any]) -> str:
    return ", ".join(str(getattr(metric, "name", metric)) for metric in metrics)


def why_offline() -> str | None:
    """Why nothing can be saved; None if W&B answers and knows us. Never asks for a key."""
    try:
        return None if wandb.login(prompt=False) else "not logged in to W&B (`wandb login`)"
    except (wandb.errors.Error, OSError, ValueError) as error:
        return f"W&B does not answer ({(str(error) or type(error).__name__).splitlines()[0]})"


def save_dashboard(entity: str, project: str) -> list[str]:
    """Make both online, and the project if there is none; their addresses. Raises UserError if W&B refuses."""
    try:
        return _saved(entity, project)
    except (wandb.errors.Error, OSError, ValueError, RuntimeError, SpecVersionError) as error:
        raise UserError(f"W&B refused: {error}") from error


def _saved(entity: str, project: str) -> list[str]:
    api = wandb.Api()
    entity = entity or str(api.default_entity)
    if project not in {known.name for known in api.projects(entity)}:
        api.create_project(project, entity)
    workspace, report = build_workspace(entity, project), build_report(entity, project)
    # Saving a view or a report that has the id of an older one replaces that.
    workspace._internal_name, workspace._internal_id = VIEW, _known_workspace(entity, project)
    report.id = next((old.id for old in api.reports(f"{entity}/{project}") if old.display_name == TITLE), "")
    workspace.save()
    report.save()
    return [f"workspace: {workspace.url}", f"report: {report.url}"]


def _known_workspace(entity: str, project: str) -> str:
    """The id of the workspace that an earlier call saved; empty if there is none."""
    # The library's own query, whose result is not parsed: panels that were changed in the browser are replaced anyway.
    try:
        return str(get_view_dict(entity, project, VIEW.removeprefix("nw-").removesuffix("-v"))["id"])
    except ValueError as error:
        if "not found in project" not in str(error):
            raise
        return ""


def _check_names(project: str, entity: str) -> None:
    """Raise UserError for names that W&B would refuse once everything is built."""
    if not project.strip() or len(project) > LONGEST or set(project) & set(REFUSED):
        raise UserError(f"--project must be a name of 1 to {LONGEST} letters without any of {REFUSED}; got {project!r}")
    if entity and not re.fullmatch("[A-Za-z0-9_.-]+", entity):
        raise UserError(f"--entity must be a name of letters, digits, _, . and -; got {entity!r}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Save or describe the dashboard."""
    parser = CommandParser(description="The dashboard in Weights & Biases as code")
    parser.add_argument("--project", default=NAME, help="the project of the runs (tracking.project; default: vsrprune)")
    parser.add_argument("--entity", default="", help="its owner (default: yours)")
    parser.add_argument("--dry-run", action="store_true", help="print what would be made")
    options = parser.parse_args(arguments)
    with explained():
        _check_names(options.project, options.entity)
    reason = "--dry-run" if options.dry_run else why_offline()
    if reason is None:
        with explained():
            print("\n".join(save_dashboard(options.entity, options.project)))
        return 0
    print(f"nothing is saved: {reason}. This would be:")
    workspace, report = (build(options.entity, options.project) for build in (build_workspace, build_report))
    print("\n".join(described(workspace, report)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
