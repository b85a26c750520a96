"""Following a search: views help each other, and either image may be sampled."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from mireg._engine import multistart
from mireg._engine.levels import finest_mm
from mireg._engine.multistart import Found, Problem, follow
from mireg._errors import InputError
from mireg._image import Image
from mireg._prepare import scan
from mireg._register import register
from mireg._settings import Settings
from mireg._transform import RigidTransform
from mireg.phantom import PhantomPair, brain_points, hard_pair, phantom_pair

BRAIN = brain_points(0, spacing_mm=10)
POSE = RigidTransform([0.4, -0.9, 0.3], [20, -35, 12])


@pytest.fixture(scope="module")
def pair() -> PhantomPair:
    return phantom_pair(
        "T1", "T2", pose=POSE, fixed_voxel_size_mm=5, moving_voxel_size_mm=6
    )


def lower_half(image: Image) -> Image:
    """Mask the half of an image that has the smaller third index."""
    mask = np.zeros(image.shape, np.float32)
    mask[:, :, : image.shape[2] // 2] = 1
    return Image(mask, image.mm_from_ijk)


def problems(pair: PhantomPair, *, masked: bool) -> tuple[Problem, Problem]:
    """Pose a problem, and the same with the images exchanged."""
    rng = np.random.default_rng(0)
    images = pair.fixed, pair.moving
    scans = [
        scan(image, lower_half(image) if masked else None, finest_mm(*images), 1)
        for image in images
    ]
    joints = list(rng.random((3, 20, 20)))
    # Exchanged, the second view shows what the third did.
    exchanged = [joints[view].T for view in (0, 2, 1)]
    return (
        Problem.of(scans[0], scans[1], joints, Settings(), 1),
        Problem.of(scans[1], scans[0], exchanged, Settings(), 1),
    )


@pytest.mark.parametrize("masked", [False, True])
def test_the_moving_image_sampled_is_the_level_of_exchanged_images(
    masked: bool, pair: PhantomPair
) -> None:
    problem, exchanged = problems(pair, masked=masked)
    expected = exchanged.seen(exchanged.pairs[-1])
    for view, other in enumerate((0, 2, 1)):
        level = problem.moving_sampled(view)
        for name in ("points", "origin", "fixed_grey", "moving_grey", "learned"):
            np.testing.assert_array_equal(
                getattr(level, name), getattr(expected[other], name), err_msg=name
            )
        np.testing.assert_array_equal(
            level.moving_ijk_from_mm, expected[other].moving_ijk_from_mm
        )


@pytest.fixture
def always_swapped(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Sample the moving image in the end, whatever noise says; tell whether it was."""
    told = []
    follow = multistart.follow

    def telling(*args: object) -> multistart.Answer:
        answer = follow(*args)
        told.append(answer.swapped)
        return answer

    monkeypatch.setattr(multistart, "_NOISY", 0.0)
    monkeypatch.setattr(multistart, "_WORTH", np.inf)
    monkeypatch.setattr(sys.modules["mireg._register"], "follow", telling)
    return told


@pytest.mark.parametrize("exchanged", [False, True])
def test_an_answer_is_as_right_with_the_other_image_sampled(
    exchanged: bool, pair: PhantomPair, always_swapped: list[bool]
) -> None:
    images, truth = [pair.fixed, pair.moving], pair.moving_from_fixed
    if exchanged:
        images, truth = images[::-1], truth.inverse()
    found = register(*images)
    assert always_swapped == [True]
    points = pair.moving_from_fixed.apply(BRAIN) if exchanged else BRAIN
    assert found.transform.mean_displacement(points, truth) < 0.6


def test_an_image_that_cannot_be_sampled_costs_no_answer(
    pair: PhantomPair, always_swapped: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_problem: Problem, _view: int) -> None:
        raise InputError("too little is left to compare")

    monkeypatch.setattr(Problem, "moving_sampled", refused)
    found = register(pair.fixed, pair.moving)
    assert always_swapped == [False]
    assert found.transform.mean_displacement(BRAIN, pair.moving_from_fixed) < 0.6


def test_a_false_maximum_of_one_view_is_left_through_another() -> None:
    pair = hard_pair("slices", 0)
    images = pair.fixed, pair.moving
    scans = [scan(image, None, finest_mm(*images), 1) for image in images]
    # Two slices lie in the head: their image is the one to sample.
    problem = Problem.of(scans[1], scans[0], [None] * 3, Settings(), 1)
    false = RigidTransform([-0.371, -0.423, -0.025], [0.404, -5.333, 3.321])
    truth = pair.moving_from_fixed
    assert false.mean_displacement(pair.points, truth) > 3
    pose = false.inverse().matrix
    found = Found([[pose], [pose]], [], False, 1, problem.seen(problem.pairs[-1]), [])
    answer = follow(problem, found)
    assert not answer.swapped
    ended = RigidTransform.from_matrix(answer.fit.moving_from_fixed).inverse()
    assert ended.mean_displacement(pair.points, truth) < 1


@pytest.mark.parametrize("sure", [False, True])
def test_what_is_hopeless_is_not_followed_where_the_search_is_sure(
    sure: bool, pair: PhantomPair
) -> None:
    scans = [scan(image, None, 6.0, 1) for image in (pair.fixed, pair.moving)]
    problem = Problem.of(scans[0], scans[1], [None] * 3, Settings(), 1)
    right = pair.moving_from_fixed.matrix
    upside_down = RigidTransform([np.pi, 0, 0], [0, 0, 0]).matrix @ right
    first, *finer = problem.pairs
    also = [(upside_down, None)]
    found = Found([[right]] * 2, also, sure, 0, problem.seen(first), finer)
    answer = follow(problem, found)
    ended = RigidTransform.from_matrix(answer.fit.moving_from_fixed)
    assert ended.mean_displacement(BRAIN, pair.moving_from_fixed) < 0.6
    assert (len(answer.followed) == 1) == sure
