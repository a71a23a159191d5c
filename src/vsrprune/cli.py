"""What every command does with errors: one line on stderr and an exit code, never a traceback for a user's mistake."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from hydra.errors import CompactHydraException
from omegaconf import OmegaConf

from vsrprune.errors import PreemptedError, UserError
from vsrprune.host.naming import run_name
from vsrprune.store.atomic import explain_os_error


def register_resolvers() -> None:
    """The resolvers that conf/ uses."""
    OmegaConf.register_new_resolver("run_name", run_name, replace=True)
    OmegaConf.register_new_resolver("home", lambda path: str(Path(path).expanduser()), replace=True)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn errors that a user can mend into one line and an exit; others pass."""
    try:
        yield
    except PreemptedError as error:
        sys.exit(complain(str(error), error.exit_code))
    except UserError as error:
        sys.exit(complain(str(error)))
    except OSError as error:
        explanation = explain_os_error(error)
        if explanation is None:
            raise
        sys.exit(complain(explanation))
    except KeyboardInterrupt:
        sys.exit(complain("interrupted; run the same command again to go on", 130))


def open_door(main: Callable[[], object]) -> None:
    """Call Hydra's main; also what fails in Hydra's own hands (its folders and files) ends in one line."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra would print a traceback and exit
    try:
        with explained():
            main()
    except CompactHydraException as error:
        sys.exit(complain("\n".join(map(str, filter(None, (error, error.__cause__)))), 1))


def complain(text: str, code: int = 2) -> int:
    """Print an error as every command does, and hand back the exit code."""
    print(f"error: {text}", file=sys.stderr)
    return code
