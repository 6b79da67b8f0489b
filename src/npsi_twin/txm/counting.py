"""Counting statistics: mean intensities -> camera counts, every random number a function of where it is used.

Takes mean intensities of some frames (frame, row, column), the pixels' properties and a key for every row -> gives
uint16 counts. The model of a pixel is `npsi_twin.txm.recording`'s; here it becomes numbers:

    photons ~ Poisson(m),    electrons ~ Poisson(g r photons + D) + zinger,
    counts = round(K min(electrons, full well) + offset + sigma z),    clipped to the camera's range,

with Poisson draws by summing the distribution at means below 10, by Hörmann's transformed rejection (PTRS) up to 256,
both exact, and above by Giles' expansion of the quantile round the normal one, whose probabilities are right to 1e-6 of
the distribution; z is the quantile of the normal distribution. The generator is Philox 4x32-10, a function of a
counter: the words of a pixel are those of (column, frame, draw) under the key of its row. So counts depend neither on
the order of the work nor on threads, and frame 7 of row 3 is the same in every slab. Words have 32 bits: z ends at 6.2,
and no mean up to 10 draws what has a probability below 2e-10.

References
----------
J. K. Salmon et al., SC11 (2011), doi:10.1145/2063384.2063405 (Philox and its known answers).
W. Hörmann, Insurance: Mathematics and Economics 12 (1993) 39-45, doi:10.1016/0167-6687(93)90997-4 (PTRS).
M. B. Giles, ACM Trans. Math. Softw. 42 (2016) 7, doi:10.1145/2699466 (Poisson's quantile), and GPU Computing Gems Jade
Edition (2012) chapter 10, doi:10.1016/B978-0-12-385963-1.00010-1 (inverse error function).
"""

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from npsi_twin.volumes import FloatArray

Counts = NDArray[np.uint16]
Word = np.uint64

_LOW = np.uint64(0xFFFFFFFF)
_HALF_WORD = np.uint64(32)
_MULTIPLY_0, _MULTIPLY_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_STEP_0, _STEP_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_UNIT = 2.0**-32
#: Mean from which transformed rejection is valid, and mean from which the quantile's expansion is.
_PTRS_FROM, _MANY = 10.0, 256.0
#: Products and sums may be fused, and quotients by a number turned into products.
_FUSED = {"contract", "arcp"}
_TINY = 1e-300  # keeps what is thrown away from dividing by zero
#: Draws of a pixel that have their own counters: photons, electrons, noise; what follows a rejection comes after them.
_DRAWS = np.uint64(3)


class Levels(NamedTuple):
    """What turns photons into counts, the same for all pixels.

    Attributes
    ----------
    photons
        Mean absorbed photons in a pixel at relative intensity 1.
    full_well_electrons
        Largest charge of a pixel.
    units_per_electron
        Gain.
    offset_units
        Black level.
    noise_units
        Standard deviation of what is added before rounding.
    full_scale_units
        Largest count.
    """

    photons: float
    full_well_electrons: float
    units_per_electron: float
    offset_units: float
    noise_units: float
    full_scale_units: float


class Pixels(NamedTuple):
    """What pixels do with photons, each array (row, column).

    Attributes
    ----------
    yields
        Mean electrons of an absorbed photon when the first frame is taken.
    yields_change
        What the yield has changed by, relatively, when time is 1.
    dark_electrons
        Mean dark charge of an exposure.
    """

    yields: FloatArray
    yields_change: FloatArray
    dark_electrons: FloatArray


class Light(NamedTuple):
    """How frames are lit, relative to the centre of the open beam at the start.

    Attributes
    ----------
    smooth
        What does not move, (row, column).
    stray
        What is added whatever the sample does, (row, column).
    structure
        Relative fine structure on pixels with a margin all round, (row + 2 margin, column + 2 margin); of no size where
        there is none.
    margin
        Its margin in pixels.
    intensity
        Of every frame, (frame,).
    shift_px
        Where the structure lies in every frame, (frame, 2): rows, columns; the margin is larger.
    time
        From 0, the first view, to 1, the last one, for pixels that drift, (frame,).
    """

    smooth: FloatArray
    stray: FloatArray
    structure: FloatArray
    margin: int
    intensity: NDArray[np.float64]
    shift_px: NDArray[np.float64]
    time: NDArray[np.float64]


class Zingers(NamedTuple):
    """Charges that come from nowhere, in the order of (row, frame, column).

    Attributes
    ----------
    first
        Index of the first one of every row, and the number of all, (rows + 1,).
    place
        frame * columns + column, rising within a row, (zingers,).
    electrons
        Charge, (zingers,).
    """

    first: NDArray[np.int64]
    place: NDArray[np.int64]
    electrons: NDArray[np.float64]


@njit(cache=True, nogil=True, inline="always")
def philox(c0: Word, c1: Word, c2: Word, c3: Word, k0: Word, k1: Word) -> tuple[Word, Word, Word, Word]:
    """Return the four 32-bit words of Philox 4x32-10 for a counter and a key, as uint64 (all arguments uint64)."""
    for _ in range(10):
        p0, p1 = _MULTIPLY_0 * c0, _MULTIPLY_1 * c2
        c0, c1 = (p1 >> _HALF_WORD) ^ c1 ^ k0, p1 & _LOW
        c2, c3 = (p0 >> _HALF_WORD) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + _STEP_0) & _LOW, (k1 + _STEP_1) & _LOW
    return c0, c1, c2, c3


@njit(cache=True, nogil=True, inline="always")
def _unit(word: Word) -> float:
    """Return a 32-bit word as a number inside (0, 1), never at its ends."""
    return (np.float64(np.int64(word)) + 0.5) * _UNIT


@njit(cache=True, nogil=True, error_model="numpy")
def _draw_words(count: int, frame: Word, draw: Word, k0: Word, k1: Word, units: NDArray[np.float64]) -> None:
    """Fill units, (4, at least count), with the uniform numbers of the counters (0 ... count - 1, frame, draw)."""
    for c in range(count):
        w0, w1, w2, w3 = philox(np.uint64(c), frame, draw, np.uint64(0), k0, k1)
        units[0, c], units[1, c], units[2, c], units[3, c] = _unit(w0), _unit(w1), _unit(w2), _unit(w3)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _log(x: float) -> float:
    """Return ln x of a positive, normal number to 1e-11, without call or branch, so that loops of it become SIMD."""
    bits = np.float64(x).view(np.int64)
    exponent = (bits >> 52) - 1023
    mantissa = np.int64((bits & 0xFFFFFFFFFFFFF) | 0x3FF0000000000000).view(np.float64)
    high = mantissa > 1.4142135623730951
    mantissa = mantissa * 0.5 if high else mantissa
    exponent = exponent + 1 if high else exponent
    t = (mantissa - 1) / (mantissa + 1)
    q = t * t
    series = 1 + q * (1 / 3 + q * (1 / 5 + q * (1 / 7 + q * (1 / 9 + q * (1 / 11 + q / 13)))))
    return exponent * 0.6931471805599453 + 2 * t * series


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def normal_quantile(u: float) -> float:
    """Return z with P(Z < z) = u to 1e-6 of it, 5e-4 beyond |z| = 5.2 (Giles' erfinv), without a branch."""
    w = -_log(4 * u * (1 - u))
    near, far = w - 2.5, math.sqrt(w) - 3
    p = 2.81022636e-08
    p = 3.43273939e-07 + p * near
    p = -3.5233877e-06 + p * near
    p = -4.39150654e-06 + p * near
    p = 0.00021858087 + p * near
    p = -0.00125372503 + p * near
    p = -0.00417768164 + p * near
    p = 0.246640727 + p * near
    p = 1.50140941 + p * near
    r = -0.000200214257
    r = 0.000100950558 + r * far
    r = 0.00134934322 + r * far
    r = -0.00367342844 + r * far
    r = 0.00573950773 + r * far
    r = -0.0076224613 + r * far
    r = 0.00943887047 + r * far
    r = 1.00167406 + r * far
    r = 2.83297682 + r * far
    return 1.4142135623730951 * (2 * u - 1) * (p if w < 5 else r)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _quantile_of_many(mean: float, z: float) -> float:
    """Return Poisson's quantile at the normal quantile z by Giles' expansion, off by less than 1e-3 before rounding."""
    root = math.sqrt(mean)
    inverse, square = 1 / root, z * z
    x = mean + root * z + (1 / 3 + square / 6) - inverse * z * (1 / 36 + square / 72)
    return math.floor(x + inverse * inverse * (-8 / 405 + square * (7 / 810 + square / 270)))


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _candidate(mean: float, u: float) -> float:
    """Return what PTRS proposes for a uniform number."""
    b = 0.931 + 2.53 * math.sqrt(mean)
    return math.floor((2 * (-0.059 + 0.02483 * b) / (0.5 - abs(u - 0.5)) + b) * (u - 0.5) + mean + 0.43)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _surely(mean: float, u: float, v: float) -> bool:
    """Say whether PTRS takes its proposal without a closer look."""
    return 0.5 - abs(u - 0.5) >= 0.07 and v <= 0.9277 - 3.6224 / (2.53 * math.sqrt(mean) - 1.069)


@njit(cache=True, nogil=True, error_model="numpy")
def _taken(mean: float, u: float, v: float) -> bool:
    """Say whether PTRS takes its proposal k, by the exact probability of k (Stirling's series for ln k!)."""
    k, us = _candidate(mean, u), 0.5 - abs(u - 0.5)
    if k < 0 or (us < 0.013 and v > us):
        return False
    b = 0.931 + 2.53 * math.sqrt(mean)
    hat = v * (1.1239 + 1.1328 / (b - 3.4)) / ((-0.059 + 0.02483 * b) / (us * us) + b)
    if k == 0:
        return math.log(hat) <= -mean
    # ln of Poisson's probability of k, with the root of 2 pi k taken to the other side.
    right = _log_ratio(k, mean) - 1 / (12 * k) + 1 / (360 * k * k * k)
    left = hat * math.sqrt(2 * math.pi * k)
    if left - 1 <= right:  # ln x <= x - 1 and ln x >= 1 - 1 / x spare most of the logarithms
        return True
    return 1 - 1 / left <= right and math.log(left) <= right


@njit(cache=True, nogil=True, error_model="numpy")
def _log_ratio(k: float, mean: float) -> float:
    """Return k ln(mean / k) + k - mean, by its series where the two are close (next term below 1e-12 k)."""
    e = (mean - k) / k
    if abs(e) > 0.1:
        return k * math.log(mean / k) + (k - mean)
    tail = 1 / 7 - e * (1 / 8 - e * (1 / 9 - e * (1 / 10 - e / 11)))
    return -k * e * e * (1 / 2 - e * (1 / 3 - e * (1 / 4 - e * (1 / 5 - e * (1 / 6 - e * tail)))))


@njit(cache=True, nogil=True, error_model="numpy")
def _poisson_again(mean: float, column: Word, frame: Word, draw: Word, k0: Word, k1: Word) -> float:
    """Draw from Poisson by PTRS with fresh words until a proposal is taken."""
    while True:
        draw += _DRAWS
        w0, w1, w2, w3 = philox(column, frame, draw, np.uint64(0), k0, k1)
        if _taken(mean, _unit(w0), _unit(w1)):
            return _candidate(mean, _unit(w0))
        if _taken(mean, _unit(w2), _unit(w3)):
            return _candidate(mean, _unit(w2))


@njit(cache=True, nogil=True, error_model="numpy")
def _poisson_small(mean: float, u: float) -> float:
    """Draw from Poisson by summing the distribution; means up to 10."""
    k, probability = 0.0, math.exp(-mean)
    while u > probability and k < 100.0:
        u -= probability
        k += 1.0
        probability *= mean / k
    return k


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FUSED)
def _draw_poisson(
    means: NDArray[np.float64],
    u: NDArray[np.float64],
    v: NDArray[np.float64],
    frame: Word,
    draw: Word,
    k0: Word,
    k1: Word,
    drawn: NDArray[np.float64],
) -> None:
    """Draw from Poisson for every mean: large ones in a plain loop (SIMD), the others one by one."""
    for c in range(means.size):
        many = _quantile_of_many(means[c] + _TINY, normal_quantile(u[c]))
        drawn[c] = many if means[c] >= _MANY else -1.0
    for c in range(means.size):
        if drawn[c] < 0:
            if means[c] < _PTRS_FROM:
                drawn[c] = _poisson_small(means[c], u[c])
            elif _surely(means[c], u[c], v[c]) or _taken(means[c], u[c], v[c]):
                drawn[c] = _candidate(means[c], u[c])
            else:
                drawn[c] = _poisson_again(means[c], np.uint64(c), frame, draw, k0, k1)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FUSED)
def add_structure(structure: FloatArray, row: float, column: float, lit: NDArray[np.float64]) -> None:
    """Multiply by 1 + structure, linearly between its samples; its own column ``column`` lies on the first one."""
    r, first = math.floor(row), math.floor(column)
    down, right = row - r, column - first
    for c in range(lit.size):
        above = structure[r, first + c] + right * (structure[r, first + c + 1] - structure[r, first + c])
        below = structure[r + 1, first + c] + right * (structure[r + 1, first + c + 1] - structure[r + 1, first + c])
        lit[c] *= 1 + above + down * (below - above)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FUSED)
def _count_row(
    frame: int,
    i: int,
    seen: FloatArray,
    light: Light,
    pixels: Pixels,
    levels: Levels,
    zingers: Zingers,
    keys: NDArray[np.uint64],
    scratch: NDArray[np.float64],
    out: Counts,
) -> None:
    """Count one row of one frame; scratch is (6, columns)."""
    columns = out.shape[2]
    k0, k1, word = keys[i, 0], keys[i, 1], np.uint64(frame)
    means, drawn, units = scratch[0], scratch[1], scratch[2:6]
    open_beam = light.intensity[frame] * levels.photons
    means[:] = 1.0
    if light.structure.size > 0:
        at_row, at_column = light.margin - light.shift_px[frame, 0], light.margin - light.shift_px[frame, 1]
        add_structure(light.structure, i + at_row, at_column, means)
    for c in range(columns):
        means[c] = open_beam * (seen[frame, i, c] * (light.smooth[i, c] * means[c]) + light.stray[i, c])
    _draw_words(columns, word, np.uint64(0), k0, k1, units)
    _draw_poisson(means, units[0], units[1], word, np.uint64(0), k0, k1, drawn)
    for c in range(columns):
        yields = pixels.yields[i, c] * (1 + light.time[frame] * pixels.yields_change[i, c])
        means[c] = drawn[c] * yields + pixels.dark_electrons[i, c]
    _draw_poisson(means, units[2], units[3], word, np.uint64(1), k0, k1, drawn)
    if zingers.place.size > 0:
        row_places = zingers.place[zingers.first[i] : zingers.first[i + 1]]
        at = zingers.first[i] + np.searchsorted(row_places, frame * columns)
        while at < zingers.first[i + 1] and zingers.place[at] < (frame + 1) * columns:
            drawn[zingers.place[at] - frame * columns] += zingers.electrons[at]
            at += 1
    # One counter gives the noise of four columns, a quarter of the row apart.
    quarter = (columns + 3) // 4
    _draw_words(quarter, word, np.uint64(2), k0, k1, units)
    for part in range(4):
        for c in range(part * quarter, min((part + 1) * quarter, columns)):
            level = levels.units_per_electron * min(drawn[c], levels.full_well_electrons) + levels.offset_units
            level += levels.noise_units * normal_quantile(units[part, c - part * quarter])
            level = math.floor(level + 0.5)
            out[frame, i, c] = np.uint16(np.int64(min(max(level, 0.0), levels.full_scale_units)))


@njit(cache=True, nogil=True)
def _count_frames(
    first: int,
    step: int,
    seen: FloatArray,
    light: Light,
    pixels: Pixels,
    levels: Levels,
    zingers: Zingers,
    keys: NDArray[np.uint64],
    out: Counts,
) -> None:
    scratch = np.empty((6, out.shape[2]))
    for frame in range(first, out.shape[0], step):
        for i in range(out.shape[1]):
            _count_row(frame, i, seen, light, pixels, levels, zingers, keys, scratch, out)


def count(
    seen: FloatArray,
    light: Light,
    pixels: Pixels,
    levels: Levels,
    zingers: Zingers,
    keys: NDArray[np.uint64],
    *,
    threads: int,
) -> Counts:
    """Expose frames.

    Parameters
    ----------
    seen
        What the sample leaves of the light, (frame, row, column); axes of length 1 in memory may be broadcast.
    light, pixels, levels, zingers
        See there.
    keys
        Two 32-bit words a row, (row, 2).
    threads
        Threads to use; they change no bit.

    Returns
    -------
    Counts
        uint16 (frame, row, column).
    """
    counts = np.empty(seen.shape, np.uint16)
    work: Any = _count_frames
    if threads == 1 or len(seen) == 1:
        work(0, 1, seen, light, pixels, levels, zingers, keys, counts)
        return counts
    with ThreadPoolExecutor(threads) as pool:
        for done in [
            pool.submit(work, start, threads, seen, light, pixels, levels, zingers, keys, counts)
            for start in range(threads)
        ]:
            done.result()
    return counts
