"""The pairs that defeat registration, by name, each with its exact truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from .contrast import CONTRASTS, Contrast

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Acquisition:
    """How one of the two scans of a kind is made.

    Attributes
    ----------
    look : Contrast
        Intensities, blur and noise.
    voxel_mm : tuple of float
        Voxel size along the axes of the box.
    fov_mm : tuple of float or None
        Field of view; None holds the whole subject.
    slices : tuple of int or None
        Fewest and most slices along the third axis, in place of its field of view.
    centre_mm, loose_mm : tuple of float
        Middle of the field of view in the subject, and how far it may be off.
    turn_deg : tuple of float
        How the box lies: turns about x, y, z in this order.
    gantry_deg : float
        Tilt of a CT's gantry, which shears the grid.
    fill : float or None
        Intensity outside of the circle that a CT shows.
    lesions : str
        What grew or was cut out; empty if nothing.
    stripped, defaced, in_ct : bool
        Nothing but brain is left; the face is cut away; with table, holder and metal.
    coil : float
        Strength of the receive coil's shading.
    surface_coil_mm : float
        Reach of receive coils that lie at the back of the head.
    distortion_mm : float
        Largest shift of an EPI, phase-encoded along x, before the shim.
    """

    look: Contrast
    voxel_mm: Triple
    fov_mm: Triple | None = None
    slices: tuple[int, int] | None = None
    centre_mm: Triple = (0.0, 0.0, 0.0)
    loose_mm: Triple = (0.0, 0.0, 0.0)
    turn_deg: Triple = (0.0, 0.0, 0.0)
    gantry_deg: float = 0.0
    fill: float | None = None
    lesions: Literal["", "tumour", "enhanced", "plaques", "cavity"] = ""
    stripped: bool = False
    defaced: bool = False
    in_ct: bool = False
    coil: float = 0.0
    surface_coil_mm: float = 0.0
    distortion_mm: float = 0.0


@dataclass(frozen=True)
class Kind:
    """A kind of pair.

    Attributes
    ----------
    says : str
        What makes it hard, in a few words.
    fixed, moving : Acquisition
        The two scans.
    subject : str
        Whose.
    max_angle_deg, max_offset_mm : float
        From how far off it should come right.
    limit_mm : float
        Mean error of an answer that is right.
    identical : bool
        The moving scan is the fixed one.
    """

    says: str
    fixed: Acquisition
    moving: Acquisition
    subject: str = "head"
    max_angle_deg: float = 180.0
    max_offset_mm: float = 100.0
    limit_mm: float = 2.0
    identical: bool = False


def _look(name: str, **tissues: float) -> Contrast:
    """Take one of `CONTRASTS` with some tissues changed."""
    look = CONTRASTS[name]
    changed = MappingProxyType({**look.intensities, **tissues})
    return replace(look, intensities=changed)


_T1 = Acquisition(CONTRASTS["T1"], (2.0, 2.0, 2.0))
_T2 = Acquisition(CONTRASTS["T2"], (2.0, 2.0, 2.0))
_FLAIR = Acquisition(CONTRASTS["FLAIR"], (2.0, 2.0, 3.0))
_EPI = Acquisition(CONTRASTS["EPI"], (3.0, 3.0, 3.0))
_ENHANCED = _look("T1", blood=980, muscle=480, skin=520, diploe=560)
_CT = Acquisition(
    CONTRASTS["CT"],
    (1.4, 1.4, 3.0),
    fov_mm=(270.0, 270.0, 200.0),
    centre_mm=(0.0, -12.0, -10.0),
    loose_mm=(8.0, 5.0, 8.0),
    in_ct=True,
    fill=-1024.0,
)
#: Warm muscle, glands and skin outside a brain of few counts.
_PET = replace(
    _look("PET", muscle=420, skin=260, fat=160, blood=400, diploe=330),
    noise_level=140,
)
_SPECT = replace(
    _look("PET", white=380, muscle=300, skin=340, fat=120, diploe=250),
    noise_level=170,
    blur_fwhm_mm=12.0,
)
#: Before the fat of myelin forms, white matter holds more water than grey.
_INFANT_T1 = _look("T1", grey=640, white=470, deep=620)
_INFANT_T2 = _look("T2", grey=430, white=600, deep=400)
#: Without the shading of a head coil and the dropout above sinuses.
_BODY_EPI = replace(CONTRASTS["EPI"], blur_fwhm_mm=0.0, dropout=0.0)

#: Tissues nearly alike, as with a short repetition time, and more noise.
_FLAT_EPI = replace(
    _look("EPI", white=560, grey=640, deep=570, csf=780, blood=700), noise_level=25
)
_NOISY_T1 = replace(CONTRASTS["T1"], noise_level=60, bias=0.15)
_NOISY_T2 = replace(CONTRASTS["T2"], noise_level=60, bias=0.15)

_BRAIN_FOV = (200.0, 220.0, 156.0)

#: The hard kinds by name. Voxels are larger than a hospital's, for speed.
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "slab": Kind(
            "10 to 30 slices of EPI against a whole head",
            _T1,
            replace(
                _EPI,
                slices=(10, 30),
                fov_mm=(216.0, 216.0, 0.0),
                centre_mm=(0.0, -5.0, 12.0),
                loose_mm=(6.0, 6.0, 30.0),
                turn_deg=(-15.0, 0.0, 0.0),
            ),
        ),
        "slab-occipital": Kind(
            "an oblique slab of EPI through the back of the head",
            _T1,
            replace(
                _EPI,
                voxel_mm=(2.0, 2.0, 2.0),
                slices=(22, 28),
                fov_mm=(150.0, 140.0, 0.0),
                centre_mm=(0.0, -62.0, 2.0),
                loose_mm=(5.0, 8.0, 8.0),
                turn_deg=(48.0, 0.0, 0.0),
            ),
        ),
        "slab-surface-coil": Kind(
            "an oblique slab of EPI seen by surface coils behind the head, distorted",
            _T1,
            Acquisition(
                _FLAT_EPI,
                (2.25, 2.25, 2.5),
                slices=(22, 22),
                fov_mm=(162.0, 126.0, 0.0),
                centre_mm=(0.0, -52.0, 0.0),
                loose_mm=(5.0, 6.0, 6.0),
                turn_deg=(35.0, 0.0, 0.0),
                surface_coil_mm=50.0,
                distortion_mm=6.0,
            ),
        ),
        "slices": Kind(
            "2 or 3 slices of EPI against a whole head",
            _T1,
            replace(
                _EPI,
                voxel_mm=(2.5, 2.5, 4.0),
                slices=(2, 3),
                fov_mm=(220.0, 220.0, 0.0),
                centre_mm=(0.0, 0.0, 18.0),
                loose_mm=(5.0, 5.0, 20.0),
                turn_deg=(-10.0, 0.0, 0.0),
            ),
            max_angle_deg=45.0,
            max_offset_mm=60.0,
        ),
        "neck": Kind(
            "a head with face and neck against an EPI of the brain alone",
            _T1,
            replace(_EPI, stripped=True, fov_mm=_BRAIN_FOV),
        ),
        "coil": Kind(
            "a head with face and neck against an EPI shaded by its receive coil",
            _T1,
            replace(_EPI, coil=2.0, fov_mm=(216.0, 222.0, 180.0)),
        ),
        "epi-lr": Kind(
            "an EPI with distortion, encoded from left to right, and dropout",
            _T1,
            replace(_EPI, distortion_mm=9.0, fov_mm=_BRAIN_FOV),
        ),
        "epi-rl": Kind(
            "an EPI with distortion, encoded from right to left, and dropout",
            _T1,
            replace(_EPI, distortion_mm=-9.0, fov_mm=_BRAIN_FOV),
        ),
        "epi-both": Kind(
            "two EPI encoded in opposite directions",
            replace(_EPI, distortion_mm=9.0, fov_mm=_BRAIN_FOV),
            replace(_EPI, distortion_mm=-9.0, fov_mm=_BRAIN_FOV),
        ),
        "ct": Kind(
            "a CT with table, head-holder and dental metal, filled with -1024",
            _T1,
            _CT,
        ),
        "ct-gantry": Kind(
            "a CT with tilted gantry and thick slices, filled with -3024",
            _T2,
            replace(_CT, voxel_mm=(1.4, 1.4, 5.0), gantry_deg=-18.0, fill=-3024.0),
        ),
        "pet": Kind(
            "a PET of few counts with uptake outside the brain",
            _T1,
            Acquisition(_PET, (3.0, 3.0, 3.0), fov_mm=(256.0, 256.0, 156.0)),
        ),
        "spect": Kind(
            "a SPECT: heavy blur, few counts, warm scalp",
            _T1,
            Acquisition(_SPECT, (4.0, 4.0, 4.0), fov_mm=(240.0, 240.0, 180.0)),
        ),
        "thick": Kind(
            "slices of 6 mm against small voxels",
            _T1,
            replace(_T2, voxel_mm=(1.5, 1.5, 6.0), fov_mm=_BRAIN_FOV),
        ),
        "thick-planes": Kind(
            "two stacks of thick slices, axial and sagittal",
            replace(_T2, voxel_mm=(1.5, 1.5, 6.0), fov_mm=_BRAIN_FOV),
            replace(_FLAIR, voxel_mm=(6.0, 1.5, 1.5), fov_mm=(156.0, 220.0, 190.0)),
        ),
        "tumour": Kind(
            "a tumour that takes up contrast agent, in one scan only",
            replace(_T1, look=_ENHANCED, lesions="enhanced"),
            _T2,
        ),
        "plaques": Kind(
            "many bright lesions, in one scan only",
            _T1,
            replace(_FLAIR, lesions="plaques"),
        ),
        "resection": Kind(
            "a tumour before, a cavity after surgery",
            replace(_T1, lesions="tumour"),
            replace(_T2, lesions="cavity"),
        ),
        "defaced": Kind("a face cut away", replace(_T1, defaced=True), _T2),
        "stripped": Kind(
            "a brain alone against a whole head", replace(_T1, stripped=True), _T2
        ),
        "spine": Kind(
            "not a head: vertebrae that are all alike",
            Acquisition(CONTRASTS["T2"], (1.2, 1.2, 1.2), fov_mm=(64.0, 150.0, 160.0)),
            Acquisition(
                CONTRASTS["T1"],
                (1.0, 1.0, 4.0),
                fov_mm=(120.0, 120.0, 100.0),
                loose_mm=(3.0, 5.0, 15.0),
            ),
            subject="spine",
        ),
        "spine-cropped": Kind(
            "a short piece of a neck whose vertebrae and discs are all alike",
            Acquisition(
                _NOISY_T1,
                (1.0, 1.0, 1.0),
                fov_mm=(44.0, 76.0, 78.0),
                centre_mm=(0.0, 0.0, 0.0),
            ),
            Acquisition(
                _NOISY_T2,
                (1.0, 1.0, 1.0),
                fov_mm=(52.0, 60.0, 55.0),
                centre_mm=(0.0, 4.0, 0.0),
                loose_mm=(3.0, 4.0, 8.0),
            ),
            subject="spine-alike",
        ),
        "knee": Kind(
            "not a head: a knee",
            Acquisition(CONTRASTS["PD"], (1.6, 1.6, 1.6), fov_mm=(150.0, 150.0, 150.0)),
            Acquisition(
                CONTRASTS["T1"],
                (3.5, 1.2, 1.2),
                fov_mm=(112.0, 150.0, 150.0),
                loose_mm=(4.0, 5.0, 8.0),
            ),
            subject="knee",
        ),
        "mouse": Kind(
            "a mouse: voxels of a fifth of a millimetre",
            Acquisition(CONTRASTS["T2"], (0.2, 0.2, 0.2), fov_mm=(20.0, 20.0, 16.0)),
            Acquisition(
                replace(_BODY_EPI, bias=0.25),
                (0.25, 0.25, 0.5),
                fov_mm=(20.0, 20.0, 14.0),
                loose_mm=(0.5, 1.0, 0.5),
            ),
            subject="mouse",
            limit_mm=0.2,
        ),
        "infant": Kind(
            "an infant: small, and white matter darker than grey in T1",
            Acquisition(_INFANT_T1, (1.45, 1.45, 1.45)),
            Acquisition(_INFANT_T2, (1.45, 1.45, 2.9)),
            subject="infant",
        ),
        "near-symmetric": Kind(
            "half a turn brings it almost onto itself",
            _T1,
            _T2,
            subject="near-symmetric",
        ),
        "aligned": Kind(
            "already right: never made worse",
            _T1,
            _T2,
            max_angle_deg=0.0,
            max_offset_mm=0.0,
        ),
        "identical": Kind(
            "one image twice",
            _T1,
            _T1,
            max_angle_deg=0.0,
            max_offset_mm=0.0,
            identical=True,
        ),
    }
)
