"""Transforms from and to files; other programs have the second word."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813, the usual name
from checks import HEAD_BOX

from mireg import transform_files
from mireg.errors import InputError
from mireg.transform import RigidTransform

POSE = RigidTransform([0.4, -0.3, 1.1], [12, -7, 33.3], centre=[5, 6, 7])


def flip(points):
    return np.asarray(points) * [-1, -1, 1]


def test_simpleitk_agrees_on_points(tmp_path):
    transform_files.write_transform(tmp_path / "a.tfm", POSE)
    read = sitk.ReadTransform(str(tmp_path / "a.tfm"))
    for point in HEAD_BOX:
        found = flip(read.TransformPoint(flip(point)))
        np.testing.assert_allclose(found, POSE.apply(point), rtol=0, atol=1e-12)


def test_every_digit_comes_back(tmp_path):
    transform_files.write_transform(tmp_path / "a.tfm", POSE)
    back = transform_files.read_transform(tmp_path / "a.tfm")
    np.testing.assert_array_equal(back, POSE.matrix)


def itk_transforms():
    """Give one of each kind that ITK writes, turned about a centre."""
    centre, shift = (10.0, -20, 30), (1.0, 2, 3)
    affine = sitk.AffineTransform(3)
    affine.SetMatrix((1.1, 0.1, 0, -0.2, 0.9, 0.05, 0.02, 0, 1.2))
    euler = sitk.Euler3DTransform()
    euler.SetRotation(0.3, -0.5, 0.7)
    zyx = sitk.Euler3DTransform()
    zyx.SetComputeZYX(True)
    zyx.SetRotation(0.3, -0.5, 0.7)
    versor = sitk.VersorRigid3DTransform()
    versor.SetRotation((0.3, -0.5, 0.7), 2.5)
    for transform in (affine, euler, zyx, versor):
        transform.SetCenter(centre)
        transform.SetTranslation(shift)
        yield transform


@pytest.mark.parametrize("transform", list(itk_transforms()), ids=lambda t: t.GetName())
def test_what_itk_writes_is_read(transform, tmp_path):
    path = tmp_path / "a.tfm"
    sitk.WriteTransform(transform, str(path))
    matrix = transform_files.read_transform(path)
    for point in HEAD_BOX:
        expected = flip(transform.TransformPoint(flip(point)))
        found = matrix[:3, :3] @ point + matrix[:3, 3]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_the_name_that_ants_gives_an_affine_is_read(tmp_path):
    text = transform_files.itk_text(POSE)
    renamed = text.replace("AffineTransform", "MatrixOffsetTransformBase")
    (tmp_path / "a.txt").write_text(renamed)
    back = transform_files.read_transform(tmp_path / "a.txt")
    np.testing.assert_array_equal(back, POSE.matrix)


@pytest.mark.parametrize("delimiter", [" ", ",", "\t"])
def test_four_rows_of_text(delimiter, tmp_path):
    np.savetxt(
        tmp_path / "a.txt", POSE.matrix, fmt="%.17g", delimiter=delimiter, header="RAS"
    )
    back = transform_files.read_transform(tmp_path / "a.txt")
    np.testing.assert_array_equal(back, POSE.matrix)


ITK = transform_files.itk_text(np.eye(4))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.tfm", ITK + ITK, "composite"),
        ("a.tfm", ITK.replace("Affine", "Composite"), "composite"),
        ("a.tfm", ITK.replace("Affine", "DisplacementField"), "not read"),
        ("a.tfm", ITK.replace("3_3", "2_2"), "not read"),
        ("a.tfm", ITK.replace("Parameters: 1 ", "Parameters: "), "damaged"),
        ("a.tfm", ITK.replace("Parameters: 1 ", "Parameters: one "), "not numbers"),
        ("a.tfm", ITK.replace("Parameters: 1 ", "Parameters: 0 "), "singular"),
        ("a.tfm", ITK.replace("Parameters: 1 ", "Parameters: nan "), "finite"),
        ("a.txt", "1 0 0 0\n0 1 0 0\n0 0 1 0\n", "four rows"),
        ("a.txt", "hello\n", "four rows"),
        ("a.txt", "", "four rows"),
        ("a.txt", "1 0 0 0\n0 1 0 0\n0 0 1 0\n1 0 0 1\n", "last row"),
        ("a.mat", "1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n", "FSL"),
        ("a.h5", "\x89HDF\n", "not a text file"),
    ],
)
def test_other_transform_files_are_refused(name, content, says, tmp_path):
    path = tmp_path / name
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=says) as caught:
        transform_files.read_transform(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_transform_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        transform_files.read_transform(tmp_path / "a.tfm")


def test_only_maps_of_space_are_written():
    with pytest.raises(InputError, match=r"shape \(4, 4\)"):
        transform_files.itk_text(np.eye(3))
