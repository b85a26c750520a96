"""What would make compiled loops slow to compile, or their bits a matter of luck."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np

from mireg import _kernels as kernels
from mireg._engine.metrics import entropies


def test_no_array_is_assigned_to_a_slice():
    """Numba would compile text for an error message: seconds in a new environment."""
    tree = ast.parse(Path(kernels.__file__).read_text(encoding="utf-8"))
    slow = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and any(
            isinstance(part, ast.Slice)
            for target in node.targets
            if isinstance(target, ast.Subscript)
            for part in ast.walk(target.slice)
        )
        and not isinstance(node.value, ast.Constant)
        and ast.unparse(node.value) not in ("np.nan", "np.inf")
    ]
    assert slow == []


def test_bits_do_not_depend_on_where_arrays_lie_in_memory():
    """Some loops have a form for arrays that lie close, with sums in another order."""
    rng = np.random.default_rng(0)
    between = [np.empty(1)] * 50
    for _ in range(5000):
        histogram = 1e4 * rng.dirichlet(np.ones(24) / 2).reshape(6, 4)
        one = entropies(histogram)
        between[rng.integers(50)] = np.empty(rng.integers(1, 40))
        again = entropies(histogram.copy())
        for a, b in zip(one, again, strict=True):
            np.testing.assert_array_equal(a, b)
