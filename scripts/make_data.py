"""Make the small phantom pair of data/ again: python scripts/make_data.py [FOLDER]."""

from __future__ import annotations

import argparse
import gzip
import io
from pathlib import Path

import nibabel as nib
import numpy as np

from mireg._files.records import to_json
from mireg._files.transforms.record import SCHEMA
from mireg._image import Image
from mireg.phantom import phantom_pair

SEED = 2
CASES = (  # id, contrast, voxel size in mm, step between stored intensities
    ("fixed", "T1", 2.0, 12.0),
    ("moving", "EPI", 4.0, 6.0),
)


def nifti_bytes(image: Image, step: float) -> bytes:
    """Return a gzipped NIfTI-1 file of int16 with a scale, free of the date."""
    stored = np.rint(image.data / np.float32(step)).astype(np.int16)
    nifti = nib.Nifti1Image(stored, image.mm_from_ijk)
    nifti.header.set_slope_inter(step, 0.0)
    nifti.header.set_xyzt_units("mm")
    nifti.set_sform(image.mm_from_ijk, code=1)
    nifti.set_qform(image.mm_from_ijk, code=1)
    packed = io.BytesIO()
    with gzip.GzipFile("", "wb", 9, packed, mtime=0) as file:
        file.write(nifti.to_bytes())
    return packed.getvalue()


def make(folder: Path) -> list[Path]:
    """Write both scans and the truth, and return the paths."""
    (_, fixed, fixed_mm, _), (_, moving, moving_mm, _) = CASES
    pair = phantom_pair(
        fixed,
        moving,
        seed=SEED,
        fixed_voxel_size_mm=fixed_mm,
        moving_voxel_size_mm=moving_mm,
    )
    case: dict[str, object] = {"schema": SCHEMA, "id": f"phantom_{fixed}_{moving}"}
    paths = []
    for role, contrast, _, step in CASES:
        paths.append(folder / f"phantom_{contrast}.nii.gz")
        paths[-1].write_bytes(nifti_bytes(getattr(pair, role), step))
        case[role] = paths[-1].name
    case["contrasts"] = f"{fixed}->{moving}"
    case["moving_from_fixed"] = pair.moving_from_fixed.matrix.tolist()
    case["reference"] = f"synthetic head, seed {SEED}: exact"
    case["reference_uncertainty_mm"] = 0.001  # headers are single precision
    paths.append(folder / "truth.json")
    paths[-1].write_text(to_json(case), encoding="utf-8")
    return paths


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(__file__).resolve().parent.parent / "data"
    parser.add_argument("folder", nargs="?", type=Path, default=default)
    for path in make(parser.parse_args().folder):
        print(f"{path}: {path.stat().st_size} bytes")
