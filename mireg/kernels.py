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

@njit(cache=True, nogil=True)
def _ramp(x, n, out):
    """Fill out (2,) with a sample's weight near the ends of an axis, and its slope.

    1 inside, 0 half a voxel past the outermost voxel centres, smooth between.
    """
    last = n - 1.0
    d = min(x + 0.5, last - x + 0.5)
    if d <= 0.0:
        out[0], out[1] = 0.0, 0.0
    elif d >= 1.0:
        out[0], out[1] = 1.0, 0.0
    else:
        out[0] = d * d * (3.0 - 2.0 * d)
        out[1] = 6.0 * d * (1.0 - d)
        if x + 0.5 > last - x + 0.5:
            out[1] = -out[1]


@njit(cache=True, nogil=True)
def _look_up(memory, shape, strides, x, y, z, ramp, out):
    """Fill out (8,) with what one point sees in a volume; False where nothing.

    `memory` is the volume as a flat array, `strides` its steps in elements. out
    holds the trilinear value and its slopes along the axes, then the weight of the
    sample and its slopes: samples fade out over the volume's outermost voxels, so
    that no score jumps when a sample crosses the border.
    """
    if not (
        -0.5 < x < shape[0] - 0.5
        and -0.5 < y < shape[1] - 0.5
        and -0.5 < z < shape[2] - 0.5
    ):
        return False
    i, j, k = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
    fx, fy, fz = x - i, y - j, z - k
    out[4] = 1.0
    out[5] = out[6] = out[7] = 0.0
    if (
        0.5 <= x <= shape[0] - 1.5
        and 0.5 <= y <= shape[1] - 1.5
        and 0.5 <= z <= shape[2] - 1.5
    ):
        a = i * strides[0] + j * strides[1] + k * strides[2]
        dx, dy, dz = strides[0], strides[1], strides[2]
    else:
        i0, i1 = max(i, 0), min(i + 1, shape[0] - 1)
        j0, j1 = max(j, 0), min(j + 1, shape[1] - 1)
        k0, k1 = max(k, 0), min(k + 1, shape[2] - 1)
        a = i0 * strides[0] + j0 * strides[1] + k0 * strides[2]
        dx = (i1 - i0) * strides[0]
        dy = (j1 - j0) * strides[1]
        dz = (k1 - k0) * strides[2]
        _ramp(x, shape[0], ramp)
        wx, sx = ramp[0], ramp[1]
        _ramp(y, shape[1], ramp)
        wy, sy = ramp[0], ramp[1]
        _ramp(z, shape[2], ramp)
        wz, sz = ramp[0], ramp[1]
        out[4] = wx * wy * wz
        out[5], out[6], out[7] = sx * wy * wz, wx * sy * wz, wx * wy * sz
    b = a + dx
    v000, v001 = memory[a], memory[a + dz]
    v010, v011 = memory[a + dy], memory[a + dy + dz]
    v100, v101 = memory[b], memory[b + dz]
    v110, v111 = memory[b + dy], memory[b + dy + dz]
    # Along z first, then y, then x: each slope comes from the same differences.
    g00, g01, g10, g11 = v001 - v000, v011 - v010, v101 - v100, v111 - v110
    v00, v01 = v000 + fz * g00, v010 + fz * g01
    v10, v11 = v100 + fz * g10, v110 + fz * g11
    v0, v1 = v00 + fy * (v01 - v00), v10 + fy * (v11 - v10)
    g0, g1 = g00 + fy * (g01 - g00), g10 + fy * (g11 - g10)
    out[0] = v0 + fx * (v1 - v0)
    out[1] = v1 - v0
    out[2] = (1 - fx) * (v01 - v00) + fx * (v11 - v10)
    out[3] = g0 + fx * (g1 - g0)
    return out[0] == out[0]  # a missing neighbour is NaN, and makes all NaN


@njit(cache=True, nogil=True)
def joint_histogram(points, fixed_bin, memory, shape, strides, matrix, seen, out):
    """Add samples to out (n_bins, n_bins); see `similarity.joint_histogram`.

    Fills seen (n, 8): value, slopes of the value, weight, slopes of the weight of
    each sample in the moving image; the weight is 0 where it was left out.
    """
    local = np.empty(8)
    ramp = np.empty(2)
    for s in range(points.shape[0]):
        p, q, r = points[s, 0], points[s, 1], points[s, 2]
        x = matrix[0, 0] * p + matrix[0, 1] * q + matrix[0, 2] * r + matrix[0, 3]
        y = matrix[1, 0] * p + matrix[1, 1] * q + matrix[1, 2] * r + matrix[1, 3]
        z = matrix[2, 0] * p + matrix[2, 1] * q + matrix[2, 2] * r + matrix[2, 3]
        if not _look_up(memory, shape, strides, x, y, z, ramp, local):
            seen[s, 4] = 0
            continue
        for a in range(8):
            seen[s, a] = local[a]
        v, w = local[0], local[4] / 6.0
        b = int(v)
        t = v - b
        u = 1.0 - t
        row = out[fixed_bin[s]]
        row[b - 1] += w * (u * u * u)
        row[b] += w * (4.0 - 6.0 * t * t + 3.0 * t * t * t)
        row[b + 1] += w * (4.0 - 6.0 * u * u + 3.0 * u * u * u)
        row[b + 2] += w * (t * t * t)


@njit(cache=True, nogil=True)
def score_gradient(points, fixed_bin, seen, d_histogram, out):
    """Add d score / d matrix to out (3, 4); see `similarity.score_gradient`."""
    for s in range(points.shape[0]):
        w = np.float64(seen[s, 4])
        if w == 0.0:
            continue
        v = np.float64(seen[s, 0])
        b = int(v)
        t = v - b
        u = 1.0 - t
        d = d_histogram[fixed_bin[s]]
        by_value = (w / 2.0) * (
            -u * u * d[b - 1]
            + (3.0 * t * t - 4.0 * t) * d[b]
            + (4.0 * u - 3.0 * u * u) * d[b + 1]
            + t * t * d[b + 2]
        )
        by_weight = 0.0
        if w != 1.0:
            by_weight = (
                u * u * u * d[b - 1]
                + (4.0 - 6.0 * t * t + 3.0 * t * t * t) * d[b]
                + (4.0 - 6.0 * u * u + 3.0 * u * u * u) * d[b + 1]
                + t * t * t * d[b + 2]
            ) / 6.0
        for a in range(3):
            g = by_value * seen[s, a + 1] + by_weight * seen[s, a + 5]
            out[a, 0] += g * points[s, 0]
            out[a, 1] += g * points[s, 1]
            out[a, 2] += g * points[s, 2]
            out[a, 3] += g


@njit(cache=True, nogil=True)
def pose_entropies(points, fixed_bin, memory, shape, strides, matrices, x_log_x, out):
    """Fill out (n_poses, 4) for many poses; see `search.pose_entropies`."""
    n_bins = 0
    for s in range(fixed_bin.shape[0]):
        n_bins = max(n_bins, fixed_bin[s] + 1)
    m_bins = 0
    for s in range(memory.shape[0]):
        m_bins = max(m_bins, memory[s] + 1)
    joint = np.empty((n_bins, m_bins), np.int64)
    columns = np.empty(m_bins, np.int64)
    for pose in range(matrices.shape[0]):
        m = matrices[pose].astype(np.float32)
        m[:, 3] += np.float32(0.5)  # so that truncation rounds to the nearest voxel
        joint[:] = 0
        for s in range(points.shape[0]):
            p, q, r = points[s, 0], points[s, 1], points[s, 2]
            x = m[0, 0] * p + m[0, 1] * q + m[0, 2] * r + m[0, 3]
            y = m[1, 0] * p + m[1, 1] * q + m[1, 2] * r + m[1, 3]
            z = m[2, 0] * p + m[2, 1] * q + m[2, 2] * r + m[2, 3]
            if (
                0 <= x < shape[0] and 0 <= y < shape[1] and 0 <= z < shape[2]
            ):
                a = int(x) * strides[0] + int(y) * strides[1] + int(z) * strides[2]
                joint[fixed_bin[s], memory[a]] += 1
        columns[:] = 0
        total = 0
        h_fixed = 0.0
        h_joint = 0.0
        # The last bin holds samples without data: they do not count.
        for i in range(n_bins):
            row = 0
            for j in range(m_bins - 1):
                n = joint[i, j]
                row += n
                columns[j] += n
                h_joint -= x_log_x[n]
            total += row
            h_fixed -= x_log_x[row]
        h_moving = 0.0
        for j in range(m_bins - 1):
            h_moving -= x_log_x[columns[j]]
        out[pose, 0] = total
        if total > 0:
            log_total = x_log_x[total] / total
            out[pose, 1] = h_fixed / total + log_total
            out[pose, 2] = h_moving / total + log_total
            out[pose, 3] = h_joint / total + log_total
        else:
            out[pose, 1] = out[pose, 2] = out[pose, 3] = 0.0


@njit(cache=True, nogil=True)
def downsample(memory, shape, strides, factors, limits, start, out):
    """Fill out (n, my, mz) with block means; see `pyramid.downsample`."""
    low, high = limits[0], limits[1]
    for i in range(out.shape[0]):
        x0 = (i + start) * factors[0]
        x1 = min(x0 + factors[0], shape[0])
        for j in range(out.shape[1]):
            y0 = j * factors[1]
            y1 = min(y0 + factors[1], shape[1])
            for k in range(out.shape[2]):
                z0 = k * factors[2]
                z1 = min(z0 + factors[2], shape[2])
                total = np.float32(0)
                n = 0
                for x in range(x0, x1):
                    for y in range(y0, y1):
                        for z in range(z0, z1):
                            v = memory[
                                x * strides[0] + y * strides[1] + z * strides[2]
                            ]
                            if v == v:
                                total += min(max(v, low), high)
                                n += 1
                size = factors[0] * factors[1] * factors[2]
                out[i, j, k] = total / n if 2 * n >= size else np.nan


@njit(cache=True, nogil=True)
def _axis_linear(x, n):
    """First voxel, second voxel and weight of the second one; -1 outside."""
    if not (-0.500001 <= x <= n - 0.499999):
        return -1, -1, 0.0
    x = min(max(x, 0.0), n - 1.0)
    i = int(x)
    f = x - i
    if f < 1e-6:
        return i, i, 0.0
    if f > 1 - 1e-6:
        return i + 1, i + 1, 0.0
    return i, i + 1, f


@njit(cache=True, nogil=True)
def _axis_cubic(x, n, steps, weights):
    """Fill steps (4,) and weights (4,) of a cubic B-spline; False outside."""
    if not (-0.500001 <= x <= n - 0.499999):
        return False
    x = min(max(x, 0.0), n - 1.0)
    i = max(min(int(x), n - 2), 0)
    t = x - i
    u = 1.0 - t
    weights[0] = u * u * u / 6.0
    weights[1] = (4.0 - 6.0 * t * t + 3.0 * t * t * t) / 6.0
    weights[2] = (4.0 - 6.0 * u * u + 3.0 * u * u * u) / 6.0
    weights[3] = t * t * t / 6.0
    for a in range(4):
        b = abs(i - 1 + a)  # mirrored about the outermost voxel centres
        if b > n - 1:
            b = max(2 * (n - 1) - b, 0)
        steps[a] = min(b, n - 1)
    return True


@njit(cache=True, nogil=True)
def resample_nearest(memory, shape, strides, matrix, first, out):
    """Fill out (planes, ny, nx), plane `first` on; see `resample.resample`."""
    for k in range(out.shape[0]):
        for j in range(out.shape[1]):
            for i in range(out.shape[2]):
                z = k + first
                a = 0
                for d in range(3):
                    x = (
                        matrix[d, 0] * i
                        + matrix[d, 1] * j
                        + matrix[d, 2] * z
                        + matrix[d, 3]
                    )
                    if not (-0.500001 <= x <= shape[d] - 0.499999):
                        a = -1
                        break
                    # Ties go up, whatever the rounding of x.
                    a += min(int(x + 0.500001), shape[d] - 1) * strides[d]
                out[k, j, i] = memory[a] if a >= 0 else np.nan


@njit(cache=True, nogil=True)
def resample_linear(memory, shape, strides, matrix, first, out):
    """Fill out (planes, ny, nx), plane `first` on; see `resample.resample`."""
    m = matrix
    for k in range(out.shape[0]):
        for j in range(out.shape[1]):
            for i in range(out.shape[2]):
                z = k + first
                out[k, j, i] = np.nan
                x0, x1, fx = _axis_linear(
                    m[0, 0] * i + m[0, 1] * j + m[0, 2] * z + m[0, 3], shape[0]
                )
                if x0 < 0:
                    continue
                y0, y1, fy = _axis_linear(
                    m[1, 0] * i + m[1, 1] * j + m[1, 2] * z + m[1, 3], shape[1]
                )
                if y0 < 0:
                    continue
                z0, z1, fz = _axis_linear(
                    m[2, 0] * i + m[2, 1] * j + m[2, 2] * z + m[2, 3], shape[2]
                )
                if z0 < 0:
                    continue
                value = 0.0
                for a in range(2):
                    row = (x1 if a else x0) * strides[0]
                    wx = fx if a else 1.0 - fx
                    y0z0 = memory[row + y0 * strides[1] + z0 * strides[2]]
                    y0z1 = memory[row + y0 * strides[1] + z1 * strides[2]]
                    y1z0 = memory[row + y1 * strides[1] + z0 * strides[2]]
                    y1z1 = memory[row + y1 * strides[1] + z1 * strides[2]]
                    value += wx * (
                        (1.0 - fy) * ((1.0 - fz) * y0z0 + fz * y0z1)
                        + fy * ((1.0 - fz) * y1z0 + fz * y1z1)
                    )
                out[k, j, i] = value


@njit(cache=True, nogil=True)
def resample_cubic(memory, shape, strides, matrix, first, out):
    """Fill out (planes, ny, nx), plane `first` on; see `resample.resample`.

    `memory` holds the coefficients of the cubic B-spline, not the intensities.
    """
    m = matrix
    steps = np.empty((3, 4), np.int64)
    weights = np.empty((3, 4))
    for k in range(out.shape[0]):
        for j in range(out.shape[1]):
            for i in range(out.shape[2]):
                z = k + first
                inside = True
                for d in range(3):
                    x = m[d, 0] * i + m[d, 1] * j + m[d, 2] * z + m[d, 3]
                    if not _axis_cubic(x, shape[d], steps[d], weights[d]):
                        inside = False
                        break
                    for a in range(4):
                        steps[d, a] *= strides[d]
                if not inside:
                    out[k, j, i] = np.nan
                    continue
                value = 0.0
                for a in range(4):
                    for b in range(4):
                        ab = steps[0, a] + steps[1, b]
                        wab = weights[0, a] * weights[1, b]
                        for c in range(4):
                            value += wab * weights[2, c] * memory[ab + steps[2, c]]
                out[k, j, i] = value
