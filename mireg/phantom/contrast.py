"""What a head is made of, and how a kind of scanner shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from .._errors import InputError

#: What a head is made of.
TISSUES = (
    *("air", "skin", "fat", "muscle", "bone", "diploe", "blood", "csf"),
    *("grey", "white", "deep", "vitreous", "lens"),
)
#: The tissues of the brain itself.
BRAIN = ("grey", "white", "deep")


@dataclass(frozen=True)
class Contrast:
    """How a kind of scanner shows a head.

    Parameters
    ----------
    intensities : mapping of str to float
        Intensity of each of `TISSUES`.
    voxel_size_mm : float
        Usual voxel size.
    blur_fwhm_mm : float
        Full width at half maximum of the Gaussian point spread, besides the
        averaging within each voxel.
    noise : {"rician", "gaussian", "poisson"}
        Rician for MR magnitudes, Gaussian for CT; "poisson" has a variance in
        proportion to the intensity and the grain of the point spread.
    noise_level : float
        Standard deviation of the noise, in units of intensity (for "poisson",
        in grey matter).
    bias : float
        Standard deviation of the logarithm of the smooth shading.
    dropout : float
        Fraction of signal lost above the nasal sinuses and the ear canals.

    Examples
    --------
    The T1 contrast without noise and shading:

    >>> from dataclasses import replace
    >>> clean = replace(CONTRASTS["T1"], noise_level=0.0, bias=0.0)
    >>> clean.intensities["white"] > clean.intensities["grey"]
    True
    """

    intensities: Mapping[str, float]
    voxel_size_mm: float = 1.0
    blur_fwhm_mm: float = 0.0
    noise: Literal["rician", "gaussian", "poisson"] = "rician"
    noise_level: float = 0.0
    bias: float = 0.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Check the table once."""
        if set(self.intensities) != set(TISSUES):
            odd = sorted(set(self.intensities) ^ set(TISSUES))
            raise InputError(
                "a contrast needs one intensity for each tissue; missing or unknown: "
                + ", ".join(odd)
            )


def _table(*intensities: float) -> Mapping[str, float]:
    """Name intensities given in the order of `TISSUES`."""
    return MappingProxyType(dict(zip(TISSUES, intensities, strict=True)))


#: The contrasts that can be asked for by name. CT is in Hounsfield units.
CONTRASTS: Mapping[str, Contrast] = MappingProxyType(
    # air skin fat muscle bone diploe blood csf grey white deep vitreous lens
    {
        "T1": Contrast(
            _table(0, 420, 930, 400, 50, 430, 230, 160, 510, 740, 600, 140, 300),
            noise_level=18,
            bias=0.08,
        ),
        "T2": Contrast(
            _table(0, 280, 600, 210, 40, 300, 110, 980, 540, 390, 430, 960, 180),
            noise_level=20,
            bias=0.06,
        ),
        "PD": Contrast(
            _table(0, 500, 880, 560, 60, 450, 200, 860, 800, 660, 730, 850, 480),
            noise_level=18,
            bias=0.06,
        ),
        "FLAIR": Contrast(
            _table(0, 380, 820, 300, 40, 380, 150, 90, 600, 460, 520, 80, 220),
            noise_level=20,
            bias=0.08,
        ),
        "EPI": Contrast(
            _table(0, 90, 110, 140, 20, 70, 250, 980, 700, 540, 560, 800, 110),
            voxel_size_mm=3.0,
            blur_fwhm_mm=2.5,
            noise_level=20,
            bias=0.18,
            dropout=0.75,
        ),
        "CT": Contrast(
            _table(-1000, 20, -95, 55, 1350, 550, 52, 8, 39, 28, 37, 12, 85),
            blur_fwhm_mm=1.0,
            noise="gaussian",
            noise_level=9,
        ),
        "PET": Contrast(
            _table(0, 110, 50, 190, 60, 140, 220, 70, 1000, 330, 950, 60, 60),
            voxel_size_mm=4.0,
            blur_fwhm_mm=7.0,
            noise="poisson",
            noise_level=70,
        ),
    }
)


def named_contrast(contrast: str | Contrast) -> Contrast:
    """Return a contrast by name, or as it is."""
    if isinstance(contrast, Contrast):
        return contrast
    if contrast not in CONTRASTS:
        known = ", ".join(CONTRASTS)
        raise InputError(f"there is no contrast {contrast!r}; choose one of {known}")
    return CONTRASTS[contrast]
