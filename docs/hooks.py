"""What mkdocs does beside its own work: pages from outside docs/, and drawings that follow the site's colours.

README.md is the site's first page; EXPERIMENTS.md and CONTRIBUTING.md are pages too. Links are written so that they
work in the repository, and are bent here to where the pages stand in the site.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
ADDED = {"README.md": "index.md", "EXPERIMENTS.md": "EXPERIMENTS.md", "CONTRIBUTING.md": "CONTRIBUTING.md"}


def on_files(files: Any, config: Any, **_: Any) -> Any:
    """Add the pages that stand outside docs/."""
    for source, place in ADDED.items():
        text = re.sub(r"\]\(docs/", "](", (ROOT / source).read_text())
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Bend links, and put drawings into the page: what a page only refers to does not know the page's colours."""
    depth = len(PurePosixPath(page.file.src_uri).parts) - 1
    for source, place in ADDED.items():
        # In the repository these pages stand one folder above docs/.
        markdown = markdown.replace(f"]({'../' * (depth + 1)}{source}", f"]({'../' * depth}{place}")
        if page.file.src_uri in ADDED.values():
            markdown = markdown.replace(f"]({source}", f"]({place}")
    return re.sub(r"!\[[^]]*\]\((drawings/\w+\.svg)\)", drawing, markdown)


def drawing(found: re.Match[str]) -> str:
    """The drawing itself, as one block of HTML."""
    svg = re.sub(r"\n\s*", "", (ROOT / "docs" / found[1]).read_text())
    return f'<div class="frame">{svg}</div>'
