"""Which files a network's code is, what tells it from others, and how it is imported."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from vsrprune.errors import UserError
from vsrprune.networks.own.sources import import_source, read_source

SRC = Path(__file__).parents[4] / "src"


def written(folder: Path, **files: str) -> Path:
    """Python files by name, `__` for a slash; returns the path of net.py."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "net.py"


def test_modules_beside_the_file_count_as_far_as_they_are_imported(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        net="import os, json\nfrom parts.blocks import A\nfrom .tools import x\ndef f():\n    import late\n",
        parts__blocks="from . import deeper\nimport net\nA = 1\n",
        parts__deeper="",
        tools="x = 1\n",
        late="",
        never="1 / 0\n",
    )
    (tmp_path / "parts" / "__init__.py").write_text("")
    beside = [path.as_posix() for path in read_source(file).beside]
    assert beside == ["late.py", "parts/__init__.py", "parts/blocks.py", "parts/deeper.py", "tools.py"]


def test_the_content_tells_sources_apart_and_the_place_does_not(tmp_path: Path) -> None:
    texts = {"net": "import blocks\n", "blocks": "A = 1\n"}
    first = read_source(written(tmp_path / "a", **texts))
    assert read_source(written(tmp_path / "b", **texts)).content == first.content
    changes = ({"net": "import blocks  #\n"}, {"blocks": "A = 2\n"})
    others = [read_source(written(tmp_path / str(at), **{**texts, **change})) for at, change in enumerate(changes)]
    assert len({first.content, *(other.content for other in others)}) == 3
    written(tmp_path / "a", unrelated="B = 3\n")
    assert read_source(tmp_path / "a" / "net.py") == first


def test_a_copy_is_the_same_source(tmp_path: Path) -> None:
    source = read_source(written(tmp_path / "a", net="from parts import p\n", parts__p="P = 4\n"))
    source.copy_to(tmp_path / "b")
    copy = read_source(tmp_path / "b" / "net.py")
    assert (copy.beside, copy.content) == (source.beside, source.content)


def test_modules_of_the_same_name_beside_two_files_are_not_mixed(tmp_path: Path) -> None:
    text = "import twin_blocks\nA = twin_blocks.A\n"
    files = [written(tmp_path / str(at), net=text, twin_blocks=f"A = {at}") for at in (1, 2)]
    assert [import_source(read_source(file)).A for file in files] == [1, 2]
    assert import_source(read_source(files[0])).A == 1


def test_relative_imports_and_packages_are_found(tmp_path: Path) -> None:
    file = written(tmp_path, net="from .near import N\nfrom far.off import F\n", near="N = 5\n", far__off="F = 6\n")
    module = import_source(read_source(file))
    assert (module.N, module.F) == (5, 6)


def test_another_process_finds_what_it_unpickles(tmp_path: Path) -> None:
    """As the ranks of a data-parallel training do, which are given the very network."""
    file = written(tmp_path, net="class A:\n    value = 7\n")
    packed = pickle.dumps(import_source(read_source(file)).A())
    code = "import pickle, sys; print(pickle.loads(sys.stdin.buffer.read()).value)"
    done = subprocess.run(
        [sys.executable, "-c", code], input=packed, capture_output=True, env={**os.environ, "PYTHONPATH": str(SRC)}
    )
    assert done.stdout.split() == [b"7"], done.stderr


def test_a_file_that_is_not_there_or_no_python_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere.py: there is no such file"):
        read_source(tmp_path / "nowhere.py")
    with pytest.raises(UserError, match=r"net.py, line 2: this is no Python: .*never closed"):
        read_source(written(tmp_path, net="x = 1\ny = (\n"))
    with pytest.raises(UserError, match=r"blocks.py, line 1: this is no Python"):
        read_source(written(tmp_path, net="import blocks\n", blocks="def\n"))
