"""Run the command line with ``python -m mireg``."""

from .cli import run

if __name__ == "__main__":  # processes that it begins import it, too
    run()
