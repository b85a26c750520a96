"""Reference implementations of the kernels: slow, from the definitions alone."""

from __future__ import annotations

import numpy as np


def _positions(matrix, shape, data_shape):
    """Yield each output voxel that lies inside the image, and the position read."""
    for ijk in np.ndindex(*shape):
        x = matrix[:3, :3] @ ijk + matrix[:3, 3]
        if all(
            -0.5 - 1e-6 <= a <= n - 0.5 + 1e-6
            for a, n in zip(x, data_shape, strict=True)
        ):
            yield ijk, np.clip(x, 0, np.array(data_shape) - 1)


def resample_nearest(data, matrix, shape):
    """Take the voxel whose centre is closest; halfway, the one with higher index."""
    out = np.full(shape, np.nan)
    for ijk, x in _positions(matrix, shape, data.shape):
        nearest = []
        for a, n in zip(x, data.shape, strict=True):
            distance = np.abs(np.arange(n) - a)
            nearest.append(np.flatnonzero(distance <= distance.min() + 2e-6)[-1])
        out[ijk] = data[tuple(nearest)]
    return out


def resample_linear(data, matrix, shape):
    """Sum voxels with weight hat(i - x) hat(j - y) hat(k - z)."""
    out = np.full(shape, np.nan)
    for ijk, x in _positions(matrix, shape, data.shape):
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
        lines = np.moveaxis(spline, axis, 0)
        solved = np.linalg.solve(grid, lines.reshape(n, -1)).reshape(lines.shape)
        spline = np.moveaxis(solved, 0, axis)
    out = np.full(shape, np.nan)
    for ijk, x in _positions(matrix, shape, data.shape):
        weights = [basis(n, a) for a, n in zip(x, data.shape, strict=True)]
        out[ijk] = np.einsum("ijk,i,j,k", spline, *weights)
    return out


def resample_lanczos(data, matrix, shape, a=3):
    """Sum voxels with weight sinc(d) sinc(d / a), |d| < a; the outermost extend."""
    out = np.full(shape, np.nan)
    for ijk, x in _positions(matrix, shape, data.shape):
        near = np.where(np.abs(x - np.rint(x)) < 1e-6, np.rint(x), x)
        line = data.astype(float)
        for at, n in zip(near, data.shape, strict=True):
            places = np.arange(-a, n + a)
            d = places - at
            weight = np.where(np.abs(d) < a, np.sinc(d) * np.sinc(d / a), 0)
            voxels = line[np.clip(places, 0, n - 1)]
            line = np.tensordot(weight, voxels, 1) / weight.sum()
        out[ijk] = line
    return out


def resample_label(data, matrix, shape):
    """Interpolate the mask of each label linearly; take the highest, then smallest."""
    labels = np.unique(data)
    shares = [resample_linear(data == label, matrix, shape) for label in labels]
    best = np.max(shares, axis=0)
    out = labels[np.argmax(np.greater(shares, best - 1e-6), axis=0)]
    return np.where(np.isnan(best), np.nan, out)


def _neighbours(x, shape):
    """Eight voxels about a place, each with its weight; the outermost extend."""
    low = np.floor(x)
    for corner in np.ndindex(2, 2, 2):
        hats = 1 - np.abs(x - (low + corner))
        yield tuple(np.clip(low + corner, 0, np.array(shape) - 1).astype(int)), hats


def border_taper(x, n):
    """Weight of a place on an axis of n voxels.

    It grows from 0 at each end of the axis, half a voxel past the outermost centre,
    to 1 one voxel further in, as 3 d^2 - 2 d^3 of the distance d.
    """
    d = np.clip(min(x + 0.5, n - 0.5 - x), 0, 1)
    return 3 * d**2 - 2 * d**3


def joint_histogram(points, sampled_bin, volume, matrix, n_bins):
    """Sum cubic B-splines about the interpolated values at the samples."""
    histogram = np.zeros((n_bins, n_bins))
    for point, row in zip(points, sampled_bin, strict=True):
        x = matrix[:, :3] @ np.asarray(point, float) + matrix[:, 3]
        weight = np.prod(
            [border_taper(a, n) for a, n in zip(x, volume.shape, strict=True)]
        )
        if weight == 0:
            continue
        value = 0.0
        for ijk, hats in _neighbours(x, volume.shape):
            value += np.prod(hats) * float(volume[ijk])
        if np.isnan(value):
            continue
        for column in range(n_bins):
            u = abs(column - value)
            inner, outer = max(0, 1 - u) ** 3, max(0, 2 - u) ** 3
            histogram[row, column] += weight * (outer - 4 * inner) / 6
    return histogram


def _entropy(labels):
    """Entropy in nats of how often each label comes."""
    shares = [labels.count(label) / len(labels) for label in set(labels)]
    return -sum(share * np.log(share) for share in shares)


def entropies(histogram):
    """Entropies in nats of what rows, columns and cells of counts say."""
    share = histogram / histogram.sum()
    each = share.sum(axis=1), share.sum(axis=0), share.ravel()
    return [-sum(p * np.log(p) for p in those if p > 0) for those in each]


def nearest_neighbour_entropies(
    points, sampled_bin, interpolated_bin, missing, matrices, known=()
):
    """Count pairs that are known, and each sample with the voxel nearest to it."""
    answers = []
    for matrix in matrices:
        rows, columns = [row for row, _ in known], [column for _, column in known]
        for point, row in zip(points, sampled_bin, strict=True):
            x = matrix[:3, :3] @ np.asarray(point, float) + matrix[:3, 3]
            ijk = tuple(np.rint(x).astype(int))
            if min(ijk) < 0 or any(np.greater_equal(ijk, interpolated_bin.shape)):
                continue
            if not missing[ijk]:
                rows.append(int(row))
                columns.append(int(interpolated_bin[ijk]))
        pairs = list(zip(rows, columns, strict=True))
        entropies = [_entropy(labels) if rows else 0 for labels in (rows, columns)]
        joint = _entropy(pairs) if rows else 0
        answers.append([len(rows), *entropies, joint])
    return np.array(answers)


def downsample(data, factors, low=-np.inf, high=np.inf):
    """Take the mean of each block; voxels past the end hold no data."""
    missing_at_end = [-n % f for n, f in zip(data.shape, factors, strict=True)]
    whole = np.pad(
        data.astype(float), [(0, n) for n in missing_at_end], constant_values=np.nan
    )
    out = np.full(np.array(whole.shape) // factors, np.nan)
    for block in np.ndindex(*out.shape):
        corner = np.array(block) * factors
        slices = tuple(slice(a, a + f) for a, f in zip(corner, factors, strict=True))
        values = [v for v in whole[slices].ravel() if not np.isnan(v)]
        if len(values) >= np.prod(factors) / 2:
            out[block] = np.mean(np.clip(values, low, high))
    return out


def normalise(data, ends, knots):
    """Read each intensity off the straight line between the two nearest knots."""
    out = np.full(data.shape, np.nan)
    intensities = np.linspace(*ends, len(knots))
    for ijk in np.ndindex(*data.shape):
        if not np.isnan(data[ijk]):
            out[ijk] = np.interp(data[ijk], intensities, knots)
    return out


def interpolate(data, ijk):
    """Read between the eight nearest voxels; off the grid, and near NaN, NaN."""
    last = np.array(data.shape) - 1
    out = np.full(len(ijk), np.nan)
    for n, x in enumerate(ijk):
        if (x >= -0.5).all() and (x <= last + 0.5).all():
            apart = np.abs(np.indices(data.shape).T - np.clip(x, 0, last)).T
            near = (apart < 1).all(axis=0)
            out[n] = (data * np.prod(1 - apart, axis=0))[near].sum()
    return out


def neighbourhood_histogram(data, where, low, high, bins):
    """Count each voxel with the mean of its neighbours, shared by hat functions."""
    counts = np.zeros((bins, bins))
    centres = np.linspace(low, high, bins)
    width = centres[1] - centres[0]
    for ijk in np.argwhere(where & np.isfinite(data)):
        near = [
            data[tuple(other)]
            for other in np.ndindex(*data.shape)
            if np.abs(other - ijk).max() == 1 and np.isfinite(data[tuple(other)])
        ]
        if near:
            values = np.clip([np.mean(near), data[tuple(ijk)]], low, high)
            row, column = (
                np.maximum(0, 1 - np.abs(v - centres) / width) for v in values
            )
            counts += np.outer(row, column)
    return counts / counts.sum()


def shifted_information(level, pose, points, bins, reach, pointwise):
    """Add up pointwise information at every shift, one sample and one shift at a time.

    Each reads the interpolated image by hat functions, and the information of its
    intensity through cubic B-splines.
    """
    volume = level.interpolated_values
    matrix = level.ijk_from_points(pose)
    shifts = [np.arange(-r, r + 1) for r in reach]
    out = np.zeros([len(axis) for axis in shifts])
    count = 0
    for point, row in zip(points.T, bins, strict=True):
        x = matrix[:, :3] @ point + matrix[:, 3]
        here = np.zeros_like(out)
        for place in np.ndindex(*out.shape):
            at = x + [axis[n] for axis, n in zip(shifts, place, strict=True)]
            if (at < 0).any() or (at >= np.array(volume.shape) - 1).any():
                break
            hats = [
                np.maximum(0, 1 - abs(np.arange(n) - a))
                for a, n in zip(at, volume.shape, strict=True)
            ]
            weight = np.einsum("i,j,k->ijk", *hats)
            if np.isnan((weight * volume)[weight > 0]).any():
                break
            value = 1 + (level.n_bins - 3.001) * (weight * volume)[weight > 0].sum()
            away = abs(np.arange(level.n_bins) - value)
            inner, outer = 2 / 3 - away**2 + away**3 / 2, (2 - away) ** 3 / 6
            spline = np.where(away < 1, inner, np.where(away < 2, outer, 0))
            here[place] = pointwise[row] @ spline
        else:
            out += here
            count += 1
    return out, count
