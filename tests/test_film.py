"""The page on a series: a film before and after, against the volumes."""

from __future__ import annotations

import base64
import io
import json

import nibabel as nib
import numpy as np
import PIL.Image
import pytest

from mireg._image import Image
from mireg._report import series as pages
from mireg.cli import main

EVIL = "<img src=x onerror='window.hacked=1'>.nii.gz"
STEP = 3.0
AFFINE = np.diag([STEP, STEP, STEP, 1.0])
AFFINE[:3, 3] = [-30, -33, -27]
#: How many voxels to the right the head is in each volume.
STEPS = (0, 2, 4)
SHAPE = (21, 23, 19)


def volume(right):
    """Show a bright block in a grey one, the bright one to the left, front and top."""
    data = np.full(SHAPE, 2.0, np.float32)
    data[4 + right : 14 + right, 4:19, 3:16] = 60
    data[5 + right : 8 + right, 13:17, 11:15] = 100
    return Image(data, AFFINE)


def motions():
    """Return volume_from_reference: the head goes to the right."""
    each = np.tile(np.eye(4), (len(STEPS), 1, 1))
    each[:, 0, 3] = STEP * np.array(STEPS)
    return each


@pytest.fixture(scope="module")
def made():
    """Return a film whose slices go through the bright block."""
    shown = [volume(right) for right in STEPS]
    place = AFFINE[:3, :3] @ [6, 15, 13] + AFFINE[:3, 3]
    return pages.film(
        shown, [0, 1, 2], motions(), np.eye(4), shown[0], place, threads=1
    )


@pytest.fixture(scope="module")
def page(made):
    rng = np.random.default_rng(0)
    names = [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]
    columns = {name: rng.normal(size=3) for name in names}
    columns["framewise_displacement"] = np.array([np.nan, 6, 6])
    columns["doubted"] = np.array([0, 1, 0])
    carpet = rng.normal(size=(5, 3)).astype(np.float32)
    return pages.series_page(
        EVIL,
        made,
        columns,
        carpet,
        {"reference": "volume 0"},
        lines={"framewise_displacement": 0.5},
        repetition_time=2.0,
    )


def frame(plane, pose, k):
    """Read the grey levels of a frame as they are seen: rows go down."""
    content = base64.b64decode(plane["sheets"][pose].partition(",")[2])
    sheet = np.asarray(PIL.Image.open(io.BytesIO(content)))
    (wide, high), (along, down) = plane["shape"], plane["tile"]
    top, left = k // plane["columns"] * down, k % plane["columns"] * along
    return sheet[top : top + high, left : left + wide]


@pytest.mark.parametrize("k", range(3))
def test_before_it_moves_and_after_it_stays(made, k):
    planes = {plane["name"]: plane for plane in made["planes"]}
    for pose, right in (("before", STEPS[k]), ("after", 0)):
        # Left of the patient is left, front and top are up.
        for name, up in (("axial", 15), ("coronal", 13)):
            shown = frame(planes[name], pose, k)
            high = planes[name]["shape"][1]
            row = shown[high - 1 - up].astype(float)
            grey = row[min(10 + right, SHAPE[0] - 1)]
            assert np.flatnonzero(row > grey + 40).tolist() == [
                right + 5,
                right + 6,
                right + 7,
            ]
    # Through the bright block, where the head has not gone yet.
    bright = frame(planes["sagittal"], "after", k)[SHAPE[2] - 1 - 13]
    assert np.flatnonzero(bright > 200).tolist() == [13, 14, 15, 16]
    assert made["numbers"] == [0, 1, 2]


def test_a_long_film_is_thinned_and_bounded():
    rng = np.random.default_rng(1)
    noise = [Image(rng.random((20, 20, 20), np.float32), AFFINE) for _ in range(8)]
    unmoved = np.tile(np.eye(4), (8, 1, 1))
    made = pages.film(
        noise,
        range(8),
        unmoved,
        np.eye(4),
        noise[0],
        np.zeros(3),
        most_bytes=6000,
        threads=1,
    )
    assert sum(len(s) for p in made["planes"] for s in p["sheets"].values()) <= 6000
    assert 1 <= len(made["numbers"]) < 8
    assert pages.frames(1000) == list(range(0, 1000, 5))


def test_names_are_text_and_what_is_doubted_is_said(page):
    assert EVIL not in page
    assert "Doubted: volumes 1." in page
    assert page.count('class="cursor"') == 3  # nothing is drawn of what is not there


def test_the_command_writes_it_with_the_rest(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(2)
    data = np.stack([volume(right).data for right in (0, 1, 2)], -1)
    data += rng.normal(0, 1, data.shape).astype(np.float32)
    nib.save(nib.Nifti1Image(data.astype(np.float32), AFFINE), "bold.nii.gz")
    words = ["series", "bold.nii.gz", "-o", "moved", "--report", "--no-image", "-q"]
    assert main(words) == 0
    assert "<title>bold.nii.gz</title>" in (tmp_path / "moved.html").read_text()
    assert main(words) == 2
    assert "exists" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.browser
def test_the_film_runs(open_offline, page, made, tmp_path):
    path = tmp_path / "film.html"
    path.write_text(page)
    shown, complaints = open_offline(path)
    film = json.loads(shown.text_content("#data"))["film"]
    assert film == json.loads(json.dumps(made))

    def pixels(name):
        wide, high, values = shown.evaluate(
            "id => { const c = document.getElementById(id); const d = "
            "c.getContext('2d').getImageData(0, 0, c.width, c.height).data; "
            "return [c.width, c.height, Array.from(d)]; }",
            name,
        )
        return np.reshape(values, (high, wide, 4))[..., 0]

    def assert_frame(k):
        for plane in film["planes"]:
            for pose in ("before", "after"):
                seen = pixels(f"{plane['name']}-{pose}")
                np.testing.assert_array_equal(seen, frame(plane, pose, k))

    # It does not run by itself for those who ask for less motion.
    assert shown.get_attribute("#play", "aria-pressed") == "false"
    assert_frame(0)
    at = float(shown.get_attribute(".cursor >> nth=0", "x1"))
    shown.keyboard.press("ArrowRight")
    assert_frame(1)
    assert float(shown.get_attribute(".cursor >> nth=0", "x1")) > at
    assert shown.text_content("#said") == "1 (2 of 3)"
    shown.keyboard.press("ArrowLeft")
    shown.keyboard.press("ArrowLeft")
    assert_frame(2)
    shown.check("#change")
    assert (pixels("axial-after") == 128).all()  # it stays where it is
    assert (pixels("axial-before") != 128).any()
    shown.click("#play")
    shown.locator("#said", has_not_text="2 (3 of 3)").wait_for()
    assert not [one for one in complaints if "readback" not in one]
    assert not shown.evaluate("window.hacked === 1")
