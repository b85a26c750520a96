"""A BIDS data set from start to end: sessions, runs, echoes, and what is wrong."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess

import nibabel as nib
import numpy as np
import pytest
from checks import Here

from mireg import RigidTransform, write_image
from mireg.cli import main, many
from mireg.phantom import phantom_pair

pytestmark = pytest.mark.slow

#: Names of the images, and which of the scans of the phantom each is.
TREE = {
    "sub-01/ses-1/anat/sub-01_ses-1_T1w": "fixed",
    "sub-01/ses-1/anat/sub-01_ses-1_run-1_T2w": "moving",
    "sub-01/ses-1/anat/sub-01_ses-1_run-2_T2w": "moving",
    "sub-01/ses-1/func/sub-01_ses-1_task-rest_echo-1_bold": "series",
    "sub-01/ses-1/func/sub-01_ses-1_task-rest_echo-2_bold": "series",
    "sub-01/ses-1/func/sub-01_ses-1_task-nback_bold": "series",
    "sub-01/ses-1/func/sub-01_ses-1_task-nback_sbref": "moving",
    "sub-01/ses-2/perf/sub-01_ses-2_asl": "series",  # its T1w is that of session 1
    "sub-02/anat/sub-02_T2w": "moving",  # it has no T1w
    "sub-03/anat/sub-03_T1w": "fixed",
    "sub-03/anat/sub-03_FLAIR": "broken",
    "sub-03/pet/sub-03_pet": "moving",
}

#: What is registered.
PAIRS = {
    "sub-01_ses-1_run-1_T2w": "done",
    "sub-01_ses-1_run-2_T2w": "done",
    "sub-01_ses-1_task-rest_echo-1_bold": "done",
    "sub-01_ses-1_task-nback_sbref": "done",
    "sub-01_ses-2_asl": "done",
    "sub-03_FLAIR": "failed",
    "sub-03_pet": "done",
}


@pytest.fixture(scope="module")
def derived(tmp_path_factory):
    """Register the data set."""
    raw = tmp_path_factory.mktemp("bids") / "raw"
    pose = RigidTransform([0.03, 0.02, 0], [2, -1, 1])
    pair = phantom_pair(
        "T1", "T2", pose=pose, fixed_voxel_size_mm=8, moving_voxel_size_mm=8
    )
    moving = pair.moving
    series = np.repeat(moving.data[..., None], 3, axis=-1)
    for name, scan in TREE.items():
        path = raw / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        if scan == "broken":
            path.write_bytes(b"nonsense")
        elif scan == "series":
            nib.Nifti1Image(series, moving.mm_from_ijk).to_filename(path)
        else:
            write_image(path, getattr(pair, scan))
    out = raw / "derivatives" / "mireg"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(many, "_pool", lambda *_: Here())
        how = ("--init", "header", "--effort", "quick")
        code = main(["bids", str(raw), str(out), "participant", *how])
        assert code == many.SOME_FAILED
        assert main(["bids", str(raw), str(out), "group"]) == many.SOME_FAILED
    return out


def test_a_data_set_runs_from_start_to_end(derived):
    with (derived / "results.tsv").open() as file:
        rows = {row["id"]: row for row in csv.DictReader(file, delimiter="\t")}
    assert {name: row["status"] for name, row in rows.items()} == PAIRS
    about = json.loads((derived / "dataset_description.json").read_text())
    assert about["DatasetType"] == "derivative"
    perf = derived / "sub-01" / "ses-2" / "perf"
    name = "sub-01_ses-2_from-asl_to-ses1T1w_mode-image_xfm"
    assert (perf / f"{name}.txt").is_file()
    assert "sub-02" not in " ".join(path.name for path in derived.iterdir())
    assert (derived / "index.html").is_file()
    image = "sub-01/ses-1/anat/sub-01_ses-1_run-1_space-T1w_T2w.json"
    assert json.loads((derived / image).read_text())["SkullStripped"] is False


def test_the_validator_of_bids_finds_no_error(derived):
    validator = shutil.which("bids-validator-deno")
    if validator is None:
        pytest.skip("needs pip install bids-validator-deno")
    said = subprocess.run(
        [validator, str(derived), "--format", "json", "--no-color"],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        issues = json.loads(said.stdout)["issues"]["issues"]
    except ValueError:
        pytest.skip(f"the validator does not run here: {said.stderr[-300:]}")
    errors = [issue for issue in issues if issue["severity"] == "error"]
    assert errors == []
    # What is only recommended: authors are for who shares it to name.
    hints = {issue["code"] for issue in issues}
    assert hints <= {"TOO_FEW_AUTHORS", "SIDECAR_KEY_RECOMMENDED"}
