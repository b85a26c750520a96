"""What the metrics say of a pair at a pose, from Python and from the shell."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mireg import (
    InputError,
    Settings,
    contrast,
    prepare,
    register,
    score,
    write_image,
    write_transform,
)
from mireg._settings import METRICS as EVERY_METRIC
from mireg._transform import RigidTransform
from mireg.cli import main
from mireg.phantom import phantom_pair

METRICS = [name for name in EVERY_METRIC if name != "prior"]
POSE = RigidTransform([0.15, -0.1, 0.2], [6, -4, 8])


@pytest.fixture(scope="module")
def pair():
    """Scan a head twice, a small turn apart."""
    return phantom_pair(
        "T1", "T2", pose=POSE, fixed_voxel_size_mm=6, moving_voxel_size_mm=6
    )


def test_every_metric_prefers_the_truth(pair):
    truth = score(pair.fixed, pair.moving, pair.moving_from_fixed.matrix)
    headers = score(pair.fixed, pair.moving)
    assert list(truth) == [*METRICS, "overlap_fraction"]
    assert all(truth[name] > headers[name] for name in METRICS)
    assert 0.9 < truth["overlap_fraction"] <= 1


def test_scores_have_no_direction(pair):
    """The smaller foreground is sampled, whichever image is called fixed."""
    there = score(pair.fixed, pair.moving, POSE.matrix)
    back = score(pair.moving, pair.fixed, POSE.inverse().matrix)
    assert back == pytest.approx(there)


def test_prepared_images_have_the_scores_of_the_images(pair):
    prepared = prepare(pair.fixed), prepare(pair.moving)
    expected = score(pair.fixed, pair.moving, POSE.matrix)
    assert score(*prepared, POSE.matrix) == expected
    assert score(prepared[0], pair.moving, POSE.matrix) == expected


def test_images_apart_have_no_score(pair):
    away = RigidTransform([0, 0, 0], [900, 0, 0]).matrix
    with pytest.raises(InputError, match="do not overlap"):
        score(pair.fixed, pair.moving, away)


@pytest.fixture
def files(pair, tmp_path, monkeypatch):
    """Put the scans and the transform between them into a folder, and go there."""
    monkeypatch.chdir(tmp_path)
    write_image("t1.nii.gz", pair.fixed)
    write_image("t2.nii.gz", pair.moving)
    write_transform("truth.tfm", POSE)


@pytest.mark.usefixtures("files")
def test_the_command_prints_a_table(pair, capsys):
    assert main(["score", "t1.nii.gz", "t2.nii.gz", "-t", "truth.tfm"]) == 0
    rows = dict(line.split()[:2] for line in capsys.readouterr().out.splitlines())
    expected = dict(score(pair.fixed, pair.moving, POSE.matrix))
    for role, image in (("fixed", pair.fixed), ("moving", pair.moving)):
        expected[f"contrast_{role}_bits"] = contrast(image).score
    assert list(rows) == list(expected)
    for name, value in expected.items():
        assert float(rows[name]) == pytest.approx(value, abs=2e-5)


@pytest.mark.usefixtures("files")
def test_the_command_prints_json(capsys):
    assert main(["score", "t1.nii.gz", "t2.nii.gz", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["transform"] is None
    assert list(record["scores"]) == [*METRICS, "overlap_fraction"]
    for role in ("fixed", "moving"):
        assert 0 < record[f"contrast_{role}_bits"] < 4


@pytest.mark.usefixtures("files")
def test_the_command_says_what_is_missing(capsys):
    assert main(["score", "t1.nii.gz", "t2.nii.gz", "-t", "none.tfm"]) == 2
    assert "none.tfm" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", METRICS)
def test_each_metric_registers_from_any_pose(name):
    pair = phantom_pair(
        "T1", "T2", seed=4, fixed_voxel_size_mm=6, moving_voxel_size_mm=6
    )
    settings = Settings(metric=name, orientations=800, candidates=5)
    found = register(pair.fixed, pair.moving, settings=settings)
    points = np.array([[0, 0, 0], [60, 0, 0], [0, 70, 0], [0, 0, 60]])
    off = found.transform.apply(points) - pair.moving_from_fixed.apply(points)
    assert np.linalg.norm(off, axis=1).max() < 1.5
