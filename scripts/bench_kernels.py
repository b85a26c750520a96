"""Nanoseconds of each kernel, beside what the machine allows; see `bench`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numba import njit

from mireg import _kernels as kernels
from mireg import _parameters as parameters
from mireg._engine.levels import Level, levels_at, pyramid
from mireg._engine.pair import Pair
from mireg._engine.residuals import local_residuals
from mireg._engine.search import (
    even_rotations,
    nearest_neighbour_entropies,
    nearest_neighbour_level,
    starting_poses,
)
from mireg._engine.similarity import joint_histogram, score_gradient
from mireg._image import flat_volume
from mireg._prepare import PreparedImage, downsample, prepare
from mireg._settings import Settings
from mireg.phantom import PhantomPair, phantom_pair

Array = np.ndarray[Any, Any]
#: Of one part: what was measured, and for each column a number.
Rows = dict[str, dict[str, float]]

DRAM_BYTES = 2**28
PLANES = 16


@njit(cache=True, nogil=True, fastmath={"reassoc", "nsz"})
def stream(memory):  # type: ignore[no-untyped-def]
    """Read memory from one end to the other."""
    total = np.float32(0)
    for a in range(memory.shape[0]):
        total += memory[a]
    return total


@njit(cache=True, nogil=True, fastmath={"reassoc", "nsz"})
def gather(memory, first, x, y, z):  # type: ignore[no-untyped-def]
    """Read eight neighbours at many places; x, y, z are the steps to the next."""
    total = np.float32(0)
    x, y, z = np.uint64(x), np.uint64(y), np.uint64(z)
    for a in range(first.shape[0]):
        b = np.uint64(first[a])
        c = b + x
        total += memory[b] + memory[b + y] + memory[b + z] + memory[b + y + z]
        total += memory[c] + memory[c + y] + memory[c + z] + memory[c + y + z]
    return total


@njit(cache=True, nogil=True)
def pick(memory, first):  # type: ignore[no-untyped-def]
    """Read one voxel at many places."""
    total = np.uint64(0)
    for a in range(first.shape[0]):
        total += np.uint64(memory[np.uint64(first[a])])
    return total


@njit(cache=True, nogil=True)
def pick_two(memory, first):  # type: ignore[no-untyped-def]
    """Read a voxel of 16 bits and the next one at many places."""
    total = np.uint64(0)
    for a in range(first.shape[0]):
        b = np.uint64(first[a])
        after = np.uint32(memory[b + np.uint64(1)])
        total += np.uint32(memory[b]) | after << np.uint32(16)
    return total


@njit(cache=True, nogil=True)
def increment(table, first):  # type: ignore[no-untyped-def]
    """Add one to a bin of a table at many places."""
    for a in range(first.shape[0]):
        table[np.uint64(first[a])] += 1


@njit(cache=True, nogil=True)
def increment_four(table, first):  # type: ignore[no-untyped-def]
    """Add one to four bins in a row of a table at many places."""
    for a in range(first.shape[0]):
        b = np.uint64(first[a])
        table[b] += 1
        table[b + np.uint64(1)] += 1
        table[b + np.uint64(2)] += 1
        table[b + np.uint64(3)] += 1


class Clock:
    """Nanoseconds of calls on one core, each the best of as many as fit."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.rows: Rows = {}

    def __call__(self, call: Callable[[], object], n: int) -> float:
        """Time a call, by what each of its n samples takes."""
        call()  # compiles
        best, end = math.inf, time.perf_counter() + self.seconds
        while best == math.inf or time.perf_counter() < end:
            start = time.thread_time_ns()
            call()
            best = min(best, time.thread_time_ns() - start)
        return max(best, 1) / n

    def add(
        self,
        name: str,
        call: Callable[[], object],
        n: int,
        n_bytes: float = 0,
        bound: float = 0,
    ) -> None:
        """Add a row: a call, and its bound, to which that of reading is added."""
        ns = self(call, n)
        if n_bytes:
            memory = np.ones(max(1, int(n * n_bytes / 4)), np.float32)
            bound += self(lambda: stream(memory), n)
        self.rows[name] = {"ns": ns, "bound ns": bound, "% of bound": 100 * bound / ns}

    def add_read(self, name: str, memory: Array) -> None:
        """Add a row: memory from one end to the other."""
        ns = self(lambda: stream(memory), memory.size)
        self.rows[name] = {"ns": ns, "GB/s": memory.itemsize / ns}


def places(volume: tuple[Array, Array, Array], ijk: Array) -> Array:
    """Where voxels (3, n), or the nearest with a next one, are in flat memory."""
    _, shape, strides = volume
    low = np.clip(ijk.astype(np.int64), 0, np.maximum(shape - 2, 0)[:, None])
    return (strides @ low).astype(np.uint32)


def finest_level(pair: PhantomPair) -> tuple[Level, Array, PreparedImage]:
    """Bring a pair to its finest level as `register` does; its true pose; one image."""
    fixed, moving = prepare(pair.fixed), prepare(pair.moving)
    both = Pair.of(fixed, moving, channels=["original"])
    truth = both.engine_pose(pair.moving_from_fixed.matrix)
    return levels_at(both, pyramid(both).finest, Settings())["original"], truth, moving


def kernel_rows(pair: PhantomPair, seconds: float) -> Rows:
    """Time each kernel on one pair, on one core."""
    clock = Clock(seconds)
    rng = np.random.default_rng(0)
    at, truth, moving = finest_level(pair)
    n, bins = at.points.shape[1], at.n_bins
    matrix = at.ijk_from_points(truth)
    memory, shape, strides = volume = flat_volume(at.interpolated_values)
    first = places(volume, matrix[:, :3] @ at.points + matrix[:, 3:])
    anywhere = places(volume, rng.random((3, n)) * shape[:, None])
    readings, table = np.zeros((8, n), np.float32), np.zeros((bins, bins))
    joint_histogram(at, truth, 1, readings)
    row_and_column = (at.sampled_bin * bins + readings[0].clip(1) - 1).astype(np.uint32)
    clock.add_read("read of the volume", memory)
    eight = clock(lambda: gather(memory, first, *strides), n)
    # As the kernel does: two neighbours at once.
    steps = np.array([0, strides[1], strides[0], strides[0] + strides[1]], np.uint32)
    pairs = (first[:, None] + steps).ravel()
    four_pairs = clock(lambda: pick_two(at.interpolated[0], pairs), n)
    four = clock(lambda: increment_four(table.ravel(), row_and_column), n)
    clock.rows |= {
        "gather of 8, as sampled": {"ns": eight},
        "gather of 8, at random": {
            "ns": clock(lambda: gather(memory, anywhere, *strides), n)
        },
        "gather of 4 pairs, as sampled": {"ns": four_pairs},
        "increment of 4 bins, as sampled": {"ns": four},
    }
    slopes = rng.standard_normal((bins, bins))
    clock.add(
        "joint_histogram",
        lambda: joint_histogram(at, truth, 1, readings),
        n,
        53,
        four_pairs + four,
    )
    clock.add("score_gradient", lambda: score_gradient(at, readings, slopes, 1), n, 33)

    used = -(-n // max(1, n // parameters.RESIDUAL_SAMPLES))
    clock.add(
        "shifted_information, all shifts of a sample",
        lambda: local_residuals(at, truth, moving.foreground, 1),
        used,
        2 * 1000,
    )

    # As in the first round of the search, and as in its last.
    for few_bins, samples in ((8, 200), (16, 3000)):
        few = nearest_neighbour_level([at], few_bins, samples)
        poses = starting_poses(
            even_rotations(256), at.origin, truth[:3] @ [*at.origin, 1]
        )
        matrices = few.ijk_from_points(poses)
        ijk = matrices[:, :, :3] @ few.points + matrices[:, :, 3:]
        voxels = places(few.interpolated, np.moveaxis(ijk, 1, 0).reshape(3, -1))
        bin_of = few.interpolated[0][voxels].astype(np.uint32)
        counts = np.zeros(few_bins * (few_bins + 1), np.int32)
        rows = rng.integers(0, few_bins, len(bin_of), np.uint32)
        rows *= np.uint32(few_bins + 1)
        bound = clock(lambda m=few.interpolated[0], v=voxels: pick(m, v), len(voxels))
        bound += clock(lambda c=counts, b=rows + bin_of: increment(c, b), len(voxels))
        clock.add(
            f"nearest_neighbour_entropies, {samples} samples",
            lambda f=few, p=poses: nearest_neighbour_entropies(f, p, 1),
            len(voxels),
            bound=bound,
        )

    time_volumes(pair, moving, clock)
    return clock.rows


def time_volumes(pair: PhantomPair, moving: PreparedImage, clock: Clock) -> None:
    """Time the kernels that go through a volume."""
    image, scale, n = moving.image, moving.scale, moving.image.data.size
    limits = scale.low, scale.high
    clock.add("downsample", lambda: downsample(image, (2, 2, 2), limits), n, 5)
    clock.add("normalise", lambda: scale.apply(image.data), n, 12)

    nx, ny, nz = pair.fixed.shape
    ijk_from_ijk = (
        np.linalg.inv(image.mm_from_ijk)
        @ pair.moving_from_fixed.matrix
        @ pair.fixed.mm_from_ijk
    )
    # The planes in the middle are enough.
    middle = max(0, (nz - PLANES) // 2)
    out = np.empty((min(nz, PLANES), ny, nx), np.float32)
    k, j, i = np.indices(out.shape, np.float32).reshape(3, -1)
    memory, _, strides = volume = flat_volume(image.data)
    first = places(volume, ijk_from_ijk[:3] @ [i, j, k + middle, np.ones_like(i)])
    one = clock(lambda: pick(memory, first), out.size)
    eight = clock(lambda: gather(memory, first, *strides), out.size)
    for loop, gathered in (
        (kernels.resample_nearest, one),
        (kernels.resample_linear, eight),
        (kernels.resample_label, eight),
        (kernels.resample_cubic, 64 / 8 * eight),
        (partial(kernels.resample_lanczos, 3), 216 / 8 * eight),
    ):
        name = getattr(loop, "func", loop).__name__
        call = partial(loop, *volume, ijk_from_ijk, middle, out)
        clock.add(name, call, out.size, 8, gathered)


def all_kernels(sizes_mm: Sequence[float], seconds: float) -> Rows:
    """Time the kernels on heads of some voxel sizes."""
    clock = Clock(seconds)
    clock.add_read("read of 256 MB", np.ones(DRAM_BYTES // 4, np.float32))
    rows = clock.rows
    for size in sizes_mm:
        pair = phantom_pair(fixed_voxel_size_mm=size, moving_voxel_size_mm=size)
        for name, row in kernel_rows(pair, seconds).items():
            rows[f"{name}, {size:g} mm"] = row
    return rows
