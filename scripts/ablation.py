"""Switch off each heuristic of the method in turn, and say what it was good for.

    python scripts/ablation.py CASES.json --kinds all --seeds 3 --poses 2 --jobs 2
    python scripts/ablation.py --kinds coil --without restarts --resume

Each pair is registered from each of its poses as the method is ("baseline"), and once
more with each heuristic of `ABLATIONS` switched off, by putting other numbers into
`mireg._parameters`, or another step into the method. A pair is made or read once for
all of them.

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
from typing import Any
from unittest.mock import patch

import numpy as np
from evaluate import run_case
from measuring import (
    FLAG,
    JOBS,
    SEVERAL,
    Case,
    Record,
    Register,
    about_run,
    cases_of,
    check_cases,
    each,
    library,
    none_left,
    parser_of_cases,
    ready,
    resumed,
    say,
    store,
)

from mireg import _parameters as parameters

Overrides = Mapping[str, object]

#: The module whose numbers the method reads whenever it needs them.
PARAMETERS = "mireg._parameters"
BASELINE = "baseline"


# --- what is put in the place of a step ----------------------------------------------


def no_step(up: Any, _here: Any, _down: Any) -> Any:
    """Stay."""
    return np.zeros_like(up)


def answer(_level: Any, _header: Any, found: Any, _foreground: Any) -> Any:
    """Take the answer, whatever the headers say."""
    return found


def no_search(_pair: Any, _resolutions: Any, found: Any, *_: Any) -> Any:
    """Go on with what the quick search found."""
    return found


def nothing(_pair: Any) -> Any:
    """Follow nothing but what was found."""
    return []


def information_alone(entropies: Any, _samples: Any) -> Any:
    """Rank poses by their mutual information, whatever the overlap."""
    _, h_sampled, h_interpolated, h_joint = np.moveaxis(entropies, -1, 0)
    return h_sampled + h_interpolated - h_joint


_QUICK = parameters.QUICK_SEARCH
_ONE_STAGE = parameters.PatternStage(bins=16, samples=2000, keep=150, steps=0)

#: Each heuristic: its name, what is switched off, and by which numbers of the method or
#: which step (by its full name) in the place of another.
ABLATIONS: dict[str, tuple[str, Overrides]] = {
    "channels": ("both bias-corrected channels", {"CHANNELS": ("original",)}),
    "sampled-corrected": (
        "the channel with the sampled image corrected",
        {"CHANNELS": ("original", "interpolated_corrected")},
    ),
    "interpolated-corrected": (
        "the channel with the interpolated image corrected",
        {"CHANNELS": ("original", "sampled_corrected")},
    ),
    "equalise": ("equalisation of intensities", {"EQUALISE": 0.0}),
    "rim": ("a narrow rim (a wide one: 0.3 radii)", {"RIM_RADII": 0.3}),
    "smoothing": ("smoothing of shrunk images", {"SMOOTHING_VOXELS": 0.01}),
    "overlap": (
        "the overlap in the ranking of poses",
        {"mireg._engine.search.weighted_information": information_alone},
    ),
    "parabola": (
        "parabolic steps",
        {"mireg._engine.search.parabolic_step": no_step},
    ),
    "rough-stages": (
        "pattern search at the rough level",
        {"QUICK_SEARCH": replace(_QUICK, pattern=((_ONE_STAGE,), _QUICK.pattern[1]))},
    ),
    "thorough-search": (
        "the thorough search",
        {"mireg._register._search_on": no_search},
    ),
    "restarts": (
        "restarts of the thorough search",
        {"EFFORT": {"normal": (1,)}},
    ),
    "twins": ("the twins of the best pose", {"TWIN_SHARE": math.inf}),
    "settling": ("a better maximum within the error", {"SETTLING": 0}),
    "header-candidate": (
        "the headers' pose as a candidate",
        {
            "mireg._engine.search.sure_candidates": nothing,
            "mireg._register.sure_candidates": nothing,
        },
    ),
    "beam-width": ("all but the best candidate of each channel", {"BEAM_WIDTH": 1}),
    "pruning": ("pruning of candidates", {"PRUNE_SHARE": -math.inf}),
    "other-image": (
        "samples of the other image",
        {"OTHER_SAMPLING_VOXELS": math.inf},
    ),
    "model-choice": (
        "the choice against the headers",
        {"mireg._register.header_or_answer": answer},
    ),
}


@contextlib.contextmanager
def overridden(overrides: Overrides) -> Iterator[None]:
    """Put other numbers, or other steps, into the method, for the calls meanwhile."""
    with contextlib.ExitStack() as patched:
        for name, value in overrides.items():
            module, _, attribute = name.rpartition(".")
            place = import_module(module or PARAMETERS)
            patched.enter_context(patch.object(place, attribute, value))
        yield


def overrides_of(name: str) -> Overrides:
    """Return what to put in where a heuristic is off; nothing for the baseline."""
    return {} if name == BASELINE else ABLATIONS[name][1]


def told(overrides: Overrides) -> Record:
    """Name what is put in, for the record."""
    return {
        name: value.__name__ if callable(value) else repr(value)
        for name, value in overrides.items()
    }


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
        ways[name] = {"overrides": told(overrides_of(name)), "poses": record["poses"]}
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
        and way["overrides"] == told(overrides_of(name))
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
    parser = parser_of_cases(__doc__ or "", Path("ablation.json"))
    parser.set_defaults(split="choose")
    add = parser.add_argument
    add("--poses", type=int, default=0, help="random poses per case, besides its own")
    add("--seeds", type=int, default=3, help="subjects of each kind (%(default)s)")
    add("--without", **SEVERAL, help=f"one of {', '.join(ABLATIONS)} [all]")
    add("--resume", **FLAG, help="keep what the output file already holds")
    add("--jobs", **JOBS)
    add("--keep-going", **FLAG, help="count an error as a bad answer and go on")
    args = parser.parse_args(argv)
    check_cases(parser, args)
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
    cases = cases_of(args)
    if not cases:
        print(none_left(args), file=sys.stderr)
        return 2
    about = about_run(args)
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
