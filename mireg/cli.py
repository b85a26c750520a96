# ruff: noqa: PLC0415, D301
# (imports inside commands keep --help fast; click wants a bare \b)
# nibabel has no types:
# mypy: disallow-untyped-calls=False
"""The command line: arguments to an exit code. The only room that prints.

Numpy, numba, scipy and nibabel are imported by the commands that need them, so
that ``mireg --help`` answers at once.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from . import __version__
from .errors import InputError, MiregError, MiregWarning

if TYPE_CHECKING:
    from .formats import VolumeChoice
    from .register import Registration
    from .transform import RigidTransform

#: What is timed.
_STAGES = ("load", "register", "resample", "write")

Command = TypeVar("Command", bound=Callable[..., Any])

_SUFFIXES = (
    *(".nii.gz", ".nii", ".img.gz", ".img", ".hdr", ".mgz", ".mgh", ".mnc"),
    *(".par", ".rec", ".head", ".brik.gz", ".brik"),
)


def run() -> None:
    """Run the command line and leave Python with its exit code."""
    sys.exit(main())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments (default: those of the process).

    Returns
    -------
    int
        0 done; 2 bad input or usage, told in one line on stderr; 130 stopped.
        Any other error is a bug and keeps its traceback.
    """
    try:
        return int(
            cli.main(
                args=None if argv is None else list(argv),
                prog_name="mireg",
                standalone_mode=False,
            )
            or 0
        )
    except click.Abort:
        click.echo("mireg: stopped", err=True)
        return 130
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "mireg"
        hint = f"see {where} --help"
        return _fail(f"{error.format_message().rstrip('.')}; {hint}")
    except click.ClickException as error:
        return _fail(error.format_message())
    except MiregError as error:
        return _fail(str(error))


def _fail(message: str) -> int:
    """Say in one line what is wrong."""
    click.echo(f"mireg: error: {' '.join(message.split())}", err=True)
    return 2


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 88},
)
@click.version_option(__version__, message="mireg %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """Bring two scans of one patient into line, whatever their contrast.

    \b
    First steps:
      mireg demo
      mireg register t1.nii.gz bold.nii.gz

    Exit codes: 0 done; 2 bad input or usage, told in one line; 130 stopped by
    Ctrl-C. Files are written whole or not at all.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _volume(_context: Any, _option: Any, value: str | None) -> VolumeChoice | None:
    """Read a volume's number, mean or median."""
    if value is None or value in ("mean", "median"):
        return cast("VolumeChoice | None", value)
    try:
        return int(value)
    except ValueError as error:
        raise click.BadParameter(
            f"{value!r} is not a volume's number, mean or median"
        ) from error


def _shared_options(command: Command) -> Command:
    """Add the options that `register` and `apply` share."""
    for add in (
        click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors."),
        click.option("--force", is_flag=True, help="Replace files that exist."),
        click.option(
            "--threads",
            type=click.IntRange(min=1),
            help="Threads to use [all processors]; the result is the same.",
        ),
        click.option(
            "--fill",
            type=float,
            metavar="VALUE",
            help="Value outside MOVING [0; for images with values below 0, such as "
            "CT, what MOVING has at its borders].",
        ),
        click.option(
            "--interpolation",
            type=click.Choice(["linear", "nearest", "cubic"]),
            default="linear",
            show_default=True,
            help="How to read between voxels; nearest is for labels.",
        ),
    ):
        command = add(command)
    return command


@cli.command(short_help="Find the rigid transform between two scans.")
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
    type=click.Choice(["nmi", "mi"]),
    help="Similarity: normalised or plain mutual information [nmi].",
)
@click.option(
    "--init",
    default="auto",
    show_default=True,
    metavar="auto|header|centre|identity|FILE",
    help="Where to start: auto searches every pose; header (or identity) trusts "
    "the headers' coordinates; centre lays centre on centre; FILE is a transform.",
)
@click.option("--fixed-mask", metavar="FILE", help="Compare only here; any grid.")
@click.option("--moving-mask", metavar="FILE", help="Compare only here; any grid.")
@click.option(
    "--fixed-volume",
    callback=_volume,
    metavar="N|mean|median",
    help="Volume of a 4-D FIXED, from 0 [mean].",
)
@click.option(
    "--moving-volume",
    callback=_volume,
    metavar="N|mean|median",
    help="Volume of a 4-D MOVING, from 0 [mean].",
)
@_shared_options
@click.option("--json", "as_json", is_flag=True, help="Print the record on stdout.")
def register(*, fixed: str, moving: str, output: str | None, **options: Any) -> None:
    """Find the rigid transform that brings MOVING into line with FIXED.

    \b
    Writes PREFIX.nii.gz  MOVING on the grid of FIXED
           PREFIX.tfm     the transform (ITK text, read by ITK, ANTs, 3D Slicer)
           PREFIX.json    the transform as a matrix, and how it was found

    \b
    Example:
      mireg register t1.nii.gz bold.nii.gz -o bold_to_t1
    """
    if output is None:
        output = f"{_stem(Path(moving))}_to_{_stem(Path(fixed))}"
    _register_files(Path(fixed), Path(moving), output, **options)


def _register_files(
    fixed: Path,
    moving: Path,
    prefix: str,
    *,
    metric: str | None = None,
    init: str = "auto",
    fixed_mask: str | None = None,
    moving_mask: str | None = None,
    fixed_volume: VolumeChoice | None = None,
    moving_volume: VolumeChoice | None = None,
    interpolation: Any = "linear",
    fill: float | None = None,
    threads: int | None = None,
    force: bool = False,
    quiet: bool = False,
    as_json: bool = False,
) -> Registration:
    """Register two files, write the three others, and tell what was found."""
    outputs = [Path(prefix + suffix) for suffix in (".nii.gz", ".tfm", ".json")]
    inputs = [Path(p) for p in (fixed, moving, fixed_mask, moving_mask) if p]
    _check_outputs(outputs, inputs, force=force)
    from . import formats
    from .register import register as find
    from .resample import fill_value, resample
    from .settings import Settings

    start = _start(init)
    settings = Settings(threads=threads)
    if metric is not None:
        settings = replace(settings, metric=metric)
    clock = [time.perf_counter()]
    with _notes(quiet=quiet) as notes, ExitStack() as new_files:
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
        clock.append(time.perf_counter())
        with _progress(quiet=quiet) as progress:
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
        image_out, transform_out, record_out = (
            new_files.enter_context(formats.new_file(path, force=force))
            for path in outputs
        )
        formats.dump_image(image_out, outputs[0], moved, template=moving_file)
        transform_out.write(formats.itk_text(found.transform).encode())
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
        text = _json(record)
        record_out.write(text.encode())
    if not quiet:
        _summary(found, record["seconds"], fixed, moving, outputs)
    if as_json:
        click.echo(text, nl=False)
    return found


@cli.command(short_help="Move an image with transforms found before.")
@click.argument("moving")
@click.option("--like", required=True, metavar="FIXED", help="Take this grid.")
@click.option(
    "-t",
    "--transform",
    "transforms",
    multiple=True,
    required=True,
    metavar="T",
    help="Transform file; repeat it for a chain, in the order in which the image "
    "travels.",
)
@click.option("-o", "--output", required=True, metavar="OUT", help=".nii or .nii.gz")
@_shared_options
def apply(
    *,
    moving: str,
    like: str,
    transforms: Sequence[str],
    output: str,
    interpolation: Any,
    fill: float | None,
    threads: int | None,
    force: bool,
    quiet: bool,
) -> None:
    """Bring MOVING onto the grid of FIXED with transforms found before.

    A chain is composed first: the image is interpolated once. Every volume of a
    4-D image is moved. Type and scaling of the voxels are kept.

    \b
    Example, BOLD to T1 to template:
      mireg apply bold.nii.gz --like template.nii.gz \\
        --transform bold_to_t1.tfm --transform t1_to_template.tfm -o out.nii.gz
    """
    out = Path(output)
    _check_outputs([out], [Path(moving), Path(like)], force=force)
    from . import formats
    from .resample import fill_value, resample

    formats.check_suffix(out)
    # moving_from_fixed = moving_from_middle @ middle_from_fixed: as they are given.
    moving_from_fixed = formats.read_transform(transforms[0])
    for path in transforms[1:]:
        moving_from_fixed = moving_from_fixed @ formats.read_transform(path)
    with _notes(quiet=quiet), _progress(quiet=quiet) as progress:
        moving_file = formats.open_nibabel(moving)
        grid = formats.read_grid(like)
        count = formats.n_volumes(moving_file)
        if fill is not None:
            formats.check_fill(fill, moving_file)

        def moved() -> Iterator[Any]:
            exact = interpolation == "nearest"
            value = fill
            for t, volume in enumerate(formats.read_volumes(moving_file, exact=exact)):
                progress(f"volume {t + 1} of {count}", t / count)
                value = fill_value(volume) if value is None else value
                yield resample(
                    volume,
                    grid,
                    moving_from_fixed,
                    interpolation=interpolation,
                    fill=value,
                    threads=threads,
                )

        formats.write_image(out, moved(), template=moving_file, force=force)
    if not quiet:
        click.echo(f"wrote {out}", err=True)


@cli.command(short_help="Register a synthetic head and check the answer.")
@click.option("-o", "--output", default="mireg-demo", show_default=True, metavar="DIR")
@click.option(
    "--contrast",
    type=click.Choice(["T2", "PD", "FLAIR", "EPI", "CT", "PET"]),
    default="T2",
    show_default=True,
    help="Contrast of the moving scan; the fixed one is T1.",
)
@click.option("--seed", default=0, show_default=True, help="Which head and pose.")
@click.option("--force", is_flag=True, help="Replace the files of an earlier demo.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing but the error in mm.")
def demo(*, output: str, contrast: str, seed: int, force: bool, quiet: bool) -> None:
    """Make two scans of a synthetic head, register them, and check the answer.

    The head lies in the two scans in any orientation and up to 100 mm apart.

    \b
    Example:
      mireg demo -o mireg-demo
    """
    folder = Path(output)
    name = contrast.lower()
    prefix = folder / f"{name}_to_t1"
    files = [folder / f for f in ("t1.nii.gz", f"{name}.nii.gz", "truth.json")]
    _check_folder(
        folder,
        [*files, *(Path(f"{prefix}{s}") for s in (".nii.gz", ".tfm", ".json"))],
        force=force,
    )
    _tell(f"making a head in T1 and {contrast} contrast ...", quiet=quiet)
    truth = _write_phantoms(folder, [contrast], seed=seed, size=1.5, force=force)
    _tell("registering ...", quiet=quiet)
    found = _register_files(files[0], files[1], str(prefix), force=force, quiet=quiet)
    from .phantom import brain_points

    errors = found.transform.displacements(brain_points(seed), truth)
    _tell(
        f"\nIn this demo the truth is known. Look at {files[0]} with\n"
        f"{prefix}.nii.gz on top: they should match.\n",
        quiet=quiet,
    )
    click.echo(
        f"error against the truth: mean {errors.mean():.3f} mm, "
        f"largest {errors.max():.3f} mm over the brain"
    )


@cli.command(short_help="Write scans of a synthetic head.")
@click.option(
    "-o", "--output", default="mireg-phantom", show_default=True, metavar="DIR"
)
@click.option(
    "--contrast",
    "contrasts",
    multiple=True,
    type=click.Choice(["T2", "PD", "FLAIR", "EPI", "CT", "PET"]),
    default=("T2", "EPI", "CT", "PET"),
    show_default=True,
    help="Contrasts of the moving scans; repeat it for several.",
)
@click.option("--seed", default=0, show_default=True, help="Which head and pose.")
@click.option(
    "--voxel-size",
    type=click.FloatRange(min=0.5),
    metavar="MM",
    help="Of all scans [each contrast's own: 1, EPI 3, PET 4].",
)
@click.option("--force", is_flag=True, help="Replace the files of an earlier phantom.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors.")
def phantom(
    *,
    output: str,
    contrasts: Sequence[str],
    seed: int,
    voxel_size: float | None,
    force: bool,
    quiet: bool,
) -> None:
    """Write scans of a synthetic head, and the truth about their pose.

    The T1 is the fixed scan. In the others the head is turned and moved;
    truth.json says how, as the moving_from_fixed of each.

    \b
    Example:
      mireg phantom -o head --contrast EPI --contrast CT
    """
    folder = Path(output)
    names = ["T1", *dict.fromkeys(contrasts)]
    files = [folder / f"{name.lower()}.nii.gz" for name in names]
    files.append(folder / "truth.json")
    _check_folder(folder, files, force=force)
    _write_phantoms(folder, names[1:], seed=seed, size=voxel_size, force=force)
    _tell("wrote " + ", ".join(str(file) for file in files), quiet=quiet)


def _write_phantoms(
    folder: Path,
    contrasts: Sequence[str],
    *,
    seed: int,
    size: float | None,
    force: bool,
) -> RigidTransform:
    """Write a T1, the other contrasts and truth.json; return the truth."""
    import nibabel as nib
    import numpy as np

    from . import formats
    from .phantom import phantom_pair

    if seed < 0:
        raise InputError(f"seed is {seed}; it must not be negative")
    truth = None
    record: dict[str, Any] = {"seed": seed, "fixed": "t1.nii.gz", "moving": {}}
    whole_numbers = nib.Nifti1Image(np.zeros((1, 1, 1), np.int16), np.eye(4))
    folder_is_new = not folder.exists()
    folder.mkdir(exist_ok=True)
    try:
        with ExitStack() as new_files:

            def new_file(name: str) -> tuple[Any, Path]:
                path = folder / name
                opened = formats.new_file(path, force=force)
                return new_files.enter_context(opened), path

            for contrast in contrasts:
                first = truth is None
                # The size of the fixed scan does not change the moving one; only the
                # first fixed scan is kept.
                pair = phantom_pair(
                    "T1",
                    contrast,
                    seed=seed,
                    fixed_voxel_size_mm=size if first else 20.0,
                    moving_voxel_size_mm=size,
                )
                truth = pair.moving_from_fixed
                images = {f"{contrast.lower()}.nii.gz": pair.moving}
                if first:
                    images["t1.nii.gz"] = pair.fixed
                for name, image in images.items():
                    formats.dump_image(
                        *new_file(name), image, template=whole_numbers, space=1
                    )
                record["moving"][f"{contrast.lower()}.nii.gz"] = {
                    "moving_from_fixed": truth.matrix.tolist()
                }
            new_file("truth.json")[0].write(_json(record).encode())
    except BaseException:
        if folder_is_new and not any(folder.iterdir()):
            folder.rmdir()
        raise
    assert truth is not None
    return truth


# --- before the work --------------------------------------------------------


def _stem(path: Path) -> str:
    """Name of an image file without what says its format."""
    for suffix in _SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def _start(init: str) -> Any:
    """Turn ``--init`` into what the library takes."""
    if init in ("header", "identity"):
        return "header"
    if init in ("auto", "centre"):
        return init
    if not Path(init).exists():
        raise InputError(
            f"--init {init}: not auto, header, centre or identity, and no such file"
        )
    from .formats import read_transform
    from .transform import RigidTransform

    matrix = read_transform(init)
    try:
        return RigidTransform.from_matrix(matrix)
    except InputError as error:
        raise InputError(f"{init}: {error}") from error


def _check_outputs(
    outputs: Sequence[Path], inputs: Sequence[Path], *, force: bool
) -> None:
    """Refuse, before the work starts, what could not be written after it."""
    from .formats import check_new

    for output in outputs:
        if any(output.resolve() == path.resolve() for path in inputs):
            raise InputError(f"{output}: this is an input; choose another output")
        check_new(output, force=force)


def _check_folder(folder: Path, files: Sequence[Path], *, force: bool) -> None:
    """Refuse a folder that cannot be made or holds files of these names."""
    if folder.exists():
        if not folder.is_dir():
            raise InputError(f"{folder}: not a folder; choose another with -o")
        _check_outputs(files, [], force=force)
    elif not folder.absolute().parent.is_dir():
        raise InputError(f"{folder.parent}: there is no such folder; make it first")


# --- what is told -----------------------------------------------------------


def _tell(message: str, *, quiet: bool) -> None:
    """Talk on stderr."""
    if not quiet:
        click.echo(message, err=True)


@contextmanager
def _notes(*, quiet: bool) -> Iterator[list[str]]:
    """Collect what is odd about the inputs, and tell it."""
    # nibabel mends headers aloud; what matters is told in our own words.
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL + 1)
    notes: list[str] = []
    show_others = warnings.showwarning

    def take(message: Any, category: Any, *where: Any, **more: Any) -> None:
        if not issubclass(category, MiregWarning):
            show_others(message, category, *where, **more)
            return
        notes.append(str(message))
        _tell(f"mireg: note: {message}", quiet=quiet)

    with warnings.catch_warnings():
        warnings.simplefilter("always", MiregWarning)
        warnings.showwarning = take
        yield notes


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[str, float], None]]:
    """Show one line on stderr while working, if that is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda _stage, _done: None
        return

    def show(stage: str, done: float) -> None:
        bar = "#" * round(24 * done)
        click.echo(f"\r[{bar:24}] {stage:24}", err=True, nl=False)

    try:
        yield show
    finally:
        click.echo("\r" + " " * 52 + "\r", err=True, nl=False)


def _json(record: dict[str, Any]) -> str:
    """Write a record as JSON; each row of a matrix on one line."""
    lines = json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False)
    pieces = lines.split("[")
    for i, piece in enumerate(pieces[1:], 1):
        inside, bracket, after = piece.partition("]")
        if bracket and '"' not in inside:  # a list of numbers only
            pieces[i] = " ".join(inside.split()) + bracket + after
    return "[".join(pieces) + "\n"


def _number(value: float) -> float | None:
    """Give a number to JSON, which has no NaN and no infinity."""
    return float(value) if math.isfinite(value) else None


def _file_record(
    path: Path, opened: Any, image: Any, volume: VolumeChoice | None
) -> dict[str, Any]:
    """Identify an input."""
    from .formats import n_volumes, sha256

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
        "score": _number(found.score),
        "score_before": _number(found.score_before),
        "overlap_fraction": _number(found.overlap_fraction),
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
    sides = (("right", "left"), ("forward", "back"), ("up", "down"))
    shift = found.transform.translation
    directions = ", ".join(
        f"{abs(step):.2f} {plus if step >= 0 else minus}"
        for step, (plus, minus) in zip(shift, sides, strict=True)
    )
    before = "no overlap"
    if math.isfinite(found.score_before):
        before = f"{found.score_before:.4f}"
    times = [f"{name} {seconds[name]:.1f}" for name in _STAGES]
    rows = {
        "rotation": f"{found.transform.angle_deg:.2f} degrees",
        "translation": f"{math.hypot(*shift):.2f} mm ({directions})",
        "head moved": f"{found.mean_displacement_mm:.2f} mm on average, "
        f"{found.max_displacement_mm:.2f} mm at most",
        f"score ({found.metric})": f"{found.score:.4f}, by the headers {before}",
        "overlap": f"{100 * found.overlap_fraction:.0f} %",
        "seconds": ", ".join(times),
        "written": "\n".join(str(path) for path in outputs),
    }
    click.echo(f"from {fixed.name} to {moving.name}:", err=True)
    for label, text in rows.items():
        click.echo(f"  {label:13} " + text.replace("\n", "\n" + " " * 16), err=True)
    for warning in found.warnings:
        click.echo(f"mireg: note: {warning}", err=True)
