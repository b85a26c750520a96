"""Levels: what they show stays where it is in the world, at every resolution."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from checks import GRIDS, quantised_volume
from scipy import ndimage

from mireg import _parameters as parameters
from mireg._engine.levels import (
    finest_size_mm,
    gaussian,
    levels_at,
    make_level,
    pyramid,
    smooth,
    subsampled,
)
from mireg._engine.pair import Pair
from mireg._image import Image
from mireg._prepare import (
    downsample,
    interpolate,
    prepare,
    shrink_factors,
    voxel_centres,
)
from mireg._settings import Settings

SETTINGS = Settings(samples=20_000)


def cloud(points, middle):
    """Return a smooth scene without symmetry, at points, and nothing about it."""
    x, y, z = ((points - middle) / [26.0, 22.0, 24.0]).T
    off = (x - 0.35) ** 2 + (y + 0.3) ** 2 + (z - 0.2) ** 2
    return 100 * np.exp(-2 * (x**2 + y**2 + z**2)) + 40 * np.exp(-8 * off)


def scene(grid, shape=(73, 67, 61)):
    """Scan the scene on a grid with an odd number of voxels; tell its middle."""
    return scan(GRIDS[grid], shape)


def scan(mm_from_ijk, shape):
    """Scan the scene on any grid; tell its middle."""
    image = Image(np.zeros(shape), mm_from_ijk)
    middle = image.to_mm(np.array(shape) * [0.48, 0.53, 0.5])
    data = cloud(voxel_centres(image), middle)
    return Image(data.reshape(shape), mm_from_ijk), middle


def centre_of_mass(image):
    weights = np.nan_to_num(image.data.ravel().astype(float))
    return weights @ voxel_centres(image) / weights.sum()


@pytest.mark.parametrize("size", [2.5, 4, 7])
@pytest.mark.parametrize("grid", sorted(GRIDS))
def test_shrinking_leaves_the_centre_of_mass_where_it_is(grid, size):
    image, _ = scene(grid)
    small = downsample(image, shrink_factors(image, size))
    np.testing.assert_allclose(small.voxel_size_mm, size, rtol=0.5)
    assert np.linalg.norm(centre_of_mass(small) - centre_of_mass(image)) < 0.05


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("shape", [(20, 18, 17), (3, 1, 40)])
def test_gaussian_smoothing_is_that_of_scipy(shape, order, rng):
    volume = np.asarray(rng.random(shape), dtype=np.float32, order=order)
    sigma = np.array([0.6, 0.1, 1.3])
    expected = ndimage.gaussian_filter(volume, sigma, mode="nearest", truncate=3)
    for threads in (1, 2, 4):
        found = gaussian(volume, sigma, threads)
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("grid", sorted(GRIDS))
def test_every_level_shows_the_scene_in_its_place(grid):
    image, _ = scene(grid)
    other, _ = scene("straight", (90, 81, 77))
    pair = Pair.of(prepare(image), prepare(other))
    found = resolutions(pair)
    sizes = [one.size_mm for one in found]
    assert len(found) >= 2
    assert sizes == sorted(sizes, reverse=True)
    assert [one.finer for one in found] == list(range(len(found)))[::-1]
    for one in found:
        for small, original in (
            (one.sampled, pair.sampled.image),
            (one.interpolated, pair.interpolated.image),
        ):
            off = centre_of_mass(small) - centre_of_mass(original)
            assert np.linalg.norm(off) < 0.05 * one.size_mm
            # Never finer than it is, and at most about half again too coarse.
            assert (small.voxel_size_mm >= original.voxel_size_mm - 1e-9).all()
            rough = np.maximum(original.voxel_size_mm, one.size_mm)
            assert (small.voxel_size_mm < 1.6 * rough).all()


def test_the_resolutions_have_names():
    pair = Pair.of(prepare(scene("oblique")[0]), prepare(scene("straight")[0]))
    found = pyramid(pair)
    assert found.finest.size_mm == pytest.approx(finest_size_mm(pair))
    assert found.finer == ()
    assert found.finest is found.detailed is found.coarse
    four = replace(found, finer=(found.rough, found.coarse))
    assert four.detailed is found.rough
    assert four.finest is found.coarse
    exchanged = found.coarse.exchanged()
    assert exchanged.sampled is found.coarse.interpolated
    assert exchanged.interpolated is found.coarse.sampled
    assert exchanged.finer == found.coarse.finer


def test_the_finest_level_is_the_image_itself():
    image, _ = scene("oblique")
    finest = pyramid(itself(image)).finest
    for one in (finest.sampled, finest.interpolated):
        np.testing.assert_array_equal(one.data, image.data)
        np.testing.assert_array_equal(one.mm_from_ijk, image.mm_from_ijk)


def test_the_finest_level_smooths_no_image_to_the_voxels_of_the_other():
    image, _ = scene("straight")
    size = image.voxel_size_mm.max()
    for coarser, most in ((1.6 * size, 1.0), (3.0 * size, 2.0), (9.0 * size, 6.0)):
        partner, _ = scan(np.diag([coarser, coarser, coarser, 1.0]), (20, 20, 20))
        pair = Pair.of(prepare(image), prepare(partner))
        finest = pyramid(pair).finest
        assert finest.size_mm == pytest.approx(coarser)
        fine = finest.sampled if pair.sampled_is_fixed else finest.interpolated
        assert (fine.voxel_size_mm <= most * size + 1e-9).all()
        same = prepare(image).shrunk(parameters.FINEST_SHARE * coarser)
        np.testing.assert_array_equal(fine.data, same.data)


def test_missing_voxels_stay_missing_and_spread_to_no_others():
    image, _ = scene("straight")
    data = image.data.copy()
    data[:20] = np.nan
    hollow = Image(data, image.mm_from_ijk)
    for resolution in resolutions(itself(hollow)):
        small = resolution.sampled
        at = hollow.to_ijk(voxel_centres(small))[:, 0].reshape(small.shape)
        missing = np.isnan(small.data)
        half = np.linalg.norm(small.mm_from_ijk[:, 0]) / 2
        half /= np.linalg.norm(hollow.mm_from_ijk[:, 0])
        assert missing[at < 19.5 - half].all()
        # What remains at the end of an axis, less than half a block, is missing too.
        whole = small.to_ijk(voxel_centres(small))
        whole = (whole < np.array(small.shape) - 1).all(axis=1)
        assert not missing[(at > 19.5 + half) & whole.reshape(at.shape)].any()
        assert np.nanmax(small.data) <= image.data.max() * (1 + 1e-6)


def test_smoothing_knows_the_voxels_that_hold_data_only():
    flat = Image(np.full((9, 9, 9), 7.0, np.float32), np.eye(4))
    flat.data[3:5, 2:6, 4] = np.nan
    found = smooth(flat, 1.0)
    np.testing.assert_array_equal(np.isnan(found.data), np.isnan(flat.data))
    np.testing.assert_allclose(found.data[np.isfinite(flat.data)], 7, rtol=1e-6)


def resolutions(pair):
    """Return all resolutions of a pair, coarse to fine."""
    found = pyramid(pair)
    return [found.rough, found.coarse, *found.finer]


def itself(image, mask=None):
    """Pair an image with itself, as it is."""
    prepared = prepare(image, mask)
    return Pair.of(prepared, prepared, channels=["original"])


def original_levels(pair, settings=SETTINGS):
    """Return a pair's levels, intensities as they were scanned, coarse to fine."""
    pair = pair.only("original")
    return [levels_at(pair, at, settings)["original"] for at in resolutions(pair)]


def interpolated_image(at):
    """Return what a level interpolates, as an image."""
    return Image(at.interpolated_values, np.linalg.inv(at.interpolated_ijk_from_mm))


def clear_of_the_border(points, image, mm):
    """Tell which points are further than `mm` from the outermost voxels."""
    ijk = image.to_ijk(points) * image.voxel_size_mm
    ends = (np.array(image.shape) - 1) * image.voxel_size_mm
    return ((ijk > mm) & (ijk < ends - mm)).all(axis=1)


@pytest.mark.parametrize("grid", sorted(GRIDS))
def test_samples_carry_the_normalised_intensity_at_their_place(grid):
    image, middle = scene(grid)
    pair = itself(image)
    for at in original_levels(pair):
        points = at.points.T + at.origin
        expected = pair.sampled.scale.apply(np.float32(cloud(points, middle)))
        clear = clear_of_the_border(points, image, 2 * at.size_mm)
        assert clear.mean() > 0.5
        off = np.abs(at.sampled_values - expected)[clear]
        assert np.median(off) < 0.02
        assert off.max() < 0.15


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("grid", sorted(GRIDS))
def test_the_interpolated_image_shows_at_each_place_what_is_there(grid, order):
    image, middle = scene(grid)
    image = Image(np.asarray(image.data, order=order), image.mm_from_ijk)
    pair = Pair.of(prepare(scene("straight")[0]), prepare(image))
    if not pair.sampled_is_fixed:
        pair = pair.exchanged()
    for resolution in resolutions(pair):
        at = levels_at(pair.only("original"), resolution, SETTINGS)["original"]
        points = voxel_centres(interpolated_image(at))
        scale = pair.interpolated.scale
        expected = scale.apply(np.float32(cloud(points, middle)))
        clear = clear_of_the_border(points, image, 2 * at.size_mm)
        assert clear.any()
        off = np.abs(at.interpolated_values.ravel() - expected)[clear]
        assert np.median(off) < 0.02
        assert off.max() < 0.15


def test_the_same_scene_twice_reads_alike_at_the_samples():
    image, _ = scene("sheared")
    for at in original_levels(itself(image)):
        read = interpolate(interpolated_image(at), at.points.T + at.origin)
        known = np.isfinite(read)
        assert known.mean() > 0.95
        assert np.corrcoef(read[known], at.sampled_values[known])[0, 1] > 0.999


def test_samples_lie_on_no_grid():
    image, _ = scene("sheared")
    finest = original_levels(itself(image))[-1]
    ijk = image.to_ijk(finest.points.T + finest.origin)
    for parts in (ijk % 1).T:
        shares = np.histogram(parts, bins=10, range=(0, 1))[0] / len(parts)
        assert np.abs(shares - 0.1).max() < 0.02


@pytest.mark.parametrize("grid", sorted(GRIDS))
def test_samples_fill_the_sampling_mask_evenly(grid):
    pair = itself(scene(grid)[0])
    mask = pair.sampled.sampling_mask
    at = original_levels(pair)[0]
    points = at.points.T + at.origin
    ijk = np.rint(mask.to_ijk(points)).astype(int)
    counts = np.zeros(mask.shape)
    np.add.at(counts, tuple(ijk.clip(0, np.array(counts.shape) - 1).T), 1)
    sampled = mask.data > 0
    assert counts[~sampled].sum() < 1e-3 * counts.sum()
    assert np.ptp(counts[sampled & (counts > 0)]) <= 2
    assert (counts[sampled] > 0).mean() > 0.95


def test_the_seed_alone_decides_on_the_samples():
    image, _ = scene("straight")
    pair = itself(image)
    rough = pyramid(pair).rough
    first, again, other = (
        levels_at(pair, rough, Settings(seed=seed))["original"].points
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.isin(other, first).all(axis=1).any()


def test_masks_leave_only_what_lies_in_them():
    image, middle = scene("oblique")
    half = np.diag([3.0, 4, 5, 1])
    half[:3, 3] = middle + np.array([1.5, -120, -120])
    mask = Image(np.ones((60, 60, 48)), half)  # all that lies right of the middle
    masked, bare = original_levels(itself(image, mask)), original_levels(itself(image))
    for at, without in zip(masked, bare, strict=True):
        assert (at.points[0] + at.origin[0]).min() > middle[0] - 1e-3
        inside = interpolated_image(at)
        right = voxel_centres(inside)[:, 0] > middle[0]
        right &= np.isfinite(without.interpolated_values).ravel()
        np.testing.assert_array_equal(np.isfinite(inside.data).ravel(), right)


def test_the_bias_field_is_taken_out_of_either_image():
    image, middle = scene("straight")
    x = (voxel_centres(image) - middle)[:, 0].reshape(image.shape) / 26
    biased = prepare(Image(image.data * np.exp(0.5 * x), image.mm_from_ijk))
    pair = Pair.of(biased, biased)
    assert tuple(pair.channels) == parameters.CHANNELS
    finest = levels_at(pair, pyramid(pair).finest, SETTINGS)
    side = {}
    for name, at in finest.items():
        interpolated = interpolate(interpolated_image(at), at.points.T + at.origin)
        right = at.points[0] + at.origin[0] > middle[0]
        side[name] = [
            float(np.nanmean(values[right]) - np.nanmean(values[~right]))
            for values in (at.sampled_values, interpolated)
        ]
    plain = side["original"]
    for n, name in enumerate(parameters.CHANNELS[1:]):
        assert side[name][n] < 0.6 * plain[n]
        assert side[name][1 - n] == plain[1 - n]


def test_channels_share_samples_and_what_they_have_in_common():
    pair = Pair.of(prepare(scene("straight")[0]), prepare(scene("oblique")[0]))
    found = levels_at(pair, pyramid(pair).coarse, SETTINGS)
    original, sampled, interpolated = (found[name] for name in parameters.CHANNELS)
    assert original.points is sampled.points is interpolated.points
    assert original.interpolated is sampled.interpolated
    assert original.sampled_values is interpolated.sampled_values
    assert (original.sampled_values != sampled.sampled_values).any()
    assert (original.interpolated[0] != interpolated.interpolated[0]).any()
    background = pair.interpolated.scale.normalised_background
    assert original.interpolated_background == background
    few = levels_at(pair.only("sampled_corrected"), pyramid(pair).coarse, SETTINGS)
    assert list(few) == ["sampled_corrected"]
    for name in ("points", "sampled_values", "sampled_bin"):
        np.testing.assert_array_equal(
            getattr(few["sampled_corrected"], name), getattr(sampled, name)
        )


def test_bins_are_equally_wide_and_all_taken():
    values = np.linspace(0, 1, 1001, dtype=np.float32)
    at = make_level(
        size_mm=1.0,
        points=np.zeros((3, 1001), np.float32),
        origin=np.zeros(3),
        sampled_values=values,
        interpolated=quantised_volume(values[:1000].reshape(10, 10, 10)),
        interpolated_ijk_from_mm=np.eye(4),
        n_bins=10,
    )
    counts = np.bincount(at.sampled_bin)
    assert len(counts) == 10
    assert counts.min() >= 99
    assert (np.diff(at.sampled_bin.astype(int)) >= 0).all()


@pytest.mark.parametrize("shape", [(40, 40, 10), (40, 40, 3), (40, 40, 1)])
def test_a_slab_is_not_shrunk_across(shape):
    rng = np.random.default_rng(0)
    data = 100 * rng.random(shape)
    data[:8] = data[-8:] = 0
    slab = prepare(Image(data, np.diag([1.0, 1, 6, 1])))
    whole = prepare(scene("straight")[0])
    pair = Pair.of(slab, whole, channels=["original"])
    if not pair.sampled_is_fixed:
        pair = pair.exchanged()
    for resolution in resolutions(pair):
        assert resolution.sampled.shape[2] == shape[2]
        at = levels_at(pair, resolution, SETTINGS)["original"]
        z = (at.points.T + at.origin)[:, 2]
        assert z.min() >= -3 - 1e-3
        assert z.max() <= 6 * shape[2] - 3 + 1e-3
        assert at.points.shape[1] > 1000


def test_a_subsampled_level_shows_the_same_at_a_fourth_of_the_places(rng):
    n = 40_000
    full = make_level(
        size_mm=1.0,
        points=rng.random((3, n), np.float32),
        origin=np.zeros(3),
        sampled_values=rng.random(n, np.float32),
        interpolated=quantised_volume(rng.random((5, 5, 5), np.float32)),
        interpolated_ijk_from_mm=np.eye(4),
        n_bins=20,
    )
    few = subsampled(full, Settings(samples=n))
    assert few.points.shape == (3, n // 4)
    indices = {tuple(point): at for at, point in enumerate(full.points.T)}
    which = [indices[tuple(point)] for point in few.points.T]
    np.testing.assert_array_equal(few.sampled_values, full.sampled_values[which])
    np.testing.assert_array_equal(few.sampled_bin, full.sampled_bin[which])
    assert subsampled(few, Settings(samples=n)) is few
