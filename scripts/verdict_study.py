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
    outside   the same from 25 to 60 mm and up to 60 degrees off, as a header may be
    runner-up the same from the best pose elsewhere
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
import json
import math
import sys
import time
import zlib
from collections.abc import Callable, Iterator
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
    ready,
    split_of,
    subject_of,
)
from scipy import ndimage

from mireg import _parameters as parameters
from mireg._errors import InputError
from mireg._image import Image
from mireg._register import Task, best_answer, judge, opened
from mireg._settings import Settings
from mireg.phantom import KINDS, hard_pair, random_pose

FloatArray = npt.NDArray[np.float64]
Row = dict[str, Any]

SETTINGS = Settings(threads=1)
#: Kinds whose EPI are bent, of which no rigid answer is right everywhere.
DISTORTED = ("epi-lr", "epi-rl", "epi-both")
#: Voxels are so much larger than those of the kinds.
SCALE = {"slices": 1.0, "slab": 1.5, "mouse": 1.5, "spect": 1.2, "pet": 1.5}
USUAL_SCALE = 2.0
#: What a row says besides the signals.
ABOUT = (
    *("id", "source", "kind", "subject", "split", "way", "degraded"),
    *("right", "same", "mirrored", "error_mm", "tolerance_mm", "voxel_mm"),
    *("standard_error_mm", "searched", "probability", "cpu_seconds"),
)


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
        kind = kinds[n % len(kinds)]
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
    mirrored: bool = False


def answers(scene: Scene, others: dict[str, Scene]) -> Iterator[Row]:
    """Make all answers of a scene; `others` are the last scenes by body and split."""
    pair, truth = scene.pair, scene.pair.moving_from_fixed
    points = pair.points
    assert points is not None
    rng = np.random.default_rng([zlib.crc32(scene.id.encode()), 0xA])
    way = partial(Way, fixed=pair.fixed)
    own = partial(way, moving=pair.moving, truth=truth)
    task = open_task(own("", start=None))
    row, elsewhere = answer(scene, own("auto", start=None), task)
    yield row
    for pose in elsewhere:
        yield answer(scene, own("runner-up", start=pose), task)[0]
    near = displaced(truth, points, rng, (2, 8), 6)
    yield answer(scene, own("near", start=near), task)[0]
    for _ in range(2):
        off = displaced(truth, points, rng, (25, 60), 60)
        yield answer(scene, own("outside", start=off), task)[0]

    def crossed(
        name: str, fixed: Image, moving: Image, start: FloatArray
    ) -> Iterator[Row]:
        begin = displaced(start, points, rng, (1, 4), 4)
        here = Way(name, fixed, moving, begin, None, name == "mirrored")
        task = open_task(here)
        yield answer(scene, here, task)[0]
        if rng.random() < 0.2:
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


def answer(scene: Scene, way: Way, task: Task) -> tuple[Row, list[FloatArray]]:
    """Find one answer: a row, and the best poses elsewhere."""
    began = time.process_time()
    pair = task.pair
    start = None if way.start is None else pair.engine_pose(way.start)
    outcome = best_answer(task, start)
    found, fits = outcome.answer, outcome.fits
    judged = judge(task, outcome)
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
    return row, elsewhere[:1]


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
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    args = parse(argv)
    return int(args.run(args))


if __name__ == "__main__":
    sys.exit(main())
