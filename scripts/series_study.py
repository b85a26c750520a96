"""Measure motion correction: error, speed, memory, delay; beside other programs.

    python scripts/series_study.py --kinds bold asl pet dwi --volumes 40 --peers
    python scripts/series_study.py --real BOLD.nii.gz ASL.nii.gz
    python scripts/series_study.py --memory 100 1200
    python scripts/series_study.py --live

The phantom series show one synthetic head in 80 x 80 x 35 voxels of 3 x 3 x 3.3 mm; it
drifts, nods, jumps by 3 mm and in one volume turns by 2 degrees and comes back:

bold    one contrast, Rician noise, the shading of a coil that stays where it is;
asl     inversion recovery: of four delays in turn, so that tissues invert;
slices  slices that are acquired one after the other while the signal recovers, after
        four delays in turn: the lower ones are darker;
pet     uptake that moves from blood to grey matter, and counts that rise tenfold;
dwi     b-values of 0, 500, 1000 and 2000 in turn.

The head is painted once for each contrast, blurred as its scanner does, on voxels of 2
mm, and read by cubic B-splines wherever the head is in each volume.

error     median and maximum over the volumes of the mean distance, over a ball of 70 mm
          radius, from the true motion; a motion that all volumes share is taken out,
          since the mean of a series lies nowhere in particular;
shift, turn   the medians of both parts, mm at the centre of the ball, and degrees;
per s     volumes a second of the whole command, reading included, writing not.

Peers: SimpleITK in a loop (correlation, three resolutions, each volume from the answer
of the last one), ANTs' motion_correction, DIPY's rigid pipeline in a loop and nipy's
SpaceRealign, where they are installed, on the first ``--peer-volumes``; with ``--peers
NAME`` some of them. ``--metrics`` tries least squares (correlation) and the correlation
ratio in the place of mutual information, in the same optimiser.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from measuring import store
from scipy import ndimage

import mireg
from mireg._engine import series as engine
from mireg._transform import RigidTransform
from mireg.phantom import CONTRASTS, TISSUES, Contrast, make_phantom

FloatArray = npt.NDArray[np.float64]
Record = dict[str, Any]

SHAPE = (80, 80, 35)
AFFINE = np.array(
    [[-3, 0, 0, 118.5], [0, 3, 0, -118.5], [0, 0, 3.3, -50], [0, 0, 0, 1.0]]
)

#: T1 (ms) of tissues at 3 T, roughly, for inversion recovery.
T1_MS = dict(
    zip(
        TISSUES,
        (1, 900, 370, 1000, 400, 600, 1700, 4000, 1400, 900, 1100, 4000, 1000),
        strict=True,
    )
)

#: Apparent diffusion (1e-3 mm2/s).
ADC = dict(
    zip(TISSUES, (0, 1, 0.1, 1.5, 0.3, 0.5, 2, 3, 0.8, 0.7, 0.75, 3, 1), strict=True)
)

#: Blur of the voxels themselves, full width at half maximum, mm.
VOXEL_FWHM = 2.6


# --- phantom series -------------------------------------------------------------------


def motion(count: int, seed: int = 1) -> FloatArray:
    """Give scan_from_head of each volume."""
    rng, t = np.random.default_rng(seed), np.arange(count)
    turn, shift = np.zeros((count, 3)), np.zeros((count, 3))
    turn[:, 0] = np.deg2rad(0.8) * np.sin(t / 5)
    turn[:, 2] = np.deg2rad(0.5) * t / count
    shift[:, 2], shift[:, 1] = 0.8 * t / count, 0.4 * np.sin(t / 7)
    shift[count * 5 // 8 :] += [1.5, 2.0, -1.5]  # a jump of 2.9 mm
    shift[count // 3] += [0, 1.0, 2.0]  # a spike
    turn[count // 3, 1] += np.deg2rad(2)
    turn += np.deg2rad(0.03) * rng.standard_normal((count, 3))
    shift += 0.03 * rng.standard_normal((count, 3))
    return np.array(
        [RigidTransform(a, b).matrix for a, b in zip(turn, shift, strict=True)]
    )


def painted(look: Contrast, seed: int) -> tuple[npt.NDArray[np.float32], FloatArray]:
    """Paint a head on voxels of 2 mm, without noise; coefficients, mm_from_ijk."""
    blur = float(np.hypot(look.blur_fwhm_mm, VOXEL_FWHM))
    clean = replace(look, noise_level=0.0, bias=0.0, blur_fwhm_mm=blur)
    image = make_phantom(clean, seed=seed, voxel_size_mm=2.0)
    wide = ndimage.spline_filter(image.data, 3, np.float32, mode="nearest")
    return wide, image.mm_from_ijk


def looks_of(kind: str) -> list[Contrast]:
    """Give the contrasts that a kind of series is made of."""
    epi = CONTRASTS["EPI"]
    if kind in ("bold", "slices"):
        return [epi]
    if kind == "asl":
        delays = (300.0, 700.0, 1400.0, 2500.0)
        return [
            replace(
                epi,
                intensities={
                    tissue: abs(signal * (1 - 2 * np.exp(-delay / T1_MS[tissue])))
                    for tissue, signal in epi.intensities.items()
                },
            )
            for delay in delays
        ]
    if kind == "dwi":
        return [
            replace(
                epi,
                intensities={
                    tissue: signal * np.exp(-b * ADC[tissue])
                    for tissue, signal in epi.intensities.items()
                },
            )
            for b in (0.0, 0.5, 1.0, 2.0)
        ]
    late = CONTRASTS["PET"]
    early = dict.fromkeys(TISSUES, 0.2) | {"blood": 1.0, "air": 0.0, "muscle": 0.4}
    early |= {"grey": 0.6, "deep": 0.6}
    top = max(late.intensities.values())
    return [
        replace(late, intensities={t: top * v for t, v in early.items()}),
        late,
    ]


def shading(seed: int) -> FloatArray:
    """Draw the smooth field of a coil, fixed in the scanner."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.standard_normal(SHAPE), [25, 25, 12])
    return np.exp(0.18 * field / field.std())


def phantom_series(kind: str, count: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """Make a series, (nx, ny, nz, n), and scan_from_head of each volume."""
    poses = motion(count)
    heads = [painted(look, seed) for look in looks_of(kind)]
    ijk = np.indices(SHAPE).reshape(3, -1)
    field, rng = shading(seed), np.random.default_rng(seed)
    volumes = []
    for t, pose in enumerate(poses):
        shares = np.eye(len(heads))[t % len(heads)]
        if kind == "pet":
            late = t / (count - 1)
            shares = np.array([1 - late, late])
        signal = np.zeros(SHAPE)
        for share, (wide, mm_from_fine) in zip(shares, heads, strict=True):
            if share:
                at = np.linalg.inv(pose @ mm_from_fine) @ AFFINE
                signal += share * ndimage.map_coordinates(
                    wide, at[:3, :3] @ ijk + at[:3, 3:], order=3, prefilter=False
                ).reshape(SHAPE)
        signal = signal.clip(0)
        if kind == "pet":
            counts = 0.1 + 0.9 * t / (count - 1)
            level = 0.15 * signal.max() * np.sqrt(signal / signal.max() / counts)
            noise = rng.standard_normal(SHAPE) * level
            volumes.append(signal + ndimage.gaussian_filter(noise, 0.8))
        else:
            signal *= field
            if kind == "slices":
                share = (0, 0.35, 0.65, 0.9)[t // 2 % 4]
                signal *= 1 - share * (1 - np.linspace(0, 1, SHAPE[2])) ** 1.5
            real = signal + 20 * rng.standard_normal(SHAPE)
            volumes.append(np.hypot(real, 20 * rng.standard_normal(SHAPE)))
    return np.stack(volumes, -1).astype(np.float32), poses


def saved(folder: Path, name: str, data: FloatArray) -> Path:
    """Write a series as a scanner does."""
    image = nib.Nifti1Image(data, AFFINE)
    image.header.set_zooms((3, 3, 3.3, 1.5))
    path = folder / f"{name}.nii"
    nib.save(image, path)
    return path


# --- error ----------------------------------------------------------------------------


def ball() -> FloatArray:
    """Give points of a ball of 70 mm."""
    points = np.random.default_rng(0).uniform(-70, 70, (2000, 3))
    return points[np.linalg.norm(points, axis=1) < 70]


def errors(moving_from_fixed: FloatArray, truth: FloatArray) -> dict[str, float]:
    """Compare motions with scan_from_head, up to one motion that all share."""
    head_from_reference = np.linalg.inv(truth) @ moving_from_fixed
    mean = head_from_reference.mean(axis=0)
    left, _, right = np.linalg.svd(mean[:3, :3])
    mean[:3, :3] = left @ right
    rest = np.linalg.inv(mean) @ head_from_reference
    points = ball()
    away = np.einsum("nij,pj->npi", rest[:, :3, :3], points) + rest[:, None, :3, 3]
    mean_mm = np.linalg.norm(away - points, axis=2).mean(axis=1)
    cosine = (np.trace(rest[:, :3, :3], axis1=1, axis2=2) - 1) / 2
    return {
        "median_mm": float(np.median(mean_mm)),
        "max_mm": float(mean_mm.max()),
        "shift_mm": float(np.median(np.linalg.norm(rest[:, :3, 3], axis=1))),
        "turn_deg": float(np.median(np.rad2deg(np.arccos(cosine.clip(-1, 1))))),
    }


# --- who registers --------------------------------------------------------------------


def ours(path: Path, count: int) -> tuple[FloatArray, Record]:
    """Register with mireg."""
    del count
    found = mireg.register_series(path)
    return found.moving_from_fixed, {
        "reference": found.kind,
        "doubted": int(found.doubted.sum()),
        "searched": int(found.searched.sum()),
        "standard_error_mm": float(np.median(found.standard_error_mm)),
        "seconds": found.seconds,
    }


def by_simpleitk(path: Path, count: int) -> tuple[FloatArray, Record]:
    """Register with SimpleITK, volume by volume, to the middle one."""
    import SimpleITK as sitk  # noqa: PLC0415, N813  # a peer, and may be missing

    image = nib.load(path)
    lps = np.diag([-1.0, -1, 1, 1])

    def as_itk(t: int) -> Any:
        data = np.asarray(image.dataobj[..., t], np.float32)
        made = sitk.GetImageFromArray(data.T)
        affine = lps @ image.affine
        size = np.linalg.norm(affine[:3, :3], axis=0)
        made.SetSpacing(size.tolist())
        made.SetDirection((affine[:3, :3] / size).ravel().tolist())
        made.SetOrigin(affine[:3, 3].tolist())
        return made

    fixed, last = as_itk(count // 2), sitk.Euler3DTransform()
    matrices = []
    for t in range(count):
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsCorrelation()
        method.SetInterpolator(sitk.sitkLinear)
        method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-4, 200)
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetShrinkFactorsPerLevel([4, 2, 1])
        method.SetSmoothingSigmasPerLevel([2, 1, 0])
        method.SetInitialTransform(sitk.Euler3DTransform(last), inPlace=False)
        found = method.Execute(fixed, as_itk(t))
        last = sitk.Euler3DTransform(sitk.CompositeTransform(found).GetBackTransform())
        matrix = np.eye(4)
        matrix[:3, :3] = np.reshape(last.GetMatrix(), (3, 3))
        centre = np.array(last.GetCenter())
        matrix[:3, 3] = last.GetTranslation() + centre - matrix[:3, :3] @ centre
        matrices.append(lps @ matrix @ lps)
    return np.array(matrices), {}


def by_ants(path: Path, count: int) -> tuple[FloatArray, Record]:
    """Register with ANTs' motion_correction, to the middle volume."""
    import ants  # noqa: PLC0415  # a peer, and may be missing

    with tempfile.TemporaryDirectory() as folder:
        short = Path(folder) / "short.nii"
        nib.save(nib.load(path).slicer[..., :count], short)
        series = ants.image_read(str(short))
        fixed = ants.slice_image(series, axis=3, idx=count // 2)
        found = ants.motion_correction(
            series, fixed=fixed, type_of_transform="Rigid", outprefix=f"{folder}/m"
        )
        matrices = []
        for held in found["motion_parameters"]:
            name = held if isinstance(held, str) else held[0]
            matrices.append(mireg.read_transform(name, format="itk").matrix)
    return np.array(matrices), {}


def by_dipy(path: Path, count: int) -> tuple[FloatArray, Record]:
    """Register with DIPY (mutual information), to the middle volume."""
    from dipy.align import affine_registration  # noqa: PLC0415  # may be missing

    image = nib.load(path)
    data = np.asarray(image.dataobj[..., :count], np.float32)
    matrices, last = [], np.eye(4)
    for t in range(count):
        _, last = affine_registration(
            data[..., t],
            data[..., count // 2],
            moving_affine=image.affine,
            static_affine=image.affine,
            pipeline=["translation", "rigid"],
            starting_affine=last,
            level_iters=[1000, 100],
            sigmas=[1.0, 0.0],
            factors=[2, 1],
        )
        matrices.append(last)
    return np.array(matrices), {}


def by_nipy(path: Path, count: int) -> tuple[FloatArray, Record]:
    """Register with nipy's realignment (least squares), slices taken at once."""
    import nipy  # noqa: PLC0415  # a peer, and may be missing
    from nipy.algorithms.registration.groupwise_registration import (  # noqa: PLC0415
        SpaceRealign,
    )

    image = nib.load(path)
    series = nib.Nifti1Image(
        np.asarray(image.dataobj[..., :count], np.float32), image.affine
    )
    realign = SpaceRealign(nipy.io.nifti_ref.nifti2nipy(series))
    realign.estimate(refscan=count // 2, loops=2, between_loops=None)
    return np.array([one.as_affine() for one in realign._transforms[0]]), {}


PEERS = {
    "SimpleITK": by_simpleitk,
    "ANTs": by_ants,
    "DIPY": by_dipy,
    "nipy": by_nipy,
}


# --- other metrics --------------------------------------------------------------------


def correlation(histogram: FloatArray) -> tuple[float, FloatArray]:
    """Squared correlation: least squares up to scale and offset."""
    total = histogram.sum()
    rows = np.arange(histogram.shape[0])[:, None]
    columns = np.arange(histogram.shape[1])[None]
    x = rows - (histogram * rows).sum() / total
    y = columns - (histogram * columns).sum() / total
    a, b, c = ((histogram * part).sum() / total for part in (x * y, x * x, y * y))
    score = a * a / (b * c)
    slopes = 2 * a * (x * y - a) / (b * c) - score * ((x * x - b) / b + (y * y - c) / c)
    return float(score), slopes / total


def correlation_ratio(histogram: FloatArray) -> tuple[float, FloatArray]:
    """Share of the variance of the reference that the volume's intensity explains."""
    total = histogram.sum()
    columns = np.arange(histogram.shape[1])[None]
    y = columns - (histogram * columns).sum() / total
    row = histogram.sum(axis=1, keepdims=True)
    mean = (histogram * y).sum(axis=1, keepdims=True) / np.maximum(row, 1e-9)
    between = (row * mean**2).sum() / total
    variance = (histogram * y * y).sum() / total
    score = between / variance
    slopes = 2 * y * mean - mean**2 - between - score * (y * y - variance)
    return float(score), slopes / variance / total


METRICS: dict[str, Callable[..., Any]] = {
    "correlation": correlation,
    "correlation ratio": correlation_ratio,
}


@contextmanager
def instead(metric: Callable[..., Any]) -> Iterator[None]:
    """Put another metric in the place of mutual information."""
    kept = engine.metric_at
    engine.metric_at = lambda _level, _name: metric
    try:
        yield
    finally:
        engine.metric_at = kept


# --- what is measured -----------------------------------------------------------------


def one_run(
    name: str,
    register: Callable[[Path, int], tuple[FloatArray, Record]],
    path: Path,
    truth: FloatArray,
) -> Record:
    """Register one series, and measure."""
    began, cpu = time.perf_counter(), time.process_time()
    found, more = register(path, len(truth))
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {
        "who": name,
        "volumes": len(truth),
        **errors(found, truth),
        "per_s": len(truth) / wall,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "cpu_s_per_volume": cpu / len(truth),
        **more,
    }


def study_phantoms(args: argparse.Namespace) -> list[Record]:
    """Run all kinds of phantom series."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in args.kinds:
            data, truth = phantom_series(kind, args.volumes, args.seed)
            path = saved(Path(folder), kind, data)
            ours(path, 0)  # compiles
            todo = [("mireg", ours, len(truth))]
            if args.peers is not None:
                fewer = min(args.peer_volumes, len(truth))
                todo += [(name, PEERS[name], fewer) for name in args.peers or PEERS]
            for name, register, count in todo:
                row = {"kind": kind, **one_run(name, register, path, truth[:count])}
                rows.append(row)
                say(row)
            for name, metric in METRICS.items() if args.metrics else ():
                with instead(metric):
                    row = {"kind": kind, **one_run(name, ours, path, truth)}
                rows.append(row)
                say(row)
    return rows


def say(row: Record) -> None:
    """Print one row."""
    print(
        f"{row['kind']:6} {row['who']:18} {row['volumes']:4d} volumes  "
        f"error {row['median_mm']:.3f} (at most {row['max_mm']:.3f}) mm  "
        f"shift {row['shift_mm']:.3f} mm  turn {row['turn_deg']:.3f} deg  "
        f"{row['per_s']:.1f} per s, cpu {row['cpu_s_per_volume']:.3f} s",
        flush=True,
    )


def temporal_snr(volumes: FloatArray, head: npt.NDArray[np.bool_]) -> float:
    """Median over the head of mean over standard deviation, drifts taken out."""
    course = volumes[head].astype(np.float64)
    t = np.linspace(-1, 1, course.shape[1])
    design = np.stack([np.ones_like(t), t, t**2])
    rest = course - course @ np.linalg.pinv(design) @ design
    spread = rest.std(axis=1)
    seen = np.isfinite(spread) & (spread > 0)
    return float(np.median(course.mean(axis=1)[seen] / spread[seen]))


def study_real(args: argparse.Namespace) -> list[Record]:
    """Temporal SNR before and after, of real series."""
    rows = []
    for name in args.real:
        image = nib.load(name)
        before = np.asarray(image.dataobj, np.float32)
        found = mireg.register_series(name)
        after = np.stack([one.data for one in found.volumes()], -1)
        reference = found.reference
        head = reference.scale.is_foreground(reference.image.data)
        head &= np.isfinite(after).all(axis=-1)
        table = found.confounds()
        row = {
            "series": Path(name).name,
            "volumes": before.shape[3],
            "reference": found.kind,
            "tsnr_before": temporal_snr(before, head),
            "tsnr_after": temporal_snr(after, head),
            "mean_fd_mm": float(np.nanmean(table["framewise_displacement"])),
            "max_fd_mm": float(np.nanmax(table["framewise_displacement"])),
            "standard_error_mm": float(np.median(found.standard_error_mm)),
            "doubted": np.flatnonzero(found.doubted).tolist(),
            "seconds": found.seconds,
        }
        if args.peers is not None:
            matrices, _ = by_simpleitk(Path(name), before.shape[3])
            moved = [
                mireg.resample(
                    (before[..., t], image.affine),
                    reference.image,
                    matrix,
                    interpolation="cubic",
                ).data
                for t, matrix in enumerate(matrices)
            ]
            row["tsnr_after_simpleitk"] = temporal_snr(np.stack(moved, -1), head)
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def study_memory(args: argparse.Namespace) -> list[Record]:
    """Peak memory of `mireg series` for series of several lengths, 96 x 96 x 60."""
    rows = []
    wide, mm_from_fine = painted(CONTRASTS["EPI"], args.seed)
    shape, affine = (96, 96, 60), AFFINE @ np.diag([80 / 96, 80 / 96, 35 / 60, 1])
    at = np.linalg.inv(mm_from_fine) @ affine
    points = at[:3, :3] @ np.indices(shape).reshape(3, -1) + at[:3, 3:]
    head = ndimage.map_coordinates(wide, points, order=3, prefilter=False)
    rng = np.random.default_rng(0)
    some = [
        np.hypot(head + 20 * rng.standard_normal(head.shape), 20.0).astype("<i2")
        for _ in range(4)
    ]
    for count in args.memory:
        with tempfile.TemporaryDirectory() as folder:
            header = nib.Nifti1Header()
            header.set_data_dtype(np.int16)
            header.set_data_shape((*shape, count))
            header.set_sform(affine, 1)
            header["magic"], header["vox_offset"] = b"n+1", 352
            path = Path(folder) / "long.nii"
            with path.open("wb") as file:
                file.write(header.binaryblock + bytes(4))
                for t in range(count):
                    volume = some[t % 4].reshape(shape)
                    file.write(volume.tobytes(order="F"))
            out = str(Path(folder) / "moved.nii")
            code = (
                "import resource, sys; from mireg.cli import main; "
                "code = main(sys.argv[1:]); "
                "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); "
                "sys.exit(code)"
            )
            began = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", code, "series", str(path), "-q", "-o", out],
                capture_output=True,
                text=True,
                check=True,
            )
            row = {
                "volumes": count,
                "peak_mb": int(done.stdout.split()[-1]) / 1024,
                "file_mb": path.stat().st_size / 2**20,
                "wall_s": time.perf_counter() - began,
            }
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def study_live(args: argparse.Namespace) -> list[Record]:
    """Delay from a volume to its pose."""
    data, truth = phantom_series("bold", args.volumes, args.seed)
    live = mireg.SeriesRegistration((data[..., 0], AFFINE))
    found = [live.add((data[..., t], AFFINE)) for t in range(len(truth))]
    seconds = np.array([one.seconds for one in found])
    matrices = np.array([one.transform.matrix for one in found])
    row = {
        "volumes": len(truth),
        **errors(matrices, truth),
        "delay_median_s": float(np.median(seconds)),
        "delay_max_s": float(seconds.max()),
    }
    print(json.dumps(row), flush=True)
    return [row]


def main(argv: list[str] | None = None) -> int:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", nargs="*", default=[], choices=tuple(KINDS))
    parser.add_argument("--volumes", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--peers", nargs="*", choices=tuple(PEERS), metavar="NAME")
    parser.add_argument("--peer-volumes", type=int, default=12)
    parser.add_argument("--metrics", action="store_true")
    parser.add_argument("--real", nargs="*", default=[], metavar="SERIES")
    parser.add_argument("--memory", nargs="*", type=int, default=[], metavar="N")
    parser.add_argument("--live", action="store_true")
    parser.add_argument("-o", "--output", type=Path, metavar="JSON")
    args = parser.parse_args(argv)
    record: Record = {"argv": sys.argv[1:] if argv is None else argv}
    if args.kinds:
        record["phantoms"] = study_phantoms(args)
    if args.real:
        record["real"] = study_real(args)
    if args.memory:
        record["memory"] = study_memory(args)
    if args.live:
        record["live"] = study_live(args)
    record["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if args.output is not None:
        store(args.output, record)
    return 0


KINDS = ("bold", "asl", "slices", "pet", "dwi")


if __name__ == "__main__":
    sys.exit(main())
