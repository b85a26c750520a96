"""What the study of the verdict makes and learns: answers of a known truth."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
import verdict_study as study

from mireg._image import Image


@pytest.fixture(scope="module")
def rows():
    """Make answers up: right with log-odds that are known."""
    rng = np.random.default_rng(0)
    made = []
    for n in range(1200):
        error, share = math.exp(rng.normal(-2, 1)), rng.uniform(0, 1)
        odds = 3 - 1.5 * (math.log(error) + 2) - 6 * (share - 0.3)
        right = rng.random() < 1 / (1 + math.exp(-odds))
        noise = 0.5 * error
        way = "auto" if right else ("auto", "other", "mirrored")[n % 3]
        made.append(
            {
                "scene": f"{n // 8}_slab",
                "source": "phantom",
                "kind": "slab" if n % 3 else "ct",
                "subject": n // 8,
                "split": "choose" if n % 2 else "report",
                "way": way,
                "degraded": "",
                "right": int(right),
                "error_mm": 2 * noise * math.exp(0.5 * rng.normal()),
                "tolerance_mm": 30.0,
                "voxel_mm": 3.0,
                "standard_error_mm": noise,
                "distance_mm": 0.0,
                "error_voxels": error,
                "runner_up": share,
                "mirrored_z": rng.normal(-5 if way == "mirrored" else 5, 2),
                "mirrored_share": rng.normal(0.5, 0.1),
                **{
                    name: rng.uniform(0.1, 1)
                    for name in (*study.DIRECTIONS, "residual_told", "residual_fit")
                    if not name.startswith(("error", "runner", "mirrored"))
                },
            }
        )
    return made


@pytest.fixture(scope="module")
def made_up(rows):
    """Take them as columns."""
    return study.Table.of(rows)


def test_a_fit_finds_the_odds(made_up):
    """Up to the intercept, which is at even odds of right and wrong."""
    right = made_up["right"] == 1
    part = study.fitted(made_up, right, ["error_voxels", "runner_up"])
    share = part["signals"]["runner_up"]
    slope = np.polyfit(share["at"], share["adds"], 1)[0]
    assert slope == pytest.approx(-6, rel=0.25)
    error = part["signals"]["error_voxels"]
    slope = np.polyfit(np.log(error["at"]), error["adds"], 1)[0]
    assert slope == pytest.approx(-1.5, rel=0.25)
    odds = study.log_odds(part, made_up)
    assert odds[right].mean() > 1 > -1 > odds[~right].mean()


def test_a_typical_right_answer_adds_nothing(made_up):
    right = made_up["right"] == 1
    part = study.fitted(made_up, right, ["error_voxels", "runner_up"])
    for name, term in part["signals"].items():
        typical = np.median(made_up[name][right])
        assert np.interp(typical, term["at"], term["adds"]) == pytest.approx(
            0, abs=1e-2
        )


def test_what_could_not_be_measured_speaks_for_itself(rows):
    blind = [
        row if row["right"] or n % 2 else {**row, "error_voxels": math.nan}
        for n, row in enumerate(rows)
    ]
    table = study.Table.of(blind)
    right = table["right"] == 1
    part = study.fitted(table, right, ["error_voxels", "runner_up"])
    assert part["signals"]["error_voxels"]["unknown"] < -2
    assert study.log_odds(part, table)[np.isnan(table["error_voxels"])].max() < 0


def test_a_weight_never_has_the_wrong_sign(made_up):
    right = made_up["right"] == 1
    part = study.fitted(made_up, ~right, ["error_voxels", "runner_up"])
    assert not any(any(term["adds"]) for term in part["signals"].values())


def test_the_line_of_the_error_is_that_of_the_median(made_up):
    line = study.error_model(made_up)
    assert line["log_standard_error"] == pytest.approx(1, abs=0.05)
    at_a_tenth = line["constant"] + math.log(0.1) * line["log_standard_error"]
    at_a_tenth += line["log_voxel"] * math.log(3)
    assert math.exp(at_a_tenth) == pytest.approx(0.2, rel=0.1)
    assert line["spread"] == pytest.approx(0.5, rel=0.15)


def test_an_auroc_is_the_share_of_pairs_in_order():
    score = np.array([0.1, 0.4, 0.4, 0.9])
    truth = np.array([False, False, True, True])
    assert study.auroc(score, truth) == pytest.approx(3.5 / 4)
    assert math.isnan(study.auroc(score, np.ones(4, bool)))


def test_it_trains_on_one_half_and_reports_on_the_other(
    rows, tmp_path, capsys, monkeypatch
):
    path, model = tmp_path / "answers.csv", tmp_path / "verdict.json"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    monkeypatch.setattr(study.module, "_model", None)  # as it was before, afterwards
    argv = ["train", str(path), "--model", str(model), "--commit", "abc"]
    picture = tmp_path / "reliability.png"
    assert study.main([*argv, "--picture", str(picture)]) == 0
    said = capsys.readouterr().out
    learned = json.loads(model.read_text())
    assert learned["trained"]["answers"] == 600
    assert learned["trained"]["commit"] == "abc"
    assert "runner_up" in learned["right"]["signals"]
    found = learned["figures"]["phantoms to report"]
    assert 0.85 < found["auroc"] < 0.99
    assert found["bound_holds"] == pytest.approx(0.9, abs=0.06)
    assert "| kind slab |" in said
    assert picture.read_bytes().startswith(b"\x89PNG")


# --- how answers are made -------------------------------------------------------------


def test_a_scene_belongs_to_the_split_of_its_subject():
    kinds = list(study.KINDS)
    scenes = list(study.phantom_scenes(0, 2 * len(kinds)))
    for start in (0, len(kinds)):
        some = scenes[start : start + len(kinds)]
        assert sorted(scene.args[1] for scene in some) == sorted(kinds)
    for n, scene in enumerate(scenes):
        number, kind, reported = scene.args
        assert number == n
        assert reported == (kind in study.HELD_OUT or n >= len(kinds))


def test_a_mirrored_image_shows_the_mirrored_anatomy(rng):
    data = rng.random((6, 7, 8)).astype(np.float32)
    image = Image(data, np.diag([2.0, 3, 4, 1]))
    pair = study.Pair(image, image, np.eye(4), rng.normal(size=(50, 3)))
    flipped, about = study.mirrored(pair)
    np.testing.assert_array_equal(flipped.data, data[::-1])
    assert np.linalg.det(about[:3, :3]) == pytest.approx(1)


def test_a_pose_is_displaced_by_as_much_as_is_said(rng):
    points = rng.normal(size=(200, 3)) * 40
    pose = study.displaced(np.eye(4), points, rng, (25, 60), 0.01)
    off = study.distances(pose, np.eye(4), points)
    assert 24 < off.mean() < 61


def test_planes_that_are_cut_out_stay_where_they_were(rng):
    image = Image(rng.random((6, 7, 8)).astype(np.float32), np.diag([2.0, 3, 4, 1]))
    few = study.cut(image, 2, 3, 4)
    assert few.shape == (6, 7, 4)
    np.testing.assert_allclose(few.to_mm([1, 2, 0]), image.to_mm([1, 2, 3]))
