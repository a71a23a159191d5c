"""Search the pruning ratio of every layer: compose the configuration, run the search, print what it found.

python sweeps/search_ratios.py              the demo: a ratio per residual block at half the MACs
python sweeps/search_ratios.py --help       the knobs of the search
"""

from __future__ import annotations

import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))  # as for src/run.py: the launcher plugin is found there

from vsrprune.cli import Command, check_one_run, composed_config, explained, leaving_no_trace, register, run_command
from vsrprune.commands import typed
from vsrprune.config.agreement import validate
from vsrprune.config.tree import config_tree
from vsrprune.search.config import SearchJobConfig, validate_search

HELP = """\
Search the pruning ratio of every layer for the highest PSNR at given MACs, or the front of PSNR
against cost.
The knobs of src/run.py apply too; ratio is the share of the MACs that is removed.

Usage
  python sweeps/search_ratios.py                       the demo: a ratio per block, half the MACs
  python sweeps/search_ratios.py ratio=0.7 search.group=kind search.trials=60
  python sweeps/search_ratios.py search=nsga2          the front of PSNR against MACs
  python sweeps/search_ratios.py search.workers=4      four processes on one study"""

register(SearchJobConfig)


@hydra.main(version_base="1.3", config_path="../conf", config_name="search_ratios")
def main(composed: DictConfig) -> float | None:
    """Run the search that Hydra composed; the winner's PSNR in dB on held-out clips."""
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    with leaving_no_trace(folder, hydra_config.output_subdir), explained():
        config = composed_config(composed, SearchJobConfig)
        validate(config)
        validate_search(config)  # both before torch is imported
        check_one_run(config)
        if config.print_config:
            Console().print(config_tree([config]))
        from vsrprune.search.found import PLAN
        from vsrprune.search.ratio_search import search_ratios
        from vsrprune.search.report import print_search

        found = search_ratios(config, folder, say=lambda text: print(text, flush=True))
        print_search(found, Console())
        if (folder / PLAN).is_file():
            print(typed(f"use it:  python src/run.py scope=per_layer 'ratios=\"{folder / PLAN}\"'"))
        print(typed(f"figures: python analysis/search_figures.py {folder}"))
        return next((run["psnr"] for run in found["finals"] if run["name"] == "winner"), None)


if __name__ == "__main__":
    run_command(Command("sweeps/search_ratios.py", main, SearchJobConfig, HELP))
