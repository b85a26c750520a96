"""Sessions of the patients of a case file."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np

from mireg.phantom import phantom_pair

SCRIPTS = Path(__file__).parent.parent / "scripts"

NAMES = ("t1.nii.gz", "t2.nii.gz", "flair.nii.gz")


def test_a_session_holds_what_the_pairs_of_one_patient_name(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import session_study  # noqa: PLC0415

    scans = [
        phantom_pair("T1", contrast, fixed_voxel_size_mm=6, moving_voxel_size_mm=6)
        for contrast in ("T2", "FLAIR")
    ]
    images = [scans[0].fixed, scans[0].moving, scans[1].moving]
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for name, image in zip(NAMES, images, strict=True):
            made = nib.Nifti1Image(image.data, image.mm_from_ijk)
            nib.save(made, tmp_path / folder / name)
    first = [scan.moving_from_fixed.matrix for scan in scans]
    matrices = [first[0], first[1] @ np.linalg.inv(first[0])]
    cases = [
        {
            "id": f"{folder}_{k}",
            "fixed": f"{folder}/{NAMES[k]}",
            "moving": f"{folder}/{NAMES[k + 1]}",
            "moving_from_fixed": matrices[k].tolist(),
            "reference_uncertainty_mm": 0.5,
        }
        for folder, count in (("one", 2), ("two", 1))
        for k in range(count)
    ]
    path = tmp_path / "cases.json"
    path.write_text(json.dumps(cases), encoding="utf-8")
    session_study.main(["--cases", str(path)])
    printed = capsys.readouterr().out
    assert "one: 3 images, 3 pairs" in printed
    assert "two" not in printed  # a pair is no session
    rows = [line.split() for line in printed.splitlines() if " alone " in line][:-1]
    assert [row[0] for row in rows] == ["one_0", "one_1"]
    assert max(float(row[k]) for row in rows for k in (2, 4)) < 0.6
