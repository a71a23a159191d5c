"""What a person reads after a run or a sweep: one table of results, and the per-layer ratios behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from vsrprune.results.grounds import OF_DENSE, by_ground
from vsrprune.results.measured import Measured, timing_notes
from vsrprune.results.replicates import caption, compared, psnr_difference, psnr_over_networks
from vsrprune.results.result import BELOW_BASELINE, Layer, Result, network_order, time_caveats_of
from vsrprune.results.settings import SEEDS, by_setting, in_words, steps_note

LAYERS_OF_JOBS = 18
JOBS_ABREAST = 6  # columns of the table of layers that fit 80 characters
JOBS_LISTED = 6  # of those that carry a note
BELOW = " \N{DAGGER}"
RATIO_OF = {"units": "units", "macs": "MACs", "params": "parameters", "latency": "the ms"}
LEAST_SHARE = 0.05  # of the dense time that the flow net takes, from which on a line says so
LAYERS_SHOWN = 32  # more than these are summed up by part and kind


@dataclass(frozen=True)
class Row:
    """A finished job: its label, result.json and measured.json."""

    label: str
    result: Result
    measured: Measured


def print_results(rows: Sequence[Row], console: Console) -> None:
    """The jobs beside the dense network and the baseline, with what each costs."""
    console.print(_results_table(rows))
    for note in _footnotes(rows):
        console.print(f"[dim]{note}[/dim]", highlight=False)
    print_int8(rows, console)
    print_engines(rows, console)


def _results_table(rows: Sequence[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    table.add_column("")
    table.add_column(_job_heading(rows), overflow="fold")  # a shortened one could be any other
    to = "" if any(row.result.sees_truth for row in rows) else "\nto dense"
    last = [f"PSNR\ntest{to}"] if any(row.result.test for row in rows) else []
    for heading in (
        f"PSNR\ncut{to}",
        f"PSNR\ntuned{to}",
        "gain",
        "SSIM",
        "params",
        "MACs",
        "MACs\nkept",
        "ms",
        "speed\nup",
        *last,
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    sharing: dict[str, list[tuple[int, Row]]] = {}
    for number, row in enumerate(rows, start=1):
        sharing.setdefault(row.result.stages["reference"], []).append((number, row))
    # The baseline and the dense network stand once, above the jobs that share them, whatever the order of the sweep.
    for jobs in sharing.values():
        _add_references(table, [row for _, row in jobs])
        for number, row in jobs:
            _add_job(table, number, row, last=number == jobs[-1][0])
    return table


def _job_heading(rows: Sequence[Row]) -> str:
    """What `ratio` is a share of, where all jobs mean the same: it is no share of the MACs unless it says so."""
    every = [row.result.knobs for row in rows]
    asked = {(knobs["target"], bool(knobs.get("target_ms")), knobs["scope"] == "per_layer") for knobs in every}
    targets = {target for target, timed, given in asked if not timed and not given}
    return f"job, ratio of {RATIO_OF[targets.pop()]}" if len(asked) == len(targets) == 1 else "job"


def _add_references(table: Table, rows: Sequence[Row]) -> None:
    """The baseline (bicubic, or the input) and the dense network of the jobs that follow."""
    result = rows[0].result
    # Every job timed the dense network anew, in turns with its own: the median stands for all.
    dense_ms = sorted(row.measured.dense_ms for row in rows)[len(rows) // 2]
    baseline, dense, cost = result.quality["baseline"], result.quality["dense"], result.cost["dense"]
    table.add_row(
        "", result.baseline_name, "", f"{baseline.psnr:.2f}", "", f"{baseline.ssim:.4f}", *[""] * 5,
        *_on_test_clips(result, "baseline"),
    )  # fmt: skip
    table.add_row(
        "",
        f"dense {result.knobs['model']['name']}{BELOW if result.dense_below_baseline else ''}",
        "",
        *([f"{dense.psnr:.2f}", f"{dense.psnr - baseline.psnr:+.2f}", f"{dense.ssim:.4f}"] if result.sees_truth
          else ["itself", "", ""]),
        short_count(cost.parameters),
        short_count(cost.macs),
        "100%",
        _ms(dense_ms),
        "1.00",
        *(_on_test_clips(result, "dense") if result.sees_truth or not result.test else [""]),
        end_section=True,
    )  # fmt: skip


def _add_job(table: Table, number: int, row: Row, last: bool) -> None:
    result, cost = row.result, row.result.cost["pruned"]
    tuned, cut, baseline = (result.quality[name] for name in ("finetuned", "after_cut", "baseline"))
    table.add_row(
        f"#{number}",
        in_words(row.label),
        f"{cut.psnr:.2f}",
        f"{tuned.psnr:.2f}",
        f"{tuned.psnr - baseline.psnr:+.2f}",
        f"{tuned.ssim:.4f}",
        short_count(cost.parameters),
        short_count(cost.macs),
        f"{result.macs_kept:.1%}",
        _ms(row.measured.pruned_ms),
        f"{row.measured.speed_up:.2f}",
        *_on_test_clips(result, "finetuned"),
        end_section=last,
    )


def _on_test_clips(result: Result, name: str) -> list[str]:
    """PSNR on the test clips as the last cell of a row; no cell without such clips."""
    return [f"{result.test[name].psnr:.2f}"] if result.test else []


def short_count(number: float) -> str:
    """A number with three or four digits, and K, M or G."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if number >= size:
            return f"{number / size:.1f}{unit}" if number >= 10 * size else f"{number / size:.2f}{unit}"
    return f"{number:.0f}"


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:.0f}" if milliseconds >= 100 else f"{milliseconds:.1f}"


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _footnotes(rows: Sequence[Row]) -> list[str]:
    first = rows[0]
    measured, result = first.measured, first.result
    data = result.knobs["data"]
    cost = result.cost["dense"]
    quality = result.quality["dense"]
    height, width = measured.frame_size
    baselines = " or ".join(dict.fromkeys(row.result.baseline_name for row in rows))
    conventions = " or".join(dict.fromkeys(row.result.convention for row in rows if row.result.convention))
    size = f"{cost.size[1]}x{cost.size[0]} {'low-resolution' if result.baseline_name == 'bicubic' else 'input'}"
    notes = [
        f"PSNR in dB and SSIM on {data['channel'].upper()}{_to_dense(rows)}, mean over {len(quality.clips)} held-out"
        f" clip{_s(len(quality.clips))}{conventions}; `cut` is before fine-tuning, `tuned` after it, `gain` over"
        f" {baselines}.",
        *_counted(rows, size),
        f"ms: median per {width}x{height} frame, flow net included, {measured.threads}"
        f" thread{_s(measured.threads)} on {measured.device}; speed-up against the dense network timed"
        " in turns with it.",
    ]
    notes += _without_flow(rows)
    notes.append(steps_note([row.result for row in rows]))
    if all(row.result.knobs["target"] == "units" for row in rows):
        notes.append(
            "Equal ratio is not equal cost: `ratio` is a share of units, and rules remove different shares of the"
            " MACs with it. Compare rules at equal MACs: target=macs."
        )
    tested = next((row.result for row in rows if row.result.test), None)
    if tested:
        count = len(tested.test["finetuned"].clips)
        notes.append(f"`test`: PSNR on {count} test clips (data.test), by which no choice was made.")
    if any(row.result.dense_below_baseline for row in rows):
        notes.append(f"{BELOW.strip()} {BELOW_BASELINE}")
    return [*notes, *_timing_notes(rows), *_notes(rows)]


def _counted(rows: Sequence[Row], size: str) -> list[str]:
    """What parameters and MACs are of."""
    said = [[_counted_of(row.result, size)] for row in rows]
    return said[0] if all(sentences == said[0] for sentences in said) else once_each("cost", said)


def _counted_of(result: Result, size: str) -> str:
    cost = result.cost["dense"]
    flow = (cost.macs_with_flow - cost.macs) / 1e9
    if flow:
        return f"params and MACs without the flow net, MACs per {size} frame; the flow net adds {flow:.2f} G."
    pruned_too = result.knobs["model"].get("flow_pruned", False)
    counted = "the flow net, which is pruned too, is counted." if pruned_too else "the network has no flow net."
    return f"MACs per {size} frame; {counted}"


def _without_flow(rows: Sequence[Row]) -> list[str]:
    """How much of the dense network's time the flow net takes, and what the speed-ups are without it."""
    shares = [1 - timing.ms_without_flow / timing.ms for row in rows for timing in [row.measured.latency_ms["dense"]]]
    ups = sorted(row.measured.speed_up_without_flow for row in rows)
    if max(shares) < LEAST_SHARE:
        return []
    some = f"{ups[0]:.2f}" if len(ups) == 1 else f"{ups[0]:.2f} to {ups[-1]:.2f}"
    return [
        f"Without the flow net, {sorted(shares)[len(shares) // 2]:.0%} of the dense network's time, speed-up is {some}."
    ]


def _to_dense(rows: Sequence[Row]) -> str:
    """What outputs were compared with, where that was no truth."""
    seen = [row.result.sees_truth for row in rows]
    words = " to the dense network's output" if not all(seen) else ""
    return f"{words} where no truth was seen (data.truth=none)" if words and any(seen) else words


def _timing_notes(rows: Sequence[Row]) -> list[str]:
    """What disturbs times, of the jobs of each dense network and its replicates; each sentence once."""
    told = [note for ground in by_ground(rows) for note in timing_notes([row.measured for row in ground])]
    return [f"note: {note}" for note in dict.fromkeys(told)]


def _notes(rows: Sequence[Row]) -> list[str]:
    """What the jobs say of themselves, and which jobs where it is not all of them."""
    # Of times all jobs say something together, below.
    said = [[note for note in row.result.notes if note not in row.result.time_caveats] for row in rows]
    return [*once_each("note", said), *(f"note: {caveat}" for caveat in time_caveats_of([row.result for row in rows]))]


def once_each(kind: str, said: Sequence[Sequence[str]]) -> list[str]:
    """Each sentence once, behind `kind`, with the numbers (from 1) of the jobs that say it where it is not all."""
    numbers: dict[str, list[int]] = {}
    for number, sentences in enumerate(said, start=1):
        for sentence in dict.fromkeys(sentences):
            numbers.setdefault(sentence, []).append(number)
    return [
        f"{kind}{'' if len(jobs) == len(said) else f' ({_listed(jobs)})'}: {sentence}"
        for sentence, jobs in sorted(numbers.items())
    ]


def _listed(numbers: Sequence[int]) -> str:
    shown = ", ".join(f"#{number}" for number in numbers[:JOBS_LISTED])
    return f"{shown} and {len(numbers) - JOBS_LISTED} others" if len(numbers) > JOBS_LISTED else shown


def print_int8(rows: Sequence[Row], console: Console) -> None:
    """The int8 networks of jobs that made one, beside themselves in 32 bits."""
    made = [(number, row, row.result.int8) for number, row in enumerate(rows, start=1) if row.result.int8]
    if not made:
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), title="In int8", title_justify="left")
    table.add_column("")
    table.add_column("job", overflow="fold")
    for heading in ("PSNR\nint8", "to 32\nbits", "SSIM\nint8", "MB\n32", "MB\nint8"):
        table.add_column(heading, justify="right", no_wrap=True)
    for number, row, int8 in made:
        tuned = row.result.quality["finetuned"]
        table.add_row(
            f"#{number}",
            in_words(row.label),
            f"{int8.quality.psnr:.2f}",
            f"{int8.quality.psnr - tuned.psnr:+.2f}",
            f"{int8.quality.ssim:.4f}",
            f"{int8.size_float32 / 1e6:.2f}",
            f"{int8.size / 1e6:.2f}",
        )
    console.print(table)
    notes = [
        "Tuned networks with 8-bit integers in their convolutions: PSNR and SSIM on the held-out clips, MB of the"
        " graphs' files.",
        *(f"#{number} keeps in 32 bits: {', '.join(int8.kept_float)}." for number, _, int8 in made if int8.kept_float),
    ]
    for note in notes:
        console.print(note, style="dim", highlight=False)


def print_engines(rows: Sequence[Row], console: Console) -> None:
    """Times in the engines in which jobs timed their networks."""
    timed = [
        (f"#{number}", row, engine, ms)
        for number, row in enumerate(rows, start=1)
        for engine, ms in row.measured.engine_ms.items()
    ]
    if not timed:
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), title="In engines", title_justify="left")
    table.add_column("")
    table.add_column("job", overflow="fold")
    table.add_column("engine", no_wrap=True)
    integers = any("int8" in ms for *_, ms in timed)
    for heading in ("ms\ndense", "ms\n32", "speed\nup", *(("ms\nint8", "over\ndense") if integers else ())):
        table.add_column(heading, justify="right", no_wrap=True)
    for number, row, engine, ms in timed:
        first = engine == next(iter(row.measured.engine_ms))
        table.add_row(
            number if first else "",
            in_words(row.label) if first else "",
            engine,
            *(_ms(ms["dense"]), _ms(ms["float32"]), f"{ms['dense'] / ms['float32']:.2f}"),
            *((_ms(ms["int8"]), f"{ms['dense'] / ms['int8']:.2f}") if "int8" in ms else ()),
        )
    console.print(table)
    names = {name: version for row in rows for name, version in row.measured.versions.items()}
    engines = " and ".join(f"{name} {names[name]}" for name in dict.fromkeys(engine for *_, engine, _ in timed))
    console.print(
        f"ms as above, but in {engines} on the CPU; dense: the dense network in 32 bits in the same engine, in turns.",
        style="dim",
        highlight=False,
    )


def print_replicates(rows: Sequence[Row], console: Console) -> None:
    """Where settings were run with several seeds: means over dense networks, and differences to the first setting."""
    # Networks may be compared, on the same clips by the same protocol and task.
    grounds = [list(by_setting(ground).values()) for ground in by_ground(rows, OF_DENSE)]
    pairs = [(group, groups[0]) for groups in grounds for group in groups]
    if all(len(group) == 1 for group, _ in pairs):
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), title="Over replicates",
                  title_justify="left")  # fmt: skip
    table.add_column("setting", overflow="fold")  # a shortened one could be any other
    for heading in ("networks,\nplans,\nruns", "PSNR", "difference", ""):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    numbers = [psnr_over_networks(group) for group, _ in pairs]
    differences = compared([None if group is first else psnr_difference(group, first) for group, first in pairs])
    for (group, first), psnr, row in zip(pairs, numbers, differences, strict=True):
        words = ("", "") if group is first else (row.text(), row.verdict)
        words_left = " ".join(word for word in group[0].label.split() if word.partition("=")[0] not in SEEDS)
        label = in_words(words_left) or "default"
        table.add_row(label, f"{psnr.networks}, {psnr.plans}, {psnr.runs}", psnr.text(), *words)
    console.print(table)
    same = " on the same clips" if len(grounds) > 1 else ""
    console.print(
        f"PSNR (dB){_to_dense(rows)} after fine-tuning; differences to the first setting{same}, verdicts by Holm's"
        f" correction over the rows. {caption(numbers)}",
        style="dim",
        highlight=False,
    )


def print_layers(rows: Sequence[Row], console: Console) -> None:
    """Share of units cut: by layer for a small network, by part and kind for a large one; a few jobs at a time.

    Of many jobs nobody reads that on a terminal: they get a line that says where it is drawn.
    """
    if len(rows) > LAYERS_OF_JOBS:
        console.print(
            f"Shares of units cut by layer are printed of up to {LAYERS_OF_JOBS} jobs; analysis/figures.py and"
            " analysis/report.py draw them of any number."
        )
        return
    for first in range(0, len(rows), JOBS_ABREAST):
        console.print(_layers_table(rows[first : first + JOBS_ABREAST], first + 1))


def _layers_table(rows: Sequence[Row], first_number: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="Share of units cut, by layer", title_justify="left")
    table.add_column("layer", no_wrap=True)
    detailed = max(len(row.result.layers) for row in rows) <= LAYERS_SHOWN
    shares = [_shares(row.result, detailed) for row in rows]
    for number, _ in enumerate(rows, start=first_number):
        table.add_column(f"#{number}", justify="right")
    layers = [_layer_label(layer, detailed) for layer in network_order([row.result for row in rows])]
    for name in dict.fromkeys(layers):
        table.add_row(name, *(f"{share[name]:.2f}" if name in share else "·" for share in shares))
    return table


def _layer_label(layer: Layer, detailed: bool) -> str:
    return layer.name if detailed else f"{layer.part} {layer.kind}"


def _shares(result: Result, detailed: bool) -> dict[str, float]:
    totals: dict[str, tuple[int, int]] = {}
    for layer in result.layers:
        name = _layer_label(layer, detailed)
        kept, total = totals.get(name, (0, 0))
        totals[name] = (kept + layer.kept, total + layer.total)
    return {name: 1 - kept / total for name, (kept, total) in totals.items()}
