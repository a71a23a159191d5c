"""A family of networks is a folder and one entry of FAMILIES; nobody outside asks which network it is."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from vsrprune.networks.basicvsr.spec import BasicVSRArguments
from vsrprune.networks.basicvsr_pp.spec import BasicVSRPPArguments
from vsrprune.networks.edsr_rcan.spec import EDSRArguments, RCANArguments
from vsrprune.networks.edvr.spec import EDVRArguments
from vsrprune.networks.rrn.spec import RRNArguments
from vsrprune.networks.table import FAMILIES, Family, identity_of, loaded, prepared

SRC = Path(__file__).parents[3] / "src"
NETWORKS = SRC / "vsrprune" / "networks"
OUTSIDE = [path for path in sorted(SRC.rglob("*.py")) if not path.is_relative_to(NETWORKS)]


@cache
def classes_of_networks() -> frozenset[str]:
    """The networks and their frozen forms; layers (fast, parts) are none."""
    folders = [path for path in NETWORKS.rglob("*.py") if path.parent.name not in ("parts",)]
    nodes = [node for path in folders for node in ast.walk(ast.parse(path.read_text()))]
    return frozenset(node.name for node in nodes if isinstance(node, ast.ClassDef)) - {"PartialConv2d"}


def test_the_classes_are_found() -> None:
    assert {"BasicVSR", "RRN", "EDVR", "ImageNetwork", "OwnNetwork", "FrozenBasicVSR"} <= classes_of_networks()
    assert len(OUTSIDE) > 100


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: path.relative_to(SRC).as_posix())
def test_nobody_outside_asks_which_network_it_is(path: Path) -> None:
    networks = classes_of_networks()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("isinstance", "issubclass"):
            named = {item.id for item in ast.walk(node.args[1]) if isinstance(item, ast.Name)}
            assert not named & networks, f"line {node.lineno}"
        if isinstance(node, ast.Compare):
            texts = {item.value for item in ast.walk(node) if isinstance(item, ast.Constant)}
            attributes = {item.attr for item in ast.walk(node) if isinstance(item, ast.Attribute)}
            assert not (texts & set(FAMILIES) and attributes & {"network", "name"}), f"line {node.lineno}"


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_what_an_entry_names_is_there(family: Family) -> None:
    for place in filter(None, (family.network, family.weights, family.frozen, family.export)):
        assert callable(loaded(place)), place


def test_the_table_is_read_without_torch() -> None:
    code = "import sys, vsrprune.networks.table; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(SRC)}, check=False)
    assert done.returncode == 0


TRAITS = {  # scale, branches, has_flow, reach, goes_back, hands_on_state, smallest_side, by the papers
    "basicvsr": (BasicVSRArguments(), 4, ("backward", "forward"), True, (None, None), True, True, 33),
    "unidirectional": (BasicVSRArguments(bidirectional=False), 4, ("forward",), True, (None, 0), False, True, 33),
    "basicvsr_pp": (
        BasicVSRPPArguments(),
        *(4, ("backward_1", "forward_1", "backward_2", "forward_2"), True, (None, None), True, False, 33),
    ),
    "edvr": (EDVRArguments(window=7), 4, (), False, (3, 3), False, False, 5),
    "rrn": (RRNArguments(), 4, ("forward",), False, (None, 0), False, True, 1),
    "edsr": (EDSRArguments(upscale_factors=(3,)), 3, (), False, (0, 0), False, False, 1),
    "rcan": (RCANArguments(upscale_factors=()), 1, (), False, (0, 0), False, False, 1),
}


@pytest.mark.parametrize("name", TRAITS)
def test_traits_are_those_of_the_papers(name: str) -> None:
    arguments, *expected = TRAITS[name]
    some: Any = arguments
    traits = ("scale", "branches", "has_flow", "reach", "goes_back", "hands_on_state", "smallest_side")
    assert [getattr(some, trait) for trait in traits] == expected
    assert prepared(some, Path("nowhere")) is some


def test_identities_differ_where_networks_do() -> None:
    assert identity_of(RRNArguments(blocks=5))["blocks"] == 5
    assert identity_of(RRNArguments()) == {"network": "rrn", "channels": 128, "blocks": 10, "upscale_factors": (4,)}
    assert identity_of(EDSRArguments()) != identity_of(EDSRArguments(blocks=17)) != identity_of(RCANArguments())
