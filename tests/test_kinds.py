"""The hard kinds: their truth is exact, and each is hard in the way it says."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from checks import transposed
from scipy import ndimage

from mireg._errors import InputError
from mireg._image import Image
from mireg._prior import learn_prior
from mireg._register import register
from mireg._settings import MetricName, Settings
from mireg._transform import RigidTransform
from mireg.phantom import (
    CONTRASTS,
    KINDS,
    TISSUES,
    Acquisition,
    Contrast,
    HardPair,
    brain_points,
    hard_pair,
)
from mireg.phantom.bodies import spine
from mireg.phantom.scene import Distortion, coil, surface_coil


@cache
def made(name: str) -> HardPair:
    """Make the pair of a kind once for all tests."""
    return hard_pair(name, seed=1)


def plain(plan: Acquisition, look: Contrast) -> Acquisition:
    """Take away whatever makes a scan show other things than the anatomy."""
    return replace(
        plan,
        look=look,
        lesions="",
        stripped=False,
        defaced=False,
        in_ct=False,
        coil=0.0,
        surface_coil_mm=0.0,
        distortion_mm=0.0,
        fill=None,
    )


def read_at(image: Image, points_mm: np.ndarray) -> np.ndarray:
    """Interpolate an image at points in mm, (n, 3)."""
    return ndimage.map_coordinates(
        image.data, image.to_ijk(points_mm).T, order=1, mode="nearest"
    )


def angle_deg(image: Image, a: int, b: int) -> float:
    """Return the angle between two axes of a grid."""
    axes = image.mm_from_ijk[:3, :3] / image.voxel_size_mm
    return float(np.rad2deg(np.arccos(axes[:, a] @ axes[:, b])))


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_truth_maps_points_to_the_same_anatomy(name: str) -> None:
    kind = KINDS[name]
    look = replace(CONTRASTS["PD"], noise_level=0.0, bias=0.0)
    clean = replace(
        kind, fixed=plain(kind.fixed, look), moving=plain(kind.moving, look)
    )
    pair = hard_pair(clean, seed=3)
    here = read_at(pair.fixed, pair.points)
    truth = pair.moving_from_fixed
    # Voxels differ in size and place, so edges differ; a wrong place differs more.
    right = np.corrcoef(here, read_at(pair.moving, truth.apply(pair.points)))[0, 1]
    assert right > 0.6
    step = pair.moving.voxel_size_mm.max()
    for way in (*np.eye(3), *-np.eye(3)):
        nudge = RigidTransform(np.zeros(3), step * way)
        off = read_at(pair.moving, (nudge @ truth).apply(pair.points))
        assert np.corrcoef(here, off)[0, 1] < right - 0.02


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_points_lie_in_both_fields_of_view(name: str) -> None:
    pair = made(name)
    assert len(pair.points) > 1000
    moved = pair.moving_from_fixed.apply(pair.points)
    for image, points in ((pair.fixed, pair.points), (pair.moving, moved)):
        ijk = image.to_ijk(points)
        assert (ijk > -1e-6).all()
        assert (ijk < np.array(image.shape) - 1 + 1e-6).all()
        assert np.isfinite(image.data).all()


@pytest.mark.parametrize("name", ["mouse", "spine"])
def test_same_seed_same_bits_and_another_seed_another_pair(name: str) -> None:
    first, again, other = (hard_pair(name, seed=s) for s in (1, 1, 2))
    for a, b in zip(first[:2], again[:2], strict=True):
        assert a.data.tobytes() == b.data.tobytes()
        assert a.mm_from_ijk.tobytes() == b.mm_from_ijk.tobytes()
    np.testing.assert_array_equal(first.points, again.points)
    apart = first.moving_from_fixed.displacements(first.points, other.moving_from_fixed)
    assert apart.mean() > 1


def test_poses_are_as_far_off_as_the_kind_says() -> None:
    slices = [hard_pair("slices", seed) for seed in range(3)]
    angles = [pair.moving_from_fixed.angle_deg for pair in slices]
    assert 10 < max(angles) <= 45
    assert all(
        np.linalg.norm(pair.moving_from_fixed.translation) <= 60 for pair in slices
    )
    assert all(pair.moving.shape[2] in (2, 3) for pair in slices)
    given = RigidTransform([0.1, 0.2, 0.3], [4.0, 5.0, 6.0])
    assert hard_pair("mouse", pose=given).moving_from_fixed is given


@pytest.mark.slow
def test_slabs_show_a_part_of_the_head() -> None:
    for name, thickest in (("slab", 90), ("slab-occipital", 56), ("slices", 12)):
        slab = made(name).moving
        assert slab.shape[2] * slab.voxel_size_mm[2] <= thickest
    oblique = made("slab-occipital")
    through = oblique.moving_from_fixed.inverse().matrix @ oblique.moving.mm_from_ijk
    assert 0.5 < through[2, 2] / oblique.moving.voxel_size_mm[2] < 0.85
    back = oblique.points.mean(axis=0)
    assert back[1] < -35


@pytest.mark.slow
def test_a_tilted_gantry_shears_the_grid() -> None:
    tilted, straight = made("ct-gantry").moving, made("ct").moving
    assert angle_deg(tilted, 1, 2) == pytest.approx(108, abs=1e-6)
    assert angle_deg(tilted, 0, 2) == pytest.approx(90, abs=1e-6)
    assert angle_deg(straight, 1, 2) == pytest.approx(90, abs=1e-6)


@pytest.mark.slow
def test_ct_has_fill_air_table_and_metal_in_their_places() -> None:
    for name, fill in (("ct", -1024), ("ct-gantry", -3024)):
        pair = made(name)
        ct = pair.moving
        assert (ct.data[:3, :3] == fill).all()
        air = np.percentile(ct.data[ct.data != fill], 20)
        assert air == pytest.approx(-1000, abs=20)
        metal = np.argwhere(ct.data > 10_000)
        assert ct.data.max() > 18_000
        fixed_mm = pair.moving_from_fixed.inverse().apply(ct.to_mm(metal))
        right = fixed_mm[:, 0] > 1.5
        np.testing.assert_allclose(
            fixed_mm[right].mean(axis=0), (22, 58, -72), atol=1.0
        )
        np.testing.assert_allclose(
            fixed_mm[~right].mean(axis=0), (-19, 66, -72), atol=1.0
        )
        # Nothing of a head lies 137 mm behind the middle of its brain.
        under = np.array([[x, -136.0 + x * x / 2500, 0.0] for x in range(-40, 41)])
        table = read_at(ct, pair.moving_from_fixed.apply(under))
        assert table.mean() > -960


def test_a_coil_shades_the_brain_several_times() -> None:
    brain = brain_points(0)
    field = coil(brain.T, 2.0, 135.0)
    low, high = np.percentile(field, [5, 95])
    assert 3 < high / low < 6
    assert coil(np.zeros((3, 1)), 2.0, 135.0) == pytest.approx(1)


def test_surface_coils_fade_within_a_few_centimetres() -> None:
    at = np.array([[0.0, -y, 0.0] for y in (90, 65, 40, -90)])
    surface, shallow, deep, front = surface_coil(at.T, 50.0, 90.0)
    assert surface == pytest.approx(1)
    assert surface > 1.4 * shallow > 2 * deep > 8 * front


def test_vertebrae_are_alike_or_differ_by_their_level() -> None:
    def spread(alike: bool) -> float:
        bodies = [
            blob.semi_axes[0]
            for blob in spine(0, alike=alike).blobs
            if blob.tissue == "bone" and 9.0 < blob.semi_axes[0] < 16.0
        ]
        assert len(bodies) >= 13
        return float(np.std(bodies))

    assert spread(True) < 0.6 * spread(False)


def test_a_shim_leaves_distortion_without_shift_or_slope() -> None:
    brain = brain_points(0)
    lr, rl = (Distortion.over(brain, 0, peak) for peak in (9.0, -9.0))
    shift, slope = lr(brain.T)
    np.testing.assert_allclose(rl(brain.T)[0], -shift, atol=1e-9)
    assert 4 < np.abs(shift).max() < 9
    assert abs(shift.mean()) < 1e-9
    np.testing.assert_allclose((brain - brain.mean(axis=0)).T @ shift, 0, atol=1e-6)
    further = brain + np.array([1e-4, 0, 0])
    np.testing.assert_allclose((lr(further.T)[0] - shift) / 1e-4, slope, atol=1e-4)
    # No fold: neighbours keep their order.
    assert slope.min() > -0.7


@pytest.mark.slow
def test_what_is_cut_away_is_dark() -> None:
    nose = np.array([[0.0, 92.0, -46.0]])
    pair = made("defaced")
    assert read_at(pair.fixed, nose) < 60
    assert read_at(pair.moving, pair.moving_from_fixed.apply(nose)) > 100
    scalp = np.array([[x, -30.0, 76.0 + 5] for x in (-10.0, 0.0, 10.0)])
    assert read_at(made("stripped").fixed, scalp).max() < 120
    assert read_at(made("aligned").fixed, scalp).max() > 250


@pytest.mark.slow
def test_lesions_are_in_one_scan_only() -> None:
    pair = made("resection")
    inside = ndimage.gaussian_filter(pair.moving.data, 4)
    cavity = np.unravel_index(inside.argmax(), inside.shape)
    place = pair.moving_from_fixed.inverse().apply(pair.moving.to_mm(cavity))
    assert inside.max() > 900
    assert read_at(pair.fixed, place[None]) < 300  # the core of the tumour
    healthy = made("aligned")
    before = ndimage.gaussian_filter(healthy.moving.data, 4)
    assert before.max() < 900


@pytest.mark.slow
def test_pet_and_spect_are_smooth_dim_and_warm_outside_the_brain() -> None:
    for name in ("pet", "spect"):
        pair = made(name)
        there = read_at(pair.moving, pair.moving_from_fixed.apply(pair.points))
        cheeks = np.array([[x, 10.0, -50.0] for x in (-50.0, -45.0, 45.0, 50.0)])
        muscle = read_at(pair.moving, pair.moving_from_fixed.apply(cheeks))
        assert 0.1 < muscle.mean() / there.mean() < 1
        assert 0.1 < there.std() / there.mean() < 0.6


@pytest.mark.slow
def test_thick_slices_lie_in_the_planes_they_should() -> None:
    one, planes = made("thick"), made("thick-planes")
    np.testing.assert_allclose(one.moving.voxel_size_mm, (1.5, 1.5, 6.0))
    axial, sagittal = planes.fixed, planes.moving
    np.testing.assert_allclose(axial.voxel_size_mm, (1.5, 1.5, 6.0))
    np.testing.assert_allclose(sagittal.voxel_size_mm, (6.0, 1.5, 1.5))
    through = planes.moving_from_fixed.inverse().rotation_matrix
    through = through @ sagittal.mm_from_ijk[:3, 0] / 6.0
    assert abs(through[0]) > 0.95
    assert abs(axial.mm_from_ijk[2, 2]) > 0.95 * 6.0


def test_what_is_not_a_head_has_its_own_size() -> None:
    mouse = made("mouse")
    for image in (mouse.fixed, mouse.moving):
        extent = np.array(image.shape) * image.voxel_size_mm
        assert extent.max() <= 20.5
        assert image.voxel_size_mm.max() <= 0.5 + 1e-9
    spine = made("spine").points
    assert np.ptp(spine[:, 2]) > 1.3 * np.ptp(spine[:, 0])


@pytest.mark.slow
def test_an_infants_head_is_small() -> None:
    adult, infant = (np.ptp(made(k).points, axis=0) for k in ("aligned", "infant"))
    np.testing.assert_allclose(infant / adult, 0.74, atol=0.03)


@pytest.mark.slow
def test_an_infant_has_dark_white_matter_in_T1() -> None:
    table = KINDS["infant"].fixed.look.intensities
    assert set(table) == set(TISSUES)
    assert table["white"] < table["grey"]


@pytest.mark.slow
def test_half_a_turn_brings_the_near_symmetric_head_almost_onto_itself() -> None:
    turn = RigidTransform([0.0, np.pi, 0.0], np.zeros(3))
    alike = {}
    for name in ("near-symmetric", "aligned"):
        pair = made(name)
        here = read_at(pair.fixed, pair.points)
        there = read_at(pair.fixed, turn.apply(pair.points))
        alike[name] = np.corrcoef(here, there)[0, 1]
    assert 0.35 < alike["near-symmetric"] < 0.95
    assert alike["aligned"] < alike["near-symmetric"] - 0.2


@pytest.mark.slow
def test_identical_is_one_image_twice_and_aligned_is_not() -> None:
    pair = made("identical")
    np.testing.assert_array_equal(pair.fixed.data, pair.moving.data)
    np.testing.assert_array_equal(pair.fixed.mm_from_ijk, pair.moving.mm_from_ijk)
    aligned = made("aligned")
    for still in (pair, aligned):
        np.testing.assert_array_equal(still.moving_from_fixed.matrix, np.eye(4))
    assert np.abs(aligned.fixed.mm_from_ijk - aligned.moving.mm_from_ijk).max() > 0.01


def test_an_unknown_kind_is_refused_in_one_line() -> None:
    with pytest.raises(InputError, match="no kind 'elephant'; choose one of slab"):
        hard_pair("elephant")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *("ct", "ct-gantry", "pet", "spect", "thick", "thick-planes", "tumour"),
        *("plaques", "resection", "defaced", "stripped", "spine", "knee", "mouse"),
        *("infant", "near-symmetric", "aligned", "identical"),
    ],
)
def test_registration_comes_right(name: str) -> None:
    pair = hard_pair(name, seed=0)
    found = register(pair.fixed, pair.moving).transform
    off = found.displacements(pair.points, pair.moving_from_fixed)
    assert off.mean() < KINDS[name].limit_mm


@pytest.fixture(scope="module")
def spect_pairs() -> list[HardPair]:
    return [hard_pair("spect", seed) for seed in range(5)]


@pytest.mark.slow
def test_noise_in_a_coarse_image_moves_the_answer_by_a_fraction_of_a_voxel(
    spect_pairs: list[HardPair],
) -> None:
    """By an eighth: if the SPECT were sampled it would be a fifth."""
    off = []
    for pair in spect_pairs:
        truth = pair.moving_from_fixed
        found = register(pair.fixed, pair.moving, init=truth)
        off.append(found.transform.displacements(pair.points, truth).mean())
        assert found.standard_error_mm < 1
    assert np.median(off) < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["nmi", "oimi", "prior"])
def test_roles_may_be_swapped_where_noise_decides_which_image_is_sampled(
    metric: MetricName, spect_pairs: list[HardPair]
) -> None:
    pair = spect_pairs[1]
    settings = Settings(metric=metric)
    there, back = None, None
    if metric == "prior":
        truths = [
            (p.fixed, p.moving, p.moving_from_fixed.matrix) for p in spect_pairs[2:]
        ]
        there = learn_prior(truths)
        back = transposed(there)
    truth = pair.moving_from_fixed
    first = register(
        pair.fixed, pair.moving, init=truth, settings=settings, prior=there
    )
    second = register(
        pair.moving, pair.fixed, init=truth.inverse(), settings=settings, prior=back
    )
    apart = first.transform.displacements(pair.points, second.transform.inverse())
    assert apart.max() < 1e-6
    assert first.transform.displacements(pair.points, truth).mean() < 1.5
