"""Resampling against twins, scipy, SimpleITK and answers worked out by hand."""

from __future__ import annotations

import math
import sys
from functools import partial

import naive
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813, the usual name
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from mireg import _kernels as kernels
from mireg._errors import InputError
from mireg._image import Image
from mireg._resample import (
    INTERPOLATIONS,
    fill_value,
    regrid,
    resample,
    voxel_size_along,
)
from mireg._transform import AffineTransform, RigidTransform, write_transform

OBLIQUE = np.array(
    [[1.1, 0.2, -0.1, -4.0], [-0.2, 1.3, 0.3, 2.0], [0.1, -0.2, 1.8, 1.0], [0, 0, 0, 1]]
)


def voxel_pose(image, pose):
    """Return the voxel-to-voxel matrix of a pose between images on one grid."""
    return np.linalg.inv(image.mm_from_ijk) @ pose @ image.mm_from_ijk


def some_pose(image):
    """Return a turn about the middle of an image, as a matrix."""
    return RigidTransform([0.2, -0.3, 0.1], [0.3, 0.5, -0.2], image.centre_mm).matrix


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("shape", [(5, 4, 6), (2, 3, 1), (1, 1, 1)])
@pytest.mark.parametrize("order", "CF")
def test_equals_its_twin(interpolation, shape, order, rng):
    data = np.asarray(rng.normal(size=shape).astype(np.float32), order=order)
    moving = Image(data, OBLIQUE)
    like = Image(np.zeros((4, 5, 3)), OBLIQUE @ np.diag([1.3, 0.9, 1.1, 1]))
    pose = some_pose(moving)
    twin = getattr(naive, f"resample_{interpolation}")
    matrix = np.linalg.inv(OBLIQUE) @ pose @ like.mm_from_ijk
    expected = twin(data, matrix, like.shape)
    found = resample(moving, like, pose, interpolation=interpolation, antialias=False)
    np.testing.assert_allclose(found.data, expected, atol=2e-6)
    np.testing.assert_array_equal(found.mm_from_ijk, like.mm_from_ijk)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_identity_keeps_every_voxel(interpolation, rng):
    image = Image(rng.normal(size=(6, 5, 1)), OBLIQUE)
    same = resample(image, image, np.eye(4), interpolation=interpolation)
    np.testing.assert_allclose(same.data, image.data, atol=2e-6)
    if interpolation != "cubic":
        np.testing.assert_array_equal(same.data, image.data)


@pytest.mark.parametrize(("interpolation", "order"), [("linear", 1), ("cubic", 3)])
def test_agrees_with_scipy(interpolation, order, rng):
    image = Image(rng.normal(size=(12, 11, 10)), np.diag([1, 1.5, 2, 1]))
    pose = some_pose(image)
    matrix = voxel_pose(image, pose)
    ijk = np.indices(image.shape).reshape(3, -1)
    at = matrix[:3, :3] @ ijk + matrix[:3, 3:]
    inside = ((at >= 0) & (at <= np.array(image.shape)[:, None] - 1)).all(axis=0)
    expected = ndimage.map_coordinates(
        image.data.astype(float), at, order=order, mode="mirror"
    )
    found = resample(image, image, pose, interpolation=interpolation).data.ravel()
    assert inside.sum() > 500
    np.testing.assert_allclose(found[inside], expected[inside], atol=2e-6)


#: The same ways to read, in SimpleITK.
IN_SITK = {
    "nearest": sitk.sitkNearestNeighbor,
    "linear": sitk.sitkLinear,
    "cubic": sitk.sitkBSpline3,
    "lanczos": sitk.sitkLanczosWindowedSinc,
    "label": sitk.sitkLabelLinear,
}


def in_sitk(data, image, like, matrix, way):
    """Resample with SimpleITK; the grids have axes along those of the world, LPS."""

    def as_sitk(data, grid):
        volume = sitk.GetImageFromArray(data.T)
        volume.SetSpacing(np.abs(np.diag(grid.mm_from_ijk)[:3]).tolist())
        lps = np.array([-1, -1, 1]) * grid.mm_from_ijk[:3, 3]
        volume.SetOrigin(lps.tolist())
        return volume

    lps = np.diag([-1.0, -1, 1, 1])
    flipped = lps @ matrix @ lps
    affine = sitk.AffineTransform(3)
    affine.SetMatrix(flipped[:3, :3].ravel())
    affine.SetTranslation(flipped[:3, 3])
    nothing = np.zeros(like.shape, data.dtype)
    fill = np.nan if data.dtype.kind == "f" else 0
    return sitk.GetArrayFromImage(
        sitk.Resample(
            as_sitk(data, image), as_sitk(nothing, like), affine, IN_SITK[way], fill
        )
    ).T


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_agrees_with_simpleitk(interpolation, rng, monkeypatch):
    image = Image(rng.uniform(1, 9, size=(24, 22, 20)), np.diag([-1.0, -1.5, 2, 1]))
    like = Image(np.zeros((21, 23, 25)), np.diag([-1.0, -1.4, 1.7, 1]))
    transform = RigidTransform([0.2, -0.3, 0.1], [0.3, 0.5, -0.2], image.centre_mm)
    data = image.data
    if interpolation == "label":
        data = np.ceil(ndimage.gaussian_filter(data, 2) * 9).astype(np.uint8)
        image = Image(data, image.mm_from_ijk)
        assert len(np.unique(data)) > 4
    expected = in_sitk(data, image, like, transform.matrix, interpolation)
    if interpolation == "lanczos":
        # SimpleITK's window has 5 voxels to each side, and weights that do not quite
        # sum to one: what it makes of ones is their sum.
        loops = sys.modules["mireg._resample"]._LOOPS
        five = partial(kernels.resample_lanczos, 5)
        monkeypatch.setitem(loops, "lanczos", five)
        expected /= in_sitk(
            np.ones_like(data), image, like, transform.matrix, interpolation
        )
    found = resample(
        image, like, transform.matrix, interpolation=interpolation, antialias=False
    ).data
    at = image.to_ijk(
        transform.apply(like.to_mm(np.moveaxis(np.indices(like.shape), 0, -1)))
    )
    # Beyond the outermost centres the programs differ in how they go on.
    inside = ((at >= 0) & (at <= np.array(image.shape) - 1)).all(axis=-1)
    assert inside.sum() > 5000
    np.testing.assert_allclose(found[inside], expected[inside], atol=2e-5)


def test_lanczos_is_sharper_than_linear_and_keeps_a_flat_image():
    x = np.indices((40, 5, 5))[0]
    wave = Image(np.cos(2 * np.pi * 0.2 * x), np.eye(4))
    half = np.eye(4)
    half[0, 3] = 0.5
    truth = np.cos(2 * np.pi * 0.2 * (x + 0.5))[4:-4]
    errors = {
        way: np.abs(resample(wave, wave, half, interpolation=way).data[4:-4] - truth)
        for way in ("linear", "lanczos")
    }
    assert errors["lanczos"].max() < 0.03
    assert errors["linear"].max() > 0.15
    flat = Image(np.full((9, 9, 9), 1000.0), np.eye(4))
    there = resample(flat, flat, some_pose(flat), interpolation="lanczos").data
    np.testing.assert_allclose(there[np.isfinite(there)], 1000, rtol=1e-6)


def test_labels_go_by_majority_and_ties_to_the_smaller():
    labels = Image(np.reshape([5, 2, 2, 9], (4, 1, 1)), np.eye(4))
    for shift, expected in ((0.4, [5, 2, 2]), (0.5, [2, 2, 2]), (0.6, [2, 2, 9])):
        pose = np.eye(4)
        pose[0, 3] = shift
        found = resample(labels, labels, pose, interpolation="label").data.ravel()
        assert found[:3].tolist() == expected


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_same_bits_on_any_number_of_threads(interpolation, rng):
    image = Image(rng.normal(size=(20, 21, 22)), OBLIQUE)
    pose = some_pose(image)
    for like in (image, regrid(image, 3.5)):
        runs = [
            resample(image, like, pose, interpolation=interpolation, threads=n).data
            for n in (1, 2, 4)
        ]
        np.testing.assert_array_equal(runs[0], runs[1])
        np.testing.assert_array_equal(runs[0], runs[2])


def test_the_image_ends_half_a_voxel_past_its_outermost_centres():
    row = Image(np.array([[[1.0]], [[2.0]]]), np.eye(4))
    for shift, expected in ((0.5, [1.5, 2]), (0.51, [1.51, np.nan]), (-0.5, [1, 1.5])):
        pose = np.eye(4)
        pose[0, 3] = shift
        found = resample(row, row, pose).data.ravel()
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_missing_voxel_reaches_only_those_that_need_it():
    data = np.ones((5, 1, 1))
    data[2] = np.nan
    image = Image(data, np.eye(4))
    half = np.eye(4)
    half[0, 3] = 0.5
    missing = [False, True, True, False, False]
    for interpolation in ("linear", "cubic", "lanczos"):
        still = resample(image, image, np.eye(4), interpolation=interpolation)
        np.testing.assert_array_equal(np.isnan(still.data), np.isnan(image.data))
        moved = resample(image, image, half, interpolation=interpolation).data.ravel()
        np.testing.assert_array_equal(np.isnan(moved), missing)
        np.testing.assert_allclose(moved[~np.isnan(moved)], 1, rtol=1e-6)


def test_nothing_but_missing_voxels():
    image = Image(np.full((3, 3, 3), np.nan), np.eye(4))
    for way in INTERPOLATIONS:
        assert np.isnan(resample(image, image, np.eye(4), interpolation=way).data).all()


def test_fill_is_what_has_no_answer():
    image = Image(np.array([[[1.0]], [[np.nan]]]), np.eye(4))
    far = np.eye(4)
    far[0, 3] = 1
    assert resample(image, image, far, fill=-7).data.ravel().tolist() == [-7, -7]


@pytest.mark.parametrize("interpolation", ["nearest", "label"])
@pytest.mark.parametrize("size", [1, 2.5])
def test_labels_stay_labels(interpolation, size, rng):
    labels = Image(rng.choice([0, 7, 1035], size=(15, 15, 15)), np.eye(4))
    moved = resample(
        labels,
        regrid(labels, size),
        some_pose(labels),
        interpolation=interpolation,
        fill=0,
    )
    assert set(np.unique(moved.data)) == {0, 7, 1035}


def test_a_strided_view_is_read_in_its_own_order(rng):
    data = rng.normal(size=(10, 8, 6)).astype(np.float32)[::2, ::-1]
    image = Image(data, np.eye(4))
    np.testing.assert_array_equal(resample(image, image, np.eye(4)).data, data)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(-2, 2), min_size=4, max_size=4))
def test_linear_keeps_a_ramp(slopes):
    ramp = np.einsum("a,aijk->ijk", slopes[:3], np.indices((6, 6, 6))) + slopes[3]
    image = Image(ramp, np.eye(4))
    pose = RigidTransform([0.1, 0.2, -0.3], [0.4, 0, 0.2], [2.5, 2.5, 2.5])
    found = resample(image, image, pose.matrix).data
    at = pose.apply(np.moveaxis(np.indices((6, 6, 6)), 0, -1))
    inside = ((at >= 0) & (at <= 5)).all(axis=-1)
    expected = at @ slopes[:3] + slopes[3]
    np.testing.assert_allclose(found[inside], expected[inside], atol=2e-5)


# --- coarser and finer grids ------------------------------------------------


@pytest.mark.parametrize("turned", [False, True])
def test_a_wave_fades_as_under_a_gaussian_of_the_missing_width(turned):
    pose = np.eye(4)
    x = np.indices((90, 40, 40)).astype(float)
    if turned:
        turn = RigidTransform([0.1, 0.3, 0.6], [1, 2, 3], [45, 20, 20])
        pose = turn.matrix
        x = np.moveaxis(turn.inverse().apply(np.moveaxis(x, 0, -1)), -1, 0)
    moving = Image(np.cos(2 * np.pi * x[0] / 20), np.eye(4))
    grid = np.diag([4.0, 2.0, 1, 1])
    like = Image(np.zeros((20, 20, 40)), grid)
    found = resample(moving, like, pose, interpolation="cubic").data
    # Voxels of 4 mm along the wave, where the moving image has 1 mm.
    sigma = math.sqrt((4**2 - 1**2) / (8 * math.log(2)))
    fades = math.exp(-2 * (math.pi * sigma / 20) ** 2)
    truth = fades * np.cos(2 * np.pi * 4 * np.indices(like.shape)[0] / 20)
    inner = (slice(6, 14), slice(8, 12), slice(17, 23))
    np.testing.assert_allclose(found[inner], truth[inner], atol=2e-3)
    sharp = resample(moving, like, pose, interpolation="cubic", antialias=False).data
    assert np.abs(sharp - truth)[inner].max() > 0.1


@pytest.mark.parametrize("interpolation", ["linear", "cubic", "lanczos"])
def test_detail_too_fine_for_the_grid_does_not_come_back(interpolation):
    board = Image(np.indices((40, 40, 40)).sum(axis=0) % 2, np.eye(4))
    like = regrid(board, 3.1)
    found = resample(board, like, np.eye(4), interpolation=interpolation).data
    np.testing.assert_allclose(found[2:-2, 2:-2, 2:-2], 0.5, atol=0.02)
    plain = resample(
        board, like, np.eye(4), interpolation=interpolation, antialias=False
    ).data
    assert plain.std() > 0.1


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_voxels_of_one_size_are_read_as_they_are(interpolation, rng):
    image = Image(rng.normal(size=(9, 8, 7)), OBLIQUE)
    cube = Image(image.data, np.diag([1.5, 1.5, 1.5, 1]))
    shift = np.eye(4)
    shift[:3, 3] = 0.4, -0.7, 1.1
    poses = ((image, shift), (image, some_pose(image)), (cube, some_pose(cube)))
    for moving, pose in poses:
        both = [
            resample(
                moving, moving, pose, interpolation=interpolation, antialias=antialias
            ).data
            for antialias in (True, False)
        ]
        np.testing.assert_array_equal(*both)


def test_slices_that_lie_across_are_averaged_along_them(rng):
    axial = Image(rng.normal(size=(40, 40, 8)), np.diag([1.0, 1, 5, 1]))
    across = np.array([[0, 0, 5.0, 2], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    sagittal = Image(np.zeros((40, 36, 8)), across)
    found = resample(axial, sagittal, np.eye(4))
    plain = resample(axial, sagittal, np.eye(4), antialias=False)
    assert found.data.std() < 0.7 * plain.data.std()


def test_means_are_of_what_there_is(rng):
    data = np.full((30, 30, 30), 7.0)
    data[rng.random(data.shape) < 0.2] = np.nan
    image = Image(data, np.eye(4))
    like = regrid(image, 4)
    pose = some_pose(image)
    found = resample(image, like, pose).data
    plain = resample(image, like, pose, antialias=False).data
    np.testing.assert_array_equal(np.isnan(found), np.isnan(plain))
    assert np.isnan(found).any()
    np.testing.assert_allclose(found[np.isfinite(found)], 7, rtol=1e-6)


def test_a_large_grid_about_a_small_image(rng):
    image = Image(rng.normal(size=(12, 12, 12)), np.eye(4))
    small = Image(np.zeros((6, 6, 6)), np.diag([2.0, 2, 2, 1]))
    about = np.diag([2.0, 2, 2, 1])
    about[:3, 3] = -20
    large = Image(np.zeros((30, 26, 40)), about)
    found = resample(image, large, np.eye(4)).data
    expected = resample(image, small, np.eye(4)).data
    np.testing.assert_allclose(found[10:16, 10:16, 10:16], expected, atol=1e-6)
    assert np.isfinite(found).sum() == 6**3
    far = np.eye(4)
    far[0, 3] = 1000
    assert np.isnan(resample(image, large, far).data).all()


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.integers(1, 40), min_size=3, max_size=3),
    st.lists(st.floats(0.3, 9), min_size=3, max_size=3),
)
def test_another_voxel_size_keeps_the_field_of_view(shape, sizes):
    like = Image(np.zeros(shape), OBLIQUE)
    grid = regrid(like, sizes)
    np.testing.assert_allclose(grid.voxel_size_mm, sizes)
    np.testing.assert_allclose(grid.centre_mm, like.centre_mm, atol=1e-9)
    before, after = like.voxel_size_mm * shape, grid.voxel_size_mm * grid.shape
    assert (after >= before * (1 - 1e-9) - 1e-3 * np.array(sizes)).all()
    assert (after < before + sizes).all()
    ways = np.linalg.solve(like.mm_from_ijk[:3, :3], grid.mm_from_ijk[:3, :3])
    np.testing.assert_allclose(ways, np.diag(np.diag(ways)), atol=1e-12)


def test_the_same_voxel_size_is_the_same_grid():
    like = Image(np.zeros((7, 8, 9)), OBLIQUE)
    grid = regrid(like, like.voxel_size_mm * (1 + 1e-7))
    assert grid.shape == like.shape
    np.testing.assert_allclose(grid.mm_from_ijk, OBLIQUE, atol=1e-5)


def test_each_axis_takes_the_voxel_size_that_runs_along_it():
    thick = Image(np.zeros((5, 6, 7)), np.diag([1.0, 2, 5, 1]))
    like = Image(np.zeros((4, 4, 4)), np.eye(4))
    np.testing.assert_allclose(voxel_size_along(thick, like, np.eye(4)), [1, 2, 5])
    tilted = RigidTransform([0.3, 0, 0], [0, 0, 0]).matrix
    np.testing.assert_allclose(voxel_size_along(thick, like, tilted), [1, 2, 5])
    # A quarter turn about x brings the slices' axis, z, onto y.
    quarter = RigidTransform([np.pi / 2, 0, 0], [0, 0, 0]).matrix
    np.testing.assert_allclose(voxel_size_along(thick, like, quarter), [1, 5, 2])


@pytest.mark.parametrize(
    ("size", "says"),
    [
        (0, "must be above 0"),
        (np.nan, "must be above 0"),
        ([1, -1, 1], "1 x -1 x 1 mm"),
        (1e-4, "choose larger ones"),
        (1e-3, "choose larger ones"),
    ],
)
def test_voxel_sizes_that_make_no_grid_are_refused(size, says):
    like = Image(np.zeros((9, 9, 9)), np.eye(4))
    with pytest.raises(InputError, match=says):
        regrid(like, size)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ([0, 5, 9], 0),
        ([3, 5, 9], 0),
        ([-1000, 40, -1000], -1000),
        ([-0.2, 0.3, 0, 0, 0], 0),
        ([-5, 12, 12, 12], 0),
        ([-5, -9, -7], -7),
        ([1, np.nan, 2], np.nan),
    ],
)
def test_fill_value_is_what_the_image_has_at_its_borders(data, expected):
    image = Image(np.reshape(data, (-1, 1, 1)), np.eye(4))
    np.testing.assert_equal(fill_value(image), expected)


@pytest.mark.parametrize("kind", ["rigid", "affine", "list", "float32", "path"])
def test_whatever_stands_for_a_transform_is_taken(kind, tmp_path):
    # Each voxel shows what lies 1 mm further right; or what lies twice as far.
    like, place = Image(np.zeros((5, 1, 1)), np.eye(4)), np.eye(4)
    place[0, 3] = -1
    moving = Image(np.arange(7.0).reshape(7, 1, 1), place)  # x + 1, from x = -1 to 5
    matrix, expected = np.eye(4), [2, 3, 4, 5, 6]
    matrix[0, 3] = 1
    if kind == "affine":
        matrix, expected = np.diag([2.0, 1, 1, 1]), [1, 3, 5, -1, -1]
    path = tmp_path / "t.mat"  # FSL's: it needs both images, which are at hand
    write_transform(path, matrix, format="fsl", fixed=like, moving=moving)
    given = {
        "rigid": RigidTransform.from_matrix,
        "affine": AffineTransform,
        "list": np.ndarray.tolist,
        "float32": np.float32,
        "path": lambda _: path,
    }[kind](matrix)
    found = resample(moving, like, given, interpolation="nearest", fill=-1)
    assert found.data.ravel().tolist() == expected


def test_refusals():
    image = Image(np.zeros((2, 2, 2)), np.eye(4))
    with pytest.raises(InputError, match="interpolation is 'sinc'"):
        resample(image, image, np.eye(4), interpolation="sinc")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"shape \(4, 4\)"):
        resample(image, image, np.eye(3))
    with pytest.raises(InputError, match="singular"):
        resample(image, image, np.zeros((4, 4)) + np.diag([0, 0, 0, 1]))
    with pytest.raises(InputError, match=r"moving_from_fixed: .* last row"):
        resample(image, image, np.diag([1, 1, 1, 2.0]))


def test_a_transform_that_shrinks_by_a_thousand_is_refused():
    image = Image(np.arange(1000.0).reshape(10, 10, 10), np.eye(4))
    shrinks = np.diag([1000.0, 1000, 1000, 1])
    with pytest.raises(InputError, match=r"1e.03 times as long .* check the transform"):
        resample(image, image, shrinks)
