"""What a Python developer meets: refusals in words, public types, values in a line."""

from __future__ import annotations

import functools
import inspect
import re
import typing
import warnings
from pathlib import Path

import numpy as np
import pytest
from checks import ball

import mireg
from mireg import information, phantom
from mireg._settings import settings_or_default
from mireg.cli import main

BALL = ball() + np.arange(14)
PAIR = (BALL, np.eye(4)), (3 - BALL, np.eye(4))
SERIES = (np.stack([BALL, BALL], -1), np.eye(4))


# --- settings -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"bins": 32.5}, "bins is 32.5; it must be a whole number from 8 to 250"),
        ({"bins": 251}, "bins is 251"),
        ({"bins": True}, "bins is True"),
        ({"samples": 7999}, "samples is 7999; .* of at least 8000"),
        ({"orientations": 0}, "orientations is 0"),
        ({"candidates": "6"}, "candidates is '6'"),
        ({"seed": -1}, "seed is -1; it must be a whole number of at least 0"),
        ({"threads": 0}, "threads is 0; .*, or None"),
        ({"threads": 1.0}, "threads is 1.0"),
        ({"prior_strength": np.nan}, "prior_strength is nan"),
        ({"prior_strength": None}, "prior_strength is None"),
        ({"tolerance_mm": 0}, "tolerance_mm is 0; it must be a number above 0, or"),
        ({"tolerance_mm": np.inf}, "tolerance_mm is inf"),
        ({"time_limit": False}, "time_limit is False"),
        ({"time_limit": np.nan}, "time_limit is nan"),
        ({"metric": "mii"}, "metric is 'mii'; choose one of mi, "),
        ({"metric": ["mi"]}, "metric is "),
        ({"effort": None}, "effort is None; choose one of quick"),
    ],
)
def test_settings_that_cannot_work_are_refused(given, says):
    with pytest.raises(mireg.InputError, match=says):
        mireg.Settings(**given)


def test_numbers_of_numpy_are_taken():
    settings = mireg.Settings(bins=np.int64(16), time_limit=np.float32(2))
    assert (type(settings.bins), type(settings.time_limit)) == (int, float)
    assert settings == mireg.Settings(bins=16, time_limit=2.0)


CALLS = {
    "register": lambda **given: mireg.register(*PAIR, **given),
    "check": lambda **given: mireg.check(*PAIR, **given),
    "score": lambda **given: mireg.score(*PAIR, **given),
    "session": lambda **given: mireg.register_session(PAIR, **given),
    "series": lambda **given: mireg.register_series(SERIES, **given),
    "one by one": lambda **given: mireg.SeriesRegistration(PAIR[0], **given),
}


@pytest.mark.parametrize("call", CALLS)
def test_what_are_no_settings_is_refused(call):
    for given in ({"metric": "mi"}, {}, "mi"):
        with pytest.raises(mireg.InputError, match=r"give mireg\.Settings\(\.\.\.\)"):
            CALLS[call](settings=given)
    assert settings_or_default(None) == mireg.Settings()


@pytest.mark.parametrize("call", ["register", "check", "session", "series"])
def test_progress_must_be_a_function(call):
    with pytest.raises(mireg.InputError, match="progress is True; give a function"):
        CALLS[call](progress=True)


@pytest.mark.parametrize("call", ["register", "check", "score"])
def test_what_is_no_prior_is_refused(call):
    with pytest.raises(mireg.InputError, match="prior is a str; give what"):
        CALLS[call](prior="prior.json")


# --- starts, images, points -----------------------------------------------------------


@pytest.mark.parametrize("init", ["center", None, "hedaer"])
def test_a_start_that_is_none_names_the_choices(init):
    with pytest.raises(mireg.InputError, match=f"{init!r}; give auto, header, centre"):
        mireg.register(*PAIR, init=init)


def test_a_file_to_start_from_that_is_not_there_is_said_to_be_missing():
    with pytest.raises(mireg.MissingFileError, match=r"gone\.tfm"):
        mireg.register(*PAIR, init="gone.tfm")


@pytest.mark.parametrize("call", [mireg.register, mireg.check, mireg.score])
def test_the_image_that_cannot_be_used_is_named(call):
    bad = (BALL, np.eye(3))
    with pytest.raises(mireg.InputError, match=r"the fixed image: .* \(3, 3\), not"):
        call(bad, PAIR[1])
    with pytest.raises(mireg.InputError, match=r"the moving image: .* \(3, 3\), not"):
        call(PAIR[0], bad)
    with pytest.raises(
        mireg.InputError, match=r"give \(array, affine\), in this order"
    ):
        call(PAIR[0], (np.eye(4), BALL))


@pytest.mark.parametrize("points", [[1, 2], 3, [[1, 2, 3, 4]], "abc", [[1], [1, 2]]])
def test_points_say_what_shape_they_need(points):
    transform = mireg.RigidTransform.identity()
    image = mireg.Image(BALL, np.eye(4))
    for use in (transform.apply, transform.displacements, image.to_mm, image.to_ijk):
        with pytest.raises(mireg.InputError, match=r"\(\.\.\., 3\)"):
            use(points)


def test_how_to_replace_a_file_is_told_in_the_callers_language(tmp_path, capsys):
    path = tmp_path / "a.nii"
    mireg.write_image(path, PAIR[0])
    with pytest.raises(mireg.OutputExistsError, match="or give force=True"):
        mireg.write_image(path, PAIR[0])
    transform = tmp_path / "a.tfm"
    mireg.RigidTransform.identity().save(transform)
    assert main(["convert", "-q", str(transform), str(transform)]) == 2
    said = capsys.readouterr().err
    assert "force=True" not in said


def test_a_mask_of_background_alone_is_refused():
    x, y, z = np.indices((40, 40, 40))
    rng = np.random.default_rng(0)
    head = 1000.0 * ((x - 20) ** 2 + (y - 20) ** 2 + (z - 20) ** 2 < 150)
    image = head + 200 * (x > 22) * (head > 0) + 10 * np.abs(rng.normal(size=x.shape))
    corner = np.zeros(x.shape)
    corner[:5, :5, :5] = 1
    with pytest.raises(
        mireg.InputError, match="the mask has no contrast: the image is"
    ):
        mireg.prepare((image, np.eye(4)), (corner, np.eye(4)))
    over_edge = (x > 10) & (x < 30)
    assert mireg.prepare((image, np.eye(4)), (over_edge, np.eye(4))).mask is not None


# --- values in words ------------------------------------------------------------------


def test_rounding_is_no_rotation():
    turn = mireg.RigidTransform([1, 0.2, 0.1], [0, 0, 0], [5, 5, 5])
    assert repr(~turn @ turn @ ~turn @ turn).startswith("RigidTransform(no rotation,")


@pytest.mark.parametrize(
    ("diagonal", "says"),
    [
        ([-1, 1, 1, 1], "(reflects, "),
        ([1.1, 1.1, 1.1, 1], "(stretches by 1.1, "),
        ([-1, 1, 2, 1], "(stretches by 1 to 2 and reflects, "),
        ([1, 1, 1, 1], "(is rigid, "),
    ],
)
def test_an_affine_says_what_it_does(diagonal, says):
    assert says in repr(mireg.AffineTransform(np.diag(diagonal)))


def test_minus_zero_is_zero():
    with pytest.raises(mireg.InputError, match="every voxel is 0; "):
        mireg.read_image((np.full((4, 4, 4), -0.0), np.eye(4)))


def test_long_records_show_themselves_in_one_line():
    verdict = mireg.Verdict(0.9, 2.0, 0.1, 0.2, 0.9, 0.1, ("why",), {"overlap": 1.0})
    assert repr(verdict) == (
        "<Verdict: 90 % likely right within 2 mm; error 0.1 mm; 9 of 10 within 0.2 mm>"
    )
    n = np.ones(2)
    of_two = mireg.LocalResiduals(np.ones((2, 3)), np.eye(3)[:2], n, n, n, n / 2, 8, 1)
    assert repr(of_two) == (
        "<LocalResiduals of 2 blocks, 2 tell where they fit: median 1 mm, 9 of 10 "
        "within 1 mm>"
    )


def test_an_image_says_how_it_is_kept():
    image = mireg.read_image((BALL.astype(np.float64), np.eye(4)))
    assert "float32 from float64" in repr(image)


# --- what holds a transform, what is no list ------------------------------------------


@pytest.mark.filterwarnings("ignore::mireg.DoubtWarning")
def test_a_registration_stands_for_its_transform():
    found = mireg.register(*PAIR, init="header")
    pose = found.transform
    assert mireg.compare(found, pose).distances.max == 0
    moved = [mireg.resample(PAIR[1], PAIR[0], one).data for one in (found, pose)]
    np.testing.assert_array_equal(*moved)
    again = [mireg.register(*PAIR, init=one).transform for one in (found, pose)]
    assert again[0] == again[1]


@pytest.mark.parametrize("given", [None, object()])
def test_what_is_no_transform_says_what_it_is(given):
    says = f"must be a matrix of real numbers, or a file, not {type(given).__name__}"
    with pytest.raises(mireg.InputError, match=says):
        mireg.resample(PAIR[1], PAIR[0], given)


@pytest.mark.parametrize("second", [None, "eye", object()])
def test_the_affine_of_a_pair_must_be_a_matrix(second):
    says = f"the affine is {type(second).__name__}, no matrix; give the"
    with pytest.raises(mireg.InputError, match=says):
        mireg.read_image((BALL, second))


@pytest.mark.parametrize(
    "ragged", [([[[1, 2], [3]]], np.eye(4)), (BALL, [[1], [1, 2]])]
)
def test_rows_of_different_lengths_are_refused(ragged):
    with pytest.raises(mireg.InputError, match="rows of the array differ in length"):
        mireg.read_image(ragged)


@pytest.mark.parametrize("images", ["t1.nii.gz", {"t1": PAIR[0], "t2": PAIR[1]}, 3])
def test_a_session_takes_a_list(images):
    says = f"images is a {type(images).__name__}; give a list of images"
    with pytest.raises(mireg.InputError, match=says):
        mireg.register_session(images)


def test_two_images_of_a_session_must_not_share_a_name():
    with pytest.raises(mireg.InputError, match="two images have one name, of a, a"):
        mireg.register_session(PAIR, names=["a", "a"])


@pytest.mark.parametrize("pair", [PAIR, PAIR[0], "t1.nii.gz"])
def test_a_prior_is_learned_from_threes(pair):
    with pytest.raises(mireg.InputError, match=r"pair 1: it must be \(fixed, moving"):
        mireg.learn_prior([pair])


@pytest.mark.parametrize("interpolation", ["nearest", "label"])
def test_labels_that_float32_rounds_are_refused(interpolation):
    labels = np.zeros((4, 4, 4), np.int32)
    labels[2:] = 2**24 + 1
    given = (labels, np.eye(4))
    for image in (given, mireg.read_image(given)):
        with pytest.raises(mireg.InputError, match="would be rounded; renumber"):
            mireg.resample(image, image, np.eye(4), interpolation=interpolation)
    assert mireg.resample(given, given, np.eye(4)).data.max() == 2**24
    labels[2:] = 2**24
    same = mireg.resample(given, given, np.eye(4), interpolation=interpolation)
    np.testing.assert_array_equal(same.data, labels)


def test_what_is_live_and_what_is_learned_show_themselves_in_one_line():
    live = mireg.SeriesRegistration(PAIR[0])
    assert repr(live) == f"<SeriesRegistration onto {mireg.read_image(PAIR[0])}>"
    prior = mireg.learn_prior([(*PAIR, np.eye(4))])
    assert repr(prior) == "<Prior learned from 1 pair>"


# --- doubt ----------------------------------------------------------------------------


def test_doubt_alone_can_be_made_an_error():
    rng = np.random.default_rng(0)
    noise = [(rng.random((16, 16, 16)), np.eye(4)) for _ in range(2)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mireg.MiregWarning)
        warnings.simplefilter("error", mireg.DoubtWarning)
        with pytest.raises(mireg.DoubtWarning, match="the answer is doubtful"):
            mireg.register(*noise, init="header")


# --- what is public -------------------------------------------------------------------

PUBLIC = [
    (module, name) for module in (mireg, information, phantom) for name in dir(module)
]
CLASSES = {
    getattr(module, name)
    for module, name in PUBLIC
    if inspect.isclass(getattr(module, name))
}
FUNCTIONS = [
    getattr(module, name)
    for module, name in PUBLIC
    if inspect.isfunction(getattr(module, name))
]


#: Modules that nobody outside is to know, by the words that docstrings would use.
PRIVATE = {
    path.stem.removeprefix("_")
    for path in Path(mireg.__file__).parent.rglob("*.py")
    if any(part.startswith("_") for part in path.parts[-3:])
}


def members(owner):
    """Yield the public functions of a class, those behind its properties too."""
    behind = ("fget", "func", "__func__")  # of properties, kept ones, class methods
    for name, member in vars(owner).items():
        if not name.startswith("_"):
            found = [getattr(member, one) for one in behind if hasattr(member, one)]
            yield name, (found or [member])[0]


def hints(owner):
    """Return the types of what a class holds, or a function takes and returns."""
    names = {**vars(inspect.getmodule(owner)), "Figure": object}
    return typing.get_type_hints(owner, names)


def own(kind):
    """Yield the classes of mireg in a type."""
    if typing.get_origin(kind) is typing.Literal:
        return
    for part in typing.get_args(kind):
        yield from own(part)
    if inspect.isclass(kind) and kind.__module__.partition(".")[0] == "mireg":
        # A descriptor is what it gives.
        yield from (
            own(hints(kind.__get__)["return"]) if hasattr(kind, "__get__") else [kind]
        )


def test_types_that_are_received_are_public():
    hidden = set()
    for function in FUNCTIONS:
        hidden |= {*own(hints(function).get("return"))} - CLASSES
    for owner in CLASSES:
        for name, kind in hints(owner).items():
            if not name.startswith("_"):
                hidden |= {*own(kind)} - CLASSES
        for _, one in members(owner):
            if inspect.isfunction(one):
                hidden |= {*own(hints(one).get("return"))} - CLASSES
    assert hidden == set()


def test_docstrings_send_nobody_to_private_names():
    documented = [(f.__name__, f.__doc__) for f in FUNCTIONS]
    for owner in CLASSES:
        documented.append((owner.__name__, owner.__doc__))
        documented += [(f"{owner.__name__}.{n}", m.__doc__) for n, m in members(owner)]
    for name, text in documented:
        for quoted in re.findall(r"(?<!`)`(\w+(?:\.\w+)*)`(?!`)", text or ""):
            assert not re.search(r"(^|\.)_[a-z]", quoted), (name, quoted)
            first, *rest = quoted.removeprefix("mireg.").split(".")
            if rest and first in dir(mireg):
                functools.reduce(getattr, rest, getattr(mireg, first))
            else:
                assert not (rest and first in PRIVATE), (name, quoted)


@pytest.mark.parametrize("module", [mireg, information, phantom])
def test_listings_hold_public_names_alone(module):
    assert set(dir(module)) - set(module.__all__) <= {
        "information",
        "phantom",
        "__version__",
    }
