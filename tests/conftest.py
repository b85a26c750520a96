"""Fixtures that several test files share."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def rng() -> np.random.Generator:
    """Return a fresh generator with a fixed seed for each test."""
    return np.random.default_rng(0)
