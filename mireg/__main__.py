"""Run the command line, as ``mireg`` or with ``python -m mireg``."""

from __future__ import annotations

import os
import signal
from typing import Any


def main() -> None:
    """Run the command line; an interrupt ends it even before there is one."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, stop_at_once)
    from .cli import run  # noqa: PLC0415, takes a tenth of a second

    run()


def stop_at_once(number: int, _frame: Any) -> None:
    """Stop while nothing is begun that would have to be cleaned up."""
    os.write(2, b"mireg: stopped\n")
    os._exit(128 + number)


if __name__ == "__main__":
    main()
