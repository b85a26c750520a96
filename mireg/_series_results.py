# nibabel has no types:
# mypy: disallow-untyped-calls=False
"""The files of a series: moved volumes, transforms, the table of motion, a picture."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from . import _confounds
from ._confounds import Signals, Thresholds
from ._errors import InputError, OutputExistsError, not_written
from ._files import nifti
from ._files.records import json_number, to_json
from ._files.series.names import SeriesFiles
from ._files.series.reader import Series
from ._files.transforms.common import Images
from ._files.transforms.series import fsl_matrices, fsl_motion, series_content
from ._files.writing import check_new, new_file, new_files
from ._image import Image
from ._moved import Output
from ._prepare import PreparedImage
from ._resample import fill_value, resample
from ._series_picture import series_picture
from ._threads import available, shared
from ._transform import as_transform

FloatArray = npt.NDArray[np.float64]

#: Layout of the record.
SCHEMA = "mireg-series/1"

#: Names of the files in our folders.
_OURS = r"MAT_\d+|\d+\.lta"

#: Volumes that are moved side by side.
_AT_ONCE = 4


def moved_volumes(
    series: Series,
    moving_from_fixed: FloatArray,
    grid: Image,
    output: Output,
    threads: int | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> Iterator[Image]:
    """Bring volumes onto a grid, one after the other; NaN where nothing is seen."""
    threads = threads or available()
    block: list[tuple[Image, FloatArray]] = []

    def move(job: tuple[Image, FloatArray]) -> Image:
        volume, matrix = job
        return resample(
            volume,
            grid,
            matrix,
            interpolation=output.interpolation,
            antialias=output.antialias,
            threads=1,
        )

    count = len(series)
    for number, volume in enumerate(series):
        block.append((volume, moving_from_fixed[number]))
        if len(block) == max(_AT_ONCE, threads) or number == count - 1:
            yield from shared(move, block, threads)
            block = []
            if progress is not None:
                progress("write", (number + 1) / count)


def seen_by(signals: Signals, volumes: Iterable[Image]) -> Iterator[Image]:
    """Let signals take each volume that goes by."""
    for volume in volumes:
        signals.add(volume.data)
        yield volume


def filled(volumes: Iterable[Image], fill: float) -> Iterator[Image]:
    """Write a value where nothing is seen."""
    for volume in volumes:
        missing = np.isnan(volume.data)
        if np.isnan(fill) or not missing.any():
            yield volume
        else:
            data = np.where(missing, np.float32(fill), volume.data)
            yield Image(data, volume.mm_from_ijk)


def dump_moved(
    file: BinaryIO,
    path: Path,
    series: Series,
    moving_from_fixed: FloatArray,
    fixed: Image,
    output: Output,
    *,
    space: int = 2,
    threads: int | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> None:
    """Write a series, each volume moved by a transform of its own, into an open file.

    Raises
    ------
    InputError
        If there are not as many transforms as volumes.
    """
    if len(moving_from_fixed) != len(series):
        raise InputError(
            f"{series.name}: has {len(series)} volumes, and there are "
            f"{len(moving_from_fixed)} transforms; give one for each volume, or one "
            "for all"
        )
    grid = output._on_grid(series.grid(), fixed, as_transform(moving_from_fixed[0]))
    volumes = moved_volumes(series, moving_from_fixed, grid, output, threads, progress)
    fill = output.fill
    if fill is None:
        fill = fill_value(next(series.read([0])))
    nifti.dump_image(
        file,
        path,
        filled(volumes, fill),
        template=series.opened,
        count=len(series),
        stored=output._stored(series.opened),
        space=space,
        threads=threads,
    )


def write(
    files: SeriesFiles,
    *,
    series: Series,
    reference: PreparedImage,
    moving_from_fixed: FloatArray,
    standard_error_mm: FloatArray,
    doubted: npt.NDArray[np.bool_],
    to: tuple[Image, FloatArray] | None,
    record: dict[str, Any],
    output: Output,
    radius_mm: float,
    thresholds: Thresholds,
    threads: int | None,
    force: bool,
    progress: Callable[[str, float], None] | None,
) -> dict[str, FloatArray]:
    """Write all files of a series, or none; give the columns of the table.

    Parameters
    ----------
    files : SeriesFiles
        Where to write.
    series, reference, moving_from_fixed, standard_error_mm, doubted
        As in `SeriesMotion`.
    to : (Image, (4, 4) array), optional
        Another image, and the map from its points to those of the reference.
    record : dict
        What else to say in the record.
    output, radius_mm, thresholds, threads, force, progress
        As for `SeriesMotion.save`.
    """
    for path in files.single:
        check_new(path, force=force)
    for path in files.folders:
        _check_folder(path, force=force)
    onto, reference_from_to = to or (reference.image, np.eye(4))
    moving_from_to = moving_from_fixed @ reference_from_to
    images = Images(reference.image, series.grid())
    image_grid = _grid(output, series, onto, moving_from_to[0], own=to is None)
    stored = output._stored(series.opened) if files.image is not None else None
    given = {
        name: series_content(name, moving_from_to, Images(onto, series.grid()))
        for name in files.transforms
    }
    signals = Signals(_foreground_on(reference, image_grid, reference_from_to))
    volumes = seen_by(
        signals,
        moved_volumes(series, moving_from_to, image_grid, output, threads, progress),
    )
    single = {n: c for n, c in given.items() if isinstance(c, bytes)}
    folders = {files.transforms[n]: c for n, c in given.items() if isinstance(c, dict)}
    with (
        new_folders() as publish,
        new_files(files.single, force=force) as taken,
    ):
        if files.image is not None and stored is not None:
            fill = fill_value(reference.image) if output.fill is None else output.fill
            nifti.dump_image(
                taken[files.image],
                files.image,
                filled(volumes, fill),
                template=series.opened,
                count=len(series),
                stored=stored,
                threads=threads,
            )
        else:
            for _ in volumes:
                pass
        columns = _confounds.confounds(
            fsl_motion(moving_from_fixed, images),
            fsl_matrices(moving_from_fixed, images),
            grid_centre(images),
            standard_error_mm=standard_error_mm,
            doubted=doubted,
            dvars=signals.dvars(),
            radius_mm=radius_mm,
            thresholds=thresholds,
        )
        nifti.dump_image(
            taken[files.reference],
            files.reference,
            _without_nan(reference.image),
            threads=threads,
        )
        for name, content in single.items():
            taken[files.transforms[name]].write(content)
        taken[files.table].write(_confounds.table_text(columns).encode())
        said = _confounds.definitions(columns, radius_mm, thresholds)
        taken[files.definitions].write(to_json(said).encode())
        taken[files.record].write(to_json({"schema": SCHEMA, **record}).encode())
        if files.picture is not None:
            taken[files.picture].write(
                series_picture(columns, signals, series.repetition_time, thresholds)
            )
        if files.report is not None:
            # Slow to import, and only needed here.
            from ._report import series as page  # noqa: PLC0415

            numbers = page.frames(len(series))
            centroid = np.append(reference.foreground.centroid, 1.0)
            film = page.film(
                series.read(numbers),
                numbers,
                moving_from_to[numbers],
                reference_from_to,
                onto,
                (np.linalg.inv(reference_from_to) @ centroid)[:3],
                threads=threads,
            )
            made = page.series_page(
                Path(series.name).name,
                film,
                columns,
                signals.z_scores(),
                facts(record["reference"], columns, doubted, standard_error_mm),
                lines={
                    "framewise_displacement": thresholds.framewise_displacement_mm,
                    "std_dvars": thresholds.std_dvars,
                },
                repetition_time=series.repetition_time,
            )
            taken[files.report].write(made.encode())
        publish(folders)
    return columns


def facts(
    kind: str,
    columns: Mapping[str, FloatArray],
    doubted: npt.NDArray[np.bool_],
    standard_error_mm: FloatArray,
) -> dict[str, str]:
    """Say what was found, for people."""
    displacement = columns["framewise_displacement"][1:]
    outliers = [name for name in columns if name.startswith("motion_outlier")]
    known = standard_error_mm[np.isfinite(standard_error_mm)]
    rows = {
        "reference": kind,
        "displacement": f"{displacement.mean():.2f} mm a volume on average, "
        f"{displacement.max():.2f} mm at most (framewise)",
        "outliers": f"{len(outliers)} of {len(doubted)} volumes",
        "noise": "error expected from noise: unknown"
        if not known.size
        else f"error expected from noise: {np.median(known):.3f} mm in the median",
    }
    which = np.flatnonzero(doubted)
    if len(which):
        rows["doubted"] = "volumes " + ", ".join(map(str, which)) + ": look at them"
    return rows


def record_of(
    moving_from_fixed: FloatArray,
    standard_error_mm: FloatArray,
    doubted: npt.NDArray[np.bool_],
) -> list[dict[str, Any]]:
    """Say what was found of each volume, for the record."""
    return [
        {
            "moving_from_fixed": matrix.tolist(),
            "standard_error_mm": json_number(float(error)),
            "doubted": bool(doubt),
        }
        for matrix, error, doubt in zip(
            moving_from_fixed, standard_error_mm, doubted, strict=True
        )
    ]


def _grid(
    output: Output, series: Series, onto: Image, moving_from_onto: Any, *, own: bool
) -> Image:
    """Choose the grid of the moved series: by default, voxels of the series."""
    if own and output.grid in ("fixed", "moving"):
        return onto
    return output._on_grid(series.grid(), onto, as_transform(moving_from_onto))


def _foreground_on(
    reference: PreparedImage, grid: Image, reference_from_grid: FloatArray
) -> npt.NDArray[np.bool_]:
    """Tell which voxels of a grid show the head in the reference."""
    image = reference.image
    shown = reference.scale.is_foreground(image.data).astype(np.float32)
    head = Image(shown, image.mm_from_ijk)
    there = resample(head, grid, reference_from_grid, interpolation="nearest", fill=0.0)
    return np.asarray(there.data > 0.5)


def grid_centre(images: Images) -> FloatArray:
    """Centre of the grid of the reference, in FSL's own millimetres."""
    fixed, _ = images.grids("the motion")
    return (np.array(fixed.shape) - 1) / 2 * fixed.pixdim_mm


def _without_nan(image: Image) -> Image:
    missing = np.isnan(image.data)
    if not missing.any():
        return image
    fill = np.float32(np.nan_to_num(fill_value(image)))
    return replace(image, data=np.where(missing, fill, image.data))


def write_content(
    path: Path, content: bytes | Mapping[str, bytes], *, force: bool
) -> None:
    """Write a file, or a folder of files, whole or not at all."""
    if isinstance(content, bytes):
        with new_file(path, force=force) as file:
            file.write(content)
        return
    _check_folder(path, force=force)
    with new_folders() as publish:
        publish({path: content})


def _check_folder(path: Path, *, force: bool) -> None:
    """Refuse a folder that is there, unless it may be replaced and holds no more."""
    if not path.is_dir() or path.is_symlink():
        check_new(path, force=False)
        return
    if not force:
        raise OutputExistsError(
            f"{path}: exists already; choose another name or give force=True"
        )
    if not all(re.fullmatch(_OURS, one.name) for one in path.iterdir()):
        raise InputError(
            f"{path}: holds other files than transforms, and is not replaced; choose "
            "another name"
        )


@contextmanager
def new_folders() -> Iterator[Callable[[Mapping[Path, Mapping[str, bytes]]], None]]:
    """Let folders appear under their names whole, and go again if something fails.

    Yields what writes them; those that are replaced are kept until the ``with`` block
    ends, and are there again if it fails.
    """
    drafts: list[Path] = []
    kept: dict[Path, Path] = {}
    done: list[Path] = []

    def beside(path: Path) -> Path:
        return path.with_name(f".mireg-{secrets.token_hex(8)}.folder")

    def publish(contents: Mapping[Path, Mapping[str, bytes]]) -> None:
        for path, files in contents.items():
            drafts.append(beside(path))
            try:
                drafts[-1].mkdir()
                for name, content in files.items():
                    (drafts[-1] / name).write_bytes(content)
                if path.is_dir():
                    kept[path] = beside(path)
                    path.rename(kept[path])
                drafts[-1].rename(path)
            except OSError as error:
                raise InputError(f"{path}: {not_written(error)}") from error
            done.append(path)

    try:
        yield publish
    except BaseException:
        for path in done:
            shutil.rmtree(path, ignore_errors=True)
        for path, old in kept.items():
            old.rename(path)
        kept.clear()
        raise
    finally:
        for folder in (*drafts, *kept.values()):
            shutil.rmtree(folder, ignore_errors=True)
