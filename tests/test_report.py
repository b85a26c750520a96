"""The page on a pair as a file: what is in it, how large it is, how safe it is."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
import shlex
from html.parser import HTMLParser
from itertools import chain
from pathlib import Path

import nibabel as nib
import numpy as np
import PIL.Image
import pytest
from checks import GRIDS
from scipy import ndimage

import mireg
from mireg._engine.verdict import Verdict
from mireg._files import nifti
from mireg._image import Image
from mireg._prepare import prepare
from mireg._report import figures, page, panels, volumes
from mireg._report.document import document
from mireg._transform import RigidTransform
from mireg.cli import main
from mireg.phantom import phantom_pair

POSE = RigidTransform([0.15, -0.1, 0.2], [6, -4, 8])
EVIL = "<img src=x onerror=alert(1)>'&quot;.nii.gz"


@pytest.fixture(scope="module")
def pair():
    """Scan a head twice, a small turn apart."""
    return phantom_pair(
        "T1", "T2", pose=POSE, fixed_voxel_size_mm=6, moving_voxel_size_mm=6
    )


@pytest.fixture(scope="module")
def folder(pair, tmp_path_factory):
    """Put both scans into files, one with a name that would be markup."""
    path = tmp_path_factory.mktemp("scans")
    int16 = nib.Nifti1Image(np.zeros((1, 1, 1), np.int16), np.eye(4))
    nifti.write_image(path / "t1.nii.gz", pair.fixed, template=int16)
    nifti.write_image(path / EVIL, pair.moving, template=int16)
    return path


@pytest.fixture(scope="module")
def found(folder):
    """Register the two files from their headers."""
    return mireg.register(
        folder / "t1.nii.gz",
        folder / EVIL,
        init="header",
        settings=mireg.Settings(samples=20_000),
    )


@pytest.fixture(scope="module")
def written(found, tmp_path_factory):
    """Write the page, and read it."""
    return found.report(tmp_path_factory.mktemp("page") / "x.html").read_text()


class Parsed(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, content):
        super().__init__()
        self.tags, self.texts, self.inside = [], {}, None
        self.feed(content)

    def handle_starttag(self, tag, attrs):
        """Take an element, and what follows as its text."""
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_data(self, data):
        """Take text."""
        self.texts.setdefault(self.inside, []).append(data)

    def of(self, tag):
        """Give the attributes of each element of a kind."""
        return [attributes for name, attributes in self.tags if name == tag]


def data_of(content):
    return json.loads(re.search(r'id="data">(.*?)</script>', content).group(1))


def unpacked(viewer, name):
    """Take a volume out of a page again."""
    content = base64.b64decode(viewer["sheets"][name].partition(",")[2])
    sheet = np.asarray(PIL.Image.open(io.BytesIO(content)))
    (nx, ny, nz), (wide, high) = viewer["shape"], viewer["tile"]
    out = np.empty((nx, ny, nz))
    for z in range(nz):
        top, left = divmod(z, viewer["columns"])
        tile = sheet[top * high :, left * wide :][:ny, :nx]
        out[:, :, z] = tile.T
    return out


# --- safe -----------------------------------------------------------------------------


def test_names_are_text_and_never_markup(written):
    parsed = Parsed(written)
    assert all("onerror" not in attributes for _, attributes in parsed.tags)
    assert all(
        attributes["src"].startswith("data:image/") for attributes in parsed.of("img")
    )
    assert f"{EVIL} on t1.nii.gz" in parsed.texts["title"]
    assert f"{EVIL} on t1.nii.gz" in parsed.texts["h1"]


def test_only_its_own_script_and_style_may_run_and_nothing_be_loaded(written):
    parsed = Parsed(written)
    (policy,) = (
        attributes["content"]
        for attributes in parsed.of("meta")
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    allowed = dict(part.split(" ", 1) for part in policy.split("; "))
    assert allowed["default-src"] == "'none'"
    assert allowed["img-src"] == "data:"
    (script,) = re.findall(r"<script>(.*?)</script>", written, re.S)
    (style,) = re.findall(r"<style>(.*?)</style>", written, re.S)
    for kind, content in (("script", script), ("style", style)):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert allowed[f"{kind}-src"] == f"'sha256-{digest}'"
    # What is not a script of its own: no handlers, no styles, no links to elsewhere.
    for name, attributes in parsed.tags:
        assert not any(key.startswith("on") for key in attributes), name
        assert "style" not in attributes, name
        assert name not in ("link", "a", "iframe", "object", "embed", "form", "base")
    assert not re.search(r"https?://(?!www\.w3\.org/)", script + style)


def test_data_cannot_end_its_element():
    nasty = {"x": "</script><script>alert(1)</script><!--", "\ud800": "]]>&amp;"}
    made = document("t", body="", style="", script="", data=nasty)
    assert made.count("<script") == made.count("</script>") == 2
    assert data_of(made) == nasty
    made.encode()


def test_a_mark_of_the_template_in_a_name_is_text(pair):
    data = page.page_data(pair.fixed, pair.moving, POSE.matrix)
    made = page.page({**data, "title": "<!-- PANELS --><!-- STILL -->"})
    assert made.count('<section class="card wide">') == 3


# --- what is in it --------------------------------------------------------------------


def test_it_says_what_was_found(written, found):
    words = " ".join(chain.from_iterable(Parsed(written).texts.values()))
    assert f"{found.transform.angle_deg:.2f} degrees" in words
    assert found.to_dict()["fixed"]["sha256"] in words
    assert f"mireg {mireg.__version__}" in words
    matrix = np.array(
        [
            line.split()
            for line in re.findall(r"<pre[^>]*>([^<]*)", written)[:1][0].split("\n")
        ],
        float,
    )
    np.testing.assert_allclose(matrix, found.moving_from_fixed, atol=1e-8)


def test_it_says_how_points_and_how_the_image_go():
    # A quarter turn about the vertical axis through (10, 0, 0), then 3 mm to the front:
    # back, the image is shifted first, to the back, and then turned to the left.
    turn = RigidTransform([0, 0, np.pi / 2], [0, 3, 0], centre=[10, 0, 0])
    _, points, image = figures.motion_words(turn, np.array([10.0, 0, 0]))
    assert "(10.0, 0.0, 0.0)" in points
    assert "by 3.00 mm: 0.00 right, 3.00 forward, 0.00 up" in points
    assert "then moved by 3.00 mm: 3.00 left" in image
    assert "what planning systems show" in image


def test_every_page_ends_by_saying_that_it_is_no_medical_device(written):
    any_page = document("t", body="<p>all</p>", style="", script="", data={})
    for made, last in ((written, "</section>"), (any_page, "all</p>")):
        (foot,) = re.findall("<footer>(.*?)</footer>", made, re.S)
        assert "research software, not a medical device" in foot
        assert made.index("<footer>") > made.rindex(last)


def test_one_word_is_for_one_thing(written, found):
    words = " ".join(chain.from_iterable(Parsed(written).texts.values()))
    score = found.fixed_contrast.score
    assert f"score {round(score, 3)} bits from uniform" in words
    assert len(re.findall("bits from uniform", words)) == 2  # the score of each image
    # That of the joint histogram would differ from the score, which is of another one.
    assert "normalised" not in words


def test_matrices_are_those_of_the_files(found, tmp_path):
    data = page.page_data(found.fixed, found.moving, found.transform)
    texts = {one["name"]: one["text"] for one in data["transform"]["matrices"]}
    rows = {
        name: np.array([line.split() for line in words.split("\n")], float)
        for name, words in texts.items()
    }
    found.transform.save(
        tmp_path / "x.mat", format="fsl", fixed=found.fixed, moving=found.moving
    )
    np.testing.assert_allclose(rows["FSL"], np.loadtxt(tmp_path / "x.mat"), atol=1e-8)
    np.testing.assert_allclose(rows["RAS"] @ rows["RAS, inverse"], np.eye(4), atol=1e-6)
    itk, dicom = str(tmp_path / "x.tfm"), tmp_path / "x.txt"
    found.transform.save(itk)
    assert main(["convert", "-q", itk, str(dicom), "--to", "dicom"]) == 0
    np.testing.assert_allclose(
        rows["DICOM (planning systems)"], np.loadtxt(dicom), atol=1e-8
    )
    # Ten to the right in RAS is ten to the left, -10, in LPS.
    there = rows["RAS"] @ [10, 20, 30, 1]
    np.testing.assert_allclose(
        rows["LPS"] @ [-10, -20, 30, 1], there * [-1, -1, 1, 1], atol=1e-6
    )


def test_the_answer_is_a_peak(found):
    data = page.page_data(found.fixed, found.moving, found.transform)
    after, before = data["joint"]["after"], data["joint"]["before"]
    assert after["mi"] > before["mi"] + 0.05
    assert len(data["profiles"]) == 6
    for profile in data["profiles"]:
        middle = profile["at"].index(0)
        best = np.argmax(profile["mi"])
        assert abs(best - middle) <= 1, profile["label"]
        assert profile["mi"][middle] == pytest.approx(after["mi"], abs=1e-3)


def test_no_overlap_is_said(pair):
    far = RigidTransform([0, 0, 0], [900, 0, 0])
    data = page.page_data(pair.fixed, pair.moving, far)
    assert data["joint"]["after"] is None
    assert "The images do not overlap." in page.page(data)


def test_a_doubtful_answer_gives_each_reason_once_and_no_error(pair, found):
    """The warning repeats the verdict; an error below the noise contradicts it."""
    record = found.to_dict()
    record["verdict"] |= {
        "probability": 0.2,
        "error_mm": 0.5,
        "error_bound_mm": 0.9,
        "reasons": ["the mirror image fits as well", "the overlap is small"],
    }
    doubt = Verdict.from_dict(record["verdict"]).warning
    assert "the mirror image fits as well" in doubt
    record |= {
        "doubtful": True,
        "warnings": [doubt, "the header is odd"],
        "standard_error_mm": 0.8,
    }
    data = page.page_data(pair.fixed, pair.moving, POSE, record)
    assert data["verdict"]["reasons"] == [
        *record["verdict"]["reasons"],
        "the header is odd",
    ]
    assert data["verdict"]["words"].endswith("Look whether it is right.")
    error = dict(data["facts"])["expected error"]
    assert error == "not known, as the answer is doubtful"


def test_a_doubtful_answer_is_called_so(pair, found):
    record = {**found.to_dict(), "doubtful": True, "warnings": ["a <b>reason</b>"]}
    record["centre_mm"] = [1.0, 2.0, 3.0]  # of a mask: the page names the same point
    data = page.page_data(pair.fixed, pair.moving, POSE, record)
    assert (
        "centre of the anatomy, at (1.0, 2.0, 3.0) mm" in data["transform"]["words"][1]
    )
    made = page.page(data)
    assert '<div class="verdict bad">Doubtful' in made
    said = {"doubtful": False, "words": "51 % likely", "reasons": ["it is odd"]}
    assert '<div class="verdict">' in panels.verdict_panel(said)
    assert '"verdict good"' in panels.verdict_panel({**said, "reasons": []})
    assert "a &lt;b&gt;reason&lt;/b&gt;" in made


def test_the_command_makes_it_again(found, folder):
    assert page.command(None) is None
    record = found.to_dict()
    options = {"init": "header", "moving_mask": "a b.nii", "fixed_mask": None}
    words = page.command({**record, "options": options})
    assert words.startswith(f"mireg register {folder}/t1.nii.gz '")
    assert words.endswith("--init header --moving-mask 'a b.nii'")
    options["command"] = "mireg register a b --report"
    assert page.command({**record, "options": options}) == options["command"]


# --- the images -----------------------------------------------------------------------


@pytest.mark.parametrize("name", GRIDS)
def test_volumes_are_the_images_where_they_are(name, rng):
    mm_from_ijk = GRIDS[name]
    smooth = ndimage.gaussian_filter(rng.random((24, 20, 18)), 2)
    fixed = Image(smooth / smooth.max() * 900, mm_from_ijk)
    moving = Image(fixed.data[::-1, :, ::-1].max() - fixed.data, mm_from_ijk)
    viewer = page.page_data(fixed, moving, POSE.matrix)["viewer"]
    assert viewer["packing"].startswith("PNG")
    ijk = np.indices(viewer["shape"]).reshape(3, -1).T
    points = ijk * viewer["step_mm"] + viewer["origin_mm"]
    for sheet, image, pose in (
        ("fixed", fixed, RigidTransform([0, 0, 0], [0, 0, 0])),
        ("after", moving, POSE),
        ("before", moving, RigidTransform([0, 0, 0], [0, 0, 0])),
    ):
        low, high = volumes.limits(prepare(image))
        there = image.to_ijk(pose.apply(points))
        inside = ((there >= 0) & (there <= np.array(image.shape) - 1)).all(axis=1)
        outside = ((there < -0.6) | (there > np.array(image.shape) - 0.4)).any(axis=1)
        expected = ndimage.map_coordinates(image.data, there[inside].T, order=1)
        expected = np.clip((expected - low) / (high - low) * 254 + 1, 1, 255)
        shown = unpacked(viewer, sheet).ravel()
        assert inside.sum() > 2000
        assert np.abs(shown[inside] - expected).max() < 1.5
        assert (shown[outside] == 0).all()


def test_the_grid_covers_the_fixed_image():
    for mm_from_ijk in GRIDS.values():
        image = Image(np.zeros((20, 30, 5)), mm_from_ijk)
        grid = volumes.DisplayGrid.over(image, 1e5)
        ends = grid.image.corners_mm
        assert (image.corners_mm.min(axis=0) > ends.min(axis=0) - grid.step_mm).all()
        assert (image.corners_mm.max(axis=0) < ends.max(axis=0) + grid.step_mm).all()


def test_the_size_is_bounded(rng):
    # Noise is what compresses least.
    noise = [rng.integers(0, 4000, (200, 200, 160)).astype("f4") for _ in range(2)]
    fixed, moving = (Image(one, np.eye(4)) for one in noise)
    data = page.page_data(fixed, moving, np.eye(4), most_bytes=page.MOST_BYTES)
    assert data["viewer"]["packing"].startswith("JPEG")
    assert len(page.page(data)) < 3_000_000


def test_slices_do_not_bleed_into_each_other():
    volume = np.zeros((13, 11, 9), np.uint8)
    volume[:, :, 4] = 255
    (address,), how = volumes.packed([volume], 2000)
    assert how.startswith("JPEG")
    viewer = {"shape": volume.shape, "tile": [16, 16], "sheets": {"x": address}}
    viewer["columns"] = volumes.columns(volume.shape)
    assert np.abs(unpacked(viewer, "x") - volume).max() < 12


# --- where it comes from --------------------------------------------------------------


def test_the_command_line_writes_it_with_the_rest(folder, tmp_path, capsys):
    scans = [str(folder / "t1.nii.gz"), str(folder / EVIL)]
    options = ["-o", str(tmp_path / "x"), "--init", "header", "--report", "-q"]
    assert main(["register", *scans, *options]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        "x.nii.gz",
        "x.tfm",
        "x.json",
        "x.html",
    }
    content = (tmp_path / "x.html").read_text()
    given = shlex.join(["mireg", "register", *scans, *options])
    assert given in map(html.unescape, re.findall(r"<pre[^>]*>([^<]*)", content))
    assert main(["register", *scans, *options]) == 2
    assert "exists already" in capsys.readouterr().err
    assert mireg.Registration.load(tmp_path / "x.json").report(tmp_path / "y.html")


@pytest.mark.parametrize("given", [["--report", "x.html"], ["--report=x.html"]])
def test_a_page_with_a_name_of_its_own_is_refused_in_words(given, capsys):
    assert main(["register", "a.nii", "b.nii", *given]) == 2
    assert "--report takes no value" in capsys.readouterr().err


def test_anybodys_transform_can_be_looked_at(folder, tmp_path):
    POSE.save(tmp_path / "t.tfm")
    scans = [str(folder / "t1.nii.gz"), str(folder / EVIL)]
    out = tmp_path / "seen.html"
    options = ["-t", str(tmp_path / "t.tfm"), "-o", str(out)]
    assert main(["report", *scans, *options]) == 0
    rows = data_of(out.read_text())["viewer"]["voxels"]["after"]["ijk_from_mm"]
    moving = mireg.read_image(folder / EVIL)
    np.testing.assert_allclose(
        rows, np.linalg.inv(moving.mm_from_ijk) @ POSE.matrix, atol=1e-6
    )
    assert main(["report", *scans, *options]) == 2


def test_a_notebook_shows_a_picture_a_table_and_the_viewer_in_a_frame(found):
    shown = found._repr_html_()
    assert len(shown) < 1_200_000
    parsed = Parsed(shown)
    (frame,) = parsed.of("iframe")
    assert frame["sandbox"] == "allow-scripts"
    assert Parsed(frame["srcdoc"]).of("canvas") == []  # the script makes them
    assert 'id="viewer"' in frame["srcdoc"]
    (picture,) = parsed.of("img")
    assert picture["src"].startswith("data:image/png;base64,")
    without = re.sub(r"<iframe.*</iframe>", "", shown, flags=re.S)
    assert "expected error" in without
    assert Path(EVIL).name not in without
