"""Sessions of phantoms with known truth: all pairs together against each by itself.

    python scripts/session_study.py --sessions 10
    python scripts/session_study.py --spoil stranger --sessions 100

Each session is six scans of one head, in five contrasts, at random poses. Printed are
the errors of the poses against the truth, of the pairs with the first image by
themselves and of all pairs together, and how far loops through three images are open.
With ``--spoil`` one image is of another head, or mirrored, or one pair is put 20 mm
off, and how often that is named is counted.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
import warnings

import numpy as np

from mireg import Image, MiregWarning, RigidTransform, prepare, register_session
from mireg import _session as session_module
from mireg.phantom import phantom_pair

KINDS = ("T1", "T2", "PD", "FLAIR", "EPI", "T1")

#: Corners and centre of a box the size of a head, RAS+ mm.
BOX = (np.indices((3, 3, 3)).reshape(3, -1).T / 2 - 0.5) * [130.0, 160.0, 130.0]


def make_session(seed, size_mm, spoil):
    """Make six scans and the truth, ``image_from_first``."""
    rng = np.random.default_rng([seed, 0x5E55])
    poses = [RigidTransform(rng.normal(0, 0.1, 3), rng.normal(0, 8, 3)) for _ in KINDS]
    odd = int(rng.integers(1, len(KINDS)))
    scans = []
    for k, (kind, pose) in enumerate(zip(KINDS, poses, strict=True)):
        # Noise and head are drawn by seed: scans of one head need its seed.
        other = 1000 if spoil == "stranger" and k == odd else 0
        scan = phantom_pair(
            "T1",
            kind,
            seed=seed + other,
            pose=pose,
            fixed_voxel_size_mm=size_mm,
            moving_voxel_size_mm=size_mm,
        ).moving
        if spoil == "mirrored" and k == odd:
            scan = Image(scan.data[::-1].copy(), scan.mm_from_ijk)
        scans.append(scan)
    return scans, [pose @ ~poses[0] for pose in poses], odd


def rms(transform, truth, points):
    return float(np.sqrt(np.square(transform.displacements(points, truth)).mean()))


def loops_mm(found, points):
    """How far each loop through three images is open, by the pairs themselves."""
    pair = {(p.fixed, p.moving): p.moving_from_fixed for p in found.pairs}
    return [
        rms(~pair[i, k] @ pair[j, k] @ pair[i, j], None, points)
        for i, j, k in itertools.combinations(range(len(found.images)), 3)
    ]


def study(seed, args):
    scans, truth, odd = make_session(seed, args.size_mm, args.spoil)
    forced = None
    if args.spoil == "pair":
        register, count = session_module._registered, itertools.count()
        rng = np.random.default_rng([seed, 1])
        forced = int(rng.integers(15))
        shift = rng.normal(size=3)
        off = RigidTransform([0, 0, 0], 20 * shift / np.linalg.norm(shift))

        def spoiled(*given):
            found = register(*given)
            if next(count) == forced:
                object.__setattr__(found, "transform", off @ found.transform)
            return found

        session_module._registered = spoiled
    began = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MiregWarning)
            found = register_session([prepare(scan) for scan in scans])
    finally:
        if args.spoil == "pair":
            session_module._registered = register
    points = BOX
    good = [k for k in range(1, len(scans)) if args.spoil in (None, "pair") or k != odd]
    alone = {p.moving: p.moving_from_fixed for p in found.pairs if p.fixed == 0}
    if args.spoil == "pair":
        out = [k for k, pair in enumerate(found.pairs) if not pair.used]
        named = out == [forced]
    else:
        named = any(f"image{odd + 1} " in note for note in found.warnings)
    others = [
        note for note in found.warnings if args.spoil and f"image{odd + 1} " not in note
    ]
    return {
        "seed": seed,
        "alone_mm": [rms(alone[k], truth[k], points) for k in good],
        "together_mm": [rms(found.transforms[k], truth[k], points) for k in good],
        "expected_mm": [float(found.errors_mm[k]) for k in good],
        "loops_mm": loops_mm(found, points),
        "named": named,
        "others_named": len(others),
        "odd": odd,
        "notes": list(found.warnings),
        "pairs": found.to_dict()["pairs"],
        "seconds": time.perf_counter() - began,
    }


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the first session")
    parser.add_argument("--size-mm", type=float, default=4.0)
    parser.add_argument("--spoil", choices=["stranger", "mirrored", "pair"])
    parser.add_argument("--json", metavar="FILE", help="append a line a session")
    args = parser.parse_args(argv)
    rows = []
    for seed in range(args.seed, args.seed + args.sessions):
        rows.append(study(seed, args))
        if args.json:
            with open(args.json, "a", encoding="utf-8") as file:
                print(json.dumps(rows[-1]), file=file)

    def all_of(name):
        return np.array([value for row in rows for value in row[name]])

    print(f"{len(rows)} sessions of {len(KINDS)} images, {args.size_mm:g} mm voxels")
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
    if args.spoil:
        named = sum(row["named"] for row in rows)
        wrongly = sum(row["others_named"] > 0 for row in rows)
        print(f"  named: {named} of {len(rows)}; another one named: {wrongly}")
    print(f"  seconds a session: {np.median([row['seconds'] for row in rows]):.1f}")


if __name__ == "__main__":
    main()
