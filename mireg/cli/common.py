# ruff: noqa: PLC0415
# (imports inside commands keep --help fast; click wants a bare \b)
# nibabel has no types:
# mypy: disallow-untyped-calls=False
"""What the commands share: options, checks before the work, and what is told."""

from __future__ import annotations

import itertools
import logging
import math
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from .._errors import InputError, MiregWarning, printable
from .._report.words import in_directions
from .command import Command, nearest

if TYPE_CHECKING:
    from concurrent.futures import Future

    import numpy.typing as npt

    from .._contrast import Contrast
    from .._engine.verdict import Verdict
    from .._image import Image, VolumeChoice
    from .._moved import Grid, Output
    from .._prior import Prior
    from .._transform import Transform

Function = TypeVar("Function", bound=Callable[..., Any])

#: Names of the kinds of transform files; transform_files.NAMES, which is slow to load.
TRANSFORM_FORMATS = (
    *("itk", "itk-rigid", "fsl", "lta", "afni", "x5", "json", "dicom", "matrix", "npy"),
)

#: What is understood: ANTs writes files of ITK.
FORMAT_NAMES = (*TRANSFORM_FORMATS, "ants")

_SUFFIXES = (
    *(".nii.gz", ".nii", ".img.gz", ".img", ".hdr", ".mgz", ".mgh", ".mnc"),
    *(".par", ".rec", ".head", ".brik.gz", ".brik"),
)

#: Kinds of picture files.
_PICTURES = (".png", ".pdf", ".svg")


def read_volume_choice(
    _context: Any, _option: Any, value: str | None
) -> VolumeChoice | None:
    """Read a volume's number, mean or median."""
    if value is None or value in ("mean", "median"):
        return cast("VolumeChoice | None", value)
    try:
        return int(value)
    except ValueError as error:
        raise click.BadParameter(
            f"{value!r} is not a volume's number, mean or median"
        ) from error


def _read_grid(_context: Any, _option: Any, value: str) -> Grid:
    """Read fixed, moving, or the edges of isotropic voxels in mm."""
    if value in ("fixed", "moving"):
        return cast("Grid", value)
    word, _, size = value.partition(" ")
    try:
        edge = float(size) if word == "isotropic" else math.nan
    except ValueError:
        edge = math.nan
    if not 0 < edge < math.inf:
        raise click.BadParameter(
            f"{value!r} is not fixed, moving or isotropic MM, such as isotropic 2"
        )
    return edge


class OutputCommand(Command):
    """A command with the options of `output_options`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Join ``isotropic 2``, which click would take for two words."""
        joined: list[str] = []
        for arg in args:
            last = "=".join(joined[-2:])
            if last.endswith("--output-grid=isotropic") and arg[:1] != "-":
                joined[-1] += f" {arg}"
            else:
                joined.append(arg)
        return super().parse_args(ctx, joined)


_OUTPUT_OPTIONS = (
    click.option(
        "--output-grid",
        "grid",
        default="fixed",
        show_default=True,
        callback=_read_grid,
        metavar="fixed|moving|isotropic MM",
        help="Voxels of the result: those of FIXED; or, over its field of view and "
        "along its axes, voxels of the size of MOVING's, or cubes of MM.",
    ),
    click.option(
        "--interpolation",
        type=click.Choice(["linear", "nearest", "cubic", "lanczos", "label"]),
        default="linear",
        show_default=True,
        help="How to read between voxels; nearest and label are for labels, label "
        "with smoother borders.",
    ),
    click.option(
        "--antialias/--no-antialias",
        default=True,
        show_default=True,
        help="Average detail that is too fine for a coarser grid.",
    ),
    click.option(
        "--fill",
        type=float,
        metavar="VALUE",
        help="Value outside MOVING [0; for images with values below 0, such as "
        "CT, what MOVING has at its borders].",
    ),
    click.option(
        "--dtype",
        type=click.Choice(["uint8", "int16", "uint16", "int32", "float32", "float64"]),
        help="Type of the voxels [that of MOVING].",
    ),
    click.option(
        "--header-only",
        is_flag=True,
        help="Keep MOVING's own voxels, all volumes, and say in the header where they "
        "are: nothing is interpolated.",
    ),
)


def output_options(command: Function) -> Function:
    """Add the options of the commands that write a moved image."""
    for add in (
        click.option(
            "--quiet", "-q", is_flag=True, help="Say nothing but notes and errors."
        ),
        click.option("--force", is_flag=True, help="Replace files that exist."),
        click.option(
            "--threads",
            type=click.IntRange(min=1),
            help="Threads to use [all processors]; the result is the same.",
        ),
        *reversed(_OUTPUT_OPTIONS),
    ):
        command = add(command)
    return command


def read_output(options: dict[str, Any], **more: Any) -> Output:
    """Take what `output_options` gave out of the options of a command."""
    from .._moved import Output

    names = ("grid", "interpolation", "antialias", "fill", "dtype", "header_only")
    given = {name: options.pop(name) for name in names}
    if given["header_only"]:
        for name, value in given.items():
            if name != "header_only" and value != getattr(Output(), name):
                option = {"grid": "output-grid", "antialias": "no-antialias"}
                raise InputError(
                    "--header-only interpolates nothing; leave out "
                    f"--{option.get(name, name)}"
                )
    return Output(**given, **more)


def mask_options(command: Function) -> Function:
    """Add the options of the commands that compare inside masks."""
    for image in ("moving", "fixed"):
        command = click.option(
            f"--{image}-mask",
            type=click.Path(),
            metavar="FILE",
            help="Compare only where this is above 0.5; any grid, no weights.",
        )(command)
    return command


def verdict_options(command: Function) -> Function:
    """Add the options of the commands that judge an answer."""
    for add in (
        click.option(
            "--accept",
            is_flag=True,
            help="Let the exit code be 0 where the answer is doubtful, too.",
        ),
        click.option(
            "--tolerance",
            type=click.FloatRange(min=0, min_open=True),
            metavar="MM",
            help="Error up to which an answer is right [one voxel of the coarser "
            "image, 2 mm at least].",
        ),
    ):
        command = add(command)
    return command


def prior_options(command: Function) -> Function:
    """Add the options of the commands that may use a learned prior."""
    for add in (
        click.option(
            "--prior-strength",
            type=click.FloatRange(0, 1000),
            metavar="S",
            help="What PRIOR counts as: 0 nothing, 1 as much as the samples [1].",
        ),
        click.option(
            "--prior",
            metavar="PRIOR",
            help="What aligned pairs of these contrasts look like, as mireg prior "
            "learn tells; implies --metric prior.",
        ),
    ):
        command = add(command)
    return command


def read_prior(
    path: str | None, strength: float | None, metric: str | None = None
) -> Prior | None:
    """Read what ``--prior`` names."""
    if path is None:
        if metric == "prior":
            raise InputError(
                "--metric prior needs --prior FILE; mireg prior learn makes one of "
                "aligned pairs"
            )
        if strength is not None:
            raise InputError(
                "--prior-strength goes with --prior FILE; give both, or neither"
            )
        return None
    from .._prior import Prior

    return Prior.read(path)


def read_ahead(*scans: tuple[Path, VolumeChoice | None]) -> list[Future[Image]]:
    """Start to read scans, while what will work on them is still imported."""
    from concurrent.futures import ThreadPoolExecutor

    from .._files import formats

    _hush_nibabel()
    pool = ThreadPoolExecutor(len(scans))
    return [pool.submit(formats.read_quietly, *scan) for scan in scans]


# --- before the work --------------------------------------------------------


def stem(path: Path) -> str:
    """Name of an image file without what says its format."""
    for suffix in _SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def folder_of(output: str) -> Path | None:
    """Give the folder that an output names, where it names no file."""
    if os.path.basename(output) in ("", ".", "..") or os.path.isdir(output):
        return Path(output)
    return None


def check_outputs(
    outputs: Sequence[Path], inputs: Sequence[Path], *, force: bool
) -> None:
    """Refuse, before the work starts, what could not be written after it."""
    from .._files.writing import check_new

    for output in outputs:
        if os.path.realpath(output) in map(os.path.realpath, inputs):
            raise InputError(f"{output}: this is an input; choose another output")
        check_new(output, force=force)


def check_picture(option: str, path: str) -> None:
    """Refuse, before the work, a picture that cannot be drawn after it."""
    if Path(path).suffix.lower() not in _PICTURES:
        raise InputError(
            f"{option} {path}: the name of a picture must end in {', '.join(_PICTURES)}"
        )
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise InputError(
            f"{option}: pictures need matplotlib, which is not installed; get it by: "
            "pip install matplotlib"
        )


def check_folder(folder: Path, files: Sequence[Path], *, force: bool) -> None:
    """Refuse a folder that cannot be made or holds files of these names."""
    if folder.exists():
        if not folder.is_dir():
            raise InputError(f"{folder}: not a folder; choose another with -o")
        check_outputs(files, [], force=force)
    else:
        check_outputs([folder], [], force=force)


# --- what is told -----------------------------------------------------------


def translations(transform: Transform, centre: npt.ArrayLike, what: str) -> str:
    """Say by how much a transform moves a point, and the origin if that is another.

    A rotation moves every point by another shift: the origin's is that of the matrix.
    """
    import numpy as np

    told = []
    if np.any(centre):
        where = ", ".join(f"{x + 0.0:.1f}" for x in np.asarray(centre))
        told.append((f"{what}, {where}", np.asarray(centre, float)))
    told.append(("the origin", np.zeros(3)))
    shifts = [(name, transform.apply(point) - point) for name, point in told]
    return "\n".join(
        f"{math.hypot(*shift):.2f} mm ({in_directions(shift)})\nof {name}"
        for name, shift in shifts
    )


def contrasts(fixed: Contrast, moving: Contrast) -> str:
    """Say how much contrast two scans have where they are compared."""
    return (
        f"{fixed.score:.2f} bits from uniform, FIXED; {moving.score:.2f}, MOVING\n"
        "(0 best, 4 nothing to see)"
    )


def as_written(error: click.UsageError, words: Sequence[str]) -> click.UsageError:
    """Name an unknown option as it was written: click takes -in for -i and -n.

    `words` are those of the command, or begin with those that lead to it.
    """
    if not isinstance(error, click.NoSuchOption) or error.ctx is None:
        return error
    options = [one for one in error.ctx.command.params if isinstance(one, click.Option)]
    # What follows the letter of one of these is its value.
    valued = {name for one in options if not one.is_flag for name in one.opts}
    for word in words:
        letters = itertools.takewhile(
            lambda letter: f"-{letter}" not in valued, word[1:]
        )
        if re.match("-[^-].", word) and error.option_name[1:] in letters:
            return click.NoSuchOption(word.partition("=")[0], ctx=error.ctx)
    return error


def usage_words(error: click.UsageError) -> str:
    """Say in one line what is wrong about how a command was called."""
    if isinstance(error, click.NoSuchOption):
        like = nearest(error)
        meant = f"; nearest: {', '.join(like)}" if like else ""
        return f"No such option '{error.option_name}'{meant}"
    what = " ".join(error.format_message().split())  # it lists choices in lines
    return what.rstrip(".")


def respelt(args: Sequence[str], names: Mapping[str, str]) -> list[str]:
    """Take options under the names that they had before, and say what they are now."""
    found = []
    for arg in args:
        name, equals, value = arg.partition("=")
        now = names.get(name, name)
        if now != name:
            say_note(f"{name} is called {now} now; the old name will go in version 0.3")
        found.append(now + equals + value)
    return found


def say(text: str, *, mark: str = "", err: bool = False, nl: bool = True) -> None:
    """Print; the one way by which texts of ours and of others reach a terminal.

    Whatever is not printable is escaped, but line breaks: a name that stands among
    lines must be `printable` itself. `mark` comes first, and may be styled.
    """
    shown = "\n".join(map(printable, text.split("\n")))
    click.echo(mark + shown, err=err, nl=nl, color=colour())


def show_rows(heading: str, rows: dict[str, str], *, err: bool) -> None:
    """Show labelled lines under a heading."""
    say("", mark=click.style(printable(heading), bold=True), err=err)
    for label, text in rows.items():
        say(f"  {label:13} " + text.replace("\n", "\n" + " " * 16), err=err)


def verdict_rows(verdict: Verdict, error: str | None = None) -> dict[str, str]:
    """Say how far an answer may be trusted, for people.

    `error` is what to say of its error, where that is not of one that is right.
    """
    from .._engine.verdict import in_percent

    return {
        "verdict": verdict.summary,
        "error": error or f"{verdict.error_summary}, if it is right",
        "left, right": verdict.handedness,
        "same anatomy": f"{in_percent(verdict.same_anatomy)} likely",
        **({"against it": "\n".join(verdict.reasons)} if verdict.reasons else {}),
    }


def colour() -> bool | None:
    """Tell click when to colour: not if NO_COLOR is set, and only on terminals."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return None  # click looks whether it writes to a terminal


def tell(message: str, *, quiet: bool) -> None:
    """Talk on stderr."""
    if not quiet:
        say(message, err=True)


def say_note(note: str, *, err: bool = True) -> None:
    """Say what is odd about an input."""
    mark = click.style("mireg: note:", fg="yellow")
    say(f" {printable(note)}", mark=mark, err=err)


@contextmanager
def notes_told() -> Iterator[list[str]]:
    """Collect what is odd about the inputs, and tell it, quiet or not."""
    _hush_nibabel()
    notes: list[str] = []
    show_others = warnings.showwarning

    def take(message: Any, category: Any, *where: Any, **more: Any) -> None:
        if not issubclass(category, MiregWarning):
            show_others(message, category, *where, **more)
            return
        if str(message) in notes:  # of a file that is looked at twice
            return
        notes.append(str(message))
        say_note(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always", MiregWarning)
        warnings.showwarning = take
        yield notes


def _hush_nibabel() -> None:
    """Let nibabel mend headers in silence: what matters is told in our own words."""
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", module=r"nibabel\.")


@contextmanager
def progress_bar(*, quiet: bool) -> Iterator[Callable[[str, float], None]]:
    """Show one line on stderr while working, if that is a terminal."""
    if quiet or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda _stage, _done: None
        return

    def show(stage: str, done: float) -> None:
        # A narrow terminal has room for the words, or else for their beginning.
        width = min(24, _columns() - len(stage) - 11)
        bar = f"[{'#' * round(width * done):{width}}] " if width >= 4 else ""
        rewrite(f"{bar}{100 * done:3.0f} % {stage}"[: _columns() - 1])

    def rewrite(line: str) -> None:
        # color: this is no colour, but click would strip it along with colours.
        click.echo(f"\r{line}\x1b[K", err=True, nl=False, color=True)

    try:
        yield show
    finally:
        rewrite("")


def _columns() -> int:
    """Width of the terminal that stderr is."""
    with suppress(OSError, ValueError):
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80  # 0: not known
    return 80


class _Talk(logging.Handler):
    """Says what is logged."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say it on stderr."""
        say(record.getMessage(), err=True)


@contextmanager
def log_told(*, verbose: bool) -> Iterator[None]:
    """Show on stderr what the library tells its logger."""
    if not verbose:
        yield
        return
    logger, handler = logging.getLogger("mireg"), _Talk()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
