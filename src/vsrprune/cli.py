"""What every command does before Hydra and after an error: `--help`, names that do not exist, one line for mistakes."""

from __future__ import annotations

import contextlib
import difflib
import os
import shutil
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import hydra._internal.hydra
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, ValueType
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from vsrprune.commands import CONF, end_unread, typed
from vsrprune.config.composing import OPEN, configured, default_model, known_names, schema
from vsrprune.config.door import check_typed
from vsrprune.config.help import print_help
from vsrprune.config.job import Config
from vsrprune.config.model import ModelConfig
from vsrprune.errors import PreemptedError, UserError
from vsrprune.host.naming import LATEST, run_name
from vsrprune.host.secrets import refuse_password
from vsrprune.knobs import unknown
from vsrprune.store.atomic import check_makeable, explain_os_error

C = TypeVar("C", bound=Config)
OWN_BY_HYDRA = ("hydra",)
# What Hydra would do besides, and which would go wrong here without a word: why not, and what to do.
REFUSED = {
    "hydra.sweeper.max_batch_size": "a sweep is planned as a whole; launcher.jobs says how many jobs run at a time",
    "hydra.job.chdir": "jobs run where the command was typed, so that relative paths mean the same everywhere",
    "hydra.sweep": "runs_dir is the folder in which every sweep has one of its own",
    "hydra.launcher": "launcher=NAME says where jobs run",
    "hydra.sweeper._target_": "a sweep runs every combination; sweeps/search_ratios.py searches",
    "hydra.callbacks": "they would run code that is not this project's",
}
# The same of what files set; a command may.
REFUSED_IN_FILES = {
    "hydra.job_logging": "it can run code and write over any file; jobs say what they do on the terminal",
    "hydra.hydra_logging": "it can run code and write over any file; jobs say what they do on the terminal",
    "hydra.output_subdir": "the record of a command lies in .hydra of its job's folder",
    "hydra.job.env_set": "variables that a file sets can run code; give them on the command line",
}
SWEEP_DIR = "${home:${runs_dir}}/.multirun-${process:}"  # of conf/config.yaml
RECORDS = (None, ".hydra", "${unless:${doctor},.hydra,null}")  # the last of conf/config.yaml
LOGGING = {"version": 1, "root": {"level": "ERROR"}, "disable_existing_loggers": True}  # Hydra's `disabled`
# What Hydra makes of names in files, and which it would call whatever they name.
TARGETS = {
    "hydra.launcher._target_": (
        "hydra_plugins.vsrprune_launcher.launcher.VsrpruneLauncher",
        "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
    ),
    "hydra.sweeper._target_": (
        "hydra_plugins.vsrprune_launcher.composing.VsrpruneSweeper",
        "hydra._internal.core_plugins.basic_sweeper.BasicSweeper",
    ),
}

BASIC = TARGETS["hydra.launcher._target_"][-1]  # of conf/search_ratios.yaml


@dataclass(frozen=True)
class Command:
    """A command that Hydra composes: its path as a user types it, its main function, its knobs, what opens its help."""

    path: str
    main: Callable[[], object]
    kind: type[Config]
    intro: str


def register(kind: type[Config]) -> None:
    """What conf/ uses: its resolvers, the schema that it composes on, and the default model.

    The groups of free names are open, so that a name in them needs no plus; whether it exists is checked by
    `composed_config` with better words than Hydra's.
    """
    OmegaConf.register_new_resolver("run_name", run_name, replace=True)
    OmegaConf.register_new_resolver("unless", lambda that, value, other: other if that is True else value, replace=True)
    OmegaConf.register_new_resolver("process", os.getpid, replace=True)
    OmegaConf.register_new_resolver("home", lambda path: str(Path(path).expanduser()), replace=True)
    node = OmegaConf.create(schema(kind))
    for name in OPEN:
        OmegaConf.set_struct(OmegaConf.select(node, name), False)
    store = ConfigStore.instance()
    store.store(name="schema", node=node)
    # The default network stands in Python alone, and its file in conf/model reads it from here, so both agree.
    store.store(name="default_model", node=default_model())


def composed_config(composed: DictConfig, kind: type[C]) -> C:
    """The configuration that Hydra composed. Raises UserError for a name that is no knob."""
    values = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(values, dict)
    return configured(kind, {str(name): value for name, value in values.items()})


def composed(*choices: str) -> Config:
    """The configuration of files in conf, such as `model=basicvsr`, for scripts that Hydra does not start."""
    register(Config)
    with initialize_config_dir(str(CONF.resolve()), version_base="1.3"):
        return composed_config(compose("config", list(choices)), Config)


def preset(name: str) -> ModelConfig:
    """The network of a file in conf/model."""
    return composed(f"model={name}").model


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn errors that a user can mend into one line and an exit; others pass."""
    try:
        yield
        sys.stdout.flush()  # here, where a reader that has gone is answered below
    # Before UserError, of which it is a kind: its exit code is that of the signal.
    except PreemptedError as error:
        sys.exit(complain(str(error), error.exit_code))
    except UserError as error:
        sys.exit(complain(str(error)))
    except BrokenPipeError:
        end_unread()
    except OSError as error:
        # A full disk or a missing right can be mended by the user; other errors of the system keep their traceback.
        explanation = explain_os_error(error)
        if explanation is None:
            raise
        sys.exit(complain(explanation))
    except KeyboardInterrupt:
        # 130 is 128 plus the number of SIGINT, as shells have it.
        sys.exit(complain("interrupted; run the same command again to go on", 130))


def check_one_run(config: Config) -> None:
    """Raise UserError for a sweep's name on one run, unless that is a job of the sweep."""
    # The launcher gives its jobs a group; the name may have come to them with a file.
    if config.sweep.name is not None and not config.tracking.group:
        raise UserError(
            f"sweep.name={config.sweep.name} names a sweep (-m), and this is one run, whose folder is"
            f" hydra.run.dir={config.runs_dir}/NAME"
        )


@contextlib.contextmanager
def leaving_no_trace(folder: Path, record: str | None) -> Iterator[None]:
    """Remove a run's folder in the end if nothing is in it but Hydra's record of the command: nothing was run."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if record and [path.name for path in folder.iterdir()] == [record]:
                shutil.rmtree(folder)


def run_command(command: Command) -> None:
    """Print help or call Hydra's main; also what fails in Hydra's own hands ends in one line."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra would print a traceback and exit
    made: list[Path] = []
    hydra._internal.hydra.ConfigLoaderImpl = partial(CheckedLoader, made)  # type: ignore[attr-defined, assignment]
    try:
        with explained():
            asked = [item for item in sys.argv[1:] if item not in ("--help", "-h")]
            if len(asked) < len(sys.argv) - 1:
                print_help(command.kind, command.path, command.intro, CONF, asked)
                return
            check_names(command.kind, sys.argv[1:])
            command.main()
    except OmegaConfBaseException as error:
        first = str(error).strip().splitlines()[0]
        sys.exit(complain(f"{first}; ${{NAME}} in a value stands for that knob's value, and \\${{NAME}} for the text"))
    except (HydraException, YAMLError) as error:
        causes = filter(None, (error, error.__cause__))
        sys.exit(complain(" ".join(" ".join(str(cause).split()) for cause in causes)))
    finally:
        for folder in made:  # the innermost first, those alone in which nothing was left
            with contextlib.suppress(OSError):
                folder.rmdir()


def check_names(kind: type[Config], arguments: Sequence[str]) -> None:
    """Raise UserError for a knob, a file of a group or a configuration that does not exist, with the nearest name.

    Hydra would advise to add an unknown knob with a plus, which then changes nothing.
    """
    if any("\udc80" <= letter <= "\udcff" for item in arguments for letter in item):
        raise UserError("this terminal's locale cannot read the letters of the command; set PYTHONUTF8=1 before it")
    # Hydra's own parser, so that flags and overrides are told apart as Hydra will do it.
    parser = get_args_parser()
    parser.error = _refuse_flag  # type: ignore[method-assign]
    given = parser.parse_args(arguments)
    _check_flags(given)
    # Hydra takes a relative folder for one beside the script.
    conf = Path(sys.argv[0]).resolve().parent / given.config_path if given.config_path else CONF
    folders = [*([Path(given.config_dir)] if given.config_dir else []), conf]
    for flag, folder in (("--config-dir", given.config_dir), ("--config-path", given.config_path and conf)):
        if folder and not Path(folder).is_dir():
            raise UserError(f"{flag}={folder}: there is no such folder")
    _refuse_passwords(given.overrides, [folder for folder in folders if folder != CONF])
    if given.config_name:
        _check_file("--config-name", given.config_name, folders)
    try:
        overrides = OverridesParser.create().parse_overrides(given.overrides)
    except OverrideParseException as error:
        first = str(error).splitlines()[0].split(". To set")[0]
        name, _, value = str(error.override).partition("=")
        # Hydra's grammar takes few characters without quotes, of letters those of ASCII.
        advice = "" if "'" in value else f"; with quotes any text is taken: \"{name}='{value}'\""
        if value.endswith(","):
            advice = "; a list of values has no space behind its commas"
        raise UserError(f"{error.override!r} cannot be read as KNOB=VALUE ({first}){advice}") from None
    known = known_names(kind)
    _check_once(overrides)
    check_typed({item.key_or_group: str(item.input_line).partition("=")[2].split(",") for item in overrides})
    for override in overrides:
        name = override.key_or_group.split("@")[0]
        if name.split(".")[0] in OWN_BY_HYDRA or name.split("/")[0] in OWN_BY_HYDRA:
            _check_hydra_override(override, given.multirun)
            continue
        if override.type is OverrideType.DEL:
            raise UserError(f"~{name}: a knob cannot be taken away; leave {name} out of the command for its default")
        # A group is a folder of conf, and its value the name of a file there.
        if any((folder / name).is_dir() for folder in folders):
            _check_choice(override, name, [folder / name for folder in folders])
        elif not _is_known(name, known):
            raise unknown(name, known)


class CheckedLoader(ConfigLoaderImpl):
    """Hydra's loader, which refuses what a file would have Hydra call: the next that Hydra does is to call it.

    It appends to `made` the folders that Hydra is going to make for runs_dir, the innermost first.
    """

    def __init__(self, made: list[Path], *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._made = made

    def load_configuration(self, *given: Any, **named: Any) -> DictConfig:
        """What Hydra composed. Raises UserError as `check_hydra` and `check_targets` do, and for runs_dir."""
        composed = super().load_configuration(*given, **named)
        check_targets(composed)
        check_hydra(composed.hydra)
        if composed.doctor is not True and isinstance(composed.runs_dir, str):
            runs = Path(composed.runs_dir).expanduser()
            check_makeable("runs_dir", runs)
            self._made += [folder for folder in (runs, *runs.parents) if not folder.exists()]
        return composed


def check_targets(composed: DictConfig) -> None:
    """Raise UserError for a `_target_` that is not this project's: Hydra calls what it names, whatever that is."""
    for name, target in _targets(OmegaConf.to_container(composed, resolve=False), ""):
        if target not in TARGETS.get(name, ()):
            raise UserError(f"{name}={target} cannot be set: it would run code that is not this project's")


def _targets(node: object, name: str) -> Iterator[tuple[str, object]]:
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in children:
        inner = f"{name}.{key}".lstrip(".")
        if key == "_target_":
            yield inner, child
        yield from _targets(child, inner)


def check_hydra(hydra: Any) -> None:
    """Raise UserError for settings of Hydra that would go wrong, in its composed node: files may hold them too."""
    node = OmegaConf.to_container(hydra, resolve=False)
    assert isinstance(node, dict)
    _refuse_if(bool(node.get("callbacks")), "hydra.callbacks")
    for name in ("job_logging", "hydra_logging"):
        _refuse_if(node.get(name, LOGGING) != LOGGING, f"hydra.{name}")
    _refuse_if(node.get("output_subdir") not in RECORDS, "hydra.output_subdir")
    typed = "".join(node.get("overrides", {}).get("hydra", []))
    _refuse_if(any(f"env_set.{name}=" not in typed for name in node["job"].get("env_set", {})), "hydra.job.env_set")
    _refuse_if(node["sweeper"].get("max_batch_size") is not None, "hydra.sweeper.max_batch_size")
    _refuse_if(bool(node["job"].get("chdir")), "hydra.job.chdir")
    _refuse_if(node["sweep"]["dir"] != SWEEP_DIR, "hydra.sweep.dir", "hydra.sweep")
    folder = str(node.get("run", {}).get("dir"))
    if Path(folder).name == LATEST:
        raise UserError(f"hydra.run.dir={folder}: {LATEST} is the link to the run that began last; take another name")
    if node.get("mode") is RunMode.MULTIRUN and node["launcher"]["_target_"] == BASIC:
        raise UserError("-m: a search is one study in a folder of its own; call the command once for every value")


def _refuse_if(wrong: bool, name: str, listed: str = "") -> None:
    if wrong:
        raise UserError(f"{name} cannot be set: {({**REFUSED, **REFUSED_IN_FILES})[listed or name]}")


def _refuse_flag(message: str) -> NoReturn:
    unread = message.partition("unrecognized arguments: ")[2].split()
    if unread and not any(item.startswith("-") for item in unread):  # argparse reads on after a flag no second time
        raise UserError(f"{unread[0]} comes after a flag (-m) and other knobs before it: put flags before all knobs")
    raise UserError(f"{message}; knobs are given as KNOB=VALUE, without dashes, and --help lists them")


def _check_once(overrides: Sequence[Override]) -> None:
    """Of two values Hydra would take the last without a word, and name the run by both."""
    found: dict[tuple[str, str | None], str] = {}
    for override in overrides:
        before = found.setdefault((override.key_or_group, override.package), str(override.input_line))
        if before is not override.input_line:
            raise UserError(f"{override.key_or_group} is given twice: {before} {override.input_line}; leave one out")


def _check_flags(given: Namespace) -> None:
    """Flags of Hydra that end in a traceback of its own."""
    if given.shell_completion or given.experimental_rerun:
        flag = "--shell-completion" if given.shell_completion else "--experimental-rerun"
        raise UserError(f"{flag} is not offered here; --help lists the knobs, and the same command goes on with a run")
    if given.resolve and not given.cfg:
        raise UserError("--resolve belongs to --cfg: --cfg job --resolve prints the configuration")
    if sum(map(bool, (given.run, given.multirun, given.cfg, given.info))) > 1:
        raise UserError("give one of --run, --multirun, --cfg and --info")


def _check_hydra_override(override: Override, sweep: bool) -> None:
    name = override.key_or_group.replace("/", ".")
    value = override.value()
    for refused in REFUSED:
        listed = name == refused or name.startswith(f"{refused}.")
        _refuse_if(listed and not (value is None or value is False), override.key_or_group, refused)
    _refuse_if(name == "hydra.sweeper", override.key_or_group, "hydra.sweeper._target_")
    if name == "hydra.run.dir" and sweep:
        raise UserError(f"hydra.run.dir is the folder of a single run; in a sweep {REFUSED['hydra.sweep']}")


def _refuse_passwords(overrides: Sequence[str], folders: Sequence[Path]) -> None:
    """Look before Hydra writes what it composes."""
    for text in overrides:
        refuse_password(text.partition("=")[0], text)
    for path in (path for folder in folders for part in ("*.yaml", "*/*.yaml") for path in sorted(folder.glob(part))):
        if path.is_file():
            refuse_password(str(path), path.read_text(errors="replace"))


def _is_known(name: str, known: Sequence[str]) -> bool:
    """A knob, a group of them, or a name in an open group: which the network has is known when all is composed."""
    free = any(name.startswith(f"{group}.") for group in OPEN)
    return free or any(item == name or item.startswith(f"{name}.") for item in known)


def _check_choice(override: Override, group: str, folders: Sequence[Path]) -> None:
    # A range of numbers names no files, and a glob those that Hydra finds.
    globbed = override.value_type is ValueType.GLOB_CHOICE_SWEEP
    if globbed or (override.is_sweep_override() and not override.is_choice_sweep()):
        return
    values = override.sweep_string_iterator() if override.is_sweep_override() else [override.get_value_string()]
    for value in values:
        if group == "tracking" and str(value).startswith("["):
            raise UserError(f"tracking={value}: a group takes one file; several trackers are tracking.to={value}")
        if value != "null":
            _check_file(group, str(value).strip("'\""), folders)


def _check_file(group: str, name: str, folders: Sequence[Path]) -> None:
    there = sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})
    if name.removesuffix(".yaml") in there:
        return
    close = difflib.get_close_matches(name, there, 1, 0.6)
    advice = f"; did you mean {close[0]}? There are" if close else "; there are"
    raise UserError(f"there is no {group}={name}{advice} {', '.join(there)}")


def complain(text: str, code: int = 2) -> int:
    """Print an error as every command does, and hand back the exit code."""
    print(f"error: {typed(text)}", file=sys.stderr)
    return code
