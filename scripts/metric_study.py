"""Compare the similarity metrics, and what a learned prior adds, on known pairs.

    python scripts/metric_study.py --kinds slab --kinds ct --kinds faint --seeds 3
    python scripts/metric_study.py CASES.json --only FLAIR --strengths 0.3 1 4

For each metric, and for the prior at each strength:

good    registrations with a mean target registration error (TRE) within the limit,
        from the pair's own pose and from N random ones (see scripts/evaluate.py);
TRE     the median over those, in mm;
basin   how far from the truth the climb at the coarsest level still comes back to
        within a voxel, along and about each of the axes of the fixed image: mean over
        both directions, to the next failure in steps of 6 mm and of 6 degrees;
false   local maxima of the score along a ray of 30 mm from the truth in a random
        direction of the six, at the finest level, beyond the first 2 mm: 0 is smooth.

A prior for a kind is learned from whole phantom heads with the contrasts of the kind
and other seeds; one for a pair of a case file from the pairs of other folders whose
file names end alike (``_T1W``, ``_FLAIR``). Where there are none, or the kind is no
head, the prior is left out. Two kinds are here alone. "faint": T1 and EPI of a whole
head, each with eight times its usual noise. "rough": two slices of EPI, 6 x 6 x 4 mm.

Prints a table, and one of the registrations that were good in each set; stores
everything as JSON.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from measuring import (
    Case,
    FloatArray,
    Pair,
    Record,
    about_run,
    cases_of,
    check_cases,
    distances,
    none_left,
    parser_of_cases,
    pose_of,
    ready,
    run_pose,
    selected,
    store,
)

from mireg._engine.levels import Level, levels_at, pyramid
from mireg._engine.metrics import Metric
from mireg._engine.optimize import maximise
from mireg._engine.pair import Pair as EnginePair
from mireg._engine.similarity import joint_histogram, metric_at
from mireg._prepare import prepare
from mireg._prior import Prior, learn_prior
from mireg._register import register
from mireg._settings import METRICS, MetricName, Settings
from mireg._transform import RigidTransform
from mireg.phantom import CONTRASTS, KINDS, hard_pair, phantom_pair
from mireg.phantom.kinds import Acquisition, Kind

AXES = ("x mm", "y mm", "z mm", "rx °", "ry °", "rz °")
STEP, STEPS = 6.0, 10  # mm or degrees, of the basins
RAYS, RAY_MM, RAY_STEP_MM, NEAR_MM = 8, 30.0, 0.5, 2.0
#: Heads that priors are learned from: none of these seeds is registered.
TEACHERS = (9001, 9002, 9003, 9004)
FAINT = Kind(
    "a whole head in T1 and EPI, each with eight times its noise",
    *(
        Acquisition(
            replace(CONTRASTS[name], noise_level=8 * CONTRASTS[name].noise_level), size
        )
        for name, size in (("T1", (2.0, 2.0, 2.0)), ("EPI", (3.0, 3.0, 3.0)))
    ),
)
_SLICES = KINDS["slices"]
ROUGH = replace(
    _SLICES,
    says="two rough slices of EPI against a whole head",
    moving=replace(_SLICES.moving, slices=(2, 2), voxel_mm=(6.0, 6.0, 4.0)),
)
OWN = {"faint": FAINT, "rough": ROUGH}


@dataclass(frozen=True)
class Method:
    """A metric, and how strong its prior is."""

    metric: MetricName
    strength: float = 0.0

    def __str__(self) -> str:
        return f"prior {self.strength:g}" if self.metric == "prior" else self.metric


def pair_of_own(name: str, seed: int) -> Pair:
    """Make a pair of a kind that is here alone."""
    made = hard_pair(OWN[name], seed)
    return Pair(made.fixed, made.moving, made.moving_from_fixed.matrix, made.points)


# --- priors --------------------------------------------------------------------------


def prior_of_kind(kind: Kind) -> Prior | None:
    """Learn from whole heads with the contrasts of a kind."""
    if kind.subject != "head":
        return None
    pairs = (
        phantom_pair(
            kind.fixed.look,
            kind.moving.look,
            seed=seed,
            fixed_voxel_size_mm=np.maximum(2, kind.fixed.voxel_mm),
            moving_voxel_size_mm=np.maximum(2, kind.moving.voxel_mm),
        )
        for seed in TEACHERS
    )
    return learn_prior((a, b, pose.matrix) for a, b, pose in pairs)


def kind_of_file(path: str) -> str:
    """Return the last word of a file's name, which says its contrast."""
    return re.split(r"[_/]", path.split(".", maxsplit=1)[0])[-1].lower()


def prior_of_file(
    entry: Record, entries: Sequence[Record], folder: Path
) -> Prior | None:
    """Learn from the pairs of other folders with contrasts of the same names."""

    def subject(one: Record) -> Path:
        return Path(one["fixed"]).parent

    def contrasts(one: Record) -> list[str]:
        return [kind_of_file(one["fixed"]), kind_of_file(one["moving"])]

    pairs = [
        (
            folder / one["fixed"],
            folder / one["moving"],
            np.array(one["moving_from_fixed"]),
        )
        for one in entries
        if contrasts(one) == contrasts(entry) and subject(one) != subject(entry)
    ]
    return learn_prior(pairs) if pairs else None


# --- one pair ------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Landscape:
    """A pair about its truth: its coarsest and finest level, as they are compared."""

    coarse: Level
    fine: Level
    truth: FloatArray
    centre: FloatArray
    radius: float
    points: FloatArray

    @classmethod
    def of(cls, pair: Pair, points: FloatArray, prior: Prior | None) -> Landscape:
        """Prepare a pair as `register` does."""
        joints = None if prior is None else prior.joints
        both = EnginePair.of(
            prepare(pair.fixed), prepare(pair.moving), joints, channels=["original"]
        )
        truth, resolutions = pair.moving_from_fixed, pyramid(both)
        if not both.sampled_is_fixed:
            points = points @ truth[:3, :3].T + truth[:3, 3]
        coarse, fine = (
            levels_at(both, at, Settings())["original"]
            for at in (resolutions.rough, resolutions.finest)
        )
        foreground = both.sampled.foreground
        return cls(
            coarse,
            fine,
            both.engine_pose(truth),
            foreground.centroid,
            foreground.rms_radius,
            points,
        )

    def metric(self, at: Level, method: Method) -> tuple[Level, Metric]:
        """Return a level with the prior as strong as it is believed, and the metric."""
        if at.prior is not None:
            believed = at.prior * method.strength if method.metric == "prior" else None
            at = replace(at, prior=believed)
        return at, metric_at(at, method.metric)

    def moved(self, turn: FloatArray, shift: FloatArray) -> FloatArray:
        """Return the truth after a motion about the centroid of the foreground."""
        return self.truth @ RigidTransform(turn, shift, self.centre).matrix

    def basin(self, method: Method, axis: int) -> float:
        """Return how far along an axis optimisation comes back: x, y, z, rx, ry, rz."""
        at, metric = self.metric(self.coarse, method)
        unit = np.eye(6)[axis] * STEP * np.where(np.arange(6) < 3, 1, np.pi / 180)
        reached = []
        for way in (-1, 1):
            steps = 0
            while steps < STEPS:
                start = way * (steps + 1) * unit
                found = maximise(at, self.moved(start[3:], start[:3]), metric)
                end = found.pose
                if distances(end, self.truth, self.points).mean() > at.size_mm:
                    break
                steps += 1
            reached.append(steps * STEP)
        return float(np.mean(reached))

    def false_maxima(self, methods: Sequence[Method]) -> dict[str, float]:
        """Return, for each method, the local maxima on a ray that are not the truth."""
        rng = np.random.default_rng(0)
        metrics = {str(method): self.metric(self.fine, method)[1] for method in methods}
        counts = dict.fromkeys(metrics, 0)
        t = np.arange(0, RAY_MM + RAY_STEP_MM, RAY_STEP_MM)
        for ray in rng.standard_normal((RAYS, 6)):
            way = ray / np.linalg.norm(ray)
            poses = [self.moved(x * way[3:] / self.radius, x * way[:3]) for x in t]
            histograms = [joint_histogram(self.fine, pose)[0] for pose in poses]
            for name, metric in metrics.items():
                scores = [metric(one)[0] if one.any() else 0.0 for one in histograms]
                rises = np.diff(scores) > 0
                tops = rises[:-1] & ~rises[1:] & (t[1:-1] > NEAR_MM)
                counts[name] += int(tops.sum())
        return {name: count / RAYS for name, count in counts.items()}


def study(
    case: Case,
    prior: Prior | None,
    methods: Sequence[Method],
    args: argparse.Namespace,
) -> Record:
    """Measure all methods on one pair."""
    pair, points, _ = ready(case)
    landscape = Landscape.of(pair, points, prior)
    usable = [m for m in methods if m.metric != "prior" or prior is not None]
    false = landscape.false_maxima(usable)
    records: Record = {}
    for method in usable:
        since = time.perf_counter()
        settings = replace(
            args.settings, metric=method.metric, prior_strength=method.strength
        )
        known = prior if method.metric == "prior" else None
        found: list[float] = []
        for number in range(case.poses + 1):
            pose = pose_of(case, number, args.seed, pair)
            run = run_pose(
                partial(register, settings=settings, prior=known), pair, pose, points
            )
            found.append(run["tre_mean_mm"])
        records[str(method)] = {
            "tre_mm": found,
            "good": [tre <= case.limit_mm for tre in found],
            "basin": [landscape.basin(method, axis) for axis in range(6)],
            "false_maxima": false[str(method)],
        }
        if not args.quiet:
            seconds = time.perf_counter() - since
            told = f"{case.id} {method}: TRE {np.round(found, 2)} mm, {seconds:.0f} s"
            print(told, file=sys.stderr, flush=True)
    return {"id": case.id, "set": case.group, "methods": records}


# --- the tables ----------------------------------------------------------------------


def table(records: Sequence[Record], methods: Sequence[Method]) -> str:
    """Return what each method comes to, over the pairs that all could be tried on."""
    lines = [
        "| metric | pairs | good | TRE mm | " + " | ".join(AXES) + " | false |",
        "|---|" + "---:|" * 10,
    ]
    for method in methods:
        mine = [
            r["methods"][str(method)] for r in records if str(method) in r["methods"]
        ]
        if not mine:
            continue
        good = [ok for one in mine for ok in one["good"]]
        tre = np.median([tre for one in mine for tre in one["tre_mm"]])
        basins = np.mean([one["basin"] for one in mine], axis=0)
        false = np.mean([one["false_maxima"] for one in mine])
        cells = [f"{len(mine)}", f"{sum(good)}/{len(good)}", f"{tre:.2f}"]
        cells += [f"{width:.0f}" for width in basins]
        lines.append(f"| {method} | " + " | ".join(cells) + f" | {false:.2f} |")
    return "\n".join(lines)


def table_of_sets(records: Sequence[Record], methods: Sequence[Method]) -> str:
    """Return how many registrations were good, for each set and method."""
    sets = list(dict.fromkeys(record["set"] for record in records))
    lines = [
        "| set | " + " | ".join(map(str, methods)) + " |",
        "|---|" + "---:|" * len(methods),
    ]
    for name in sets:
        cells = []
        for method in methods:
            good = [
                ok
                for record in records
                if record["set"] == name and str(method) in record["methods"]
                for ok in record["methods"][str(method)]["good"]
            ]
            cells.append(f"{sum(good)}/{len(good)}" if good else "-")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


# --- the command ---------------------------------------------------------------------


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = parser_of_cases(__doc__ or "", Path("metric_study.json"))
    add = parser.add_argument
    add("--poses", type=int, default=1, help="random poses per pair (%(default)s)")
    add("--seeds", type=int, default=1, help="pairs of each kind (%(default)s)")
    names = [name for name in METRICS if name != "prior"]
    add("--metrics", nargs="*", choices=names, default=names, help="default: all")
    add("--strengths", nargs="*", type=float, default=[0.3, 1, 4], help="of the prior")
    args = parser.parse_args(argv)
    args.own = [name for name in args.kinds if name in OWN]
    args.kinds = [name for name in args.kinds if name not in OWN]
    check_cases(parser, args, args.seeds if args.own else 0)
    if min(args.strengths, default=0) < 0:
        parser.error("--strengths must not be negative")
    return args


def all_cases(
    args: argparse.Namespace,
) -> Iterator[tuple[Case, Callable[[], Prior | None]]]:
    """Gather pairs and, for each, how to learn a prior."""
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    cases = [
        Case(
            f"{name}_{seed:04d}",
            name,
            partial(pair_of_own, name, seed),
            OWN[name].limit_mm,
            args.poses,
        )
        for name in args.own
        for seed in seeds
    ]
    priors: dict[str, Prior | None] = {}

    def of_kind(name: str) -> Prior | None:
        if name not in priors:
            priors[name] = prior_of_kind(OWN.get(name) or KINDS[name])
        return priors[name]

    entries = []
    if args.cases is not None:
        read = json.loads(args.cases.read_text(encoding="utf-8"))
        entries = read if isinstance(read, list) else [read]
    by_id = {entry["id"]: entry for entry in entries}
    for case in cases_of(args) + selected(cases, args.only):
        if entry := by_id.get(case.id):
            yield case, partial(prior_of_file, entry, entries, args.cases.parent)
        else:
            yield case, partial(of_kind, case.group)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = parse(argv)
    methods = [Method(name) for name in args.metrics]
    methods += [Method("prior", strength) for strength in args.strengths]
    records: list[Record] = []
    for case, learn in all_cases(args):
        records.append(study(case, learn(), methods, args))
        store(args.output, {**about_run(args), "pairs": records})
    if not records:
        print(none_left(args), file=sys.stderr)
        return 2
    print(table(records, methods))
    print("\n" + table_of_sets(records, methods))
    return 0


if __name__ == "__main__":
    sys.exit(main())
