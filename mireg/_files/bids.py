"""Names after the Brain Imaging Data Structure (BIDS). Strings only, no files.

A name is made of entities, key-value pairs in a set order, and a suffix that says what
is in the file: ``sub-01_task-rest_bold.nii.gz``. See https://bids-specification.
readthedocs.io, derivatives, for what transforms and images in another space are called.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import PurePath

#: Entities that stand behind ``space`` in a name.
_AFTER_SPACE = (
    *("cohort", "split", "recording", "chunk", "seg", "res", "den", "label", "desc"),
)

#: Entities that speak of the grid or processing of an image, not of the scan itself.
_OF_THE_GRID = ("space", "cohort", "res", "den")

#: Entities that speak of what is shown in an image.
_OF_THE_PICTURE = ("seg", "label", "desc")

#: What one volume of a series is called.
_ONE_VOLUME = {"bold": "boldref"}


@dataclass(frozen=True)
class BidsName:
    """A file name, taken apart.

    Attributes
    ----------
    entities : tuple of (str, str)
        Keys and values, in the order of the name.
    suffix : str
        What is in the file, T1w for instance.
    """

    entities: tuple[tuple[str, str], ...]
    suffix: str

    def __str__(self) -> str:
        """Put the name together, without extension."""
        return "_".join(
            [*(f"{key}-{value}" for key, value in self.entities), self.suffix]
        )

    def get(self, key: str) -> str:
        """Give the value of an entity, or an empty string."""
        return dict(self.entities).get(key, "")

    def without(self, *keys: str) -> BidsName:
        """Leave entities out."""
        return replace(
            self, entities=tuple(pair for pair in self.entities if pair[0] not in keys)
        )


@dataclass(frozen=True)
class Outputs:
    """What the results of a registration are called, without extension.

    Attributes
    ----------
    image : str
        The moving image on the grid of the fixed one.
    transform : str
        What brings moving onto fixed.
    inverse : str
        The fixed image on the grid of the moving one.
    """

    image: str
    transform: str
    inverse: str


def parse(path: str) -> BidsName | None:
    """Take a file name apart, or tell that it is none of BIDS.

    Parameters
    ----------
    path : str
        Name of an image; folders before it do not matter.

    Returns
    -------
    BidsName or None
        None if the name does not begin with ``sub-`` or ``tpl-``, or something in it
        is neither an entity nor a last suffix.

    Examples
    --------
    >>> parse("ds/sub-01/func/sub-01_task-rest_bold.nii.gz")
    BidsName(entities=(('sub', '01'), ('task', 'rest')), suffix='bold')
    >>> parse("bold.nii.gz") is None
    True
    """
    stem = PurePath(path).name.partition(".")[0]
    *pairs, suffix = stem.split("_")
    entities = [pair.split("-") for pair in pairs]
    if not all(
        len(entity) == 2 and all(re.fullmatch("[0-9a-zA-Z+]+", word) for word in entity)
        for entity in entities
    ):
        return None
    keys = [key for key, _ in entities]
    if not keys or keys[0] not in ("sub", "tpl") or len(set(keys)) < len(keys):
        return None
    if not re.fullmatch("[0-9a-zA-Z]+", suffix):
        return None
    return BidsName(tuple((key, value) for key, value in entities), suffix)


def output_names(
    fixed: str, moving: str, *, whole_series: bool = False
) -> Outputs | None:
    """Name the results of a registration after both images.

    Parameters
    ----------
    fixed, moving : str
        Names of the images.
    whole_series : bool, optional
        Whether all volumes of a series are written, rather than one made of them.

    Returns
    -------
    Outputs or None
        None if a name is not one of BIDS, or if nothing in them tells them apart.

    Examples
    --------
    >>> names = output_names("sub-01_T1w.nii.gz", "sub-01_bold.nii.gz")
    >>> names.transform
    'sub-01_from-bold_to-T1w_mode-image_xfm'
    >>> names.image
    'sub-01_space-T1w_boldref'
    >>> names.inverse
    'sub-01_space-bold_T1w'
    """
    there = _names(fixed, moving, whole_series)
    back = _names(moving, fixed, whole_series)
    if there is None or back is None:
        return None
    return Outputs(*there, inverse=back[0])


def _names(fixed: str, moving: str, whole_series: bool) -> tuple[str, str] | None:
    """Name the image and the transform of one way."""
    still, moved = parse(fixed), parse(moving)
    if still is None or moved is None:
        return None
    here, there = _space(moved), _space(still)
    # Who and when it is must show; what else differs, where the kind is the same.
    telling = None if here == there else ("sub", "ses")
    there = _differing(still, moved, telling) + there
    if here == there:
        here = _differing(moved, still, None) + here
    if here == there:
        return None
    if not moved.get("sub"):  # a template brought onto somebody
        own = tuple(pair for pair in still.entities if pair[0] in ("sub", "ses"))
        moved = replace(
            moved.without("tpl"), entities=own + moved.without("tpl").entities
        )
    scan = moved.without(*_OF_THE_GRID)
    split = next(
        (i for i, (key, _) in enumerate(scan.entities) if key in _AFTER_SPACE),
        len(scan.entities),
    )
    image = BidsName(
        (*scan.entities[:split], ("space", there), *scan.entities[split:]),
        scan.suffix if whole_series else _ONE_VOLUME.get(scan.suffix, scan.suffix),
    )
    ways = (("from", here), ("to", there), ("mode", "image"))
    transform = BidsName(scan.without(*_OF_THE_PICTURE).entities + ways, "xfm")
    return str(image), str(transform)


def sidecar(fixed: str, moving: str, method: str) -> dict[str, object]:
    """Say where a result comes from, for the JSON file beside it.

    Examples
    --------
    >>> sidecar("ds/sub-01/anat/sub-01_T1w.nii", "sub-01_bold.nii", "mireg, rigid")
    {'Sources': ['sub-01_bold.nii', 'sub-01/anat/sub-01_T1w.nii'],
     'SpatialReference': 'sub-01/anat/sub-01_T1w.nii',
     'RegistrationMethod': 'mireg, rigid'}
    """
    reference = in_dataset(fixed)
    return {
        "Sources": [in_dataset(moving), reference],
        "SpatialReference": reference,
        "RegistrationMethod": method,
    }


def in_dataset(path: str) -> str:
    """Give a path as seen from the root of its data set, which holds ``sub-`` folders.

    Examples
    --------
    >>> in_dataset("/data/ds/sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz")
    'sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz'
    """
    *folders, name = PurePath(path).parts
    roots = [i for i, part in enumerate(folders) if re.fullmatch("(sub|tpl)-.+", part)]
    return "/".join([*folders[roots[-1] :], name]) if roots else name


def _space(name: BidsName) -> str:
    """Name the space that an image is in: a template, or the scan itself."""
    return name.get("space") or name.get("tpl") or name.suffix


def _differing(name: BidsName, other: BidsName, keys: tuple[str, ...] | None) -> str:
    """Write those entities of a name that the other has otherwise or not at all."""
    return "".join(
        key + value
        for key, value in name.entities
        if (keys is None or key in keys)
        and key not in (*_OF_THE_GRID, "tpl")
        and other.get(key) != value
        and not (key in ("sub", "ses") and not other.get(key) and other.get("tpl"))
    )
