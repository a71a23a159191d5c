"""How long plans' networks take here, in each way in which they can be run."""

from __future__ import annotations

from collections.abc import Collection

import torch

from vsrprune.channels.plan import PrunePlan
from vsrprune.config.quantise import INT8
from vsrprune.metrics.latency import compare_latency, in_turns
from vsrprune.results.measured import AUTO, TORCH
from vsrprune.selection.budget import REALTIME
from vsrprune.stages.bench import Bench

IN_TORCH = (TORCH, "")  # in the precision that evaluate.precision says


class Ways:
    """What a job's networks may be run in while a time is asked for.

    With target=realtime that is PyTorch, and the job's engines in 32 bits and, where it makes an int8 network, in int8;
    an engine that is asked for by name counts alone. With target=latency it is PyTorch.
    """

    def __init__(self, bench: Bench) -> None:
        config = bench.config
        asked = config.evaluate.engine if config.target == REALTIME else TORCH
        self._bench = bench
        self._ways = [IN_TORCH] if asked in (AUTO, TORCH) else []
        # The engines run on the CPU: where a job computes on a GPU, one counts only if it is asked for by name.
        if asked != TORCH and (asked != AUTO or bench.device.type == "cpu"):
            precisions = ("32", INT8) if config.quantise.name == INT8 else ("32",)
            self._ways += [(engine, precision) for engine in bench.job.engines for precision in precisions]
        self._tells = self._ways != [IN_TORCH]

    def milliseconds(self, plan: PrunePlan) -> float:
        """Measured milliseconds per frame of a plan's network, flow net included, in the way that is fastest.

        Weights do not matter for it. No way is given up after a slow plan: of 64 channels the dense network is three
        times faster in int8 than in 32 bits, and what keeps a twentieth of its MACs half as fast again in 32.
        """
        times = {IN_TORCH: self._in_torch(plan)} if IN_TORCH in self._ways else {}
        engines = [way for way in self._ways if way != IN_TORCH]
        times |= self._in_engines(plan, engines) if engines else {}
        fastest = min(times, key=lambda way: times[way])
        told = f" in {_in_words(fastest)}" if self._tells else ""
        self._bench.say(
            f"  select     a plan with {plan.units_cut} units cut takes {times[fastest]:.1f} ms per frame{told}"
        )
        return times[fastest]

    def _in_torch(self, plan: PrunePlan) -> float:
        bench = self._bench
        with bench.stand.precision:
            frozen, _ = bench.stand.fastest_form(bench.new_network().with_plan(plan))
            return compare_latency({"": frozen}, bench.stand.clip_NTCHW, bench.config.evaluate.latency_repeats)[""].ms

    @torch.inference_mode()
    def _in_engines(self, plan: PrunePlan, ways: Collection[tuple[str, str]]) -> dict[tuple[str, str], float]:
        from vsrprune.engines.timed import calls_of  # with onnxruntime, which is an extra

        bench = self._bench
        clip_NTCHW = bench.stand.clip_NTCHW
        calls = calls_of(bench.new_network().with_plan(plan), clip_NTCHW, ways)
        times = in_turns(calls, bench.config.evaluate.latency_repeats)
        return {way: ms / clip_NTCHW.shape[1] for way, ms in times.items()}


def _in_words(way: tuple[str, str]) -> str:
    engine, precision = way
    return f"{engine} in {precision}" if precision == INT8 else engine
