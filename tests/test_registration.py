"""What can be done with a registration, and what stands for an image."""

from __future__ import annotations

import base64
import io
import json
import pickle
import shutil
from dataclasses import fields, replace
from pathlib import Path

import jsonschema
import nibabel as nib
import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import pytest
import SimpleITK as sitk  # noqa: N813, the usual name
from checks import assert_close_pose

import mireg
from mireg._contrast import Contrast, Histogram
from mireg._engine.residuals import LocalResiduals
from mireg._errors import InputError, MiregWarning
from mireg._files import formats, nifti
from mireg._files.records import schema
from mireg._image import Image
from mireg._picture import three_planes
from mireg._transform import RigidTransform
from mireg.cli import main
from mireg.phantom import phantom_pair

POSE = RigidTransform([0.15, -0.1, 0.2], [6, -4, 8])
OBLIQUE = np.array([[-2, 0.5, 0, 10], [0, 2, -0.7, -20], [0, 0, 3, -30], [0, 0, 0, 1]])
QUICK = mireg.Settings(samples=20_000)


@pytest.fixture(scope="module")
def pair():
    """Scan a head twice, a small turn apart."""
    return phantom_pair(
        "T1", "T2", pose=POSE, fixed_voxel_size_mm=5, moving_voxel_size_mm=5
    )


@pytest.fixture(scope="module")
def folder(pair, tmp_path_factory):
    """Put both scans into files."""
    path = tmp_path_factory.mktemp("scans")
    int16 = nib.Nifti1Image(np.zeros((1, 1, 1), np.int16), np.eye(4))
    nifti.write_image(path / "t1.nii.gz", pair.fixed, template=int16)
    nifti.write_image(path / "t2.nii.gz", pair.moving, template=int16)
    return path


@pytest.fixture(scope="module")
def found(folder):
    """Register the two files from their headers."""
    return mireg.register(
        folder / "t1.nii.gz", folder / "t2.nii.gz", init="header", settings=QUICK
    )


def same_bits(a, b):
    return a.moving_from_fixed.tobytes() == b.moving_from_fixed.tobytes()


# --- what stands for an image -------------------------------------------------


def test_every_kind_of_image_gives_one_answer(folder, found):
    paths = [str(folder / name) for name in ("t1.nii.gz", "t2.nii.gz")]
    opened = [nib.load(path) for path in paths]
    kinds = {
        "path": paths,
        "nibabel": opened,
        "array": [(np.asarray(scan.dataobj), scan.affine) for scan in opened],
        "Image": [mireg.read_image(path) for path in paths],
    }
    for name, (fixed, moving) in kinds.items():
        answer = mireg.register(fixed, moving, init="header", settings=QUICK)
        assert same_bits(answer, found), name
    # ITK keeps what the header says in other numbers.
    scans = [sitk.ReadImage(path) for path in paths]
    answer = mireg.register(*scans, init="header", settings=QUICK)
    assert_close_pose(answer.moving_from_fixed, found.moving_from_fixed, mm=0.05)


def test_masks_may_be_arrays(pair, found):
    everywhere = (np.ones((4, 4, 4), bool), np.diag([150.0, 150, 150, 1]))
    everywhere[1][:3, 3] = -225
    answer = mireg.register(
        pair.fixed,
        pair.moving,
        init="header",
        settings=QUICK,
        fixed_mask=everywhere,
        moving_mask=pair.moving,
    )
    assert_close_pose(answer.moving_from_fixed, found.moving_from_fixed, mm=1)
    nothing = (np.zeros((4, 4, 4), bool), np.eye(4))
    with pytest.raises(InputError, match="the mask is empty"):
        mireg.register(pair.fixed, pair.moving, fixed_mask=nothing)


def test_an_image_itself_is_not_copied(pair):
    assert formats.as_image(pair.fixed) is pair.fixed


@pytest.mark.parametrize("dtype", ["u1", ">i2", "i8", "f8"])
def test_an_array_keeps_its_place_and_values(dtype, rng):
    voxels = rng.integers(0, 99, (3, 4, 5)).astype(dtype)
    image = formats.as_image((voxels, OBLIQUE))
    np.testing.assert_array_equal(image.data, voxels)
    np.testing.assert_array_equal(image.mm_from_ijk, OBLIQUE)


def test_of_four_dimensions_the_mean_is_used(rng):
    series = rng.integers(0, 99, (3, 4, 5, 6)).astype(np.int16)
    with pytest.warns(MiregWarning, match="6 volumes; their mean is used"):
        image = formats.as_image((series, OBLIQUE))
    np.testing.assert_allclose(image.data, series.mean(axis=-1), rtol=1e-6)
    last = formats.as_image((series, OBLIQUE), 5)
    np.testing.assert_array_equal(last.data, series[..., 5])
    scan = sitk.GetImageFromArray(series.T, isVector=False)
    np.testing.assert_array_equal(formats.as_image(scan, 5).data, series[..., 5])


def test_a_simpleitk_image_lies_where_itk_says(rng):
    scan = sitk.GetImageFromArray(rng.random((5, 4, 3)))
    turn = sitk.Euler3DTransform((0, 0, 0), 0.3, -0.2, 0.9).GetMatrix()
    scan.SetDirection(turn)
    scan.SetSpacing((1.5, 2.0, 3.5))
    scan.SetOrigin((10.0, -20.0, 30.0))
    image = formats.as_image(scan)
    for ijk in [(0, 0, 0), (2, 1, 4), (1, 3, 2)]:
        x, y, z = scan.TransformIndexToPhysicalPoint(ijk)
        np.testing.assert_allclose(image.to_mm(ijk), [-x, -y, z])
        assert image.data[ijk] == np.float32(scan.GetPixel(*ijk))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (3, "cannot be made from int"),
        (np.zeros((3, 3, 3)), "cannot be made from ndarray"),
        ((np.zeros((3, 3, 3)), np.eye(3)), r"the affine has shape \(3, 3\)"),
        ((np.zeros((3, 3)), np.eye(4)), "a 2-D image"),
        ((np.zeros((3, 3, 3)), np.eye(4)), "the image is constant"),
        ((np.zeros((3, 3, 3), complex), np.eye(4)), "a complex image"),
        (sitk.Image([3, 3, 3], sitk.sitkVectorUInt8, 3), "several values a voxel"),
        (sitk.Image([3, 3], sitk.sitkUInt8), "a 2-D image"),
        ("gone.nii", "no such file"),
    ],
)
def test_what_stands_for_no_image(given, says):
    with pytest.raises(InputError, match=says):
        formats.as_image(given)


# --- what it gives ------------------------------------------------------------


def test_resampling_brings_moving_onto_the_grid_of_fixed(found, pair):
    moved = found.resample()
    assert moved.shape == pair.fixed.shape
    np.testing.assert_allclose(moved.mm_from_ijk, pair.fixed.mm_from_ijk, atol=1e-5)
    expected = mireg.resample(found.moving, found.fixed, found.moving_from_fixed)
    inside = ~np.isnan(expected.data)
    np.testing.assert_array_equal(moved.data[inside], expected.data[inside])
    assert (moved.data[~inside] == 0).all()
    assert (found.resample(fill=-5).data[~inside] == -5).all()


def test_it_saves_the_files_of_the_command_line(found, folder, tmp_path, capsys):
    scans = [str(folder / name) for name in ("t1.nii.gz", "t2.nii.gz")]
    argv = ["register", *scans, "--init", "header", "-o", str(tmp_path / "cli"), "-q"]
    formats_ = ["itk", "lta", "fsl"]
    assert main([*argv, "--transform-format", ",".join(formats_)]) == 0
    again = mireg.register(*scans, init="header")
    written = again.save(tmp_path / "lib", transform_formats=formats_)
    assert sorted(path.name for path in written) == sorted(
        path.name.replace("cli", "lib") for path in tmp_path.glob("cli*")
    )
    for path in written:
        twin = path.with_name(path.name.replace("lib", "cli"))
        if path.suffix == ".json":
            one, other = (json.loads(p.read_text()) for p in (path, twin))
            for record in (one, other):
                for stage in ("seconds", "options"):
                    del record[stage]
            assert one == other
        elif path.suffix != ".lta":  # which bears the date
            assert path.read_bytes() == twin.read_bytes(), path.name
    assert nib.load(tmp_path / "lib.nii.gz").get_data_dtype() == np.int16
    with pytest.raises(InputError, match="exists already"):
        found.save(tmp_path / "lib")
    assert found.save(tmp_path / "lib", force=True)
    assert capsys.readouterr().out == ""


def test_what_is_saved_and_resampled_is_as_asked_for(found, pair, tmp_path):
    how = mireg.Output(grid=9.0, dtype="float32", interpolation="lanczos")
    written = found.save(tmp_path / "x", output=how, inverse=True, residuals=True)
    names = ["x.json", "x.nii.gz", "x.tfm", "x_inverse.nii.gz", "x_residuals.nii.gz"]
    assert sorted(path.name for path in written) == names
    moved = nib.load(tmp_path / "x.nii.gz")
    assert moved.get_data_dtype() == np.float32
    again = found.resample(grid=9.0, interpolation="lanczos")
    np.testing.assert_array_equal(moved.get_fdata(), again.data)
    np.testing.assert_allclose(again.centre_mm, pair.fixed.centre_mm, atol=1e-4)
    back = formats.read_image(tmp_path / "x_inverse.nii.gz")
    np.testing.assert_allclose(back.centre_mm, pair.moving.centre_mm, atol=1e-4)
    with pytest.raises(InputError, match="the grid is 'other'"):
        found.resample(grid="other")


def test_arrays_are_saved_too(pair, tmp_path):
    found = mireg.register(
        (pair.fixed.data, pair.fixed.mm_from_ijk),
        (pair.moving.data.astype(np.int16), pair.moving.mm_from_ijk),
        init="header",
        settings=QUICK,
    )
    found.save(tmp_path / "x")
    assert nib.load(tmp_path / "x.nii.gz").get_data_dtype() == np.int16
    record = json.loads((tmp_path / "x.json").read_text())
    assert record["fixed"]["path"] is None
    assert record["fixed"]["shape"] == list(pair.fixed.shape)


def test_the_record_is_ready_for_json(found, folder):
    record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    np.testing.assert_array_equal(record["moving_from_fixed"], found.moving_from_fixed)
    assert record["moving"]["path"] == str(folder / "t2.nii.gz")
    assert record["moving"]["sha256"] == formats.sha256(folder / "t2.nii.gz")


def exactly(one, other):
    """Tell whether two values are the same to the last bit; NaN is NaN."""
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    if isinstance(one, LocalResiduals):
        return one.to_dict() == other.to_dict()
    if isinstance(one, RigidTransform | Contrast | Histogram):
        return all(
            exactly(getattr(one, part.name), getattr(other, part.name))
            for part in fields(one)
        )
    if isinstance(one, mireg.Verdict):
        return one.to_dict() == other.to_dict()
    return one == other or (one != one and other != other)  # noqa: PLR0124


def test_what_was_saved_is_loaded(found, tmp_path):
    spread = np.diag([1e-6, 2e-6, 3e-6, 0.1, 0.2, 1 / 3])
    spread[0, 5] = spread[5, 0] = -1e-4
    told = replace(
        found,
        initial_score=np.nan,
        runner_up=0.75,
        covariance=spread,
        converged=False,
        verdict=replace(found.verdict, probability=0.2, error_mm=np.nan),
        warnings=("one [a  b]", "two"),
        mireg_version="0.0.1",
    )
    for case in (told, found):
        case.save(tmp_path / "x", force=True)
        again = mireg.Registration.load(tmp_path / "x.json")
        for part in fields(case):
            one, other = getattr(case, part.name), getattr(again, part.name)
            if part.name in ("fixed", "moving"):
                assert exactly(one.data, other.data)
                assert exactly(one.mm_from_ijk, other.mm_from_ijk)
            else:
                assert exactly(one, other), part.name
        assert again.to_dict() == case.to_dict()
        assert repr(again) == repr(case)
        assert exactly(again.resample().data, case.resample().data)
    again.save(tmp_path / "y")
    one, other = (tmp_path / f"{name}.nii.gz" for name in "xy")
    assert one.read_bytes() == other.read_bytes()


def test_images_of_a_loaded_record_are_read_when_they_are_used(
    found, folder, tmp_path, monkeypatch
):
    """From anywhere; a moved folder is found beside the record."""
    for name in ("t1.nii.gz", "t2.nii.gz"):
        shutil.copy(folder / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    mireg.register("t1.nii.gz", "t2.nii.gz", init="header", settings=QUICK).save("x")
    monkeypatch.chdir("/")
    again = mireg.Registration.load(tmp_path / "x.json")
    np.testing.assert_array_equal(again.fixed.data, found.fixed.data)

    moved = tmp_path.rename(tmp_path.with_name("elsewhere"))
    again = mireg.Registration.load(moved / "x.json")
    np.testing.assert_array_equal(again.moving.data, found.moving.data)

    shutil.copy(moved / "t1.nii.gz", moved / "t2.nii.gz")
    (moved / "t1.nii.gz").unlink()
    again = mireg.Registration.load(moved / "x.json")
    record = json.loads((moved / "x.json").read_text())
    assert again.to_dict()["moving"] == record["moving"]
    assert same_bits(again, found)
    with pytest.raises(InputError, match=r"t1.nii.gz: the fixed image is no longer"):
        _ = again.fixed
    with pytest.raises(InputError, match=r"t2.nii.gz: the moving image has changed"):
        again.resample()


def test_arrays_cannot_be_loaded(pair, tmp_path):
    arrays = [(scan.data, scan.mm_from_ijk) for scan in (pair.fixed, pair.moving)]
    found = mireg.register(*arrays, init="header", settings=QUICK)
    found.save(tmp_path / "x")
    again = mireg.Registration.load(tmp_path / "x.json")
    assert again.to_dict() == found.to_dict()
    assert "from the fixed image to the moving image" in repr(again)
    with pytest.raises(InputError, match="the fixed image was not read from a file"):
        _ = again.fixed


def test_a_record_that_was_changed_is_refused(found, tmp_path):
    found.save(tmp_path / "x")
    path = tmp_path / "x.json"
    record = json.loads(path.read_text())
    for name, value, says in (
        ("moving_from_fixed", np.eye(4).tolist(), "moving_from_fixed is another"),
        ("settings", {**record["settings"], "bins": 3}, "bins is 3"),
        ("covariance", np.triu(np.ones((6, 6))).tolist(), "must be symmetric"),
    ):
        path.write_text(json.dumps({**record, name: value}))
        with pytest.raises(InputError, match=says) as caught:
            mireg.Registration.load(path)
        assert str(caught.value).startswith(f"{path}: ")


def test_records_are_as_their_schema_says(found, folder, tmp_path, monkeypatch):
    """Each field is described, and each that is described is written somewhere."""
    for old, new in (("t1", "sub-01_T1w"), ("t2", "sub-01_T2w")):
        shutil.copy(folder / f"{old}.nii.gz", tmp_path / f"{new}.nii.gz")
    monkeypatch.chdir(tmp_path)
    argv = ["register", "sub-01_T1w.nii.gz", "sub-01_T2w.nii.gz", "--init", "header"]
    assert main([*argv, "-q", "--output-grid", "isotropic", "9", "--fill", "-5"]) == 0
    (path,) = (p for p in tmp_path.glob("*xfm.json"))
    by_command = json.loads(path.read_text())
    found.save("x")
    by_library = json.loads((tmp_path / "x.json").read_text())
    rule = schema()
    for record in (by_command, by_library, found.to_dict()):
        jsonschema.Draft202012Validator(rule).validate(record)

    def agree(inner, record):
        inner = {**rule["$defs"].get(inner.get("$ref", "/")[8:], {}), **inner}
        if "properties" in inner:
            assert set(inner["properties"]) == set(record)
            for name in record:
                agree(inner["properties"][name], record[name])

    agree(rule, by_command)
    assert mireg.Registration.load(path).to_dict()["fixed"] == by_command["fixed"]


def test_one_line_says_what_was_found(found):
    said = repr(found)
    assert len(said.splitlines()) == 1
    assert said.startswith("<Registration from t1.nii.gz to t2.nii.gz: rotation ")
    assert f"{found.transform.angle_deg:.2f} degrees" in said
    assert f"moved {found.mean_displacement_mm:.2f} mm" in said
    assert f"nmi {found.score:.4f} (before: {found.initial_score:.4f})" in said
    assert said.endswith(f", {found.verdict.summary}>")
    assert not found.doubtful
    found.raise_if_doubtful()
    doubtful = replace(found, verdict=replace(found.verdict, probability=0.12))
    assert ", doubtful, 12 % likely right within " in repr(doubtful)
    assert doubtful.doubtful
    with pytest.raises(mireg.DoubtfulError, match="12 % likely right"):
        doubtful.raise_if_doubtful()
    lost = replace(found, initial_score=np.nan, standard_error_mm=np.nan)
    assert lost.score_summary.endswith("(before: no overlap)")
    assert lost.noise_summary == "error expected from noise: unknown"
    known = replace(found, standard_error_mm=0.02612)
    assert known.noise_summary == "error expected from noise: 0.026 mm"


def test_a_covariance_has_six_rows(found):
    for wrong in (np.eye(5), np.full((6, 6), np.nan)):
        with pytest.raises(InputError, match=r"finite matrix of shape \(6, 6\)"):
            replace(found, covariance=wrong)


def test_a_registration_can_be_pickled(found, tmp_path):
    found.save(tmp_path / "x")
    for case in (found, mireg.Registration.load(tmp_path / "x.json")):
        again = pickle.loads(pickle.dumps(case))
        assert again.to_dict() == case.to_dict()
        np.testing.assert_array_equal(again.fixed.data, found.fixed.data)


def test_simpleitk_uses_what_was_found(found, folder, tmp_path):
    """The line of the README: resampling by SimpleITK gives what mireg gives."""
    found.save(tmp_path / "t2_to_t1")
    t1, t2 = (sitk.ReadImage(str(folder / f"{name}.nii.gz")) for name in ("t1", "t2"))
    t2 = sitk.Cast(t2, sitk.sitkFloat32)
    moved = sitk.Resample(t2, t1, sitk.ReadTransform(str(tmp_path / "t2_to_t1.tfm")))
    theirs = sitk.GetArrayFromImage(moved).T
    ours = found.resample().data
    inside = (theirs != 0) & (ours != 0)
    assert inside.mean() > 0.2
    np.testing.assert_allclose(ours[inside], theirs[inside], atol=0.05)


def test_what_is_resampled_is_a_nibabel_image_in_a_line(found, folder):
    """The line of the README: nilearn takes nibabel images."""
    moved = found.resample()
    image = nib.Nifti1Image(moved.data, moved.mm_from_ijk)
    fixed = nib.load(Path(folder) / "t1.nii.gz")
    assert image.shape == fixed.shape
    np.testing.assert_allclose(image.affine, fixed.affine, atol=1e-5)


# --- in a notebook ------------------------------------------------------------


def shown(found):
    """Take the picture out of what a notebook shows."""
    html = found._repr_html_()
    start = html.index("base64,") + len("base64,")
    png = base64.b64decode(html[start : html.index('"', start)])
    return np.asarray(PIL.Image.open(io.BytesIO(png))), html


def test_a_notebook_shows_both_images_and_what_is_odd(found):
    pixels, html = shown(replace(found, warnings=("1 < 2",)))
    assert pixels.ndim == 3
    assert pixels.shape[0] == 221
    assert f"{found.transform.angle_deg:.2f} degrees" in html
    assert "<td>1 &lt; 2</td>" in html
    # Both are there: grey voxels, and orange edges.
    spread = pixels.max(axis=2).astype(int) - pixels.min(axis=2)
    assert ((spread < 50) & (pixels[..., 0] > 100)).mean() > 0.02
    assert (spread > 100).mean() > 0.02


def test_planes_are_where_and_how_they_say():
    """A bright corner at the right, front and top is at the right and at the top."""
    voxels = np.zeros((20, 20, 20), np.float32)
    voxels[10:, 10:, 10:] = 1
    flat = Image(np.zeros((2, 2, 2)), np.eye(4))
    for flip in ([1, 1, 1], [-1, 1, 1], [-1, -1, 1]):
        mm_from_ijk = np.diag([*flip, 1.0])
        mm_from_ijk[:3, 3] = [0 if f > 0 else 19 for f in flip]
        data = voxels[:: flip[0], :: flip[1], :: flip[2]]
        png = three_planes(Image(data, mm_from_ijk), flat, np.eye(4), [15, 15, 15])
        pixels = np.asarray(PIL.Image.open(io.BytesIO(png)))[..., 0]
        panels = np.split(pixels, 3, axis=1)
        for panel in panels:
            h, w = panel.shape
            assert panel[h // 4, 3 * w // 4] == 255
            for dark in (panel[h // 4, w // 4], panel[3 * h // 4, 3 * w // 4]):
                assert dark == 0


def test_the_planes_say_which_way_they_lie_and_where():
    """Each letter is the one of the font, at its own border; an L is no R."""
    grid = np.diag([2.0, 2, 2, 1])
    grid[:3, 3] = [-40, -50, -60]
    dark = Image(np.zeros((60, 60, 60)), grid)
    png = three_planes(dark, dark, np.eye(4), [-12, 31, 7])
    pixels = np.asarray(PIL.Image.open(io.BytesIO(png))).astype(int)
    yellow = (pixels[..., 0] > 200) & (pixels[..., 2] < 100)
    for panel, (left, right, bottom, top), where in zip(
        np.split(yellow, 3, axis=1),
        ("PAIS", "LRIS", "LRPA"),
        ("L 12 mm", "A 31 mm", "S 7 mm"),
        strict=True,
    ):
        h, w = panel.shape
        for letter, part in (
            (left, panel[h // 3 : 2 * h // 3, : w // 3]),
            (right, panel[h // 3 : 2 * h // 3, -w // 3 :]),
            (top, panel[: h // 3, w // 3 : 2 * w // 3]),
            (bottom, panel[-h // 3 :, w // 3 + 5 : 2 * w // 3]),
        ):
            assert np.array_equal(
                trimmed(part), np.kron(drawn(letter), np.ones((2, 2)))
            )
        assert np.array_equal(trimmed(panel[-h // 4 :, : w // 3]), drawn(where))
    assert not np.array_equal(drawn("I"), np.ones_like(drawn("I")))  # no bar


def test_planes_of_a_thin_slab_have_room_for_their_letters():
    slab = Image(np.zeros((4, 60, 60)), np.eye(4))
    png = three_planes(slab, slab, np.eye(4))
    pixels = np.asarray(PIL.Image.open(io.BytesIO(png))).astype(int)
    yellow = (pixels[..., 0] > 200) & (pixels[..., 2] < 100)
    # The third, 70 pixels: beside each other, none over another.
    row = yellow[100:120, -70:]
    for letter, part in (("L", row[:, :35]), ("R", row[:, 35:])):
        assert np.array_equal(trimmed(part), np.kron(drawn(letter), np.ones((2, 2))))


def drawn(words):
    """Draw words in the font, as truth values."""
    font = PIL.ImageFont.load_default_imagefont()
    picture = PIL.Image.new("L", (100, 30))
    PIL.ImageDraw.Draw(picture).text((5, 5), words, 255, font)
    return trimmed(np.asarray(picture) > 0)


def trimmed(mask):
    """Leave out what is empty around."""
    rows, columns = np.nonzero(mask)
    return mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def test_edges_of_the_moving_image_lie_where_it_is_brought():
    ball = np.zeros((30, 30, 30), np.float32)
    ball[10:20, 10:20, 10:20] = 1
    dark = Image(np.zeros((30, 30, 30)), np.eye(4))
    seven_mm = np.eye(4)
    seven_mm[:3, 3] = -7
    png = three_planes(
        dark, Image(ball, np.eye(4)), seven_mm, [21, 21, 21], letters=False
    )
    pixels = np.asarray(PIL.Image.open(io.BytesIO(png)))[..., 0]
    step = 29 / 220
    for panel in np.split(pixels, 3, axis=1):
        rows, columns = np.nonzero(panel)
        across, up = (columns - 2) * step, (220 - rows) * step
        for found in (across, up):
            assert found.min() == pytest.approx(16.5, abs=1)
            assert found.max() == pytest.approx(26.5, abs=1)


# --- logging ------------------------------------------------------------------


def test_the_logger_is_told_stages_and_candidates(pair, found, caplog):
    with caplog.at_level("INFO", logger="mireg"):
        mireg.register(pair.fixed, pair.moving, init="header", settings=QUICK)
    said = [record.getMessage() for record in caplog.records]
    assert [line.partition(":")[0] for line in said if line.endswith(" s")] == list(
        found.seconds
    )
    (heading,) = (i for i, line in enumerate(said) if line.startswith("candidate"))
    words = said[heading + 1].split()  # the one start that was asked for
    assert (words[0], words[3:]) == ("1", ["0.00"] * 4)


def test_the_logger_keeps_silent_unless_asked(pair, caplog):
    mireg.register(pair.fixed, pair.moving, init="header", settings=QUICK)
    assert caplog.records == []
