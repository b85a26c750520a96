# ruff: noqa: PLC0415, D301
# (imports inside commands keep --help fast; click wants a bare \b)
# nibabel has no types:
# mypy: disallow-untyped-calls=False
"""``mireg demo`` and ``mireg phantom``: a synthetic head with known truth."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .._errors import InputError, printable
from .._files.records import to_json
from .command import Command
from .common import check_folder, say, tell
from .register import register_files

if TYPE_CHECKING:
    from .._image import Image
    from .._transform import RigidTransform

#: Names of the hard kinds; phantom.KINDS, which is slow to load.
KINDS = (
    *("slab", "slab-occipital", "slab-surface-coil", "slices", "neck", "coil"),
    *("epi-lr", "epi-rl", "epi-both", "ct", "ct-gantry", "pet", "spect", "thick"),
    *("thick-planes", "tumour", "plaques", "resection", "defaced", "stripped"),
    *("spine", "spine-cropped", "knee", "mouse", "infant", "near-symmetric"),
    *("aligned", "identical"),
)


@click.command(
    cls=Command, short_help="Register a synthetic head and check the answer."
)
@click.option(
    "-o",
    "--output",
    default="mireg-demo",
    show_default=True,
    metavar="DIR",
    help="Folder for the files written; it is made if need be.",
)
@click.option(
    "--contrast",
    type=click.Choice(["T2", "PD", "FLAIR", "EPI", "CT", "PET"]),
    default="T2",
    show_default=True,
    help="Contrast of the moving scan; the fixed one is T1.",
)
@click.option("--seed", default=0, show_default=True, help="Which head and pose.")
@click.option("--force", is_flag=True, help="Replace files that are no demo's.")
@click.option(
    "--quiet", "-q", is_flag=True, help="Say nothing but notes, and the error."
)
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
    force = force or _is_demo(files[-1])
    check_folder(
        folder,
        [*files, *(Path(f"{prefix}{s}") for s in (".nii.gz", ".tfm", ".json"))],
        force=force,
    )
    tell(f"making a head in T1 and {contrast} contrast ...", quiet=quiet)
    truth = write_phantoms(
        folder, [contrast], seed=seed, size=1.5, force=force, kind="demo"
    )
    tell("registering ...", quiet=quiet)
    found = register_files(files[0], files[1], str(prefix), force=force, quiet=quiet)
    from ..phantom import brain_points

    errors = found.transform.displacements(brain_points(seed), truth)
    tell(
        f"\nIn this demo the truth is known. Look at {files[0]} with\n"
        f"{prefix}.nii.gz on top: they should match.\n",
        quiet=quiet,
    )
    say(
        f"error against the truth: mean {errors.mean():.3f} mm, "
        f"largest {errors.max():.3f} mm over the brain"
    )


def _is_demo(record: Path) -> bool:
    """Tell whether a demo has written a record; then its files may be replaced."""
    try:
        return bool(json.loads(record.read_bytes())["kind"] == "demo")
    except (OSError, ValueError, KeyError, TypeError):
        return False


@click.command(cls=Command, short_help="Write scans of a synthetic head.")
@click.option(
    "-o",
    "--output",
    default="mireg-phantom",
    show_default=True,
    metavar="DIR",
    help="Folder for the files written; it is made if need be.",
)
@click.option(
    "--contrast",
    "contrasts",
    multiple=True,
    type=click.Choice(["T2", "PD", "FLAIR", "EPI", "CT", "PET"]),
    help="Contrast of a moving scan; repeat it for several [T2, EPI, CT, PET].",
)
@click.option(
    "--kind",
    type=click.Choice(KINDS),
    metavar="NAME",
    help="Instead of contrasts, one pair of a kind that is hard to register: "
    + ", ".join(KINDS)
    + ".",
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
    kind: str | None,
    seed: int,
    voxel_size: float | None,
    force: bool,
    quiet: bool,
) -> None:
    """Write scans of a synthetic head, and the truth about their pose.

    The T1 is the fixed scan. In the others the head is turned and moved, in all
    alike; truth.json says how, and is read wherever a transform is.

    \b
    Example:
      mireg phantom -o head --contrast EPI --contrast CT
      mireg phantom -o slab --kind slab
    """
    folder = Path(output)
    if kind is not None:
        if contrasts or voxel_size is not None:
            raise InputError(
                "a --kind has its own contrasts and voxel sizes; leave --contrast and "
                "--voxel-size out"
            )
        files = [folder / f for f in ("fixed.nii.gz", "moving.nii.gz", "truth.json")]
        check_folder(folder, files, force=force)
        write_hard_pair(folder, kind, seed=seed, force=force)
        _say_written(files, quiet=quiet)
        return
    names = ["T1", *dict.fromkeys(contrasts or ("T2", "EPI", "CT", "PET"))]
    files = [folder / f"{name.lower()}.nii.gz" for name in names]
    files.append(folder / "truth.json")
    check_folder(folder, files, force=force)
    write_phantoms(folder, names[1:], seed=seed, size=voxel_size, force=force)
    _say_written(files, quiet=quiet)


def _say_written(files: Sequence[Path], *, quiet: bool) -> None:
    """Name the files that were written."""
    if not quiet:
        say("wrote " + ", ".join(printable(str(file)) for file in files))


def write_phantoms(
    folder: Path,
    contrasts: Sequence[str],
    *,
    seed: int,
    size: float | None,
    force: bool,
    kind: str = "phantom",
) -> RigidTransform:
    """Write a T1, the other contrasts and truth.json; return the truth of all."""
    from ..phantom import phantom_pair

    if seed < 0:
        raise InputError(f"seed is {seed}; it must not be negative")
    truth = None
    names = ["t1.nii.gz", *(f"{contrast.lower()}.nii.gz" for contrast in contrasts)]
    with _new_files(folder, [*names, "truth.json"], force=force) as put:
        for contrast, name in zip(contrasts, names[1:], strict=True):
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
            if first:
                put("t1.nii.gz", pair.fixed)
            put(name, pair.moving)
        assert truth is not None
        about = {"seed": seed, "kind": kind, "fixed": "t1.nii.gz", "moving": names[1:]}
        put("truth.json", _record(about, truth))
    return truth


def write_hard_pair(folder: Path, kind: str, *, seed: int, force: bool) -> None:
    """Write the two scans of one of the hard kinds, and truth.json."""
    from ..phantom import hard_pair

    if seed < 0:
        raise InputError(f"seed is {seed}; it must not be negative")
    fixed, moving, truth, _ = hard_pair(kind, seed)
    names = ("fixed.nii.gz", "moving.nii.gz", "truth.json")
    with _new_files(folder, names, force=force) as put:
        put("fixed.nii.gz", fixed)
        put("moving.nii.gz", moving)
        images = {"fixed": "fixed.nii.gz", "moving": "moving.nii.gz"}
        put("truth.json", _record({"seed": seed, "kind": kind, **images}, truth))


def _record(about: dict[str, Any], truth: RigidTransform) -> dict[str, Any]:
    """Say how the moving scans lie, in the layout that is read as a transform."""
    from .._files.transforms.record import SCHEMA

    return {"schema": SCHEMA, **about, "moving_from_fixed": truth.matrix.tolist()}


@contextmanager
def _new_files(
    folder: Path, names: Iterable[str], *, force: bool
) -> Iterator[Callable[[str, Image | dict[str, Any]], None]]:
    """Put images and records into a folder: all of them, or none if one fails."""
    import nibabel as nib
    import numpy as np

    from .._files import nifti
    from .._files.writing import new_files
    from .._image import Image

    whole_numbers = nib.Nifti1Image(np.zeros((1, 1, 1), np.int16), np.eye(4))
    folder_is_new = not folder.exists()
    folder.mkdir(exist_ok=True)
    try:
        with new_files([folder / name for name in names], force=force) as files:

            def put(name: str, content: Image | dict[str, Any]) -> None:
                path = folder / name
                if isinstance(content, Image):
                    nifti.dump_image(
                        files[path], path, content, template=whole_numbers, space=1
                    )
                else:
                    files[path].write(to_json(content).encode())

            yield put
    except BaseException:
        if folder_is_new and not any(folder.iterdir()):
            folder.rmdir()
        raise
