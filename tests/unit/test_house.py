"""How large things may grow, and what the tests may lean on. What is still beyond a limit is listed with its reason."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("src", "analysis", "sweeps", "benchmarks")
LINES_OF_A_FILE, LINES_OF_A_CLASS, LINES_OF_A_FUNCTION = 400, 200, 60
METHODS, PARAMETERS = 20, 6
# Every script has its own; every stage, and every family of networks, offers these to whoever walks them.
OFFERED = ("main", "parse", "make", "Inputs", "divide", "published")
LAYERS = {"GatedConv2d", "GatedDeformableConv2d", "DeformableConv2d", "ResidualBlock"}  # of networks, no networks
Function = ast.FunctionDef | ast.AsyncFunctionDef

# Rule -> place -> why it may stay for now. An entry that is no longer needed fails its test: this list only shrinks.
KNOWN: dict[str, dict[str, str]] = {
    f"a function has at most {PARAMETERS} parameters": {
        "benchmarks/latency.py.compare": "a script's single function: its parameters are its options",
        "src/vsrprune/channels/specification.py.Specification.conv": "they describe one convolution, by keyword",
        "src/vsrprune/channels/specification.py.Specification.filters": "they describe one convolution, by keyword",
        "src/vsrprune/networks/basicvsr_pp/spec.py._state_trunk": "they describe one part of a network",
    },
    "no network is told by its class outside networks/": {
        "benchmarks/outside_control.py.load_dense": "the benchmark compares this one network",
    },
}


@cache
def modules() -> dict[str, ast.Module]:
    """Every file that users run or import, by its path in the repository."""
    files = [file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))]
    return {str(file.relative_to(ROOT)): ast.parse(file.read_text()) for file in files}


def definitions(node: ast.AST, prefix: str) -> Iterator[tuple[str, Function | ast.ClassDef]]:
    """All classes and functions below a node, with the names of what they stand in."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.ClassDef):
            place = f"{prefix}.{child.name}"
            yield place, child
            yield from definitions(child, place)
        else:
            yield from definitions(child, prefix)


def everything() -> Iterator[tuple[str, Function | ast.ClassDef]]:
    for path, module in modules().items():
        yield from definitions(module, path)


def length(node: Function | ast.ClassDef) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def parameters(node: Function) -> int:
    every = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
    return sum(argument.arg not in ("self", "cls") for argument in every)


def long_files() -> Iterator[str]:
    return (path for path in modules() if (ROOT / path).read_text().count("\n") > LINES_OF_A_FILE)


def long_classes() -> Iterator[str]:
    return (place for place, node in everything() if isinstance(node, ast.ClassDef) and length(node) > LINES_OF_A_CLASS)


def long_functions() -> Iterator[str]:
    return (place for place, node in everything() if isinstance(node, Function) and length(node) > LINES_OF_A_FUNCTION)


def classes_of_many_methods() -> Iterator[str]:
    for place, node in everything():
        if isinstance(node, ast.ClassDef) and sum(isinstance(item, Function) for item in node.body) > METHODS:
            yield place


def functions_of_many_parameters() -> Iterator[str]:
    return (place for place, node in everything() if isinstance(node, Function) and parameters(node) > PARAMETERS)


def names_of_two_homes() -> Iterator[str]:
    """Public functions and classes that two files define; benchmarks are scripts, each on its own.

    Files of one name in sibling rooms (recipe.py, work.py, export.py) fill one role, so they count as one home.
    """
    homes: dict[str, set[str]] = {}
    for path, module in modules().items():
        for node in () if path.startswith("benchmarks/") else module.body:
            if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, set()).add(Path(path).name)
    return (name for name, files in homes.items() if len(files) > 1 and name not in OFFERED)


def name_of(path: str) -> str:
    """The name by which a file is imported."""
    parts = Path(path).with_suffix("").parts[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(module: ast.Module) -> Iterator[tuple[str, str]]:
    """(Module, name in it) of every import; the name is empty where the module itself is imported."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)


def imports_in_both_directions() -> Iterator[str]:
    """Pairs of files that import each other."""
    names = {name_of(path) for path in modules()}
    arrows = {
        (name_of(path), target)
        for path, module in modules().items()
        for source, name in imported(module)
        for target in (source, f"{source}.{name}")
        if target in names
    }
    return (f"{first} and {second}" for first, second in arrows if first < second and (second, first) in arrows)


def networks_told_by_their_class() -> Iterator[str]:
    """`isinstance` on a network outside networks/: what differs between networks is a trait of theirs."""
    for path, module in modules().items():
        if path.startswith("src/vsrprune/networks/"):
            continue
        classes = {name for source, name in imported(module) if source.startswith("vsrprune.networks")} - LAYERS
        for place, node in definitions(module, path):
            if isinstance(node, Function) and any(asks_for(call, classes) for call in ast.walk(node)):
                yield place


def asks_for(node: ast.AST, classes: set[str]) -> bool:
    """Whether this is isinstance(x, one of the classes) or isinstance(network, anything)."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance"):
        return False
    asked, kind = node.args
    named = {item.id for item in ast.walk(kind) if isinstance(item, ast.Name)}
    return bool(named & classes) or (isinstance(asked, ast.Name) and asked.id == "network")


RULES: dict[str, Callable[[], Iterator[str]]] = {
    f"a file has at most {LINES_OF_A_FILE} lines": long_files,
    f"a class has at most {LINES_OF_A_CLASS} lines": long_classes,
    f"a class has at most {METHODS} methods": classes_of_many_methods,
    f"a function has at most {LINES_OF_A_FUNCTION} lines": long_functions,
    f"a function has at most {PARAMETERS} parameters": functions_of_many_parameters,
    "a public name has one home": names_of_two_homes,
    "no two modules import each other": imports_in_both_directions,
    "no network is told by its class outside networks/": networks_told_by_their_class,
}


def test_the_source_tree_is_found() -> None:
    assert len(modules()) > 100
    assert KNOWN.keys() <= RULES.keys()


@pytest.mark.parametrize("rule", RULES)
def test_the_house_keeps(rule: str) -> None:
    found, known = set(RULES[rule]()), set(KNOWN.get(rule, ()))
    assert found - known == set(), "mend these, or say in KNOWN why they stay"
    assert known - found == set(), "these are mended: take them out of KNOWN"


# The tests stand on their own


def steps_up(node: ast.AST) -> int:
    """How many folders `Path(__file__).parent.parents[2]...` goes up, 0 for anything else."""
    steps = 0
    while not (isinstance(node, ast.Name) and node.id == "__file__"):
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute) and node.value.attr == "parents":
            steps += ast.literal_eval(node.slice) + 1
            node = node.value.value
        elif isinstance(node, ast.Attribute):
            steps += node.attr == "parent"
            node = node.value
        elif isinstance(node, ast.Call) and (node.args or isinstance(node.func, ast.Attribute)):
            node = node.func if isinstance(node.func, ast.Attribute) else node.args[0]
        else:
            return 0
    return steps


def problems_of(path: str, node: ast.AST) -> Iterator[str]:
    """What a node of a test's file needs from outside the repository, or skips for want of."""
    if steps_up(node) > len(Path(path).parts):
        yield "a path above the repository"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        texts = [str(side.value) for side in (node.left, node.right) if isinstance(side, ast.Constant)]
        if any(".." in text.split("/") for text in texts):
            yield "a path with .."
    # A program or library may be missing, or what only some systems have (/proc, /dev): a file of ours may not.
    condition = condition_to_skip(node)
    asks = any(f".{question}()" in condition for question in ("exists", "is_file", "is_dir"))
    if asks and "Path('/" not in condition:
        yield f"skipped by {condition}"


def condition_to_skip(node: ast.AST) -> str:
    """The source of what decides that a test is skipped; "" for a node that skips nothing."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "skipif":
        return ast.unparse(node.args[0])
    if isinstance(node, ast.If) and "pytest.skip" in "".join(map(ast.unparse, node.body)):
        return ast.unparse(node.test)
    return ""


def test_the_tests_need_nothing_beside_the_repository() -> None:
    files = sorted((ROOT / "tests").rglob("*.py"))
    assert len(files) > 80
    for file in files:
        path = str(file.relative_to(ROOT))
        for node in ast.walk(ast.parse(file.read_text())):
            assert [f"{path}:{node.lineno}: {problem}" for problem in problems_of(path, node)] == []


def test_no_two_test_files_have_one_name() -> None:
    """Pytest imports them as modules of their bare names; the second of a name cannot be collected."""
    names = Counter(file.name for file in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("Path(__file__).resolve().parents[3] / 'goldens'", "a path above the repository"),
        ("Path(__file__).parents[2] / '..' / 'shared'", "a path with .."),
        ("pytest.mark.skipif(not GOLDEN.is_file(), reason='')", "skipped by not GOLDEN.is_file()"),
        ("if not GOLDEN.exists(): pytest.skip('no file')", "skipped by not GOLDEN.exists()"),
        ("pytest.mark.skipif(not Path('/proc').exists(), reason='')", None),
        ("Path(__file__).parents[2] / 'goldens'", None),
    ],
)
def test_a_test_that_needs_something_else_is_found(line: str, problem: str | None) -> None:
    found = [text for node in ast.walk(ast.parse(line)) for text in problems_of("tests/unit/test_x.py", node)]
    assert found == ([problem] if problem else [])
