"""Run the command line with ``python -m mireg``."""

from .cli import run

run()
