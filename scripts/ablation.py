"""Switch off each heuristic of the method in turn, and say what it was good for.

    python scripts/ablation.py CASES.json --kinds all --seeds 3 --poses 2 --jobs 2
    python scripts/ablation.py --kinds coil --without MAX_RESTARTS --resume

Each pair is registered from each of its poses as the method is ("baseline"), and once
more with each heuristic of `ABLATIONS` switched off, by putting other numbers into
`mireg._parameters`. A pair is made or read once for all of them.

Prints Markdown: a table for the hard kinds and one for the pairs of the case file.

right: registrations with mean TRE within the limit (see evaluate.py). median and worst
of the mean TRE, in mm. change: the mean of TRE less that of the baseline from the same
start, in mm: over all that gave an answer, and over those right both times (of
failures, a few large errors hide all else). processor: median of processor seconds,
and their sum as a multiple of that of the baseline. doubtful: answers that say so.

What an ablation does not show is deleted; this is a choice, so only the split to
choose on is registered unless `--split report` asks for the other.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
from evaluate import run_case
from measuring import (
    ABOUT_SPLIT,
    FLAG,
    JOBS,
    SEVERAL,
    SPLITS,
    Case,
    Record,
    Register,
    about_run,
    cases_from_file,
    check_cases,
    check_split,
    each,
    kind_cases,
    library,
    none_left,
    parser_of_cases,
    plain,
    ready,
    resumed,
    say,
    selected,
    store,
)

Overrides = Mapping[str, object]

#: The module whose numbers the method reads whenever it needs them.
PARAMETERS = "mireg._parameters"
BASELINE = "baseline"

#: Each heuristic: its name, what is switched off, and by which numbers.
ABLATIONS: dict[str, tuple[str, Overrides]] = {
    "CROSS_SEEDING": ("exchange of poses between channels", {"CROSS_SEEDING": False}),
    "CHANNEL_RESTART": (
        "restart from another channel's optimum",
        {"CHANNEL_RESTART": False},
    ),
    "MAX_STAGES": ("later stages of the search", {"MAX_STAGES": 1}),
    "MAX_RESTARTS": ("restarts of the search", {"MAX_RESTARTS": 1}),
    "PRUNE_SHARE": ("pruning of hopeless candidates", {"PRUNE_SHARE": 0.0}),
    "RESAMPLE_NOISE_VOXELS": (
        "samples of the other image in the end",
        {"RESAMPLE_NOISE_VOXELS": math.inf},
    ),
    "PARABOLIC_STEP": ("parabolic step", {"PARABOLIC_STEP": False}),
    "CHANNELS": ("bias-corrected channels", {"CHANNELS": ("original",)}),
    "sampled_corrected": (
        "channel with the sampled image bias-corrected",
        {"CHANNELS": ("original", "interpolated_corrected")},
    ),
    "interpolated_corrected": (
        "channel with the interpolated image bias-corrected",
        {"CHANNELS": ("original", "sampled_corrected")},
    ),
    "TWO_LEVEL_SEARCH": ("search on two levels", {"TWO_LEVEL_SEARCH": False}),
    "HEADER_CANDIDATE": ("pose of the headers", {"HEADER_CANDIDATE": False}),
    "CENTRE_CANDIDATE": ("pose of the centroids", {"CENTRE_CANDIDATE": False}),
    "MODEL_CHOICE": ("choice against the identity", {"MODEL_CHOICE": False}),
    "EQUALISE": ("equalised histogram", {"EQUALISE": 0.0}),
    "BORDER_TAPER": ("border taper", {"BORDER_TAPER": 0.0}),
    "JITTER": ("jitter of the samples", {"JITTER": 0.0}),
}


@contextlib.contextmanager
def overridden(overrides: Overrides) -> Iterator[None]:
    """Give numbers of the method other values, for the calls made meanwhile."""
    if not overrides:
        yield
        return
    parameters = import_module(PARAMETERS)
    before = {name: getattr(parameters, name) for name in overrides}
    vars(parameters).update(overrides)
    try:
        yield
    finally:
        vars(parameters).update(before)


def overrides_of(name: str) -> Overrides:
    """Return the numbers with which a heuristic is off; none for the baseline."""
    return {} if name == BASELINE else ABLATIONS[name][1]


# --- one case ------------------------------------------------------------------------


def run_without(
    part: tuple[Case, Sequence[str]],
    register: Register,
    seed: int,
    *,
    keep_going: bool = False,
    quiet: bool = True,
) -> Record:
    """Register a case in all its poses, without each of some heuristics in turn."""
    case, names = part
    pair, points, _ = ready(case)
    made = replace(case, load=lambda: pair._replace(points=points))
    ways: Record = {}
    for name in names:
        with overridden(overrides_of(name)):
            record = run_case(made, register, seed, keep_going=keep_going)
        say(f"{case.id} {name}: {record['good']}/{record['runs']} right", quiet)
        ways[name] = {"overrides": overrides_of(name), "poses": record["poses"]}
    return {
        "id": case.id,
        "set": case.group,
        "kind": case.reach is not None,
        "limit_mm": case.limit_mm,
        "ways": ways,
    }


def kept(record: Record, case: Case) -> Record:
    """Return what an earlier run has left of a case, with the same numbers."""
    return {
        name: way
        for name, way in record["ways"].items()
        if len(way["poses"]) == case.poses + 1
        and (name == BASELINE or name in ABLATIONS)
        and way["overrides"] == plain(overrides_of(name))
    }


# --- the table -----------------------------------------------------------------------

_HEADINGS = (
    "without",
    "right",
    "median mm",
    "worst mm",
    "change mm",
    "of right ones",
    "processor s",
    "ratio",
    "doubtful",
)


def summary(records: Sequence[Record], name: str) -> Record:
    """Sum up what one heuristic does, beside the baseline on the same pairs."""
    pairs = [
        runs
        for record in records
        if name in record["ways"]
        for runs in zip(
            record["ways"][BASELINE]["poses"],
            record["ways"][name]["poses"],
            strict=True,
        )
    ]
    done = [(a, b) for a, b in pairs if "error" not in a and "error" not in b]
    both = [(a, b) for a, b in done if a["good"] and b["good"]]

    def change(some: Sequence[tuple[Record, Record]]) -> float:
        return mean([b["tre_mean_mm"] - a["tre_mean_mm"] for a, b in some])

    def cpu(which: int) -> list[float]:
        return [runs[which]["cpu_seconds"] for runs in done]

    answers = [run for _, run in pairs if "error" not in run]
    tre = [run["tre_mean_mm"] for run in answers] or [math.nan]
    return {
        "right": sum(run["good"] for _, run in pairs),
        "runs": len(pairs),
        "median_mm": float(np.median(tre)),
        "worst_mm": max(tre),
        "change_mm": change(done),
        "change_of_right_mm": change(both),
        "cpu_seconds": float(np.median(cpu(1))) if done else math.nan,
        "cpu_ratio": sum(cpu(1)) / sum(cpu(0)) if sum(cpu(0)) else math.nan,
        "doubtful": sum(run["doubtful"] for run in answers),
    }


def mean(values: Sequence[float]) -> float:
    """Return the mean; NaN of nothing."""
    return float(np.mean(values)) if values else math.nan


def table(records: Sequence[Record], names: Sequence[str]) -> str:
    """Return a Markdown table: a line for the baseline and for each heuristic."""
    lines = [_HEADINGS, ("---", *["---:"] * (len(_HEADINGS) - 1))]
    for name in names:
        found = summary(records, name)
        if not found["runs"]:
            continue
        label = "(baseline)" if name == BASELINE else ABLATIONS[name][0]
        lines.append(
            (
                label,
                f"{found['right']}/{found['runs']}",
                f"{found['median_mm']:.3f}",
                f"{found['worst_mm']:.2f}",
                f"{found['change_mm']:+.3f}",
                f"{found['change_of_right_mm']:+.4f}",
                f"{found['cpu_seconds']:.2f}",
                f"{found['cpu_ratio']:.2f}",
                f"{found['doubtful']}",
            )
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# --- the command ---------------------------------------------------------------------


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = parser_of_cases(f"{__doc__}\n{ABOUT_SPLIT}", Path("ablation.json"))
    add = parser.add_argument
    add("--poses", type=int, default=0, help="random poses per case, besides its own")
    add("--seeds", type=int, default=3, help="subjects of each kind (%(default)s)")
    add("--without", **SEVERAL, help=f"one of {', '.join(ABLATIONS)} [all]")
    add("--split", choices=SPLITS, default="choose", help="[%(default)s]")
    add("--resume", **FLAG, help="keep what the output file already holds")
    add("--jobs", **JOBS)
    add("--keep-going", **FLAG, help="count an error as a bad answer and go on")
    args = parser.parse_args(argv)
    check_cases(parser, args)
    if min(args.poses, args.seeds) < 0:
        parser.error("--poses and --seeds must not be negative")
    check_split(parser, args, args.seeds if args.kinds else 0)
    if unknown := sorted(set(args.without) - set(ABLATIONS)):
        parser.error(f"there is no heuristic {unknown[0]}")
    args.names = [BASELINE, *(args.without or ABLATIONS)]
    return args


def main(argv: Sequence[str] | None = None, register: Register | None = None) -> int:
    """Run the command; a test may give its own `register`."""
    args = parse(argv)
    for name in args.names:  # a name that the method lacks ends it here
        with overridden(overrides_of(name)):
            pass
    cases: list[Case] = []
    if args.cases is not None:
        cases += cases_from_file(args.cases, args.poses, args.split)
    cases += kind_cases(args.kinds, args.seeds, args.first_seed, args.poses)
    cases = selected(cases, args.only)
    if not cases:
        print(none_left(args), file=sys.stderr)
        return 2
    about = {**about_run(args), "split": args.split}
    by_id = {case.id: case for case in cases}
    records: dict[str, Record] = {
        record["id"]: {**record, "ways": kept(record, by_id[record["id"]])}
        for record in resumed(args, about)
        if record["id"] in by_id
    }
    todo: list[tuple[Case, list[str]]] = []
    for case in cases:
        done: Record = records.get(case.id, {}).get("ways", {})
        if missing := [name for name in args.names if name not in done]:
            todo.append((case, missing))
    work = partial(
        run_without,
        register=register or library(args.settings),
        seed=args.seed,
        keep_going=args.keep_going,
        quiet=args.quiet,
    )
    for new in each(work, todo, args.jobs):
        old: Record = records.get(new["id"], {}).get("ways", {})
        records[new["id"]] = {**new, "ways": {**old, **new["ways"]}}
        store(args.output, {**about, "cases": list(records.values())})
    for title, of_kind in (("Hard kinds", True), ("Pairs of the case file", False)):
        some = [record for record in records.values() if record["kind"] is of_kind]
        if some:
            print(f"{title}, split {args.split}: {len(some)} pairs\n")
            print(f"{table(some, args.names)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
