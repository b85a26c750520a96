"""Names after BIDS, worked by hand from its specification."""

from __future__ import annotations

import json

import numpy as np
import pytest
from test_cli import files, pair, scans  # noqa: F401, fixtures

from mireg._files import bids
from mireg._transform import read_transform
from mireg.cli import main

# --- names ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "entities", "suffix"),
    [
        ("sub-01_T1w.nii.gz", [("sub", "01")], "T1w"),
        ("a_b/c-d/sub-01_ses-x_PET.mgz", [("sub", "01"), ("ses", "x")], "PET"),
        ("tpl-MNI_res-01_T1w.nii", [("tpl", "MNI"), ("res", "01")], "T1w"),
    ],
)
def test_a_name_is_taken_apart(name, entities, suffix):
    found = bids.parse(name)
    assert found == bids.BidsName(tuple(entities), suffix)
    assert str(found) == name.rpartition("/")[2].partition(".")[0]


@pytest.mark.parametrize(
    "name",
    [
        *("t1.nii.gz", "T1w.nii", "sub-01.nii.gz", "sub-01_.nii", "", "sub-01/t1.nii"),
        *("ses-1_sub-01_T1w.nii", "sub-01_run_T1w.nii", "sub-01_a-b-c_T1w.nii"),
        *("sub-_T1w.nii", "sub-01_acq-x_acq-y_T1w.nii", "sub-01_acq-ä_T1w.nii"),
        "my-sub-01_T1w.nii",
    ],
)
def test_other_names_are_none(name):
    assert bids.parse(name) is None
    assert bids.output_names(name, "sub-01_bold.nii.gz") is None
    assert bids.output_names("sub-01_T1w.nii.gz", name) is None


@pytest.mark.parametrize(
    ("fixed", "moving", "transform", "image"),
    [
        (
            "sub-01_T1w",
            "sub-01_task-rest_run-1_bold",
            "sub-01_task-rest_run-1_from-bold_to-T1w_mode-image_xfm",
            "sub-01_task-rest_run-1_space-T1w_boldref",
        ),
        (  # the parts of a series keep their place behind the space
            "sub-01_desc-preproc_T1w",
            "sub-01_part-mag_chunk-2_desc-brain_T2w",
            "sub-01_part-mag_chunk-2_from-T2w_to-T1w_mode-image_xfm",
            "sub-01_part-mag_space-T1w_chunk-2_desc-brain_T2w",
        ),
        (  # another day
            "sub-01_ses-1_T1w",
            "sub-01_ses-2_T1w",
            "sub-01_ses-2_from-T1w_to-ses1T1w_mode-image_xfm",
            "sub-01_ses-2_space-ses1T1w_T1w",
        ),
        (
            "sub-01_ses-1_acq-hi_T1w",
            "sub-01_ses-2_bold",
            "sub-01_ses-2_from-bold_to-ses1T1w_mode-image_xfm",
            "sub-01_ses-2_space-ses1T1w_boldref",
        ),
        (  # somebody else
            "sub-01_T1w",
            "sub-02_T1w",
            "sub-02_from-T1w_to-sub01T1w_mode-image_xfm",
            "sub-02_space-sub01T1w_T1w",
        ),
        (
            "sub-01_T1w",
            "sub-01_run-2_T1w",
            "sub-01_run-2_from-run2T1w_to-T1w_mode-image_xfm",
            "sub-01_run-2_space-T1w_T1w",
        ),
        (  # to a template and back
            "tpl-MNI152_res-01_T1w",
            "sub-01_T1w",
            "sub-01_from-T1w_to-MNI152_mode-image_xfm",
            "sub-01_space-MNI152_T1w",
        ),
        (
            "sub-01_ses-1_T1w",
            "tpl-MNI152_res-01_desc-brain_T1w",
            "sub-01_ses-1_from-MNI152_to-T1w_mode-image_xfm",
            "sub-01_ses-1_space-T1w_desc-brain_T1w",
        ),
        (
            "sub-01_space-MNI152_res-2_T1w",
            "sub-01_task-rest_space-T1w_bold",
            "sub-01_task-rest_from-T1w_to-MNI152_mode-image_xfm",
            "sub-01_task-rest_space-MNI152_boldref",
        ),
    ],
)
def test_results_are_named_after_both(fixed, moving, transform, image):
    found = bids.output_names(f"{fixed}.nii.gz", f"a/{moving}.nii")
    assert found is not None
    assert (found.image, found.transform) == (image, transform)
    for name in (transform, image):
        assert str(bids.parse(name)) == name


def test_a_whole_series_keeps_its_suffix_and_the_way_back_has_a_name():
    both = ("sub-01_T1w.nii.gz", "sub-01_task-rest_bold.nii.gz")
    found = bids.output_names(*both, whole_series=True)
    assert found is not None
    assert found.image == "sub-01_task-rest_space-T1w_bold"
    assert found.inverse == "sub-01_space-bold_T1w"


def test_what_nothing_tells_apart_has_no_name():
    assert bids.output_names("a/sub-01_T1w.nii", "b/sub-01_T1w.nii") is None


# --- register ---------------------------------------------------------------

REGISTER = ("register", "--init", "header", "-q")


@pytest.fixture
def dataset(scans):  # noqa: F811
    """Give both scans the names of BIDS, in a folder of their own."""
    places = {
        "t1.nii.gz": "sub-01/anat/sub-01_T1w.nii.gz",
        "t2.nii.gz": "sub-01/func/sub-01_task-rest_bold.nii.gz",
    }
    for name, place in places.items():
        (scans / place).parent.mkdir(parents=True)
        (scans / name).rename(scans / place)
    return list(places.values())


IMAGE = "sub-01_task-rest_space-T1w_boldref"
TRANSFORM = "sub-01_task-rest_from-bold_to-T1w_mode-image_xfm"


def test_register_names_its_results_after_bids(dataset, tmp_path):
    assert main([*REGISTER, *dataset, "--transform-format", "itk,lta"]) == 0
    assert files(tmp_path) == [
        "sub-01",
        *(f"{TRANSFORM}.json", f"{TRANSFORM}.lta", f"{TRANSFORM}.txt"),
        *(f"{IMAGE}.json", f"{IMAGE}.nii.gz"),
    ]
    record = json.loads((tmp_path / f"{TRANSFORM}.json").read_text())
    beside = json.loads((tmp_path / f"{IMAGE}.json").read_text())
    for written in (record, beside):
        assert written["Sources"] == [dataset[1], dataset[0]]
        assert written["SpatialReference"] == dataset[0]
        assert "mireg" in written["RegistrationMethod"]
        assert "rigid" in written["RegistrationMethod"]
    found = read_transform(f"{TRANSFORM}.txt")
    np.testing.assert_allclose(found, record["moving_from_fixed"], atol=1e-12)
    assert (tmp_path / f"{TRANSFORM}.txt").read_text().startswith("#Insight")


def test_the_users_own_prefix_wins(dataset, tmp_path):
    assert main([*REGISTER, *dataset, "-o", "mine"]) == 0
    assert files(tmp_path) == ["mine.json", "mine.nii.gz", "mine.tfm", "sub-01"]
    record = json.loads((tmp_path / "mine.json").read_text())
    assert "Sources" not in record
