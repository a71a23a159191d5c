"""Prune a video super-resolution network: compose the configuration, run the job, return its PSNR.

python src/run.py                                    the demo
python src/run.py -m rsc=true,false ratio=0.3,0.5,0.7    six jobs that share one pretraining
python src/run.py --help                             every knob
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from vsrprune.config import Config
from vsrprune.errors import PreemptedError, UserError
from vsrprune.failures import card_of_error, retry_command
from vsrprune.housekeeping import keep_house
from vsrprune.jobs import plan_job, read_measured
from vsrprune.naming import run_name
from vsrprune.runner import open_store, run_job
from vsrprune.store import explain_os_error
from vsrprune.sweep_table import Row, print_layers, print_plan, print_results

ConfigStore.instance().store(name="schema", node=Config)
OmegaConf.register_new_resolver("run_name", run_name)
OmegaConf.register_new_resolver("home", lambda path: str(Path(path).expanduser()))


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")
def main(config: DictConfig) -> float | None:
    """Run the job that Hydra composed; its PSNR in dB, or None if it stops before the evaluation."""
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    try:
        return run(config, folder)
    except PreemptedError as error:
        sys.exit(_complain(str(error), error.exit_code))
    except UserError as error:
        sys.exit(_complain(str(error)))
    except OSError as error:
        explanation = explain_os_error(error)
        if explanation is None:
            raise
        sys.exit(_complain(explanation))
    except KeyboardInterrupt:
        sys.exit(_complain("interrupted; run the same command again to go on", 130))


def run(composed: DictConfig, folder: Path) -> float | None:
    """Check the configuration, run the job, print what it found."""
    config = OmegaConf.to_object(composed)
    assert isinstance(config, Config)
    job = plan_job(config)
    console = Console()
    if config.store.action:
        runs = Path(config.runs_dir).expanduser()
        sound = keep_house(config.store.action, open_store(job, print), runs, config.store.yes, console)
        sys.exit(0 if sound else 1)
    if config.dry_run:
        print_plan([(folder.name, job)], open_store(job, print), console)
        return None
    try:
        result = run_job(job, folder, say=lambda text: print(text, flush=True))
    except PreemptedError:
        raise  # no failure: the job goes on when it is run again
    except Exception as error:
        with contextlib.suppress(OSError):  # on a full disk there is no room for the card either
            card_of_error(error, folder, retry_command(sys.argv)).save(folder)
        raise
    if result is None:
        last = job.stages[-1]
        print(f"stopped after {last.stage}, as until={config.until} asks: {config.store_dir}/{last.stage}/{last.key}")
        return None
    if not config.tracking.group:  # in a sweep the launcher prints one table for all jobs
        rows = [Row("pruned", result, read_measured(folder))]
        print_results(rows, console)
        print_layers(rows, console)
        print(f"files: {folder}")
    return result.quality["finetuned"].psnr


def _complain(text: str, code: int = 2) -> int:
    print(f"error: {text}", file=sys.stderr)
    return code


def run_explained() -> None:
    """Run `main`; also what fails in Hydra's own hands (its folders and files) ends in one line."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra would print a traceback and exit
    try:
        main()
    except CompactHydraException as error:
        sys.exit(_complain("\n".join(map(str, filter(None, (error, error.__cause__)))), 1))
    except OSError as error:
        explanation = explain_os_error(error)
        if explanation is None:
            raise
        sys.exit(_complain(explanation))


if __name__ == "__main__":
    run_explained()
