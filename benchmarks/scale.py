"""A sweep of 10,000 jobs on 1,000 workers that share one store in object storage, simulated event by event.

    python benchmarks/scale.py [--preset small] [--jobs 10000] [--workers 1000] [--failures 1] [--mirror-minutes 5]
        [--spread 5] [--seconds pretrain=10800 finetune=7200] [--seed 0]

It answers what the store is asked and what that costs, what failures cost, who waits for whom, and which limit is met
first. Nothing is computed and no store is asked: stages are seconds, and requests are those of the protocol that
benchmarks/scaling/design.py states. A store that throttles is not simulated; peaks are compared with published limits.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.scaling.design import HOUR, JOB_MEGABYTES, KINDS, PRESETS, Setting
from benchmarks.scaling.simulation import Ledger, Tally, simulate

# Dollars in us-east-1, S3 Standard: https://aws.amazon.com/s3/pricing/ (as quoted in November 2026). Traffic between
# a bucket and machines of its region is free; what goes to the parent is counted as going out to the internet.
PRICES = {"PUT": 5e-6, "PART": 5e-6, "LIST": 5e-6, "GET": 4e-7, "HEAD": 4e-7, "DELETE": 0.0}
GIGABYTE_MONTH, GIGABYTE_OUT = 0.023, 0.09
# Requests a second of one partitioned prefix, which a new bucket is as a whole:
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html
# and of a new bucket at Google, which grows within minutes: https://cloud.google.com/storage/docs/request-rate
LIMITS = {"S3": (3500, 5500), "Google": (1000, 5000)}
READS = {"S3": ("GET", "HEAD"), "Google": ("GET", "HEAD", "LIST")}  # S3 names no limit of LIST
# "Maximum rate of writes to the same object name: one write per second", https://cloud.google.com/storage/quotas
SAME_NAME_SECONDS = 1.0


def dollars(setting: Setting, ledger: Ledger) -> dict[str, float]:
    """What a sweep costs at the store, and what a month of keeping its artifacts does."""
    kept = setting.kept_megabytes() / 1000
    return {
        "requests": sum(price * ledger.total(kind) for kind, price in PRICES.items()),
        "jobs' files to the parent": setting.jobs * JOB_MEGABYTES / 1000 * GIGABYTE_OUT,
        "all stages to the parent": kept * GIGABYTE_OUT,
        f"a month of {kept:,.0f} GB": kept * GIGABYTE_MONTH,
    }


def worker_seconds(setting: Setting, tally: Tally) -> dict[str, float]:
    """What all workers' time went to."""
    spent = {
        "work, each stage once": tally.work,
        "work done again": tally.redone,
        "starts of processes": tally.starting,
        "requests and files": tally.asking,
        "waiting for another's stage": tally.waiting,
        "vanished, not yet replaced": tally.missing,
    }
    idle = setting.workers * tally.makespan - sum(spent.values())
    chains = min(idle, max(0, setting.workers - setting.replicates) * tally.shared_until)
    return {**spent, "no job: what all share is made": chains, "no job: other": idle - chains}


def limits(setting: Setting, tally: Tally, ledger: Ledger) -> dict[str, tuple[str, float]]:
    """What may become the bottleneck: what was seen, and its share of what there is."""
    found: dict[str, tuple[str, float]] = {}
    for place, (writes, reads) in LIMITS.items():
        for kinds, most in ((("PUT", "PART", "DELETE"), writes), (READS[place], reads)):
            rates = ledger.rates(*kinds)
            seen = f"{rates.max():,}/s, {(rates > most).sum():,} s above"
            found[f"{place}: {'+'.join(kinds)}, {most:,}/s"] = (seen, rates.max() / most)
    apart = 2 * setting.request_seconds  # a beat of a lease, the manifest, the lease's end
    found["Google: one write a second of a lease"] = (f"2 in {apart:.2f} s", SAME_NAME_SECONDS / apart)
    at_work = {
        "looks stages up": tally.looking_up,
        "lists stages": tally.listing,
        "starts and ends jobs": tally.handling,
        "gets jobs' files": setting.jobs * JOB_MEGABYTES / setting.home_rate,
        "plans": setting.jobs * setting.plan_seconds,
        "collects all jobs, if it was stopped": setting.collect_seconds(),
    }
    for name, seconds in at_work.items():
        found[f"the parent {name}"] = (f"{seconds / HOUR:,.2f} h", seconds / tally.makespan)
    chain = tally.shared_until
    found["all wait for what all share"] = (f"{chain / HOUR:,.2f} h", chain / tally.makespan)
    return found


def show(setting: Setting, console: Console) -> None:
    """Simulate and print."""
    tally, ledger = simulate(setting)
    ideal = setting.ideal()
    stages = sum(tally.finished.values())
    console.print(f"{setting.jobs:,} jobs of {stages:,} distinct stages on {setting.workers:,} workers")
    more = tally.makespan / ideal - 1
    console.print(f"{tally.makespan / HOUR:,.2f} h; {ideal / HOUR:,.2f} h if nothing were lost (+{more:.1%})")
    if tally.vanished:
        lost = tally.lost or [0.0]
        console.print(
            f"{tally.vanished:,} workers vanished, {len(tally.lost):,} in a stage:"
            f" {sum(lost) / len(lost):,.0f} s lost on average, {max(lost):,.0f} s at most"
        )
    table = Table("requests", box=box.SIMPLE_HEAD)
    for name in ("in all", "mean /s", "peak /s", "$"):
        table.add_column(name, justify="right")
    for kind in KINDS:
        total, peak = ledger.total(kind), ledger.rates(kind).max()
        cost = f"{PRICES[kind] * total:,.2f}"
        table.add_row(kind, f"{total:,}", f"{total / tally.makespan:,.1f}", f"{peak:,}", cost)
    console.print(table)
    console.print("; ".join(f"{name} ${cost:,.2f}" for name, cost in dollars(setting, ledger).items()))
    kept = tally.mirrored / 1000 * GIGABYTE_MONTH
    console.print(f"checkpoints sent: {tally.mirrored / 1000:,.0f} GB; to keep them all would be ${kept:,.2f} a month")
    table = Table("workers' time", box=box.SIMPLE_HEAD)
    for name in ("hours", "share"):
        table.add_column(name, justify="right")
    for name, seconds in worker_seconds(setting, tally).items():
        table.add_row(name, f"{seconds / HOUR:,.1f}", f"{seconds / setting.workers / tally.makespan:.2%}")
    console.print(table)
    table = Table("what may be the bottleneck", box=box.SIMPLE_HEAD)
    for name in ("seen", "share"):
        table.add_column(name, justify="right")
    for name, (seen, share) in sorted(limits(setting, tally, ledger).items(), key=lambda item: -item[1][1]):
        table.add_row(name, seen, f"{share:.1%}")
    console.print(table)


def asked_for(words: Sequence[str] | None = None) -> Setting:
    """The setting that a command line means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--preset", choices=tuple(PRESETS), default="published", help="what stages take, who shares them"
    )
    parser.add_argument("--seconds", nargs="+", default=[], metavar="STAGE=SECONDS", help="of single stages")
    options = [item for item in fields(Setting) if item.metadata]
    for item in options:
        flag, told = f"--{item.name.replace('_', '-')}", f"{item.metadata['help']} (default: {item.default})"
        parser.add_argument(flag, type=type(item.default), default=item.default, help=told)
    given = parser.parse_args(words)
    stages = dict(PRESETS[given.preset])
    for word in given.seconds:
        name, _, seconds = word.partition("=")
        try:
            stages[name] = replace(stages[name], seconds=float(seconds))
        except (KeyError, ValueError):
            parser.error(f"--seconds {word}: it must be STAGE=SECONDS, with a stage of {', '.join(stages)}")
    return Setting(stages=stages, **{item.name: getattr(given, item.name) for item in options})


if __name__ == "__main__":
    show(asked_for(), Console())
