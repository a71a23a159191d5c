"""The notebook of the first ablation, run by a kernel as a user runs it, on two jobs of the smallest schedule."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import last_of_each, minimal_overrides

pytest.importorskip("ipykernel", reason="ipykernel is not installed")
pytest.importorskip("nbclient", reason="nbclient is not installed")

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "first_ablation.ipynb"


def test_the_notebook_is_kept_without_outputs() -> None:
    for cell in nbformat.read(NOTEBOOK, 4).cells:
        assert cell.cell_type == "markdown" or (cell.outputs, cell.execution_count) == ([], None)


def test_the_notebook_computes_tabulates_and_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    notebook = nbformat.read(NOTEBOOK, 4)
    cells = {cell.id: cell for cell in notebook.cells}
    given = ["rsc=true,false", "ratio=0.5", "method=l1", "tracking=none", "launcher.jobs=1"]
    knobs = last_of_each([*minimal_overrides(tmp_path), *given])
    shortened = [knob for knob in knobs if not knob.startswith("runs_dir=")]
    cells["knobs"].source = f"KNOBS = {shortened!r}\nRUNS = {str(tmp_path / 'runs')!r}"
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": ROOT / "docs"}}
    ).execute()

    shown = {name: cell.outputs[-1].get("data", {}) for name, cell in cells.items() if cell.get("outputs")}
    assert "2 jobs: 2 done" in "".join(output.text for output in cells["compute"].outputs)
    assert shown["table"]["text/html"].count("<tr>") == 2  # the heading's is right-aligned
    assert "difference" in shown["answer"]["text/html"]
    assert {"image/png"} <= shown["quality"].keys() & shown["layers"].keys()
