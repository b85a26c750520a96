"""How soon the page on many pairs, `index.html`, is there in a browser.

    python scripts/index_study.py FOLDER --pairs 2000 --rounds 5
    python scripts/index_study.py FOLDER --pairs 2000 --throttle 4

Nothing is registered: the rows have every column filled with made-up figures, and each
pair has a picture of its own, as `small_picture` makes them, of a phantom pair in a
random pose with noise, so that files are as large as those of real scans. The page is
written to FOLDER and opened from there in Chromium, each time in a fresh context.

Given are milliseconds from the start of the navigation: to the first paint, until the
table stands sorted, until two more frames have been painted and the main thread is
free (what a click waits for), until all images in sight are decoded; and then how long
it takes to sort by a column, to search, to choose a pair, and to show more rows, each
until painted. `--throttle` slows the processor by that factor.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page, sync_playwright

from mireg import Image
from mireg._cohort.results import COLUMNS
from mireg._picture import small_picture
from mireg._report.document import data_url
from mireg._report.index import index
from mireg.phantom import phantom_pair, random_pose

#: Waits until what was asked for has been painted, and nothing else is to be done.
PAINTED = """() => new Promise((done) => requestAnimationFrame(() =>
  requestAnimationFrame(() => setTimeout(() => done(performance.now()), 0))))"""

DECODED = """async () => {
  const seen = [...document.images].filter((image) => {
    const { top, bottom } = image.getBoundingClientRect();
    return bottom > 0 && top < innerHeight;
  });
  await Promise.all(seen.map((image) => image.decode()));
  return performance.now();
}"""

FIRST_PAINT = """() => performance.getEntriesByType("paint")
  .find((one) => one.name === "first-contentful-paint")?.startTime ?? null"""

#: What a person does first, by name.
ACTIONS = {
    "sort by a figure": """() => [...document.querySelectorAll("thead button")]
      .find((one) => one.textContent.startsWith("rotation_deg")).click()""",
    "search": """() => { const box = document.getElementById("search");
      box.value = "19"; box.dispatchEvent(new Event("input")); }""",
    "search no more": """() => { const box = document.getElementById("search");
      box.value = ""; box.dispatchEvent(new Event("input")); }""",
    "choose a pair": """() => document.querySelector("tbody tr").click()""",
    "more rows": """() => document.getElementById("more-rows").click()""",
    "more pictures": """() => document.getElementById("more-pictures").click()""",
}


def rows(count: int) -> list[dict[str, Any]]:
    """Make up the results of so many pairs: one in 20 doubtful, one in 200 failed."""
    rng = np.random.default_rng(0)
    reason = (
        "the runner-up explains 97% as much as the answer; the local residuals are "
        "larger than noise explains: 2.1 mm in one block"
    )
    made = []
    for k in range(count):
        name = f"sub-{k:05}_ses-1_bold"
        row: dict[str, Any] = dict.fromkeys(COLUMNS, "")
        for column, about in COLUMNS.items():
            if about.figure:
                row[column] = float(rng.lognormal(0, 0.6))
        row.update(id=name, status="done", verdict="right", decision=None)
        row.update(probability=float(rng.beta(30, 1)), handedness="left is left")
        row.update(metric="nmi", message=None, outlier_in=None, reasons=None)
        row["record"] = f"{name}/from-bold_to-T1w_mode-image_xfm.json"
        if k % 20 == 7:
            row.update(verdict="doubtful", reasons=reason, probability=0.4)
        if k % 50 == 3:
            row.update(outlier_in="standard_error_mm, seconds", seconds=9.0)
        if k % 200 == 11:
            row.update(dict.fromkeys(COLUMNS), id=name, status="failed")
            row.update(verdict="failed", message="bold.nii.gz: the file is damaged")
        made.append(row)
    return made


def pictures(names: list[str]) -> dict[str, str]:
    """Draw a small picture for each pair; no two are the same."""
    pair = phantom_pair(
        "T1", "EPI", seed=0, fixed_voxel_size_mm=4, moving_voxel_size_mm=5
    )
    rng = np.random.default_rng(1)
    drawn = {}
    for name in names:
        noise = rng.normal(0, 0.015 * np.ptp(pair.fixed.data), pair.fixed.shape)
        noisy = Image(pair.fixed.data + noise, pair.fixed.mm_from_ijk)
        pose = random_pose(rng, max_angle_deg=15).matrix @ pair.moving_from_fixed
        drawn[name] = data_url("image/jpeg", small_picture(noisy, pair.moving, pose))
    return drawn


def page_file(folder: Path, count: int) -> Path:
    """Write the page on so many pairs; drawing is slow, so pictures are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    made = rows(count)
    kept = folder / f"pictures-{count}.json"
    if not kept.exists():
        having = [row["id"] for row in made if row["verdict"] != "failed"]
        kept.write_text(json.dumps(pictures(having)))
    path = folder / f"index-{count}.html"
    links = {row["id"]: row["record"] for row in made if row["record"]}
    columns = {name: asdict(column) for name, column in COLUMNS.items()}
    drawn = json.loads(kept.read_text())
    path.write_text(index("A study", made, columns, pictures=drawn, links=links))
    return path


def opened(page: Page, path: Path) -> dict[str, float]:
    """Open the page and use it; milliseconds by what was waited for."""
    took = {}
    page.goto(path.as_uri(), wait_until="commit")
    page.wait_for_selector("#table tbody tr", state="attached")
    took["table there"] = page.evaluate("performance.now()")
    took["answers"] = page.evaluate(PAINTED)
    took["pictures in sight"] = page.evaluate(DECODED)
    took["first paint"] = page.evaluate(FIRST_PAINT)
    took["elements"] = page.evaluate("document.querySelectorAll('*').length")
    for name, action in ACTIONS.items():
        start = page.evaluate("performance.now()")
        page.evaluate(action)
        took[name] = page.evaluate(PAINTED) - start
    return took


def main() -> int:
    """Open the page some times and print what each took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--throttle", type=float, default=1.0)
    args = parser.parse_args()
    start = time.perf_counter()
    path = page_file(args.folder, args.pairs)
    sys.stderr.write(f"made in {time.perf_counter() - start:.1f} s\n")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    found = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=chromium, args=["--no-sandbox"]
        )
        for _ in range(args.rounds):
            context = browser.new_context(offline=True)
            page = context.new_page()
            if args.throttle > 1:
                session = context.new_cdp_session(page)
                session.send("Emulation.setCPUThrottlingRate", {"rate": args.throttle})
            found.append(opened(page, path))
            context.close()
        browser.close()
    size = path.stat().st_size / 1e6
    sys.stdout.write(f"{args.pairs} pairs, {size:.1f} MB\n")
    for name in found[0]:
        values = [one[name] for one in found]
        unit = "" if name == "elements" else " ms"
        sys.stdout.write(
            f"{name:18} {np.median(values):7.0f}{unit} "
            f"({min(values):.0f} to {max(values):.0f})\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
