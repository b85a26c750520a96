"""The page on a session: its text, and any two of its images in a real browser."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from mireg import Image, RigidTransform, Session
from mireg._report.session import session_page
from mireg._session import SessionPair

EVIL = "<img src=x onerror='window.hacked=1'>"
NAMES = ("t1", EVIL, "bold")
UNMOVED = RigidTransform.identity()


def scan(bright):
    """Show a box in which one corner is bright, on a grid of 3 mm."""
    data = np.zeros((24, 22, 20), np.float32)
    data[4:20, 4:18, 4:16] = 100
    data[4:10, 4:10, 4:16] = bright
    mm_from_ijk = np.diag([3.0, 3, 3, 1])
    mm_from_ijk[:3, 3] = [-34.5, -31.5, -28.5]
    rng = np.random.default_rng(bright)
    noise = rng.normal(0, 1, data.shape).astype(np.float32)
    return Image(data + noise, mm_from_ijk)


def pair(i, j, residual, reason=""):
    return SessionPair(i, j, UNMOVED, 0.1, residual, not reason, reason, 1.0, 1.0, 0.0)


@pytest.fixture(scope="module")
def session():
    """Return three scans in line, one pair of which was left out."""
    return Session(
        images=(scan(200), scan(10), scan(60)),
        names=NAMES,
        reference=0,
        transforms=(UNMOVED,) * 3,
        errors_mm=np.array([0, 0.2, np.nan]),
        pairs=(pair(0, 1, 0.2), pair(0, 2, 9.0, "9 mm off"), pair(1, 2, 0.4)),
        between_mm=0.3,
        strangers=(2,),
        warnings=("bold does not fit the others",),
    )


@pytest.fixture(scope="module")
def page(session):
    return session_page(session.to_dict(), session.images, session.grid)


def test_it_says_what_was_found_and_names_are_text(page):
    assert EVIL not in page
    assert "bold does not fit the others" in page
    assert "2 of 3 pairs agree, within 0.40 mm" in page
    assert "left out: 9 mm off" in page
    body = page[page.index("<body>") :]
    # The largest residual first, each with its own line in the graph.
    assert re.findall(r'data-pair="(. .)"', body) == ["0 2", "1 2", "0 1"]
    assert body.count('class="edge"') == 2
    assert body.count('class="edge out"') == 1
    assert "unknown" in body  # of the error that nothing tells


def test_a_session_writes_it_with_the_rest_or_nothing(session, tmp_path):
    named = Session(**{**vars(session), "names": ("a", "b", "c")})
    paths = named.save(tmp_path / "out", report=True)
    assert tmp_path / "out" / "session.html" in paths
    assert all(path.is_file() for path in paths)


@pytest.mark.slow
@pytest.mark.browser
def test_any_two_images_are_shown(open_offline, page, session, tmp_path):
    path = tmp_path / "session.html"
    path.write_text(page)
    shown, complaints = open_offline(path)
    viewer = json.loads(shown.text_content("#data"))["viewer"]
    assert [image["name"] for image in viewer["images"]] == list(NAMES)
    assert shown.locator("#pick-fixed option").all_text_contents() == list(NAMES)

    def grey(fade, at=(6, 6)):
        """Grey of the axial slice at a voxel, in the left of the back."""
        shown.evaluate(
            "fade => { const slider = document.getElementById('fade'); slider.value = "
            "fade; slider.dispatchEvent(new Event('input')); }",
            fade,
        )
        return shown.evaluate(
            "([i, j, nx, ny]) => new Promise(done => requestAnimationFrame(() => "
            "requestAnimationFrame(() => { const c = document.getElementById('axial');"
            "done(c.getContext('2d').getImageData((i + 0.5) / nx * c.width, "
            "(1 - (j + 0.5) / ny) * c.height, 1, 1).data[0]); })))",
            [*at, *viewer["shape"][:2]],
        )

    def expected(k):
        """Grey that the corner of image k has, by its own window."""
        of = viewer["images"][k]["levels"]
        value = float(session.images[k].data[6, 6, 8:12].mean())
        level = 1 + (value - of["low"]) / (of["high"] - of["low"]) * 254
        low, high = of["window"]
        return float(np.clip((level - low) / (high - low), 0, 1) * 255)

    assert not shown.locator("[data-pose], [data-mode=poses]").count()
    assert abs(grey(0) - expected(0)) < 15
    assert abs(grey(1) - expected(1)) < 15
    shown.select_option("#pick-moving", "2")
    assert abs(grey(1) - expected(2)) < 15
    shown.locator('tr[data-pair="1 2"] button').click()
    assert abs(grey(0) - expected(1)) < 15
    assert shown.locator("tr.chosen").get_attribute("data-pair") == "1 2"
    assert len({round(expected(k)) for k in range(3)}) == 3
    for key in "fkcsovdpbrx0":
        shown.keyboard.press(key)
    # The test itself reads the canvas often.
    assert [one for one in complaints if "readback" not in one] == []
    assert not shown.evaluate("window.hacked === 1")
