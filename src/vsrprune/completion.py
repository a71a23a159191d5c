"""Completion of `vsrprune` in bash: commands, sweeps, knobs, and the values of those that have a list of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import get_args

from vsrprune.commands import CONF, SCRIPTS, SWEEPS
from vsrprune.config.composing import known_names
from vsrprune.config.door import DOOR
from vsrprune.config.job import Config
from vsrprune.knobs import leaves
from vsrprune.search.config import SearchJobConfig

KNOBS = {"run": Config, "sweep": Config, "doctor": Config, "search": SearchJobConfig}
# bash takes a word apart at `=`, so the whole one is read from the line, and answers lose what stands before it.
BASH = """\
_vsrprune() {
    local line=${COMP_LINE:0:COMP_POINT} word
    local -a words
    read -ra words <<< "$line"
    [[ $line == *" " ]] && words+=("")
    word=${words[-1]}
    mapfile -t COMPREPLY < <(compgen -W "$(vsrprune completion "${words[@]:1}" 2> /dev/null)" -- "$word")
    [[ ${COMPREPLY[0]-} == *= ]] && compopt -o nospace
    [[ $word == *=* && $COMP_WORDBREAKS == *=* ]] && COMPREPLY=("${COMPREPLY[@]#"${word%%=*}="}")
    return 0
}
complete -o default -F _vsrprune vsrprune"""


def candidates(words: Sequence[str]) -> list[str]:
    """What may stand in place of the last word after `vsrprune`; empty leaves it to the names of files."""
    *before, word = words
    if not before:
        return sorted([*SCRIPTS, "sweep", "doctor"])
    if before == ["sweep"]:
        return sorted(path.stem for path in SWEEPS.glob("*.yaml"))
    kind = KNOBS.get(before[0])
    if kind is None or word.startswith("-"):
        return []
    name, given, _ = word.partition("=")
    groups = {path.name: sorted(file.stem for file in path.glob("*.yaml")) for path in CONF.iterdir() if path.is_dir()}
    if given:
        return [f"{name}={value}" for value in groups.get(name) or _values(kind, name)]
    known = {*known_names(kind), *groups} if kind is SearchJobConfig else {*known_names(kind), *groups} - {"search"}
    return sorted(f"{item}=" for item in known)


def _values(kind: type[Config], name: str) -> Iterable[str]:
    """The values of a knob that has a list of them."""
    leaf = next((leaf for leaf in (*DOOR, *leaves(kind)) if leaf.name == name), None)
    if leaf is None:
        return ()
    return ("true", "false") if bool in (leaf.hint, *get_args(leaf.hint)) else leaf.knob.choices
