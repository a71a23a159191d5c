"""Which stages jobs share: for every line of stage_sharing.txt (a job's overrides) and every stage, a number that is
the same where keys are the same.

    python tests/goldens/stage_sharing.py > tests/goldens/stage_sharing.json

The file was made before stages got folders of their own, from the keys of that time; keys may change, sharing must not.
One line was mended by hand: networks from scratch (`method=lite`) take the flow net of `pretrained_flow` when they are
made, so that two files must not share the prune stage, as they did. The file was made anew when the stage `flow` came:
but for that stage, one line changed (`schedule.pretrain.flow_frozen_steps=3` counts now, the flow net being trained).
The lines with `replicate` were added at the end when that knob came; no other line changed.
It was made anew again when `method=l1` and `method=random` became local: they no longer share the selections of
`rsc=false` and `score=random`. Lines of scores and of methods as presets came then, and the last ones with `units`,
 `method=dense` and `schedule.budget`; no other line changed.
 Lines with `model.cell` were added at the end when that knob came; no other line changed.
 Lines with `round_to=auto` got `score=taylor` when it began to need scores that add up; scores were numbered anew.
"""

from __future__ import annotations

import copy
import json
import shlex
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

ROOT = Path(__file__).parents[2]
LINES = Path(__file__).with_name("stage_sharing.txt").read_text().splitlines()
Keys = Mapping[str, str]  # by a stage's name


def sharing(keys_of: Callable[[list[str]], Keys]) -> dict[str, dict[str, int]]:
    """By line and stage the number of its key, counted in the order in which keys first appear."""
    numbers: dict[str, dict[str, int]] = {}
    table = {}
    with tempfile.TemporaryDirectory() as folder:
        files = {"WEIGHTS": b"some weights", "OTHER": b"other weights"}
        for name, content in files.items():
            (Path(folder) / f"{name}.safetensors").write_bytes(content)
        for line in LINES:
            text = line
            for name in files:
                text = text.replace(f"={name}", f"={folder}/{name}.safetensors")
            keys = keys_of(shlex.split(text))
            for stage, key in keys.items():
                kind = numbers.setdefault(stage.split("_")[0], {})
                kind.setdefault(key, len(kind))
            table[line] = {stage: numbers[stage.split("_")[0]][key] for stage, key in keys.items()}
    return table


@cache
def composed(files: tuple[str, ...]) -> DictConfig:
    """What conf/ is with these files chosen."""
    from vsrprune.cli import register
    from vsrprune.config.job import Config

    register(Config)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("config", list(files))


def planned(overrides: list[str]) -> Keys:
    """The keys of the job that these overrides compose."""
    from vsrprune.cli import composed_config
    from vsrprune.config.job import Config
    from vsrprune.jobs.planning import plan_job

    # The files that overrides choose are composed once for all lines that choose the same; Hydra takes 0.1 s for it.
    asked = OverridesParser.create().parse_overrides(overrides)
    files = [item.input_line for item in asked if (ROOT / "conf" / item.key_or_group).is_dir()]
    node = copy.deepcopy(composed(tuple(files)))
    for item in asked:
        if item.input_line not in files:
            OmegaConf.update(node, item.key_or_group, item.value())
    config = composed_config(node, Config)
    return {stage.name: stage.key for stage in plan_job(config).stages}


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "src"))
    lines = (f" {json.dumps(line)}: {json.dumps(stages)}" for line, stages in sharing(planned).items())
    print("{\n" + ",\n".join(lines) + "\n}")
