"""Fixtures that several test files share."""

from __future__ import annotations

import shutil
from contextlib import ExitStack

import numpy as np
import pytest


@pytest.fixture
def rng() -> np.random.Generator:
    """Return a fresh generator with a fixed seed for each test."""
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def chromium():
    """Start the browser of the system, once."""
    driver = pytest.importorskip(
        "playwright.sync_api", reason="needs pip install 'mireg[browser]'"
    )
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("needs a Chromium: apt install chromium")
    with driver.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_offline(chromium):
    """Open a file without a network; give the page, and what its console says."""
    with ExitStack() as later:

        def opened(path):
            context = chromium.new_context(offline=True, reduced_motion="reduce")
            later.callback(context.close)
            page = context.new_page()
            complaints = []
            page.on("console", lambda message: complaints.append(message.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.goto(path.as_uri())
            page.wait_for_selector("html[data-ready=yes]")
            return page, complaints

        yield opened
