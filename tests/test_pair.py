"""A pair: which image is sampled, and what its poses are to the user."""

from __future__ import annotations

import numpy as np
import pytest

from mireg import _parameters as parameters
from mireg._engine.pair import Pair, inverse
from mireg._image import Image
from mireg._prepare import prepare
from mireg.phantom import random_pose


def blob(radius, centre=(14, 16, 15), mm=2.0):
    """Prepare a blob that is brighter on one side."""
    ijk = np.indices((30, 32, 31))
    off = ijk - np.reshape(centre, (3, 1, 1, 1))
    inside = np.square(off).sum(axis=0) < radius**2
    data = np.where(inside, 50 + ijk[0] + 2 * ijk[1], 0)
    return prepare(Image(data, np.diag([mm, mm, mm, 1.0])))


SMALL, LARGE = blob(7, (11, 16, 15)), blob(11)

#: A pair whose fixed image is sampled, and one whose moving image is.
ROLES = {"fixed sampled": (SMALL, LARGE), "moving sampled": (LARGE, SMALL)}


@pytest.fixture(params=list(ROLES))
def pair(request, rng):
    """Return a pair with a prior, in either roles."""
    names = "original", "fixed_corrected", "moving_corrected"
    prior = {name: rng.random((4, 4)) for name in names}
    found = Pair.of(*ROLES[request.param], prior)
    assert found.sampled_is_fixed == (request.param == "fixed sampled")
    return found


def same(one, other):
    """Tell whether two pairs are alike in all that they hold."""
    if (one.sampled, one.interpolated) != (other.sampled, other.interpolated):
        return False
    if one.sampled_is_fixed != other.sampled_is_fixed:
        return False
    if list(one.channels) != list(other.channels):
        return False
    return all(
        mine.sampled is other.channels[name].sampled
        and mine.interpolated is other.channels[name].interpolated
        and np.array_equal(mine.prior, other.channels[name].prior)
        for name, mine in one.channels.items()
    )


def test_the_smaller_foreground_is_sampled_whichever_is_fixed():
    there, back = Pair.of(SMALL, LARGE), Pair.of(LARGE, SMALL)
    for pair in (there, back):
        assert (pair.sampled, pair.interpolated) == (SMALL, LARGE)
        assert tuple(pair.channels) == parameters.CHANNELS
    assert (there.sampled_is_fixed, back.sampled_is_fixed) == (True, False)
    assert same(back, Pair(SMALL, LARGE, there.channels, False))


def test_each_channel_divides_out_the_bias_field_of_one_image_at_most():
    channels = Pair.of(LARGE, SMALL).channels
    for name, (sampled, interpolated) in {
        "original": (SMALL.original, LARGE.original),
        "sampled_corrected": (SMALL.corrected, LARGE.original),
        "interpolated_corrected": (SMALL.original, LARGE.corrected),
    }.items():
        assert channels[name].sampled is sampled
        assert channels[name].interpolated is interpolated
        assert channels[name].prior is None


def test_exchanged_twice_a_pair_is_the_same(pair):
    exchanged = pair.exchanged()
    assert not same(exchanged, pair)
    assert same(exchanged.exchanged(), pair)
    assert exchanged.sampled is pair.interpolated
    assert exchanged.sampled_is_fixed is not pair.sampled_is_fixed
    assert tuple(exchanged.channels) == parameters.CHANNELS
    one = pair.only("sampled_corrected")
    assert same(one.exchanged(), exchanged.only("interpolated_corrected"))
    assert same(one.exchanged().exchanged(), one)


def test_a_prior_goes_with_the_roles(rng):
    """Rows are of the fixed image to the user, of the sampled one to the engine."""
    names = "original", "fixed_corrected", "moving_corrected"
    prior = {name: rng.random((4, 4)) for name in names}
    there, back = Pair.of(SMALL, LARGE, prior), Pair.of(LARGE, SMALL, prior)
    engine = dict(zip(names, parameters.CHANNELS, strict=True))
    for name in names:
        found = there.channels[engine[name]].prior
        np.testing.assert_array_equal(found, prior[name])
    for name, of_engine in {
        "original": "original",
        "fixed_corrected": "interpolated_corrected",
        "moving_corrected": "sampled_corrected",
    }.items():
        found = back.channels[of_engine].prior
        np.testing.assert_array_equal(found, prior[name].T)
        assert back.user_channel(of_engine) == name


def test_channels_keep_their_names_to_the_user(pair):
    for one in (pair, pair.exchanged()):
        users = {one.user_channel(name): name for name in one.channels}
        assert set(users) == {"original", "fixed_corrected", "moving_corrected"}
        fixed, moving = one.sampled, one.interpolated
        if not one.sampled_is_fixed:
            fixed, moving = moving, fixed
        corrected = one.channels[users["fixed_corrected"]]
        assert fixed.corrected in (corrected.sampled, corrected.interpolated)
        assert moving.original in (corrected.sampled, corrected.interpolated)


def test_poses_of_engine_and_user_are_inverse_functions(pair, rng):
    for one in (pair, pair.exchanged(), pair.only("original")):
        for _ in range(3):
            pose = random_pose(rng).matrix
            there = one.moving_from_fixed(one.engine_pose(pose))
            back = one.engine_pose(one.moving_from_fixed(pose))
            np.testing.assert_allclose(there, pose, atol=1e-10)
            np.testing.assert_allclose(back, pose, atol=1e-10)


def test_a_pose_of_the_engine_leads_from_the_sampled_image(pair, rng):
    """Where the fixed image is sampled it is the user's, else its inverse."""
    moving_from_fixed = random_pose(rng).matrix
    of_fixed = np.array([10.0, 20, 30, 1])
    of_moving = moving_from_fixed @ of_fixed
    sampled, interpolated = of_fixed, of_moving
    if not pair.sampled_is_fixed:
        sampled, interpolated = of_moving, of_fixed
    there = pair.engine_pose(moving_from_fixed) @ sampled
    np.testing.assert_allclose(there, interpolated, atol=1e-9)
    exchanged = pair.exchanged().engine_pose(moving_from_fixed) @ interpolated
    np.testing.assert_allclose(exchanged, sampled, atol=1e-9)


def test_poses_that_are_given_before_any_search(pair):
    np.testing.assert_array_equal(pair.header_pose, np.eye(4))
    centroid = pair.sampled.foreground.centroid
    there = pair.centroid_pose @ [*centroid, 1]
    np.testing.assert_allclose(there[:3], pair.interpolated.foreground.centroid)
    np.testing.assert_array_equal(pair.centroid_pose[:3, :3], np.eye(3))
    back = pair.exchanged().centroid_pose
    np.testing.assert_allclose(back, inverse(pair.centroid_pose), atol=1e-12)
