"""Sessions: all scans of a patient at once, and what does not belong."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

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
from mireg._session import Session, SessionPair, chosen_pairs, judged
from mireg.cli import main
from mireg.cli.session import _tell
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


def pair(i, j, residual, **figures):
    """Return a pair that is sure of itself, but for what is said."""
    usual = {"used": True, "probability": 1.0, "same_anatomy": 1.0, "mirrored": 0.0}
    figures = {**usual, **figures}
    reason = "" if figures["used"] else "far off"
    unmoved = RigidTransform.identity()
    return SessionPair(i, j, unmoved, 0.1, residual, reason=reason, **figures)


def pairs_with(odd, residual, n=4, **figures):
    """Return all pairs of n images, those of one of them odd."""
    return [
        pair(i, j, residual, **figures) if odd in (i, j) else pair(i, j, 0.1)
        for i, j in chosen_pairs(n, "all")
    ]


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({"residual": 5.0, "used": False}, "3 of its 3 pairs are doubtful or lead"),
        ({"residual": 0.3, "probability": 0.1}, "3 of its 3 pairs are doubtful"),
        ({"residual": 0.3, "same_anatomy": 0.5}, "50 % likely of the same anatomy"),
        (
            {"residual": 0.3, "probability": 0.0, "mirrored": 0.99},
            "left and right are exchanged",
        ),
    ],
)
def test_the_image_that_does_not_belong_is_named(figures, words):
    strangers, (note,) = judged("abcd", pairs_with(2, **figures))
    assert strangers == (2,)
    assert note.startswith("c does not fit the others: " + words)


def test_an_image_that_bends_is_named_but_not_one_that_is_noisy():
    strangers, (note,) = judged("abcd", pairs_with(1, 0.9))
    assert strangers == ()
    assert note.startswith("b fits all others less well")
    noisy = [
        replace(one, standard_error_mm=0.5) if 1 in (one.fixed, one.moving) else one
        for one in pairs_with(1, 0.9)
    ]
    assert judged("abcd", noisy) == ((), ())


def test_a_wrong_pair_is_named_alone():
    one = [
        pair(i, j, 9.0, used=False) if (i, j) == (0, 3) else pair(i, j, 0.1)
        for i, j in chosen_pairs(4, "all")
    ]
    assert judged("abcd", one) == ((), ("d to a was left out: far off",))
    assert judged("ab", [pair(0, 1, 0.0)]) == ((), ())
    doubtful = [pair(0, 1, 0.0, probability=0.1)]
    assert judged("ab", doubtful)[1][0].startswith("b to a is doubtful")


def test_the_distance_is_told_and_what_does_not_belong(capsys):
    moved = RigidTransform(np.zeros(3), [3.0, 4.0, 12.0])
    still = RigidTransform(np.zeros(3), np.zeros(3))
    _tell(
        Session(
            images=(None,) * 3,
            names=("t1", "t2", "other"),
            reference=0,
            transforms=(still, moved, moved),
            errors_mm=np.array([0, 0.1, 0.2]),
            pairs=(),
            between_mm=0.1,
            strangers=(2,),
            warnings=(),
        ),
        [],
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].endswith("centre moved  13.00 mm, expected error 0.10 mm")
    assert lines[3].endswith("centre moved  13.00 mm, does not belong")


def test_an_image_that_is_given_twice_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.nii").touch()
    (tmp_path / "link.nii").symlink_to("a.nii")
    for second, told in (("a.nii", ""), ("link.nii", ", as a.nii, too")):
        assert main(["session", "a.nii", "b.nii", second, "-o", "out"]) == 2
        said = capsys.readouterr().err
        assert said.endswith(
            f"error: {second}: is given twice{told}; give each image once\n"
        )


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
    assert "not one of the images" in capsys.readouterr().err
