"""The command `vsrprune`: one name for the scripts, which it runs as Python would.

It imports nothing of them, so that `vsrprune --help` is there at once.
"""

from __future__ import annotations

import difflib
import os
import runpy
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import vsrprune
from vsrprune.commands import ROOT, SCRIPTS, SWEEPS, TYPED, end_unread, typed

PAGE = """\
Structured pruning of video super-resolution networks: sweeps, ablations and honest measurements.

Usage: vsrprune COMMAND [...]

Compute
  run        one job, or with -m a sweep: vsrprune run -m rsc=true,false ratio=0.3,0.5,0.7
  sweep      a sweep that comes with the project; its names without one
  search     the pruning ratio of every layer, by search
Use a network
  upscale    a video in, a video out
  export     ONNX, torch.export or safetensors, verified
  evaluate   compare with a test set by its published protocol
  page       bicubic, dense and pruned side by side on your clip, in the browser
Look at results
  figures    as PDF and PNG; search-figures those of a search
  tables     Markdown, CSV and LaTeX
  report     one HTML file
  diff       what two jobs differ in
  keep       finished jobs as small files, for a repository
  watch      a live table of jobs
  dashboard  the workspace in Weights & Biases
Look at data
  doctor     what is wrong with a data set, before anything is trained

vsrprune COMMAND --help tells more; vsrprune --version the version;
vsrprune completion a script for bash."""
HELP, VERSION = ("-h", "--help"), ("-V", "--version")


def main() -> int:
    """Run the command that `sys.argv` names. Returns 0 after a page, 2 after one line about what was wrong."""
    try:
        code = _called()
        sys.stdout.flush()
    except BrokenPipeError:
        end_unread()
    return code


def _called() -> int:
    os.environ[TYPED] = "python -m vsrprune" if Path(sys.argv[0]).name == "__main__.py" else "vsrprune"
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in HELP:
        print(PAGE.replace("vsrprune ", f"{os.environ[TYPED]} "))
    elif name in VERSION:
        print(f"vsrprune {vsrprune.__version__}")
    elif name == "sweep":
        return _sweep(arguments)
    elif name == "doctor":
        _run("run", ["--help", "doctor"] if _ask_for_help(arguments) else ["doctor=true", *arguments])
    elif name == "completion":
        print(_completion(arguments))
    elif name in SCRIPTS:
        _run(name, arguments)
    else:
        return _unknown("command", name, sorted([*SCRIPTS, "sweep", "doctor"]))
    return 0


def _run(name: str, arguments: Sequence[str]) -> None:
    """Run a script in this process, which ends as the script ends it."""
    script = str(ROOT / SCRIPTS[name])
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")


def _sweep(arguments: Sequence[str]) -> int:
    """Run a sweep of the project by its name; list them without one, and show its file where help is asked for."""
    names = sorted(path.stem for path in SWEEPS.glob("*.yaml"))
    if not arguments or arguments[0] in HELP:
        print(_sweeps_page())
    elif arguments[0] not in names:
        return _unknown("sweep", arguments[0], names)
    elif _ask_for_help(arguments):
        print(typed((SWEEPS / f"{arguments[0]}.yaml").read_text()), end="")
    else:
        _run("run", ["-cd", str(SWEEPS), "-cn", *arguments])
    return 0


def _sweeps_page() -> str:
    """The sweeps of the project, with the first sentence of each."""
    from vsrprune.config.help import WIDTH, files_of

    command = os.environ[TYPED]
    lines = [
        line
        for name, words in files_of(ROOT, SWEEPS.name).items()
        for line in textwrap.wrap(f"  {name:<17}{words}", WIDTH, subsequent_indent=" " * 19)
    ]
    return "\n".join(
        [
            f"Usage: {command} sweep NAME [KNOB=VALUE ...]    and --help to see its file",
            f"       {command} run -cd FOLDER -cn NAME         one of your own, FOLDER/NAME.yaml",
            "",
            *lines,
        ]
    )


def _completion(words: Sequence[str]) -> str:
    """What may follow the words, a line each; without words the script by which bash asks that."""
    from vsrprune.completion import BASH, candidates

    return "\n".join(candidates(words)) if words else BASH


def _ask_for_help(arguments: Sequence[str]) -> bool:
    return any(item in HELP for item in arguments)


def _unknown(kind: str, name: str, names: Sequence[str]) -> int:
    close = difflib.get_close_matches(name, names, 1, 0.5)
    advice = f"did you mean {close[0]}? There are" if close else "there are"
    print(f"error: there is no {kind} {name!r}; {advice} {', '.join(names)}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
