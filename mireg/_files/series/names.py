"""What the files of a series are called: after a prefix, or as BIDS has it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..._errors import InputError
from ..bids import BidsName, parse
from ..transforms.series import series_format
from ..writing import PathLike

#: Ends of the names of images.
_IMAGES = (".nii.gz", ".nii")


@dataclass(frozen=True)
class SeriesFiles:
    """The files of a series to write.

    Attributes
    ----------
    image : Path or None
        The moved series.
    reference : Path
        What the volumes were brought into line with.
    transforms : dict of str to Path
        By format; some are folders.
    table, definitions : Path
        The motion, and what the columns mean.
    record : Path
        All transforms as numbers, and how they were found.
    picture : Path or None
        Motion over time.
    report : Path or None
        A page to look at.
    """

    image: Path | None
    reference: Path
    transforms: dict[str, Path]
    table: Path
    definitions: Path
    record: Path
    picture: Path | None
    report: Path | None = None

    @property
    def single(self) -> list[Path]:
        """Those that are files."""
        some = (
            self.image,
            self.reference,
            *(p for n, p in self.transforms.items() if not series_format(n).folder),
            *(self.table, self.definitions, self.record, self.picture, self.report),
        )
        return [path for path in some if path is not None]

    @property
    def folders(self) -> list[Path]:
        """Those that are folders."""
        return [p for n, p in self.transforms.items() if series_format(n).folder]


def named(
    prefix: PathLike,
    formats: Sequence[str],
    *,
    image: bool = True,
    picture: bool = False,
    report: bool = False,
) -> SeriesFiles:
    """Name the files after a prefix.

    Examples
    --------
    >>> files = named("run1", ["itk", "fsl"])
    >>> [path.name for path in files.single]
    ['run1.nii.gz', 'run1_reference.nii.gz', 'run1_xfm.txt', 'run1_confounds.tsv',
     'run1_confounds.json', 'run1.json']
    >>> [path.name for path in files.folders]
    ['run1.mat']
    """
    base = os.fspath(prefix)
    end = next((end for end in _IMAGES if base.endswith(end)), "")
    base = base.removesuffix(end)
    if os.path.basename(base) in ("", ".", ".."):
        raise InputError(
            f"{prefix}: names a folder only; add how the names of the files begin"
        )
    kind = end or ".nii.gz"
    rows = [series_format(name) for name in formats]
    return SeriesFiles(
        Path(base + kind) if image else None,
        Path(f"{base}_reference{kind}"),
        {row.name: Path(base + row.suffix) for row in rows},
        Path(f"{base}_confounds.tsv"),
        Path(f"{base}_confounds.json"),
        Path(f"{base}.json"),
        Path(f"{base}.png") if picture else None,
        Path(f"{base}.html") if report else None,
    )


def bids_named(
    folder: PathLike,
    series: str,
    formats: Sequence[str],
    *,
    to: str | None = None,
    image: bool = True,
    picture: bool = False,
    report: bool = False,
) -> SeriesFiles | None:
    """Name the files as BIDS and fMRIPrep do, or tell that the series has no such name.

    Examples
    --------
    >>> files = bids_named("", "sub-01_task-rest_bold.nii.gz", ["itk"], picture=True)
    >>> [path.name for path in files.single]
    ['sub-01_task-rest_desc-hmc_bold.nii.gz',
     'sub-01_task-rest_desc-hmc_boldref.nii.gz',
     'sub-01_task-rest_from-orig_to-boldref_mode-image_desc-hmc_xfm.txt',
     'sub-01_task-rest_desc-confounds_timeseries.tsv',
     'sub-01_task-rest_desc-confounds_timeseries.json',
     'sub-01_task-rest_from-orig_to-boldref_mode-image_desc-hmc_xfm.json',
     'sub-01_task-rest_desc-hmc_bold.png']
    """
    name = parse(series)
    if name is None:
        return None
    own = name.without("space", "res", "den", "desc").entities
    onto = f"{name.suffix}ref"
    space: tuple[tuple[str, str], ...] = ()
    if to is not None:
        still = parse(to)
        onto = "T1w" if still is None else still.get("space") or still.suffix
        space = (("space", onto),)
    hmc = (("desc", "hmc"),)
    ways = (("from", "orig"), ("to", onto), ("mode", "image"))
    moved = BidsName((*own, *space, *hmc), name.suffix)
    transform = Path(folder) / str(BidsName((*own, *ways, *hmc), "xfm"))
    table = Path(folder) / str(BidsName((*own, ("desc", "confounds")), "timeseries"))
    end = {"itk": ".txt"}
    rows = [series_format(one) for one in formats]
    return SeriesFiles(
        Path(folder) / f"{moved}.nii.gz" if image else None,
        Path(folder) / f"{BidsName((*own, *hmc), f'{name.suffix}ref')}.nii.gz",
        {
            row.name: transform.with_name(
                transform.name + end.get(row.name, row.suffix)
            )
            for row in rows
        },
        table.with_name(table.name + ".tsv"),
        table.with_name(table.name + ".json"),
        transform.with_name(transform.name + ".json"),
        Path(folder) / f"{moved}.png" if picture else None,
        Path(folder) / f"{moved}.html" if report else None,
    )
