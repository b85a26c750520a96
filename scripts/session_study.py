"""Sessions of phantoms with known truth: all pairs together against each by itself.

    python scripts/session_study.py --sessions 10
    python scripts/session_study.py --sessions 100 --size-mm 5 --spoil all
    python scripts/session_study.py --cases CASES.json
    python scripts/session_study.py --summary sessions.json

Each session is six scans of one head, in five contrasts, at random poses. Printed are
the errors of the poses against the truth, of the pairs with the first image by
themselves and of all pairs together, and how far loops through three images are open.
With ``--spoil`` one image is of another head, or mirrored, or each of the 15 pairs in
turn is put 20 mm off, and how often that is named is counted. Of one head, sessions
differ in one image: a pair that is in several is registered once.

With ``--cases`` the sessions are those of the patients of a case file (see evaluate.py)
who have three images or more, and the errors those of its pairs, against its reference,
in root mean square over the foreground of the fixed image.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
from measuring import distances, foreground_points, subject_of

from mireg import Image, MiregWarning, RigidTransform, prepare, register_session
from mireg import _session as session_module
from mireg.phantom import phantom_pair

KINDS = ("T1", "T2", "PD", "FLAIR", "EPI", "T1")

#: Corners and centre of a box the size of a head, RAS+ mm.
BOX = (np.indices((3, 3, 3)).reshape(3, -1).T / 2 - 0.5) * [130.0, 160.0, 130.0]


SPOILED = ("stranger", "mirrored", "pair")


class Sessions:
    """Sessions of one head, alike but for what is spoiled."""

    def __init__(self, seed, size_mm):
        rng = np.random.default_rng([seed, 0x5E55])
        self.seed, self.size_mm = seed, size_mm
        self.poses = [
            RigidTransform(rng.normal(0, 0.1, 3), rng.normal(0, 8, 3)) for _ in KINDS
        ]
        self.odd = int(rng.integers(1, len(KINDS)))
        self.forced = 0  # the pair that is put off
        self.prepared = [prepare(self.scan(k)) for k in range(len(KINDS))]
        self.known = {}

    @property
    def truth(self):
        """Give ``image_from_first``."""
        return [pose @ ~self.poses[0] for pose in self.poses]

    def scan(self, k, other=0):
        """Scan the head, or another one: noise and head are drawn by seed."""
        return phantom_pair(
            "T1",
            KINDS[k],
            seed=self.seed + other,
            pose=self.poses[k],
            fixed_voxel_size_mm=self.size_mm,
            moving_voxel_size_mm=self.size_mm,
        ).moving

    def images(self, spoil):
        """Give the images, one of them spoiled."""
        images, odd = list(self.prepared), self.odd
        if spoil == "stranger":
            images[odd] = prepare(self.scan(odd, other=1000))
        if spoil == "mirrored":
            scan = images[odd].image
            images[odd] = prepare(Image(scan.data[::-1].copy(), scan.mm_from_ijk))
        return images

    def register(self, spoil):
        """Register a session; a pair that was registered before is taken from there."""
        register, count = session_module._registered, itertools.count()

        def remembered(fixed, moving, settings):
            key = id(fixed), id(moving)
            if key not in self.known:  # which keeps both images alive
                self.known[key] = fixed, moving, register(fixed, moving, settings)
            found = self.known[key][2]
            if spoil == "pair" and next(count) == self.forced:
                rng = np.random.default_rng([self.seed, 2, self.forced])
                shift = rng.normal(size=3)
                off = RigidTransform([0, 0, 0], 20 * shift / np.linalg.norm(shift))
                found = replace(found, transform=off @ found.transform)
            return found

        session_module._registered = remembered
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", MiregWarning)
                return register_session(self.images(spoil))
        finally:
            session_module._registered = register


def rms(transform, truth, points):
    return float(np.sqrt(np.square(transform.displacements(points, truth)).mean()))


def loops_mm(found, points):
    """How far each loop through three images is open, by the pairs themselves."""
    pair = {(p.fixed, p.moving): p.moving_from_fixed for p in found.pairs}
    return [
        rms(~pair[i, k] @ pair[j, k] @ pair[i, j], None, points)
        for i, j, k in itertools.combinations(range(len(found.images)), 3)
    ]


def study(sessions, spoil):
    began = time.process_time()
    found = sessions.register(spoil)
    odd, points, truth = sessions.odd, BOX, sessions.truth
    good = [k for k in range(1, len(KINDS)) if spoil in ("none", "pair") or k != odd]
    alone = {p.moving: p.moving_from_fixed for p in found.pairs if p.fixed == 0}
    others = [n for n in found.warnings if f"image{odd + 1} " not in n]
    if spoil == "pair":
        out = [k for k, pair in enumerate(found.pairs) if not pair.used]
        named, others = sessions.forced in out, out[1:]
    elif spoil == "none":
        named, others = False, found.warnings
    else:
        named = odd in found.strangers
    return {
        "seed": sessions.seed,
        "size_mm": sessions.size_mm,
        "spoil": spoil,
        "alone_mm": [rms(alone[k], truth[k], points) for k in good],
        "together_mm": [rms(found.transforms[k], truth[k], points) for k in good],
        "expected_mm": [float(found.errors_mm[k]) for k in good],
        "loops_mm": loops_mm(found, points),
        "named": named,
        "others_named": len(others),
        "odd": odd,
        "notes": list(found.warnings),
        "pairs": found.to_dict()["pairs"],
        "cpu_s": time.process_time() - began,
    }


def real_sessions(path):
    """Give the images and the cases of each patient of a case file."""
    patients = {}
    for case in json.loads(path.read_text(encoding="utf-8")):
        patients.setdefault(subject_of(case), []).append(case)
    for patient, cases in patients.items():
        names = dict.fromkeys(
            case[role] for case in cases for role in ("fixed", "moving")
        )
        if len(names) > 2:
            yield patient, [path.parent / name for name in names], cases


def real_session(patient, files, cases, root):
    """Register all images of a patient; compare with the references of its pairs."""
    found = register_session(files)
    place = {file: k for k, file in enumerate(files)}
    pairs = {(p.fixed, p.moving): p.moving_from_fixed for p in found.pairs}
    pairs |= {(moving, fixed): ~pair for (fixed, moving), pair in pairs.items()}
    print(f"{patient}: {len(files)} images, {len(found.pairs)} pairs", flush=True)
    rows = []
    for case in cases:
        fixed, moving = (place[root / case[role]] for role in ("fixed", "moving"))
        together = found.transforms[moving] @ ~found.transforms[fixed]
        points = foreground_points(found.images[fixed])
        truth = np.array(case["moving_from_fixed"])
        ways = pairs[fixed, moving].matrix, together.matrix
        errors = [
            np.square(distances(way, truth, points)).mean() ** 0.5 for way in ways
        ]
        rows.append([*errors, case["reference_uncertainty_mm"]])
        print(f"  {case['id']:28} alone {errors[0]:.3f}  together {errors[1]:.3f} mm")
    loops = loops_mm(found, foreground_points(found.images[0]))
    root = np.sqrt(np.square(loops).mean())
    worst = max(pair.residual_mm for pair in found.pairs)
    print(f"  loops rms {root:.3f}, largest {max(loops):.3f}; residuals {worst:.3f} mm")
    print("\n".join(f"  {note}" for note in found.warnings or ["no notes"]))
    return rows


def summary(rows):
    """Print what was found of sessions that are spoiled alike."""

    def all_of(name):
        return np.array([value for row in rows for value in row[name]])

    spoil = rows[0]["spoil"]
    print(f"{len(rows)} sessions of {len(KINDS)} images, spoiled: {spoil}")
    for name in ("alone_mm", "together_mm", "expected_mm", "loops_mm"):
        values = all_of(name)
        root = np.sqrt(np.square(values).mean())
        print(
            f"  {name:12} rms {root:.4f}  median {np.median(values):.4f}  "
            f"largest {values.max():.4f}"
        )
    ratio = np.sqrt(
        np.square(all_of("together_mm")).mean() / np.square(all_of("alone_mm")).mean()
    )
    print(f"  together against alone: {ratio:.2f}")
    named = sum(row["named"] for row in rows)
    wrongly = sum(row["others_named"] > 0 for row in rows)
    found = "" if spoil == "none" else f"named: {named} of {len(rows)}; "
    print(f"  {found}another one named: {wrongly}")
    print(f"  processor seconds, median: {np.median([r['cpu_s'] for r in rows]):.1f}")


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the first session")
    parser.add_argument("--size-mm", type=float, default=4.0)
    parser.add_argument("--spoil", choices=[*SPOILED, "all"], help="all: none, too")
    parser.add_argument("--json", metavar="FILE", help="append a line a session")
    parser.add_argument("--cases", type=Path, help="sessions of real patients instead")
    parser.add_argument("--summary", nargs="+", metavar="FILE", help="such lines again")
    args = parser.parse_args(argv)
    rows = []
    if args.cases is not None:
        for patient, files, cases in real_sessions(args.cases):
            rows += real_session(patient, files, cases, args.cases.parent)
        alone, together, reference = np.sqrt(np.square(rows).mean(axis=0))
        print(
            f"{len(rows)} pairs, rms mm: alone {alone:.3f}, together {together:.3f}; "
            f"the references are good to {reference:.3f}"
        )
        return
    for name in args.summary or ():
        with open(name, encoding="utf-8") as file:
            rows += [json.loads(line) for line in file]
    kinds = ("none", *SPOILED) if args.spoil == "all" else (args.spoil or "none",)
    for seed in () if args.summary else range(args.seed, args.seed + args.sessions):
        sessions = Sessions(seed, args.size_mm)
        for spoil in kinds:
            for sessions.forced in range(15 if spoil == "pair" else 1):
                rows.append(study(sessions, spoil))
                if args.json:
                    with open(args.json, "a", encoding="utf-8") as file:
                        print(json.dumps(rows[-1]), file=file)
    for spoil in dict.fromkeys(row["spoil"] for row in rows):
        summary([row for row in rows if row["spoil"] == spoil])


if __name__ == "__main__":
    main()
