"""Steps of the method: roles, restarts, channels that help each other, pruning."""

from __future__ import annotations

import math
import warnings
from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from mireg import _parameters as parameters
from mireg import _register as method
from mireg._engine.levels import Level, Resolution, levels_at, pyramid
from mireg._engine.pair import Pair
from mireg._engine.search import Candidates
from mireg._errors import InputError
from mireg._image import Image
from mireg._prepare import PreparedImage, prepare
from mireg._progress import Stages
from mireg._register import register
from mireg._settings import Settings
from mireg._transform import RigidTransform
from mireg.phantom import PhantomPair, brain_points, phantom_pair

FloatArray = npt.NDArray[np.float64]

BRAIN = brain_points(0, spacing_mm=10)
POSE = RigidTransform([0.4, -0.9, 0.3], [20, -35, 12])

#: How the three joint distributions of a prior are called with the images exchanged.
EXCHANGED = {
    "original": "original",
    "fixed_corrected": "moving_corrected",
    "moving_corrected": "fixed_corrected",
}


@pytest.fixture(scope="module")
def heads() -> PhantomPair:
    return phantom_pair(
        "T1", "T2", pose=POSE, fixed_voxel_size_mm=5, moving_voxel_size_mm=6
    )


def lower_half(image: Image) -> Image:
    """Mask the half of an image that has the smaller third index."""
    mask = np.zeros(image.shape, np.float32)
    mask[:, :, : image.shape[2] // 2] = 1
    return Image(mask, image.mm_from_ijk)


def prepared_images(
    heads: PhantomPair, *, masked: bool = False
) -> tuple[PreparedImage, PreparedImage]:
    """Prepare both images, each with a mask of its lower half if wanted."""
    fixed, moving = (
        prepare(image, lower_half(image) if masked else None, threads=1)
        for image in (heads.fixed, heads.moving)
    )
    return fixed, moving


def some_prior() -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """Return joint distributions, and the same with the images exchanged."""
    rng = np.random.default_rng(0)
    joints = {name: rng.random((20, 20)) for name in EXCHANGED}
    return joints, {EXCHANGED[name]: joint.T for name, joint in joints.items()}


# --- roles --------------------------------------------------------------------


def assert_same_level(level: Level, expected: Level) -> None:
    """Fail if two levels differ in anything."""
    for field in fields(Level):
        one, other = getattr(level, field.name), getattr(expected, field.name)
        if field.name == "interpolated":
            assert one[1] == other[1]
            one, other = one[0], other[0]
        np.testing.assert_array_equal(one, other, err_msg=field.name)


@pytest.mark.parametrize("masked", [False, True])
def test_roles_exchanged_are_the_levels_of_exchanged_images(
    masked: bool, heads: PhantomPair
) -> None:
    fixed, moving = prepared_images(heads, masked=masked)
    prior, exchanged_prior = some_prior()
    names = parameters.CHANNELS
    pair = Pair.in_roles(fixed, moving, prior, names, sampled_is_fixed=True)
    asked = Pair.in_roles(moving, fixed, exchanged_prior, names, sampled_is_fixed=True)
    expected = levels_at(asked, pyramid(asked).finest, Settings())
    finest = pyramid(pair).finest.exchanged()
    found = levels_at(pair.exchanged(), finest, Settings())
    assert list(found) == list(expected) == list(names)
    for name in names:
        assert_same_level(found[name], expected[name])
        # As the last step asks for it.
        (level,) = levels_at(pair.only(name).exchanged(), finest, Settings()).values()
        mirrored = name
        if name != "original":
            (mirrored,) = {*names} - {"original", name}
        assert_same_level(level, expected[mirrored])


def test_the_roles_do_not_depend_on_which_image_is_fixed(heads: PhantomPair) -> None:
    fixed, moving = prepared_images(heads)
    prior, exchanged_prior = some_prior()
    pair = Pair.of(fixed, moving, prior)
    other = Pair.of(moving, fixed, exchanged_prior)
    assert pair.sampled is other.sampled
    assert pair.interpolated is other.interpolated
    assert pair.sampled_is_fixed != other.sampled_is_fixed
    matrix = POSE.matrix
    np.testing.assert_allclose(
        pair.engine_pose(matrix), other.engine_pose(np.linalg.inv(matrix)), atol=1e-12
    )
    for one in (pair, other):
        np.testing.assert_allclose(
            one.moving_from_fixed(one.engine_pose(matrix)), matrix, atol=1e-12
        )
        smaller = min((fixed, moving), key=lambda image: image.foreground.volume)
        assert one.sampled is smaller
    resolution = pyramid(pair).coarse
    found = levels_at(pair, resolution, Settings())
    expected = levels_at(other, pyramid(other).coarse, Settings())
    for name, level in found.items():
        assert_same_level(level, expected[name])
        assert EXCHANGED[pair.user_channel(name)] == other.user_channel(name)


@pytest.mark.parametrize("sampled_is_fixed", [True, False])
def test_a_channel_is_called_by_the_image_that_is_corrected(
    sampled_is_fixed: bool, heads: PhantomPair
) -> None:
    fixed, moving = prepared_images(heads)
    prior, _ = some_prior()
    names = parameters.CHANNELS
    pair = Pair.in_roles(fixed, moving, prior, names, sampled_is_fixed=True)
    if not sampled_is_fixed:
        pair = pair.exchanged()
    for name, channel in pair.channels.items():
        called = pair.user_channel(name)
        of_fixed, of_moving = channel.sampled, channel.interpolated
        joint = channel.prior
        if not sampled_is_fixed:
            of_fixed, of_moving = of_moving, of_fixed
            assert joint is not None
            joint = joint.T
        assert (of_fixed.bias_field is not None) == (called == "fixed_corrected")
        assert (of_moving.bias_field is not None) == (called == "moving_corrected")
        assert (channel.sampled.bias_field is not None) == (name == "sampled_corrected")
        np.testing.assert_array_equal(joint, prior[called])


# --- the other image sampled --------------------------------------------------


@pytest.fixture
def other_sampled(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Sample the other image in the end, whatever noise says; tell whether it was."""
    told = []
    polished = method._polished

    def telling(pair: Pair, *args: object) -> object:
        answer = polished(pair, *args)  # type: ignore[arg-type]
        told.append(answer.pair.sampled is not pair.sampled)
        return answer

    monkeypatch.setattr(parameters, "OTHER_SAMPLING_VOXELS", 0.0)
    monkeypatch.setattr(parameters, "OTHER_SAMPLING_GAIN", np.inf)
    monkeypatch.setattr(method, "_polished", telling)
    return told


@pytest.mark.parametrize("exchanged", [False, True])
def test_an_answer_is_as_right_with_the_other_image_sampled(
    exchanged: bool, heads: PhantomPair, other_sampled: list[bool]
) -> None:
    images, truth = [heads.fixed, heads.moving], heads.moving_from_fixed
    if exchanged:
        images, truth = images[::-1], truth.inverse()
    found = register(*images)
    assert other_sampled == [True]
    points = heads.moving_from_fixed.apply(BRAIN) if exchanged else BRAIN
    assert found.transform.mean_displacement(points, truth) < 0.6


def test_an_image_that_cannot_be_sampled_costs_no_answer(
    heads: PhantomPair, other_sampled: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused, first = [], []

    def refusing(pair: Pair, *args: object) -> dict[str, Level]:
        first.append(pair.sampled)
        if pair.sampled is not first[0]:
            refused.append(pair)
            raise InputError("too little is left to compare")
        return levels_at(pair, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(method, "levels_at", refusing)
    found = register(heads.fixed, heads.moving)
    assert len(refused) == 1
    assert other_sampled == [False]
    assert found.transform.mean_displacement(BRAIN, heads.moving_from_fixed) < 0.6


# --- pruning --------------------------------------------------------------------


def refined(
    pair: Pair, found: method._Found
) -> tuple[list[FloatArray], method._Answer]:
    """Refine what a search found: poses at the finest level, and the answer."""
    settings = Settings()
    channel, level, fits, _ = method._refined(pair, found, settings, 1)
    answer = method._polished(
        pair, pyramid(pair), channel, level, fits[0].pose, settings, 1
    )
    return [fit.pose for fit in fits], answer


def ended_at(answer: method._Answer) -> RigidTransform:
    """Return the answer as the user has it."""
    return RigidTransform.from_matrix(answer.pair.moving_from_fixed(answer.fit.pose))


@pytest.mark.parametrize("confident", [False, True])
def test_what_explains_little_is_pruned_where_the_search_left_no_doubt(
    confident: bool, heads: PhantomPair
) -> None:
    pair = Pair.of(*prepared_images(heads))
    right = heads.moving_from_fixed.matrix
    upside_down = right @ RigidTransform([np.pi, 0, 0], [0, 0, 0]).matrix
    resolutions = pyramid(pair)
    finer: tuple[Resolution, ...] = (resolutions.coarse, *resolutions.finer)
    rough = levels_at(pair, resolutions.rough, Settings())
    poses = pair.engine_pose(right)[None]
    candidates = {name: poses for name in parameters.SEARCHED_CHANNELS}
    also = [pair.engine_pose(upside_down)]
    found = method._Found(candidates, also, confident, 0, rough, finer, given=True)
    led, answer = refined(pair, found)
    truth = heads.moving_from_fixed
    assert ended_at(answer).mean_displacement(BRAIN, truth) < 0.6
    assert (len(led) == 1) == confident


# --- search and its restarts ----------------------------------------------------


def searches(
    answers: list[bool],
    monkeypatch: pytest.MonkeyPatch,
    confident: bool = False,
) -> list[tuple[object, ...]]:
    """Let global searches find these answers; tell what they are asked."""
    asked: list[tuple[object, ...]] = []

    def global_search(
        _pair: Pair,
        schedule: parameters.SearchSchedule,
        levels: list[dict[str, Level]],
        _settings: Settings,
        _threads: int,
        *,
        found: dict[str, FloatArray] | None = None,
        restart: int = 0,
    ) -> Candidates:
        sizes = [next(iter(of.values())).size_mm for of in levels]
        asked.append((schedule, sizes, restart, None if found is None else len(found)))
        poses = {name: np.eye(4)[None] for name in parameters.SEARCHED_CHANNELS}
        return Candidates(poses, answers.pop(0), confident)

    monkeypatch.setattr(method, "global_search", global_search)
    return asked


@pytest.mark.parametrize("confident", [False, True])
def test_the_first_search_is_quick_and_on_the_coarse_levels(
    confident: bool, heads: PhantomPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = Pair.of(*prepared_images(heads))
    resolutions = pyramid(pair)
    asked = searches([True], monkeypatch, confident)
    found = method._first_search(pair, resolutions, None, Settings(), 1)
    sizes = [resolutions.rough.size_mm, resolutions.coarse.size_mm]
    assert asked == [(parameters.QUICK_SEARCH, sizes, 0, None)]
    assert found.confident == confident
    assert found.searches == 0
    assert set(found.levels) == set(parameters.CHANNELS)
    assert {level.size_mm for level in found.levels.values()} == {sizes[1]}
    assert found.finer == resolutions.finer
    # The pose of the headers is refined whatever the search finds.
    np.testing.assert_array_equal(found.also, [pair.header_pose])


def test_a_start_that_is_given_is_not_searched_for(
    heads: PhantomPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = Pair.of(*prepared_images(heads))
    asked = searches([], monkeypatch)
    found = method._first_search(pair, pyramid(pair), POSE.matrix, Settings(), 1)
    assert asked == []
    assert found.confident
    assert found.also == []
    (candidates,) = found.candidates.values()
    np.testing.assert_array_equal(candidates, [POSE.matrix])


@pytest.mark.parametrize("count", [1, 3])
def test_each_search_goes_on_from_other_starts(
    count: int, heads: PhantomPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair, told = Pair.of(*prepared_images(heads)), Stages(None)
    resolutions = pyramid(pair)
    searches([False], monkeypatch)
    found = method._first_search(pair, resolutions, None, Settings(), 1)
    size_mm = resolutions.detailed.size_mm
    for start in (0, count):
        asked = searches([False] * count, monkeypatch)
        levels = found.levels
        found = method._search_on(pair, resolutions, found, count, Settings(), 1, told)
        assert asked == [
            (parameters.THOROUGH_SEARCH, [size_mm], restart, 2)
            for restart in range(start, start + count)
        ]
        assert found.searches == start + count
        assert not found.confident
        assert {level.size_mm for level in found.levels.values()} == {size_mm}
        assert (found.levels is levels) == (start > 0)
        assert found.finer == resolutions.finer[1:]


#: Where each round ends, mm off; how far noise moves that, in voxels; how likely it is
#: right; how many searches are asked for; and which place is taken.
ENDS: list[tuple[list[float], list[float], list[float], list[int], float]] = [
    ([0], [0.1], [0.99], [1], 0),
    ([0, 50], [9, 0.1], [0.2, 0.99], [1, 1], 50),
    ([0, 0, 50], [0.7, 0.7, 0.1], [0.6, 0.6, 0.95], [1, 1, 2], 50),
    ([0, 50, 0], [9, math.nan, 9], [0.1, 0.3, 0.2], [1, 1, 2], 50),
    ([0, 50], [0.1, 0.1], [0.85, 0.95], [1, 1], 50),  # sharp, and yet in doubt
    ([50, 50, 0], [0.1, 0.1, 0.1], [0.8, 0.8, 0.1], [1, 1, 2], 50),
]


@pytest.mark.parametrize(("places", "errors", "likely", "counts", "taken"), ENDS)
def test_in_doubt_it_searches_on_a_few_times(
    places: list[float],
    errors: list[float],
    likely: list[float],
    counts: list[int],
    taken: float,
    heads: PhantomPair,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images, settings = (heads.fixed, heads.moving), Settings()
    task = method.opened(*images, None, None, settings, None, None)
    fit = method.best_answer(task, np.eye(4)).fits[0]
    first_search, done = method._first_search, []

    def in_doubt(*args: Any) -> Any:
        return replace(first_search(*args[:2], np.eye(4), *args[3:]), confident=False)

    def search_on(_pair: Pair, _all: object, found: Any, count: int, *_: object) -> Any:
        done.append(count)
        return found

    def refined(_pair: Pair, found: Any, *_: object) -> Any:
        pose = RigidTransform([0, 0, 0], [places[len(done) - 1], 0, 0]).matrix
        level = next(iter(found.levels.values()))
        return "original", level, [replace(fit, pose=pose)], None

    def polished(
        pair: Pair, _all: object, _name: str, _level: Level, pose: Any, *_: object
    ) -> Any:
        error = errors[len(done) - 1]
        return SimpleNamespace(
            moving_from_fixed=pair.moving_from_fixed(pose), error_voxels=error
        )

    monkeypatch.setattr(method, "_first_search", in_doubt)
    monkeypatch.setattr(method, "_search_on", search_on)
    monkeypatch.setattr(method, "_refined", refined)
    monkeypatch.setattr(method, "_polished", polished)
    signals = SimpleNamespace(signals=None)
    monkeypatch.setattr(method, "known_of", lambda *_: signals)

    def judge(*_: object) -> Any:
        return SimpleNamespace(probability=likely[len(done) - 1])

    monkeypatch.setattr(method, "judge", judge)
    found = method.best_answer(task, None)
    assert done == counts
    assert found.fits[0].pose[0, 3] == taken


def test_a_time_limit_ends_the_search_and_is_noted(
    heads: PhantomPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches([False], monkeypatch)
    asked = []
    search_on = method._search_on

    def telling(*args: object) -> method._Found:
        asked.append(args)
        return search_on(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(method, "_search_on", telling)
    small = Settings(samples=20_000, time_limit=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what was found may be doubtful
        found = register(heads.fixed, heads.moving, settings=small)
    assert asked == []
    assert any("time limit of 0 s" in note for note in found.warnings)


@pytest.mark.parametrize("names", [("original", "sampled_corrected"), ("original",)])
@pytest.mark.parametrize("sampled_is_fixed", [True, False])
def test_fewer_channels_are_those_that_were_named(
    names: tuple[str, ...], sampled_is_fixed: bool, heads: PhantomPair
) -> None:
    fixed, moving = prepared_images(heads)
    prior, _ = some_prior()
    whole, pair = (
        Pair.in_roles(fixed, moving, prior, some, sampled_is_fixed=sampled_is_fixed)
        for some in (parameters.CHANNELS, names)
    )
    assert tuple(pair.channels) == names
    assert set(pair.exchanged().channels) == {
        {"sampled_corrected": "interpolated_corrected"}.get(name, name)
        for name in names
    }
    for name in names:
        one, other = pair.channels[name], whole.channels[name]
        assert one.sampled is other.sampled
        assert one.interpolated is other.interpolated
        np.testing.assert_array_equal(one.prior, other.prior)
