# nibabel has no types:
# mypy: disallow-untyped-calls=False
"""The files of a registration: the moved image, the transform, the record."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nibabel as nib

from . import __version__
from ._engine.residuals import LocalResiduals
from ._errors import InputError
from ._files import bids, nifti
from ._files import transforms as transform_files
from ._files.records import to_json
from ._files.writing import check_new, new_files
from ._image import Image
from ._moved import Output, writer
from ._transform import RigidTransform


@dataclass(frozen=True)
class Files:
    """The files to write: an image, if wanted, a transform in each format, a record.

    The inverse image is the fixed one, brought onto the moving one. The map of the
    residuals says how far off each part of the fixed image is. With names of BIDS each
    image has a record of its own, a sidecar. The report is a page to look at.
    """

    image: Path | None
    transforms: Mapping[Path, str]
    record: Path
    inverse: Path | None = None
    with_sidecars: bool = False
    report: Path | None = None
    residuals: Path | None = None

    @classmethod
    def named(
        cls,
        prefix: str,
        transform_formats: Sequence[str],
        names: bids.Outputs | None = None,
        *,
        image: bool = True,
        inverse: bool = False,
        report: bool = False,
        residuals: bool = False,
    ) -> Files:
        """Name the files after a prefix, or as BIDS has it.

        A prefix that ends as one of the files does is the name of that one.
        """
        if inverse and not image:
            raise InputError(
                "an inverse image goes with the image; write both, or none of them"
            )
        with_sidecars = names is not None and image
        kinds = [transform_files.format_name(name) for name in transform_formats]
        # The record is a transform file itself.
        ends = {k: transform_files.suffix_of(k) for k in kinds if k != "json"}
        if names is not None and "itk" in ends:
            ends["itk"] = ".txt"
        given = [".nii.gz", ".nii", ".json", *ends.values()]
        given += [".html"] if report else []
        end = next((end for end in given if prefix.endswith(end)), "")
        base = prefix.removesuffix(end)
        if os.path.basename(base) in ("", ".", ".."):
            raise InputError(
                f"{prefix}: names a folder only; add how the names of the files begin"
            )
        names = names or bids.Outputs(base, base, f"{base}_inverse")
        kind = end if end == ".nii" else ".nii.gz"
        return cls(
            Path(names.image + kind) if image else None,
            {Path(names.transform + end): name for name, end in ends.items()},
            Path(f"{names.transform}.json"),
            Path(names.inverse + kind) if inverse else None,
            with_sidecars,
            Path(f"{names.transform}.html") if report else None,
            Path(f"{base}_residuals.nii.gz") if residuals else None,
        )

    @property
    def images(self) -> list[Path]:
        """The moved image, if there is one, and the inverse one."""
        return [path for path in (self.image, self.inverse) if path is not None]

    @property
    def sidecars(self) -> list[Path]:
        """The record beside each image, under names of BIDS."""
        if not self.with_sidecars:
            return []
        return [path.with_suffix("").with_suffix(".json") for path in self.images]

    @property
    def paths(self) -> list[Path]:
        """All files."""
        more = [path for path in (self.report, self.residuals) if path is not None]
        return [*self.images, *self.transforms, self.record, *self.sidecars, *more]

    def transform_bytes(
        self, moving_from_fixed: Any, fixed: Any, moving: Any
    ) -> dict[Path, bytes]:
        """Make the content of the transform files."""
        return {
            path: transform_files.transform_bytes(
                path, moving_from_fixed, fixed=fixed, moving=moving, format=name
            )
            for path, name in self.transforms.items()
        }


def write(
    record: Mapping[str, Any],
    files: Files,
    *,
    fixed: Image,
    moving: Image,
    transform: RigidTransform,
    output: Output | None = None,
    threads: int | None = None,
    force: bool = False,
    seconds: Mapping[str, float] | None = None,
    options: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    residuals: LocalResiduals | None = None,
    beside: Mapping[Path, bytes] | None = None,
) -> dict[str, Any]:
    """Write the files of a registration: all of them, or none.

    Parameters
    ----------
    record : mapping
        What was found, as `Registration.to_dict` gives it.
    files : Files
        Where to write.
    fixed, moving : Image
        The two images.
    transform : RigidTransform
        Maps points of `fixed` to points of `moving`, RAS+ mm.
    output, force
        See `Registration.save`.
    threads : int, optional
        Threads to use (default: all); the files are the same.
    seconds, options, notes : optional
        What else to say in the record: times of other stages, options that were
        given, what was told.
    residuals : LocalResiduals, optional
        Where a map of them is to be written.
    beside : mapping, optional
        Content of other files to write with them, as pictures.

    Returns
    -------
    dict
        The record as written.
    """
    output, beside = output or Output(), beside or {}
    paths = [*files.paths, *beside]
    for path in paths:
        check_new(path, force=force)
    start = time.perf_counter()
    ways = []
    if files.image is not None:
        ways.append((moving, fixed, transform))
    if files.inverse is not None:
        ways.append((fixed, moving, transform.inverse()))
    writers = [
        writer(
            opened(image),
            onto,
            image_from_onto.matrix,
            output,
            volume=image,
            space=nifti.space_code(opened(onto)),
            threads=threads,
        )
        for image, onto, image_from_onto in ways
    ]
    resampled = time.perf_counter()
    made = files.transform_bytes(transform, fixed, moving)
    fill = None if output.fill is None else str(output.fill)
    record = {
        **record,
        "options": {**(options or {}), **asdict(output), "fill": fill},
        "warnings": list(dict.fromkeys([*notes, *record["warnings"]])),
    }
    if files.report is not None:
        # Slow to import, and only needed here.
        from ._report.page import page_bytes  # noqa: PLC0415

        made[files.report] = page_bytes(
            fixed, moving, transform, record, threads=threads
        )
    with new_files(paths, force=force) as taken:
        for path, write_image in zip(files.images, writers, strict=True):
            write_image(taken[path], path)
        for path, content in {**made, **beside}.items():
            taken[path].write(content)
        if files.residuals is not None and residuals is not None:
            nifti.dump_image(
                taken[files.residuals],
                files.residuals,
                residuals.on_grid_of(fixed),
                template=None,
                space=nifti.space_code(opened(fixed)),
            )
        method = f"mireg {__version__}, rigid registration by {record['metric']}"
        images = record["fixed"]["path"], record["moving"]["path"]
        ends = (images, images[::-1])
        sidecars = [bids.sidecar(*pair, method) for pair in ends[: len(files.sidecars)]]
        for path, sidecar in zip(files.sidecars, sidecars, strict=True):
            # BIDS asks whether the brain alone is left; nothing is taken away here.
            about = {**sidecar, "SkullStripped": "_desc-brain_" in path.name}
            taken[path].write(to_json(about).encode())
        written = {
            **(sidecars[0] if sidecars else {}),
            **record,
            "seconds": {
                **(seconds or {}),
                **record["seconds"],
                "resample": resampled - start,
                "write": time.perf_counter() - resampled,
            },
        }
        taken[files.record].write(to_json(written).encode())
    return written


def opened(image: Image) -> Any:
    """Give what an image was read from, or put its voxels under a header."""
    if image.source is not None:
        return image.source.opened
    return nib.Nifti1Image(image.data, image.mm_from_ijk)
