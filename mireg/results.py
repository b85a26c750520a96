"""The files of a registration: the moved image, the transform, the record."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__, bids, formats, transform_files
from .records import to_json
from .resample import Interpolation

if TYPE_CHECKING:
    from .registration import Registration


@dataclass(frozen=True)
class Files:
    """The files to write: an image, a transform in each format, a record.

    With names of BIDS the image has a record of its own, the sidecar.
    """

    image: Path
    transforms: Mapping[Path, str]
    record: Path
    sidecar: Path | None = None

    @classmethod
    def named(
        cls,
        prefix: str,
        transform_formats: Sequence[str],
        names: bids.Outputs | None = None,
    ) -> Files:
        """Name the files after a prefix, or as BIDS has it."""
        image = prefix if names is None else names.image
        base = prefix if names is None else names.transform
        ends = {name: transform_files.suffix_of(name) for name in transform_formats}
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
    found: Registration,
    files: Files,
    *,
    interpolation: Interpolation = "linear",
    fill: float | None = None,
    force: bool = False,
    seconds: Mapping[str, float] | None = None,
    options: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Write the files of a registration: all of them, or none.

    Parameters
    ----------
    found : Registration
        What to write.
    files : Files
        Where to.
    interpolation, fill, force
        See `Registration.save`.
    seconds, options, notes : optional
        What else to say in the record: times of other stages, options that were
        given, what was told.

    Returns
    -------
    dict
        The record as written.
    """
    source = found.moving.source
    template = None if source is None else source.opened
    if fill is not None and template is not None:
        formats.check_fill(fill, template)
    for path in files.paths:
        formats.check_new(path, force=force)
    start = time.perf_counter()
    moved = found.resample(interpolation=interpolation, fill=fill)
    resampled = time.perf_counter()
    made = files.transform_bytes(found.moving_from_fixed, found.fixed, found.moving)
    with ExitStack() as new_files:
        opened = {
            path: new_files.enter_context(formats.new_file(path, force=force))
            for path in files.paths
        }
        formats.dump_image(opened[files.image], files.image, moved, template=template)
        for path, content in made.items():
            opened[path].write(content)
        record = found.to_dict()
        record["seconds"] = {
            **(seconds or {}),
            **record["seconds"],
            "resample": resampled - start,
            "write": time.perf_counter() - resampled,
        }
        record["options"] = {
            **(options or {}),
            "interpolation": interpolation,
            "fill": None if fill is None else str(fill),
        }
        record["warnings"] = list(dict.fromkeys([*notes, *record["warnings"]]))
        if files.sidecar is not None:
            fixed, moving = record["fixed"]["path"], record["moving"]["path"]
            method = f"mireg {__version__}, rigid registration by {found.metric}"
            beside = bids.sidecar(fixed, moving, method)
            opened[files.sidecar].write(to_json(beside).encode())
            record = {**beside, **record}
        opened[files.record].write(to_json(record).encode())
    return record
