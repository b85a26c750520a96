"""Make answers right and wrong in every way, and learn from them what to believe.

    python scripts/verdict_study.py make answers.csv --count 200
    python scripts/verdict_study.py make real.csv --cases CASES.json
    python scripts/verdict_study.py train answers.csv real.csv --picture verdict.png

``make`` appends rows, one an answer: how it was made, its true error, and the signals
that `mireg` measured there. It can be stopped and goes on where it was. Scene n is a
pair of the kind n of `mireg.phantom.KINDS`, in turn, of a subject of the split that it
belongs to (see evaluate.py), coarser than usual for speed. Of each scene come

    auto      what a search everywhere finds
    near      what a local refinement finds from 2 to 8 mm off
    outside   the same from 30 to 80 mm and up to 120 degrees off, as a header may be
    runner-up the same from the best pose elsewhere
    displaced the answer of the search moved by 1 to 30 mm, as `mireg check` judges it
    mirrored  the moving image mirrored, from about where it fits
    other     the moving image of another subject, from about where it fits
    mirrored-auto, other-auto
              the same after a search everywhere
    noise     the moving image turned to noise
    apart     two halves that do not overlap
    body      another kind of body

A third of the scenes have more noise than the kind has, some fewer slices. Real
pairs of a case file are made in the same ways; their subjects are crossed.

``train`` chooses on one split, reports on the other, and writes the model
(``mireg/_engine/verdict.json``) with what it was made from.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import math
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from measuring import (
    FIRST_REPORTED_SEED,
    HELD_OUT,
    Pair,
    cases_from_file,
    distances,
    plain,
    ready,
    split_of,
    subject_of,
)
from scipy import ndimage
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import rankdata

from mireg import _parameters as parameters
from mireg._engine import verdict as module
from mireg._engine.verdict import NORMAL_90, verdict
from mireg._errors import InputError
from mireg._files.records import to_json
from mireg._image import Image
from mireg._register import Task, best_answer, judge, known_of, opened
from mireg._settings import Settings
from mireg.phantom import KINDS, hard_pair, random_pose

FloatArray = npt.NDArray[np.float64]
Row = dict[str, Any]

#: Fewer samples than usual and no search on in doubt, for speed.
SETTINGS = Settings(threads=1, samples=40_000, effort="quick")
#: Kinds whose EPI are bent, of which no rigid answer is right everywhere.
DISTORTED = [
    name
    for name, kind in KINDS.items()
    if kind.fixed.distortion_mm or kind.moving.distortion_mm
]
#: Voxels are so much larger than those of the kinds.
SCALE = {"slices": 1.0, "slab": 1.2, "mouse": 1.0, "spect": 1.0, "pet": 1.2}
USUAL_SCALE = 1.5
#: Step through the kinds, which their number must not share a divisor with.
ORDER = 11
#: What a row says besides the signals.
ABOUT = (
    *("id", "source", "kind", "subject", "split", "way", "degraded"),
    *("right", "same", "mirrored", "error_mm", "tolerance_mm", "voxel_mm"),
    *("standard_error_mm", "distance_mm", "searched", "probability", "cpu_seconds"),
)
#: How far off are the poses that are made for `mireg check`, mm: from and to.
DISPLACED_MM = ((0.5, 2), (2, 8), (8, 30))


# --- scenes ---------------------------------------------------------------------------


class Scene(NamedTuple):
    """A pair with its truth, and what to call it."""

    id: str
    source: str
    kind: str
    subject: str
    split: str
    degraded: str
    pair: Pair


def phantom_scenes(first: int, count: int) -> Iterator[Callable[[], Scene]]:
    """Make the scenes of the phantoms, one kind after the other."""
    kinds = list(KINDS)
    for n in range(first, first + count):
        # In another order in each round, so that a few scenes are of many kinds.
        kind = kinds[(ORDER * n + n // len(kinds)) % len(kinds)]
        # Even rounds are to choose on, odd ones to report; each scene has a subject.
        reported = kind in HELD_OUT or n // len(kinds) % 2 == 1
        yield partial(phantom_scene, n, kind, reported)


def phantom_scene(n: int, kind: str, reported: bool) -> Scene:
    """Make one scene; half are degraded."""
    seed = n + FIRST_REPORTED_SEED * reported
    rng = np.random.default_rng([n, 0x51])
    made = hard_pair(kind, seed, voxel_scale=SCALE.get(kind, USUAL_SCALE))
    pair = Pair(made.fixed, made.moving, made.moving_from_fixed.matrix, made.points)
    degraded = str(rng.choice(["", "", "", "noise", "noise", "slices"]))
    if degraded == "noise":
        moving = noisy(pair.moving, 0.3 * 10 ** rng.uniform(0, 1), rng)
        pair = pair._replace(moving=moving)
    elif degraded == "slices" and pair.moving.shape[2] > 12:
        pair = pair._replace(moving=few_slices(pair.moving, rng))
    split = "report" if reported else "choose"
    return Scene(f"{n}_{kind}", "phantom", kind, str(seed), split, degraded, pair)


def real_scenes(path: Path) -> Iterator[Callable[[], Scene]]:
    """Make the scenes of a case file."""
    entries = json.loads(path.read_text(encoding="utf-8"))
    for entry, case in zip(entries, cases_from_file(path, 0), strict=True):
        subject = subject_of(entry)
        contrasts = entry.get("contrasts", "")

        def scene(
            case: Any = case, subject: str = subject, of: str = contrasts
        ) -> Scene:
            pair, points, _ = ready(case)
            pair = pair._replace(points=points)
            return Scene(case.id, "real", of, subject, split_of(subject), "", pair)

        yield scene


def noisy(image: Image, level: float, rng: np.random.Generator) -> Image:
    """Add noise of so many standard deviations of the image."""
    spread = float(np.nanstd(image.data))
    noise = rng.normal(0, level * spread, image.shape)
    return Image((image.data + noise).astype(np.float32), image.mm_from_ijk)


def few_slices(image: Image, rng: np.random.Generator) -> Image:
    """Keep 4 to 10 slices from the middle."""
    keep = int(rng.integers(4, 11))
    room = image.shape[2] - keep
    return cut(image, 2, room // 4 + int(rng.integers(room // 2 + 1)), keep)


def cut(image: Image, axis: int, start: int, keep: int) -> Image:
    """Keep some planes along an axis."""
    some = [slice(None)] * 3
    some[axis] = slice(start, start + keep)
    offset = np.eye(4)
    offset[axis, 3] = start
    return Image(image.data[tuple(some)].copy(), image.mm_from_ijk @ offset)


def mirrored(pair: Pair) -> tuple[Image, FloatArray]:
    """Mirror the moving image along its voxels that run to the right; about the pose.

    What was anatomy at x lies at M x. About where a mirrored head fits: the fixed image
    mirrored about the plane through its points, which is how heads are built.
    """
    moving_axes = np.linalg.inv(pair.moving_from_fixed)[:3, :3] @ (
        pair.moving.mm_from_ijk[:3, :3] / pair.moving.voxel_size_mm
    )
    axis = int(np.abs(moving_axes[0]).argmax())
    flip = np.eye(4)
    flip[axis, axis] = -1
    flip[axis, 3] = pair.moving.shape[axis] - 1
    mirror = pair.moving.mm_from_ijk @ flip @ np.linalg.inv(pair.moving.mm_from_ijk)
    image = Image(np.flip(pair.moving.data, axis).copy(), pair.moving.mm_from_ijk)
    assert pair.points is not None
    plane = np.eye(4)
    plane[0, 0], plane[0, 3] = -1, 2 * pair.points[:, 0].mean()
    return image, mirror @ pair.moving_from_fixed @ plane


def displaced(
    pose: FloatArray,
    points: FloatArray,
    rng: np.random.Generator,
    mm: tuple[float, float],
    degrees: float,
) -> FloatArray:
    """Move a pose by a random motion about the middle of the points."""
    motion = random_pose(rng, max_angle_deg=degrees, max_offset_mm=1.0).matrix
    shift = motion[:3, 3] / np.linalg.norm(motion[:3, 3]) * rng.uniform(*mm)
    middle = points.mean(axis=0)
    motion[:3, 3] = middle - motion[:3, :3] @ middle + shift
    return pose @ motion


# --- answers --------------------------------------------------------------------------


class Way(NamedTuple):
    """One way to make an answer."""

    name: str
    fixed: Image
    moving: Image
    start: FloatArray | None
    truth: FloatArray | None


def answers(scene: Scene, others: dict[str, Scene]) -> Iterator[Row]:
    """Make all answers of a scene; `others` are the last scenes by body and split."""
    pair, truth = scene.pair, scene.pair.moving_from_fixed
    points = pair.points
    assert points is not None
    rng = np.random.default_rng([zlib.crc32(scene.id.encode()), 0xA])
    way = partial(Way, fixed=pair.fixed)
    own = partial(way, moving=pair.moving, truth=truth)
    task = open_task(own("", start=None))
    row, elsewhere, found = answer(scene, own("auto", start=None), task)
    yield row
    for mm in DISPLACED_MM:
        turned = displaced(found, points, rng, mm, mm[1] / 2)
        yield checked(row, turned, found, scene)
    for pose in elsewhere:
        yield answer(scene, own("runner-up", start=pose), task)[0]
    near = displaced(truth, points, rng, (2, 8), 6)
    yield answer(scene, own("near", start=near), task)[0]
    for _ in range(2):
        off = displaced(truth, points, rng, (30, 80), 120)
        yield answer(scene, own("outside", start=off), task)[0]

    yield from crossings(scene, others, rng)


def crossings(
    scene: Scene, others: dict[str, Scene], rng: np.random.Generator
) -> Iterator[Row]:
    """Make the answers that cannot be right: mirrored, other people, noise, apart."""
    pair, truth, points = scene.pair, scene.pair.moving_from_fixed, scene.pair.points
    assert points is not None

    def crossed(
        name: str, fixed: Image, moving: Image, start: FloatArray
    ) -> Iterator[Row]:
        # Halves that lie apart may stay where they begin, which is not to be right.
        far = (15, 40) if name == "apart" else (1, 4)
        begin = displaced(start, points, rng, far, 4)
        # Oblique halves can overlap after all, and be brought into line.
        known = truth if name == "apart" else None
        here = Way(name, fixed, moving, begin, known)
        task = open_task(here)
        yield answer(scene, here, task)[0]
        if rng.random() < 0.3:
            again = here._replace(name=f"{name}-auto", start=None)
            yield answer(scene, again, task)[0]

    yield from crossed("mirrored", pair.fixed, *mirrored(pair))
    other = others.get(f"{body_of(scene)} {scene.split}")
    if scene.source == "real":
        other = next((s for s in others.values() if s.subject != scene.subject), None)
    if other is not None:
        theirs = other.pair
        start = theirs.moving_from_fixed
        if scene.source == "real":  # heads of two people, centre on centre
            start = start.copy()
            middle = theirs.points.mean(axis=0) - points.mean(axis=0)
            start[:3, 3] += start[:3, :3] @ middle
        yield from crossed("other", pair.fixed, theirs.moving, start)
    if rng.random() < 0.3:
        smooth = ndimage.gaussian_filter(
            rng.normal(size=pair.moving.shape), rng.choice([0.0, 1.0, 3.0])
        )
        noise = Image(smooth.astype(np.float32), pair.moving.mm_from_ijk)
        yield from crossed("noise", pair.fixed, noise, truth)
    if rng.random() < 0.3 and min(pair.moving.shape) > 8:
        to_fixed = np.linalg.inv(truth) @ pair.moving.mm_from_ijk
        axes = [int(np.abs(to_fixed[k, :3]).argmax()) for k in range(3)]
        k = int(rng.integers(3))
        image, size = pair.moving, pair.moving.shape[axes[k]]
        high = to_fixed[k, axes[k]] > 0
        upper = cut(image, axes[k], size // 2 if high else 0, size // 2)
        size = pair.fixed.shape[k] // 2
        low = pair.fixed.mm_from_ijk[k, k] > 0
        lower = cut(pair.fixed, k, 0 if low else size, size)
        yield from crossed("apart", lower, upper, truth)
    body = next((o for o in others.values() if body_of(o) in ("knee", "spine")), None)
    if rng.random() < 0.15 and body is not None and body_of(scene) == "head":
        start = body.pair.moving_from_fixed
        yield from crossed("body", pair.fixed, body.pair.moving, start)


def body_of(scene: Scene) -> str:
    """Say what a scene shows."""
    return KINDS[scene.kind].subject if scene.source == "phantom" else "real"


def open_task(way: Way) -> Task:
    """Prepare two images."""
    return opened(way.fixed, way.moving, None, None, SETTINGS, None, None)


def answer(
    scene: Scene, way: Way, task: Task
) -> tuple[Row, list[FloatArray], FloatArray]:
    """Find one answer: a row, the best pose elsewhere, and what was found."""
    began = time.process_time()
    pair = task.pair
    start = None if way.start is None else pair.engine_pose(way.start)
    outcome = best_answer(task, start)
    found, fits = outcome.answer, outcome.fits
    judged = judge(task, outcome, known_of(task, found).signals)
    points = scene.pair.points
    error = math.nan
    if way.truth is not None:
        error = float(distances(found.moving_from_fixed, way.truth, points).mean())
    tolerance = judged.tolerance_mm
    row = {
        "id": f"{scene.id}_{way.name}",
        **{name: getattr(scene, name) for name in ABOUT[1:5]},
        "way": way.name,
        "degraded": scene.degraded,
        "right": int(error <= tolerance),
        "same": int(way.truth is not None),
        "mirrored": int(way.name.startswith("mirrored")),
        "error_mm": error,
        "tolerance_mm": tolerance,
        "voxel_mm": found.level.size_mm,
        "standard_error_mm": found.error_mm,
        "distance_mm": 0.0,
        "searched": int(start is None),
        "probability": judged.probability,
        "cpu_seconds": time.process_time() - began,
        **judged.signals,
    }
    elsewhere = [
        pair.moving_from_fixed(fit.pose)
        for fit in fits[1:]
        if pair.sampled.foreground.distance(fits[0].pose, fit.pose)
        > parameters.DISTINCT_RADII * pair.sampled.foreground.rms_radius
    ]
    return row, elsewhere[:1], found.moving_from_fixed


def checked(row: Row, pose: FloatArray, best: FloatArray, scene: Scene) -> Row:
    """Judge a pose that lies off the best one, as `mireg check` does."""
    points, truth = scene.pair.points, scene.pair.moving_from_fixed
    off = float(distances(pose, best, points).mean())
    error = float(distances(pose, truth, points).mean())
    said = {
        "id": f"{scene.id}_displaced",
        "way": "displaced",
        "right": int(error <= row["tolerance_mm"]),
        "error_mm": error,
        "distance_mm": off,
        "cpu_seconds": 0.0,
    }
    return {**row, **said}


def make(args: argparse.Namespace) -> int:
    """Append answers to a file, scene by scene."""
    done: set[str] = set()
    header: list[str] | None = None
    if args.answers.exists():
        with args.answers.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            done = {row["scene"] for row in reader}
            header = list(reader.fieldnames or [])
    scenes = (
        phantom_scenes(args.first, args.count)
        if args.cases is None
        else real_scenes(args.cases)
    )
    others: dict[str, Scene] = {}
    began = time.perf_counter()
    for number, load in enumerate(scenes):
        if number // len(KINDS) % args.of != args.part:
            continue
        if time.perf_counter() - began > 60 * args.minutes:
            break
        named = load.args[0] if isinstance(load, partial) else None
        if named is not None and any(d.startswith(f"{named}_") for d in done):
            continue
        scene = load()
        if scene.id in done:
            continue
        rows = []
        try:
            for row in answers(scene, others):
                rows.append({"scene": scene.id, **row})
        except InputError as error:  # of what was cut away too little is left
            print(f"{scene.id}: {error}", file=sys.stderr)
        others[f"{body_of(scene)} {scene.split}"] = scene
        if not rows:
            continue
        new = header is None
        header = header or list(rows[0])
        with args.answers.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, header)
            if new:
                writer.writeheader()
            writer.writerows(rows)
        took = sum(row["cpu_seconds"] for row in rows)
        right = sum(row["right"] for row in rows)
        print(
            f"{scene.id}: {len(rows)} answers, {right} right, {took:.1f} s", flush=True
        )
    return 0


# --- what the signals say -------------------------------------------------------------

#: Signals that the model may use, and whether more of it speaks for an answer (1) or
#: against it (-1): a table never goes the other way. None is a length in mm, which a
#: mouse and a man do not share.
DIRECTIONS = {
    "error_voxels": -1,
    "runner_up": -1,
    "overlap": 1,
    "coarse_share": -1,
    "cost_voxel": 1,
    "least_cost_voxel": 1,
    "wrong_pose_z": 1,
    "wrong_pose_share": -1,
    "residual_share": 1,
    "residual_gain": -1,
    "mirrored_share": -1,
    "mirrored_z": 1,
}
#: Columns that are names, even if they look like numbers.
TEXT = ("scene", "id", "source", "kind", "subject", "split", "way", "degraded")
HANDEDNESS = ("mirrored_z",)
#: What is not looked for everywhere, so that its absence says nothing.
OPTIONAL = ("runner_up",)
#: The table of a signal has so many values, at these quantiles of right and wrong ones.
KNOTS = 5
RIGHT_AT, WRONG_AT = (0.02, 0.1, 0.3, 0.6, 0.95), (0.05, 0.4, 0.7, 0.9)
#: Most signals of a model, and the gain of log-likelihood (nats an answer) that one
#: more must bring on scenes that were left out.
MOST_SIGNALS, LEAST_GAIN = 6, 0.002
#: Strength of the ridge that keeps the steps of a table small, nats for one of 1.
RIDGE = 0.5
FOLDS = 5
MODEL = Path(__file__).parents[1] / "mireg" / "_engine" / "verdict.json"


class Table:
    """Answers as columns: numbers where they are, NaN for none, else text."""

    def __init__(self, columns: Mapping[str, npt.NDArray[Any]]) -> None:
        self.columns = dict(columns)

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Table:
        """Turn rows into columns."""
        names = dict.fromkeys(name for row in rows for name in row)
        columns = {}
        for name in names:
            column = [row.get(name, "") for row in rows]
            try:
                numbers = [float(x) if x != "" else math.nan for x in column]
                text = name in TEXT
            except ValueError:
                text = True
            columns[name] = np.array(list(map(str, column)) if text else numbers)
        return cls(columns)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, name: str) -> Any:
        """Give a column."""
        return self.columns[name]

    def where(self, chosen: npt.NDArray[np.bool_]) -> Table:
        """Keep some rows."""
        return Table({name: column[chosen] for name, column in self.columns.items()})


def read(paths: Sequence[Path]) -> Table:
    """Read the answers of some files."""
    rows: list[Row] = []
    for path in paths:
        with path.open(newline="", encoding="utf-8") as file:
            rows += csv.DictReader(file)
    table = Table.of(rows)
    told, fit = table["residual_told"], table["residual_fit"]
    table.columns["residual_share"] = np.array(
        [
            module.residual_share({"residual_told": a, "residual_fit": b})
            for a, b in zip(told, fit, strict=True)
        ]
    )
    return table


def knots(x: FloatArray, truth: npt.NDArray[np.bool_]) -> FloatArray:
    """Choose the values at which a table is given, where right and wrong ones are."""
    known = np.isfinite(x)
    some = [
        np.quantile(x[known & rows], at)
        for rows, at in ((truth, RIGHT_AT), (~truth, WRONG_AT))
        if (known & rows).any()
    ]
    at = np.quantile(np.concatenate(some), np.linspace(0, 1, KNOTS))
    at = np.array([float(f"{value:.3g}") for value in at])
    return np.unique(at)


def steps(x: FloatArray, at: FloatArray) -> FloatArray:
    """How much of each step between knots lies below a value, 0 to 1; (n, steps)."""
    x = np.nan_to_num(x, nan=at[0], posinf=at[-1], neginf=at[0])
    return np.clip((x[:, None] - at[:-1]) / np.diff(at), 0, 1)


def fitted(table: Table, truth: npt.NDArray[np.bool_], names: Sequence[str]) -> Row:
    """Fit the tables; right and wrong count the same in sum."""
    at = {name: knots(table[name], truth) for name in names}
    columns: list[FloatArray] = []
    bounds: list[tuple[float | None, float | None]] = [(None, None)]
    for name in names:
        x = table[name]
        unknown = np.isnan(x) & (name not in OPTIONAL)
        typical = np.nanmedian(np.where(truth & np.isfinite(x), x, math.nan))
        # What is unknown is 0, and so is a typical right answer.
        rise = steps(x, at[name]) - steps(np.array([typical]), at[name])
        columns += [np.where(np.isnan(x), 0.0, step) for step in rise.T]
        columns.append(unknown.astype(float))
        way = (0, None) if DIRECTIONS[name] > 0 else (None, 0)
        bounds += [way] * (len(at[name]) - 1) + [(None, 0)]
    design = np.array(columns).reshape(-1, len(table))
    sign = np.where(truth, 1.0, -1.0)
    share = truth.mean()
    weights = np.where(truth, 0.5 / share, 0.5 / (1 - share))

    def loss(numbers: FloatArray) -> tuple[float, FloatArray]:
        odds = numbers[0] + numbers[1:] @ design
        value = weights @ np.logaddexp(0, -sign * odds) + RIDGE / 2 * (
            numbers[1:] @ numbers[1:]
        )
        slope = -weights * sign * expit(-sign * odds)
        return value, np.concatenate(
            [[slope.sum()], design @ slope + RIDGE * numbers[1:]]
        )

    found = minimize(loss, np.zeros(len(bounds)), jac=True, bounds=bounds).x
    part: Row = {"intercept": float(found[0]), "signals": {}}
    left = found[1:]
    for name in names:
        up, unknown, left = (
            left[: len(at[name]) - 1],
            left[len(at[name]) - 1],
            left[len(at[name]) :],
        )
        x = table[name][truth & np.isfinite(table[name])]
        typical = float(steps(np.array([np.median(x)]), at[name])[0] @ up)
        adds = np.concatenate([[0], np.cumsum(up)]) - typical
        part["signals"][name] = {
            "at": at[name].tolist(),
            "adds": [round(float(value), 3) for value in adds],
            "unknown": round(float(unknown), 3),
        }
    return part


def log_odds(part: Row, table: Table) -> FloatArray:
    """Say of each answer what `mireg` will say; the same sum, over columns."""
    odds = np.full(len(table), part["intercept"])
    for name, term in part["signals"].items():
        x = table[name]
        adds = np.interp(x, term["at"], term["adds"])
        odds += np.where(np.isnan(x), term["unknown"], adds)
    return odds


def left_out(table: Table, truth: npt.NDArray[np.bool_], names: Sequence[str]) -> float:
    """Mean log-likelihood, nats, of scenes that were left out of the fit."""
    folds = np.array([zlib.crc32(s.encode()) % FOLDS for s in table["scene"]])
    share, total = truth.mean(), 0.0
    weights = np.where(truth, 0.5 / share, 0.5 / (1 - share))
    for fold in range(FOLDS):
        out = folds == fold
        part = fitted(table.where(~out), truth[~out], names)
        sign = np.where(truth[out], 1, -1)
        odds = log_odds(part, table.where(out))
        total -= float(weights[out] @ np.logaddexp(0, -sign * odds))
    return total / len(table)


def selected(
    table: Table,
    truth: npt.NDArray[np.bool_],
    candidates: Sequence[str],
    given: Sequence[str] = (),
) -> Row:
    """Add the signal that helps most, until none does; or take those that are given."""
    if given:
        print(f"  {left_out(table, truth, given):8.4f} nats an answer")
        return used(fitted(table, truth, given))
    names: list[str] = []
    best = -math.log(2)
    while len(names) < min(MOST_SIGNALS, len(candidates)):
        gains = {
            name: left_out(table, truth, [*names, name])
            for name in candidates
            if name not in names
        }
        name = max(gains, key=gains.__getitem__)
        print(f"  {name:22} {gains[name]:8.4f} nats an answer")
        if gains[name] < best + LEAST_GAIN:
            break
        names.append(name)
        best = gains[name]
    return used(fitted(table, truth, names))


def used(part: Row) -> Row:
    """Leave out signals that add nothing."""
    part["signals"] = {
        name: term
        for name, term in part["signals"].items()
        if any(term["adds"]) or term["unknown"]
    }
    return part


def error_model(table: Table, real: Table | None = None) -> Row:
    """Fit the logarithm of the error to that of the standard error.

    What real pairs are off beside that is taken as a share of 2 mm, or of the tolerance
    where that is less.
    """
    # Of those whose standard error is known; in voxels, so that a mouse is as a man.
    table = table.where(np.isfinite(table["standard_error_mm"]))
    error = np.log(table["error_mm"] / table["voxel_mm"])
    design = np.ones((len(table), 2))
    design[:, 1] = np.log(table["standard_error_mm"] / table["voxel_mm"])
    # Least absolute deviations by reweighting: the line is then that of the median.
    numbers = np.linalg.lstsq(design, error, rcond=None)[0]
    for _ in range(50):
        numbers[1] = np.clip(numbers[1], 0, 1)
        off = error - design @ numbers
        numbers[0] += float(np.median(off))
        weight = 1 / np.sqrt(np.maximum(np.abs(error - design @ numbers), 1e-3))
        step = np.linalg.lstsq(design * weight[:, None], error * weight, rcond=None)[0]
        numbers[1] = np.clip(step[1], 0, 1)
    numbers[0] += float(np.median(error - design @ numbers))
    beyond = np.quantile(error - design @ numbers, 0.9)
    part = {
        "constant": float(numbers[0]),
        "log_standard_error": float(numbers[1]),
        "log_voxel": float(1 - numbers[1]),
        "spread": float(beyond / NORMAL_90),
        "bent": 0.0,
    }
    if real is not None and len(real):
        by_noise = np.exp(
            numbers[0]
            + numbers[1] * np.log(real["standard_error_mm"])
            + (1 - numbers[1]) * np.log(real["voxel_mm"])
        )
        more = np.median(real["error_mm"]) ** 2 - np.median(by_noise) ** 2
        of = np.median(np.minimum(real["tolerance_mm"], parameters.TOLERANCE_MM))
        part["bent"] = float(np.sqrt(max(more, 0)) / of)
    return part


# --- figures --------------------------------------------------------------------------


def auroc(score: FloatArray, truth: npt.NDArray[np.bool_]) -> float:
    """Probability that a true one scores above a false one."""
    if truth.all() or not truth.any():
        return math.nan
    ranks = rankdata(score)
    n = truth.sum()
    return float((ranks[truth].sum() - n * (n + 1) / 2) / (n * (~truth).sum()))


def verdicts(table: Table) -> list[Any]:
    """Judge all answers by the model, as `mireg` does."""
    if not len(table):
        return []
    about = ("standard_error_mm", "voxel_mm", "tolerance_mm", "distance_mm")
    about += ("residual_told", "residual_fit")
    columns = {name: table[name] for name in (*DIRECTIONS, *about)}
    out = []
    for n in range(len(table)):
        row = {name: float(column[n]) for name, column in columns.items()}
        out.append(
            verdict(
                row,
                standard_error_mm=row["standard_error_mm"],
                voxel_mm=row["voxel_mm"],
                usual_mm=row["tolerance_mm"],
                tolerance_mm=row["tolerance_mm"],
                distance_mm=row["distance_mm"],
            )
        )
    return out


def figures(table: Table) -> Row:
    """Sum up how good the verdicts on some answers are."""
    judged = verdicts(table)
    chance = np.array([one.probability for one in judged])
    right = table["right"] == 1
    passed = chance >= parameters.DOUBTFUL_BELOW
    straight = right & ~np.isin(table["kind"], DISTORTED)
    error = table["error_mm"][straight]
    median = np.array([one.error_mm for one in judged])[straight]
    bound = np.array([one.error_bound_mm for one in judged])[straight]
    ratio = np.maximum(error, 1e-6) / median
    return {
        "answers": len(table),
        "right": int(right.sum()),
        "auroc": auroc(chance, right),
        "wrong_passed": int((passed & ~right).sum()),
        "right_doubted": int((~passed & right).sum()),
        "bound_holds": float((error <= bound).mean()) if straight.any() else math.nan,
        "within_factor_2": float(((ratio < 2) & (ratio > 0.5)).mean())
        if straight.any()
        else math.nan,
    }


def row_of(name: str, found: Row) -> str:
    """Write a line of the table of figures."""
    wrong = found["answers"] - found["right"]
    holds, near = 100 * found["bound_holds"], 100 * found["within_factor_2"]
    return (
        f"| {name} | {found['answers']} | {found['auroc']:.3f} "
        f"| {found['wrong_passed']} of {wrong} "
        f"| {found['right_doubted']} of {found['right']} "
        f"| {holds:.0f} % | {near:.0f} % |"
    )


def tables(table: Table) -> Row:
    """Print the figures of a half, by kind and by way; return those of the whole."""
    print(
        "| | answers | AUROC | wrong passed | right doubted | 90 % bound holds "
        "| error within factor 2 |\n|---|---|---|---|---|---|---|"
    )
    found = table.where(table["way"] != "displaced")
    whole = figures(found)
    print(row_of("all but displaced", whole))
    as_made = found.where(found["degraded"] == "")
    print(row_of("of these, kinds as they stand", figures(as_made)))
    for column in ("kind", "way", "degraded"):
        for name in sorted(set(table[column])):
            some = table.where(table[column] == name)
            if name:
                print(row_of(f"{column} {name}", figures(some)))
    print(two_by_two(table))
    print(distances_said(table.where(table["way"] == "displaced")))
    return whole


def distances_said(table: Table) -> str:
    """Compare how far off displaced poses are said to be with how far they are."""
    said = np.array([one.error_mm for one in verdicts(table)])
    true = table["error_mm"]
    # Where the best pose is not the right one, no distance from it tells the error.
    right = np.abs(table["distance_mm"] - true) <= table["tolerance_mm"]
    lines = [
        "| poses off by, mm | answers | said, median | true, median "
        "| within 0.5 mm or a fifth |",
        "|---|---|---|---|---|",
    ]
    for low, high in itertools.pairwise((0, 1, 2, 5, 10, 20, math.inf)):
        some = right & (true >= low) & (true < high)
        if some.any():
            near = np.abs(said - true)[some] <= np.maximum(0.5, true[some] / 5)
            lines.append(
                f"| {low} to {high} | {some.sum()} | {np.median(said[some]):.2f} "
                f"| {np.median(true[some]):.2f} | {100 * near.mean():.0f} % |"
            )
    return "\n".join(lines)


def two_by_two(table: Table) -> str:
    """Say how well left and right, and one person and two, are told."""
    judged, way = verdicts(table), table["way"]
    right = table["right"] == 1
    flipped = np.array([w.startswith("mirrored") for w in way])
    hand = np.array([one.handedness for one in judged])
    lines = [
        "| handedness | as stored | mirrored | cannot be told |",
        "|---|---|---|---|",
    ]
    for name, rows in (("right answers", right), ("mirrored", flipped)):
        counts = [
            int((hand[rows] == word).sum())
            for word in ("as stored", "mirrored", "cannot be told")
        ]
        lines.append(f"| {name} | {counts[0]} | {counts[1]} | {counts[2]} |")
    alike = np.array([one.same_anatomy for one in judged])
    others = np.array([w.split("-")[0] in ("other", "body") for w in way])
    both = right | others
    area = auroc(alike[both], right[both]) if both.any() else math.nan
    lines += [
        "",
        f"Same anatomy: AUROC {area:.3f}; of one person {(alike[right] >= 0.5).sum()} "
        f"of {right.sum()} are called so, of two {(alike[others] < 0.5).sum()} of "
        f"{others.sum()}.",
    ]
    return "\n".join(lines)


def reliability(table: Table) -> list[tuple[float, float, int]]:
    """Say of answers with about the same probability how many are right."""
    chance = np.array([one.probability for one in verdicts(table)])
    right = table["right"] == 1
    # Right and wrong count the same in sum, as the probability is meant.
    share = right.mean()
    weight = np.where(right, 0.5 / share, 0.5 / (1 - share))
    edges = [0, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98, 1.0001]
    points = []
    for low, high in itertools.pairwise(edges):
        some = (chance >= low) & (chance < high)
        if some.any():
            mean = float(weight[some] @ chance[some] / weight[some].sum())
            true = float(weight[some] @ right[some] / weight[some].sum())
            points.append((mean, true, int(some.sum())))
    return points


def draw(path: Path, halves: Mapping[str, Table]) -> None:
    """Draw the reliability diagram."""
    from matplotlib.figure import Figure  # noqa: PLC0415, slow and only needed here

    figure = Figure(figsize=(4.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.7")
    for name, table in halves.items():
        points = np.array(reliability(table))
        axes.plot(points[:, 0], points[:, 1], "o-", label=f"{name} ({len(table)})")
    axes.set(xlabel="said probability", ylabel="share that is right, at even odds")
    axes.legend()
    figure.savefig(path, dpi=120)


def train(args: argparse.Namespace) -> int:
    """Learn from one half, report on the other, and write the model."""
    table = read(args.answers)
    phantom, split = table["source"] == "phantom", table["split"]
    chosen = table.where(phantom & (split == "choose"))
    if not args.report:
        real = table.where(~phantom & (split == "choose"))
        model = learned(chosen, real, args.signals)
        model["trained"]["commit"] = args.commit
    else:
        model = json.loads(args.model.read_text(encoding="utf-8"))
    module._model = lambda: model  # the verdicts below are by this one
    halves = {
        "phantoms to choose on": chosen,
        "phantoms to report": table.where(phantom & (split == "report")),
        "real to choose on": table.where(~phantom & (split == "choose")),
        "real to report": table.where(~phantom & (split == "report")),
    }
    halves = {name: half for name, half in halves.items() if len(half)}
    found = {}
    for name, half in halves.items():
        print(f"\n{name}:\n")
        found[name] = tables(half)
        print("\nreliability (said, true, answers):")
        for point in reliability(half):
            print("  {:.3f} {:.3f} {}".format(*point))
    if not args.report:
        model["figures"] = plain(found)
        args.model.write_text(to_json(model), encoding="utf-8")
    if args.picture is not None:
        draw(args.picture, halves)
    return 0


def learned(chosen: Table, real: Table, given: Sequence[str] = ()) -> Row:
    """Fit all parts of the model to phantoms; real pairs tell how bent scans are."""
    chosen = chosen.where(chosen["way"] != "displaced")  # those are not optima
    right = chosen["right"] == 1
    ways = np.array([way.split("-")[0] for way in chosen["way"]])
    print("right or wrong:")
    parts = {"right": selected(chosen, right, list(DIRECTIONS), given)}
    print("one person or two:")
    alike = chosen.where(right | np.isin(ways, ("other", "body")))
    parts["same_anatomy"] = selected(
        alike, alike["right"] == 1, list(DIRECTIONS), given
    )
    print("as stored or mirrored:")
    hand = chosen.where(right | (ways == "mirrored"))
    parts["as_stored"] = selected(hand, hand["right"] == 1, HANDEDNESS)
    straight = right & ~np.isin(chosen["kind"], DISTORTED)
    return {
        "about": "Numbers of mireg._engine.verdict, made by scripts/verdict_study.py.",
        "trained": {
            "commit": "",
            "answers": len(chosen),
            "right": int(right.sum()),
            "scenes": len(set(chosen["scene"])),
            "kinds": sorted(set(chosen["kind"])),
            "subjects": len(set(chosen["subject"])),
            "ways": {
                way: int((chosen["way"] == way).sum())
                for way in sorted(set(chosen["way"]))
            },
        },
        **parts,
        "error": error_model(
            chosen.where(straight),
            real.where((real["right"] == 1) & (real["way"] == "auto")),
        ),
    }


# --- the command ----------------------------------------------------------------------


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    add = commands.add_parser("make", help="make answers").add_argument
    add("answers", type=Path)
    add("--count", type=int, default=54, help="scenes of phantoms (%(default)s)")
    add("--first", type=int, default=0, help="number of the first scene")
    add("--cases", type=Path, help="real pairs instead, see evaluate.py")
    add("--part", type=int, default=0, help="this one of --of parts of the scenes")
    add("--of", type=int, default=1)
    add("--minutes", type=float, default=math.inf, help="start no scene after so long")
    commands.choices["make"].set_defaults(run=make)
    add = commands.add_parser("train", help="learn and report").add_argument
    add("answers", type=Path, nargs="+")
    add("--report", action="store_true", help="report on the model there is, only")
    add("--model", type=Path, default=MODEL, help="where to write it [the package]")
    add(
        "--signals",
        type=lambda text: text.split(","),
        default=[],
        help="those of right and wrong, with commas [the ones that help most]: for few "
        "answers, from which none can be selected",
    )
    add("--commit", default="", help="of what made the answers, to be written")
    add("--picture", type=Path, help="reliability diagram, PNG")
    commands.choices["train"].set_defaults(run=train)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    args = parse(argv)
    return int(args.run(args))


if __name__ == "__main__":
    sys.exit(main())
