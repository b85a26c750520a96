"""Compiled loops, nothing else.

All in one file, because numba's cache does not notice an edit in another one.
Each loop is called by a function of the same name elsewhere, which checks its
arguments and documents it, and has a slow twin in ``tests/naive.py``. Arrays and
numbers come in, ``out`` comes last. Loops release the interpreter lock and run on
one thread; `mireg.threads` gives each thread its share.
"""

from __future__ import annotations

import numpy as np
from numba import njit
