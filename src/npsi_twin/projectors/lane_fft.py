"""The discrete Fourier transform of sixteen slices at once, slice axis last.

Takes a flat float32 array of ``length`` complex numbers of `LANES` slices each, real parts before imaginary parts, and
gives its transform in the same layout; `FourierPlan` holds what one length needs.

The model is the sum  X_k = sum over n of x_n exp(-2 pi i n k / length)  by Stockham's self-sorting steps with factors
4, 2, 3, 5 and 7. Giving the places of real and imaginary parts the other way round makes it the inverse transform,
times the length. General libraries gather every line into registers and scatter it again; with the slices last there is
nothing to gather, and one step is a stream of whole registers within the second-level cache.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from npsi_twin.projectors.lanes import LANES, load, store
from npsi_twin.volumes import FloatArray

#: Numbers that one complex value of all slices takes.
PAIR = 2 * LANES

_HALF_ROOT_3 = np.float32(np.sqrt(3) / 2)
_HALF = np.float32(0.5)
_COS_1, _COS_2 = (np.float32(np.cos(2 * np.pi * k / 5)) for k in (1, 2))
_SIN_1, _SIN_2 = (np.float32(np.sin(2 * np.pi * k / 5)) for k in (1, 2))
_COS_7, _SIN_7 = (turn(2 * np.pi * np.arange(7) / 7).astype(np.float32) for turn in (np.cos, np.sin))


class FourierPlan(NamedTuple):
    """What the transform of one length needs; a tuple, which numba knows.

    Attributes
    ----------
    length
        Complex numbers; 2, 3, 5 and 7 are its only prime factors.
    radices
        Factors in the order of the steps.
    twiddles
        For each step of radix r on what is left, n, the factors exp(-2 pi i j p / n) for p < n / r and 0 < j < r, as
        (real, imaginary) pairs, p slowest.
    """

    length: int
    radices: NDArray[np.int64]
    twiddles: FloatArray


def plan_for(length: int) -> FourierPlan:
    """Return the plan for a length from `smooth_length`, or for seven times one."""
    radices, left = [], length
    for radix in (4, 2, 3, 5, 7):
        while left % radix == 0:
            radices.append(radix)
            left //= radix
    twiddles, left = [np.empty((0, 2))], length
    for radix in radices:
        turns = np.outer(np.arange(left // radix), np.arange(1, radix)).ravel() / left
        twiddles.append(np.stack([np.cos(2 * np.pi * turns), -np.sin(2 * np.pi * turns)], axis=1))
        left //= radix
    return FourierPlan(length, np.array(radices, np.int64), np.concatenate(twiddles).astype(np.float32).ravel())


def smooth_length(least: int, multiple_of: int = 1) -> int:
    """Return the smallest multiple at or above ``least`` whose prime factors are 2, 3 and 5.

    Examples
    --------
    >>> smooth_length(731), smooth_length(731, multiple_of=4)
    (750, 768)
    """
    length = -(-least // multiple_of) * multiple_of
    while True:
        left = length
        for prime in (2, 3, 5):
            while left % prime == 0:
                left //= prime
        if left == 1:
            return length
        length += multiple_of


@njit(cache=True, nogil=True, inline="always")
def _put(
    target: FloatArray, place: int, re: int, im: int, real: Any, imaginary: Any, twiddles: FloatArray, t: int
) -> None:
    """Store a complex value times a twiddle."""
    c, s = twiddles[t], twiddles[t + 1]
    store(target, place + re, real * c - imaginary * s)
    store(target, place + im, real * s + imaginary * c)


@njit(cache=True, nogil=True)
def _step_2(
    source: FloatArray, target: FloatArray, m: int, s: int, re: int, im: int, twiddles: FloatArray, t: int
) -> None:
    for p in range(m):
        for q in range(s):
            o = (q + s * p) * PAIR
            ar, ai = load(source, o + re), load(source, o + im)
            o += s * m * PAIR
            br, bi = load(source, o + re), load(source, o + im)
            place = (q + 2 * s * p) * PAIR
            store(target, place + re, ar + br)
            store(target, place + im, ai + bi)
            _put(target, place + s * PAIR, re, im, ar - br, ai - bi, twiddles, t + 2 * p)


@njit(cache=True, nogil=True)
def _step_3(
    source: FloatArray, target: FloatArray, m: int, s: int, re: int, im: int, twiddles: FloatArray, t: int
) -> None:
    far = s * m * PAIR
    for p in range(m):
        for q in range(s):
            o = (q + s * p) * PAIR
            ar, ai = load(source, o + re), load(source, o + im)
            br, bi = load(source, o + far + re), load(source, o + far + im)
            cr, ci = load(source, o + 2 * far + re), load(source, o + 2 * far + im)
            sr, si = br + cr, bi + ci
            dr, di = (br - cr) * _HALF_ROOT_3, (bi - ci) * _HALF_ROOT_3
            hr, hi = ar - sr * _HALF, ai - si * _HALF
            place = (q + 3 * s * p) * PAIR
            store(target, place + re, ar + sr)
            store(target, place + im, ai + si)
            _put(target, place + s * PAIR, re, im, hr + di, hi - dr, twiddles, t + 4 * p)
            _put(target, place + 2 * s * PAIR, re, im, hr - di, hi + dr, twiddles, t + 4 * p + 2)


@njit(cache=True, nogil=True)
def _step_4(
    source: FloatArray, target: FloatArray, m: int, s: int, re: int, im: int, twiddles: FloatArray, t: int
) -> None:
    far = s * m * PAIR
    for p in range(m):
        for q in range(s):
            o = (q + s * p) * PAIR
            ar, ai = load(source, o + re), load(source, o + im)
            br, bi = load(source, o + far + re), load(source, o + far + im)
            cr, ci = load(source, o + 2 * far + re), load(source, o + 2 * far + im)
            dr, di = load(source, o + 3 * far + re), load(source, o + 3 * far + im)
            er, ei, fr, fi = ar + cr, ai + ci, ar - cr, ai - ci
            gr, gi, hr, hi = br + dr, bi + di, br - dr, bi - di
            place = (q + 4 * s * p) * PAIR
            store(target, place + re, er + gr)
            store(target, place + im, ei + gi)
            _put(target, place + s * PAIR, re, im, fr + hi, fi - hr, twiddles, t + 6 * p)
            _put(target, place + 2 * s * PAIR, re, im, er - gr, ei - gi, twiddles, t + 6 * p + 2)
            _put(target, place + 3 * s * PAIR, re, im, fr - hi, fi + hr, twiddles, t + 6 * p + 4)


@njit(cache=True, nogil=True)
def _step_5(
    source: FloatArray, target: FloatArray, m: int, s: int, re: int, im: int, twiddles: FloatArray, t: int
) -> None:
    far = s * m * PAIR
    for p in range(m):
        for q in range(s):
            o = (q + s * p) * PAIR
            ar, ai = load(source, o + re), load(source, o + im)
            br, bi = load(source, o + far + re), load(source, o + far + im)
            cr, ci = load(source, o + 2 * far + re), load(source, o + 2 * far + im)
            dr, di = load(source, o + 3 * far + re), load(source, o + 3 * far + im)
            er, ei = load(source, o + 4 * far + re), load(source, o + 4 * far + im)
            # Sums and differences of the values that mirror one another about the first.
            pr, pi, qr, qi = br + er, bi + ei, cr + dr, ci + di
            ur, ui, vr, vi = br - er, bi - ei, cr - dr, ci - di
            xr, xi = ar + pr * _COS_1 + qr * _COS_2, ai + pi * _COS_1 + qi * _COS_2
            yr, yi = ar + pr * _COS_2 + qr * _COS_1, ai + pi * _COS_2 + qi * _COS_1
            kr, ki = ur * _SIN_1 + vr * _SIN_2, ui * _SIN_1 + vi * _SIN_2
            lr, li = ur * _SIN_2 - vr * _SIN_1, ui * _SIN_2 - vi * _SIN_1
            place = (q + 5 * s * p) * PAIR
            store(target, place + re, ar + pr + qr)
            store(target, place + im, ai + pi + qi)
            _put(target, place + s * PAIR, re, im, xr + ki, xi - kr, twiddles, t + 8 * p)
            _put(target, place + 2 * s * PAIR, re, im, yr + li, yi - lr, twiddles, t + 8 * p + 2)
            _put(target, place + 3 * s * PAIR, re, im, yr - li, yi + lr, twiddles, t + 8 * p + 4)
            _put(target, place + 4 * s * PAIR, re, im, xr - ki, xi + kr, twiddles, t + 8 * p + 6)


@njit(cache=True, nogil=True)
def _step_7(
    source: FloatArray, target: FloatArray, m: int, s: int, re: int, im: int, twiddles: FloatArray, t: int
) -> None:
    far = s * m * PAIR
    for p in range(m):
        for q in range(s):
            o, place = (q + s * p) * PAIR, (q + 7 * s * p) * PAIR
            ar, ai = load(source, o + re), load(source, o + im)
            br, bi = load(source, o + far + re), load(source, o + far + im)
            cr, ci = load(source, o + 2 * far + re), load(source, o + 2 * far + im)
            dr, di = load(source, o + 3 * far + re), load(source, o + 3 * far + im)
            er, ei = load(source, o + 4 * far + re), load(source, o + 4 * far + im)
            fr, fi = load(source, o + 5 * far + re), load(source, o + 5 * far + im)
            gr, gi = load(source, o + 6 * far + re), load(source, o + 6 * far + im)
            # Sums and differences of the values that mirror one another about the first.
            pr, pi, qr, qi, rr, ri = br + gr, bi + gi, cr + fr, ci + fi, dr + er, di + ei
            ur, ui, vr, vi, wr, wi = br - gr, bi - gi, cr - fr, ci - fi, dr - er, di - ei
            store(target, place + re, ar + pr + qr + rr)
            store(target, place + im, ai + pi + qi + ri)
            for k in range(1, 4):
                c1, c2, c3 = _COS_7[k], _COS_7[2 * k % 7], _COS_7[3 * k % 7]
                s1, s2, s3 = _SIN_7[k], _SIN_7[2 * k % 7], _SIN_7[3 * k % 7]
                xr, xi = ar + pr * c1 + qr * c2 + rr * c3, ai + pi * c1 + qi * c2 + ri * c3
                yr, yi = ur * s1 + vr * s2 + wr * s3, ui * s1 + vi * s2 + wi * s3
                twiddle, far_twiddle = t + 12 * p + 2 * (k - 1), t + 12 * p + 2 * (6 - k)
                _put(target, place + k * s * PAIR, re, im, xr + yi, xi - yr, twiddles, twiddle)
                _put(target, place + (7 - k) * s * PAIR, re, im, xr - yi, xi + yr, twiddles, far_twiddle)


@njit(cache=True, nogil=True)
def transform(
    source: FloatArray, target: FloatArray, plan: FourierPlan, re: int, im: int
) -> tuple[FloatArray, FloatArray]:
    """Transform ``source``, overwriting both buffers; return the one that holds the result, then the other.

    ``re`` and ``im`` are 0 and `LANES`; the other way round they make the inverse transform times the length.
    """
    left, stride, t = plan.length, 1, 0
    for radix in plan.radices:
        left //= radix
        if radix == 4:
            _step_4(source, target, left, stride, re, im, plan.twiddles, t)
        elif radix == 2:
            _step_2(source, target, left, stride, re, im, plan.twiddles, t)
        elif radix == 3:
            _step_3(source, target, left, stride, re, im, plan.twiddles, t)
        elif radix == 5:
            _step_5(source, target, left, stride, re, im, plan.twiddles, t)
        else:
            _step_7(source, target, left, stride, re, im, plan.twiddles, t)
        t += 2 * (radix - 1) * left
        stride *= radix
        source, target = target, source
    return source, target
