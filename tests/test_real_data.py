"""Real scans with a reference, where there are any.

The variable MIREG_SHARED_DATA names a folder with a `cases.json`, as
`scripts/evaluate.py` reads it. No such scan is part of the project.
"""

from __future__ import annotations

import os
from pathlib import Path

import evaluate
import measuring
import pytest

from mireg._register import register

CASES = Path(os.environ.get("MIREG_SHARED_DATA", "not set")) / "cases.json"

#: Each case in its own pose and in one random one.
cases = measuring.cases_from_file(CASES, 1) if CASES.is_file() else []


@pytest.mark.slow
@pytest.mark.skipif(not cases, reason="MIREG_SHARED_DATA names no folder of cases")
@pytest.mark.filterwarnings("default::mireg._errors.MiregWarning")  # odd headers
@pytest.mark.parametrize("case", cases or [None], ids=lambda case: case and case.id)
def test_real_scans_end_within_what_the_reference_knows(case):
    record = evaluate.run_case(case, register, seed=0)
    errors = [run["tre_mean_mm"] for run in record["poses"]]
    assert len(errors) == 2
    assert max(errors) <= record["limit_mm"], errors
