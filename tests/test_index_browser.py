"""The page on a cohort in a real browser: sorted, searched, a pair marked."""

from __future__ import annotations

import io
import time
from dataclasses import asdict

import numpy as np
import PIL.Image
import pytest

from mireg._cohort.results import COLUMNS
from mireg._report.document import data_url
from mireg._report.index import index

pytestmark = [pytest.mark.slow, pytest.mark.browser]

EVIL = "<img src=x onerror='window.hacked=1'>"


def picture(shade):
    file = io.BytesIO()
    PIL.Image.new("L", (180, 60), shade).save(file, "JPEG")
    return data_url("image/jpeg", file.getvalue())


def cohort(n):
    """Make rows: one that failed, one that is doubtful, an outlier; the rest right."""
    rng = np.random.default_rng(0)
    rows = []
    for k in range(n):
        row = dict.fromkeys(COLUMNS)
        row.update(
            id=f"sub-{k:04}",
            verdict="right",
            probability=0.99,
            rotation_deg=float(rng.gamma(2, 3)),
            standard_error_mm=float(rng.lognormal(-3, 0.5)),
        )
        rows.append(row)
    rows[5].update(verdict="doubtful", probability=0.2, reasons=EVIL)
    rows[7].update(verdict="failed", message="bad.nii: damaged")
    rows[9].update(outlier_in="standard_error_mm", standard_error_mm=9.0)
    return rows


@pytest.fixture
def opened(chromium, tmp_path):
    """Open a page of so many pairs; complaints are collected."""

    def open_page(n):
        rows = cohort(n)
        about = {name: asdict(column) for name, column in COLUMNS.items()}
        pictures = {row["id"]: picture(k % 256) for k, row in enumerate(rows)}
        links = {"sub-0005": "sub-0005/x.html"}
        path = tmp_path / "index.html"
        path.write_text(
            index("A <b>study</b>", rows, about, pictures=pictures, links=links)
        )
        page = chromium.new_context(offline=True).new_page()
        page.complaints = []
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready=yes]")
        return page

    return open_page


def ids(page):
    return [
        cell.split("\n")[0]
        for cell in page.locator("tbody td:first-child").all_inner_texts()
    ]


def test_the_worst_come_first_and_can_be_sorted_searched_and_chosen(opened):
    page = opened(40)
    assert page.inner_text("h1") == "A <b>study</b>"
    assert "38 right, 1 doubtful, 1 failed" in page.inner_text("#summary")
    assert ids(page)[:3] == ["sub-0007", "sub-0005", "sub-0009"]
    assert page.locator("tbody a").get_attribute("href") == "sub-0005/x.html"
    # Text from outside is text.
    assert EVIL in page.locator("tbody tr").nth(1).inner_text()
    assert page.evaluate("window.hacked") is None

    page.get_by_role("button", name="rotation_deg").click()
    header = page.locator("th", has_text="rotation_deg")
    assert header.get_attribute("aria-sort") == "descending"
    names = page.locator("thead th").all_inner_texts()
    assert names[:5] == ["id", "verdict", "reasons", "message", "decision"]
    at = names.index("rotation_deg ▼") + 1
    column = page.locator(f"tbody td:nth-child({at})").all_inner_texts()
    assert column == sorted(column, key=float, reverse=True)

    page.fill("#search", "0012")
    assert ids(page) == ["sub-0012"]
    page.fill("#search", "")
    page.select_option("#which", "look")
    assert sorted(ids(page)) == ["sub-0005", "sub-0007"]
    page.select_option("#which", "")

    canvas = page.locator("canvas").first
    shot = "canvas => canvas.toDataURL()"
    before = canvas.evaluate(shot)
    page.locator("tbody tr", has_text="sub-0012").click()
    assert page.inner_text("#chosen") == "chosen: sub-0012"
    assert canvas.evaluate(shot) != before  # marked among all
    assert page.locator("#pictures .chosen").count() == 1
    assert page.complaints == []


def test_a_click_on_a_dot_chooses_its_pair(opened):
    page = opened(12)
    label = "standard_error_mm: "
    canvas = page.locator(f"canvas[aria-label^='{label}']")
    box = canvas.bounding_box()
    # The outlier lies alone at the right end.
    canvas.click(position={"x": box["width"] - 9, "y": box["height"] - 4})
    assert page.inner_text("#chosen") == "chosen: sub-0009"
    assert page.complaints == []


def test_a_doubtful_pair_is_not_hidden_below_thousands_of_right_ones(opened):
    """Where dots lie over each other, the one to look at is on top."""
    page = opened(800)
    # Rotations crowd near 4 degrees, where the doubtful one lies, too.
    canvas = page.locator("canvas[aria-label^='rotation_deg: ']")
    pixels = canvas.evaluate(
        "canvas => Array.from(canvas.getContext('2d')"
        ".getImageData(0, 0, canvas.width, canvas.height).data)"
    )
    rgba = np.reshape(pixels, (-1, 4))
    reddish = (rgba[:, 3] > 200) & (rgba[:, 0] > rgba[:, 2] + 60)
    assert 6 < reddish.sum() < 60


def test_pictures_are_read_last_and_fill_their_places(opened):
    """The table need not wait for megabytes of pictures behind it in the file."""
    page = opened(40)
    assert "data:image" not in page.text_content("#data")
    order = page.evaluate("[...document.scripts].map((one) => one.id)")
    assert order == ["data", "", "later"]
    page.wait_for_function("() => [...document.images].every((one) => one.src)")
    assert page.locator("#pictures img").count() == 24
    assert page.complaints == []


def test_choosing_a_pair_leaves_the_table_as_it_is(opened):
    page = opened(40)
    row = page.locator("tbody tr", has_text="sub-0012")
    row.evaluate("row => { row.dataset.seen = 'yes'; }")
    row.click()
    assert page.locator("tbody tr.chosen").get_attribute("data-seen") == "yes"
    row.click()
    assert page.locator(".chosen").count() == 0


def test_two_thousand_pairs_open_and_answer(opened):
    page = opened(2000)
    assert page.locator("tbody tr").count() == 50
    page.get_by_role("button", name="More rows").click()
    assert page.locator("tbody tr").count() == 250
    assert len(set(ids(page))) == 250
    began = time.perf_counter()
    page.fill("#search", "sub-1999")
    assert ids(page) == ["sub-1999"]
    assert time.perf_counter() - began < 20  # a hang, not a benchmark
    assert page.complaints == []
