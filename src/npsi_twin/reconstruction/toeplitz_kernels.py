"""The three passes of a convolution of sixteen slices by Fourier transforms; threads share out each pass's loop.

`rows_to_lines`, `convolve_lines`, `lines_to_rows`. The slices fill the first corner of a period of ``plan.length``
voxels a side; the rest is zero and is neither stored nor, along x, transformed. Cells are flat float32, (kx, y, real or
imaginary, slice), kx from 0 to length / 2, so that the middle pass runs along memory. Two rows of a slice ride as real
and imaginary part of one transform and are told apart by symmetry: slices share no arithmetic.
"""

from typing import Any

import numpy as np
from numba import njit

from npsi_twin.projectors.lane_fft import PAIR, FourierPlan, transform
from npsi_twin.projectors.lanes import LANES, load, store
from npsi_twin.volumes import FloatArray

_HALF = np.float32(0.5)


@njit(cache=True, nogil=True)
def rows_to_lines(
    start: int, stop: int, slab: Any, cells: FloatArray, plan: FourierPlan, first: FloatArray, second: FloatArray
) -> None:
    """Transform pairs of rows of slices (y, x, slice) along x."""
    height, width, slices = slab.shape
    length = plan.length
    for a in range(2 * start, min(2 * stop, height), 2):
        b = min(a + 1, height - 1)
        for i in range(length * PAIR):
            first[i] = 0
        for x in range(width):
            for z in range(slices):
                first[x * PAIR + z] = slab[a, x, z]
                first[x * PAIR + LANES + z] = slab[b, x, z]
        found, _ = transform(first, second, plan, 0, LANES)
        for k in range(length // 2 + 1):
            o, m = k * PAIR, (length - k if k else 0) * PAIR
            zr, zi = load(found, o), load(found, o + LANES)
            yr, yi = load(found, m), load(found, m + LANES)
            place = (k * height + a) * PAIR
            store(cells, place, (zr + yr) * _HALF)
            store(cells, place + LANES, (zi - yi) * _HALF)
            place = (k * height + b) * PAIR
            if b > a:
                store(cells, place, (zi + yi) * _HALF)
                store(cells, place + LANES, (yr - zr) * _HALF)


@njit(cache=True, nogil=True)
def convolve_lines(
    start: int,
    stop: int,
    height: int,
    cells: FloatArray,
    spectrum: FloatArray,
    plan: FourierPlan,
    first: FloatArray,
    second: FloatArray,
) -> None:
    """Transform lines of equal kx along y, multiply by the spectrum (kx, ky) and transform back."""
    length = plan.length
    for kx in range(start, stop):
        line = kx * height * PAIR
        for i in range(height * PAIR):
            first[i] = cells[line + i]
        for i in range(height * PAIR, length * PAIR):
            first[i] = 0
        found, free = transform(first, second, plan, 0, LANES)
        for ky in range(length):
            o = ky * PAIR
            store(found, o, load(found, o) * spectrum[kx, ky])
            store(found, o + LANES, load(found, o + LANES) * spectrum[kx, ky])
        found, _ = transform(found, free, plan, LANES, 0)
        for i in range(height * PAIR):
            cells[line + i] = found[i]


@njit(cache=True, nogil=True)
def lines_to_rows(
    start: int, stop: int, cells: FloatArray, slab: Any, plan: FourierPlan, first: FloatArray, second: FloatArray
) -> None:
    """Transform pairs of rows back along x into slices (y, x, slice)."""
    height, width, slices = slab.shape
    length = plan.length
    for a in range(2 * start, min(2 * stop, height), 2):
        b = min(a + 1, height - 1)
        for k in range(length // 2 + 1):
            o, p = (k * height + a) * PAIR, (k * height + b) * PAIR
            ar, ai, br, bi = load(cells, o), load(cells, o + LANES), load(cells, p), load(cells, p + LANES)
            place, mirrored = k * PAIR, (length - k if k else 0) * PAIR
            store(first, mirrored, ar + bi)
            store(first, mirrored + LANES, br - ai)
            # A real row's transform is real where it is its own mirror image, so that both say the same there.
            store(first, place, ar - bi)
            store(first, place + LANES, ai + br)
        found, _ = transform(first, second, plan, LANES, 0)
        for x in range(width):
            for z in range(slices):
                slab[a, x, z] = found[x * PAIR + z]
                if b > a:
                    slab[b, x, z] = found[x * PAIR + LANES + z]
