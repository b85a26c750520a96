# ruff: noqa: PLC0415, D301
# (imports inside commands keep --help fast; click wants a bare \b)
# nibabel has no types:
# mypy: disallow-untyped-calls=False
"""``mireg register``: two scans to a transform, the moved image and a record."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import __version__, bids
from ..errors import InputError
from ..settings import METRICS
from .common import (
    TRANSFORM_FORMATS,
    check_outputs,
    in_directions,
    json_number,
    notes_told,
    progress_bar,
    read_volume_choice,
    resampling_options,
    show_rows,
    stem,
    to_json,
)

if TYPE_CHECKING:
    from ..formats import VolumeChoice
    from ..register import Registration
    from ..settings import MetricName

#: What is timed.
_STAGES = ("load", "register", "resample", "write")


def _read_formats(
    _context: Any, _option: Any, values: Sequence[str]
) -> tuple[str, ...]:
    """Read the formats to write, once each, given one by one or with commas."""
    names = [name.strip() for value in values for name in value.split(",")]
    for name in names:
        if name not in TRANSFORM_FORMATS:
            raise click.BadParameter(
                f"{name!r} is not one of {', '.join(TRANSFORM_FORMATS)}"
            )
    return tuple(dict.fromkeys(names)) or ("itk",)


@click.command(short_help="Find the rigid transform between two scans.")
@click.argument("fixed")
@click.argument("moving")
@click.option(
    "-o",
    "--output",
    metavar="PREFIX",
    help="Start of the names of the files written "
    "[<moving>_to_<fixed> in the current folder].",
)
@click.option(
    "--metric",
    type=click.Choice(METRICS),
    help="Similarity to maximise [nmi]; mireg score prints them all.",
)
@click.option(
    "--init",
    default="auto",
    show_default=True,
    metavar="auto|header|centre|identity|FILE",
    help="Where to start: auto searches every pose; header (or identity) trusts "
    "the headers' coordinates; centre lays centre on centre; FILE is a transform.",
)
@click.option(
    "--transform-format",
    "transform_formats",
    multiple=True,
    callback=_read_formats,
    metavar="FORMAT",
    help=f"Write the transform for other programs: {', '.join(TRANSFORM_FORMATS)}; "
    "several with commas [itk].",
)
@click.option("--fixed-mask", metavar="FILE", help="Compare only here; any grid.")
@click.option("--moving-mask", metavar="FILE", help="Compare only here; any grid.")
@click.option(
    "--fixed-volume",
    callback=read_volume_choice,
    metavar="N|mean|median",
    help="Volume of a 4-D FIXED, from 0 [mean].",
)
@click.option(
    "--moving-volume",
    callback=read_volume_choice,
    metavar="N|mean|median",
    help="Volume of a 4-D MOVING, from 0 [mean].",
)
@resampling_options
@click.option("--json", "as_json", is_flag=True, help="Print the record on stdout.")
def register(*, fixed: str, moving: str, output: str | None, **options: Any) -> None:
    """Find the rigid transform that brings MOVING into line with FIXED.

    \b
    Writes PREFIX.nii.gz  MOVING on the grid of FIXED
           PREFIX.tfm     the transform (ITK text, read by ITK, ANTs, 3D Slicer);
                          see --transform-format for other programs
           PREFIX.json    the transform as a matrix, and how it was found

    If both have BIDS names and there is no -o, the files have BIDS names too.

    \b
    Example:
      mireg register t1.nii.gz bold.nii.gz -o bold_to_t1
    """
    names = bids.output_names(fixed, moving) if output is None else None
    if output is None:
        output = f"{stem(Path(moving))}_to_{stem(Path(fixed))}"
    register_files(Path(fixed), Path(moving), output, bids_names=names, **options)


def register_files(
    fixed: Path,
    moving: Path,
    prefix: str,
    *,
    bids_names: bids.Outputs | None = None,
    metric: MetricName | None = None,
    init: str = "auto",
    fixed_mask: str | None = None,
    moving_mask: str | None = None,
    fixed_volume: VolumeChoice | None = None,
    moving_volume: VolumeChoice | None = None,
    transform_formats: Sequence[str] = ("itk",),
    interpolation: Any = "linear",
    fill: float | None = None,
    threads: int | None = None,
    force: bool = False,
    quiet: bool = False,
    as_json: bool = False,
) -> Registration:
    """Register two files, write the three others, and tell what was found."""
    outputs = _Outputs.named(prefix, transform_formats, bids_names)
    inputs = [Path(p) for p in (fixed, moving, fixed_mask, moving_mask) if p]
    check_outputs(outputs.paths, inputs, force=force)
    import numpy as np

    from .. import formats
    from ..register import register as find
    from ..resample import fill_value, resample
    from ..settings import Settings

    start = _start(init, fixed, moving)
    settings = Settings(threads=threads)
    if metric is not None:
        settings = replace(settings, metric=metric)
    clock = [time.perf_counter()]
    with notes_told(quiet=quiet) as notes, ExitStack() as new_files:
        fixed_file = formats.open_nibabel(fixed)
        moving_file = formats.open_nibabel(moving)
        if fill is not None:
            formats.check_fill(fill, moving_file)
        fixed_image = formats.from_nibabel(fixed_file, fixed_volume)
        moving_image = formats.from_nibabel(moving_file, moving_volume)
        masks = [
            formats.read_mask(mask) if mask else None
            for mask in (fixed_mask, moving_mask)
        ]
        # What a format lacks is said now rather than after the work.
        outputs.transform_files(np.eye(4), fixed_file, moving_file)
        clock.append(time.perf_counter())
        with progress_bar(quiet=quiet) as progress:
            found = find(
                fixed_image,
                moving_image,
                init=start,
                fixed_mask=masks[0],
                moving_mask=masks[1],
                settings=settings,
                progress=progress,
            )
        clock.append(time.perf_counter())
        moved = resample(
            moving_image,
            fixed_image,
            found.moving_from_fixed,
            interpolation=interpolation,
            fill=fill_value(moving_image) if fill is None else fill,
            threads=threads,
        )
        clock.append(time.perf_counter())
        open_files = {
            path: new_files.enter_context(formats.new_file(path, force=force))
            for path in outputs.paths
        }
        formats.dump_image(
            open_files[outputs.image], outputs.image, moved, template=moving_file
        )
        made = outputs.transform_files(found.moving_from_fixed, fixed_file, moving_file)
        for path, content in made.items():
            open_files[path].write(content)
        clock.append(time.perf_counter())
        spent = [after - before for before, after in pairwise(clock)]
        record = _record(
            found,
            fixed=_file_record(fixed, fixed_file, fixed_image, fixed_volume),
            moving=_file_record(moving, moving_file, moving_image, moving_volume),
            seconds=dict(zip(_STAGES, spent, strict=True)),
            options={
                "init": init,
                "fixed_mask": fixed_mask,
                "moving_mask": moving_mask,
                "interpolation": interpolation,
                "fill": fill,
            },
            notes=notes,
        )
        if outputs.sidecar is not None:
            method = f"mireg {__version__}, rigid registration by {found.metric}"
            beside = bids.sidecar(str(fixed), str(moving), method)
            open_files[outputs.sidecar].write(to_json(beside).encode())
            record = {**beside, **record}
        text = to_json(record)
        open_files[outputs.record].write(text.encode())
    if not quiet:
        _summary(found, record["seconds"], fixed, moving, outputs.paths)
    if as_json:
        click.echo(text, nl=False)
    return found


@dataclass(frozen=True)
class _Outputs:
    """The files that are written: an image, a transform in each format, a record.

    With names of BIDS the image has a record of its own, the sidecar.
    """

    image: Path
    transforms: Mapping[Path, str]
    record: Path
    sidecar: Path | None = None

    @classmethod
    def named(
        cls, prefix: str, formats: Sequence[str], names: bids.Outputs | None
    ) -> _Outputs:
        """Name the files after a prefix, or as BIDS has it."""
        from ..transform_files import suffix_of

        image = prefix if names is None else names.image
        base = prefix if names is None else names.transform
        ends = {name: suffix_of(name) for name in formats}
        if names is not None and "itk" in ends:
            ends["itk"] = ".txt"
        return cls(
            Path(f"{image}.nii.gz"),
            {Path(base + end): name for name, end in ends.items()},
            Path(f"{base}.json"),
            None if names is None else Path(f"{image}.json"),
        )

    @property
    def paths(self) -> list[Path]:
        """All files."""
        beside = [] if self.sidecar is None else [self.sidecar]
        return [self.image, *self.transforms, self.record, *beside]

    def transform_files(
        self, moving_from_fixed: Any, fixed: Any, moving: Any
    ) -> dict[Path, bytes]:
        """Make the content of the transform files."""
        from .. import transform_files

        return {
            path: transform_files.transform_bytes(
                path, moving_from_fixed, fixed=fixed, moving=moving, format=name
            )
            for path, name in self.transforms.items()
        }


def _start(init: str, fixed: Path, moving: Path) -> Any:
    """Turn ``--init`` into what the library takes."""
    if init in ("header", "identity"):
        return "header"
    if init in ("auto", "centre"):
        return init
    if not Path(init).exists():
        raise InputError(
            f"--init {init}: not auto, header, centre or identity, and no such file"
        )
    from ..transform import RigidTransform
    from ..transform_files import read_transform

    matrix = read_transform(init, fixed=fixed, moving=moving)
    try:
        return RigidTransform.from_matrix(matrix)
    except InputError as error:
        raise InputError(f"{init}: {error}") from error


def _file_record(
    path: Path, opened: Any, image: Any, volume: VolumeChoice | None
) -> dict[str, Any]:
    """Identify an input."""
    from ..formats import n_volumes, sha256

    several = n_volumes(opened) > 1
    return {
        "path": str(path),
        "shape": [int(n) for n in opened.shape],
        "voxel_size_mm": image.voxel_size_mm.tolist(),
        "volume": ("mean" if volume is None else volume) if several else None,
        "sha256": sha256(path),
    }


def _record(
    found: Registration,
    *,
    fixed: dict[str, Any],
    moving: dict[str, Any],
    seconds: dict[str, float],
    options: dict[str, Any],
    notes: Sequence[str],
) -> dict[str, Any]:
    """Gather everything that was found and done, for machines."""
    import numpy as np

    transform = found.transform
    fill = options["fill"]
    return {
        "moving_from_fixed": found.moving_from_fixed.tolist(),
        "metric": found.metric,
        "score": json_number(found.score),
        "score_before": json_number(found.score_before),
        "overlap_fraction": json_number(found.overlap_fraction),
        "rotation_deg": transform.angle_deg,
        "rotation_vector_deg": np.rad2deg(transform.rotation_vector).tolist(),
        "translation_mm": transform.translation.tolist(),
        "centre_mm": transform.centre.tolist(),
        "mean_displacement_mm": found.mean_displacement_mm,
        "max_displacement_mm": found.max_displacement_mm,
        "seconds": {**seconds, "register_stages": dict(found.seconds)},
        "fixed": fixed,
        "moving": moving,
        "settings": asdict(found.settings),
        "options": {**options, "fill": None if fill is None else str(fill)},
        "mireg_version": __version__,
        "warnings": [*notes, *found.warnings],
    }


def _summary(
    found: Registration,
    seconds: dict[str, Any],
    fixed: Path,
    moving: Path,
    outputs: Sequence[Path],
) -> None:
    """Tell what was found, for people."""
    shift = found.transform.translation
    before = "no overlap"
    if math.isfinite(found.score_before):
        before = f"{found.score_before:.4f}"
    times = [f"{name} {seconds[name]:.1f}" for name in _STAGES]
    rows = {
        "rotation": f"{found.transform.angle_deg:.2f} degrees",
        "translation": f"{math.hypot(*shift):.2f} mm ({in_directions(shift)})",
        "head moved": f"{found.mean_displacement_mm:.2f} mm on average, "
        f"{found.max_displacement_mm:.2f} mm at most",
        f"score ({found.metric})": f"{found.score:.4f}, by the headers {before}",
        "overlap": f"{100 * found.overlap_fraction:.0f} %",
        "seconds": ", ".join(times),
        "written": "\n".join(str(path) for path in outputs),
    }
    show_rows(f"from {fixed.name} to {moving.name}:", rows, err=True)
    for warning in found.warnings:
        click.echo(f"mireg: note: {warning}", err=True)
