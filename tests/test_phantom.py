"""The synthetic head: the same for everyone, lopsided, and where it says it is."""

from __future__ import annotations

import json
import runpy
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from mireg import phantom
from mireg._errors import InputError
from mireg._image import Image
from mireg._transform import RigidTransform
from mireg.phantom import (
    BRAIN,
    CONTRASTS,
    TISSUES,
    Contrast,
    Head,
    brain_points,
    head_grid,
    make_phantom,
    phantom_pair,
    random_pose,
)

ROOT = Path(__file__).resolve().parent.parent


def clean(name: str, blur_fwhm_mm: float = 0.0) -> Contrast:
    """Take noise, shading and dropout away from a contrast."""
    return replace(
        CONTRASTS[name],
        noise_level=0.0,
        bias=0.0,
        dropout=0.0,
        blur_fwhm_mm=blur_fwhm_mm,
    )


def only(*tissues: str) -> dict[str, float]:
    """Return a table of intensities that shows the share of some tissues."""
    return {tissue: float(tissue in tissues) for tissue in TISSUES}


def read_at(image: Image, points_mm: np.ndarray) -> np.ndarray:
    """Interpolate an image at points in mm, (n, 3)."""
    ijk = np.linalg.inv(image.mm_from_ijk) @ np.c_[points_mm, np.ones(len(points_mm))].T
    return ndimage.map_coordinates(image.data, ijk[:3], order=3, mode="nearest")


def border(image: Image) -> np.ndarray:
    """Return the voxels on the six faces of an image."""
    faces = np.ones(image.shape, bool)
    faces[1:-1, 1:-1, 1:-1] = False
    return image.data[faces]


@pytest.mark.parametrize("contrast", ["T1", "EPI", "PET"])
def test_same_arguments_same_bits(contrast: str) -> None:
    a = make_phantom(contrast, seed=4, voxel_size_mm=8)
    b = make_phantom(contrast, seed=4, voxel_size_mm=8)
    assert a.data.tobytes() == b.data.tobytes()
    assert a.mm_from_ijk.tobytes() == b.mm_from_ijk.tobytes()


def test_seed_changes_the_head_and_noise_seed_only_the_noise() -> None:
    grid = head_grid(6.0, seed=0)
    look = clean("T1")
    first, second = (make_phantom(look, seed=s, grid=grid).data for s in (0, 1))
    assert np.mean(np.abs(first - second) > 100) > 0.1
    again = make_phantom(look, seed=0, noise_seed=5, grid=grid).data
    np.testing.assert_array_equal(first, again)
    noisy = [make_phantom("T1", noise_seed=s, grid=grid).data for s in (0, 1)]
    assert np.mean(noisy[0] == noisy[1]) < 0.01


def test_point_by_point_equals_the_scan() -> None:
    look = clean("T2")
    image = make_phantom(look, seed=3, voxel_size_mm=2.0, fov_mm=(60, 60, 60))
    points = image.to_mm(np.indices(image.shape).reshape(3, -1).T)
    expected = Head.from_seed(3).sample(points, look.intensities, edge_mm=2.0)
    np.testing.assert_allclose(image.data.ravel(), expected, atol=1e-2)


def test_shares_of_tissues_add_up_to_one(rng: np.random.Generator) -> None:
    head = Head.from_seed(0)
    points = rng.uniform(-110, 110, (4000, 3))
    total = sum(head.sample(points, only(tissue)) for tissue in TISSUES)
    np.testing.assert_allclose(total, 1, atol=1e-5)


@pytest.mark.parametrize("seed", range(2))
def test_volumes_are_those_of_a_head(seed: int) -> None:
    litre = 5.0**3 / 1e6
    shape, head_from_ijk = head_grid(5.0, seed=seed)
    ijk = np.indices(shape).reshape(3, -1).T
    points = ijk @ head_from_ijk[:3, :3].T + head_from_ijk[:3, 3]
    head = Head.from_seed(seed)

    def volume(*tissues: str) -> float:
        return float(head.sample(points, only(*tissues)).sum()) * litre

    grey, white = volume("grey"), volume("white")
    assert 0.85 < volume(*BRAIN) < 1.75
    assert 0.6 < grey / white < 2.2
    assert 0.08 < volume("csf") < 0.6
    assert 0.3 < volume("bone", "diploe") < 1.3


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "turn", [(-1, 1, 1), (1, -1, 1), (1, 1, -1), (-1, -1, 1), (-1, 1, -1), (1, -1, -1)]
)
def test_no_mirror_image_or_half_turn_is_alike(
    seed: int, turn: tuple[int, int, int]
) -> None:
    head = Head.from_seed(seed)
    points = brain_points(seed, spacing_mm=6.0)
    white = head.sample(points, only("white"))
    other = head.sample(points * turn, only("white"))
    assert np.mean(np.abs(white - other) > 0.5) > 0.12


def test_every_scan_is_what_its_scanner_would_give() -> None:
    for name in CONTRASTS:
        image = make_phantom(name, voxel_size_mm=8.0)
        assert image.data.dtype == np.float32
        assert np.isfinite(image.data).all()
        if name != "CT":
            assert image.data.min() >= 0
            assert np.median(border(image)) < 50
    ct = make_phantom("CT", voxel_size_mm=4.0).data
    assert abs(np.median(ct[:3]) + 1000) < 5
    assert np.percentile(ct, 99) > 700
    points = np.indices((7, 7, 7)).reshape(3, -1).T * 5.0 - (15, 25, 0)
    brain = Head.from_seed(0).sample(points, CONTRASTS["CT"].intensities)
    assert (brain > 0).all()
    assert (brain < 60).all()


def test_contrasts_order_tissues_as_scanners_do() -> None:
    points = brain_points(0)
    head = Head.from_seed(0)
    is_grey, is_white = (head.sample(points, only(t)) > 0.99 for t in ("grey", "white"))
    for name, white_is_brighter in [("T1", True), ("T2", False), ("PET", False)]:
        values = head.sample(points, CONTRASTS[name].intensities)
        assert (values[is_white].mean() > values[is_grey].mean()) == white_is_brighter


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("turned_in_box", [False, True])
def test_both_boxes_hold_the_whole_head(seed: int, turned_in_box: bool) -> None:
    pair = phantom_pair(
        clean("CT"),
        clean("CT"),
        seed=seed,
        fixed_voxel_size_mm=6.0,
        moving_voxel_size_mm=8.0,
        turned_in_box=turned_in_box,
    )
    for image in (pair.fixed, pair.moving):
        assert (border(image) == -1000).all()
    turned = pair.moving.mm_from_ijk[:3, :3] / 8.0
    assert np.allclose(turned, np.eye(3)) == turned_in_box


@pytest.mark.parametrize("turned_in_box", [False, True])
def test_truth_maps_fixed_points_to_the_same_anatomy(turned_in_box: bool) -> None:
    look = clean("T1", blur_fwhm_mm=14.0)
    pair = phantom_pair(
        look,
        look,
        seed=1,
        fixed_voxel_size_mm=4.0,
        moving_voxel_size_mm=4.0,
        turned_in_box=turned_in_box,
    )
    points = brain_points(1, spacing_mm=10.0)
    here = read_at(pair.fixed, points)
    there = read_at(pair.moving, pair.moving_from_fixed.apply(points))
    # Of intensities up to 900; voxels of 4 mm sample thin clefts this well.
    assert np.abs(here - there).max() < 18
    assert np.abs(here - there).mean() < 1
    for axis in range(3):
        nudge = RigidTransform([0, 0, 0], np.eye(3)[axis] * 2.0)
        off = read_at(pair.moving, (nudge @ pair.moving_from_fixed).apply(points))
        assert np.abs(here - off).max() > 30
        assert np.abs(here - off).mean() > 5


def test_a_moved_head_is_where_the_pose_says() -> None:
    pose = RigidTransform([0.3, -1.2, 0.5], [40.0, -10.0, 25.0])
    shape, mm_from_ijk = head_grid(8.0, seed=2)
    look = clean("T1")
    still = make_phantom(look, seed=2, grid=(shape, mm_from_ijk))
    moved = make_phantom(
        look, seed=2, scan_from_head=pose, grid=(shape, pose.matrix @ mm_from_ijk)
    )
    np.testing.assert_allclose(moved.data, still.data, atol=0.05)


def test_thick_slices_are_means_of_thin_ones() -> None:
    look = clean("T2")
    shape, mm_from_ijk = (40, 40, 12), np.diag([2.0, 2.0, 2.0, 1.0])
    mm_from_ijk[:3, 3] = -40, -40, 0
    thin = make_phantom(look, grid=(shape, mm_from_ijk)).data
    thick_affine = mm_from_ijk @ np.diag([1.0, 1.0, 4.0, 1.0])
    thick_affine[2, 3] += 3.0
    thick = make_phantom(look, grid=((40, 40, 3), thick_affine)).data
    expected = thin.reshape(40, 40, 3, 4).mean(axis=-1)
    np.testing.assert_allclose(thick, expected, atol=0.1)


def test_noise_and_shading_are_of_the_stated_size() -> None:
    flat = replace(clean("T1"), intensities=dict.fromkeys(TISSUES, 1000.0))
    noisy = make_phantom(replace(flat, noise_level=20), voxel_size_mm=6).data
    assert noisy.std() == pytest.approx(20, rel=0.05)
    shaded = make_phantom(replace(flat, bias=0.2), voxel_size_mm=6).data
    assert np.log(shaded).std() == pytest.approx(0.2, rel=0.05)
    empty = replace(flat, intensities=dict.fromkeys(TISSUES, 0.0), noise_level=20)
    rayleigh = make_phantom(empty, voxel_size_mm=6).data
    assert rayleigh.mean() == pytest.approx(20 * np.sqrt(np.pi / 2), rel=0.02)
    pet = replace(flat, noise="poisson", noise_level=70, blur_fwhm_mm=7)
    assert make_phantom(pet, voxel_size_mm=6).data.std() == pytest.approx(70, rel=0.05)


def test_random_poses_are_uniform_and_bounded() -> None:
    rng = np.random.default_rng(0)
    poses = [random_pose(rng) for _ in range(2000)]
    # The mean of uniform rotations is zero, and a fixed axis goes everywhere.
    turns = np.array([pose.rotation_matrix for pose in poses])
    assert np.abs(turns.mean(axis=0)).max() < 0.05
    np.testing.assert_allclose((turns**2).mean(axis=0), 1 / 3, atol=0.03)
    # trace = 1 + 2 cos(angle); Haar measure gives its square a mean of one.
    assert (np.trace(turns, axis1=1, axis2=2) ** 2).mean() == pytest.approx(1, abs=0.12)
    lengths = [np.linalg.norm(pose.translation) for pose in poses]
    assert max(lengths) <= 100
    assert np.mean(lengths) == pytest.approx(50, abs=3)
    small = [random_pose(rng, max_angle_deg=12, max_offset_mm=5) for _ in range(200)]
    assert 10 < max(pose.angle_deg for pose in small) <= 12


def test_a_given_pose_is_the_truth_and_changes_only_the_header() -> None:
    size = {"fixed_voxel_size_mm": 8.0, "moving_voxel_size_mm": 8.0}
    pose = RigidTransform([0.1, 0.2, 0.3], [1.0, 2.0, 3.0])
    still = phantom_pair("T1", "EPI", seed=6, pose=RigidTransform.identity(), **size)
    moved = phantom_pair("T1", "EPI", seed=6, pose=pose, **size)
    assert moved.moving_from_fixed is pose
    np.testing.assert_array_equal(still.fixed.data, moved.fixed.data)
    np.testing.assert_allclose(
        moved.moving.mm_from_ijk, pose.matrix @ still.moving.mm_from_ijk, atol=1e-9
    )
    np.testing.assert_allclose(still.moving.data, moved.moving.data, atol=0.1)


def test_same_contrast_twice_has_different_noise_and_grid() -> None:
    pair = phantom_pair(
        "T1", "T1", seed=0, fixed_voxel_size_mm=8, moving_voxel_size_mm=8
    )
    back = pair.moving_from_fixed.inverse().matrix @ pair.moving.mm_from_ijk
    assert np.abs(back - pair.fixed.mm_from_ijk).max() > 0.1
    air = pair.fixed.data[:2, :2].ravel()[:30], pair.moving.data[:2, :2].ravel()[:30]
    assert abs(np.corrcoef(*air)[0, 1]) < 0.6


def test_field_of_view_and_voxel_size_are_as_asked() -> None:
    image = make_phantom("T1", voxel_size_mm=(4, 5, 6), fov_mm=(200, 240, 180))
    assert image.shape == (50, 48, 30)
    np.testing.assert_allclose(image.voxel_size_mm, [4, 5, 6])
    whole = make_phantom("T1", voxel_size_mm=8)
    np.testing.assert_allclose(image.centre_mm, whole.centre_mm, atol=1e-9)


def test_bad_requests_are_refused_in_one_line() -> None:
    requests = [
        (lambda: make_phantom("T3"), "no contrast 'T3'"),
        (
            lambda: make_phantom("T1", voxel_size_mm=0),
            "voxel size is 0 mm; it must be a number above 0",
        ),
        (
            lambda: make_phantom("T1", voxel_size_mm=1, grid=head_grid(8.0)),
            "its own voxel size",
        ),
        (lambda: Contrast({"air": 0.0}), "one intensity for each tissue"),
    ]
    for request, says in requests:
        with pytest.raises(InputError, match=says) as error:
            request()
        assert "\n" not in str(error.value)


@pytest.mark.slow
def test_the_stored_pair_is_made_again(tmp_path: Path) -> None:
    make = runpy.run_path(str(ROOT / "scripts" / "make_data.py"))["make"]
    paths = make(tmp_path)
    assert sum(path.stat().st_size for path in paths) < 1_000_000
    for path in paths:
        stored = ROOT / "data" / path.name
        if path.suffix == ".json":
            new, old = (json.loads(p.read_text()) for p in (path, stored))
            a, b = new.pop("moving_from_fixed"), old.pop("moving_from_fixed")
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)
            assert new == old
            continue
        a, b = nib.load(path), nib.load(stored)
        np.testing.assert_array_equal(a.affine, b.affine)
        # Another processor may round a sine the other way: rarely, by one step.
        steps = np.abs(a.get_fdata() - b.get_fdata()) / b.dataobj.slope
        assert steps.max() <= 1
        assert np.mean(steps > 0) < 1e-4


@pytest.mark.parametrize("seed", [None, -1, 1.5, "a", [1]])
@pytest.mark.parametrize(
    "draw", [phantom.phantom_pair, phantom.make_phantom, phantom.brain_points, "pair"]
)
def test_a_seed_that_is_none_is_refused(draw, seed):
    calls = {
        phantom.phantom_pair: lambda: phantom.phantom_pair(seed=seed),
        phantom.make_phantom: lambda: phantom.make_phantom("T1", seed=seed),
        phantom.brain_points: lambda: phantom.brain_points(seed),
        "pair": lambda: phantom.hard_pair("knee", seed),
    }
    with pytest.raises(InputError, match=r"seed is .*; it must be a whole number of"):
        calls[draw]()


@pytest.mark.parametrize("size", ["a", None, [1, 2], -1, np.nan, [1, 1, 0]])
def test_lengths_that_are_none_are_refused(size):
    with pytest.raises(InputError, match=r"the voxel size is .* mm; it must be"):
        phantom.head_grid(size)
    if size is not None:
        with pytest.raises(InputError, match=r"the field of view is .* mm; it must"):
            phantom.head_grid(2, fov_mm=size)


def test_a_pose_is_drawn_from_a_generator():
    with pytest.raises(InputError, match=r"rng is int; give a numpy\.random\.default_"):
        phantom.random_pose(0)
