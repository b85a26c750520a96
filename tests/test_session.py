"""Sessions: all scans of a patient at once, and what does not belong."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from checks import HEAD_BOX

from mireg import (
    InputError,
    MiregWarning,
    RigidTransform,
    read_transform,
    register_session,
    write_image,
)
from mireg._session import SessionPair, _notes, chosen_pairs
from mireg.cli import main
from mireg.phantom import phantom_pair

#: Six scans of one head: contrasts, and the poses ``image_from_head``.
KINDS = ("T1", "T2", "PD", "EPI", "FLAIR", "T1")
SIZE = 5.0


def scan(kind, pose, seed=0):
    """Scan a head whose anatomy is at ``pose``."""
    return phantom_pair(
        "T1",
        kind,
        seed=seed,
        pose=pose,
        fixed_voxel_size_mm=SIZE,
        moving_voxel_size_mm=SIZE,
    ).moving


def poses(n, seed=0):
    rng = np.random.default_rng(seed)
    return [
        RigidTransform(rng.normal(0, 0.1, 3), rng.normal(0, 5, 3)) for _ in range(n)
    ]


def test_pairs_are_chosen_as_asked():
    assert len(chosen_pairs(5, "all")) == 10
    assert chosen_pairs(2, "ring") == [(0, 1)]
    each = [image for pair in chosen_pairs(9, 4) for image in pair]
    assert {each.count(image) for image in range(9)} == {4}
    with pytest.raises(InputError, match="give all, ring"):
        chosen_pairs(4, 1)
    with pytest.raises(InputError, match="two images or more"):
        register_session([np.zeros((2, 2, 2))])


def pair(i, j, residual, *, used=True):
    reason = "" if used else "far off"
    unmoved = RigidTransform.identity()
    return SessionPair(i, j, unmoved, 0.1, residual, used, reason, 1.0, 1.0, 0.0)


def test_the_image_that_does_not_belong_is_named():
    names = ("a", "b", "c", "d")
    pairs = [
        pair(i, j, 0.1 if 2 not in (i, j) else 5.0, used=2 not in (i, j))
        for i, j in chosen_pairs(4, "all")
    ]
    (note,) = _notes(names, pairs, [False] * 6)
    assert note.startswith("c does not fit the others: 3 of its 3 pairs")
    bent = [
        pair(i, j, 0.1 if 1 not in (i, j) else 0.9) for i, j in chosen_pairs(4, "all")
    ]
    (note,) = _notes(names, bent, [False] * 6)
    assert note.startswith("b fits all others less well")
    one = [
        pair(i, j, 9.0, used=False) if (i, j) == (0, 3) else pair(i, j, 0.1)
        for i, j in chosen_pairs(4, "all")
    ]
    (note,) = _notes(names, one, [False] * 6)
    assert note == "d to a was left out: far off"
    assert _notes(names[:2], [pair(0, 1, 0.0)], [False]) == ()


@pytest.mark.slow
def test_scans_of_one_head_come_into_one_frame():
    truth = poses(4)
    images = [scan(kind, pose) for kind, pose in zip(KINDS, truth, strict=False)]
    found = register_session(images, reference=1)
    for pose, transform in zip(truth, found.transforms, strict=True):
        exact = pose @ ~truth[1]
        assert transform.max_displacement(truth[1].apply(HEAD_BOX), exact) < 0.8
    assert found.warnings == ()
    assert all(pair.used for pair in found.pairs)
    assert found.worst_mm < 0.6
    assert 0 < found.errors_mm[1:].max() < 0.6
    # Half-way between all, none is special.
    mean = register_session(images, reference="mean", pairs="ring")
    assert mean.reference is None
    turns = np.sum([t.rotation_vector for t in mean.transforms], axis=0)
    np.testing.assert_allclose(turns, 0, atol=2e-3)


@pytest.mark.slow
def test_another_head_among_them_is_found():
    truth = poses(5, seed=1)
    images = [
        scan(kind, pose, seed=7 if k == 3 else 0)
        for k, (kind, pose) in enumerate(zip(KINDS, truth, strict=False))
    ]
    with pytest.warns(MiregWarning, match="image4 .* another patient"):
        found = register_session(images)
    for k in (1, 2, 4):
        exact = truth[k] @ ~truth[0]
        error = found.transforms[k].max_displacement(truth[0].apply(HEAD_BOX), exact)
        assert error < 1.0


@pytest.mark.slow
def test_the_command_writes_transforms_a_table_and_a_record(tmp_path, capsys):
    paths = []
    for k, pose in enumerate(poses(3, seed=2)):
        paths.append(str(tmp_path / f"scan{k}.nii.gz"))
        write_image(paths[-1], scan(KINDS[k], pose))
    out = tmp_path / "out"
    argv = ["session", *paths, "-o", str(out), "--reference", paths[2], "--images"]
    assert main(argv) == 0
    said = capsys.readouterr().out
    assert "3 of 3 pairs used" in said
    record = json.loads((out / "session.json").read_text())
    assert record["reference"] == 2
    for k in range(3):
        transform = read_transform(out / f"scan{k}_to_scan2.tfm")
        exact = record["images"][k]["image_from_reference"]
        np.testing.assert_allclose(transform.matrix, exact, atol=1e-9)
        assert (out / f"scan{k}_to_scan2.nii.gz").is_file()
    with (out / "pairs.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["used"] for row in rows] == ["yes"] * 3
    assert main(argv) == 2  # nothing is replaced
    assert main([*argv[:-2], "other.nii.gz"]) == 2
    assert "none of the images" in capsys.readouterr().err
