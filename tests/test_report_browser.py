"""The page on a pair in a real browser: what it shows, against the images."""

from __future__ import annotations

import base64
import json
import re

import numpy as np
import pytest
from checks import GRIDS
from scipy import ndimage

import mireg
from mireg._image import Image
from mireg._prepare import prepare
from mireg._report import page as pages
from mireg._transform import RigidTransform

pytestmark = [pytest.mark.slow, pytest.mark.browser]

POSE = RigidTransform([0.1, -0.05, 0.15], [3, -2, 4])
#: Patient's left, front and top, seen from the middle: shows which way pictures lie.
MARK_MM = np.array([-13.0, 11.0, 7.0])
RAS, LAS, LPS = (
    np.diag([*signs, 1.0]) for signs in ([2, 2, 2], [-2, 2, 2], [-2, -2, 2])
)
THICK = np.diag([1.5, 1.5, 6, 1])
LIE = {
    "RAS": RAS,
    "LAS": LAS,
    "LPS": LPS,
    "thick": THICK,
    "oblique": GRIDS["oblique"],
    "sheared": GRIDS["sheared"],
}
EVIL = "<img src=x onerror='window.hacked=1'>"


def centred(mm_from_ijk, shape):
    """Move a grid so that its middle is at the origin of the world."""
    out = mm_from_ijk.copy()
    out[:3, 3] = -out[:3, :3] @ ((np.array(shape) - 1) / 2)
    return out


def anatomy(points):
    """Intensities of something without any symmetry, at points (n, 3), RAS+ mm."""
    x, y, z = points.T
    head = 1 / (1 + np.exp((x**2 / 700 + y**2 / 850 + z**2 / 650 - 1) * 12))
    inner = np.sin(x / 7.1) * np.cos(y / 8.3 + 0.4) * np.sin(z / 7.7 + 0.9)
    mark = 2.5 * np.exp(-((points - MARK_MM) ** 2).sum(axis=1) / 25)
    return 100 * head * (1.2 + 0.6 * inner) + 100 * mark


def negative(points):
    """Show the same in another contrast, the mark not so bright."""
    values = anatomy(points)
    return np.where(values > 60, 420 - 0.7 * values, values / 3)


def scan(mm_from_ijk, shape, values_at, pose=None):
    grid = centred(mm_from_ijk, shape)
    points = np.indices(shape).reshape(3, -1).T @ grid[:3, :3].T + grid[:3, 3]
    if pose is not None:
        points = (~pose).apply(points)
    return Image(values_at(points).reshape(shape).astype("f4"), grid)


SHAPE = (36, 36, 32)


@pytest.fixture(scope="module")
def pair():
    """Two contrasts of one thing, a small turn apart."""
    return scan(RAS, SHAPE, anatomy), scan(LAS, (30, 34, 33), negative, POSE)


@pytest.fixture(scope="module")
def file(pair, tmp_path_factory):
    """Write the page, with residuals and names that would be markup."""
    data = pages.page_data(
        *pair,
        POSE,
        residuals={
            "centres_mm": [[0, 0, 0], [5, 5, 5]],
            "shifts_mm": [[2, 0, 0], [np.nan] * 3],
            "standard_errors_mm": [0.1, np.nan],
        },
    )
    data["title"] = EVIL
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(pages.page(data))
    return path


class Shown:
    """A page in the browser, and what it was asked for and complained of."""

    def __init__(self, browser, path, **options):
        usual = {"reduced_motion": "reduce", "viewport": {"width": 1100, "height": 900}}
        self.context = browser.new_context(offline=True, **{**usual, **options})
        self.page = self.context.new_page()
        self.requests, self.complaints = [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-ready=yes]")
        content = self.page.text_content("#data")
        self.viewer = json.loads(content)["viewer"]
        self.settle()

    def settle(self):
        """Wait until all is drawn."""
        self.page.evaluate(
            "() => new Promise(done => requestAnimationFrame(() => "
            "requestAnimationFrame(done)))"
        )

    def press(self, *keys):
        """Press keys, one by one."""
        for key in keys:
            self.page.keyboard.press(key)
        self.settle()

    def set(self, name, value):
        """Move a slider."""
        self.page.evaluate(
            "([id, value]) => { const slider = document.getElementById(id); "
            "slider.value = value; slider.dispatchEvent(new Event('input')); }",
            [name, value],
        )
        self.settle()

    def pixels(self, name="axial"):
        """Colours of a plane's canvas, (rows, columns, 3)."""
        width, height, values = self.page.evaluate(
            "name => { const c = document.getElementById(name); const d = "
            "c.getContext('2d').getImageData(0, 0, c.width, c.height).data; "
            "return [c.width, c.height, btoa(Array.from(d, x => "
            "String.fromCharCode(x)).join(''))]; }",
            name,
        )
        flat = np.frombuffer(base64.b64decode(values), np.uint8)
        return flat.reshape(height, width, 4)[:, :, :3].astype(float)

    def at_voxels(self, name="axial", *, mirrored=False):
        """Colours at the centre of each voxel of a plane: (right, up, 3)."""
        u, v = {"axial": (0, 1), "coronal": (0, 2), "sagittal": (1, 2)}[name]
        wide, high = self.viewer["shape"][u], self.viewer["shape"][v]
        pixels = self.pixels(name)
        columns = ((np.arange(wide) + 0.5) / wide * pixels.shape[1]).astype(int)
        rows = ((high - 0.5 - np.arange(high)) / high * pixels.shape[0]).astype(int)
        seen = pixels[rows][:, columns].swapaxes(0, 1)
        return seen[::-1] if mirrored else seen

    def place(self):
        """Cross-hair in RAS+ mm, as the page tells it."""
        words = self.page.inner_text("#place")
        return np.array(re.search(r"RAS ([-\d. ]+)\)", words).group(1).split(), float)

    def click(self, name, column, row):
        """Click on a pixel of a canvas."""
        box = self.page.locator(f"#{name}").bounding_box()
        self.page.mouse.click(box["x"] + float(column), box["y"] + float(row))
        self.settle()


@pytest.fixture(scope="module")
def opened(chromium, file):
    """Open the page once."""
    return Shown(chromium, file)


@pytest.fixture
def shown(opened):
    """Bring the page back to how it starts, without the cross-hair."""
    opened.page.set_viewport_size({"width": 1100, "height": 900})
    opened.press("0", "x")
    opened.page.evaluate("document.activeElement?.blur()")
    return opened


def expected(shown, image, pose=None, name="axial"):
    """Grey of an image in a plane, read by scipy from the voxels; NaN where it ends."""
    viewer = shown.viewer
    u, v = {"axial": (0, 1), "coronal": (0, 2), "sagittal": (1, 2)}[name]
    w = 3 - u - v
    index = np.rint((shown.place() - viewer["origin_mm"]) / viewer["step_mm"])
    ijk = np.zeros((viewer["shape"][u], viewer["shape"][v], 3))
    ijk[..., u] = np.arange(viewer["shape"][u])[:, None]
    ijk[..., v] = np.arange(viewer["shape"][v])
    ijk[..., w] = index[w]
    points = ijk * viewer["step_mm"] + viewer["origin_mm"]
    there = image.to_ijk(points if pose is None else pose.apply(points))
    values = ndimage.map_coordinates(
        image.data, np.moveaxis(there, -1, 0), order=1, cval=np.nan
    )
    low, high = prepare(image).scale.ends
    return np.clip((values - low) / (high - low) * 255, 0, 255)


def quiet(grey):
    """Where a picture is so smooth, inside, that scaling it changes little."""
    filled = np.nan_to_num(grey)
    steep = ndimage.maximum_filter(filled, 3) - ndimage.minimum_filter(filled, 3)
    keep = ndimage.binary_erosion(np.isfinite(grey)) & (steep < 60)
    keep[:5], keep[-5:], keep[:, :5], keep[:, -5:] = False, False, False, False
    return keep


def assert_shows(seen, grey, keep, tolerance=12):
    """Fail if a plane does not show these greys where it is to be looked at."""
    assert keep.sum() > 30
    apart = np.abs(seen - grey[..., None]).max(axis=-1)[keep]
    assert np.percentile(apart, 95) < tolerance, np.percentile(apart, [50, 95])


# --- it opens -------------------------------------------------------------------------


def test_it_opens_without_a_network_and_without_complaint(shown):
    assert shown.complaints == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in shown.requests)
    assert shown.page.title() == EVIL
    assert shown.page.inner_text("h1") == EVIL
    assert shown.page.evaluate("window.hacked") is None
    assert shown.page.locator("img[src=x]").count() == 0


def test_there_is_a_picture_before_the_viewer_and_without_it(chromium, file):
    for runs in (False, True):
        context = chromium.new_context(offline=True, java_script_enabled=runs)
        tab = context.new_page()
        tab.goto(file.as_uri(), wait_until="load")
        # By now, whether or not the viewer has unpacked its images.
        assert tab.locator("#waiting img, #viewer:not([hidden])").count() == 1
        if runs:
            tab.wait_for_selector("html[data-ready=yes]")
            assert tab.locator("#waiting").count() == 0
        else:
            assert tab.locator("#waiting img").is_visible()
            assert tab.locator("#waiting noscript p").is_visible()
        context.close()


def test_it_says_that_it_is_loading_until_the_viewer_is_there(chromium, file):
    """Here for ever: one image is never unpacked."""
    context = chromium.new_context(offline=True)
    tab = context.new_page()
    tab.add_init_script(
        "HTMLImageElement.prototype.decode = () => new Promise(() => 0)"
    )
    tab.goto(file.as_uri(), wait_until="load")
    assert tab.locator("#loading").inner_text() == "Loading the images ..."
    assert tab.locator("#waiting img").is_visible()
    assert tab.is_hidden("#viewer")
    context.close()
    # It is no promise where no script runs.
    context = chromium.new_context(offline=True, java_script_enabled=False)
    tab = context.new_page()
    tab.goto(file.as_uri(), wait_until="load")
    assert tab.is_hidden("#loading")
    context.close()


def test_the_letter_i_has_serifs(shown):
    """Below the coronal plane, the letter is wider at its foot than at its waist."""
    pixels = shown.pixels("coronal")
    high, wide, _ = pixels.shape
    corner = pixels[high - 26 :, wide // 2 - 15 : wide // 2 + 15]
    rows = coloured(corner, (255, 225, 77)).sum(axis=1)
    rows = rows[rows > 0]
    assert len(rows) > 6
    assert rows[-1] > 1.7 * np.median(rows)


def test_the_cross_hair_does_not_strike_letters_out(shown):
    """The one at the bottom stands where the cross-hair often is."""
    shown.press("x")  # it is seen again
    middle = shown.viewer["shape"][0] // 2
    shown.set("slice-sagittal", middle)
    pixels = shown.pixels("coronal")
    high, wide, _ = pixels.shape
    at = round((middle + 0.5) * wide / shown.viewer["shape"][0])
    line = pixels[:, at - 1 : at + 2]
    green = ((line[..., 1] - line[..., 0]) > 50).any(axis=1)
    assert green[high // 2 + 20 : high - 40].all()
    assert not green[high - 17 : high - 4].any()


def test_nothing_else_may_run_or_load(chromium, file):
    shown = Shown(chromium, file)
    blocked = shown.page.evaluate(
        """async () => {
          const blocked = [];
          document.addEventListener("securitypolicyviolation",
            (event) => blocked.push(event.effectiveDirective));
          try { document.body.innerHTML = "<b>"; } catch { blocked.push("markup"); }
          try { await fetch("https://example.org/"); } catch { blocked.push("fetch"); }
          const picture = new Image();
          picture.src = "https://example.org/x.png";
          const frame = document.createElement("iframe");
          frame.src = "https://example.org/";
          document.body.append(picture, frame);
          try { document.body.setAttribute("onclick", "window.hacked = 1"); } catch {}
          document.body.click();
          await new Promise((done) => setTimeout(done, 300));
          return [blocked, window.hacked ?? null];
        }"""
    )
    assert blocked[1] is None
    assert {"markup", "fetch", "img-src", "frame-src", "connect-src"} <= set(blocked[0])
    shown.context.close()


# --- modes ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["axial", "coronal", "sagittal"])
def test_fading_goes_from_the_fixed_to_the_moving_image(shown, pair, name):
    fixed, moving = (
        expected(shown, pair[0], None, name),
        expected(shown, pair[1], POSE, name),
    )
    keep = quiet(fixed) & quiet(moving)
    shown.set("fade", 0)
    assert_shows(shown.at_voxels(name), fixed, keep)
    shown.set("fade", 1)
    assert_shows(shown.at_voxels(name), moving, keep)
    shown.set("fade", 0.5)
    assert_shows(shown.at_voxels(name), (fixed + moving) / 2, keep)


def test_squares_of_the_moving_image_show_it(shown, pair):
    fixed, moving = expected(shown, pair[0]), expected(shown, pair[1], POSE)
    for side_mm in (30, 10):
        shown.press("c")
        shown.set("square", side_mm)
        side = round(side_mm / shown.viewer["step_mm"])
        x, y = np.indices(fixed.shape) // side
        is_moving = (x + y) % 2 == 1
        # Away from the edges of squares, which scaling blurs.
        deep = ndimage.minimum_filter(is_moving, 3) | ~ndimage.maximum_filter(
            is_moving, 3
        )
        keep = quiet(fixed) & quiet(moving) & deep
        seen = shown.at_voxels()
        apart = np.abs(fixed - moving) > 40
        assert (keep & apart & is_moving).sum() > 20
        assert_shows(seen, np.where(is_moving, moving, fixed), keep)


def test_the_curtain_hangs_at_the_cross_hair(shown, pair):
    fixed, moving = expected(shown, pair[0]), expected(shown, pair[1], POSE)
    shown.press("s")
    x = np.indices(fixed.shape)[0]
    at = np.rint((shown.place() - shown.viewer["origin_mm"]) / shown.viewer["step_mm"])[
        0
    ]
    keep = quiet(fixed) & quiet(moving) & (abs(x - at - 0.5) > 1)
    assert_shows(shown.at_voxels(), np.where(x > at, moving, fixed), keep)
    shown.press("r")  # what is to the left on the screen is the patient's right
    assert_shows(
        shown.at_voxels(mirrored=True),
        np.where(x < at, moving, fixed),
        keep & (abs(x - at + 0.5) > 1),
    )


def test_flicker_waits_for_those_who_ask_for_less_motion(shown, pair):
    fixed, moving = expected(shown, pair[0]), expected(shown, pair[1], POSE)
    keep = quiet(fixed) & quiet(moving)
    shown.press("k")
    assert not shown.page.is_checked("#running")
    shown.page.wait_for_timeout(1300)
    assert_shows(shown.at_voxels(), fixed, keep)
    shown.press("Space")
    assert_shows(shown.at_voxels(), moving, keep)
    shown.press("Space")
    assert_shows(shown.at_voxels(), fixed, keep)


def test_flicker_runs_for_others_at_the_rate_that_is_set(chromium, file):
    shown = Shown(chromium, file, reduced_motion="no-preference")
    shown.press("k")
    shown.set("rate", 3)
    assert shown.page.get_attribute("#rate", "max") == "3"  # flashes a second
    legends = set()
    for _ in range(12):
        shown.page.wait_for_timeout(100)
        legends.add(shown.page.inner_text("#legend"))
    assert {"Shown: fixed" in one for one in legends} == {True, False}
    shown.context.close()


def coloured(pixels, colour):
    """Which pixels lean to a colour."""
    grey = pixels.mean(axis=-1, keepdims=True)
    return ((pixels - grey) @ (np.array(colour) - np.mean(colour))) > 4000


ORANGE, CYAN = (255, 150, 20), (70, 220, 255)


@pytest.mark.parametrize(
    ("key", "colour", "below", "lines"), [("o", ORANGE, 0, 1), ("v", CYAN, 1, 0)]
)
def test_contours_lie_on_the_edges_of_the_other_image(
    shown, pair, key, colour, below, lines
):
    greys = expected(shown, pair[0]), expected(shown, pair[1], POSE)
    shown.press(key)
    pixels = shown.pixels()
    drawn = coloured(pixels, colour)
    drawn[:, :30] = drawn[:, -30:] = drawn[:30] = drawn[-60:] = False  # letters
    assert 0.001 < drawn.mean() < 0.2
    other = CYAN if colour == ORANGE else ORANGE
    assert not coloured(pixels[60:-60, 60:-60], other).any()
    # Steeper under the lines than elsewhere in the image whose edges they are.
    grey = np.nan_to_num(greys[lines])
    steep = ndimage.gaussian_gradient_magnitude(grey, 1)
    rows, columns = np.nonzero(drawn)
    x = (columns + 0.5) / pixels.shape[1] * grey.shape[0] - 0.5
    y = grey.shape[1] - 0.5 - (rows + 0.5) / pixels.shape[0] * grey.shape[1]
    under = ndimage.map_coordinates(steep, [x, y], order=1)
    assert np.median(under) > 2 * np.median(steep[grey > 20])
    bare = quiet(greys[below]) & ~(shown.at_voxels().std(axis=-1) > 2)
    assert_shows(shown.at_voxels(), greys[below], bare)
    few = coloured(pixels[60:-60, 60:-60], colour).sum()
    shown.set("detail", 1)
    assert coloured(shown.pixels()[60:-60, 60:-60], colour).sum() > 1.3 * few


def test_ranks_differ_little_where_images_agree(chromium, pair, tmp_path):
    path = tmp_path / "same.html"
    path.write_text(pages.page(pages.page_data(pair[0], pair[0], np.eye(4))))
    shown = Shown(chromium, path)
    shown.press("d", "x")
    inner = shown.at_voxels()[8:-8, 8:-8]
    assert np.abs(inner - 50).max() < 6
    shown.press("b")  # the headers say the same
    assert np.abs(shown.at_voxels()[8:-8, 8:-8] - 50).max() < 6
    shown.context.close()


def test_ranks_of_opposite_contrasts_are_turned_round(shown):
    shown.press("d")
    assert "turned round" in shown.page.inner_text("#legend")
    inner = (slice(10, -10), slice(10, -10))
    after = np.abs(shown.at_voxels()[inner] - 50).mean()
    shown.press("b")
    assert np.abs(shown.at_voxels()[inner] - 50).mean() > 1.1 * after


def test_before_and_after_are_shown_apart_side_by_side_and_in_turn(shown, pair):
    after, before = expected(shown, pair[1], POSE), expected(shown, pair[1])
    keep = quiet(after) & quiet(before)
    shown.set("fade", 1)
    assert_shows(shown.at_voxels(), after, keep)
    shown.press("b")
    assert_shows(shown.at_voxels(), before, keep)
    shown.press("b")
    assert_shows(shown.at_voxels("axial"), after, keep)
    assert_shows(shown.at_voxels("axial"), after, keep)
    assert shown.page.locator("#axial-before").is_visible()
    captions = shown.page.locator("figcaption:visible").all_inner_texts()
    assert "axial, before (by the headers)" in captions
    shown.press("p")
    assert not shown.page.locator("#axial-before").is_visible()
    first = shown.pixels()
    shown.press("Space")
    assert np.abs(shown.pixels() - first).mean() > 2
    assert "moving image before" in shown.page.inner_text("#legend")


# --- places ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", LIE)
def test_places_are_right_to_a_voxel_and_left_is_left(chromium, name, tmp_path):
    shape = (52, 48, 12) if name == "thick" else (46, 44, 40)
    fixed = scan(LIE[name], shape, anatomy)
    moving = scan(LAS, (30, 34, 33), negative, POSE)
    path = tmp_path / "page.html"
    path.write_text(pages.page(pages.page_data(fixed, moving, POSE)))
    shown = Shown(chromium, path)
    shown.press("x")
    shown.set("fade", 0)
    step, origin = shown.viewer["step_mm"], np.array(shown.viewer["origin_mm"])
    index = np.rint((MARK_MM - origin) / step)
    shown.set("slice-axial", int(index[2]))
    pixels = ndimage.gaussian_filter(shown.pixels().mean(axis=-1), 3)
    row, column = np.unravel_index(pixels.argmax(), pixels.shape)
    # The mark is at the patient's left, and in front: left and up in the picture.
    assert column < pixels.shape[1] / 2
    assert row < pixels.shape[0] / 2
    shown.click("axial", column, row)
    size = max(step, *fixed.voxel_size_mm)
    assert np.abs(shown.place() - MARK_MM).max() <= size
    words = shown.page.inner_text("#place")
    assert " left," in words
    assert " front," in words
    assert " up " in words
    for role, image, point in (
        ("fixed", fixed, shown.place()),
        ("moving", moving, POSE.apply(shown.place())),
    ):
        told = re.search(rf"{role} voxel (-?\d+), (-?\d+), (-?\d+)", words).groups()
        assert np.abs(np.array(told, float) - image.to_ijk(point)).max() <= 0.55
    # The other planes went to the mark, too.
    for other in ("coronal", "sagittal"):
        there = shown.at_voxels(other).mean(axis=-1)
        u, v = (0, 2) if other == "coronal" else (1, 2)
        x, y = (int(np.rint((MARK_MM[axis] - origin[axis]) / step)) for axis in (u, v))
        assert there[x - 1 : x + 2, y - 1 : y + 2].max() > 0.9 * there.max()
    assert "Neurological" in shown.page.inner_text("#legend")
    before = shown.pixels()
    shown.press("r")
    assert "Radiological" in shown.page.inner_text("#legend")
    inner = (slice(60, -60), slice(30, -30))
    turned = shown.pixels()[:, ::-1]
    assert np.abs(turned[inner] - before[inner]).mean() < 3
    shown.click("axial", pixels.shape[1] - 1 - column, row)
    assert np.abs(shown.place() - MARK_MM).max() <= size
    shown.context.close()


def test_aspect_is_right_for_thick_slices(chromium, tmp_path):
    fixed = scan(THICK, (52, 48, 12), anatomy)
    path = tmp_path / "page.html"
    path.write_text(pages.page(pages.page_data(fixed, fixed, np.eye(4))))
    shown = Shown(chromium, path)
    for name, mm in (
        ("axial", (78, 72)),
        ("coronal", (78, 72)),
        ("sagittal", (72, 72)),
    ):
        high, wide, _ = shown.pixels(name).shape
        assert wide / high == pytest.approx(mm[0] / mm[1], rel=0.02), name
    shown.context.close()


def test_arrows_sliders_and_page_keys_move_the_cross_hair(shown):
    step = shown.viewer["step_mm"]
    start = shown.place()
    shown.page.focus("#coronal")
    for key, by in (
        ("ArrowRight", (1, 0, 0)),
        ("ArrowUp", (0, 0, 1)),
        ("ArrowLeft", (-1, 0, 0)),
        ("ArrowDown", (0, 0, -1)),
        ("PageUp", (0, 1, 0)),
        ("PageDown", (0, -1, 0)),
    ):
        here = shown.place()
        shown.press(key)
        np.testing.assert_allclose(shown.place() - here, np.array(by) * step, atol=0.11)
    np.testing.assert_allclose(shown.place(), start, atol=0.11)
    shown.press("r", "ArrowRight")  # on the screen
    np.testing.assert_allclose(shown.place() - start, [-step, 0, 0], atol=0.11)
    shown.press("Shift+ArrowUp")
    assert shown.place()[2] - start[2] == pytest.approx(10 * step, abs=0.11)
    before = shown.pixels("sagittal")
    shown.set("slice-sagittal", 12)
    assert shown.place()[0] == pytest.approx(
        shown.viewer["origin_mm"][0] + 12 * step, abs=0.06
    )
    assert np.abs(shown.pixels("sagittal") - before).mean() > 1


def test_the_cross_hair_can_be_hidden(shown):
    without = shown.pixels()
    shown.press("x")
    green = shown.pixels() - without
    assert (green[:, :, 1] - green[:, :, 0]).max() > 60


def test_dragging_sets_the_window(shown):
    shown.set("fade", 1)
    before = shown.at_voxels().mean(axis=-1)
    shown.press("w", "w")
    assert shown.page.input_value("#tool") == "moving"
    place = shown.place()
    box = shown.page.locator("#axial").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for to in ((x + 120, y), (x, y - 60)):  # wider; higher
        shown.press("0", "x", "w", "w")
        shown.set("fade", 1)
        shown.page.mouse.move(x, y)
        shown.page.mouse.down()
        shown.page.mouse.move(*to, steps=3)
        shown.page.mouse.up()
        shown.settle()
        after = shown.at_voxels().mean(axis=-1)
        if to[1] == y:
            assert after[8:-8, 8:-8].std() < 0.8 * before[8:-8, 8:-8].std()
        else:
            assert after[8:-8, 8:-8].mean() < before[8:-8, 8:-8].mean() - 15
    np.testing.assert_allclose(shown.place(), place, atol=0.01)


def test_zoom_enlarges_what_is_around_the_cross_hair(shown, pair):
    shown.set("fade", 0)
    whole, grey, step = (
        shown.pixels(),
        expected(shown, pair[0]),
        shown.viewer["step_mm"],
    )
    keep = quiet(grey)
    at = np.rint((shown.place() - shown.viewer["origin_mm"]) / step)[:2]
    for zoom in (2, 4):
        shown.press("z")
        assert f"Zoom {zoom}" in shown.page.inner_text("#zoom")
        pixels = shown.pixels()
        assert pixels.shape == whole.shape
        seen = np.array(grey.shape) / zoom  # voxels
        first = np.ceil(at - seen / 2 + 0.5).astype(int)
        last = np.floor(at + seen / 2 - 0.5).astype(int)
        x, y = (np.arange(a, b + 1) for a, b in zip(first, last, strict=True))
        columns = ((x - at[0]) / seen[0] + 0.5) * pixels.shape[1]
        rows = (0.5 - (y - at[1]) / seen[1]) * pixels.shape[0]
        there = pixels[rows.astype(int)][:, columns.astype(int)].swapaxes(0, 1)
        assert_shows(there, grey[np.ix_(x, y)], keep[np.ix_(x, y)])
    # A click goes where it points, and does not move what is seen.
    here = shown.place()
    high, wide, _ = pixels.shape
    by = np.array([2, -3])
    column, row = (np.array([0.5, 0.5]) + by * [1, -1] / seen) * [wide, high]
    shown.click("axial", column, row)
    np.testing.assert_allclose(shown.place()[:2] - here[:2], by * step, atol=0.11)
    assert np.abs(shown.pixels() - pixels).mean() < 0.01
    shown.press("r")
    shown.click("axial", wide - column, row)
    np.testing.assert_allclose(shown.place()[:2] - here[:2], by * step, atol=0.11)
    # The cross-hair stays in sight.
    shown.press("r", "x", "Shift+ArrowRight", "Shift+ArrowRight", "Shift+ArrowUp")
    pixels = shown.pixels()
    green = (pixels[:, :, 1] - pixels[:, :, 0]) > 50
    assert green.mean(axis=0).max() > 0.9
    assert green.mean(axis=1).max() > 0.9
    shown.press("0", "x")
    shown.set("fade", 0)
    assert np.abs(shown.pixels() - whole).max() == 0


def test_edges_of_the_fixed_image_can_stay_whatever_is_shown(shown):
    def drawn():
        inner = coloured(shown.pixels()[60:-60, 60:-60], CYAN)
        assert not coloured(shown.pixels()[60:-60, 60:-60], ORANGE).any()
        return inner

    shown.press("v")
    lines = drawn()
    shown.press("k")
    assert not drawn().any()
    assert shown.page.is_hidden("#detail")
    shown.press("e")
    for flicker in ([], [" "]):
        shown.press(*flicker)
        assert (drawn() == lines).mean() > 0.98
    assert "Edges of the fixed image are blue" in shown.page.inner_text("#legend")
    few = lines.sum()
    shown.set("detail", 1)
    assert drawn().sum() > 1.3 * few
    shown.press("o")  # has lines of its own
    assert not coloured(shown.pixels()[60:-60, 60:-60], CYAN).any()


def test_residuals_are_drawn_where_they_are(shown):
    shown.page.check("#residuals")
    step = shown.viewer["step_mm"]
    index = np.rint((np.zeros(3) - shown.viewer["origin_mm"]) / step).astype(int)
    shown.set("slice-axial", int(index[2]))
    red = coloured(shown.pixels(), (255, 94, 94))
    red[:, :30] = red[:, -30:] = red[:30] = red[-60:] = False  # letters
    rows, columns = np.nonzero(red)
    scale = shown.pixels().shape[1] / shown.viewer["shape"][0]
    # From the origin ten mm to the right: five times two.
    first = (0 - shown.viewer["origin_mm"][0]) / step + 0.5
    assert columns.min() == pytest.approx(first * scale, abs=6)
    assert columns.max() == pytest.approx((first + 10 / step) * scale, abs=6)
    assert np.ptp(rows) < 12


# --- for everybody --------------------------------------------------------------------


def test_a_screen_reader_is_told_what_a_plane_shows(shown):
    shown.press("c", "b")
    label = shown.page.get_attribute("#coronal", "aria-label")
    assert "coronal slice, before registration, at" in label
    assert "checkerboard of fixed and moving image" in label
    assert "On the left of the picture is L." in label
    shown.press("r")
    assert "is R." in shown.page.get_attribute("#coronal", "aria-label")
    assert "is P." in shown.page.get_attribute("#sagittal", "aria-label")
    unnamed = shown.page.evaluate(
        "[...document.querySelectorAll('button, input, select, canvas, svg, img')]"
        ".filter(e => e.offsetParent && !(e.textContent.trim() || e.alt"
        " || e.getAttribute('aria-label') || e.labels?.length)).length"
    )
    assert unnamed == 0


def test_all_can_be_reached_by_the_tab_key(shown):
    reached = set()
    for _ in range(45):
        shown.page.keyboard.press("Tab")
        reached.add(shown.page.evaluate("document.activeElement.id"))
    assert {"axial", "coronal", "sagittal", "slice-axial", "tool", "reset"} <= reached


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_it_fits_a_phone_in_a_dark_and_a_light_room(chromium, file, scheme):
    shown = Shown(
        chromium, file, viewport={"width": 360, "height": 740}, color_scheme=scheme
    )
    wide = shown.page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 360
    paper = shown.page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = np.mean([int(x) for x in re.findall(r"\d+", paper)[:3]])
    assert (brightness < 80) == (scheme == "dark")
    shown.context.close()


def test_no_number_of_a_matrix_is_out_of_sight_on_a_phone(chromium, file):
    shown = Shown(chromium, file, viewport={"width": 390, "height": 844})
    cut = shown.page.evaluate(
        "[...document.querySelectorAll('.matrices pre')]"
        ".filter((one) => one.scrollWidth > one.clientWidth).length"
    )
    assert cut == 0
    # Before lies beside after, to be compared.
    after, before = shown.page.locator(".pair").first.locator("figure").all()
    assert after.bounding_box()["y"] == before.bounding_box()["y"]
    shown.context.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_the_labels_of_charts_can_be_read(chromium, file, width):
    shown = Shown(chromium, file, viewport={"width": width, "height": 844})
    charts = shown.page.evaluate(
        "[...document.querySelectorAll('.card svg')].map((chart) => ({"
        "edge: chart.getBoundingClientRect().right, labels: "
        "[...chart.querySelectorAll('text')].map((one) => one.getBoundingClientRect())"
        ".map(({left, right, height}) => ({left, right, height}))}))"
    )
    assert len(charts) == 8
    for chart in charts:
        labels = chart["labels"]
        assert min(label["height"] for label in labels) > 12
        ends = [label["left"] for label in labels[1:]] + [chart["edge"]]
        assert all(
            label["right"] < end for label, end in zip(labels, ends, strict=True)
        )
    shown.context.close()


def test_it_prints_without_its_buttons(shown):
    shown.page.emulate_media(media="print")
    assert not shown.page.locator("#modes").is_visible()
    assert shown.page.locator("#axial").is_visible()
    assert len(shown.page.pdf()) > 20_000
    shown.page.emulate_media(media="screen")


def test_a_matrix_is_copied(shown):
    shown.context.grant_permissions(["clipboard-read", "clipboard-write"])
    shown.page.click("button.copy >> nth=0")
    # The page's policy forbids to evaluate a string again and again in it.
    shown.page.wait_for_selector("button.copy:text-is('copied')")
    words = shown.page.evaluate("navigator.clipboard.readText()")
    rows = np.array([line.split() for line in words.split("\n")], float)
    np.testing.assert_allclose(rows, POSE.matrix, atol=1e-8)


def test_the_matrix_of_planning_systems_is_copied_and_the_foot_is_seen(shown):
    shown.context.grant_permissions(["clipboard-read", "clipboard-write"])
    button = shown.page.locator("button[aria-label*='planning systems']")
    button.click()
    pytest.importorskip("playwright.sync_api").expect(button).to_have_text("copied")
    words = shown.page.evaluate("navigator.clipboard.readText()")
    rows = np.array([line.split() for line in words.split("\n")], float)
    # It takes points of the moving image back; x and y are to the left and back.
    there = POSE.apply([10, 20, 30]) * [-1, -1, 1]
    np.testing.assert_allclose(rows @ [*there, 1], [-10, -20, 30, 1], atol=1e-6)
    foot = shown.page.locator("footer")
    assert foot.is_visible()
    assert foot.bounding_box()["y"] > shown.page.locator("pre").last.bounding_box()["y"]


def test_it_runs_in_the_frame_of_a_notebook(chromium, pair, tmp_path):
    found = mireg.register(*pair, init=POSE, settings=mireg.Settings(samples=8000))
    path = tmp_path / "notebook.html"
    path.write_text(f"<!DOCTYPE html><body>{found._repr_html_()}")
    context = chromium.new_context(offline=True)
    tab = context.new_page()
    complaints = []
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.goto(path.as_uri())
    frame = tab.frames[1]
    frame.wait_for_selector("html[data-ready=yes]")
    assert frame.locator("canvas.plane").count() == 6
    reach = "try { parent.document.title } catch { 'no' }"
    assert frame.evaluate(reach) == "no"
    assert complaints == []
    context.close()
