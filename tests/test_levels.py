"""Levels: what they show stays where it is in the world, at every resolution."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from checks import GRIDS, packed_volume
from scipy import ndimage

from mireg._engine.levels import blur, level, make_level, pyramid, shrink, sparser
from mireg._image import Image
from mireg._prepare import flatten, interpolate, scan, voxel_centres
from mireg._settings import Settings

SETTINGS = Settings(samples=20_000)


def cloud(points, middle):
    """Return a smooth scene without symmetry, at points, and nothing about it."""
    x, y, z = ((points - middle) / [26.0, 22.0, 24.0]).T
    off = (x - 0.35) ** 2 + (y + 0.3) ** 2 + (z - 0.2) ** 2
    return 100 * np.exp(-2 * (x**2 + y**2 + z**2)) + 40 * np.exp(-8 * off)


def scene(grid, shape=(73, 67, 61)):
    """Scan the scene on a grid with an odd number of voxels; tell its middle."""
    image = Image(np.zeros(shape), GRIDS[grid])
    middle = image.to_mm(np.array(shape) * [0.48, 0.53, 0.5])
    data = cloud(voxel_centres(image), middle)
    return Image(data.reshape(shape), GRIDS[grid]), middle


def centre_of_mass(image):
    weights = np.nan_to_num(image.data.ravel().astype(float))
    return weights @ voxel_centres(image) / weights.sum()


@pytest.mark.parametrize("size", [2.5, 4, 7])
@pytest.mark.parametrize("grid", sorted(GRIDS))
def test_shrinking_leaves_the_centre_of_mass_where_it_is(grid, size):
    image, _ = scene(grid)
    small = shrink(image, size, (-np.inf, np.inf))
    np.testing.assert_allclose(small.voxel_size_mm, size, rtol=0.5)
    assert np.linalg.norm(centre_of_mass(small) - centre_of_mass(image)) < 0.05


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("shape", [(20, 18, 17), (3, 1, 40)])
def test_a_blur_is_that_of_scipy(shape, order, rng):
    volume = np.asarray(rng.random(shape), dtype=np.float32, order=order)
    sigma = np.array([0.6, 0.1, 1.3])
    expected = ndimage.gaussian_filter(volume, sigma, mode="nearest", truncate=3)
    for threads in (1, 2, 4):
        found = blur(volume, sigma, threads)
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("grid", sorted(GRIDS))
def test_every_level_shows_the_scene_in_its_place(grid):
    image, _ = scene(grid)
    other, _ = scene("straight", (90, 81, 77))
    pairs = pyramid(scan(image), scan(other))
    sizes = [pair.size_mm for pair in pairs]
    assert len(pairs) >= 2
    assert sizes == sorted(sizes, reverse=True)
    assert [pair.below for pair in pairs] == list(range(len(pairs)))[::-1]
    for pair in pairs:
        for seen, original in ((pair.fixed, image), (pair.moving, other)):
            off = centre_of_mass(seen) - centre_of_mass(original)
            assert np.linalg.norm(off) < 0.05 * pair.size_mm
            # Never finer than it is, and at most about half again too coarse.
            assert (seen.voxel_size_mm >= original.voxel_size_mm - 1e-9).all()
            rough = np.maximum(original.voxel_size_mm, pair.size_mm)
            assert (seen.voxel_size_mm < 1.6 * rough).all()


def test_the_finest_level_is_the_image_itself():
    image, _ = scene("oblique")
    finest = pyramid(scan(image), scan(image))[-1]
    np.testing.assert_array_equal(finest.fixed.data, image.data)
    np.testing.assert_array_equal(finest.fixed.mm_from_ijk, image.mm_from_ijk)


def test_the_finest_level_blurs_no_image_to_the_voxels_of_the_other():
    image, _ = scene("straight")
    size = image.voxel_size_mm.max()
    for coarser, most in ((1.6 * size, 1.0), (3.0 * size, 2.0), (9.0 * size, 6.0)):
        seen = scan(image, finest_mm=coarser).image
        assert (seen.voxel_size_mm <= most * size + 1e-9).all()


def test_missing_voxels_stay_missing_and_spread_to_no_others():
    image, _ = scene("straight")
    data = image.data.copy()
    data[:20] = np.nan
    hollow = Image(data, image.mm_from_ijk)
    for pair in pyramid(scan(hollow), scan(hollow)):
        at = hollow.to_ijk(voxel_centres(pair.fixed))[:, 0].reshape(pair.fixed.shape)
        missing = np.isnan(pair.fixed.data)
        half = np.linalg.norm(pair.fixed.mm_from_ijk[:, 0]) / 2
        half /= np.linalg.norm(hollow.mm_from_ijk[:, 0])
        assert missing[at < 19.5 - half].all()
        # What remains at the end of an axis, less than half a block, is missing too.
        whole = pair.fixed.to_ijk(voxel_centres(pair.fixed))
        whole = (whole < np.array(pair.fixed.shape) - 1).all(axis=1)
        assert not missing[(at > 19.5 + half) & whole.reshape(at.shape)].any()
        assert np.nanmax(pair.fixed.data) <= image.data.max() * (1 + 1e-6)


def levels(fixed, moving, settings=SETTINGS):
    """Return all levels of two scans."""
    return [level(pair, fixed, moving, settings) for pair in pyramid(fixed, moving)]


def clear_of_the_border(points, image, mm):
    """Tell which points are further than `mm` from the outermost voxels."""
    ijk = image.to_ijk(points) * image.voxel_size_mm
    ends = (np.array(image.shape) - 1) * image.voxel_size_mm
    return ((ijk > mm) & (ijk < ends - mm)).all(axis=1)


@pytest.mark.parametrize("grid", sorted(GRIDS))
def test_samples_carry_the_grey_level_at_their_place(grid):
    image, middle = scene(grid)
    fixed = scan(image)
    for at in levels(fixed, fixed):
        points = at.points.T + at.origin
        expected = fixed.grey.apply(np.float32(cloud(points, middle)))
        clear = clear_of_the_border(points, image, 2 * at.size_mm)
        assert clear.mean() > 0.5
        off = np.abs(at.fixed_grey - expected)[clear]
        assert np.median(off) < 0.02
        assert off.max() < 0.15


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("grid", sorted(GRIDS))
def test_the_moving_image_shows_at_each_place_what_is_there(grid, order):
    image, middle = scene(grid)
    image = Image(np.asarray(image.data, order=order), image.mm_from_ijk)
    moving, fixed = scan(image), scan(scene("straight")[0])
    for at in levels(fixed, moving):
        mm_from_ijk = np.linalg.inv(at.moving_ijk_from_mm)
        seen = Image(at.moving_grey, mm_from_ijk)
        points = voxel_centres(seen)
        expected = moving.grey.apply(np.float32(cloud(points, middle)))
        clear = clear_of_the_border(points, image, 2 * at.size_mm)
        assert clear.any()
        off = np.abs(at.moving_grey.ravel() - expected)[clear]
        assert np.median(off) < 0.02
        assert off.max() < 0.15


def test_the_same_scene_twice_reads_alike_at_the_samples():
    image, _ = scene("sheared")
    fixed = scan(image)
    for at in levels(fixed, fixed):
        seen = Image(at.moving_grey, np.linalg.inv(at.moving_ijk_from_mm))
        read = interpolate(seen, at.points.T + at.origin)
        known = np.isfinite(read)
        assert known.mean() > 0.95
        assert np.corrcoef(read[known], at.fixed_grey[known])[0, 1] > 0.999


def test_samples_lie_on_no_grid():
    image, _ = scene("sheared")
    fixed = scan(image)
    finest = levels(fixed, fixed)[-1]
    ijk = image.to_ijk(finest.points.T + finest.origin)
    for parts in (ijk % 1).T:
        shares = np.histogram(parts, bins=10, range=(0, 1))[0] / len(parts)
        assert np.abs(shares - 0.1).max() < 0.02


@pytest.mark.parametrize("grid", sorted(GRIDS))
def test_samples_fill_the_region_of_the_anatomy_evenly(grid):
    fixed = scan(scene(grid)[0])
    at = levels(fixed, fixed)[0]
    points = at.points.T + at.origin
    ijk = np.rint(fixed.region.to_ijk(points)).astype(int)
    counts = np.zeros(fixed.region.shape)
    np.add.at(counts, tuple(ijk.clip(0, np.array(counts.shape) - 1).T), 1)
    region = fixed.region.data > 0
    assert counts[~region].sum() < 1e-3 * counts.sum()
    assert np.ptp(counts[region & (counts > 0)]) <= 2
    assert (counts[region] > 0).mean() > 0.95


def test_the_seed_alone_decides_on_the_samples():
    image, _ = scene("straight")
    fixed = scan(image)
    coarsest = pyramid(fixed, fixed)[0]
    first, again, other = (
        level(coarsest, fixed, fixed, Settings(seed=seed)).points for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.isin(other, first).all(axis=1).any()


def test_masks_leave_only_what_lies_in_them():
    image, middle = scene("oblique")
    half = np.diag([3.0, 4, 5, 1])
    half[:3, 3] = middle + np.array([1.5, -120, -120])
    mask = Image(np.ones((60, 60, 48)), half)  # all that lies right of the middle
    fixed, moving = scan(image, mask), scan(image, mask)
    bare = levels(scan(image), scan(image))
    for at, without in zip(levels(fixed, moving), bare, strict=True):
        assert (at.points[0] + at.origin[0]).min() > middle[0] - 1e-3
        seen = Image(at.moving_grey, np.linalg.inv(at.moving_ijk_from_mm))
        right = voxel_centres(seen)[:, 0] > middle[0]
        right &= np.isfinite(without.moving_grey).ravel()
        np.testing.assert_array_equal(np.isfinite(seen.data).ravel(), right)


def test_shading_is_taken_out_of_both_images():
    image, middle = scene("straight")
    x = (voxel_centres(image) - middle)[:, 0].reshape(image.shape) / 26
    shaded = scan(Image(image.data * np.exp(0.5 * x), image.mm_from_ijk))
    flat = flatten(shaded)
    plain = replace(flat, shading=None, grey=shaded.grey)
    side = {}
    for name, one in (("flat", flat), ("plain", plain)):
        at = levels(one, one)[-1]
        seen = Image(at.moving_grey, np.linalg.inv(at.moving_ijk_from_mm))
        moving = interpolate(seen, at.points.T + at.origin)
        right = at.points[0] + at.origin[0] > middle[0]
        side[name] = [
            float(np.nanmean(grey[right]) - np.nanmean(grey[~right]))
            for grey in (at.fixed_grey, moving)
        ]
    for flat_side, plain_side in zip(side["flat"], side["plain"], strict=True):
        assert flat_side < 0.6 * plain_side


def test_bins_are_equally_wide_and_all_taken():
    greys = np.linspace(0, 1, 1001, dtype=np.float32)
    at = make_level(
        size_mm=1.0,
        points=np.zeros((3, 1001), np.float32),
        origin=np.zeros(3),
        fixed_grey=greys,
        moving=packed_volume(greys[:1000].reshape(10, 10, 10)),
        moving_ijk_from_mm=np.eye(4),
        n_bins=10,
    )
    counts = np.bincount(at.fixed_bin)
    assert len(counts) == 10
    assert counts.min() >= 99
    assert (np.diff(at.fixed_bin.astype(int)) >= 0).all()


@pytest.mark.parametrize("shape", [(40, 40, 10), (40, 40, 3), (40, 40, 1)])
def test_a_slab_is_not_shrunk_across(shape):
    rng = np.random.default_rng(0)
    data = 100 * rng.random(shape)
    data[:8] = data[-8:] = 0
    slab = scan(Image(data, np.diag([1.0, 1, 6, 1])))
    whole = scan(scene("straight")[0])
    for pair in pyramid(slab, whole):
        assert pair.fixed.shape[2] == shape[2]
        at = level(pair, slab, whole, SETTINGS)
        z = (at.points.T + at.origin)[:, 2]
        assert z.min() >= -3 - 1e-3
        assert z.max() <= 6 * shape[2] - 3 + 1e-3
        assert at.points.shape[1] > 1000


def test_a_sparser_level_shows_the_same_at_a_fourth_of_the_places(rng):
    n = 40_000
    full = make_level(
        size_mm=1.0,
        points=rng.random((3, n), np.float32),
        origin=np.zeros(3),
        fixed_grey=rng.random(n, np.float32),
        moving=packed_volume(rng.random((5, 5, 5), np.float32)),
        moving_ijk_from_mm=np.eye(4),
        n_bins=20,
    )
    sparse = sparser(full, Settings(samples=n))
    assert sparse.points.shape == (3, n // 4)
    places = {tuple(place): at for at, place in enumerate(full.points.T)}
    which = [places[tuple(place)] for place in sparse.points.T]
    np.testing.assert_array_equal(sparse.fixed_grey, full.fixed_grey[which])
    np.testing.assert_array_equal(sparse.fixed_bin, full.fixed_bin[which])
    assert sparser(sparse, Settings(samples=n)) is sparse
