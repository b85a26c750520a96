"""The whole method on phantoms: every way to ask the same question, one answer."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from checks import assert_close_pose, pose_error_mm
from measuring import foreground_points

from mireg import _parameters as parameters
from mireg import _register as method
from mireg._engine.optimize import evaluate
from mireg._engine.search import Candidates
from mireg._errors import InputError, MiregWarning
from mireg._files.formats import read_image
from mireg._files.nifti import write_image
from mireg._image import Image
from mireg._prepare import prepare
from mireg._register import register
from mireg._settings import Settings
from mireg._transform import RigidTransform
from mireg.phantom import brain_points, phantom_pair, random_pose

#: A quicker search, enough for a whole head.
QUICK = Settings(orientations=500, candidates=4, samples=20_000)
NEAR = RigidTransform([0.15, -0.1, 0.2], [6, -4, 8])
BRAIN = brain_points(1, spacing_mm=10)


def heads(contrast="T2", pose=NEAR, mm=6.0, **more):
    """Scan a head twice."""
    return phantom_pair(
        "T1",
        contrast,
        seed=1,
        pose=pose,
        fixed_voxel_size_mm=mm,
        moving_voxel_size_mm=mm,
        **more,
    )


def moved(image, motion):
    """Return an image of which only the header says that it lies elsewhere."""
    return Image(image.data, motion.matrix @ image.mm_from_ijk)


def error_mm(result, truth):
    """Return the mean target registration error in the brain."""
    return result.transform.mean_displacement(BRAIN, truth)


@pytest.fixture(scope="module")
def near():
    """Scan a head twice, a small turn apart."""
    return heads()


@pytest.fixture(scope="module")
def found(near):
    """Register that pair from its headers."""
    return register(near.fixed, near.moving, init="header", settings=QUICK)


@pytest.fixture(scope="module")
def far():
    """Scan a head twice, the second time in any pose."""
    return heads(pose=random_pose(np.random.default_rng(5)))


@pytest.fixture(scope="module")
def found_far(far):
    """Register that pair from nowhere, and listen to the progress."""
    said = []
    result = register(
        far.fixed,
        far.moving,
        settings=QUICK,
        progress=lambda stage, share: said.append((stage, share)),
    )
    return result, said


# --- the harness: one pair asked in every way ---------------------------------


def test_from_the_header_it_ends_at_the_truth(near, found):
    assert error_mm(found, near.moving_from_fixed) < 0.6


def test_from_nowhere_it_ends_at_the_truth(far, found_far):
    assert error_mm(found_far[0], far.moving_from_fixed) < 0.6


def test_swapped_roles_give_the_inverse(near, found):
    other = register(near.moving, near.fixed, init="header", settings=QUICK)
    assert_close_pose(
        other.moving_from_fixed, np.linalg.inv(found.moving_from_fixed), mm=0.05
    )


@pytest.mark.slow
def test_swapped_roles_give_the_inverse_from_nowhere(far, found_far):
    other = register(far.moving, far.fixed, settings=QUICK)
    assert_close_pose(
        np.linalg.inv(other.moving_from_fixed), found_far[0].moving_from_fixed, mm=0.05
    )


@pytest.mark.parametrize("role", ["fixed", "moving"])
def test_a_moved_header_moves_the_answer(role, near, found):
    motion = random_pose(np.random.default_rng(2), max_offset_mm=500)
    fixed, moving, expected = near.fixed, near.moving, found.transform
    if role == "moving":
        moving, expected = moved(moving, motion), motion @ expected
        start = motion
    else:
        fixed, expected = moved(fixed, motion), expected @ motion.inverse()
        start = motion.inverse()
    other = register(fixed, moving, init=start, settings=QUICK)
    there = motion.apply(BRAIN) if role == "fixed" else BRAIN
    assert pose_error_mm(other.moving_from_fixed, expected.matrix, there) < 0.05
    assert other.score == pytest.approx(found.score, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_moved_header_moves_the_answer_from_nowhere(seed, far, found_far):
    motion = random_pose(np.random.default_rng(seed))
    other = register(far.fixed, moved(far.moving, motion), settings=QUICK)
    expected = motion @ found_far[0].transform
    assert other.transform.max_displacement(BRAIN, expected) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("turned_in_box", [False, True])
@pytest.mark.parametrize(
    ("contrast", "limit"), [("T2", 0.3), ("CT", 0.3), ("EPI", 0.5), ("PET", 1.0)]
)
def test_every_contrast_from_nowhere(contrast, limit, turned_in_box):
    pair = phantom_pair(
        "T1",
        contrast,
        seed=1,
        pose=random_pose(np.random.default_rng(6)),
        fixed_voxel_size_mm=3,
        moving_voxel_size_mm=4 if contrast == "PET" else 3,
        turned_in_box=turned_in_box,
    )
    result = register(pair.fixed, pair.moving)
    assert error_mm(result, pair.moving_from_fixed) < limit


@pytest.mark.parametrize(("contrast", "limit"), [("CT", 0.6), ("EPI", 1), ("PET", 1)])
def test_every_contrast_from_the_header(contrast, limit):
    pair = heads(contrast, RigidTransform([0.06, -0.04, 0.05], [3, -2, 4]), mm=5)
    result = register(pair.fixed, pair.moving, init="header", settings=QUICK)
    assert error_mm(result, pair.moving_from_fixed) < limit


# --- good starts are kept -----------------------------------------------------


def test_an_image_lies_on_itself(near):
    result = register(near.fixed, near.fixed, settings=QUICK)
    assert_close_pose(result.moving_from_fixed, np.eye(4), mm=1e-9)
    assert result.score == result.initial_score
    assert result.mean_displacement_mm <= result.max_displacement_mm < 1e-9


def test_an_image_that_is_a_little_off_itself_comes_right(near):
    shift = RigidTransform([0.002, -0.001, 0.003], [0.3, -0.2, 0.4])
    moving = Image(near.fixed.data, shift.matrix @ near.fixed.mm_from_ijk)
    result = register(near.fixed, moving, init="header", settings=QUICK)
    # Both are read between their voxels; 1/50 of a voxel is what that costs.
    assert error_mm(result, shift) < 6 / 50
    assert result.score > result.initial_score


@pytest.mark.parametrize("init", ["auto", "header"])
def test_an_aligned_pair_stays_aligned(init):
    pair = heads(pose=RigidTransform.identity())
    result = register(pair.fixed, pair.moving, init=init, settings=QUICK)
    assert error_mm(result, pair.moving_from_fixed) < 0.6
    assert result.score >= result.initial_score


# --- starts -------------------------------------------------------------------


def test_centre_brings_far_heads_together():
    shift = RigidTransform([0.1, 0.05, -0.1], [700, -900, 400])
    pair = heads(pose=shift)
    result = register(pair.fixed, pair.moving, init="centre", settings=QUICK)
    assert error_mm(result, shift) < 0.6
    assert result.mean_displacement_mm > 1000


@pytest.mark.parametrize("given", [lambda t: t, lambda t: t.matrix, np.ndarray.tolist])
@pytest.mark.parametrize("exchanged", [False, True])
def test_a_transform_is_taken_as_start(exchanged, given, far):
    nudge = RigidTransform([0.1, -0.15, 0.1], [5, 5, -8])
    start = far.moving_from_fixed @ nudge
    images, truth = (far.fixed, far.moving), far.moving_from_fixed
    if exchanged:
        images, start, truth = images[::-1], start.inverse(), truth.inverse()
    start = given(start.matrix if given is np.ndarray.tolist else start)
    result = register(*images, init=start, settings=QUICK)
    points = far.moving_from_fixed.apply(BRAIN) if exchanged else BRAIN
    assert result.transform.mean_displacement(points, truth) < 0.6


def test_another_start_is_refused(near):
    with pytest.raises(InputError, match="banana"):
        register(near.fixed, near.moving, init="banana")


def test_an_answer_that_noise_can_have_made_is_searched_for_again(far, monkeypatch):
    first_search, search_on, searched = method._first_search, method._search_on, []

    def hasty(*args):
        """Have no doubt of a wrong pose."""
        found = first_search(*args)
        searched.append("first")
        turned = RigidTransform([0, 2.0, 0], [40, 0, 0]).matrix
        wrong = far.moving_from_fixed.inverse().matrix @ turned
        candidates = dict.fromkeys(found.candidates, wrong[None])
        return replace(found, candidates=candidates, confident=True)

    def on(*args):
        """Search on, as ever."""
        searched.append("on")
        return search_on(*args)

    monkeypatch.setattr(method, "_first_search", hasty)
    monkeypatch.setattr(method, "_search_on", on)
    result = register(far.fixed, far.moving, settings=QUICK)
    assert searched == ["first", "on"]
    assert error_mm(result, far.moving_from_fixed) < 0.6
    assert result.warnings == ()
    assert not result.doubtful


def test_an_answer_that_noise_can_have_made_comes_with_a_note(near):
    rng = np.random.default_rng(0)
    noise = Image(rng.normal(size=near.fixed.shape), near.fixed.mm_from_ijk)
    with pytest.warns(MiregWarning, match="the answer is doubtful") as told:
        result = register(near.fixed, noise, init="header", settings=QUICK)
    assert told[0].filename == __file__
    assert result.standard_error_mm > 3
    assert result.warnings[-1].startswith("the answer is doubtful, ")
    assert result.doubtful
    assert result.verdict.probability < 0.5


# --- masks --------------------------------------------------------------------


def broken_below(image, middle_mm):
    """Shift what lies below a height 4 voxels to the side, as a moved jaw does."""
    up = image.to_mm(np.moveaxis(np.indices(image.shape), 0, -1))[..., 2]
    below = up < middle_mm
    return Image(
        np.where(below, np.roll(image.data, 4, axis=0), image.data), image.mm_from_ijk
    )


def mask_above(z_mm):
    """Return a mask of all above a height, on a coarse grid of its own."""
    affine = np.diag([-15.0, 13, 11, 1])
    affine[:3, 3] = 240, -210, z_mm + 5.5
    return Image(np.ones((32, 32, 20)), affine)


@pytest.mark.parametrize("role", ["fixed", "moving"])
def test_a_mask_keeps_out_what_moved_by_itself(role, near):
    fixed, moving = near.fixed, near.moving
    middle = BRAIN[:, 2].mean() + 16
    if role == "fixed":
        fixed = broken_below(fixed, middle)
        masks = {"fixed_mask": mask_above(middle + 8)}
    else:
        moving = broken_below(moving, middle)
        masks = {"moving_mask": mask_above(middle + 14)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MiregWarning)  # it may know that it is wrong
        free = register(fixed, moving, init="header", settings=QUICK)
    masked = register(fixed, moving, init="header", settings=QUICK, **masks)
    assert error_mm(masked, near.moving_from_fixed) < 1.0
    assert error_mm(free, near.moving_from_fixed) > 2.0


def test_masks_that_hold_all_change_nothing_much(near, found):
    everything = Image(np.ones((2, 2, 2)), np.diag([900.0, 900, 900, 1]))
    affine = everything.mm_from_ijk.copy()
    affine[:3, 3] = -450
    everything = Image(everything.data, affine)
    result = register(
        near.fixed,
        near.moving,
        init="header",
        fixed_mask=everything,
        moving_mask=everything,
        settings=QUICK,
    )
    assert_close_pose(result.moving_from_fixed, found.moving_from_fixed, mm=0.1)


@pytest.mark.parametrize("role", ["fixed_mask", "moving_mask"])
@pytest.mark.parametrize("kind", ["elsewhere", "empty"])
def test_a_mask_that_holds_nothing_is_refused(role, kind, near):
    affine = np.eye(4)
    affine[:3, 3] = 5000 if kind == "elsewhere" else 0
    mask = Image(np.full((5, 5, 5), float(kind == "elsewhere")), affine)
    says = {
        "elsewhere": "the mask and its image overlap in 0 mm3, of the 125 mm3",
        "empty": "the mask is empty",
    }
    with pytest.raises(InputError, match=says[kind]):
        register(near.fixed, near.moving, init="header", **{role: mask})


# --- the record ---------------------------------------------------------------


def test_the_record_says_what_was_done(near, found):
    assert found.metric == found.settings.metric == QUICK.metric
    assert found.settings is QUICK
    assert found.score > found.initial_score > 0
    assert 0.8 < found.overlap_fraction <= 1
    np.testing.assert_array_equal(found.moving_from_fixed, found.transform.matrix)
    truth = near.moving_from_fixed
    moved_by = truth.displacements(BRAIN)
    assert found.mean_displacement_mm == pytest.approx(moved_by.mean(), rel=0.3)
    assert found.max_displacement_mm >= found.mean_displacement_mm
    assert np.linalg.norm(found.transform.centre - BRAIN.mean(axis=0)) < 50
    assert found.warnings == ()


def test_it_tells_how_far_the_anatomy_of_the_fixed_image_moved(near):
    # The head turns about its top, which is all that the moving image shows.
    first = near.moving.shape[2] * 3 // 5
    shift = np.eye(4)
    shift[2, 3] = first
    top = Image(near.moving.data[..., first:], near.moving.mm_from_ijk @ shift)
    pivot = [*BRAIN.mean(axis=0)[:2], BRAIN[:, 2].max()]
    truth = RigidTransform([0.6, 0, 0], [0, 0, 0], pivot)
    motion = truth.matrix @ np.linalg.inv(near.moving_from_fixed.matrix)
    moving = Image(top.data, motion @ top.mm_from_ijk)
    found = register(near.fixed, moving, init=truth, settings=QUICK)
    moved_by = truth.displacements(foreground_points(near.fixed))
    assert found.mean_displacement_mm == pytest.approx(moved_by.mean(), rel=0.1)
    assert found.max_displacement_mm == pytest.approx(moved_by.max(), rel=0.1)
    # It would be found out if it were measured over the moving image.
    others = truth.displacements(foreground_points(moving))
    assert others.mean() < 0.7 * moved_by.mean()
    assert others.max() < 0.7 * moved_by.max()


def test_it_searches_on_until_noise_cannot_have_made_the_answer(near, monkeypatch):
    asked, before = [], []

    def global_search(pair, _schedule, levels, *_, found=None, restart=0) -> Candidates:
        asked.append((len(levels), restart))
        before.append(0 if found is None else len(found))
        pose = pair.engine_pose(near.moving_from_fixed.matrix)
        if found is None:
            pose = pose @ RigidTransform([0, 2, 0], [40, 0, 0]).matrix
        return Candidates(
            dict.fromkeys(parameters.SEARCHED_CHANNELS, pose[None]), False, True
        )

    monkeypatch.setattr(method, "global_search", global_search)
    monkeypatch.setattr(method, "sure_candidates", lambda _: [])
    found = register(near.fixed, near.moving, settings=QUICK)
    assert asked == [(2, 0), (1, 0)]
    assert before == [0, 2]
    assert error_mm(found, near.moving_from_fixed) < 1


def test_it_searches_on_while_the_verdict_is_doubtful(near, monkeypatch):
    """Noise moves nothing here; only the verdict tells that the answer can be wrong."""
    asked, judged = [], []

    def global_search(
        pair, _schedule, _levels, *_, found=None, restart=0
    ) -> Candidates:
        asked.append((found is not None, restart))
        pose = pair.engine_pose(near.moving_from_fixed.matrix)[None]
        poses = dict.fromkeys(parameters.SEARCHED_CHANNELS, pose)
        return Candidates(poses, unimodal=False, channels_agree=True)

    def judge(*arguments):
        judged.append(real(*arguments))
        return replace(judged[-1], probability=0.85 if len(judged) == 1 else 0.95)

    real = method.judge
    monkeypatch.setattr(method, "global_search", global_search)
    monkeypatch.setattr(method, "judge", judge)
    found = register(near.fixed, near.moving, settings=QUICK)
    assert asked == [(False, 0), (True, 0), (True, 1)]
    assert not found.doubtful


def test_a_second_pose_as_good_is_told(found_far):
    assert found_far[0].warnings == ()
    # The same after half a turn about z.
    x, y, z = np.indices((24, 30, 20)) - np.array([11.5, 14.5, 8])[:, None, None, None]
    scene = np.exp(-((x / 6) ** 2) - (y / 10) ** 2 - (z / 5) ** 2)
    scene += np.exp(-(((abs(y) - 9) / 3) ** 2) - (x / 4) ** 2 - ((z - 4) / 3) ** 2)
    mm_from_ijk = np.diag([4.0, 4, 4, 1])
    images = (scene, mm_from_ijk), (2 - scene, mm_from_ijk)
    with pytest.warns(MiregWarning, match="explains"):
        result = register(*images, settings=QUICK)
    (note,) = (note for note in result.warnings if "explains" in note)
    assert re.search(r"explains (9[5-9]|100) %", note)


def test_progress_only_goes_on(found_far):
    _, said = found_far
    shares = [share for _, share in said]
    assert shares[0] == 0
    assert shares[-1] == 1
    assert all(a <= b for a, b in pairwise(shares))


def test_every_stage_is_timed(found_far):
    result, said = found_far
    assert list(result.seconds) == [stage for stage, _ in said[:-1]]
    assert set(result.seconds) >= {"prepare", "pyramid", "search", "refine"}
    assert all(seconds >= 0 for seconds in result.seconds.values())


@pytest.mark.parametrize("metric", ["mi", "nmi"])
def test_each_metric_ends_at_the_truth(metric, near):
    settings = Settings(metric=metric, samples=20_000)
    result = register(near.fixed, near.moving, init="header", settings=settings)
    assert result.metric == metric
    assert error_mm(result, near.moving_from_fixed) < 0.6


def test_without_overlap_there_is_no_initial_score():
    pair = heads(pose=RigidTransform([0.1, 0, 0], [900, 0, 0]), mm=8)
    result = register(pair.fixed, pair.moving, init="centre", settings=QUICK)
    assert np.isnan(result.initial_score)
    assert result.score > 1


def test_a_start_without_overlap_is_refused():
    pair = heads(pose=RigidTransform([0.1, 0, 0], [900, 0, 0]), mm=8)
    with pytest.raises(InputError, match=r"do not overlap.*auto"):
        register(pair.fixed, pair.moving, init="header", settings=QUICK)


# --- the same bits ------------------------------------------------------------

SMALL = Settings(orientations=200, candidates=3, samples=20_000)


@pytest.mark.parametrize("init", ["auto", "header"])
def test_the_same_bits_on_any_number_of_threads_and_in_every_run(init):
    pair = heads(mm=8)

    def run(threads):
        settings = replace(SMALL, threads=threads)
        return register(pair.fixed, pair.moving, init=init, settings=settings)

    one = run(1)
    for threads in (1, 2, 4):
        again = run(threads)
        np.testing.assert_array_equal(again.moving_from_fixed, one.moving_from_fixed)
        assert again.score == one.score
        assert again.initial_score == one.initial_score
        assert again.overlap_fraction == one.overlap_fraction


@pytest.mark.parametrize("order", "CF")
def test_the_order_in_memory_does_not_matter(order, near, found):
    images = [
        Image(np.asarray(image.data, order=order), image.mm_from_ijk)
        for image in (near.fixed, near.moving)
    ]
    result = register(*images, init="header", settings=QUICK)
    assert_close_pose(result.moving_from_fixed, found.moving_from_fixed, mm=1e-3)


def same_answer(found, other):
    """Fail if two answers differ in a bit."""
    np.testing.assert_array_equal(found.moving_from_fixed, other.moving_from_fixed)
    for name in ("score", "initial_score", "overlap_fraction", "standard_error_mm"):
        assert getattr(found, name) == getattr(other, name), name
    assert found.warnings == other.warnings


@pytest.fixture(scope="module")
def files(near, tmp_path_factory):
    """Write that pair to files."""
    paths = [tmp_path_factory.mktemp("heads") / name for name in ("a.nii", "b.nii")]
    for path, image in zip(paths, (near.fixed, near.moving), strict=True):
        write_image(path, image)
    return paths


@pytest.fixture(scope="module")
def found_in_files(files):
    """Register the images in those files."""
    return register(*map(read_image, files), init="header", settings=QUICK)


@pytest.mark.parametrize("kind", ["files", "prepared", "prepared files", "one of each"])
def test_files_and_prepared_images_give_the_same_answer(kind, files, found_in_files):
    given = {
        "files": lambda: files,
        "prepared": lambda: [prepare(read_image(path)) for path in files],
        "prepared files": lambda: map(prepare, files),
        "one of each": lambda: [prepare(files[0]), files[1]],
    }[kind]()
    result = register(*given, init="header", settings=QUICK)
    same_answer(result, found_in_files)


def test_a_prepared_image_serves_any_number_of_partners():
    pair = heads(mm=4.0)
    image, same = pair.fixed, pair.moving
    coarse = heads(mm=11.0).moving  # for which the image is shrunk
    prepared = prepare(image)
    for partner in (same, coarse, same):
        same_answer(
            register(prepared, partner, init="header", settings=QUICK),
            register(image, partner, init="header", settings=QUICK),
        )
    # As the moving image, too.
    same_answer(
        register(coarse, prepared, init="header", settings=QUICK),
        register(coarse, image, init="header", settings=QUICK),
    )


@pytest.mark.parametrize("role", ["fixed", "moving"])
def test_a_prepared_image_keeps_its_mask(role, near):
    mask = mask_above(BRAIN[:, 2].mean() + 24)
    images = {"fixed": near.fixed, "moving": near.moving}
    expected = register(
        **images, init="header", settings=QUICK, **{f"{role}_mask": mask}
    )
    images[role] = prepare(images[role], mask)
    found = register(**images, init="header", settings=QUICK)
    same_answer(found, expected)
    with pytest.raises(InputError, match="has its mask already"):
        register(**images, init="header", **{f"{role}_mask": mask})


def test_inputs_are_left_as_they_were(near):
    before = [image.data.copy() for image in (near.fixed, near.moving)]
    register(near.fixed, near.moving, init="header", settings=QUICK)
    for image, data in zip((near.fixed, near.moving), before, strict=True):
        np.testing.assert_array_equal(image.data, data)


# --- refusals -----------------------------------------------------------------


@pytest.mark.parametrize("role", ["fixed", "moving"])
@pytest.mark.parametrize(
    ("value", "says"), [(7, "constant, every voxel is 7"), (np.nan, "NaN")]
)
def test_an_image_without_contrast_is_refused(role, value, says, near):
    blank = Image(np.full((8, 8, 8), value), np.eye(4))
    images = (blank, near.moving) if role == "fixed" else (near.fixed, blank)
    with pytest.raises(InputError, match=says):
        register(*images)


def test_a_pair_in_line_stays_in_line_though_the_search_goes_astray(monkeypatch):
    pair = phantom_pair(
        "T1",
        "T2",
        pose=RigidTransform([0, 0, 0], [0, 0, 0]),
        fixed_voxel_size_mm=3,
        moving_voxel_size_mm=3,
    )
    astray = RigidTransform([2, 0, 1], [40, 0, 0]).matrix

    def lost(channels, *_, **_options):
        level, metric = channels["original"]
        return {"original": [evaluate(level, astray, metric)]}

    monkeypatch.setattr(method, "optimise_best", lost)
    found = register(pair.fixed, pair.moving)
    assert found.max_displacement_mm < 0.3
