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
from npsi_twin.projectors.lanes import LANES, load, load_across, load_line, store, store_across, store_line
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
        return
    # Slices apart in memory come over in squares of LANES places, but for the ends of the line and of the period.
    squares = slices == LANES and line.strides[0] == line.itemsize
    for first in range(0, places, LANES):
        begin, end = wrapped(start + first, length), min(first + LANES, places)
        if squares and first + LANES <= places and begin + LANES <= length:
            load_across(line, first, buffer, begin * PAIR + part, PAIR)
            for i in range(LANES):
                o = (begin + i) * PAIR + part
                store(buffer, o, load(buffer, o) * (scale[first + i] * factor))
        else:
            for z in range(slices):
                for i in range(first, end):
                    buffer[wrapped(start + i, length) * PAIR + part + z] = line[i, z] * (scale[i] * factor)


@njit(cache=True, nogil=True)
def give(line: Any, scale: FloatArray, factor: Any, buffer: FloatArray, part: int, start: int, length: int) -> None:
    """Write to a line what `take` would take from it; the buffer is spoilt."""
    places, slices = line.shape
    if slices == LANES and line.strides[1] == line.itemsize:
        for i in range(places):
            store_line(line, i, load(buffer, wrapped(start + i, length) * PAIR + part) * (scale[i] * factor))
        return
    squares = slices == LANES and line.strides[0] == line.itemsize
    for first in range(0, places, LANES):
        begin, end = wrapped(start + first, length), min(first + LANES, places)
        if squares and first + LANES <= places and begin + LANES <= length:
            for i in range(LANES):
                o = (begin + i) * PAIR + part
                store(buffer, o, load(buffer, o) * (scale[first + i] * factor))
            store_across(line, first, buffer, begin * PAIR + part, PAIR)
        else:
            for z in range(slices):
                for i in range(first, end):
                    line[i, z] = buffer[wrapped(start + i, length) * PAIR + part + z] * (scale[i] * factor)


@njit(cache=True, nogil=True)
def give_more(
    line: Any, scale: FloatArray, factor: Any, buffer: FloatArray, part: int, start: int, length: int
) -> None:
    """Add to a line what `give` would write to it."""
    # One number at a time in every layout: a vector's product and sum are fused where a number's are not.
    places, slices = line.shape
    for i in range(places):
        o = wrapped(start + i, length) * PAIR + part
        for z in range(slices):
            line[i, z] += buffer[o + z] * (scale[i] * factor)


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
