"""The guide: its command, its pages, and that all examples print what they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import run_guide
from mireg.cli import guide, main, reference
from mireg import _parameters

PAGES = run_guide.pages()
WITH_EXAMPLES = [name for name in PAGES if list(run_guide.steps(PAGES[name].read_text("utf-8")))]


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_print_what_a_page_says(name, tmp_path):
    wrong = run_guide.run_page(PAGES[name].read_text("utf-8"), tmp_path)
    assert not wrong, "\n".join(f"{step.text}\n{printed}" for step, printed in wrong)
