"""Work for pools to do, and to die of: found by name in other processes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from mireg._cohort.state import Outcome, Task


def do(task: Task) -> Outcome:
    """Say which process did it, after what the options ask for."""
    for word in task.arguments:
        if word == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if word == "die once" and not Path(task.output).exists():
            Path(task.output).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if word == "hang":
            time.sleep(600)
    time.sleep(0.05)
    return Outcome(task.id, "done", "", {"process": os.getpid()}, None, 0.0, 0.0)
