"""What is said of networks that were to make so many frames per second, in the ways in which they can be run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from results_made import small_measured, small_result

from vsrprune.jobs.ending import ending
from vsrprune.jobs.in_time import best_in_time, best_way, flags, in_time
from vsrprune.results.measured import Timing, Way
from vsrprune.results.result import Int8, Quality
from vsrprune.results.terminal import Row

ENGINES = {
    "onnxruntime": {"dense": 90.0, "float32": 60.0, "int8": 30.0},
    "openvino": {"dense": 80.0, "float32": 50.0, "int8": 35.0},
}


def row(psnr: float, wanted: float, engine: str = "auto", **engine_ms: dict[str, float]) -> Row:
    """In PyTorch the dense network takes 100 ms per frame and the pruned one 70; in int8 it has 0.25 dB less."""
    made = small_result()
    evaluate = {} if engine == "auto" else {"engine": engine}
    quality = {**made.quality, "finetuned": replace(made.quality["finetuned"], psnr=psnr)}
    int8 = Int8(Quality(psnr - 0.25, 0.8, {}, {}), None, {}, 5, [], 0.0, 0.0, 1, 3)
    result = replace(
        made,
        knobs={
            **made.knobs,
            "evaluate": evaluate,
            "data": {"name": "demo"},
            "target": "realtime",
            "target_ms": wanted,
        },
        quality=quality,
        stages={"reference": "same", "pretrain": "same"},
        budget=replace(made.budget, target="realtime", dense=80.0, wanted=wanted),
        int8=int8 if any("int8" in times for times in engine_ms.values()) else None,
    )
    times = {"dense": Timing(*[100.0] * 4, "nchw"), "pruned": Timing(*[70.0] * 4, "nchw")}
    return Row("job", result, replace(small_measured(), latency_ms=times, engine_ms=engine_ms))


def test_the_way_of_the_highest_psnr_in_time_is_taken_and_the_fastest_of_equals() -> None:
    assert best_way(row(30.0, 65.0, **ENGINES)) == Way("openvino", "32", 50.0)
    assert best_way(row(30.0, 40.0, **ENGINES)) == Way("onnxruntime", "int8", 30.0)
    assert best_way(row(30.0, 20.0, **ENGINES)) == Way("onnxruntime", "int8", 30.0)
    assert best_way(row(30.0, 80.0)) == Way("torch", "32", 70.0)


def test_an_engine_that_is_asked_for_by_name_counts_alone() -> None:
    assert best_way(row(30.0, 100.0, "onnxruntime", **ENGINES)) == Way("onnxruntime", "32", 60.0)
    assert best_way(row(30.0, 100.0, "torch")) == Way("torch", "32", 70.0)


def test_one_job_says_its_rate_and_that_of_the_dense_network_each_in_its_way() -> None:
    assert in_time([row(30.0, 40.0, **ENGINES)]) == [
        "it makes 33.3 frames of 320x180 per second in onnxruntime in int8, flow net included (30.0 ms), of 25 asked"
        " for; the dense network 12.5 in openvino"
    ]


def test_a_sweep_names_the_best_that_is_in_time() -> None:
    """The first is in time at 30.1 dB; the second in int8 alone, at 30.45 - 0.25."""
    faster = {"openvino": {"dense": 80.0, "float32": 39.0}}
    lines = in_time([row(30.1, 40.0, **faster), row(30.45, 40.0, **ENGINES), row(31.0, 40.0)])
    assert len(lines) == 4
    assert lines[2].startswith("#3 makes 14.3 frames of 320x180 per second, flow net included (70.0 ms)")
    assert lines[3] == "highest PSNR in time: #2, 30.20 dB in onnxruntime in int8"


def test_a_sweep_of_which_none_is_in_time_names_the_nearest() -> None:
    lines = in_time([row(30.0, 20.0), row(29.0, 20.0, **ENGINES)])
    assert lines[-1] == "none is in time; #2 comes nearest, with 33.3 frames per second"


def test_sixteen_bits_cost_what_was_measured() -> None:
    half = row(30.0, 80.0)
    half = replace(half, measured=replace(half.measured, precision="bf16", psnr_change_db=-0.05))
    assert in_time([half, row(29.9, 80.0)])[-1] == "highest PSNR in time: #1, 29.95 dB in bf16"


def test_jobs_of_different_wishes_are_not_ranked() -> None:
    assert len(in_time([row(30.0, 80.0), row(30.0, 90.0)])) == 2


def test_the_dense_control_is_ranked_with_the_others() -> None:
    """It cuts nothing, so that its budget is of units."""
    dense = row(31.0, 40.0, **ENGINES)
    dense = replace(dense, result=replace(dense.result, budget=small_result().budget))
    assert in_time([dense, row(30.1, 80.0)])[-1].startswith("#2 makes")  # another wish
    assert in_time([dense, row(30.1, 40.0)])[-1] == "highest PSNR in time: #1, 30.75 dB in onnxruntime in int8"


def test_a_sweep_ends_with_the_network_that_is_in_time() -> None:
    """The second is better, and takes 70 ms of 40."""
    rows = [replace(made, label=label) for made, label in ((row(30.1, 40.0, **ENGINES), "a"), (row(31.0, 40.0), "b"))]
    assert best_in_time(rows) == 0
    lines = ending(rows, Path("runs/s"), [Path("runs/s/a"), Path("runs/s/b")], Path("store"))
    (command,) = [line.strip() for line in lines if "src/upscale.py" in line]
    assert command.endswith("--model runs/s/a --engine onnxruntime --precision int8")


def test_a_network_that_is_late_is_said_to_be() -> None:
    assert "of 25 asked for, which is not in time; the dense network" in in_time([row(30.0, 40.0)])[0]
    assert "not in time" not in in_time([row(30.0, 80.0)])[0]


def test_engines_of_the_cpu_do_not_count_beside_a_card() -> None:
    made = row(30.0, 40.0, **ENGINES)
    on_a_card = replace(made, measured=replace(made.measured, device="cuda"))
    assert best_way(on_a_card) == Way("torch", "32", 70.0)
    named = row(30.0, 40.0, "openvino", **ENGINES)
    assert best_way(replace(named, measured=replace(named.measured, device="cuda"))).engine == "openvino"


def test_a_video_is_upscaled_in_the_way_that_is_in_time() -> None:
    def told(made: Row, **measured: Any) -> str:
        return flags(replace(made, measured=replace(made.measured, **measured)))

    assert told(row(30.0, 80.0)) == ""
    assert told(row(30.0, 65.0, **ENGINES)) == " --engine openvino"
    assert told(row(30.0, 40.0, **ENGINES)) == " --engine onnxruntime --precision int8"
    assert told(row(30.0, 80.0), precision="bf16", psnr_change_db=0.0) == " --precision bf16"
    # On a card sixteen bits are usual.
    assert told(row(30.0, 80.0), device="cuda") == " --precision 32"
    other = row(30.0, 80.0)
    assert flags(replace(other, result=replace(other.result, knobs={**other.result.knobs, "target": "macs"}))) == ""
