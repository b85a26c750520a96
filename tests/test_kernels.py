"""What would make compiled loops slow to compile."""

from __future__ import annotations

import ast
from pathlib import Path

from mireg import kernels


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
