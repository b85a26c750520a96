"""Slow twins of the kernels, written from the definitions, never from the loops."""

from __future__ import annotations

import numpy as np


def _looked_at(matrix, shape, moving_shape):
    """Yield each output voxel inside the moving image, and where it looks."""
    for ijk in np.ndindex(*shape):
        x = matrix[:3, :3] @ ijk + matrix[:3, 3]
        if all(
            -0.5 - 1e-6 <= a <= n - 0.5 + 1e-6
            for a, n in zip(x, moving_shape, strict=True)
        ):
            yield ijk, np.clip(x, 0, np.array(moving_shape) - 1)


def resample_nearest(data, matrix, shape):
    """Take the voxel whose centre is closest; halfway, the one with higher index."""
    out = np.full(shape, np.nan)
    for ijk, x in _looked_at(matrix, shape, data.shape):
        nearest = []
        for a, n in zip(x, data.shape, strict=True):
            distance = np.abs(np.arange(n) - a)
            nearest.append(np.flatnonzero(distance <= distance.min() + 2e-6)[-1])
        out[ijk] = data[tuple(nearest)]
    return out


def resample_linear(data, matrix, shape):
    """Sum voxels with weight hat(i - x) hat(j - y) hat(k - z)."""
    out = np.full(shape, np.nan)
    for ijk, x in _looked_at(matrix, shape, data.shape):
        near = np.where(np.abs(x - np.rint(x)) < 1e-6, np.rint(x), x)
        hats = [
            np.maximum(0, 1 - abs(np.arange(n) - a))
            for a, n in zip(near, data.shape, strict=True)
        ]
        weight = np.einsum("i,j,k->ijk", *hats)
        out[ijk] = (weight * data)[weight > 0].sum()
    return out


def resample_cubic(data, matrix, shape):
    """Evaluate the cubic B-spline through all voxels, mirrored at the ends."""

    def basis(n, x):
        weights = np.zeros(n)
        for i in range(-3, n + 3):
            u = abs(x - i)
            beta = 2 / 3 - u**2 + u**3 / 2 if u < 1 else max(0, 2 - u) ** 3 / 6
            mirrored = 0 if n == 1 else (n - 1) - abs(i % (2 * (n - 1)) - (n - 1))
            weights[mirrored] += beta
        return weights

    spline = data.astype(float)
    for axis, n in enumerate(data.shape):
        grid = np.array([basis(n, i) for i in range(n)])
        turned = np.moveaxis(spline, axis, 0)
        solved = np.linalg.solve(grid, turned.reshape(n, -1)).reshape(turned.shape)
        spline = np.moveaxis(solved, 0, axis)
    out = np.full(shape, np.nan)
    for ijk, x in _looked_at(matrix, shape, data.shape):
        weights = [basis(n, a) for a, n in zip(x, data.shape, strict=True)]
        out[ijk] = np.einsum("ijk,i,j,k", spline, *weights)
    return out
