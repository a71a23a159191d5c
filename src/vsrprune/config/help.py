"""`--help`: a short page first, and one group, network or knob in full after it."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from vsrprune.commands import typed
from vsrprune.config.door import DOOR
from vsrprune.config.job import Config
from vsrprune.config.model import NETWORKS
from vsrprune.config.page import first_sentence, knob_sections, page, shown
from vsrprune.errors import UserError
from vsrprune.knobs import KNOB, Leaf, allowed, hints, leaves

WIDTH = 80
EXPERIMENTS = "where a job or a sweep starts; what is typed beside it wins"
# The flat knobs that the short page leaves to the page of `knobs`.
PAPER = ("rsc", "residual", "ratio", "target", "scope", "score", "order", "tf_weight", "replicate")
MARKDOWN = "markdown"  # asks for all of it as docs/knobs.md has it
FILES_ALONE = ("experiment",)  # groups without knobs of their own: a file sets those of others
FLAT = "knobs"  # what the help calls the knobs outside groups


def print_help(kind: type[Config], path: str, intro: str, conf: Path, asked: Sequence[str]) -> None:
    """Print the short page, or what is asked for in full. Raises UserError for a name that is neither.

    path: of the command, as a user types it. conf: the folder of the groups' files.
    """
    if list(asked) == [MARKDOWN]:
        print(page(kind), end="")
        return
    pages = [group_page(kind, name, conf) for name in asked]
    print(typed("\n\n".join(pages) if pages else short_page(kind, path, intro, conf)))


def short_page(kind: type[Config], path: str, intro: str, conf: Path) -> str:
    """What the command is, the knobs that are asked for most, the groups with their files, and where to read on."""
    groups = [item.name for item in fields(kind) if KNOB not in item.metadata]
    own = [leaf for leaf in leaves(kind) if leaf.name.startswith("search.")]
    flat = {leaf.name: leaf for leaf in leaves(kind)} | {leaf.name: leaf for leaf in DOOR}
    told = own or [flat[name] for name in ("rule", *PAPER)]
    lines = [intro, "", f"{'Knobs of the search' if own else 'The paper' + chr(39) + 's knobs'} (default)"]
    lines += [_line(leaf) for leaf in told]
    lines += ["", "Groups: GROUP=FILE takes a file of conf/GROUP, GROUP.NAME=VALUE sets one knob"]
    for name in [*groups, "rule", *FILES_ALONE]:
        files = ", ".join(files_of(conf, name))
        title = files or first_sentence(hints(kind)[name])
        lines += textwrap.wrap(f"  {name:<12}{title}", WIDTH, subsequent_indent=" " * 14)
    lines += [
        "",
        "Read on",
        f"  python {path} --help {FLAT}        all knobs outside groups",
        f"  python {path} --help schedule     all knobs of a group, or of a network: --help rrn",
        f"  python {path} --help score        one knob",
        "  docs/knobs.md                     all of it on one page",
        "  docs/gpu.md                       GPUs: trainer=gpu, ddp or cpu, precision, workers, which PyTorch",
    ]
    return "\n".join(lines)


def group_page(kind: type[Config], name: str, conf: Path) -> str:
    """All that is known of a group, of a network's arguments, of the flat knobs, or of one knob."""
    titles = {title.removeprefix("model of network="): (text, knobs) for title, text, knobs in knob_sections(kind)}
    titles = {FLAT if " " in title else title: body for title, body in titles.items()}
    single = {leaf.name: leaf for _, knobs in titles.values() for leaf in knobs}
    if name in titles:
        text, knobs = titles[name]
        lines = textwrap.wrap(f"{name}: {text}" if text else "all knobs outside groups", WIDTH)
        lines += [*_file_lines(conf, name), ""]
        lines += [full for leaf in knobs for full in _full(leaf)]
        if name == "model":
            lines += ["", f"and the arguments of its network: --help {', '.join(NETWORKS)}"]
        return "\n".join(lines)
    if name in FILES_ALONE:
        return "\n".join([f"{name}: {EXPERIMENTS}", *_file_lines(conf, name)])
    if name in single:
        return "\n".join(_full(single[name]))
    close = difflib.get_close_matches(name, [*titles, *single, *FILES_ALONE], 1, 0.5)
    advice = f"did you mean {close[0]}?" if close else f"it takes {', '.join([*titles, *FILES_ALONE])} or a knob"
    raise UserError(f"--help knows no group or knob {name!r}; {advice}")


def _file_lines(conf: Path, group: str) -> list[str]:
    files = files_of(conf, group).items()
    return [
        line
        for file, words in files
        for line in textwrap.wrap(f"  {group}={file:<18}{words}", WIDTH, subsequent_indent=" " * 8)
    ]


def files_of(conf: Path, group: str) -> dict[str, str]:
    """The files of a group, and the first sentence of the comment that opens each."""
    found = {}
    for path in sorted((conf / group).glob("*.yaml")):
        lines = path.read_text().splitlines()
        comments = [line[2:] for line in lines if line.startswith("# ") and "@package" not in line]
        found[path.stem] = " ".join(comments).split(". ")[0].rstrip(".")
    return found


def _line(leaf: Leaf) -> str:
    """A knob on the short page: the first sentence of its help, in one or two lines."""
    text = leaf.knob.help.split(". ")[0].rstrip(".")
    head = f"  {leaf.name}={shown(leaf.default)}"
    wrapped = textwrap.wrap(text, WIDTH - 28)
    head = f"{head:<27} " if len(head) < 28 else f"{head}\n{' ' * 28}"
    return head + f"\n{' ' * 28}".join(wrapped)


def _full(leaf: Leaf) -> list[str]:
    """A knob in full: name and default, help, what is allowed."""
    text = f"{leaf.knob.help} [{allowed(leaf)}]"
    return [f"  {leaf.name}={shown(leaf.default)}", *textwrap.wrap(text, WIDTH, initial_indent=" " * 8,
                                                                    subsequent_indent=" " * 8)]  # fmt: skip
