# numba has few types:
# mypy: disallow-untyped-calls=False
"""Compiled loops, nothing else.

All in one file, because numba's cache does not notice an edit in another one.
Each loop is called by a function of the same name elsewhere, which checks its
arguments and documents it, and has a slow twin in ``tests/naive.py``. Arrays and
numbers come in, ``out`` comes last. Loops release the interpreter lock and run on
one thread; `mireg._threads` gives each thread its share.

What is no loop over numbers compiles slowly: assigning an array to a slice of another
one costs seconds, because numba compiles the text of the error for unequal shapes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from . import _cache_folder as cache_folder

cache_folder.provide()

# All alike where they can be, since numba keeps what it learned of operators by these
# options: other sets take longer to compile. NaN keeps its meaning. No sum may become a
# vector ("reassoc") in a loop that also writes: the compiler then keeps both forms, and
# where arrays happen to lie in memory would choose the bits of the answer.
# Nothing in C calls a loop, and no loop has expressions of arrays: a wrapper for the
# first, and a look for the second, would only take time. Nor does a loop divide by
# zero: to look for that, as Python does, would keep vectors out.
_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "fastmath": {"contract", "nsz"},
    "no_cfunc_wrapper": True,
    "no_rewrites": True,
    "error_model": "numpy",
}


def _compiled(**options: Any) -> Any:
    """Compile a loop when it is first called, or read it from where it is kept."""

    def compiled(loop: Any) -> Any:
        made: Any = njit(**_OPTIONS | options)(loop)
        if made is not loop:  # as it is with NUMBA_DISABLE_JIT
            made._cache = cache_folder.LoopCache(loop)
        return made

    return compiled


@_compiled()
def _taper(x, last):
    """Weight of a sample near the ends of an axis, and its slope.

    0 half a voxel past the outermost voxel centres (0 and `last`), 1 half a voxel
    before them, smooth between.
    """
    d = min(x + 0.5, last - x + 0.5)
    slope = 6.0 * d * (1.0 - d)
    if d >= 1.0:
        return 1.0, 0.0
    return d * d * (3.0 - 2.0 * d), slope if x + x < last else -slope


@_compiled()
def _value(word):
    """Intensity in the lower 16 bits of a word, 0 to 32767; see `quantised`."""
    return np.float64(np.int32(word & np.uint32(0x7FFF)))


@_compiled()
def _voxel(word):
    """Intensity in a word, or NaN; see `quantised`."""
    return np.nan if word & np.uint32(0x8000) else _value(word)


@_compiled()
def _border_sample(memory, shape, x, y, z):
    """Value, its three slopes, weight and its three slopes, near the border."""
    step_x, step_y = shape[1] * shape[2], shape[2]
    nx, ny, nz = shape[0] - 1, shape[1] - 1, shape[2] - 1
    i, j, k = int(x + 1.0) - 1, int(y + 1.0) - 1, int(z + 1.0) - 1
    i0, i1 = max(i, 0), min(i + 1, nx)
    j0, j1 = max(j, 0), min(j + 1, ny)
    k0, k1 = max(k, 0), min(k + 1, nz)
    a = i0 * step_x + j0 * step_y + k0
    dx, dy, dz = (i1 - i0) * step_x, (j1 - j0) * step_y, k1 - k0
    b = a + dx
    fx, fy, fz = x - i, y - j, z - k
    v00, v01 = _voxel(memory[a]), _voxel(memory[a + dy])
    v10, v11 = _voxel(memory[b]), _voxel(memory[b + dy])
    g00, g01 = _voxel(memory[a + dz]) - v00, _voxel(memory[a + dy + dz]) - v01
    g10, g11 = _voxel(memory[b + dz]) - v10, _voxel(memory[b + dy + dz]) - v11
    v00, v01, v10, v11 = v00 + fz * g00, v01 + fz * g01, v10 + fz * g10, v11 + fz * g11
    h0, h1 = v01 - v00, v11 - v10
    v0, v1 = v00 + fy * h0, v10 + fy * h1
    g0, g1 = g00 + fy * (g01 - g00), g10 + fy * (g11 - g10)
    wx, sx = _taper(x, np.float64(nx))
    wy, sy = _taper(y, np.float64(ny))
    wz, sz = _taper(z, np.float64(nz))
    return (
        (v0 + fx * (v1 - v0), v1 - v0, h0 + fx * (h1 - h0), g0 + fx * (g1 - g0)),
        (wx * wy * wz, sx * wy * wz, wx * sy * wz, wx * wy * sz),
    )


@_compiled()
def quantised(memory, out):
    """Fill out (n,), a word for each voxel of memory (n,); see `levels.quantised`."""
    for a in range(memory.shape[0]):
        x = memory[a]
        known = x == x
        level = np.int32(min(max(x, 0.0), 1.0) * 32767.0 + 0.5) if known else 0x8000
        out[a] = np.uint16(level)


@_compiled()
def joint_histogram(
    points, sampled_bin, memory, shape, matrix, start, stop, readings, out
):
    """Add samples start to stop to out; see `similarity.joint_histogram`.

    memory holds the interpolated image in the order of its axes, as `quantised` fills
    it, and one word more. Fills those of readings (8, n): the value of the image at
    each sample in bins of out, its gradient along the axes, the sample's weight, and
    the gradient of that. The weight is 0 where the sample was left out; its gradient
    is filled only where it is neither 0 nor 1.

    Samples go through in blocks, one short loop after the other: each loop does one
    kind of work on one buffer, so that the compiler makes vectors of the arithmetic
    and the processor waits for several reads of memory at once.
    """
    m00, m01, m02, m03 = matrix[0, 0], matrix[0, 1], matrix[0, 2], matrix[0, 3]
    m10, m11, m12, m13 = matrix[1, 0], matrix[1, 1], matrix[1, 2], matrix[1, 3]
    m20, m21, m22, m23 = matrix[2, 0], matrix[2, 1], matrix[2, 2], matrix[2, 3]
    nx, ny, nz = shape[0] - 1.5, shape[1] - 1.5, shape[2] - 1.5
    step_x, step_y = np.int32(shape[1] * shape[2]), np.int32(shape[2])
    # Unsigned indices spare the test for counting from the end. A lone slice has no
    # next one; nothing is deep in it.
    thick = min(shape[0], shape[1], shape[2]) > 1
    ux, uy = np.uint64(step_x if thick else 0), np.uint64(step_y if thick else 0)
    u1, u2, u3 = np.uint64(1), np.uint64(2), np.uint64(3)
    half, missing = np.uint32(16), np.uint32(0x80008000)
    bins = np.int32(out.shape[1])
    span = (bins - 3.001) / 32767.0  # the spline reaches one bin down and two up
    flat = out.reshape(-1)
    first = np.empty(256, np.int32)  # voxel below each sample; then first of four bins
    words = np.empty(4 * 256, np.uint32)
    shallow = np.empty(256, np.uint32)  # 0: a voxel and more from the border
    rows = np.empty(5 * 256)
    for at in range(start, stop, 256):
        n = min(256, stop - at)
        p, q, r = points[0, at : at + n], points[1, at : at + n], points[2, at : at + n]
        borders = np.uint32(0)
        for a in range(n):
            u, v, w = np.float64(p[a]), np.float64(q[a]), np.float64(r[a])
            x = m00 * u + m01 * v + m02 * w + m03
            y = m10 * u + m11 * v + m12 * w + m13
            z = m20 * u + m21 * v + m22 * w + m23
            deep = (x >= 0.5) & (y >= 0.5) & (z >= 0.5)
            deep &= (x <= nx) & (y <= ny) & (z <= nz)
            i, j, k = np.int32(x), np.int32(y), np.int32(z)
            first[a] = i * step_x + j * step_y + k if deep else np.int32(0)
            rows[a], rows[256 + a], rows[512 + a] = x - i, y - j, z - k
            shallow[a] = np.uint32(0) if deep else missing
            borders |= shallow[a]
        for a in range(n):  # two neighbours are read as one: the compiler sees it
            b = np.uint64(first[a])
            c, d, e = b + uy, b + ux, b + ux + uy
            words[a] = np.uint32(memory[b]) | np.uint32(memory[b + u1]) << half
            words[256 + a] = np.uint32(memory[c]) | np.uint32(memory[c + u1]) << half
            words[512 + a] = np.uint32(memory[d]) | np.uint32(memory[d + u1]) << half
            words[768 + a] = np.uint32(memory[e]) | np.uint32(memory[e + u1]) << half
        # Along z first, then y, then x: each slope comes from the same differences.
        for a in range(n):
            fx, fy, fz = rows[a], rows[256 + a], rows[512 + a]
            w00, w01 = words[a], words[256 + a]
            w10, w11 = words[512 + a], words[768 + a]
            v000 = _value(w00)
            v001 = _value(w00 >> half)
            v010 = _value(w01)
            v011 = _value(w01 >> half)
            v100 = _value(w10)
            v101 = _value(w10 >> half)
            v110 = _value(w11)
            v111 = _value(w11 >> half)
            g00, g01, g10, g11 = v001 - v000, v011 - v010, v101 - v100, v111 - v110
            v00, v01 = v000 + fz * g00, v010 + fz * g01
            v10, v11 = v100 + fz * g10, v110 + fz * g11
            h0, h1 = v01 - v00, v11 - v10
            v0, v1 = v00 + fy * h0, v10 + fy * h1
            g0, g1 = g00 + fy * (g01 - g00), g10 + fy * (g11 - g10)
            known = ((w00 | w01 | w10 | w11 | shallow[a]) & missing) == np.uint32(0)
            scale = span if known else 0.0
            rows[a] = 1.0 + scale * (v0 + fx * (v1 - v0))
            rows[256 + a] = scale * (v1 - v0)
            rows[512 + a] = scale * (h0 + fx * (h1 - h0))
            rows[768 + a] = scale * (g0 + fx * (g1 - g0))
            rows[1024 + a] = 1.0 if known else 0.0
        # Near the border samples taper off, so that no score jumps there.
        for a in range(n if borders else 0):
            if shallow[a] == 0:
                continue
            x = m00 * p[a] + m01 * q[a] + m02 * r[a] + m03
            y = m10 * p[a] + m11 * q[a] + m12 * r[a] + m13
            z = m20 * p[a] + m21 * q[a] + m22 * r[a] + m23
            inside = (x > -0.5) & (y > -0.5) & (z > -0.5)
            inside &= (x < nx + 1.0) & (y < ny + 1.0) & (z < nz + 1.0)
            if not inside:
                continue
            sample, weight = _border_sample(memory, shape, x, y, z)
            if sample[0] == sample[0]:
                rows[a], rows[256 + a] = 1.0 + span * sample[0], span * sample[1]
                rows[512 + a], rows[768 + a] = span * sample[2], span * sample[3]
                rows[1024 + a] = weight[0]
                readings[5, at + a] = weight[1]
                readings[6, at + a] = weight[2]
                readings[7, at + a] = weight[3]
        for row in range(5):
            target = readings[row, at : at + n]
            for a in range(n):
                target[a] = rows[256 * row + a]
        row_of = sampled_bin[at : at + n]
        for a in range(n):
            value, w = rows[a], rows[1024 + a] * (1.0 / 6.0)
            t = value - np.int32(value)
            u = 1.0 - t
            first[a] = np.int32(row_of[a]) * bins + np.int32(value) - np.int32(1)
            rows[a] = w * (u * u * u)
            rows[256 + a] = w * (4.0 + (3.0 * t - 6.0) * (t * t))
            rows[512 + a] = w * (4.0 + (3.0 * u - 6.0) * (u * u))
            rows[768 + a] = w * (t * t * t)
        for a in range(n):
            b = np.uint64(first[a])
            flat[b] += rows[a]
            flat[b + u1] += rows[256 + a]
            flat[b + u2] += rows[512 + a]
            flat[b + u3] += rows[768 + a]


@_compiled(fastmath={"reassoc", "contract", "nsz"})
def score_gradient(points, sampled_bin, readings, d_histogram, start, stop, out):
    """Add d score / d matrix to out (3, 4), from samples start to stop.

    See `similarity.score_gradient`; d_histogram is float32. In blocks, as above.
    """
    bins = np.int32(d_histogram.shape[1])
    flat = d_histogram.reshape(-1)
    u1, u2, u3 = np.uint64(1), np.uint64(2), np.uint64(3)
    one, half, sixth = np.float32(1), np.float32(1 / 2), np.float32(1 / 6)
    three, four, six = np.float32(3), np.float32(4), np.float32(6)
    rows = np.empty(7 * 256, np.float32)
    for at in range(start, stop, 256):
        n = min(256, stop - at)
        values, weights = readings[0, at : at + n], readings[4, at : at + n]
        row_of = sampled_bin[at : at + n]
        for a in range(n):
            b = np.uint64(
                np.int32(row_of[a]) * bins + np.int32(values[a]) - np.int32(1)
            )
            rows[a], rows[256 + a] = flat[b], flat[b + u1]
            rows[512 + a], rows[768 + a] = flat[b + u2], flat[b + u3]
        gx, gy, gz = (
            readings[1, at : at + n],
            readings[2, at : at + n],
            readings[3, at : at + n],
        )
        borders = 0
        for a in range(n):
            borders += np.int32((weights[a] > 0) & (weights[a] < 1))
            t = values[a] - np.float32(np.int32(values[a]))
            u = one - t
            by_value = (weights[a] * half) * (
                t * t * rows[768 + a]
                - u * u * rows[a]
                + (three * t - four) * t * rows[256 + a]
                + (four - three * u) * u * rows[512 + a]
            )
            rows[1024 + a] = by_value * gx[a]
            rows[1280 + a] = by_value * gy[a]
            rows[1536 + a] = by_value * gz[a]
        for a in range(n if borders else 0):
            if weights[a] == 0 or weights[a] == 1:
                continue
            t = values[a] - np.float32(np.int32(values[a]))
            u = one - t
            by_weight = sixth * (
                u * u * u * rows[a]
                + (four + (three * t - six) * (t * t)) * rows[256 + a]
                + (four + (three * u - six) * (u * u)) * rows[512 + a]
                + t * t * t * rows[768 + a]
            )
            for d in range(3):
                rows[1024 + 256 * d + a] += by_weight * readings[d + 5, at + a]
        p, q, r = points[0, at : at + n], points[1, at : at + n], points[2, at : at + n]
        for d in range(3):
            row = rows[1024 + 256 * d :]
            by_p = by_q = by_r = by_one = np.float32(0)
            for a in range(n):
                by_p += row[a] * p[a]
                by_q += row[a] * q[a]
                by_r += row[a] * r[a]
                by_one += row[a]
            out[d, 0] += by_p
            out[d, 1] += by_q
            out[d, 2] += by_r
            out[d, 3] += by_one


@_compiled()
def shifted_information(
    points, sampled_bin, memory, shape, matrix, reach, table, start, stop, out
):
    """Add to out what samples start to stop tell of one another at each shift.

    See `residuals.shifted_information`. Shifts are whole voxels of the interpolated
    image, -reach to reach along each axis, the last one fastest; along the last two
    axes out has one more, of no use, and in the end the number of samples. Whole voxels
    share their fractions: a sample reads its neighbourhood once, and interpolates along
    one axis after the other.
    """
    rx, ry, rz = reach[0], reach[1], reach[2]
    wx, wy, wz = 2 * rx + 1, 2 * ry + 2, 2 * rz + 2
    plane, used = wy * wz, wx * wy * wz
    step_x, step_y = shape[1] * shape[2], shape[2]
    columns = table.shape[1]
    flat = table.reshape(-1)
    scale, half = np.float32((columns - 1) / 32767.0), np.float32(0.5)
    # Rows are read on into the next one: what is there ends up in the last of each axis
    # of out, and is of no use, but no loop is short.
    voxels = np.zeros(used + 2 * plane + wz + 1, np.float32)
    along_z, along_y = np.empty_like(voxels), np.empty_like(voxels)
    # As slices: no test for counting from the end.
    above, beside, before = voxels[1:], along_z[wz:], along_y[plane:]
    cell = np.empty(used, np.uint32)
    for s in range(start, stop):
        p, q, r = points[0, s], points[1, s], points[2, s]
        x = matrix[0, 0] * p + matrix[0, 1] * q + matrix[0, 2] * r + matrix[0, 3]
        y = matrix[1, 0] * p + matrix[1, 1] * q + matrix[1, 2] * r + matrix[1, 3]
        z = matrix[2, 0] * p + matrix[2, 1] * q + matrix[2, 2] * r + matrix[2, 3]
        # The whole neighbourhood is inside, or none of it counts.
        inside = (x >= rx) & (y >= ry) & (z >= rz)
        inside &= (x < shape[0] - 1 - rx) & (y < shape[1] - 1 - ry)
        inside &= z < shape[2] - 1 - rz
        if not inside:
            continue
        i, j, k = np.int64(x), np.int64(y), np.int64(z)
        fx, fy, fz = np.float32(x - i), np.float32(y - j), np.float32(z - k)
        corner = (i - rx) * step_x + (j - ry) * step_y + k - rz
        seen = np.uint16(0)
        for a in range(wx + 1):
            for b in range(wy):
                at = corner + a * step_x + b * step_y
                line = memory[at : at + wz]
                target = voxels[a * plane + b * wz : a * plane + (b + 1) * wz]
                for c in range(wz):
                    seen |= line[c]
                    target[c] = np.float32(line[c])
        if seen & np.uint16(0x8000):
            continue
        for n in range(used + plane + wz):
            along_z[n] = voxels[n] + fz * (above[n] - voxels[n])
        for n in range(used + plane):
            along_y[n] = along_z[n] + fy * (beside[n] - along_z[n])
        row = np.uint32(sampled_bin[s]) * np.uint32(columns)
        for n in range(used):
            value = along_y[n] + fx * (before[n] - along_y[n])
            cell[n] = row + np.uint32(np.int32(value * scale + half))
        for n in range(used):
            out[n] += flat[cell[n]]
        out[used] += np.float32(1)


@_compiled()
def entropies(histogram, by_row, by_column, by_cell, out):
    """Fill out (3,) with entropies, and the slopes by (n,) (m,) (n, m) counts.

    See `metrics.entropies`.
    """
    total = 0.0
    by_column[:] = 0.0
    for i in range(histogram.shape[0]):
        row = 0.0
        for j in range(histogram.shape[1]):
            row += histogram[i, j]
            by_column[j] += histogram[i, j]
        by_row[i] = row
        total += row
    total = max(total, 1e-300)
    out[0] = _surprise(by_row, total, by_row)
    out[1] = _surprise(by_column, total, by_column)
    out[2] = _surprise(histogram.ravel(), total, by_cell.ravel())


@_compiled()
def _surprise(counts, total, slopes):
    """Entropy of counts, and its slopes, which may go to the memory of the counts."""
    log_total, rare = np.log(total), 1e-12 * total
    most = log_total - np.log(rare)  # what never occurs would surprise
    entropy = 0.0
    for a in range(counts.shape[0]):
        count = counts[a]
        slopes[a] = log_total - np.log(count) if count > rare else most
        entropy += count * slopes[a]
    entropy /= total
    for a in range(counts.shape[0]):
        slopes[a] = (slopes[a] - entropy) / total
    return entropy


@_compiled()
def nearest_neighbour_entropies(
    points,
    sampled_rows,
    memory,
    shape,
    strides,
    first_counts,
    ijk_from_points,
    x_log_x,
    start,
    stop,
    out,
):
    """Fill out (n_channels, n_poses, 4), poses start to stop.

    See `search.nearest_neighbour_entropies`. points is (3, n); sampled_rows
    (n_channels, n), uint32, says where in a joint histogram each sample's row starts;
    ijk_from_points is (n_poses, 3, 4), float32, and
    voxel i reaches from i to i + 1. The last column of first_counts marks "no data";
    the volume's outermost voxels hold it, so that samples outside can be moved there.
    """
    n_channels, n = sampled_rows.shape
    rows, columns = first_counts.shape[1], first_counts.shape[2]
    first = first_counts.reshape(n_channels, rows * columns)
    joint = np.empty(rows * columns, np.int32)
    interpolated = np.empty(columns, np.int32)
    cell = np.empty(n, np.uint32)  # unsigned: no test for counting from the end
    sx, sy, sz = np.int32(strides[0]), np.int32(strides[1]), np.int32(strides[2])
    low = np.float32(0.0)
    nx, ny = np.float32(shape[0] - 1), np.float32(shape[1] - 1)
    nz = np.float32(shape[2] - 1)
    for pose in range(start, stop):
        m = ijk_from_points[pose]
        m00, m01, m02, m03 = m[0, 0], m[0, 1], m[0, 2], m[0, 3]
        m10, m11, m12, m13 = m[1, 0], m[1, 1], m[1, 2], m[1, 3]
        m20, m21, m22, m23 = m[2, 0], m[2, 1], m[2, 2], m[2, 3]
        # Arithmetic apart from memory access: the compiler makes vectors of it.
        for s in range(n):
            p, q, r = points[0, s], points[1, s], points[2, s]
            x = min(max(m00 * p + m01 * q + m02 * r + m03, low), nx)
            y = min(max(m10 * p + m11 * q + m12 * r + m13, low), ny)
            z = min(max(m20 * p + m21 * q + m22 * r + m23, low), nz)
            cell[s] = np.uint32(np.int32(x) * sx + np.int32(y) * sy + np.int32(z) * sz)
        for s in range(n):
            cell[s] = memory[cell[s]]
        for channel in range(n_channels):
            for a in range(rows * columns):
                joint[a] = first[channel, a]
            row = sampled_rows[channel]
            for s in range(n):
                joint[row[s] + cell[s]] += 1
            for j in range(columns):
                interpolated[j] = 0
            total = 0
            h_sampled, h_interpolated, h_joint = 0.0, 0.0, 0.0
            for i in range(rows):
                in_row = 0
                for j in range(columns - 1):
                    count = joint[i * columns + j]
                    in_row += count
                    interpolated[j] += count
                    h_joint -= x_log_x[count]
                total += in_row
                h_sampled -= x_log_x[in_row]
            for j in range(columns - 1):
                h_interpolated -= x_log_x[interpolated[j]]
            scale = 1.0 / max(total, 1)
            log_total = x_log_x[total] * scale
            out[channel, pose, 0] = total
            out[channel, pose, 1] = h_sampled * scale + log_total
            out[channel, pose, 2] = h_interpolated * scale + log_total
            out[channel, pose, 3] = h_joint * scale + log_total


@_compiled()
def normalise(memory, low, high, knots, out):
    """Fill out (n,) with normalised intensities; see `IntensityScale.apply`.

    All are float32. In blocks, as above.
    """
    zero, last = np.float32(0), np.float32(knots.shape[0] - 1)
    scale = last / (high - low)
    most = np.int32(knots.shape[0] - 2)
    rises = np.empty(most + 1, np.float32)
    for i in range(most + 1):
        rises[i] = knots[i + 1] - knots[i]
    first = np.empty(256, np.int32)
    beyond = np.empty(256, np.float32)
    for at in range(0, memory.shape[0], 256):
        n = min(256, memory.shape[0] - at)
        values, target = memory[at : at + n], out[at : at + n]
        for a in range(n):
            x = (values[a] - low) * scale
            x = zero if x < zero else x
            x = last if x > last else x  # NaN stays
            i = min(np.int32(x if x == x else zero), most)
            first[a], beyond[a] = i, x - np.float32(i)
        for a in range(n):
            i = np.uint32(first[a])
            target[a] = knots[i] + beyond[a] * rises[i]


@_compiled()
def downsample(volume, factors, limits, start, out):
    """Fill out (n, my, mz) with block means; see `prepare.downsample`.

    volume (nx, ny, nz) lies in memory in the order of its axes.
    """
    low, high = limits[0], limits[1]
    nz, step = volume.shape[2], factors[2]
    full = factors[0] * factors[1] * factors[2]
    total = np.empty(nz, np.float32)
    for i in range(out.shape[0]):
        x0 = (i + start) * factors[0]
        x1 = min(x0 + factors[0], volume.shape[0])
        for j in range(out.shape[1]):
            y0 = j * factors[1]
            y1 = min(y0 + factors[1], volume.shape[1])
            # Whole rows first: the compiler makes vectors of that.
            total[:] = 0
            for x in range(x0, x1):
                for y in range(y0, y1):
                    row = volume[x, y]
                    for z in range(nz):
                        v = np.float32(row[z])
                        v = low if v < low else v
                        total[z] += high if v > high else v
            means = out[i, j]
            wide = (x1 - x0) * (y1 - y0)
            for k in range(means.size):
                z0, z1 = k * step, min(k * step + step, nz)
                block, size = np.float32(0), wide * (z1 - z0)
                for z in range(z0, z1):
                    block += total[z]
                if not block == block:  # NaN somewhere in it
                    block, size = _known_sum(volume[x0:x1, y0:y1, z0:z1], low, high)
                means[k] = block / np.float32(size) if 2 * size >= full else np.nan


@_compiled()
def _known_sum(block, low, high):
    """Sum of the numbers in a block, clipped, and how many there are."""
    total, size = np.float32(0), 0
    for i in range(block.shape[0]):
        for j in range(block.shape[1]):
            for k in range(block.shape[2]):
                v = np.float32(block[i, j, k])
                if v == v:
                    total += min(max(v, low), high)
                    size += 1
    return total, size


@_compiled()
def gaussian(volume, x_weights, y_weights, z_weights, start, out):
    """Fill out (n, ny, nz), plane `start` on, with weighted means of neighbours.

    One odd number of float32 weights an axis of volume (nx, ny, nz), whose outermost
    voxels are repeated beyond; see `levels.gaussian`.
    """
    nx, ny, nz = volume.shape
    rx, ry, rz = x_weights.size // 2, y_weights.size // 2, z_weights.size // 2
    plane = np.empty((ny, nz), np.float32)
    line = np.empty(nz + 2 * rz, np.float32)
    inner = line[rz : rz + nz]
    for i in range(out.shape[0]):
        plane[:] = 0
        for a in range(x_weights.size):
            w, x = x_weights[a], min(max(i + start + a - rx, 0), nx - 1)
            for j in range(ny):
                row, total = volume[x, j], plane[j]
                for k in range(nz):
                    total[k] += w * row[k]
        for j in range(ny):
            inner[:] = 0
            for b in range(y_weights.size):
                w, row = y_weights[b], plane[min(max(j + b - ry, 0), ny - 1)]
                for k in range(nz):
                    inner[k] += w * row[k]
            for c in range(rz):
                line[c], line[rz + nz + c] = inner[0], inner[nz - 1]
            total = out[i, j]
            total[:] = 0
            for c in range(z_weights.size):
                w, row = z_weights[c], line[c : c + nz]
                for k in range(nz):
                    total[k] += w * row[k]


@_compiled()
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


@_compiled()
def interpolate(memory, shape, strides, matrix, points, out):
    """Fill out (n,) with the values at points (n, 3); see `prepare.interpolate`."""
    m = matrix
    for a in range(points.shape[0]):
        p, q, r = points[a, 0], points[a, 1], points[a, 2]
        out[a] = np.nan
        x0, x1, fx = _axis_linear(
            m[0, 0] * p + m[0, 1] * q + m[0, 2] * r + m[0, 3], shape[0]
        )
        if x0 < 0:
            continue
        y0, y1, fy = _axis_linear(
            m[1, 0] * p + m[1, 1] * q + m[1, 2] * r + m[1, 3], shape[1]
        )
        if y0 < 0:
            continue
        z0, z1, fz = _axis_linear(
            m[2, 0] * p + m[2, 1] * q + m[2, 2] * r + m[2, 3], shape[2]
        )
        if z0 < 0:
            continue
        x0, x1 = x0 * strides[0], x1 * strides[0]
        y0, y1 = y0 * strides[1], y1 * strides[1]
        z0, z1 = z0 * strides[2], z1 * strides[2]
        v00 = (1 - fz) * memory[x0 + y0 + z0] + fz * memory[x0 + y0 + z1]
        v01 = (1 - fz) * memory[x0 + y1 + z0] + fz * memory[x0 + y1 + z1]
        v10 = (1 - fz) * memory[x1 + y0 + z0] + fz * memory[x1 + y0 + z1]
        v11 = (1 - fz) * memory[x1 + y1 + z0] + fz * memory[x1 + y1 + z1]
        v0, v1 = (1 - fy) * v00 + fy * v01, (1 - fy) * v10 + fy * v11
        out[a] = (1 - fx) * v0 + fx * v1


@_compiled()
def bias_corrected(volume, background, bias, x, y, out):
    """Fill out (mx, my, mz); see `prepare.bias_corrected`.

    volume is as large, and bias (nx, ny, mz); x (mx,) and y (my,) are the places of
    the one among the voxels of the other.
    """
    nx, ny, mz = bias.shape
    for i in range(out.shape[0]):
        x0 = min(int(x[i]), max(nx - 2, 0))
        x1, fx = min(x0 + 1, nx - 1), np.float32(x[i] - x0)
        for j in range(out.shape[1]):
            y0 = min(int(y[j]), max(ny - 2, 0))
            y1, fy = min(y0 + 1, ny - 1), np.float32(y[j] - y0)
            v00, v01 = bias[x0, y0], bias[x0, y1]
            v10, v11 = bias[x1, y0], bias[x1, y1]
            row, target = volume[i, j], out[i, j]
            for k in range(mz):
                v0 = v00[k] + fy * (v01[k] - v00[k])
                v1 = v10[k] + fy * (v11[k] - v10[k])
                field = v0 + fx * (v1 - v0)
                target[k] = background + (row[k] - background) / field


@_compiled()
def sample_positions(voxels, ends, first, steps, matrix, out):
    """Fill out (n, 3) with samples, those before ends (m,) in voxels (m, 3).

    See `levels._sample_positions`.
    """
    a = 0
    for n in range(voxels.shape[0]):
        i, j, k = voxels[n, 0] - 0.5, voxels[n, 1] - 0.5, voxels[n, 2] - 0.5
        while a < ends[n]:
            x, y, z = (
                first[0] + a * steps[0],
                first[1] + a * steps[1],
                first[2] + a * steps[2],
            )
            x, y, z = i + x - np.floor(x), j + y - np.floor(y), k + z - np.floor(z)
            for d in range(3):
                out[a, d] = (
                    matrix[d, 0] * x
                    + matrix[d, 1] * y
                    + matrix[d, 2] * z
                    + matrix[d, 3]
                )
            a += 1


@_compiled()
def neighbourhood_histogram(volume, where, low, high, out):
    """Add to out (n, n) the voxels (columns) by the mean of their neighbours (rows).

    volume and where are (nx, ny, nz); see `contrast.neighbourhood_histogram`.
    """
    nx, ny, nz = volume.shape
    last = out.shape[0] - 1.0
    scale = last / (high - low)
    total, number = np.empty(nz + 2), np.empty(nz + 2)
    for i in range(nx):
        for j in range(ny):
            total[:] = 0
            number[:] = 0
            for x in range(max(i - 1, 0), min(i + 2, nx)):
                for y in range(max(j - 1, 0), min(j + 2, ny)):
                    row = volume[x, y]
                    for k in range(nz):
                        known = row[k] == row[k]
                        total[k + 1] += row[k] if known else np.float32(0)
                        number[k + 1] += 1.0 if known else 0.0
            for k in range(nz):
                here = np.float64(volume[i, j, k])
                n = number[k] + number[k + 1] + number[k + 2] - 1
                if not (where[i, j, k] and here == here and n > 0.5):
                    continue
                around = (total[k] + total[k + 1] + total[k + 2] - here) / n
                u = min(max((around - low) * scale, 0.0), last)
                v = min(max((here - low) * scale, 0.0), last)
                r, c = min(int(u), int(last) - 1), min(int(v), int(last) - 1)
                fu, fv = u - r, v - c
                out[r, c] += (1 - fu) * (1 - fv)
                out[r, c + 1] += (1 - fu) * fv
                out[r + 1, c] += fu * (1 - fv)
                out[r + 1, c + 1] += fu * fv


@_compiled()
def _axis_cubic(x, n, stride):
    """Give steps in memory and weights of a cubic B-spline at x, which is inside."""
    x = min(max(x, 0.0), n - 1.0)
    i = max(min(int(x), n - 2), 0)
    t = x - i
    u = 1.0 - t
    before, here, there, after = i - 1, i, i + 1, i + 2
    if before < 0 or after > n - 1:  # mirrored about the outermost voxel centres
        before, last = abs(before), n - 1
        there = there if there <= last else max(2 * last - there, 0)
        after = after if after <= last else max(2 * last - after, 0)
        before, there, after = min(before, last), min(there, last), min(after, last)
    # Unsigned: no test for counting from the end.
    return (
        np.uint64(before * stride),
        np.uint64(here * stride),
        np.uint64(there * stride),
        np.uint64(after * stride),
    ), (
        u * u * u / 6.0,
        (4.0 - 6.0 * t * t + 3.0 * t * t * t) / 6.0,
        (4.0 - 6.0 * u * u + 3.0 * u * u * u) / 6.0,
        t * t * t / 6.0,
    )


@_compiled()
def _line_cubic(memory, at, steps, weights):
    """Sum over four voxels along an axis."""
    return (weights[0] * memory[at + steps[0]] + weights[1] * memory[at + steps[1]]) + (
        weights[2] * memory[at + steps[2]] + weights[3] * memory[at + steps[3]]
    )


@_compiled()
def _plane_cubic(memory, at, steps, weights, line_steps, line_weights):
    """Sum over four lines."""
    return (
        weights[0] * _line_cubic(memory, at + steps[0], line_steps, line_weights)
        + weights[1] * _line_cubic(memory, at + steps[1], line_steps, line_weights)
    ) + (
        weights[2] * _line_cubic(memory, at + steps[2], line_steps, line_weights)
        + weights[3] * _line_cubic(memory, at + steps[3], line_steps, line_weights)
    )


@_compiled()
def _axis_lanczos(x, n, turns, steps, weights):
    """Fill steps (2a,) and weights (2a,) of a Lanczos window; False outside.

    turns (2, 2a) holds sine and cosine of pi k / a for k = a - 1, a - 2 ... -a.
    """
    if not (-0.500001 <= x <= n - 0.499999):
        return False
    x = min(max(x, 0.0), n - 1.0)
    i = int(x)
    f = x - i
    if f > 1 - 1e-6:
        i, f = i + 1, 0.0
    radius = weights.shape[0] // 2
    for a in range(2 * radius):
        steps[a] = min(max(i + a - radius + 1, 0), n - 1)
    if f < 1e-6:
        weights[:] = 0.0
        weights[radius - 1] = 1.0
        return True
    # sin(pi d) sin(pi d / a) / d^2 at d = f + k, up to a factor and a common sign.
    u = np.pi * f / radius
    sine, cosine = np.sin(u), np.cos(u)
    total = 0.0
    sign = 1.0
    for a in range(2 * radius):
        d = f + radius - 1 - a
        weight = sign * (sine * turns[1, a] + cosine * turns[0, a]) / (d * d)
        weights[a] = weight
        total += weight
        sign = -sign
    # Cut off, the weights do not quite sum to one: a flat image would ripple.
    for a in range(2 * radius):
        weights[a] /= total
    return True


@_compiled()
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


@_compiled()
def _inside(slope, start, n, count):
    """First of `count` steps that is inside an axis of n voxels, and one past the last.

    The limits are as loose as rounding: positions are clipped afterwards.
    """
    low, high = -0.500001 - start, n - 0.499999 - start
    if slope == 0.0:
        return (0, count) if low <= 0.0 <= high else (0, 0)
    if slope < 0.0:
        low, high = high, low
    low, high = max(low / slope, 0.0), min(high / slope, count - 1.0)
    if not low <= high:
        return 0, 0
    return int(np.ceil(low)), int(high) + 1


@_compiled()
def _row(matrix, shape, j, z, count):
    """Where a row of `count` voxels begins, and which of them are inside."""
    x0 = matrix[0, 1] * j + matrix[0, 2] * z + matrix[0, 3]
    y0 = matrix[1, 1] * j + matrix[1, 2] * z + matrix[1, 3]
    z0 = matrix[2, 1] * j + matrix[2, 2] * z + matrix[2, 3]
    ax, bx = _inside(matrix[0, 0], x0, shape[0], count)
    ay, by = _inside(matrix[1, 0], y0, shape[1], count)
    az, bz = _inside(matrix[2, 0], z0, shape[2], count)
    return x0, y0, z0, max(ax, ay, az), min(bx, by, bz)


@_compiled()
def resample_linear(memory, shape, strides, matrix, first, out):
    """Fill out (planes, ny, nx), plane `first` on; see `resample.resample`."""
    m00, m10, m20 = matrix[0, 0], matrix[1, 0], matrix[2, 0]
    sx, sy, sz = strides[0], strides[1], strides[2]
    nx, ny, nz = shape[0] - 1.0, shape[1] - 1.0, shape[2] - 1.0
    for k in range(out.shape[0]):
        z = k + first
        for j in range(out.shape[1]):
            row = out[k, j]
            row[:] = np.nan
            x0, y0, z0, begin, end = _row(matrix, shape, j, z, row.shape[0])
            for i in range(begin, end):
                x = min(max(m00 * i + x0, 0.0), nx)
                y = min(max(m10 * i + y0, 0.0), ny)
                w = min(max(m20 * i + z0, 0.0), nz)
                p, q, r = int(x + 1e-6), int(y + 1e-6), int(w + 1e-6)
                fx, fy, fz = x - p, y - q, w - r
                # On a voxel centre, the next voxel has no say: it may be missing.
                fx = fx if fx > 1e-6 else 0.0
                fy = fy if fy > 1e-6 else 0.0
                fz = fz if fz > 1e-6 else 0.0
                # Unsigned: no test for counting from the end.
                dx = np.uint64(sx if fx > 0.0 else 0)
                dy = np.uint64(sy if fy > 0.0 else 0)
                dz = np.uint64(sz if fz > 0.0 else 0)
                a = np.uint64(p * sx + q * sy + r * sz)
                b, c = a + dy, a + dz
                d = b + dz
                v00, v10 = np.float64(memory[a]), np.float64(memory[b])
                v01, v11 = np.float64(memory[c]), np.float64(memory[d])
                v00 += fx * (memory[a + dx] - v00)
                v10 += fx * (memory[b + dx] - v10)
                v01 += fx * (memory[c + dx] - v01)
                v11 += fx * (memory[d + dx] - v11)
                v00 += fy * (v10 - v00)
                v01 += fy * (v11 - v01)
                row[i] = v00 + fz * (v01 - v00)


@_compiled()
def resample_cubic(memory, shape, strides, matrix, first, out):
    """Fill out (planes, ny, nx), plane `first` on; see `resample.resample`.

    `memory` holds the coefficients of the cubic B-spline, not the intensities.
    """
    m00, m10, m20 = matrix[0, 0], matrix[1, 0], matrix[2, 0]
    for k in range(out.shape[0]):
        z = k + first
        for j in range(out.shape[1]):
            row = out[k, j]
            row[:] = np.nan
            x0, y0, z0, begin, end = _row(matrix, shape, j, z, row.shape[0])
            for i in range(begin, end):
                xs, wx = _axis_cubic(m00 * i + x0, shape[0], strides[0])
                ys, wy = _axis_cubic(m10 * i + y0, shape[1], strides[1])
                zs, wz = _axis_cubic(m20 * i + z0, shape[2], strides[2])
                row[i] = (
                    wx[0] * _plane_cubic(memory, xs[0], ys, wy, zs, wz)
                    + wx[1] * _plane_cubic(memory, xs[1], ys, wy, zs, wz)
                ) + (
                    wx[2] * _plane_cubic(memory, xs[2], ys, wy, zs, wz)
                    + wx[3] * _plane_cubic(memory, xs[3], ys, wy, zs, wz)
                )


@_compiled()
def resample_lanczos(radius, memory, shape, strides, matrix, first, out):
    """Fill out (planes, ny, nx), plane `first` on; see `resample.resample`."""
    m = matrix
    turns = np.empty((2, 2 * radius))
    for a in range(2 * radius):
        turns[0, a] = np.sin(np.pi * (radius - 1 - a) / radius)
        turns[1, a] = np.cos(np.pi * (radius - 1 - a) / radius)
    steps = np.empty((3, 2 * radius), np.int64)
    weights = np.empty((3, 2 * radius))
    for k in range(out.shape[0]):
        for j in range(out.shape[1]):
            for i in range(out.shape[2]):
                z = k + first
                inside = True
                for d in range(3):
                    x = m[d, 0] * i + m[d, 1] * j + m[d, 2] * z + m[d, 3]
                    if not _axis_lanczos(x, shape[d], turns, steps[d], weights[d]):
                        inside = False
                        break
                    for a in range(2 * radius):
                        steps[d, a] *= strides[d]
                if not inside:
                    out[k, j, i] = np.nan
                    continue
                value = 0.0
                for a in range(2 * radius):
                    for b in range(2 * radius):
                        wab = weights[0, a] * weights[1, b]
                        if wab == 0.0:
                            continue
                        ab = steps[0, a] + steps[1, b]
                        line = 0.0
                        for c in range(2 * radius):
                            line += weights[2, c] * memory[ab + steps[2, c]]
                        value += wab * line
                out[k, j, i] = value


@_compiled()
def resample_label(memory, shape, strides, matrix, first, out):
    """Fill out (planes, ny, nx), plane `first` on; see `resample.resample`."""
    m = matrix
    labels = np.empty(8)
    shares = np.empty(8)
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
                found = 0
                for corner in range(8):
                    a, b, c = corner & 1, corner & 2, corner & 4
                    share = fx if a else 1.0 - fx
                    share *= fy if b else 1.0 - fy
                    share *= fz if c else 1.0 - fz
                    if share == 0.0:
                        continue
                    label = memory[
                        (x1 if a else x0) * strides[0]
                        + (y1 if b else y0) * strides[1]
                        + (z1 if c else z0) * strides[2]
                    ]
                    n = 0
                    while n < found and labels[n] != label:
                        n += 1
                    if n == found:
                        labels[n] = label
                        shares[n] = 0.0
                        found += 1
                    shares[n] += share
                best = 0
                for n in range(1, found):
                    more = shares[n] - shares[best]
                    # Ties go to the smaller label, whatever the rounding.
                    if more > 1e-6 or (more > -1e-6 and labels[n] < labels[best]):
                        best = n
                missing = False
                for n in range(found):
                    missing |= labels[n] != labels[n]
                if not missing:
                    out[k, j, i] = labels[best]
