"""Time the dense and the compact network in turns."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from vsrprune.channels.plan import PrunePlan
from vsrprune.commands import IS_CARRIED
from vsrprune.engines.extras import versions_of
from vsrprune.host.devices import clocks, driver_version
from vsrprune.metrics.latency import compare_latency
from vsrprune.metrics.memory import Peak, bytes_of, peak_memory
from vsrprune.networks.fast.fastest import Compiled, forget_graphs
from vsrprune.networks.fast.frozen import Frozen
from vsrprune.networks.fast.graphs import direct
from vsrprune.networks.network import Flows, Network, VSROutput
from vsrprune.results.measured import Measured, Timing
from vsrprune.stages.bench import Bench
from vsrprune.stages.measure.recipe import Inputs
from vsrprune.stages.quantise.recipe import Quantised
from vsrprune.stages.saved import Trained


def make(bench: Bench, inputs: Inputs) -> Measured:
    """Latency and peak memory of both networks; weights do not matter for these, so that both are new."""
    evaluate, stand = bench.config.evaluate, bench.stand
    plans = {"dense": PrunePlan.keep_all(bench.config.rule, bench.job.layout), "pruned": inputs.selection.plan}
    with stand.precision:
        bench.progress.does("times the dense and the pruned network")
        # Each network in its own fastest form: a speed-up against a dense network that runs badly would mean nothing.
        forms = {name: stand.fastest_form(bench.new_network().with_plan(plan)) for name, plan in plans.items()}
        timed: dict[str, Frozen | Compiled] = {name: form for name, (form, _) in forms.items()}
        if evaluate.compile:
            # Compiled after the form is chosen, which is timed without torch.compile.
            timed = {name: Compiled(form, bench.device) for name, (form, _) in forms.items()}
        latency = compare_latency(timed, stand.clip_NTCHW, evaluate.latency_repeats)
        at_clocks = clocks(bench.job.place.cards[0].uuid) if bench.job.place.cards else ""
        memory = _memory(timed, {name: form for name, (form, _) in forms.items()}, stand.clip_NTCHW)
    return Measured(
        latency_ms={name: Timing(**asdict(row), memory_format=forms[name][1]) for name, row in latency.items()},
        peak_memory_mib={name: None if peak is None else peak.held / 2**20 for name, peak in memory.items()},
        reserved_memory_mib={
            name: None if peak is None or peak.reserved is None else peak.reserved / 2**20
            for name, peak in memory.items()
        },
        precision=evaluate.precision,
        compiled=evaluate.compile,
        engine_ms=_engine_times(bench, inputs.quantised, inputs.selection.plan) if bench.job.engines else {},
        psnr_change_db=None if inputs.finetuned is None else _psnr_change(bench, inputs.finetuned, inputs.dense),
        frame_size=(evaluate.latency_size[0], evaluate.latency_size[1]),
        frames=evaluate.latency_frames,
        repeats=evaluate.latency_repeats,
        threads=torch.get_num_threads(),
        device=str(bench.device),
        clocks=at_clocks,
        host=platform.node(),
        processor=_processor(bench.device),
        git_commit=_git_commit(),
        versions={
            "python": platform.python_version(),
            "torch": torch.__version__,
            "pytorch_lightning": version("pytorch_lightning"),
            **_cuda_versions(bench.device),
            **versions_of(bench.job.engines),
        },
    )


def _memory(
    timed: Mapping[str, Frozen | Compiled], forms: Mapping[str, Frozen], clip_NTCHW: Tensor
) -> dict[str, Peak | None]:
    """The peak of each network's call, its weights included."""
    for form in forms.values():
        forget_graphs(form)  # a replay allocates nothing: what a network needs is seen when it is recorded
    return {
        name: peak_memory(partial(network, clip_NTCHW), clip_NTCHW.device, weights=bytes_of(forms[name]))
        for name, network in timed.items()
    }


class _AsNetwork(Network):
    """A frozen network where a network is asked for its frames."""

    def __init__(self, frozen: Frozen) -> None:
        super().__init__()
        self.arguments, self._frozen = frozen.arguments, frozen
        frozen.call = direct  # a whole clip runs once: to record it would take longer

    def forward(self, frames_NTCHW: Tensor, flows: Flows | None = None) -> VSROutput:
        return VSROutput(self._frozen(frames_NTCHW, flows), {})


def _psnr_change(bench: Bench, finetuned: Trained, dense: Trained | None) -> float:
    """PSNR of the fine-tuned network in the timed precision minus that in 32 bits, dB."""
    network = finetuned.network.load()
    full = bench.quality(network, dense).psnr
    with bench.stand.precision:
        frozen, _ = bench.stand.fastest_form(network)
        change = bench.quality(_AsNetwork(frozen), dense).psnr - full
    bench.say(f"  measure    {bench.config.evaluate.precision} changes the PSNR by {change:+.3f} dB")
    return change


def _engine_times(bench: Bench, quantised: Quantised | None, plan: PrunePlan) -> dict[str, dict[str, float]]:
    from vsrprune.stages.measure.engines import in_engines  # with onnxruntime, which is an extra

    return in_engines(bench, quantised, plan)


def _git_commit() -> str:
    """Commit of the checkout that runs, with `-dirty` after uncommitted changes; empty outside a checkout."""
    if IS_CARRIED:  # installed, perhaps into an environment inside another project's checkout
        return ""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _cuda_versions(device: torch.device) -> dict[str, str]:
    """What else times on a GPU depend on; empty on a CPU."""
    if device.type != "cuda":
        return {}
    return {
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),
        "driver": driver_version(),
    }


def _processor(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()
