"""The W&B dashboard as code: built of the real classes, printed offline, saved through a server that is played."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("wandb_workspaces")

import wandb

from analysis import wandb_dashboard as dashboard

ROOT = Path(__file__).parents[2]
SECTIONS = ["Results", "Pretrain", "Sparsify", "Finetune", "Gates", "Layers", "Crops"]


def spec(model: Any) -> Any:
    """What is sent to W&B."""
    return json.loads(model.spec.model_dump_json(by_alias=True, exclude_none=True))


def panels(name: str) -> list[dict[str, Any]]:
    """The panels of a section of the workspace, as they are sent."""
    sections = spec(dashboard.build_workspace("me", "vsrprune")._to_model())["section"]["panelBankConfig"]["sections"]
    (found,) = (section for section in sections if section["name"] == name)
    return list(found["panels"])


def of_kind(name: str, kind: str) -> list[dict[str, Any]]:
    return [panel["config"] for panel in panels(name) if panel["viewType"] == kind]


def test_the_workspace_has_all_sections_open() -> None:
    section = spec(dashboard.build_workspace("me", "vsrprune")._to_model())["section"]
    assert [item["name"] for item in section["panelBankConfig"]["sections"]] == SECTIONS
    assert all(item["isOpen"] for item in section["panelBankConfig"]["sections"])


def test_runs_are_grouped_by_sweep_in_the_list_and_not_in_the_panels() -> None:
    section = spec(dashboard.build_workspace("me", "vsrprune")._to_model())["section"]
    (runs,) = section["runSets"]
    assert runs["grouping"] == [{"section": "run", "name": "group"}]
    assert section["settings"]["useRunsTableGroupingInPanels"] is False
    assert runs["sort"]["keys"][0]["key"] == {"section": "summary", "name": "psnr/finetuned"}
    assert runs["runFeed"]["columnOrder"] == list(dashboard.COLUMNS)


def test_results_draw_quality_against_cost() -> None:
    axes = [(plot["xAxis"], plot["yAxis"]) for plot in of_kind("Results", "Scatter Plot")]
    assert ("summary:macs_kept", "summary:psnr/finetuned") in axes
    assert ("summary:latency_ms", "summary:psnr/finetuned") in axes
    (curve,) = of_kind("Results", "Run History Line Plot")
    assert (curve["xAxis"], curve["metrics"]) == ("tradeoff/macs_kept", ["tradeoff/psnr"])
    assert curve["groupBy"] == "rule.value"
    bars = of_kind("Results", "Bar Chart")
    assert all(bar["metrics"] == ["psnr/finetuned"] for bar in bars)
    assert [bar["groupBy"] for bar in bars] == ["group", "rule.value", "replicate.value"]
    (parallel,) = of_kind("Results", "Parallel Coordinates Plot")
    columns = [column["accessor"] for column in parallel["columns"]]
    assert {"config:ratio.value", "config:rule.value", "summary:macs_kept"} < set(columns)
    assert columns[-1] == "summary:psnr/finetuned"


@pytest.mark.parametrize("stage", ["pretrain", "sparsify", "finetune"])
def test_curves_stand_against_their_stages_own_steps(stage: str) -> None:
    plots = of_kind(stage.capitalize(), "Run History Line Plot")
    assert len(plots) >= 2
    assert {plot["xAxis"] for plot in plots} == {f"{stage}/step"}
    assert all(metric.startswith(f"{stage}/") for plot in plots for metric in plot["metrics"])
    assert [f"{stage}/loss_reconstruction"] in [plot["metrics"] for plot in plots]


def test_gates_of_all_layers_are_drawn_whatever_their_names() -> None:
    (by_layer,) = (plot for plot in of_kind("Gates", "Run History Line Plot") if not plot["metrics"])
    assert (by_layer["metricRegex"], by_layer["useMetricRegex"]) == ("^sparsify/gate/", True)


def test_layers_and_crops_are_read_by_the_names_under_which_jobs_log_them() -> None:
    (heatmap,) = of_kind("Layers", "Media Browser")
    assert heatmap["mediaKeys"] == ["layers/heatmap"]
    (table,) = of_kind("Layers", "Weave")
    assert table["panel2Config"]["exp"]["fromOp"]["inputs"]["key"]["val"] == "layers"
    (bars,) = of_kind("Layers", "Vega2")
    assert bars["fieldSettings"] == {"label": "layer", "value": "ratio"}
    (crops,) = of_kind("Crops", "Media Browser")
    assert (crops["mediaKeys"], crops["gridSettings"]) == (["crops"], {"xAxis": "index", "yAxis": "run"})


@pytest.mark.parametrize("columns", [1, 2, 3, 4])
def test_the_panels_of_a_report_do_not_overlap(columns: int) -> None:
    for section in dashboard.sections():
        dashboard.place(section.panels, columns)
        taken: set[tuple[int, int]] = set()
        for panel in section.panels:
            place = panel.layout
            assert place.x + place.w <= dashboard.WIDTH
            cells = {(x, y) for x in range(place.x, place.x + place.w) for y in range(place.y, place.y + place.h)}
            assert not cells & taken
            taken |= cells


class PlayedServer:
    """W&B as far as the dashboard speaks to it; keeps what it is sent."""

    default_entity = "somebody"
    app_url = "https://wandb.example"

    def __init__(self, projects: list[str]) -> None:
        self.known, self.made, self.views = projects, list[str](), list[dict[str, Any]]()
        self._service_api = self

    def __call__(self, *args: Any, **kwargs: Any) -> PlayedServer:
        return self

    def projects(self, entity: str) -> list[Any]:
        return [type("Project", (), {"name": name}) for name in self.known]

    def reports(self, path: str) -> list[Any]:
        reports = [view for view in self.views if view["type"] == "runs" and path == f"somebody/{view['projectName']}"]
        return [type("Report", (), {"id": view["id"], "display_name": view["displayName"]}) for view in reports]

    def create_project(self, name: str, entity: str) -> None:
        self.made.append(f"{entity}/{name}")
        self.known.append(name)

    def execute_graphql(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        if "allViews" in query:
            known = [
                view for view in self.views if (view["type"], view["name"]) == ("project-view", variables["viewName"])
            ]
            nodes = [{"node": {"id": view["id"], "displayName": "", "spec": view["spec"]}} for view in known]
            return {"project": {"allViews": {"edges": nodes}}}
        if "upsertView" not in query:
            return {"project": {"internalId": "UHJvamVjdA=="} if variables["projectName"] in self.known else None}
        known_id = variables.get("id")
        self.views = [view for view in self.views if view["id"] != known_id]
        self.views.append({**variables, "id": known_id or f"Vmlldw{len(self.views)}"})
        view = {
            "id": self.views[-1]["id"],
            "name": variables["name"],
            "displayName": variables["displayName"],
            "description": variables["description"],
            "project": {"name": variables["projectName"], "entityName": variables["entityName"]},
            "spec": variables["spec"],
        }
        return {"upsertView": {"view": view, "inserted": True}}


@pytest.mark.parametrize("projects", [[], ["vsrprune"]], ids=["new project", "known project"])
def test_both_are_saved_online_and_their_addresses_printed(
    projects: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = PlayedServer(list(projects))
    monkeypatch.setattr(wandb, "login", lambda prompt: True)
    monkeypatch.setattr(wandb, "Api", server)
    assert dashboard.main(["--project", "vsrprune"]) == 0
    out = capsys.readouterr().out
    assert "workspace: https://wandb.example/somebody/vsrprune?nw=" in out
    assert "report: https://wandb.example/somebody/vsrprune/reports/Structured-pruning" in out
    assert server.made == ([] if projects else ["somebody/vsrprune"])
    workspace, report = server.views
    assert (workspace["type"], workspace["entityName"]) == ("project-view", "somebody")
    assert report["type"] == "runs"
    blocks = json.loads(report["spec"])["blocks"]
    grids = [block["metadata"] for block in blocks if block["type"] == "panel-grid"]
    assert len(grids) == len(SECTIONS)
    for grid in grids:
        (runs,) = grid["runSets"]
        assert runs["filters"]["filters"] == [
            {
                **runs["filters"]["filters"][0],
                "key": {"section": "run", "name": "state"},
                "op": "=",
                "value": "finished",
            }
        ]
        assert grid["panelBankSectionConfig"]["panels"]


def test_a_second_call_updates_what_the_first_one_saved(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = PlayedServer(["vsrprune"])
    monkeypatch.setattr(wandb, "login", lambda prompt: True)
    monkeypatch.setattr(wandb, "Api", server)
    dashboard.main([])
    ids, addresses = [view["id"] for view in server.views], capsys.readouterr().out
    server.views[0]["spec"] = json.dumps({**json.loads(server.views[0]["spec"]), "changed in the browser": 1})
    dashboard.main([])
    assert [view["id"] for view in server.views] == ids
    assert capsys.readouterr().out == addresses
    assert "changed in the browser" not in server.views[0]["spec"]
    assert all(view["projectName"] == "vsrprune" for view in server.views)


def test_a_refusal_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(wandb, "login", lambda prompt: True)

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise wandb.errors.CommError("permission denied")

    monkeypatch.setattr(wandb, "Api", refuse)
    with pytest.raises(SystemExit, match=r"^2$"):
        dashboard.main([])
    assert capsys.readouterr().err == "error: W&B refused: permission denied\n"


@pytest.mark.parametrize("error", [wandb.errors.AuthenticationError("no route\nmore"), OSError("no route")])
def test_without_network_it_is_printed(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def login(prompt: bool) -> bool:
        assert not prompt
        raise error

    monkeypatch.setattr(wandb, "login", login)
    assert dashboard.main([]) == 0
    assert capsys.readouterr().out.startswith("nothing is saved: W&B does not answer (no route). This would be:\n")


@pytest.mark.parametrize("flags", [["--dry-run"], []], ids=["dry run", "no login"])
def test_the_command_prints_sections_panels_and_filters(tmp_path: Path, flags: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    done = subprocess.run(
        [sys.executable, str(ROOT / "analysis" / "wandb_dashboard.py"), "--project", "mine", *flags],
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
        env={**environment, "HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc"), "WANDB_CONFIG_DIR": str(tmp_path)},
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for part in ("workspace 'vsrprune' in (your entity)/mine", "grouped by Group", 'Metric("State") == "finished"'):
        assert part in done.stdout
    assert [line.strip() for line in done.stdout.splitlines() if line.strip() in SECTIONS] == SECTIONS
    assert "ScatterPlot: PSNR (dB) against the share of MACs kept: psnr/finetuned over macs_kept" in done.stdout
    assert ("not logged in" in done.stdout) is not bool(flags)
