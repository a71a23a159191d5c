"""Does the flow net live, and what is time worth to the dense network? Over networks and seeds of pretraining.

    python benchmarks/flow_seeds.py OUT [KNOB=NUMBER ...] [--models basicvsr_tiny ...] [--seeds 0 1 ...]

Pretrains every network on the demo's clips with its schedule (knobs change it: schedule.flow.steps=0 is the control),
one after the other, in the store OUT/store: a network that is there is not trained again, and one that was cut off goes
on. Measures each on the held-out clips and appends a line to OUT/rows.jsonl; prints a table of all lines.

alive: share of positive outputs, at the ReLU of the flow net where it is least. spread: deviation of the flow (pixels)
over frames and pixels of a clip, mean over clips; a constant shift has none. most: max |flow|. shift: what the flows of
all clips share, forth and back. quotients: photometric error of neighbours warped without that shift over that of
unwarped ones, least and largest of the clips, right after the stage and in the end.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from vsrprune.cli import preset
from vsrprune.config.composing import with_knobs
from vsrprune.config.job import Config
from vsrprune.data.clips import Clip
from vsrprune.host.failures import JobState
from vsrprune.jobs.planning import plan_job
from vsrprune.jobs.runner import run_job
from vsrprune.networks.files import load_network
from vsrprune.networks.parts.flow import clip_flows
from vsrprune.stages.bench import Bench, Shared
from vsrprune.stages.flow.photometric import BOTH_WAYS, photometric_errors, shared_shift
from vsrprune.stages.job import Job
from vsrprune.stages.reference.time import psnr_alone

MODELS = ("basicvsr_tiny", "basicvsr_uni_tiny", "basicvsr_pp_tiny")
ROWS = "rows.jsonl"


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--seeds", nargs="+", type=int, default=range(10))
    parser.add_argument("knobs", nargs="*", metavar="KNOB=NUMBER")
    given = parser.parse_intermixed_args()
    for seed in given.seeds:
        for model in given.models:
            run(given.out, model, seed, given.knobs)
    print_table(read_rows(given.out))


def run(out: Path, model: str, seed: int, knobs: Sequence[str]) -> None:
    """Train one network unless it is there, and measure it unless it was."""
    about = {"model": model, "seed": seed, "knobs": sorted(knobs)}
    if any(about.items() <= row.items() for row in read_rows(out)):
        return
    config = Config(store_dir=str(out / "store"), runs_dir=str(out / "runs"), until="pretrain", pretrain_seed=seed)
    config.model, config.tracking.to, config.trainer.threads = preset(model), [], 1
    numbers = {name: json.loads(value) for name, value in (knob.split("=") for knob in knobs)}
    job = plan_job(with_knobs(config, numbers))
    folder = out / "runs" / "_".join([model, str(seed), *sorted(knobs)])
    run_job(job, folder, say=print)
    row = {**about, **measured(job, out / "store", folder)}
    with (out / ROWS).open("a") as stream:
        stream.write(json.dumps(row) + "\n")
    print(json.dumps(row), flush=True)


def measured(job: Job, store: Path, folder: Path) -> dict[str, Any]:
    """What there is to know of a trained network."""
    plan = job.stage("pretrain")
    shared = Shared(job, JobState(folder), print)  # type: ignore[arg-type]  # nothing is trained here
    bench = Bench(plan, folder, folder, shared)
    network = load_network(store / plan.stage / plan.key)
    flow_net = network.flow_net
    assert flow_net is not None
    psnr, alone = bench.quality(network).psnr, psnr_alone(bench, network)
    assert alone is not None
    row = {"psnr": psnr, "gain": psnr - alone, **health(flow_net, bench.clips.val)}
    if "flow" in plan.parents:
        flow_plan = job.stage("flow")
        first = load_network(store / flow_plan.stage / flow_plan.key).flow_net
        assert first is not None
        row["first"] = health(first, bench.clips.val)
    return row


@torch.no_grad()
def health(flow_net: torch.nn.Module, clips: Sequence[Clip]) -> dict[str, Any]:
    """Of the ReLUs, the flows and the photometric error."""
    outputs: dict[str, list[float]] = defaultdict(list)
    hooks = [
        module.register_forward_hook(
            lambda module, inputs, output, name=name: outputs[name].append(float((output > 0).float().mean()))
        )
        for name, module in flow_net.named_modules()
        if isinstance(module, torch.nn.ReLU)
    ]
    spreads, most, quotients = [], 0.0, []
    shift_2 = shared_shift(flow_net, (clip.low_TCHW for clip in clips), torch.device("cpu"))
    for clip in clips:
        flows = clip_flows(flow_net, clip.low_TCHW[None].float() / 255, BOTH_WAYS)
        spreads += [float(flow.transpose(1, 2).flatten(2).std(-1).mean()) for flow in flows.values()]
        most = max(most, *(float(flow.abs().max()) for flow in flows.values()))
        warped, still = photometric_errors(flow_net, clip.low_TCHW, torch.device("cpu"), shift_2)
        quotients.append(warped / still)
    for hook in hooks:
        hook.remove()
    alive = min(sum(values) / len(values) for values in outputs.values())
    spread, shift = sum(spreads) / len(spreads), shift_2.tolist()
    return {"alive": alive, "spread": spread, "most": most, "shift": shift, "quotients": quotients}


def read_rows(out: Path) -> list[dict[str, Any]]:
    """The lines that were written so far."""
    path = out / ROWS
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """A row of Markdown per network."""
    print("| network | knobs | seed | PSNR | other frames | alive | spread | most | shift | quotients: first | end |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for row in sorted(rows, key=lambda row: (row["knobs"], row["model"], row["seed"])):
        first = _range(row["first"]["quotients"]) if "first" in row else ""
        x, y = row["shift"]
        print(
            f"| {row['model']} | {' '.join(row['knobs'])} | {row['seed']} | {row['psnr']:.3f} | {row['gain']:+.3f} |"
            f" {row['alive']:.1%} | {row['spread']:.2f} | {row['most']:.1f} |"
            f" {x:.2f}, {y:.2f} | {first} | {_range(row['quotients'])} |"
        )


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"


if __name__ == "__main__":
    main()
