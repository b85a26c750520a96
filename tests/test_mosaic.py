"""The mosaic: what is seen lies where it is, and left is left."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import PIL.Image
import pytest
from checks import GRIDS, ball, shifted

import mireg
from mireg import Image, RigidTransform
from mireg._picture import planes
from mireg._report import mosaic
from mireg.cli import main, terminal

pytest.importorskip("matplotlib")

EYE = np.eye(4)
#: A head of 60 mm at the origin: the brain is brighter to the right, front and top.
RADIUS = 30.0


def head(affine=None, shape=(36, 34, 32), offset=(0, 0, 0)) -> Image:
    """Return a head in three shades, centred at `offset` mm, on any grid.

    In it is a bright ball of 11 mm at 12 mm to the right, 9 to the front, 6 up.
    """
    affine = np.diag([2.2, 2.2, 2.2, 1.0]) if affine is None else np.array(affine)
    centre = nib.affines.apply_affine(affine, (np.array(shape) - 1) / 2)
    affine[:3, 3] -= centre
    points = nib.affines.apply_affine(affine, np.indices(shape).reshape(3, -1).T)
    points = points - offset
    values = 100.0 * (np.linalg.norm(points, axis=1) < RADIUS)
    values[np.linalg.norm(points - [12, 9, 6], axis=1) < 11] = 300
    return Image(values.reshape(shape).astype(np.float32), affine)


def shown(panel):
    """Give the grey pixels of a panel, and where their centres are, mm."""
    (picture,) = panel.images
    left, right, bottom, top = picture.get_extent()
    pixels = np.asarray(picture.get_array())
    rows, columns = pixels.shape
    x = left + (right - left) * (np.arange(columns) + 0.5) / columns
    y = bottom + (top - bottom) * (np.arange(rows) + 0.5) / rows
    return pixels, x, y


def brightest(panel):
    """Say where the middle of the brightest part of a panel is, mm."""
    pixels, x, y = shown(panel)
    rows, columns = np.nonzero(pixels > 0.95)
    return np.array([x[columns].mean(), y[rows].mean()])


def outline(panel):
    """Give the points of the widest contour in a panel, mm."""
    (lines,) = panel.collections
    return max((path.vertices for path in lines.get_paths()), key=np.ptp)


@pytest.mark.parametrize("grid", GRIDS)
def test_left_is_left_on_any_grid(grid):
    shape = (60, 60, 60) if grid != "straight" else (50, 50, 50)
    both = mosaic.show(head(GRIDS[grid], shape), head(GRIDS[grid], shape), slices=3)
    axes = both.axes
    assert len(axes) == 3 * 2 * 3
    for row, expected in ((0, [9, 6]), (6, [12, 6]), (12, [12, 9])):
        panels = axes[row : row + 3]
        where = max(panels, key=lambda panel: (shown(panel)[0] > 0.95).sum())
        assert brightest(where) == pytest.approx(expected, abs=2.5)
    # Matplotlib draws them that way round, too.
    for panel in axes:
        assert panel.get_xlim()[0] < panel.get_xlim()[1]
        assert panel.get_ylim()[0] < panel.get_ylim()[1]


def test_the_file_has_the_marked_voxel_on_the_right_and_above():
    """Look at the pixels that were written, not at what matplotlib was told."""
    dark = Image(np.where(ball((30, 30, 30)), 2, 1), head().mm_from_ijk)
    figure = mosaic.show(head(), dark, slices=1)
    for text in (text for panel in figure.axes for text in panel.texts):
        text.set_visible(False)
    seen = 0
    pixels = PIL.Image.open(io.BytesIO(mosaic.picture(figure, "x.png"))).convert("RGB")
    pixels = np.asarray(pixels).astype(int)
    rows, columns = pixels.shape[:2]
    for panel in figure.axes[::2]:
        box = panel.get_position()
        bottom, top = (round(rows * (1 - y)) for y in (box.y0, box.y1))
        left, right = (round(columns * x) for x in (box.x0, box.x1))
        inside = pixels[top:bottom, left:right]
        inside = inside[5:-5, 5:-5].min(axis=2)
        height, width = inside.shape
        halves = {
            "right": inside[:, width // 2 :],
            "left": inside[:, : width // 2],
            "above": inside[: height // 2],
            "below": inside[height // 2 :],
        }
        bright = {name: (half > 250).sum() for name, half in halves.items()}
        if bright["right"] + bright["left"] == 0:
            continue  # this slice misses the ball
        seen += 1
        assert bright["right"] > 10 * bright["left"]
        assert bright["above"] > 3 * bright["below"]
    assert seen >= 2


def test_proportions_are_true_for_thick_slices():
    thick = head(np.diag([1.5, 1.5, 7.0, 1]), (48, 48, 11))
    figure = mosaic.show(thick, thick, slices=3)
    width, height = figure.get_size_inches()
    for panel in figure.axes:
        box = panel.get_position()
        (left, right), (bottom, top) = panel.get_xlim(), panel.get_ylim()
        across = box.width * width / (right - left)
        up = box.height * height / (top - bottom)
        assert across == pytest.approx(up, rel=1e-6)
    scales = {
        round(p.get_position().width / np.ptp(p.get_xlim()), 9) for p in figure.axes
    }
    assert len(scales) == 1  # one bar serves all


def test_contours_lie_on_the_edge_of_what_they_are_of():
    at = RigidTransform([0, 0, 0], [8, -5, 3])
    moving = head(offset=(8, -5, 3))
    figure = mosaic.show(head(), moving, at, slices=3)
    assert len(figure.axes) == 3 * 3 * 3
    for plane, (x, y) in enumerate([(-5, 3), (8, 3), (8, -5)]):
        before, after, other = (figure.axes[9 * plane + 3 * i + 1] for i in range(3))
        for panel, centre in ((before, [x, y]), (after, [0, 0]), (other, [0, 0])):
            # The middle slice passes the centre by 8 mm at most.
            radii = np.linalg.norm(outline(panel) - centre, axis=1)
            assert radii == pytest.approx(np.full(len(radii), RADIUS - 0.5), abs=1.7)
        # After, the grey image is the moving one where it is brought.
        pixels, across, up = shown(other)
        rows, columns = np.nonzero(pixels > 0.1)
        assert across[columns].mean() == pytest.approx(0, abs=1.5)
        assert up[rows].mean() == pytest.approx(0, abs=1.5)


def test_the_brightest_of_the_anatomy_is_not_all_white():
    """A ramp over the head keeps its shades, however much air is around it."""
    ramp = head().data * (1 + np.linspace(0, 1, 36)[:, None, None])
    image = Image(np.pad(ramp, 20), head().mm_from_ijk)
    figure = mosaic.show(image, image, slices=1)
    for panel in figure.axes[2:]:
        pixels, _, _ = shown(panel)
        assert pixels.max() > 0.8
        assert (pixels >= 1).sum() < 0.01 * (pixels > 0.05).sum()


def test_slices_lie_where_both_are():
    """Of a slab that covers the top, no slice is drawn where it is not."""
    slab = Image(head().data[:, :, 20:], head().mm_from_ijk @ shift_k(20))
    cut = mosaic._cut((mireg.prepare(head()), mireg.prepare(slab)), EYE, 5)
    axial = [plane for plane in cut if plane.name == "axial"]
    assert min(plane.position_mm for plane in axial) > 8
    assert [plane.axis for plane in cut[::5]] == [0, 1, 2]
    # Without anything in common they are those of the fixed image.
    far = mosaic._cut((mireg.prepare(head()), mireg.prepare(head())), shifted(500), 5)
    assert far[2].position_mm == pytest.approx(0, abs=2)


def test_what_only_one_of_them_has_is_not_shown():
    """A slab leaves out the lower half of the head, but for a rim."""
    slab = Image(head().data[:, :, 20:], head().mm_from_ijk @ shift_k(20))
    cut = mosaic._cut((mireg.prepare(head()), mireg.prepare(slab)), EYE, 3)
    begins = slab.mm_from_ijk[2, 3]
    assert begins > 5
    sagittal, coronal, axial = cut[1], cut[4], cut[7]
    for plane in (sagittal, coronal):
        _, _, bottom, top = plane.extent_mm
        assert begins - 6 < bottom < begins + 1
        assert top == pytest.approx(RADIUS + 3, abs=3)
    left, right, back, front = axial.extent_mm
    assert (left, back) == pytest.approx((-right, -front), abs=1)
    # Where next to nothing is common, the whole head is shown.
    corner = mosaic._cut((mireg.prepare(head()), mireg.prepare(head())), shifted(66), 3)
    left, right, _, _ = corner[7].extent_mm
    assert right - left > 1.9 * RADIUS


NOSE_MM = 45.0


def with_nose(*, specks=False, table=False, pieces=False) -> Image:
    """Return a head with a nose to 45 mm in front, on 60 voxels of 2.2 mm a side.

    The nose holds one in 200 voxels, what is far away many more.
    """
    affine = np.diag([2.2, 2.2, 2.2, 1.0])
    affine[:3, 3] = -2.2 * 29.5
    x, y, z = nib.affines.apply_affine(affine, np.indices((60,) * 3).reshape(3, -1).T).T
    values = 100.0 * (x**2 + y**2 + z**2 < RADIUS**2)
    values[(np.hypot(x, z) < 3.5) & (y > 0) & (y < NOSE_MM)] = 100
    if specks:
        values[np.random.default_rng(0).random(len(values)) < 0.02] = 100
    if table:
        values[(y < -52) & (y > -58) & (abs(x) < 50) & (abs(z) < 30)] = 60
    if pieces:  # as vessels, of which the largest is a small part
        values *= (np.sin(x / 2.5) > 0) & (np.sin(y / 2.5) > 0) & (np.sin(z / 2.5) > 0)
    return Image(values.reshape(60, 60, 60).astype(np.float32), affine)


@pytest.mark.parametrize("beside", [{}, {"specks": True}, {"table": True}])
def test_the_tip_of_a_nose_is_shown_and_no_table_or_speck_far_away(beside):
    image = with_nose(**beside)
    cut = mosaic._cut((mireg.prepare(image), mireg.prepare(with_nose())), EYE, 3)
    back, front, bottom, top = cut[1].extent_mm  # sagittal
    assert front > NOSE_MM
    assert front < NOSE_MM + 9
    assert -RADIUS - 10 < back < -RADIUS
    assert top == pytest.approx(-bottom, abs=4)
    assert top < RADIUS + 9
    # No slice is spent on the nose alone.
    assert max(plane.position_mm for plane in cut[3:6]) < RADIUS


def test_what_is_all_in_pieces_is_shown_as_a_whole():
    image = with_nose(pieces=True)
    cut = mosaic._cut((mireg.prepare(image), mireg.prepare(image)), EYE, 3)
    back, front, _, _ = cut[1].extent_mm
    assert (back, front) == pytest.approx((-RADIUS, RADIUS), abs=9)


def shift_k(n):
    """Voxels of a slab that begins at slice n."""
    matrix = np.eye(4)
    matrix[2, 3] = n
    return matrix


def test_planes_of_oblique_grids_are_those_of_the_world(rng):
    affine = GRIDS["oblique"]
    image = Image(rng.random((20, 18, 16)), affine)
    low, high = image.centre_mm - 8, image.centre_mm + 8
    for plane in planes([(image, EYE)], low, high, image.centre_mm[:, None], 2.0):
        n, m = plane.pixels[0].shape
        i, j = n // 3, m // 2
        point = np.zeros(3)
        others = [axis for axis in range(3) if axis != plane.axis]
        point[others] = plane.low_mm + 2.0 * np.array([i, j])
        point[plane.axis] = plane.position_mm
        expected = mireg.resample(
            image, Image(np.zeros((1, 1, 1)), at_point(point)), EYE, antialias=False
        )
        smoothed = plane.pixels[0][i, j]
        assert smoothed == pytest.approx(expected.data[0, 0, 0], abs=0.35)


def at_point(point):
    """Make a grid of one voxel there."""
    matrix = np.eye(4)
    matrix[:3, 3] = point
    return matrix


def test_letters_names_and_a_bar_are_there():
    figure = mosaic.show(head(), head(), EYE, slices=2)
    words = [text.get_text() for panel in figure.axes for text in panel.texts]
    assert {"L", "R", "A", "P", "S", "I", "before", "after"} <= set(words)
    assert any(word.endswith(" mm") for word in words)
    ends = {text.get_text(): text.get_position() for text in figure.axes[0].texts}
    assert ends["P"][0] < ends["A"][0]
    assert ends["I"][1] < ends["S"][1]
    axial = {text.get_text(): text.get_position() for text in figure.axes[12].texts}
    assert axial["L"][0] < axial["R"][0]
    assert axial["P"][1] < axial["A"][1]


def test_letters_have_serifs_and_positions_can_be_read_on_anything():
    """A bare I is a bar; a position stands over contours, on a ground of its own."""
    figure = mosaic.show(head(), head(), EYE, slices=2)
    texts = [text for panel in figure.axes for text in panel.texts]
    letters = [text for text in texts if text.get_text() in set("LRAPSI")]
    positions = [text for text in texts if text.get_text()[1:2] == " "]
    assert len(letters) == 3 * 3 * 4
    assert len(positions) == 3 * 2
    for text in letters + positions:
        assert has_serifs(text.get_fontproperties())
    for text in positions:
        ground = text.get_bbox_patch()
        assert ground.get_facecolor()[:3] == (0, 0, 0)
        assert ground.get_facecolor()[3] >= 0.6
        lines = text.axes.collections + text.axes.images
        assert all(text.get_zorder() > one.get_zorder() for one in lines)


def has_serifs(font):
    """Tell whether an I fills much less than the box around it."""
    from matplotlib.textpath import TextPath  # noqa: PLC0415, an extra

    (outline,) = TextPath((0, 0), "I", size=100, prop=font).to_polygons()
    x, y = outline.T
    area = abs(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) / 2
    return area < 0.7 * np.ptp(x) * np.ptp(y)


def test_names_of_files_are_text_and_nothing_else(tmp_path):
    odd = tmp_path / "$\\frac{x$ <b>.nii"
    nib.save(head().to_nibabel(), odd)
    figure = mosaic.show(odd, head(), slices=1)
    svg = mosaic.picture(figure, "x.svg")
    assert svg.lstrip().startswith(b"<?xml")


@pytest.mark.parametrize(
    "flat",
    [np.where(ball() > 0, 5, 5.5), ball(), np.float32(ball((9, 9, 1)))],
    ids=["washed out", "binary", "one slice"],
)
def test_poor_images_are_drawn_too(flat):
    if flat.shape[2] == 1:
        flat[3:6, 3:6] = 1
    image = Image(flat, np.diag([2.0, 2, 2, 1]))
    assert mosaic.show(image, image, slices=2).axes


def test_what_cannot_be_drawn_is_refused(monkeypatch):
    with pytest.raises(mireg.InputError, match="slices is 0"):
        mosaic.show(head(), head(), slices=0)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(mireg.InputError, match="pip install matplotlib"):
        mosaic.show(head(), head())


# --- the commands -------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Write two heads 4 mm apart, and the transform, into the current folder."""
    monkeypatch.chdir(tmp_path)
    nib.save(head().to_nibabel(), "fixed.nii.gz")
    nib.save(head(offset=(4, 0, 0)).to_nibabel(), "moving.nii.gz")
    mireg.write_transform("t.tfm", shifted(4))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "start"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.PDF", b"%PDF")]
)
@pytest.mark.usefixtures("folder")
def test_show_writes_a_picture(name, start, capsys):
    scans = ["show", "fixed.nii.gz", "moving.nii.gz", "--slices", "1"]
    assert main([*scans, "-t", "t.tfm", "-o", name]) == 0
    assert capsys.readouterr().out == f"wrote {name}\n"
    assert Path(name).read_bytes().startswith(start)
    assert main([*scans, "-o", name]) == 2
    assert "give --force" in capsys.readouterr().err
    assert main([*scans, "-o", name, "--force", "-q"]) == 0
    assert capsys.readouterr().out == ""


def test_show_without_a_name_says_where_it_is(folder, capsys):
    assert main(["show", "fixed.nii.gz", "moving.nii.gz", "--slices", "1"]) == 0
    assert capsys.readouterr().out == "wrote moving_on_fixed.png\n"
    assert (folder / "moving_on_fixed.png").exists()


def test_show_draws_in_a_terminal_that_can(folder, capsys, monkeypatch):
    monkeypatch.setattr(terminal, "graphics", lambda: "kitty")
    scans = ["show", "fixed.nii.gz", "moving.nii.gz", "--slices", "1"]
    assert main(scans) == 0
    assert capsys.readouterr().out.startswith("\x1b_Ga=T,f=100,")
    assert not list(folder.glob("*.png"))
    assert main([*scans, "-o", "a.png"]) == 0  # a name is a wish for a file
    assert capsys.readouterr().out == "wrote a.png\n"


def test_show_refuses_in_a_line(folder, capsys, monkeypatch):
    scans = ["show", "fixed.nii.gz", "moving.nii.gz"]
    for said, more in {
        "must end in": ["-o", "a.gif"],
        "no such file": ["-t", "none.tfm"],
        "no such folder": ["-o", "none/a.png"],
    }.items():
        assert main([*scans, *more]) == 2
        err = capsys.readouterr().err
        assert said in err
        assert err.count("\n") == 1
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(scans) == 2
    assert "pip install matplotlib" in capsys.readouterr().err
    assert not list(folder.glob("*.png"))


def test_register_draws_what_it_found(folder, capsys):
    words = ["register", "fixed.nii.gz", "moving.nii.gz", "-o", "out", "--init"]
    words += ["header", "--picture", "out.png"]
    assert main([*words[:-1], "out.gif"]) == 2
    assert (
        "--picture out.gif: the name of a picture must end in"
        in capsys.readouterr().err
    )
    assert main(words) == 0
    assert "out.png" in capsys.readouterr().out
    assert (folder / "out.png").read_bytes().startswith(b"\x89PNG")
    (folder / "out.nii.gz").unlink()
    (folder / "out.tfm").unlink()
    (folder / "out.json").unlink()
    assert main(words) == 2  # all or none
    assert "out.png: exists already" in capsys.readouterr().err
    assert not (folder / "out.tfm").exists()


def test_a_registration_shows_itself(folder):
    found = mireg.register(
        folder / "fixed.nii.gz", folder / "moving.nii.gz", init="header"
    )
    figure = found.show(slices=2)
    assert len(figure.axes) == 3 * 3 * 2
    words = [text.get_text() for text in figure.texts]
    assert any("moving.nii.gz on fixed.nii.gz" in word for word in words)
