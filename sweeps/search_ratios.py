"""Search the pruning ratio of every layer: compose the configuration, run the search, print what it found.

python sweeps/search_ratios.py              the demo: a ratio per residual block at half the MACs
python sweeps/search_ratios.py --help       every knob
"""

from __future__ import annotations

import sys
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))  # as for src/run.py: the launcher plugin is found there

from vsrprune.cli import explained, open_door, register_resolvers
from vsrprune.config.job import ModelConfig
from vsrprune.search.config import SearchJobConfig, validate_search

ConfigStore.instance().store(name="schema", node=SearchJobConfig(model=ModelConfig()))
register_resolvers()


@hydra.main(version_base="1.3", config_path="../conf", config_name="search_ratios")
def main(composed: DictConfig) -> float | None:
    """Run the search that Hydra composed; the winner's PSNR in dB on held-out clips."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    with explained():
        config = OmegaConf.to_object(composed)
        assert isinstance(config, SearchJobConfig)
        validate_search(config)  # before torch is imported
        from vsrprune.search.found import PLAN
        from vsrprune.search.ratio_search import search_ratios
        from vsrprune.search.report import print_search

        found = search_ratios(config, folder, say=lambda text: print(text, flush=True))
        print_search(found, Console())
        if (folder / PLAN).is_file():
            print(f"use it:  python src/run.py scope=per_layer 'ratios=\"{folder / PLAN}\"'")
        print(f"figures: python analysis/search_figures.py {folder}")
        return next((run["psnr"] for run in found["finals"] if run["name"] == "winner"), None)


if __name__ == "__main__":
    open_door(main)
