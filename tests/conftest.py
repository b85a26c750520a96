"""Fixtures that several test files share."""

from __future__ import annotations

import shutil

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
