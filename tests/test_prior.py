"""Learn from aligned pairs, store it, and register others with it."""

from __future__ import annotations

import json
import pickle
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from checks import transposed

from mireg import (
    Image,
    InputError,
    MiregWarning,
    Prior,
    Settings,
    learn_prior,
    register,
    score,
    write_image,
    write_transform,
)
from mireg._prior import CHANNELS
from mireg._transform import RigidTransform
from mireg.cli import main
from mireg.phantom import KINDS, hard_pair, phantom_pair

POSE = RigidTransform([0.15, -0.1, 0.2], [6, -4, 8])


@pytest.fixture(scope="module")
def pair():
    """Scan a head twice, a small turn apart."""
    return phantom_pair(
        "T1", "EPI", pose=POSE, fixed_voxel_size_mm=6, moving_voxel_size_mm=6
    )


@pytest.fixture(scope="module")
def prior(pair):
    """Learn from that pair."""
    return learn_prior([(pair.fixed, pair.moving, POSE.matrix)])


def random_prior(rng, n=5):
    """Draw a prior of a few intervals."""
    return Prior({name: rng.random((n, n)) for name in CHANNELS}, 7)


def difference(one, other):
    """Sum of absolute differences of two priors."""
    return sum(np.abs(one.joints[name] - other.joints[name]).sum() for name in CHANNELS)


def assert_close(one, other, **tolerances):
    """Fail if two priors differ."""
    assert set(one.joints) == set(other.joints) == set(CHANNELS)
    for name in CHANNELS:
        np.testing.assert_allclose(one.joints[name], other.joints[name], **tolerances)


# --- what is learned ----------------------------------------------------------------


def test_a_negative_is_learned_as_one(rng):
    """Of an image and its negative, only the diagonal from bright to dark is filled."""
    bright = np.add.outer(np.add.outer(np.arange(18), np.arange(16)), np.arange(14))
    bright = np.float32(np.pad(bright + rng.random(bright.shape), 4))
    fixed = Image(bright, np.eye(4))
    negative = Image(100 - bright, np.eye(4))
    joint = learn_prior([(fixed, negative, np.eye(4))]).joints["original"]
    rows, columns = np.indices(joint.shape) / (len(joint) - 1)
    assert joint[np.abs(rows + columns - 1) < 0.15].sum() > 0.9


def test_scaled_intensities_are_learned_as_before(pair, prior):
    """A scanner with another gain and offset gives the same prior."""
    other = Image(3 * pair.moving.data + 100, pair.moving.mm_from_ijk)
    again = learn_prior([(pair.fixed, other, POSE.matrix)])
    for name in CHANNELS:
        assert np.abs(again.joints[name] - prior.joints[name]).sum() < 0.02


def test_every_pair_counts_the_same(pair, prior):
    small = Image(pair.moving.data[:, :, 4:16], pair.moving.mm_from_ijk @ shift(4))
    pairs = [(pair.fixed, m, POSE.matrix) for m in (pair.moving, small)]
    both = learn_prior(pairs)
    alone = learn_prior(pairs[1:])
    assert both.pairs == 2
    for name in CHANNELS:
        mean = (prior.joints[name] + alone.joints[name]) / 2
        np.testing.assert_allclose(both.joints[name], mean, atol=1e-12)


def shift(slices):
    """Return the matrix from voxels of a stack to those of one with more below."""
    matrix = np.eye(4)
    matrix[2, 3] = slices
    return matrix


def test_contrasts_may_change_places(pair, prior):
    """Learned the other way round, it is the same, transposed."""
    back = learn_prior([(pair.moving, pair.fixed, POSE.inverse().matrix)])
    assert_close(transposed(back), prior, atol=1e-12)
    of_moving = prior.joints["moving_corrected"]
    np.testing.assert_allclose(back.joints["fixed_corrected"], of_moving.T, atol=1e-12)
    assert np.abs(of_moving - prior.joints["fixed_corrected"]).sum() > 0.1


def test_pairs_apart_teach_nothing(pair):
    away = RigidTransform([0, 0, 0], [900, 0, 0]).matrix
    with pytest.raises(InputError, match="do not overlap"):
        learn_prior([(pair.fixed, pair.moving, away)])
    with pytest.raises(InputError, match="no pair"):
        learn_prior([])


# --- what it is good for --------------------------------------------------------------


def test_no_strength_is_plain_mutual_information(pair, prior):
    """The same transform and the same score, to the last digit."""
    few = {"orientations": 100, "candidates": 3}
    plain = register(pair.fixed, pair.moving, settings=Settings(metric="mi", **few))
    none = register(
        pair.fixed,
        pair.moving,
        settings=Settings(metric="prior", prior_strength=0, **few),
        prior=prior,
    )
    np.testing.assert_array_equal(none.moving_from_fixed, plain.moving_from_fixed)
    assert none.score == plain.score


# At 6 mm a head and its mirror image look alike.
@pytest.mark.filterwarnings("ignore:the answer is doubtful")
def test_either_image_may_be_fixed(pair, prior):
    """A prior exchanged with the images gives the same answer."""
    settings = Settings(metric="prior")
    there, back = (
        register(*images, init="header", settings=settings, prior=known)
        for images, known in (
            ((pair.fixed, pair.moving), prior),
            ((pair.moving, pair.fixed), transposed(prior)),
        )
    )
    assert back.score == pytest.approx(there.score, rel=1e-9)
    product = back.moving_from_fixed @ there.moving_from_fixed
    np.testing.assert_allclose(product, np.eye(4), atol=1e-6)


def test_score_tells_what_the_prior_says(pair, prior):
    scores = score(pair.fixed, pair.moving, POSE.matrix, prior=prior)
    assert scores["prior"] != scores["mi"]
    none = Settings(prior_strength=0)
    scores = score(pair.fixed, pair.moving, POSE.matrix, prior=prior, settings=none)
    assert scores["prior"] == scores["mi"]
    assert "prior" not in score(pair.fixed, pair.moving, POSE.matrix)


def test_prior_and_metric_go_together(pair, prior):
    for settings, known in ((Settings(), prior), (Settings(metric="prior"), None)):
        with pytest.raises(InputError, match="prior"):
            register(pair.fixed, pair.moving, settings=settings, prior=known)
    with pytest.raises(InputError, match="prior_strength"):
        Settings(prior_strength=-1)


@pytest.mark.slow
def test_it_finds_rough_slices_that_mutual_information_loses():
    """Learned from two heads, it helps on another of which EPI shows two slices."""
    heads = (
        phantom_pair(
            "T1", "EPI", seed=seed, fixed_voxel_size_mm=4, moving_voxel_size_mm=4
        )
        for seed in (901, 902)
    )
    known = learn_prior((a, b, pose.matrix) for a, b, pose in heads)
    slices = KINDS["slices"]
    rough = replace(slices.moving, slices=(2, 2), voxel_mm=(6.0, 6.0, 4.0))
    unseen = hard_pair(replace(slices, moving=rough), seed=2)

    def error_mm(**options):
        found = register(unseen.fixed, unseen.moving, **options).transform
        off = found.apply(unseen.points) - unseen.moving_from_fixed.apply(unseen.points)
        return np.linalg.norm(off, axis=1).mean()

    with pytest.warns(MiregWarning, match="the answer is doubtful"):
        assert error_mm(settings=Settings(metric="mi")) > 20
    assert error_mm(settings=Settings(metric="prior"), prior=known) < 1


# --- files ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.json", "a.npz"])
def test_it_comes_back_as_it_was_written(name, rng, tmp_path):
    prior = random_prior(rng)
    prior.write(tmp_path / name)
    again = Prior.read(tmp_path / name)
    assert_close(again, prior, rtol=1e-5)
    assert again.pairs == 7
    with pytest.raises(InputError, match="exists already"):
        prior.write(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_names_and_shapes_are_checked_and_nothing_can_be_changed(rng):
    prior = random_prior(rng)
    for name in CHANNELS:
        assert prior.joints[name].sum() == pytest.approx(1)
        with pytest.raises(ValueError, match="read-only"):
            prior.joints[name][0, 0] = 1
    with pytest.raises(TypeError):
        prior.joints["original"] = np.ones((2, 2))
    with pytest.raises(InputError, match=r"by the names original, .* these are a"):
        Prior({"a": np.ones((2, 2))}, 1)
    with pytest.raises(InputError, match=r"moving_corrected is an array of shape"):
        Prior({**prior.joints, "moving_corrected": np.ones((2, 3))}, 1)
    weighted = prior.weighted(2.5)
    assert set(weighted) == set(CHANNELS)
    for name in CHANNELS:
        np.testing.assert_allclose(weighted[name], 2.5 * prior.joints[name])


class Bomb:
    """Does harm when unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("something was unpickled",))


def damaged(tmp_path, good):
    """Write files that are no priors."""
    record = json.loads(good)
    for number, change in enumerate(
        [
            {"kind": "another"},
            {"version": 1},
            {"version": 3},
            {"joints": dict(list(record["joints"].items())[:2])},
            {"joints": {**record["joints"], "another": [[1.0]]}},
            {"joints": list(record["joints"].values())},
            {"joints": {name: [[-1.0]] for name in CHANNELS}},
            {"joints": {name: [[0.0]] for name in CHANNELS}},
            {"joints": {name: [[0.5, 0.5]] for name in CHANNELS}},
            {"joints": "none"},
            {"pairs": "several"},
            {"pairs": float("inf")},
            {"pairs": 10**400},
        ]
    ):
        path = tmp_path / f"changed{number}.json"
        path.write_text(json.dumps({**record, **change}))
        yield path
    for name, data in {
        "nan.json": good.replace(b"0.", b"NaN, 0."),
        "deep.json": b"[" * 100_000,
        "list.json": b"[1, 2]",
        "text.json": b"joints",
        "bytes.json": b"\xff\xfe\x00",
        "pickle.npz": pickle.dumps(Bomb()),
        "text.npz": b"PK joints",
        "empty.npz": b"",
    }.items():
        path = tmp_path / name
        path.write_bytes(data)
        yield path
    good_about = json.dumps({"kind": record["kind"], "version": 2, "pairs": 7})
    bombs = {name: np.array([[Bomb()]]) for name in CHANNELS}
    np.savez(tmp_path / "object.npz", about=good_about, **bombs)
    yield tmp_path / "object.npz"
    joints = {name: np.ones((4, 4)) for name in CHANNELS}
    np.savez(tmp_path / "lacking.npz", **joints)
    yield tmp_path / "lacking.npz"
    np.savez(tmp_path / "older.npz", about=good_about, joints=np.ones((3, 4, 4)))
    yield tmp_path / "older.npz"
    bits = bytearray((tmp_path / "lacking.npz").read_bytes())
    for at in range(0, len(bits), 37):
        bits[at] ^= 1
        path = tmp_path / f"flipped{at}.npz"
        path.write_bytes(bits)
        bits[at] ^= 1
        yield path
    with zipfile.ZipFile(tmp_path / "vast.npz", "w", zipfile.ZIP_DEFLATED) as vast:
        vast.writestr("joints.npy", bytes(50_000_000))
    yield tmp_path / "vast.npz"


def test_what_is_no_prior_is_refused(rng, tmp_path):
    random_prior(rng).write(tmp_path / "good.json")
    good = (tmp_path / "good.json").read_bytes()
    for path in damaged(tmp_path, good):
        with pytest.raises(InputError, match="not a prior") as refused:
            Prior.read(path)
        assert str(path) in str(refused.value)
    with pytest.raises(InputError, match="there is no such file"):
        Prior.read(tmp_path / "missing.json")
    with pytest.raises(InputError, match=r"\.json or \.npz"):
        Prior.read(tmp_path / "prior.pkl")


# --- the command line -----------------------------------------------------------------


@pytest.fixture
def files(pair, tmp_path, monkeypatch):
    """Put the pair, its transform and a table of pairs into a folder, and go there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scans").mkdir()
    write_image("scans/t1.nii.gz", pair.fixed)
    write_image("scans/epi.nii.gz", pair.moving)
    write_transform("scans/truth.tfm", POSE)
    straight = Image(pair.moving.data, POSE.inverse().matrix @ pair.moving.mm_from_ijk)
    write_image("scans/straight.nii.gz", straight)
    (tmp_path / "scans" / "pairs.csv").write_text(
        "fixed, moving,transform\nt1.nii.gz, epi.nii.gz,  truth.tfm\n"
        "t1.nii.gz,straight.nii.gz,\n"
    )
    return tmp_path


@pytest.mark.usefixtures("files")
def test_learn_and_use_it_in_the_shell(prior, capsys):
    assert main(["prior", "learn", "scans/pairs.csv", "-o", "t1_epi.json"]) == 0
    assert "2 pairs" in capsys.readouterr().out
    learned = Prior.read("t1_epi.json")
    assert difference(learned, prior) < 0.05

    images = ["scans/t1.nii.gz", "scans/epi.nii.gz"]
    use = ["--prior", "t1_epi.json", "--prior-strength", "2"]
    how = ["-o", "out", "--init", "header", "--accept"]
    assert main(["register", *images, *how, *use]) == 0
    with open("out.json", encoding="utf-8") as file:
        record = json.load(file)
    assert record["metric"] == "prior"
    assert record["settings"]["prior_strength"] == 2
    assert record["options"]["prior"] == "t1_epi.json"
    capsys.readouterr()
    assert main(["score", *images, "-t", "out.tfm", *use, "--json"]) == 0
    assert "prior" in json.loads(capsys.readouterr().out)["scores"]


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("fixed;moving\na;b\n", "columns are"),
        ("fixed,moving,transform,more\na,b,c,d\n", "columns are"),
        ("fixed,moving\n", "no pair"),
        ("fixed,moving\nt1.nii.gz,\n", "line 2"),
        ("fixed,moving\nt1.nii.gz,epi.nii.gz,a,b\n", "line 2"),
        ("fixed,moving\nt1.nii.gz,none.nii.gz\n", "none.nii.gz"),
        ("", "columns are none"),
    ],
)
def test_a_table_that_is_wrong(table, says, capsys):
    with open("scans/wrong.csv", "w", encoding="utf-8") as file:
        file.write(table)
    assert main(["prior", "learn", "scans/wrong.csv", "-o", "out.json"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert says in lines[0]


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["prior", "learn", "scans/pairs.csv", "-o", "out.pkl"], ".json or .npz"),
        (["prior", "learn", "scans/none.csv", "-o", "out.json"], "none.csv"),
        (["register", "a", "b", "--prior-strength", "1"], "--prior"),
        (["register", "a", "b", "--prior", "none.json"], "none.json"),
    ],
)
def test_wrong_usage_is_one_line(argv, says, capsys):
    assert main(argv) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert says in lines[0]
