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


@njit(cache=True, nogil=True, inline="always")
def _fade(x, last):
    """Weight of a sample near the ends of an axis, and its slope.

    0 half a voxel past the outermost voxel centres (0 and `last`), 1 half a voxel
    before them, smooth between.
    """
    d = min(x + 0.5, last - x + 0.5)
    slope = 6.0 * d * (1.0 - d)
    if d >= 1.0:
        return 1.0, 0.0
    return d * d * (3.0 - 2.0 * d), slope if x + x < last else -slope


@njit(cache=True, nogil=True)
def joint_histogram(points, fixed_bin, memory, shape, strides, matrix, seen, out):
    """Add samples to out (n_bins, n_bins); see `similarity.joint_histogram`.

    Fills seen (n, 8): value, its slopes, weight, its slopes, of each sample in the
    moving image. The weight is 0 where the sample was left out; its slopes are
    filled only where it is not 1.
    """
    m00, m01, m02, m03 = matrix[0, 0], matrix[0, 1], matrix[0, 2], matrix[0, 3]
    m10, m11, m12, m13 = matrix[1, 0], matrix[1, 1], matrix[1, 2], matrix[1, 3]
    m20, m21, m22, m23 = matrix[2, 0], matrix[2, 1], matrix[2, 2], matrix[2, 3]
    nx, ny, nz = shape[0] - 1, shape[1] - 1, shape[2] - 1
    for s in range(points.shape[0]):
        p = np.float64(points[s, 0])
        q = np.float64(points[s, 1])
        r = np.float64(points[s, 2])
        x = m00 * p + m01 * q + m02 * r + m03
        y = m10 * p + m11 * q + m12 * r + m13
        z = m20 * p + m21 * q + m22 * r + m23
        seen[s, 4] = 0
        if not (-0.5 < x < nx + 0.5 and -0.5 < y < ny + 0.5 and -0.5 < z < nz + 0.5):
            continue
        i, j, k = int(x + 1.0) - 1, int(y + 1.0) - 1, int(z + 1.0) - 1
        weight = 1.0
        if 0.5 <= x <= nx - 0.5 and 0.5 <= y <= ny - 0.5 and 0.5 <= z <= nz - 0.5:
            a = i * strides[0] + j * strides[1] + k * strides[2]
            dx, dy, dz = strides[0], strides[1], strides[2]
        else:
            # Near the border samples fade out, so that no score jumps there.
            i0, i1 = max(i, 0), min(i + 1, nx)
            j0, j1 = max(j, 0), min(j + 1, ny)
            k0, k1 = max(k, 0), min(k + 1, nz)
            a = i0 * strides[0] + j0 * strides[1] + k0 * strides[2]
            dx = (i1 - i0) * strides[0]
            dy = (j1 - j0) * strides[1]
            dz = (k1 - k0) * strides[2]
            wx, sx = _fade(x, np.float64(nx))
            wy, sy = _fade(y, np.float64(ny))
            wz, sz = _fade(z, np.float64(nz))
            weight = wx * wy * wz
            seen[s, 5] = sx * wy * wz
            seen[s, 6] = wx * sy * wz
            seen[s, 7] = wx * wy * sz
        fx, fy, fz = x - i, y - j, z - k
        b = a + dx
        v000, v001 = memory[a], memory[a + dz]
        v010, v011 = memory[a + dy], memory[a + dy + dz]
        v100, v101 = memory[b], memory[b + dz]
        v110, v111 = memory[b + dy], memory[b + dy + dz]
        # Along z first, then y, then x: each slope comes from the same differences.
        g00, g01, g10, g11 = v001 - v000, v011 - v010, v101 - v100, v111 - v110
        v00, v01 = v000 + fz * g00, v010 + fz * g01
        v10, v11 = v100 + fz * g10, v110 + fz * g11
        h0, h1 = v01 - v00, v11 - v10
        v0, v1 = v00 + fy * h0, v10 + fy * h1
        g0, g1 = g00 + fy * (g01 - g00), g10 + fy * (g11 - g10)
        value = v0 + fx * (v1 - v0)
        if not value == value:  # a missing neighbour is NaN, and makes all NaN
            continue
        seen[s, 0] = value
        seen[s, 1] = v1 - v0
        seen[s, 2] = h0 + fx * (h1 - h0)
        seen[s, 3] = g0 + fx * (g1 - g0)
        seen[s, 4] = weight
        m = int(value)
        t = value - m
        u = 1.0 - t
        weight /= 6.0
        f = fixed_bin[s]
        out[f, m - 1] += weight * (u * u * u)
        out[f, m] += weight * (4.0 + (3.0 * t - 6.0) * (t * t))
        out[f, m + 1] += weight * (4.0 + (3.0 * u - 6.0) * (u * u))
        out[f, m + 2] += weight * (t * t * t)


@njit(cache=True, nogil=True)
def score_gradient(points, fixed_bin, seen, d_histogram, out):
    """Fill out (3, 4) with d score / d matrix; see `similarity.score_gradient`."""
    a00 = a01 = a02 = a03 = 0.0
    a10 = a11 = a12 = a13 = 0.0
    a20 = a21 = a22 = a23 = 0.0
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
        gx, gy, gz = by_value * seen[s, 1], by_value * seen[s, 2], by_value * seen[s, 3]
        if w != 1.0:
            by_weight = (
                u * u * u * d[b - 1]
                + (4.0 - 6.0 * t * t + 3.0 * t * t * t) * d[b]
                + (4.0 - 6.0 * u * u + 3.0 * u * u * u) * d[b + 1]
                + t * t * t * d[b + 2]
            ) / 6.0
            gx += by_weight * seen[s, 5]
            gy += by_weight * seen[s, 6]
            gz += by_weight * seen[s, 7]
        p, q, r = points[s, 0], points[s, 1], points[s, 2]
        a00, a01, a02, a03 = a00 + gx * p, a01 + gx * q, a02 + gx * r, a03 + gx
        a10, a11, a12, a13 = a10 + gy * p, a11 + gy * q, a12 + gy * r, a13 + gy
        a20, a21, a22, a23 = a20 + gz * p, a21 + gz * q, a22 + gz * r, a23 + gz
    out[0, 0], out[0, 1], out[0, 2], out[0, 3] = a00, a01, a02, a03
    out[1, 0], out[1, 1], out[1, 2], out[1, 3] = a10, a11, a12, a13
    out[2, 0], out[2, 1], out[2, 2], out[2, 3] = a20, a21, a22, a23


@njit(cache=True, nogil=True)
def pose_entropies(points, fixed_bin, memory, shape, strides, matrices, x_log_x, out):
    """Fill out (n_poses, 4) for many poses; see `search.pose_entropies`.

    points is (3, n); the volume's outermost voxels hold its largest grey level,
    which marks "no data", so that samples outside can be moved onto them.
    """
    n = points.shape[1]
    columns = 0
    for a in range(memory.shape[0]):
        columns = max(columns, memory[a] + 1)
    rows = 0
    row_of = np.empty(n, np.int32)
    for s in range(n):
        rows = max(rows, fixed_bin[s] + 1)
        row_of[s] = fixed_bin[s] * columns
    joint = np.empty(rows * columns, np.int32)
    moving = np.empty(columns, np.int32)
    voxel = np.empty(n, np.int32)
    sx, sy, sz = np.int32(strides[0]), np.int32(strides[1]), np.int32(strides[2])
    low = np.float32(0.0)
    nx, ny = np.float32(shape[0] - 1), np.float32(shape[1] - 1)
    nz = np.float32(shape[2] - 1)
    for pose in range(matrices.shape[0]):
        m = matrices[pose].astype(np.float32)
        m00, m01, m02, m03 = m[0, 0], m[0, 1], m[0, 2], m[0, 3] + np.float32(0.5)
        m10, m11, m12, m13 = m[1, 0], m[1, 1], m[1, 2], m[1, 3] + np.float32(0.5)
        m20, m21, m22, m23 = m[2, 0], m[2, 1], m[2, 2], m[2, 3] + np.float32(0.5)
        # Arithmetic apart from memory access: the compiler makes vectors of it.
        for s in range(n):
            p, q, r = points[0, s], points[1, s], points[2, s]
            x = min(max(m00 * p + m01 * q + m02 * r + m03, low), nx)
            y = min(max(m10 * p + m11 * q + m12 * r + m13, low), ny)
            z = min(max(m20 * p + m21 * q + m22 * r + m23, low), nz)
            voxel[s] = np.int32(x) * sx + np.int32(y) * sy + np.int32(z) * sz
        joint[:] = 0
        for s in range(n):
            joint[row_of[s] + np.int32(memory[voxel[s]])] += 1
        moving[:] = 0
        total = 0
        h_fixed, h_moving, h_joint = 0.0, 0.0, 0.0
        for i in range(rows):
            row = 0
            for j in range(columns - 1):
                count = joint[i * columns + j]
                row += count
                moving[j] += count
                h_joint -= x_log_x[count]
            total += row
            h_fixed -= x_log_x[row]
        for j in range(columns - 1):
            h_moving -= x_log_x[moving[j]]
        scale = 1.0 / max(total, 1)
        log_total = x_log_x[total] * scale
        out[pose, 0] = total
        out[pose, 1] = h_fixed * scale + log_total
        out[pose, 2] = h_moving * scale + log_total
        out[pose, 3] = h_joint * scale + log_total


@njit(cache=True, nogil=True)
def grey_levels(memory, low, high, levels, out):
    """Fill out (n,) with the grey levels of intensities; see `GreyScale.apply`."""
    last = levels.shape[0] - 1
    scale = last / (high - low)
    for a in range(memory.shape[0]):
        x = (memory[a] - low) * scale
        if not x == x:
            out[a] = np.nan
            continue
        x = min(max(x, 0.0), np.float64(last))
        i = min(int(x), last - 1)
        out[a] = levels[i] + (x - i) * (levels[i + 1] - levels[i])


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
                            v = memory[x * strides[0] + y * strides[1] + z * strides[2]]
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
