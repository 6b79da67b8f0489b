"""Lines of complex numbers of sixteen slices: filled, emptied, and two real ones told apart in one.

Takes and gives flat float32 arrays in the layout of `npsi_twin.projectors.lane_fft`. Two real lines ride as the real
and imaginary part of one transform: with Z the transform of a + i b, theirs are

    A_k = (Z_k + conj Z_-k) / 2,     B_k = (Z_k - conj Z_-k) / (2 i).

Nothing checks bounds; the passes of `npsi_twin.projectors.fourier_kernels` answer for them.
"""

from typing import Any

import numpy as np
from numba import njit

from npsi_twin.projectors.lane_fft import PAIR
from npsi_twin.projectors.lanes import LANES, load, load_line, store, store_line
from npsi_twin.volumes import FloatArray

_ONE = np.float32(1)


@njit(cache=True, nogil=True, inline="always")
def clear(buffer: FloatArray, length: int) -> None:
    """Set the first ``length`` complex numbers to 0."""
    for i in range(length * PAIR):
        buffer[i] = 0


@njit(cache=True, nogil=True, inline="always")
def wrapped(place: int, length: int) -> int:
    """Return a place in a period of a length, from at most one period off; a division costs more than a transform."""
    if place < 0:
        return place + length
    return place if place < length else place - length


@njit(cache=True, nogil=True)
def take(line: Any, scale: FloatArray, factor: Any, buffer: FloatArray, part: int, start: int, length: int) -> None:
    """Put a line (place, slice), scaled, into the real or imaginary part of a period, its first place at ``start``."""
    places, slices = line.shape
    if slices == LANES and line.strides[1] == line.itemsize:
        for i in range(places):
            store(buffer, wrapped(start + i, length) * PAIR + part, load_line(line, i) * (scale[i] * factor))
    else:
        for z in range(slices):
            for i in range(places):
                o = wrapped(start + i, length) * PAIR + part
                buffer[o + z] = line[i, z] * (scale[i] * factor)


@njit(cache=True, nogil=True)
def give(line: Any, scale: FloatArray, factor: Any, buffer: FloatArray, part: int, start: int, length: int) -> None:
    """Write to a line what `take` would take from it."""
    places, slices = line.shape
    if slices == LANES and line.strides[1] == line.itemsize:
        for i in range(places):
            store_line(line, i, load(buffer, wrapped(start + i, length) * PAIR + part) * (scale[i] * factor))
    else:
        for z in range(slices):
            for i in range(places):
                o = wrapped(start + i, length) * PAIR + part
                line[i, z] = buffer[o + z] * (scale[i] * factor)


@njit(cache=True, nogil=True, inline="always")
def parted(buffer: FloatArray, length: int, k: int) -> tuple[Any, Any, Any, Any]:
    """Return twice the spectra at k of the two real lines that were transformed as one complex line."""
    o, mirrored = k * PAIR, (length - k if k else 0) * PAIR
    zr, zi = load(buffer, o), load(buffer, o + LANES)
    yr, yi = load(buffer, mirrored), load(buffer, mirrored + LANES)
    return zr + yr, zi - yi, zi + yi, yr - zr


@njit(cache=True, nogil=True, inline="always")
def join(buffer: FloatArray, length: int, k: int, ar: Any, ai: Any, br: Any, bi: Any) -> None:
    """Set k and -k of the complex line whose real and imaginary parts have the given spectra at k, 0 < k < length/2."""
    o, mirrored = k * PAIR, (length - k) * PAIR
    store(buffer, o, ar - bi)
    store(buffer, o + LANES, ai + br)
    store(buffer, mirrored, ar + bi)
    store(buffer, mirrored + LANES, br - ai)


@njit(cache=True, nogil=True, inline="always")
def copy(source: FloatArray, o: int, target: FloatArray, place: int) -> None:
    """Copy one complex number."""
    store(target, place, load(source, o))
    store(target, place + LANES, load(source, o + LANES))


@njit(cache=True, nogil=True, inline="always")
def copy_conjugate(source: FloatArray, o: int, target: FloatArray, place: int) -> None:
    """Copy the conjugate of one complex number."""
    store(target, place, load(source, o))
    store(target, place + LANES, load(source, o + LANES) * -_ONE)


@njit(cache=True, nogil=True, inline="always")
def add(source: FloatArray, o: int, target: FloatArray, place: int, sign: Any) -> None:
    """Add one complex number, or its conjugate where ``sign`` is -1."""
    store(target, place, load(target, place) + load(source, o))
    store(target, place + LANES, load(target, place + LANES) + load(source, o + LANES) * sign)
