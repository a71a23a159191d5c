"""The README is short, links lead somewhere, drawings are those that their script makes, and the site builds."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml
from documents import PAGES, ROOT, blocks

LANGUAGES = {"bash", "python", "text", "yaml"}
LINKS = r"(?<!!)\[[^]]*\]\(([^)\s]+)\)|!\[[^]]*\]\(([^)\s]+)\)"


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """A page without its blocks of code and its code in lines."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", lambda found: "x" * len(found[0]), text)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them; mkdocs.yml asks the site for the same."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_fits_one_screen_of_eight_kilobytes() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= 8192


@pytest.mark.parametrize("page", [*PAGES, ROOT / "EXPERIMENTS.md"], ids=name)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in ("".join(found) for found in re.findall(LINKS, prose(page))):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_of_code_states_its_language(page: Path) -> None:
    assert page.read_text().count("\n```") % 2 == 0
    assert {block.language for block in blocks(page)} <= LANGUAGES


def test_the_citation_names_this_version_and_the_paper() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])
    (paper,) = cited["references"]
    assert "2206.07687" in paper["url"]


def test_every_page_has_its_place_in_the_site() -> None:
    places = (ROOT / "mkdocs.yml").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        # Tables that stand beside the runs they are of are for EXPERIMENTS.md.
        assert page.is_relative_to(ROOT / "docs" / "evidence") or f": {page.relative_to(ROOT / 'docs')}\n" in places


def test_drawings_are_what_their_script_makes() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "drawings" / "draw.py"))
    files = {path.stem: path.read_text() for path in (ROOT / "docs" / "drawings").glob("*.svg")}
    assert files == {each: made["svg"](each) for each in made["DRAWINGS"]}


def test_the_site_builds_and_asks_for_nothing_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("material", reason="the extra docs is not installed")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path)))  # strict: a warning raises
    pages = {str(page.relative_to(tmp_path)): page.read_text() for page in tmp_path.rglob("*.html")}
    assert {"index.html", "first_ablation.html", "EXPERIMENTS.html", "decisions/house.html"} <= pages.keys()
    for path, text in pages.items():
        loaded = re.findall(r"<(?:script|img|iframe)[^>]* src=\"?([^\"> ]+)", text)
        loaded += re.findall(r"<link[^>]* rel=\"?(?:stylesheet|preconnect|icon)\"?[^>]*href=\"?([^\"> ]+)", text)
        assert loaded, path
        assert not [source for source in loaded if re.match(r"(https?:)?//", source)], path
    assert 'class="drawing"' in pages["method.html"]
