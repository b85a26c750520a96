"""Check everything that CI checks of the code: python scripts/check.py [--fast|--lint].

Needs ``pip install -e '.[dev]'`` in the Python that runs it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHECKS = {
    "format": ["ruff", "format", "--check"],
    "lint": ["ruff", "check"],
    "types": ["mypy"],
    "imports": ["lint-imports", "--no-logo"],
    "spelling": ["codespell"],
    "tests": ["pytest"],
}


def passes(command: list[str]) -> bool:
    """Run a tool of this Python's own environment in the root of the project."""
    print(f"\n--- {' '.join(command)}", flush=True)
    tool = Path(sysconfig.get_path("scripts"), command[0])
    try:
        done = subprocess.run([tool, *command[1:]], cwd=ROOT, check=False)
    except FileNotFoundError:
        print(f"missing; get it by: {sys.executable} -m pip install -e '.[dev]'")
        return False
    return done.returncode == 0


def main() -> int:
    """Run the checks, print a table, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--fast", action="store_true", help="leave slow tests out")
    which.add_argument("--lint", action="store_true", help="leave all tests out")
    options = parser.parse_args()
    checks = dict(CHECKS)
    if options.fast:
        checks["tests"] = ["pytest", "-m", "not slow"]
    if options.lint:
        del checks["tests"]
    table = []
    for name, command in checks.items():
        start = time.perf_counter()
        passed = passes(command)
        table.append((name, passed, time.perf_counter() - start))
    print("\ncheck     result  seconds")
    for name, passed, seconds in table:
        print(f"{name:8}  {'pass' if passed else 'FAIL':6}  {seconds:7.1f}")
    return 0 if all(passed for _, passed, _ in table) else 1


if __name__ == "__main__":
    sys.exit(main())
